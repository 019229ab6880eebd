"""Counts in words."""


def count_of(number: int, one: str, many: str = "") -> str:
    """`1 worker`, `3,000 jobs`, `2 replicas serve`; `many` is `one` with an s unless given."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"
