"""Numbers as people read them: counts with their noun, two significant digits, and when a change is worth a write."""

import math
from collections.abc import Mapping
from typing import Any

SMALLEST_MOVE = 0.10
SIGNIFICANT_DIGITS = 2


def count_of(number: int, one: str, many: str = "") -> str:
    """`1 worker`, `3,000 jobs`, `2 replicas serve`; `many` is `one` with an s unless given."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def describe_seconds(seconds: float) -> str:
    """`178 s`, `95 min`, `26.5 h`: a time as one reads it; minutes from ten on, hours from three on."""
    if seconds < 10 * 60:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 3 * 3600 else f"{seconds / 3600:.1f} h"


def describe_bytes(size: float) -> str:
    """`640 MiB`, `1.2 GiB`, `35 TiB`: a size as one reads it; from a GiB on with one decimal below ten."""
    value, unit = size / 1024**2, "MiB"
    for larger in ("GiB", "TiB"):
        if value < 1024:
            break
        value, unit = value / 1024, larger
    return f"{value:.1f} {unit}" if value < 10 and unit != "MiB" else f"{value:.0f} {unit}"


def round_number(value: float) -> float:
    """Two significant digits: enough for a person, and a status does not change all the time."""
    if value == 0 or not math.isfinite(value):
        return 0.0
    digits = SIGNIFICANT_DIGITS - 1 - math.floor(math.log10(abs(value)))
    return round(value, digits)


def round_tree(value: Any) -> Any:
    """Every float of a tree of dicts and lists with two significant digits; absent (None) entries are left out."""
    if isinstance(value, Mapping):
        return {key: round_tree(inner) for key, inner in value.items() if inner is not None}
    if isinstance(value, list):
        return [round_tree(inner) for inner in value]
    return round_number(value) if isinstance(value, float) else value


def has_moved(old: Any, new: Any) -> bool:
    """True when two status numbers, or trees of them, differ by more than a tenth anywhere."""
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        return old.keys() != new.keys() or any(has_moved(old[key], new[key]) for key in new)
    if isinstance(old, list) and isinstance(new, list):
        return len(old) != len(new) or any(has_moved(*pair) for pair in zip(old, new, strict=True))
    if isinstance(old, int | float) and isinstance(new, int | float):
        return abs(new - old) > SMALLEST_MOVE * max(abs(old), abs(new))
    return bool(old != new)


def settle(old: float | None, new: float | None, floor: float) -> float | None:
    """The old number unless the new one differs by more than `floor` and by more than a tenth."""
    if old is None or new is None:
        return new
    return new if abs(new - old) > max(floor, SMALLEST_MOVE * max(abs(old), abs(new))) else old


def settle_above(old: float | None, new: float | None, floor: float) -> float | None:
    """As `settle`, for a number that counts as 0 below `floor`; one at rest has to pass it by more than a tenth."""
    if new is None:
        return None
    shown = new if new >= floor else 0.0
    if old is None or not shown:
        return shown
    return shown if has_moved(max(old, floor), shown) else old
