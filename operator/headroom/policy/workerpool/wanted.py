"""How many workers the queue asks for, before any limit: `wanted`.

Symbols of the formulas: a arrivals, f their forecast for one lead time R ahead, Q backlog, T target lag, D drain
deadline. Here m is the service rate of a busy slot, c the slots of a worker, X the capacity that exists, E the backlog
beyond what the target allows.
"""

import math
from dataclasses import dataclass, replace

from headroom.model.numbers import count_of
from headroom.policy.workerpool.constants import (
    BATCH_LEAD_SHARE,
    LONG_JOBS_FIT,
    PROBE_SECONDS,
    SURE_SHARE,
    WAIT_HORIZON_SECONDS,
    WAIT_SHARE,
)
from headroom.policy.workerpool.demand import Demand, VerifiedCount
from headroom.policy.workerpool.learning import double_workers, keep_workers
from headroom.policy.workerpool.staffing import ceil, most_arrivals, slots_for
from headroom.reasons import Reason


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
    """f = max(a, a + slope (R + age of a)), within [a, 2a]; it never lowers."""
    arrivals = demand.arrivals or 0.0
    reach = demand.lead_time_seconds + demand.arrivals_age_seconds
    return min(arrivals + max(0.0, demand.arrivals_growth) * reach, 2 * arrivals)


def excess(demand: Demand, expected: float) -> float:
    """E = max(0, Q - f T, late items); at least one item if one is late or will be before a worker can take it."""
    late = max(demand.late, 1) if demand.is_urgent else demand.late
    return max(0.0, demand.backlog - expected * demand.target_lag_seconds, float(late))


def time_left(demand: Demand) -> float:
    """D_left = max(D - time since lag passed T, D/4, R): it shrinks, but never asks for the impossible."""
    deadline = demand.drain_within_seconds
    return max(deadline - demand.late_for_seconds, deadline / 4, demand.lead_time_seconds)


def most_useful(demand: Demand, expected: float) -> float:
    """The workers that may have something to do within R: one for each job in flight, waiting, due or arriving.

    Of arrivals the mean, since a job that finds no worker can wait for a new one; where the target lag is too short for
    that, as many as come in 99 of 100 cases.
    """
    if demand.in_flight is None or demand.is_lower_bound:
        return math.inf
    coming = expected * demand.lead_time_seconds
    can_wait = demand.target_lag_seconds >= demand.lead_time_seconds + PROBE_SECONDS
    spare = math.floor(coming) if can_wait else most_arrivals(coming)
    jobs = max(demand.in_flight + demand.backlog, demand.recent_jobs)
    return ceil((jobs + demand.due_soon + spare) / demand.concurrency)


def _from_rates(demand: Demand, service_rate: float, expected: float, beyond: float) -> Wanted:
    per_worker = service_rate * demand.concurrency
    throughput = _throughput(demand, expected, per_worker, beyond)
    steady = expected if demand.arrivals_long is None else min(expected, demand.arrivals_long)
    slots = slots_for(steady, service_rate, demand.target_lag_seconds, demand.arrivals_cv_squared)
    workers = max(ceil(slots / demand.concurrency), _workers_for(throughput, per_worker, demand.verified))
    workers = max(workers, _workers_for_long_batch(demand, service_rate, expected))
    workers = min(workers, int(min(most_useful(demand, expected), workers)))
    message = _describe_rates(demand, expected, per_worker, beyond)
    if demand.arrivals is None and demand.is_watched:
        kept, why = keep_workers(demand)
        workers, message = max(workers, kept), message if workers >= kept else why
    return Wanted(
        workers=workers,
        reason=Reason.LAG_ABOVE_TARGET if demand.is_late else Reason.ARRIVALS_COVERED,
        message=message,
        excess=beyond,
        forecast=expected,
        throughput=throughput,
        is_lower_bound=demand.is_lower_bound,
    )


def _throughput(demand: Demand, expected: float, per_worker: float, beyond: float) -> float:
    """C: the arrivals, and what waits too long: a batch within T, all else within what is left of the deadline.

    If a start takes longer than 3 T, a batch may take a third of it: the workers are late for it anyway.
    """
    if demand.has_idle_slots:
        return expected
    lead, target = demand.lead_time_seconds, demand.target_lag_seconds
    young = _young_batch(demand, expected)
    needed = expected - _may_wait(demand, expected, per_worker) / max(target, WAIT_HORIZON_SECONDS)
    missing = max(0.0, needed - demand.capacity_workers * per_worker)
    old = max(0.0, beyond - young) + missing * lead
    seconds = time_left(demand) if demand.is_late else max(time_left(demand), target)
    return needed + young / max(target, BATCH_LEAD_SHARE * lead) + old / seconds


