"""How many workers the queue asks for, before any limit: `wanted`.

Symbols of the formulas: a arrivals, f their forecast for one lead time R ahead, Q backlog, T target lag, D drain
deadline. Here m is the service rate of a busy slot, c the slots of a worker, X the capacity that exists, E the backlog
beyond what the target allows.
"""

import math
from dataclasses import dataclass

from headroom.model.numbers import count_of
from headroom.policy.workerpool.constants import (
    LEARNING_MOST_WORKERS,
    LEARNING_STEP_SECONDS,
    SERVICE_CV_SQUARED,
)
from headroom.reasons import Reason

ROUNDING = 1e-9
"""A ratio this little above a whole number is that number: floating point, not load."""


@dataclass(frozen=True, slots=True)
class VerifiedCount:
    """The last verified count of workers: n_v, its throughput X_v per second when saturated, its marginal gain eta."""

    workers: int
    throughput: float | None = None
    gain: float = 1.0


@dataclass(frozen=True, slots=True)
class Demand:
    """All that the formulas read; rates per second, times in seconds.

    `arrivals` None is not known yet: the result is then a lower bound. `arrivals_age` is how long ago they were at that
    rate, `late_for` how long lag has been above its target, `capacity_workers` what is ready or will be in time.
    `present` (the count asked for now) and `since_start_seconds` (since we last asked for more) matter only while the
    service rate is unknown.
    """

    lag_seconds: float
    backlog: int
    late: int
    in_flight: int
    due_soon: int
    arrivals: float | None
    arrivals_age_seconds: float
    arrivals_growth: float
    service_rate: float | None
    late_for_seconds: float
    capacity_workers: int
    lead_time_seconds: float
    target_lag_seconds: float
    drain_within_seconds: float
    concurrency: int
    present: int
    since_start_seconds: float = math.inf
    verified: VerifiedCount | None = None

    @property
    def is_late(self) -> bool:
        """Lag is above its target."""
        return self.lag_seconds > self.target_lag_seconds


@dataclass(frozen=True, slots=True)
class Wanted:
    """The count the queue asks for, and what it was computed from.

    `excess` is E, `forecast` f, `throughput` C per second; None where the service rate is unknown. A count that
    `is_lower_bound` may raise, never lower.
    """

    workers: int
    reason: Reason
    message: str
    excess: float
    forecast: float
    throughput: float | None = None
    is_lower_bound: bool = False


def decide_wanted(demand: Demand) -> Wanted:
    """Apply the capacity formula, or the careful start while the service rate is unknown."""
    expected = forecast(demand)
    beyond = excess(demand, expected)
    if demand.service_rate is None:
        return _learn(demand, expected, beyond)
    return _from_rates(demand, demand.service_rate, expected, beyond)


def forecast(demand: Demand) -> float:
    """f = max(a, due within R / R, a + slope (R + age of a)), the trend within [a, 2a]; it never lowers."""
    arrivals = demand.arrivals or 0.0
    reach = demand.lead_time_seconds + demand.arrivals_age_seconds
    trend = min(arrivals + max(0.0, demand.arrivals_growth) * reach, 2 * arrivals)
    return max(arrivals, trend, demand.due_soon / demand.lead_time_seconds)


def excess(demand: Demand, expected: float) -> float:
    """E = max(0, Q - f T, late items); above the target lag at least one item is late."""
    late = max(demand.late, 1) if demand.is_late else demand.late
    return max(0.0, demand.backlog - expected * demand.target_lag_seconds, float(late))


def time_left(demand: Demand) -> float:
    """D_left = max(D - time since lag passed T, D/4, R): it shrinks, but never asks for the impossible."""
    deadline = demand.drain_within_seconds
    return max(deadline - demand.late_for_seconds, deadline / 4, demand.lead_time_seconds)


