"""When a schedule holds: from its tick until its duration has passed, in its own time zone."""

import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo, available_timezones

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from headroom.api.v1alpha1.schedules import Schedule
from headroom.policy.schedules import find_active, find_end, find_next, is_active


def schedule(**changes: str) -> Schedule:
    return Schedule.model_validate({"name": "sale", "cron": "0 16 * * FRI", "duration": "6h", **changes})


FRIDAY = datetime(2026, 1, 2, 16, tzinfo=UTC)


@pytest.mark.parametrize(
    ("after", "holds"),
    [
        (timedelta(microseconds=-1), False),
        (timedelta(0), True),
        (timedelta(hours=6, microseconds=-1), True),
        (timedelta(hours=6), False),
        (timedelta(days=1), False),
        (timedelta(days=7), True),
    ],
)
def test_it_holds_from_its_tick_for_its_duration(after: timedelta, holds: bool) -> None:
    assert is_active(schedule(), FRIDAY + after) is holds


def test_hours_are_those_of_its_time_zone_summer_and_winter() -> None:
    london = schedule(timeZone="Europe/London", duration="1h")
    assert is_active(london, datetime(2026, 1, 2, 16, 30, tzinfo=UTC))
    assert is_active(london, datetime(2026, 7, 3, 15, 30, tzinfo=UTC))
    assert not is_active(london, datetime(2026, 7, 3, 16, 30, tzinfo=UTC))


def test_spans_longer_than_their_period_never_end() -> None:
    always = schedule(cron="*/5 * * * *", duration="10m")
    assert all(is_active(always, FRIDAY + timedelta(seconds=17 * step)) for step in range(60))


def test_only_those_that_hold_are_found() -> None:
    other = schedule(name="night", cron="0 2 * * *", duration="1h")
    assert [found.name for found in find_active((schedule(), other), FRIDAY)] == ["sale"]


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


CHANGES = [
    # (zone, cron, moments in UTC at which a span of 2 h begins)
    ("Europe/London", "30 1 * * *", ("2026-03-28 01:30", "2026-03-29 01:00", "2026-03-30 00:30")),
    ("Europe/London", "30 1 * * *", ("2026-10-24 00:30", "2026-10-25 00:30", "2026-10-26 01:30")),
    ("Europe/London", "0 2 * * *", ("2026-10-24 01:00", "2026-10-25 02:00", "2026-10-26 02:00")),
    ("America/New_York", "30 2 * * *", ("2026-03-07 07:30", "2026-03-08 07:00", "2026-03-09 06:30")),
    ("America/New_York", "30 1 * * *", ("2026-10-31 05:30", "2026-11-01 05:30", "2026-11-02 06:30")),
    ("America/New_York", "0 16 * * *", ("2026-03-07 21:00", "2026-03-08 20:00", "2026-03-09 20:00")),
    ("Australia/Lord_Howe", "15 2 * * *", ("2026-10-02 15:45", "2026-10-03 15:30", "2026-10-04 15:15")),
    ("Australia/Lord_Howe", "45 1 * * *", ("2026-04-03 14:45", "2026-04-04 14:45", "2026-04-05 15:15")),
    ("Europe/London", "30 23 * * *", ("2026-03-27 23:30", "2026-03-28 23:30", "2026-03-29 22:30")),
]
"""Days on which the clocks change. A time that is skipped begins with the change; one that comes twice begins once."""


@pytest.mark.parametrize(("zone", "cron", "starts"), CHANGES)
def test_spans_begin_and_end_once_where_the_clocks_change(zone: str, cron: str, starts: tuple[str, ...]) -> None:
    span = schedule(cron=cron, timeZone=zone, duration="2h")
    ticks = [at(start) for start in starts]
    moment = ticks[0]
    while moment < ticks[-1] + timedelta(hours=2):
        last = max(tick for tick in ticks if tick <= moment)
        assert is_active(span, moment) is (moment - last < timedelta(hours=2)), moment
        if moment < ticks[-1] and not is_active(span, moment):
            found = find_next([span], moment)
            assert found is not None
            assert found.at == min(tick for tick in ticks if tick > moment), moment
        moment += timedelta(minutes=5)


