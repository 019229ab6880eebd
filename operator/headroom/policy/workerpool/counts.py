"""Arrivals as counts over pieces of time: rates, chance, and straight lines through them."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import median

from headroom.policy.workerpool.constants import (
    BULK_FLOOR,
    BULK_LEAST_INTERVALS,
    DISPERSION_LEAST_PIECES,
    DISPERSION_MOST,
    GAP_FACTOR,
    PROBE_SECONDS,
)
from headroom.policy.workerpool.window import Interval


@dataclass(frozen=True, slots=True)
class Count:
    """Arrivals of a piece of time: its middle, its length, and how many."""

    at: float
    seconds: float
    count: float

    @property
    def rate(self) -> float:
        """Arrivals per second."""
        return self.count / self.seconds


def counts_of(spans: Sequence[Interval], service_rate: float | None) -> list[Count]:
    """Arrivals of each interval, computed if the source does not count them; without gaps."""
    if not spans:
        return []
    longest = GAP_FACTOR * max(median(span.seconds for span in spans), PROBE_SECONDS)
    counts = []
    for span in spans:
        count = _arrived(span, service_rate)
        if count is not None and span.seconds <= longest:
            counts.append(Count(span.ended_at - span.seconds / 2, span.seconds, count))
    return counts


def _arrived(span: Interval, service_rate: float | None) -> float | None:
    """The counted arrivals, else growth of the backlog plus what left it."""
    if span.arrived is not None:
        return float(span.arrived)
    if span.ended is not None:
        return float(max(0, span.backlog_growth + span.ended))
    if service_rate is not None and span.busy_seconds is not None:
        return max(0.0, span.backlog_growth + service_rate * span.busy_seconds)
    return None


def split_bulk(counts: list[Count]) -> tuple[list[Count], list[Count]]:
    """The counts without those that have more than half of all arrivals, and these: the backlog already has them."""
    total = sum_counts(counts).count if counts else 0.0
    if len(counts) < BULK_LEAST_INTERVALS:
        return counts, []
    limit = max(BULK_FLOOR, total / 2)
    return [count for count in counts if count.count <= limit], [count for count in counts if count.count > limit]


def pieces_of(counts: Sequence[Count]) -> list[Count]:
    """Join counts, from the newest back, until each piece lasts as long as a calm probe interval."""
    pieces: list[Count] = []
    group: list[Count] = []
    seconds = 0.0
    for count in reversed(counts):
        group.append(count)
        seconds += count.seconds
        if seconds >= PROBE_SECONDS * 0.8:
            pieces.append(count if len(group) == 1 else sum_counts(group))
            group, seconds = [], 0.0
    return pieces[::-1]


def dispersion(pieces: Sequence[Count]) -> float:
    """Ca^2: variance / mean of the arrivals of a piece, at least 1; of neighbours, so that a trend adds nothing."""
    if len(pieces) < DISPERSION_LEAST_PIECES or not (mean := sum_counts(pieces).rate):
        return 1.0
    squares = [
        (after.rate - before.rate) ** 2 / (1 / before.seconds + 1 / after.seconds) for before, after in pairwise(pieces)
    ]
    return min(max(1.0, sum(squares) / len(squares) / mean), DISPERSION_MOST)


def deviation(part: Count, whole: Count, variability: float = 1.0) -> float:
    """Standard deviations by which a part has more than its share of a window (Poisson, of a given whole)."""
    expected = whole.rate * part.seconds
    variance = variability * expected * (1 - part.seconds / whole.seconds)
    return (part.count - expected) / math.sqrt(variance + 1)


@dataclass(frozen=True, slots=True)
class Line:
    """A line through rates: slope per second, squares of time around the middle, squares of rates left unexplained."""

    slope: float
    spread: float
    residual: float


def fit_line(counts: Sequence[Count]) -> Line:
    """Least squares, each count weighted by its length; flat through fewer than two."""
    mean = sum_counts(counts)
    spread = sum(count.seconds * (count.at - mean.at) ** 2 for count in counts)
    rise = sum(count.seconds * (count.at - mean.at) * (count.rate - mean.rate) for count in counts)
    slope = rise / spread if spread > 0 else 0.0
    return Line(slope, spread, max(0.0, scatter(counts) - slope * rise))


def scatter(counts: Sequence[Count]) -> float:
    """Squares of the rates around their mean, weighted by length."""
    mean = sum_counts(counts).rate
    return sum(count.seconds * (count.rate - mean) ** 2 for count in counts)


def sum_counts(counts: Sequence[Count]) -> Count:
    """Several counts as one, with the middle of all their seconds; needs at least one."""
    seconds = moment = total = 0.0
    for count in counts:
        seconds += count.seconds
        moment += count.at * count.seconds
        total += count.count
    return Count(moment / seconds, seconds, total)
