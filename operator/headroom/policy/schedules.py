"""Which recurring schedules are active now, and when the next one begins.

A tick is a moment of the schedule's own time zone. A fixed time that the clocks skip ticks when the clocks have
changed; one that comes twice ticks the first time only. A time with `*` as minute or hour ticks in real time: not at
all in an hour that is skipped, and twice in one that comes twice.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import TypeVar
from zoneinfo import ZoneInfo

from cronsim import CronSim

from headroom.api.v1alpha1.schedules import Schedule

ScheduleT = TypeVar("ScheduleT", bound=Schedule)
CHANGE_MARGIN = timedelta(hours=3)
"""So near to a change of the clocks the same local time may exist twice or not at all; clocks move by 2 h at most."""
CACHED_TICKS = 4096
"""Ticks only move once a minute, and a pool that is late makes a pass each second."""
HORIZON = timedelta(days=50 * 366)
"""A tick farther away than this is none: a day of the calendar comes back within 40 years."""
MINUTE = timedelta(minutes=1)


@dataclass(frozen=True, slots=True)
class ScheduleStart:
    """The moment (UTC) at which a schedule begins, and the same for people, in the schedule's time zone."""

    name: str
    at: datetime
    text: str


def find_active(schedules: Sequence[ScheduleT], now: datetime) -> tuple[ScheduleT, ...]:
    """The schedules whose last tick is less than their duration ago; `now` is aware."""
    return tuple(schedule for schedule in schedules if is_active(schedule, now))


def is_active(schedule: Schedule, now: datetime) -> bool:
    """True from a tick, included, until its duration has passed, excluded."""
    last = _last_tick(schedule.cron, schedule.time_zone, _minute(now))
    return last is not None and now - last < schedule.duration


def find_end(schedule: Schedule, now: datetime) -> datetime | None:
    """When an active schedule ends (UTC); None if it is not active, or if its next tick comes before its end."""
    last = _last_tick(schedule.cron, schedule.time_zone, _minute(now))
    if last is None or now - last >= schedule.duration:
        return None
    following, end = _next_tick(schedule.cron, schedule.time_zone, _minute(now)), last + schedule.duration
    return None if following is not None and following <= end else end


def find_next(schedules: Sequence[Schedule], now: datetime) -> ScheduleStart | None:
    """The next start of a schedule that is not active now; None if there is none."""
    starts = [
        (tick, schedule)
        for schedule in schedules
        if not is_active(schedule, now)
        and (tick := _next_tick(schedule.cron, schedule.time_zone, _minute(now))) is not None
    ]
    if not starts:
        return None
    at, schedule = min(starts, key=lambda start: start[0])
    return ScheduleStart(schedule.name, at, describe_moment(at, schedule.time_zone))


def describe_moment(at: datetime, time_zone: str) -> str:
    """A moment as the clocks of a time zone show it."""
    return f"{at.astimezone(ZoneInfo(time_zone)):%a %Y-%m-%d %H:%M} {time_zone}"


def _minute(now: datetime) -> datetime:
    return now.astimezone(UTC).replace(second=0, microsecond=0)


@lru_cache(maxsize=CACHED_TICKS)
def _last_tick(cron: str, time_zone: str, minute: datetime) -> datetime | None:
    """The last tick that is not after a minute (UTC)."""
    zone = ZoneInfo(time_zone)
    start = _clock(minute + _margin(minute, zone), zone)
    last: datetime | None = None
    for time in _iterate_times(cron, start + MINUTE, reverse=True):
        moments = _find_moments(cron, time, zone)
        last = max((at for at in (last, *moments) if at is not None and at <= minute), default=None)
        # The later moment of an earlier time is earlier: no other tick comes between.
        if moments and moments[-1] <= minute:
            break
    return last


@lru_cache(maxsize=CACHED_TICKS)
def _next_tick(cron: str, time_zone: str, minute: datetime) -> datetime | None:
    """The first tick after a minute (UTC)."""
    zone = ZoneInfo(time_zone)
    start = _clock(minute - _margin(minute, zone), zone)
    following: datetime | None = None
    for time in _iterate_times(cron, start, reverse=False):
        moments = _find_moments(cron, time, zone)
        following = min((at for at in (following, *moments) if at is not None and at > minute), default=None)
        if moments and moments[0] > minute:
            break
    return following


def _iterate_times(cron: str, start: datetime, *, reverse: bool) -> Iterator[datetime]:
    """The times of a cron expression as its clocks show them, without a zone; after `start`, or before it.

    A walk in a zone may go round in circles where its clocks change; here every step leads on.
    """
    for time in CronSim(cron, start, reverse=reverse):
        if abs(time - start) > HORIZON:
            return
        yield time


def _find_moments(cron: str, time: datetime, zone: ZoneInfo) -> tuple[datetime, ...]:
    """The moments (UTC, ordered) at which a time of the clocks is a tick."""
    first, second = (time.replace(tzinfo=zone, fold=fold).astimezone(UTC) for fold in (0, 1))
    is_skipped = _clock(first, zone) != time
    minute, hour, *_ = cron.split()
    if minute.startswith("*") or hour.startswith("*"):
        return () if is_skipped else tuple(sorted({first, second}))
    while is_skipped:
        time += MINUTE
        first = time.replace(tzinfo=zone).astimezone(UTC)
        is_skipped = _clock(first, zone) != time
    return (first,)


def _clock(at: datetime, zone: ZoneInfo) -> datetime:
    """What the clocks of a zone show at a moment."""
    return at.astimezone(zone).replace(tzinfo=None, fold=0)


def _margin(minute: datetime, zone: ZoneInfo) -> timedelta:
    """How far from a minute to start: around a change a later moment may have an earlier time."""
    before, after = ((minute + step).astimezone(zone).utcoffset() for step in (-CHANGE_MARGIN, CHANGE_MARGIN))
    return timedelta(0) if before == after else CHANGE_MARGIN
