"""When a schedule holds: from its tick until its duration has passed, in its own time zone."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

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