def test_the_end_and_the_next_start_are_told() -> None:
    london = schedule(timeZone="Europe/London", cron="0 22 * * SAT", duration="6h")
    found = find_next([schedule(name="other", cron="0 0 1 1 *"), london], at("2026-03-28 12:00"))
    assert found is not None
    assert (found.name, found.at) == ("sale", at("2026-03-28 22:00"))
    assert found.text == "Sat 2026-03-28 22:00 Europe/London"
    over_midnight = at("2026-03-29 03:59")
    assert is_active(london, over_midnight), "six hours of real time, over midnight and the change"
    assert find_end(london, over_midnight) == at("2026-03-29 04:00")
    assert not is_active(london, at("2026-03-29 04:00"))
    assert find_end(london, at("2026-03-29 04:00")) is None
    found = find_next([london], at("2026-03-29 04:00"))
    assert found is not None
    assert found.at == at("2026-04-04 21:00")


def test_a_span_that_goes_on_has_no_end_and_no_next_start() -> None:
    always = schedule(cron="*/5 * * * *", duration="10m")
    assert find_end(always, FRIDAY) is None
    assert find_next([always], FRIDAY) is None
    assert find_next([], FRIDAY) is None


@given(
    minutes=st.integers(0, 366 * 24 * 60),
    zone=st.sampled_from(["Europe/London", "America/New_York", "Australia/Lord_Howe", "Etc/UTC"]),
    hour=st.integers(0, 23),
    minute=st.sampled_from([0, 1, 15, 30, 45]),
)
def test_a_span_is_active_once_a_day_for_its_duration(minutes: int, zone: str, hour: int, minute: int) -> None:
    daily = schedule(cron=f"{minute} {hour} * * *", timeZone=zone, duration="1h")
    now = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(minutes=minutes)
    found = find_next([daily], now)
    if found is None:
        end = find_end(daily, now)
        assert end is not None
        assert now < end <= now + timedelta(hours=1)
        found = find_next([daily], end)
        assert found is not None
    assert timedelta(0) < found.at - now <= timedelta(hours=26)
    assert is_active(daily, found.at)
    assert not is_active(daily, found.at - timedelta(minutes=1))
    local = found.at.astimezone(ZoneInfo(zone))
    assert (local.hour, local.minute) == (hour, minute) or local.utcoffset() != (
        found.at - timedelta(hours=1)
    ).astimezone(ZoneInfo(zone)).utcoffset()


MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
REAL_TIMES: dict[str, Callable[[datetime], bool]] = {
    "*/20 2 * * *": lambda time: time.hour == 2 and time.minute % 20 == 0,
    "15 */2 * * *": lambda time: time.hour % 2 == 0 and time.minute == 15,
    "* 0 * * *": lambda time: time.hour == 0,
    "*/25 * * * *": lambda time: time.minute % 25 == 0,
}
FIXED_TIMES: dict[str, Callable[[datetime], bool]] = {
    "30 2 * * *": lambda time: (time.hour, time.minute) == (2, 30),
    "0,50 0,1,3 * * *": lambda time: time.hour in (0, 1, 3) and time.minute in (0, 50),
}


def _offset(time: datetime) -> timedelta:
    offset = time.utcoffset()
    assert offset is not None
    return offset


def find_changes() -> list[tuple[str, datetime]]:
    """A zone for each way in which clocks change in 2026, and the minute (UTC) in which they do."""
    known: dict[tuple[object, ...], tuple[str, datetime]] = {}
    for name in sorted(available_timezones()):
        zone = ZoneInfo(name)
        for day in (at("2026-01-01 00:00") + DAY * number for number in range(365)):
            if day.astimezone(zone).utcoffset() == (day + DAY).astimezone(zone).utcoffset():
                continue
            low, high = day, day + DAY
            while high - low > MINUTE:
                middle = low + (high - low) // 2 // MINUTE * MINUTE
                is_before = middle.astimezone(zone).utcoffset() == day.astimezone(zone).utcoffset()
                low, high = (middle, high) if is_before else (low, middle)
            before, after = low.astimezone(zone), high.astimezone(zone)
            known.setdefault((before.time(), _offset(after) - _offset(before)), (name, high))
    return list(known.values())


CHANGED = find_changes()


def find_ticks(cron: str, zone: ZoneInfo, begin: datetime, end: datetime) -> Iterator[datetime]:
    """Minute by minute: what the clocks show is a tick, or what they have come to or passed for the first time."""
    highest = begin.astimezone(zone).replace(tzinfo=None) - MINUTE
    for number in range(int((end - begin) / MINUTE)):
        moment = begin + MINUTE * number
        time = moment.astimezone(zone).replace(tzinfo=None, fold=0)
        passed = [highest + MINUTE * (step + 1) for step in range(int((time - highest) / MINUTE))]
        highest = max(time, highest)
        if cron in REAL_TIMES and REAL_TIMES[cron](time):
            yield moment
        if cron in FIXED_TIMES and any(FIXED_TIMES[cron](skipped) for skipped in passed):
            yield moment


