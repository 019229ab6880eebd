"""Which recurring schedules are active now."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import TypeVar
from zoneinfo import ZoneInfo

from cronsim import CronSim

from headroom.api.v1alpha1.schedules import Schedule

ScheduleT = TypeVar("ScheduleT", bound=Schedule)


def find_active(schedules: Sequence[ScheduleT], now: datetime) -> tuple[ScheduleT, ...]:
    """The schedules whose last tick is less than their duration ago; `now` is aware."""
    return tuple(schedule for schedule in schedules if is_active(schedule, now))


def is_active(schedule: Schedule, now: datetime) -> bool:
    """True from a tick, included, until its duration has passed, excluded."""
    local = now.astimezone(ZoneInfo(schedule.time_zone)).replace(microsecond=0)
    last = next(CronSim(schedule.cron, local + timedelta(seconds=1), reverse=True), None)
    return last is not None and now - last < schedule.duration
