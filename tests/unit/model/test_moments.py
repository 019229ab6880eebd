"""Times as Kubernetes takes them, also those that nobody would write."""

from datetime import UTC, datetime, timedelta

import pytest

from headroom.model.moments import format_moment, format_time, keep_time, parse_moment

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


def test_a_year_has_four_digits() -> None:
    first = datetime(1, 1, 1, tzinfo=UTC)
    assert format_time(first) == "0001-01-01T00:00:00Z"
    assert format_moment(first) == "0001-01-01T00:00:00.000000Z"
    assert parse_moment(format_time(first)) == first


@pytest.mark.parametrize(
    "text", ["2026-06-30T23:59:60Z", "0000-01-01T00:00:00Z", "2026-01-01T00:00:00", "2026-01-01t00:00:00z", "soon", ""]
)
def test_a_time_that_we_would_not_write_is_none_and_is_not_kept(text: str) -> None:
    assert parse_moment(text) is None
    assert keep_time(NOON, text) == format_time(NOON)


def test_a_time_is_kept_while_it_means_the_same_second() -> None:
    before = format_time(NOON - timedelta(seconds=1))
    assert keep_time(NOON, before) == before
    assert keep_time(NOON, format_time(NOON - timedelta(seconds=3))) == format_time(NOON)
