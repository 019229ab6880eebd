"""Two windows at different counts of workers, and what the step between them gained.

A window is counted while the count of ready workers is steady and every slot has work, so that throughput is all that
the workers can do. The marginal gain of a step from n1 to n2 workers is eta = ((X2 - X1) / X1) / ((n2 - n1) / n1): 1 is
linear, 0 means that nothing was gained, below 0 more workers do less.
"""

import math
from dataclasses import dataclass
from enum import StrEnum

from headroom.policy.workerpool.constants import (
    FAILURES_MOVED,
    GAIN_LEAST_JOBS,
    GAIN_SIGMAS,
    GAIN_UNCERTAINTY,
    LINEAR_SIGMAS,
    WEAK_WINDOWS,
    WINDOW_ERROR,
    WINDOW_JOBS,
)
from headroom.policy.workerpool.gain_constants import (
    DRIFT_PER_MINUTE,
)
from headroom.policy.workerpool.gain_window import GainWindow, estimate_dispersion


class GainVerdict(StrEnum):
    """What a step was found to do."""

    GAIN = "Gain"
    NO_GAIN = "NoGain"


@dataclass(frozen=True, slots=True)
class Gain:
    """The marginal gain eta of a step, with its 95 % interval; `ratio` is the throughput after ÷ before.

    `below_linear` is by how many standard errors the throughput is below that of workers who do not disturb each other.
    """

    value: float
    low: float
    high: float
    ratio: float
    below_linear: float


def is_comparable(one: GainWindow, other: GainWindow) -> bool:
    """False when something else than the count of workers was different: such a pair says nothing."""
    is_same_share = abs(one.failing - other.failing) <= FAILURES_MOVED
    return one.workers != other.workers and is_same_share and one.database_load.is_like(other.database_load)


def measure_gain(fewer: GainWindow, more: GainWindow) -> Gain | None:
    """The gain of the step from `fewer` workers to `more`; None while nothing ended in one of the windows.

    Completions are Poisson-like but clumped: the variance of log X is dispersion / jobs, with the dispersion of both
    windows together. Jobs and database drift: the further apart two windows are, the less they say about the step.
    """
    fewer, more = _newest(fewer, more)
    if fewer.ended <= 0 or more.ended <= 0 or more.workers <= fewer.workers:
        return None
    dispersion = estimate_dispersion(fewer, more)
    # What they could do with every slot busy: a slot may wait for its next item for a moment.
    ratio = more.slot_rate * more.workers / (fewer.slot_rate * fewer.workers)
    drift = DRIFT_PER_MINUTE * abs(more.middle - fewer.middle) / 60
    error = math.hypot(WINDOW_ERROR, drift, math.sqrt(dispersion * (1 / fewer.ended + 1 / more.ended)))
    spread, step = math.exp(GAIN_SIGMAS * error), more.workers / fewer.workers - 1
    low, value, high = ((bound - 1) / step for bound in (ratio / spread, ratio, ratio * spread))
    return Gain(value, low, high, ratio, math.log((1 + step) / ratio) / error)


def _newest(one: GainWindow, other: GainWindow) -> tuple[GainWindow, GainWindow]:
    """Only the part of the earlier window that is not much older than the later one is left."""
    return (one.newest(), other) if one.ended_at <= other.ended_at else (one, other.newest())


def measure_recovery(fewer: GainWindow, more: GainWindow) -> float | None:
    """Whether a slot does more beside fewer workers, in standard errors: above 0 it does.

    Then the workers hold each other up. All workers together do the same if something else limits them, and the rate of
    a slot is inverse to their count. Slots that nothing holds up do the same beside fewer. The middle between both is
    0. Both windows follow each other: what became slower before the second one changes both alike.
    """
    if fewer.ended <= 0 or more.ended <= 0 or more.workers <= fewer.workers:
        return None
    fewer, more = _newest(fewer, more)
    error = math.sqrt(estimate_dispersion(fewer, more) * (1 / fewer.ended + 1 / more.ended))
    return (math.log(fewer.slot_rate / more.slot_rate) - math.log(more.workers / fewer.workers) / 2) / error


def has_fallen(before: GainWindow, after: GainWindow, share: float = 1.0) -> bool:
    """Whether all workers together certainly do less than this share of what those of the other window do."""
    error = math.hypot(before.error, after.error)
    return after.rate * math.exp(GAIN_SIGMAS * error) < share * before.rate


def is_decidable(fewer: GainWindow, more: GainWindow) -> bool:
    """Whether enough jobs at more workers can show that the step gained nothing: the base is what limits it."""
    is_counted = fewer.ended > WINDOW_JOBS / 2 and fewer.is_long
    return is_counted and is_comparable(fewer, more) and is_precise(fewer, more.workers / fewer.workers)


def is_precise(window: GainWindow, step: float) -> bool:
    """Whether a window is known well enough to be compared with another one at `step` times the workers, or less."""
    return math.log(step) > LINEAR_SIGMAS * math.hypot(WINDOW_ERROR, window.error)


def is_weak_gain(fewer: GainWindow, more: GainWindow, gain: Gain | None, least_gain: float) -> bool:
    """Whether a step certainly gained less than a linear one, but something, and more jobs would hardly say more.

    Such a step goes past what helps: the next one shows it. It counts as a gain by what it did, which is little.
    """
    if gain is None or more.ended < WEAK_WINDOWS * WINDOW_JOBS or not is_decidable(fewer, more):
        return False
    return gain.value > least_gain and gain.high < 1


def decide_gain(fewer: GainWindow, more: GainWindow, least_gain: float) -> tuple[GainVerdict | None, Gain | None]:
    """The verdict on a step, None while it has to be measured on, and the gain as far as it is known.

    No gain takes as many jobs as two windows of 100 have, since it stops growth; a gain is clear with fewer.
    """
    gain = measure_gain(fewer, more)
    if gain is None or not is_comparable(fewer, more):
        return None, gain
    if min(fewer.ended, more.ended) >= GAIN_LEAST_JOBS and gain.low > least_gain:
        return GainVerdict.GAIN, gain
    is_counted = 1 / fewer.ended + 1 / more.ended <= 2 / WINDOW_JOBS and fewer.is_long and more.is_long
    is_flat = gain.value <= least_gain and gain.high < least_gain + GAIN_UNCERTAINTY
    if is_counted and is_flat and gain.below_linear > LINEAR_SIGMAS:
        return GainVerdict.NO_GAIN, gain
    return None, gain
