"""What arrives: the rate now, how old that number is, and by how much it grows. A jump is a new level, not growth."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile

from headroom.policy.workerpool.constants import (
    ARRIVALS_LEAST,
    CHANGE_SIGNIFICANCE,
    CHANGE_SPANS,
    HISTORY_SECONDS,
    JUMP_LEAST_SPANS,
    JUMP_SHARE,
    MOVED_SIGNIFICANCE,
    RATE_WINDOW_SECONDS,
    SERVICE_TIMES_LEAST,
    STEADY_WINDOW_SECONDS,
    TREND_LEAST_INTERVALS,
    TREND_SIGNIFICANCE,
    TREND_WINDOW_SECONDS,
)
from headroom.policy.workerpool.counts import (
    Count,
    counts_of,
    deviation,
    dispersion,
    fit_line,
    pieces_of,
    scatter,
    split_bulk,
    sum_counts,
)
from headroom.policy.workerpool.window import Interval, recent


@dataclass(frozen=True, slots=True)
class Arrivals:
    """Items per second that become ready; None is not known yet.

    `age_seconds` is how long ago the rate was true: the time since the middle of what it was counted over. `growth` is
    per second per second, 0 unless it is significant and continues. `cv_squared` is Ca^2, variance / mean per piece of
    time. `long_run` is the rate over five minutes or the target lag, whether it moves or not. `bulks` are what came at
    one moment, which is not a rate.
    """

    per_second: float | None = None
    age_seconds: float = 0.0
    growth: float = 0.0
    cv_squared: float = 1.0
    long_run: float | None = None
    bulks: tuple[Count, ...] = ()


def estimate_arrivals(
    spans: Sequence[Interval],
    history: Sequence[Interval],
    service_rate: float | None,
    target_lag_seconds: float,
) -> Arrivals:
    """The rate of the last minute and its trend, or the level since a jump within it; longer while nothing moves."""
    near, bulks = split_bulk(counts_of(recent(spans, TREND_WINDOW_SECONDS), service_rate))
    since = spans[-1].ended_at - RATE_WINDOW_SECONDS if spans else math.inf
    minute = [count for count in near if count.at > since]
    if not minute:
        return Arrivals(bulks=tuple(bulks))
    pieces = pieces_of(minute)
    level = _since_jump(pieces)
    is_growing = not level and _fallen(pieces) is None and _is_growing(near)
    growth = max(0.0, fit_line(minute).slope) if is_growing else 0.0
    far, _ = split_bulk(counts_of(recent(spans, STEADY_WINDOW_SECONDS), service_rate))
    variability = dispersion(pieces_of(far))
    mean = sum_counts(minute)
    now = _newest(mean, pieces, level)
    if now is mean and not growth:
        now = _while_steady(mean, far, _back(history, service_rate), variability)
    long_run = sum_counts(far)
    if target_lag_seconds > STEADY_WINDOW_SECONDS and (slow := _back(history, service_rate, target_lag_seconds)):
        long_run = sum_counts(slow)
    age = spans[-1].ended_at - now.at
    return Arrivals(now.rate, age, growth, variability, long_run.rate, tuple(bulks))


def _while_steady(minute: Count, far: Sequence[Count], rare: Sequence[Count], variability: float) -> Count:
    """The longest window whose rate the last minute does not contradict: fewer workers come and go by chance.

    Clumps explain a minute that has more; that it has less may be an end of clumps as well.
    """
    widest = minute
    for counts in (far, rare):
        whole = sum_counts(counts) if counts else minute
        chance = variability if minute.rate > whole.rate else 1.0
        if whole.seconds > widest.seconds and abs(deviation(minute, whole, chance)) < MOVED_SIGNIFICANCE:
            widest = whole
    return widest


def _back(history: Sequence[Interval], service_rate: float | None, least_seconds: float = 0.0) -> list[Count]:
    """The counts of five service times, twenty arrivals or so many seconds, whichever takes longest."""
    service_seconds = SERVICE_TIMES_LEAST / service_rate if service_rate else 0.0
    least = min(max(least_seconds, service_seconds), HISTORY_SECONDS)
    counts: list[Count] = []
    seconds = arrived = 0.0
    for span in reversed(history):
        if seconds >= least and arrived >= ARRIVALS_LEAST:
            break
        counts += counts_of([span], service_rate)
        seconds, arrived = seconds + span.seconds, sum(count.count for count in counts)
    return counts[::-1]


def _newest(mean: Count, pieces: Sequence[Count], level: Sequence[Count]) -> Count:
    """The whole minute, unless its newest pieces show that the rate has risen and stays there."""
    newest = level or pieces[-CHANGE_SPANS:]
    risen = sum_counts(level) if level else _middle(newest)
    if risen is None or not _is_above(risen, mean):
        return mean
    fallen = _fallen(newest)
    return risen if fallen is None else max(mean, fallen, key=lambda count: count.rate)


def _middle(pieces: Sequence[Count]) -> Count | None:
    """The middle one of three pieces, so that a single batch does not count as a change; None of fewer."""
    if len(pieces) < CHANGE_SPANS:
        return None
    return sorted(pieces, key=lambda piece: piece.rate)[CHANGE_SPANS // 2]


def _fallen(pieces: Sequence[Count]) -> Count | None:
    """The newest pieces if they are below the rate of all by more than chance: the old level has ended."""
    if not pieces:
        return None
    whole = sum_counts(pieces)
    lower = list(takewhile(lambda piece: piece.rate < whole.rate, reversed(pieces)))
    if not lower or deviation(sum_counts(lower), whole) > -CHANGE_SIGNIFICANCE:
        return None
    # The fall is within a piece, which still has some of the old level.
    return sum_counts(lower[:-1] or lower)


def _since_jump(pieces: Sequence[Count]) -> Sequence[Count]:
    """The pieces since the rate jumped to a new level; none if it did not, or if a line explains it as well.

    A line through a jump rises, and continues to rise where arrivals do not. A level must remain without its highest
    piece: a single batch is not a level.
    """
    cuts = range(1, len(pieces) - JUMP_LEAST_SPANS + 1)
    if not cuts:
        return ()
    parted, cut = min((scatter(pieces[:cut]) + scatter(pieces[cut:]), cut) for cut in cuts)
    level = pieces[cut:]
    steady = sorted(level, key=lambda piece: piece.rate)[:-1]
    if parted >= JUMP_SHARE * fit_line(pieces).residual or not _is_above(sum_counts(steady), sum_counts(pieces)):
        return ()
    # The jump is within a piece, which still has some of the old level.
    return level[1:] if len(level) > JUMP_LEAST_SPANS else level


def _is_above(part: Count, whole: Count) -> bool:
    """True when more arrived in a part of a window than chance explains at the window's rate."""
    return deviation(part, whole) > CHANGE_SIGNIFICANCE


def _is_growing(counts: Sequence[Count]) -> bool:
    """True when the slope of the rate is clearly above zero."""
    if len(counts) < TREND_LEAST_INTERVALS:
        return False
    line = fit_line(counts)
    return line.slope > TREND_SIGNIFICANCE * math.sqrt(line.residual / (len(counts) - 2) / line.spread)
