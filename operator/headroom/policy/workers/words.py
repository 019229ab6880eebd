"""Counts in words."""


def count_of(number: int, noun: str) -> str:
    """A count with its noun, whose plural ends in s: `1 worker`, `2 workers`, `3,000 jobs`."""
    return f"{number:,} {noun if number == 1 else noun + 's'}"
