"""A load profile: a line through points of (seconds, value)."""

import json
from collections.abc import Sequence
from itertools import pairwise

Points = Sequence[tuple[float, float]]


def parse_profile(text: str) -> Points:
    """Read `[[seconds, value], ...]`; raises ValueError unless the seconds grow."""
    points = [(float(at), float(value)) for at, value in json.loads(text)]
    if not points or any(later[0] <= earlier[0] for earlier, later in pairwise(points)):
        raise ValueError(f"a profile needs points with growing seconds, not {text}")
    return points


def value_at(points: Points, seconds: float) -> float:
    """The line's value; before the first and after the last point it is flat."""
    if seconds <= points[0][0]:
        return points[0][1]
    for (left, low), (right, high) in pairwise(points):
        if seconds <= right:
            return low + (high - low) * (seconds - left) / (right - left)
    return points[-1][1]
