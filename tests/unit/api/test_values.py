"""Durations, sizes and quantities: what is read is what was written, and nonsense is refused."""

from datetime import timedelta
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headroom.api.quantities import format_bytes, format_duration, parse_duration, parse_quantity

YEARS = timedelta(hours=99_999)


@pytest.mark.parametrize(
    ("text", "want"),
    [
        ("500ms", timedelta(milliseconds=500)),
        ("0s", timedelta(0)),
        ("1h30m", timedelta(minutes=90)),
        ("90m", timedelta(minutes=90)),
        ("1m1ms", timedelta(minutes=1, milliseconds=1)),
    ],
)
def test_a_duration_is_read(text: str, want: timedelta) -> None:
    assert parse_duration(text) == want


@pytest.mark.parametrize(
    "text", ["", "5", "5 m", "1.5s", "-1s", "1d", "s", "1s ", "1000000000000000h", "99999999999999h"]
)
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="duration"):
        parse_duration(text)


@given(st.timedeltas(min_value=timedelta(0), max_value=YEARS))
def test_a_written_duration_is_read_as_it_was_to_the_millisecond(value: timedelta) -> None:
    text = format_duration(value)
    if len(text) <= 16:
        assert parse_duration(text) == value - value % timedelta(milliseconds=1)


@pytest.mark.parametrize(
    ("text", "want"),
    [
        ("20Gi", 20 * 2**30),
        ("1k", 1000),
        ("500m", Decimal("0.5")),
        ("1e3", 1000),
        ("1.5Gi", 3 * 2**29),
        (".5", Decimal("0.5")),
    ],
)
def test_a_quantity_is_read_as_kubernetes_reads_it(text: str, want: Decimal) -> None:
    assert parse_quantity(text) == want


@pytest.mark.parametrize(
    "text", ["", "Gi", "20 Gi", "20GB", "1_000", "NaN", "inf", "1" * 30, "1e1.5", "1e999999999", "1.2.3"]
)
def test_what_is_no_quantity_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="quantity"):
        parse_quantity(text)


@given(st.integers(min_value=0, max_value=2**60))
def test_written_bytes_are_read_as_they_were(value: int) -> None:
    assert parse_quantity(format_bytes(value)) == value


def test_bytes_are_written_in_the_largest_unit_that_divides_them() -> None:
    assert [format_bytes(value) for value in (0, 1000, 2**20, 3 * 2**29)] == ["0", "1000", "1Mi", "1536Mi"]
