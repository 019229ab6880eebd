"""What arrives: the rate now, how old that number is, and by how much it grows. A jump is a new level, not growth."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile
from statistics import median

from headroom.policy.workerpool.constants import (
    BULK_FLOOR,
    BULK_LEAST_INTERVALS,
    CHANGE_SIGNIFICANCE,
    CHANGE_SPANS,
    GAP_FACTOR,
    JUMP_LEAST_SPANS,
    JUMP_SHARE,
    PROBE_SECONDS,
    RATE_WINDOW_SECONDS,
    TREND_LEAST_INTERVALS,
    TREND_SIGNIFICANCE,
    TREND_WINDOW_SECONDS,
)
from headroom.policy.workerpool.window import Interval, recent


@dataclass(frozen=True, slots=True)
class Arrivals:
    """Items per second that become ready; None is not known yet.

    `age_seconds` is how long ago the rate was true: the time since the middle of what it was counted over. `growth` is
    per second per second, 0 unless it is significant and continues.
    """

    per_second: float | None = None
    age_seconds: float = 0.0
    growth: float = 0.0


@dataclass(frozen=True, slots=True)
class _Count:
    """Arrivals of a piece of time: its middle, its length, and how many."""

    at: float
    seconds: float
    count: float

    @property
    def rate(self) -> float:
        return self.count / self.seconds


def estimate_arrivals(spans: Sequence[Interval], service_rate: float | None) -> Arrivals:
    """The rate of the last minute and its trend, or the level since a jump within it."""
    counts = _without_bulk(_counts(recent(spans, TREND_WINDOW_SECONDS), service_rate))
    since = spans[-1].ended_at - RATE_WINDOW_SECONDS if spans else math.inf
    minute = [count for count in counts if count.at > since]
    if not minute:
        return Arrivals()
    pieces = _pieces(minute)
    level = _since_jump(pieces)
    is_growing = not level and _fallen(pieces) is None and _is_growing(counts)
    growth = max(0.0, _fit_line(minute).slope) if is_growing else 0.0
    now = _newest(_sum(minute), pieces, level)
    return Arrivals(now.rate, spans[-1].ended_at - now.at, growth)


def _counts(spans: Sequence[Interval], service_rate: float | None) -> list[_Count]:
    """Arrivals of each interval, computed if the source does not count them; without gaps."""
    if not spans:
        return []
    longest = GAP_FACTOR * max(median(span.seconds for span in spans), PROBE_SECONDS)
    counts = []
    for span in spans:
        count = _arrived(span, service_rate)
        if count is not None and span.seconds <= longest:
            counts.append(_Count(span.ended_at - span.seconds / 2, span.seconds, count))
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


def _without_bulk(counts: list[_Count]) -> list[_Count]:
    """Leave out an interval that has more than half of all arrivals: the backlog already counts it."""
    total = sum(count.count for count in counts)
    if len(counts) < BULK_LEAST_INTERVALS:
        return counts
    return [count for count in counts if count.count <= max(BULK_FLOOR, total / 2)]


def _pieces(counts: Sequence[_Count]) -> list[_Count]:
    """Join counts, from the newest back, until each piece lasts as long as a calm probe interval."""
    pieces: list[_Count] = []
    group: list[_Count] = []
    for count in reversed(counts):
        group.append(count)
        if sum(part.seconds for part in group) >= PROBE_SECONDS * 0.8:
            pieces.append(_sum(group))
            group = []
    return pieces[::-1]


def _newest(mean: _Count, pieces: Sequence[_Count], level: Sequence[_Count]) -> _Count:
    """The whole minute, unless its newest pieces show that the rate has risen and stays there."""
    newest = level or pieces[-CHANGE_SPANS:]
    risen = _sum(level) if level else _middle(newest)
    if risen is None or not _is_above(risen, mean):
        return mean
    fallen = _fallen(newest)
    return risen if fallen is None else max(mean, fallen, key=lambda count: count.rate)


def _middle(pieces: Sequence[_Count]) -> _Count | None:
    """The middle one of three pieces, so that a single batch does not count as a change; None of fewer."""
    if len(pieces) < CHANGE_SPANS:
        return None
    return sorted(pieces, key=lambda piece: piece.rate)[CHANGE_SPANS // 2]


def _fallen(pieces: Sequence[_Count]) -> _Count | None:
    """The newest pieces if they are below the rate of all by more than chance: the old level has ended."""
    if not pieces:
        return None
    whole = _sum(pieces)
    lower = list(takewhile(lambda piece: piece.rate < whole.rate, reversed(pieces)))
    if not lower or _deviation(_sum(lower), whole) > -CHANGE_SIGNIFICANCE:
        return None
    # The fall is within a piece, which still has some of the old level.
    return _sum(lower[:-1] or lower)


def _since_jump(pieces: Sequence[_Count]) -> Sequence[_Count]:
    """The pieces since the rate jumped to a new level; none if it did not, or if a line explains it as well.

    A line through a jump rises, and continues to rise where arrivals do not. A level must remain without its highest
    piece: a single batch is not a level.
    """
    cuts = range(1, len(pieces) - JUMP_LEAST_SPANS + 1)
    if not cuts:
        return ()
    scatter, cut = min((_scatter(pieces[:cut]) + _scatter(pieces[cut:]), cut) for cut in cuts)
    level = pieces[cut:]
    steady = sorted(level, key=lambda piece: piece.rate)[:-1]
    if scatter >= JUMP_SHARE * _fit_line(pieces).residual or not _is_above(_sum(steady), _sum(pieces)):
        return ()
    # The jump is within a piece, which still has some of the old level.
    return level[1:] if len(level) > JUMP_LEAST_SPANS else level


def _is_above(part: _Count, whole: _Count) -> bool:
    """True when more arrived in a part of a window than chance explains at the window's rate."""
    return _deviation(part, whole) > CHANGE_SIGNIFICANCE