def test_clocks_change_by_half_an_hour_two_hours_and_at_odd_times() -> None:
    shifts = {
        abs(_offset(moment.astimezone(zone)) - _offset((moment - MINUTE).astimezone(zone)))
        for zone, moment in ((ZoneInfo(name), moment) for name, moment in CHANGED)
    }
    assert shifts >= {HOUR / 2, HOUR, 2 * HOUR}
    assert any(moment.astimezone(ZoneInfo(name)).minute == 45 for name, moment in CHANGED)


@pytest.mark.parametrize(("name", "moment"), CHANGED)
def test_every_zone_ticks_as_its_clocks_show_where_they_change(name: str, moment: datetime) -> None:
    for cron in (*REAL_TIMES, *FIXED_TIMES):
        ticks = list(find_ticks(cron, ZoneInfo(name), moment - 32 * HOUR, moment + 32 * HOUR))
        span = schedule(cron=cron, timeZone=name, duration="1m")
        for now in (moment + timedelta(minutes=13 * step) for step in range(-18, 19)):
            last = max(tick for tick in ticks if tick <= now)
            assert is_active(span.model_copy(update={"duration": now - last + MINUTE}), now), (cron, now, last)
            assert not is_active(span.model_copy(update={"duration": now - last}), now), (cron, now, last)
            found = find_next([span], now)
            if now != last:
                assert found is not None
                assert found.at == min(tick for tick in ticks if tick > now), (cron, now)


@pytest.mark.parametrize("cron", ["*/15 1 * 3 7L", "*/5 1 29 2 *"])
def test_a_time_that_hardly_ever_exists_is_looked_for_within_bounds(cron: str) -> None:
    """The first one is always within the hour that London skips."""
    rare = schedule(cron=cron, timeZone="Europe/London", duration="1h")
    found = find_next([rare], at("2026-05-01 00:00"))
    assert (found is None) is ("3 7L" in cron)
    assert not is_active(rare, at("2026-05-01 00:00"))


REFUSED = [
    ("0 16 * *", "write five cron fields"),
    ("60 16 * * *", "write a minute from 0 to 59 (the first field)"),
    ("0 25 * * FRI", "write an hour from 0 to 23 (the second field)"),
    ("0 16 32 * *", "write a day from 1 to 31"),
    ("0 16 * 13 *", "write a month from 1 to 12"),
    ("0 16 * * 8", "write a day of the week from 0 to 7"),
    ("0 16 * * 5-1", "write a day of the week from 0 to 7"),
    ("0 16 * * 5-1", "a range goes from the lower value to the higher one"),
    ("0 16 31 2 *", "no such time ever comes"),
    ("0 16 31 FEB,4 *", "no such time ever comes"),
    ("0 16 30,31 2 *", "no such time ever comes"),
    ("0 16 31 6-6 *", "no such time ever comes"),
]


@pytest.mark.parametrize(("cron", "says"), REFUSED)
def test_a_refused_cron_names_the_field_and_its_range(cron: str, says: str) -> None:
    with pytest.raises(ValidationError, match=re.escape(says)):
        schedule(cron=cron)


@pytest.mark.parametrize("cron", ["0 16 29 2 *", "0 16 31 2 FRI", "0 16 31 1-2 *", "0 16 31 3,4 *", "0 16 30 4 *"])
def test_a_date_that_comes_at_times_is_accepted(cron: str) -> None:
    schedule(cron=cron)


@pytest.mark.parametrize(("cron", "says"), [(cron, says) for cron, says in REFUSED if "-" not in cron])
def test_the_server_says_the_same_of_a_cron(cron: str, says: str) -> None:
    """The regular expressions of the rules, by the machine of Python: these use nothing in which RE2 differs."""
    rules = Schedule.model_json_schema()["properties"]["cron"]["x-kubernetes-validations"]
    assert says in next(entry["message"] for entry in rules if not holds(entry["rule"], cron))


def holds(rule: str, text: str) -> bool:
    """Whether a rule of `[!]self.matches('...')`, joined by `||`, is true of a text."""
    parts = re.findall(r"(!?)self\.matches\('(.*?)'\)(?= \|\| |$)", rule)
    assert parts
    return any(bool(re.search(regex, text)) is not bool(negation) for negation, regex in parts)
