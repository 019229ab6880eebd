"""Durations, sizes and quantities between text and value, as Kubernetes writes them."""

import re
from datetime import timedelta
from decimal import Decimal
from functools import lru_cache

DURATION_PATTERN = "^([0-9]+(ms|s|m|h))+$"
DURATION_MAX_LENGTH = 16
QUANTITY_PATTERN = (
    r"^(\+|-)?(([0-9]+(\.[0-9]*)?)|(\.[0-9]+))(([KMGTPE]i)|[numkMGTPE]|([eE](\+|-)?(([0-9]+(\.[0-9]*)?)|(\.[0-9]+))))?$"
)
AMOUNT_PATTERN = QUANTITY_PATTERN.replace(r"^(\+|-)?", "^", 1)
QUANTITY_MAX_LENGTH = 20
DECIMAL_PATTERN = r"^[0-9]{1,15}(\.[0-9]{1,9})?$"
DECIMAL_MAX_LENGTH = 25
CACHED = 1024
"""Texts whose parsed value is kept: every pass over every object parses the same few."""

_DURATION_UNITS = {
    "ms": timedelta(milliseconds=1),
    "s": timedelta(seconds=1),
    "m": timedelta(minutes=1),
    "h": timedelta(hours=1),
}
_BINARY = {f"{prefix}i": Decimal(1024) ** power for power, prefix in enumerate("KMGTPE", start=1)}
_METRIC = {prefix: Decimal(1000) ** power for power, prefix in enumerate("kMGTPE", start=1)}
_SMALL = {"n": Decimal("1e-9"), "u": Decimal("1e-6"), "m": Decimal("1e-3")}
_SUFFIXES = {"": Decimal(1), **_BINARY, **_METRIC, **_SMALL}


@lru_cache(maxsize=CACHED)
def parse_duration(text: str) -> timedelta:
    """Read `1h30m`, `500ms`; raises ValueError for anything else."""
    if len(text) > DURATION_MAX_LENGTH or not re.fullmatch(DURATION_PATTERN, text):
        raise ValueError(f"not a duration: {text!r}")
    parts = re.findall(r"([0-9]+)(ms|s|m|h)", text)
    try:
        return sum((int(count) * _DURATION_UNITS[unit] for count, unit in parts), timedelta())
    except OverflowError as error:
        raise ValueError(f"a duration too long to count: {text!r}") from error


def format_duration(value: timedelta) -> str:
    """Write a duration as the shortest text in one or more units; zero is `0s`, and parts of a millisecond are cut."""
    left = value // _DURATION_UNITS["ms"]
    text = ""
    for unit, milliseconds in (("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)):
        count, left = divmod(left, milliseconds)
        text += f"{count}{unit}" if count else ""
    return text or "0s"


@lru_cache(maxsize=CACHED)
def parse_quantity(text: str) -> Decimal:
    """Read a Kubernetes quantity (`20Gi`, `500m`, `1e3`); raises ValueError for anything else."""
    if len(text) > QUANTITY_MAX_LENGTH or not re.fullmatch(QUANTITY_PATTERN, text):
        raise ValueError(f"not a quantity: {text!r}")
    match = re.fullmatch(r"([+-]?[0-9.]+(?:[eE][+-]?[0-9]{1,3})?)([A-Za-z]*)", text)
    if match is None:
        raise ValueError(f"not a quantity: {text!r}")
    return Decimal(match[1]) * _SUFFIXES[match[2]]


def format_bytes(value: int) -> str:
    """Write bytes as the largest binary unit that divides them (`20Gi`), else as a plain number."""
    for suffix, factor in reversed(_BINARY.items()):
        if value and value % int(factor) == 0:
            return f"{value // int(factor)}{suffix}"
    return str(value)