def _deviation(part: _Count, whole: _Count) -> float:
    """Standard deviations by which a part has more than its share of a window (Poisson, of a given whole)."""
    expected = whole.rate * part.seconds
    variance = expected * (1 - part.seconds / whole.seconds)
    return (part.count - expected) / math.sqrt(variance + 1)


def _is_growing(counts: Sequence[_Count]) -> bool:
    """True when the slope of the rate is clearly above zero."""
    if len(counts) < TREND_LEAST_INTERVALS:
        return False
    line = _fit_line(counts)
    return line.slope > TREND_SIGNIFICANCE * math.sqrt(line.residual / (len(counts) - 2) / line.spread)


@dataclass(frozen=True, slots=True)
class _Line:
    """A line through rates: slope per second, squares of time around the middle, squares of rates left unexplained."""

    slope: float
    spread: float
    residual: float


def _fit_line(counts: Sequence[_Count]) -> _Line:
    """Least squares, each count weighted by its length; flat through fewer than two."""
    mean = _sum(counts)
    spread = sum(count.seconds * (count.at - mean.at) ** 2 for count in counts)
    rise = sum(count.seconds * (count.at - mean.at) * (count.rate - mean.rate) for count in counts)
    slope = rise / spread if spread > 0 else 0.0
    return _Line(slope, spread, max(0.0, _scatter(counts) - slope * rise))


def _scatter(counts: Sequence[_Count]) -> float:
    """Squares of the rates around their mean, weighted by length."""
    mean = _sum(counts).rate
    return sum(count.seconds * (count.rate - mean) ** 2 for count in counts)


def _sum(counts: Sequence[_Count]) -> _Count:
    """Several counts as one, with the middle of all their seconds; needs at least one."""
    seconds = sum(count.seconds for count in counts)
    at = sum(count.at * count.seconds for count in counts) / seconds
    return _Count(at, seconds, sum(count.count for count in counts))
