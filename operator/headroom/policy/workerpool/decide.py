"""One pass of the worker policy: facts, limits and memory in; a decision and the next memory out."""

import math
from dataclasses import dataclass, replace

from headroom.model.queue import QueueSample
from headroom.policy.workerpool.budget import ConnectionFacts
from headroom.policy.workerpool.chain import decide_allowed
from headroom.policy.workerpool.chain_input import ChainInput, Decision, SignalGap
from headroom.policy.workerpool.conflict import Conflict
from headroom.policy.workerpool.history import PoolHistory
from headroom.policy.workerpool.limits import ScalingLimits
from headroom.policy.workerpool.rates import Estimates, estimate
from headroom.policy.workerpool.wanted import Demand, Wanted, decide_wanted
from headroom.policy.workerpool.window import Observation, intervals


@dataclass(frozen=True, slots=True)
class Facts:
    """What a pass gathered; `now` is monotonic seconds.

    `present` is the count asked for, `existing` the pods there are, `capacity_workers` those that are ready or will be
    in time. Exactly one of `sample` and `gap` is there.
    """

    now: float
    present: int
    existing: int
    capacity_workers: int
    lead_time_seconds: float
    sample: QueueSample | None = None
    gap: SignalGap | None = None
    conflict: Conflict | None = None
    connections: ConnectionFacts | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a pass decided, what it knew, and what the next one must remember."""

    decision: Decision
    estimates: Estimates
    history: PoolHistory
    demand: Demand | None = None
    wanted: Wanted | None = None


def decide_workers(limits: ScalingLimits, facts: Facts, history: PoolHistory) -> Outcome:
    """Decide how many workers there should be now."""
    sample = facts.sample
    if sample is not None:
        slots = facts.existing * limits.concurrency
        history = history.seen(Observation(sample, slots), limits.target_lag_seconds)
    estimates = estimate(
        intervals(history.window),
        last_good_rate=history.last_good_rate,
        expected_job_seconds=limits.expected_job_seconds,
    )
    history = history.learned(estimates.measured_rate, facts.now)
    demand = wanted = None
    if sample is not None:
        demand = _demand(limits, facts, sample, estimates, history)
        wanted = decide_wanted(demand)
        if not wanted.is_lower_bound:
            history = replace(history, wants=history.wants.add(facts.now, wanted.workers, limits.down_window_seconds))
    chain_input = ChainInput(
        now=facts.now,
        present=facts.present,
        limits=limits,
        history=history,
        estimates=estimates,
        lead_time_seconds=facts.lead_time_seconds,
        demand=demand,
        wanted=wanted,
        gap=facts.gap,
        conflict=facts.conflict,
        connections=facts.connections,
    )
    return Outcome(decide_allowed(chain_input), estimates, history, demand, wanted)


def drain_seconds(outcome: Outcome, workers: int, concurrency: int) -> float | None:
    """Time until the backlog is gone with so many workers: Q / (n c m - a); None when it grows or is not known."""
    demand, rate = outcome.demand, outcome.estimates.service_rate
    if demand is None or rate is None:
        return None
    if demand.backlog == 0:
        return 0.0
    spare = workers * concurrency * rate - (demand.arrivals or 0.0)
    return demand.backlog / spare if spare > 0 else None


def _demand(
    limits: ScalingLimits, facts: Facts, sample: QueueSample, estimates: Estimates, history: PoolHistory
) -> Demand:
    return Demand(
        lag_seconds=sample.lag_seconds,
        backlog=sample.backlog,
        late=sample.late,
        in_flight=min(sample.in_flight or 0, facts.existing * limits.concurrency),
        due_soon=sample.due_soon,
        arrivals=estimates.arrivals_per_second,
        arrivals_age_seconds=estimates.arrivals_age_seconds,
        arrivals_growth=estimates.arrivals_growth,
        service_rate=estimates.service_rate,
        late_for_seconds=history.late_for_seconds(facts.now),
        capacity_workers=facts.capacity_workers,
        lead_time_seconds=facts.lead_time_seconds,
        target_lag_seconds=limits.target_lag_seconds,
        drain_within_seconds=limits.drain_within_seconds,
        concurrency=limits.concurrency,
        present=facts.present,
        since_start_seconds=_since_start(history, facts.now),
    )


def _since_start(history: PoolHistory, now: float) -> float:
    starts = [move.at for move in history.moves if move.after > move.before]
    return now - max(starts) if starts else math.inf