def _young_batch(demand: Demand, expected: float) -> float:
    """The items that came at one moment, or will, and that nothing else accounts for."""
    due = _due_beyond(demand, expected)
    return min(max(0.0, demand.backlog + due - expected * demand.target_lag_seconds), demand.batch + due)


def _due_beyond(demand: Demand, expected: float) -> float:
    """The items that fall due within a lead time, beyond those that arrive anyway."""
    return max(0.0, demand.due_soon - expected * demand.lead_time_seconds)


def _workers_for_long_batch(demand: Demand, service_rate: float, expected: float) -> int:
    """The workers for a batch of jobs of which hardly any fit one after another into the target: then whole jobs count.

    A slot takes one item, and as many more as surely fit into what is left of the target once it is there. The busy
    slots count too, since they are free no sooner. Idle ones that do not take it would not be helped by more. They are
    no more than the rates ask for with a target that a new worker just misses: a longer one never wants more.
    """
    reaction = demand.lead_time_seconds + PROBE_SECONDS
    fits = service_rate * (demand.target_lag_seconds - reaction)
    batch = min(demand.backlog, demand.batch) + _due_beyond(demand, expected)
    if demand.has_idle_slots or not 0 < fits < LONG_JOBS_FIT or batch <= 0:
        return 0
    slots = (batch + (demand.in_flight or 0)) / (1 + SURE_SHARE * max(0.0, fits - 1))
    edge, per_worker = replace(demand, target_lag_seconds=reaction), service_rate * demand.concurrency
    most = _workers_for(_throughput(edge, expected, per_worker, excess(edge, expected)), per_worker, demand.verified)
    return min(ceil(slots / demand.concurrency), most)


def _may_wait(demand: Demand, expected: float, per_worker: float) -> float:
    """Items that may still pile up: until new workers could be there, the lag stays well within its target."""
    reaction = demand.lead_time_seconds + PROBE_SECONDS
    growth = max(0.0, expected - demand.ready_workers * per_worker) * reaction
    seconds = max(0.0, WAIT_SHARE * demand.target_lag_seconds - reaction)
    return max(0.0, expected * seconds - demand.backlog - growth)


def _workers_for(throughput: float, per_worker: float, verified: VerifiedCount | None) -> int:
    """n = n_v + (C - X_v) n_v / (eta X_v), rounded up; without a verified count C / (m c), as any count is as good.

    Written so that nothing is taken from a large count and added again: a small C would not survive it.
    """
    if verified is None or verified.workers == 0 or verified.gain <= 0:
        return ceil(throughput / per_worker)
    reached = verified.throughput or verified.workers * per_worker
    gain = verified.gain
    return max(0, ceil(verified.workers * (throughput / reached - (1.0 - gain)) / gain))


def _learn(demand: Demand, expected: float, beyond: float) -> Wanted:
    """While nothing is known: double while late and busy, else as many as are of use; an idle queue wants none."""
    workers, message = keep_workers(demand)
    if demand.is_late:
        workers, message = (
            double_workers(demand, time_left(demand)),
            "it is not known yet how long a job takes; the workers double step by step",
        )
    is_idle = workers == 0
    return Wanted(
        workers=int(min(workers, most_useful(demand, expected))),
        reason=Reason.LAG_WITHIN_TARGET if is_idle and not demand.is_late else Reason.LEARNING_RATE,
        message=message,
        excess=beyond,
        forecast=expected,
        is_lower_bound=demand.is_lower_bound,
    )


def _describe_rates(demand: Demand, expected: float, per_worker: float, beyond: float) -> str:
    text = f"{_describe_arrivals(demand, expected)}; one worker does {per_worker:.3g}/s"
    if demand.has_idle_slots and beyond > 0:
        return f"{text}; idle workers do not take the jobs that wait, and more of them would not either"
    if beyond > 0:
        waiting, seconds = count_of(math.ceil(beyond), "job"), time_left(demand)
        text += f"; {waiting} beyond what the target lag allows must be done within {seconds:.0f} s"
    return text


def _describe_arrivals(demand: Demand, expected: float) -> str:
    """The measured rate and the expected one: a forecast is not an arrival rate."""
    now, then = "" if demand.arrivals is None else f"{demand.arrivals:.3g}", f"{expected:.3g}"
    arrive = f"{now} jobs/s arrive" if now else "it is not known yet how many jobs arrive"
    return arrive if then in (now, "0") else f"{arrive}, {then}/s expected in {demand.lead_time_seconds:.0f} s"
