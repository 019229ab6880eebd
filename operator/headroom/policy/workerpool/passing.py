"""What arrives at a late queue and what is taken from it, where the queue tells only its lag and its backlog.

Items are taken in the order in which they became ready. So the items that wait came within the lag: Q / L arrive per
second. The next item moves on through time by one second less the growth of the lag, and as many items as came in that
time are taken.

Another order, a bulk, or arrivals that change do not fit these two figures. The backlog then grows by something else
than Q / L times the growth of the lag, or the next item stays: nothing is known.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile

from headroom.model.queue import QueueSample
from headroom.policy.workerpool.constants import (
    GAIN_LEAST_JOBS,
    LINEAR_SIGMAS,
    PROBE_SECONDS,
    RATE_WINDOW_SECONDS,
    WINDOW_JOBS,
)
from headroom.policy.workerpool.window import Observation, newest_within

FITTING_SHARE = 0.25
"""The two figures may differ by so much of what arrives, beside chance: arrivals that double within the lag do not."""


@dataclass(frozen=True, slots=True)
class Passing:
    """Items per second that arrive, and how many were taken since the last sample."""

    arrivals_per_second: float
    taken: int


def is_estimated(window: Sequence[Observation]) -> bool:
    """Whether the queue does not count what ends, so that only lag and backlog tell it."""
    return bool(window) and window[-1].sample.ended is None


def estimate_passing(window: Sequence[Observation]) -> Passing | None:
    """The estimate of the newest interval; None where lag and backlog are too small for one or do not fit.

    A backlog of 100 items tells the arrivals to a tenth (Poisson), and a lag of some probes the time they came in.
    """
    seen = list(takewhile(_is_measured, reversed(newest_within(window, RATE_WINDOW_SECONDS))))
    if len(seen) < 2:
        return None
    last, before, first = seen[0].sample, seen[1].sample, seen[-1].sample
    is_moving = _arrivals(first, last) * _moved(first, last) >= GAIN_LEAST_JOBS
    if not is_moving or not _is_fitting(first, last):
        return None
    arrivals = _arrivals(before, last)
    return Passing(arrivals, max(0, round(arrivals * _moved(before, last))))


def _is_measured(seen: Observation) -> bool:
    return seen.sample.backlog >= WINDOW_JOBS and seen.sample.lag_seconds >= PROBE_SECONDS


def _arrivals(first: QueueSample, last: QueueSample) -> float:
    return (first.backlog + last.backlog) / (first.lag_seconds + last.lag_seconds)


def _moved(first: QueueSample, last: QueueSample) -> float:
    """By how many seconds the next item of the last sample came later than that of the first."""
    return last.taken_at - last.lag_seconds - (first.taken_at - first.lag_seconds)


def _is_fitting(first: QueueSample, last: QueueSample) -> bool:
    """Whether the backlog grew as the lag did, at the arrivals that the whole time tells."""
    arrivals, seconds = _arrivals(first, last), last.taken_at - first.taken_at
    grown = arrivals * (last.lag_seconds - first.lag_seconds)
    chance = LINEAR_SIGMAS * math.sqrt(2 * arrivals * seconds)
    return abs(last.backlog - first.backlog - grown) <= chance + FITTING_SHARE * arrivals * seconds
