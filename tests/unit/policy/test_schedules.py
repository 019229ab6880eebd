"""When a schedule holds: from its tick until its duration has passed, in its own time zone."""

from datetime import UTC, datetime, timedelta

import pytest

from headroom.api.v1alpha1.schedules import Schedule
from headroom.policy.schedules import find_active, is_active


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
