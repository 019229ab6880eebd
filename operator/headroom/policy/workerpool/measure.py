"""From a sample and what is remembered to the rates of a pool, and to all that the formulas of `wanted` read."""

import math
from dataclasses import replace

from headroom.model.queue import QueueSample
from headroom.policy.workerpool.constants import DEFAULT_LEAD_SECONDS, RATE_WINDOW_SECONDS
from headroom.policy.workerpool.demand import Demand
from headroom.policy.workerpool.facts import ScalingLimits, Target
from headroom.policy.workerpool.growth import find_verified
from headroom.policy.workerpool.memory import PoolMemory
from headroom.policy.workerpool.occupancy import follow_occupancy
from headroom.policy.workerpool.rates import Estimates, estimate
from headroom.policy.workerpool.window import (
    Observation,
    backlog_growth,
    covered_seconds,
    has_idle_slots,
    intervals,
    is_calm,
    most_jobs,
)


def lead_time(memory: PoolMemory) -> float:
    """Seconds that a worker takes to start, as measured or until it is."""
    return memory.lead_seconds or DEFAULT_LEAD_SECONDS


def measure(
    limits: ScalingLimits, target: Target, sample: QueueSample | None, memory: PoolMemory, at: float
) -> tuple[Estimates, PoolMemory]:
    """The rates, with this pass's sample among those of the window; `limits` are those of the spec."""
    if sample is not None:
        slots = target.pods.running * memory.occupancy.limit(limits).concurrency
        is_settled = target.pods.ready == target.present == target.existing
        workers = target.pods.ready if is_settled and target.pods.terminating == 0 else 0
        # No rate needs the names of busy workers: they may have a MiB, which 200 samples of a pool must not keep.
        kept = replace(sample, busy_hosts=None)
        memory = memory.observe(Observation(kept, slots, is_settled, workers), limits.target_lag_seconds)
        memory = memory.occupy(follow_occupancy(memory.occupancy, memory.window, limits.concurrency))
    estimates = estimate(
        intervals(memory.window),
        memory.history,
        last_good_rate=memory.last_good_rate,
        expected_job_seconds=limits.expected_job_seconds,
        target_lag_seconds=limits.target_lag_seconds,
    )
    memory = memory.learn(estimates.measured_rate, at)
    return estimates, memory if sample is None else memory.see_end()


def demand_of(
    limits: ScalingLimits, target: Target, sample: QueueSample, estimates: Estimates, memory: PoolMemory
) -> Demand:
    """All that the formulas read, of this pass; `memory` is that after its sample."""
    at, slots = sample.taken_at, target.pods.running * limits.concurrency
    young = at - limits.target_lag_seconds - lead_time(memory)
    return Demand(
        lag_seconds=sample.lag_seconds,
        backlog=sample.backlog,
        late=sample.late,
        in_flight=None if sample.in_flight is None else min(sample.in_flight, slots),
        due_soon=sample.due_soon,
        arrivals=estimates.arrivals_per_second,
        arrivals_age_seconds=estimates.arrivals_age_seconds,
        arrivals_growth=estimates.arrivals_growth,
        arrivals_cv_squared=estimates.arrivals_cv_squared,
        arrivals_long=estimates.arrivals_long_run,
        batch=math.ceil(sum(bulk.count for bulk in estimates.bulks if bulk.at >= young)),
        service_rate=estimates.service_rate,
        late_for_seconds=memory.late_for_seconds(at),
        capacity_workers=target.pods.in_time,
        lead_time_seconds=lead_time(memory),
        target_lag_seconds=limits.target_lag_seconds,
        drain_within_seconds=limits.drain_within_seconds,
        concurrency=limits.concurrency,
        has_idle_slots=has_idle_slots(memory.window),
        recent_jobs=most_jobs(memory.window),
        present=target.present,
        since_start_seconds=memory.since_start_seconds(at),
        slots=slots,
        ready_workers=target.pods.ready,
        is_calm=is_calm(memory.window, limits.down_window_seconds, limits.target_lag_seconds),
        is_watched=covered_seconds(memory.window) >= RATE_WINDOW_SECONDS,
        backlog_growth=backlog_growth(memory.window),
        verified=find_verified(memory),
    )