def slots_for(load: float, cv_squared: float = SERVICE_CV_SQUARED) -> float:
    """Slots for a steady load of `load` busy ones: rho + sqrt(rho (1 + CV^2) / 2), the square-root staffing rule."""
    return load + math.sqrt(load * (1 + cv_squared) / 2)


def _from_rates(demand: Demand, service_rate: float, expected: float, beyond: float) -> Wanted:
    per_worker = service_rate * demand.concurrency
    seconds = time_left(demand)
    missing = max(0.0, expected - demand.capacity_workers * per_worker)
    throughput = expected + (beyond + missing * demand.lead_time_seconds) / seconds
    steady = _ceil(slots_for(expected / service_rate) / demand.concurrency)
    workers = max(steady, _workers_for(throughput, per_worker, demand.verified))
    return Wanted(
        workers=workers,
        reason=Reason.LAG_ABOVE_TARGET if demand.is_late else Reason.ARRIVALS_COVERED,
        message=_describe_rates(demand, expected, per_worker, beyond),
        excess=beyond,
        forecast=expected,
        throughput=throughput,
        is_lower_bound=demand.arrivals is None,
    )


def _workers_for(throughput: float, per_worker: float, verified: VerifiedCount | None) -> int:
    """n = n_v + ceil((C - X_v) n_v / (eta X_v)); without a verified count C / (m c), as any count is as good."""
    if verified is None or verified.workers == 0 or verified.gain <= 0:
        return _ceil(throughput / per_worker)
    reached = verified.throughput or verified.workers * per_worker
    return max(0, verified.workers + _ceil((throughput - reached) * verified.workers / (verified.gain * reached)))


def _learn(demand: Demand, expected: float, beyond: float) -> Wanted:
    """While nothing is known: double in careful steps when late, else stay; an idle queue wants no workers."""
    is_idle = demand.backlog == 0 and demand.in_flight == 0 and not demand.arrivals and not demand.due_soon
    workers, message = demand.present, "it is not known yet how long a job takes; the workers stay as they are"
    if demand.is_late:
        workers, message = _double(demand), "it is not known yet how long a job takes; the workers double step by step"
    elif is_idle:
        workers, message = 0, "the queue is empty and nothing is being worked on"
    elif demand.backlog > 0 and demand.present == 0:
        workers, message = 1, "jobs wait and there is no worker"
    return Wanted(
        workers=workers,
        reason=Reason.LAG_WITHIN_TARGET if is_idle and not demand.is_late else Reason.LEARNING_RATE,
        message=message,
        excess=beyond,
        forecast=expected,
        is_lower_bound=demand.arrivals is None,
    )


def _double(demand: Demand) -> int:
    pause = max(demand.lead_time_seconds, LEARNING_STEP_SECONDS)
    if demand.present >= LEARNING_MOST_WORKERS or (demand.present > 0 and demand.since_start_seconds < pause):
        return demand.present
    return min(max(1, 2 * demand.present), LEARNING_MOST_WORKERS)


def _describe_rates(demand: Demand, expected: float, per_worker: float, beyond: float) -> str:
    text = f"{_describe_arrivals(demand, expected)}; one worker does {per_worker:.3g}/s"
    if beyond > 0:
        waiting, seconds = count_of(math.ceil(beyond), "job"), time_left(demand)
        text += f"; {waiting} beyond what the target lag allows must be done within {seconds:.0f} s"
    return text


def _describe_arrivals(demand: Demand, expected: float) -> str:
    """The measured rate and the expected one: a forecast is not an arrival rate."""
    now, then = "" if demand.arrivals is None else f"{demand.arrivals:.3g}", f"{expected:.3g}"
    arrive = f"{now} jobs/s arrive" if now else "it is not known yet how many jobs arrive"
    return arrive if then in (now, "0") else f"{arrive}, {then}/s expected in {demand.lead_time_seconds:.0f} s"


def _ceil(value: float) -> int:
    return math.ceil(value - ROUNDING * max(1.0, abs(value)))
