"""Counts in words."""


def count_of(number: int, one: str, many: str) -> str:
    """`1 replica serves`, `2 replicas serve`: the number with the words that agree with it."""
    return f"{number} {one if number == 1 else many}"
