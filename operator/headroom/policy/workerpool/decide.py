"""One decision about a pool: from spec, facts and memory to what is wanted, allowed and shown, and a new memory."""

from dataclasses import dataclass, field, replace
from datetime import datetime

from headroom.api.v1alpha1.common import Mode
from headroom.api.v1alpha1.workerpool import WorkerPoolSpec
from headroom.model.database import PoolDemand
from headroom.model.moments import Moment
from headroom.model.queue import QueueSample
from headroom.policy import Outcome
from headroom.policy.schedules import ScheduleStart, find_active, find_end, find_next
from headroom.policy.workerpool.chain import decide_allowed
from headroom.policy.workerpool.chain_input import ChainInput, Rule, Sizing
from headroom.policy.workerpool.conflict import find_conflict, watch_writes
from headroom.policy.workerpool.connections import cap_workers, claim_connections, find_allocation
from headroom.policy.workerpool.constants import PROBE_SECONDS, URGENT_PROBE_SECONDS
from headroom.policy.workerpool.facts import PoolFacts, ScalingLimits, Target, limits_of
from headroom.policy.workerpool.growth import follow_growth
from headroom.policy.workerpool.hang import Hang
from headroom.policy.workerpool.heads import leave_out_stuck, watch_heads
from headroom.policy.workerpool.jobs import Failures, count_failures, find_jobs
from headroom.policy.workerpool.measure import demand_of, lead_time, measure
from headroom.policy.workerpool.memory import ForeignWrites, PoolMemory
from headroom.policy.workerpool.verdict import (
    SignalVerdict,
    Verdict,
    drain_seconds,
    evaluate_lag,
    evaluate_signal,
    is_first_sight,
)
from headroom.policy.workerpool.wanted import decide_wanted
from headroom.reasons import Reason


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolDecision:
    """All that a pass does and shows.

    `schedules` are the names of those that are active, `sizing` is there with a target. `claim` is what the pool asks
    the guard for; None without a databaseRef. `sample` is the pass's own, without the items that workers pass over. The
    next sample is due `pause_seconds` after this one. `is_settling` says that a process that has just taken over cannot
    evaluate the pool yet: status keeps what the earlier process reported. `schedule_ends` is when the schedule ends
    that raises the minimum (None: without end), `next_schedule` the next one that begins.
    """

    limits: ScalingLimits
    schedules: tuple[str, ...]
    signal: SignalVerdict
    keeping_up: Verdict
    pause_seconds: float
    sample: QueueSample | None = None
    sizing: Sizing | None = None
    claim: PoolDemand | None = None
    is_settling: bool = False
    failures: Failures = field(default_factory=Failures)
    hang: Hang | None = None
    schedule_ends: datetime | None = None
    next_schedule: ScheduleStart | None = None


def decide(
    spec: WorkerPoolSpec, facts: PoolFacts, memory: PoolMemory, now: Moment
) -> Outcome[PoolDecision, PoolMemory]:
    """Decide how many workers there should be now, and what to report about it."""
    active, at = find_active(spec.schedules, now.wall), now.monotonic
    limits = limits_of(spec, active)
    facts, memory = _leave_out_stuck(_keep_newest(facts, memory), limits, memory)
    memory = memory.answered(facts.signal, limits.target_lag_seconds, at)
    sizing: Sizing | None = None
    if facts.workload is not None:
        sizing, memory = _size(spec, facts, limits, memory.follow(facts.workload), now)
        limits = memory.occupancy.limit(limits)
    memory = _keep_allocation(spec, facts, memory, at)
    signal = evaluate_signal(facts, memory, at, is_duration_known=limits.expected_job_seconds is not None)
    decision = PoolDecision(
        limits=limits,
        schedules=tuple(schedule.name for schedule in active),
        signal=signal,
        keeping_up=evaluate_lag(facts, limits, memory, sizing),
        pause_seconds=_pause_seconds(facts.sample, limits),
        sample=facts.sample,
        sizing=sizing,
        claim=_claim(spec, facts, limits, memory, sizing),
        is_settling=_is_settling(memory, signal, sizing, at),
        failures=count_failures(memory, facts.sample, at),
        hang=None if facts.sample is None else memory.hang,
        schedule_ends=next((find_end(entry, now.wall) for entry in active if entry.name == limits.schedule), None),
        next_schedule=find_next(spec.schedules, now.wall),
    )
    return Outcome(decision, memory)


def _keep_newest(facts: PoolFacts, memory: PoolMemory) -> PoolFacts:
    """An answer that comes in after one to a later question is not news: the later one stands."""
    newest = memory.window[-1].sample if memory.window else None
    is_outdated = facts.sample is not None and newest is not None and facts.sample.taken_at < newest.taken_at
    return replace(facts, signal=newest) if is_outdated else facts


def _leave_out_stuck(facts: PoolFacts, limits: ScalingLimits, memory: PoolMemory) -> tuple[PoolFacts, PoolMemory]:
    """The facts without the items that the workers pass over, which no further worker would take."""
    if facts.sample is None:
        return facts, memory
    memory = replace(memory, heads=watch_heads(memory.heads, facts.sample))
    sample = leave_out_stuck(facts.sample, memory.heads, limits.target_lag_seconds)
    return replace(facts, signal=sample), memory


def _size(
    spec: WorkerPoolSpec, facts: PoolFacts, limits: ScalingLimits, memory: PoolMemory, now: Moment
) -> tuple[Sizing, PoolMemory]:
    """The count for the target, from what its queue asks for through the chain of limits."""
    at, sample, target = now.monotonic, facts.sample, facts.workload
    assert target is not None
    estimates, memory = measure(limits, target, sample, _watch_writes(spec, target, memory, at), at)
    limits = memory.occupancy.limit(limits)
    memory = replace(memory, gain=follow_growth(facts, limits, memory, estimates, at))
    demand = None if sample is None else demand_of(limits, target, sample, estimates, memory)
    wanted = None if demand is None else decide_wanted(demand)
    if wanted is not None:
        memory = memory.want(wanted.workers, at, limits.down_window_seconds, is_lower_bound=wanted.is_lower_bound)
        memory = memory if wanted.is_lower_bound else memory.spare(at, wanted.workers, target.present)
    guard = spec.database_ref
    is_active = spec.mode is Mode.ACTIVE
    cap = None if guard is None else cap_workers(facts, limits, memory, at, guard=guard.name, is_active=is_active)
    jobs = find_jobs(sample, estimates, target, limits)
    decision = decide_allowed(
        ChainInput(
            now=at,
            present=target.present,
            limits=limits,
            memory=memory,
            estimates=estimates,
            lead_time_seconds=lead_time(memory),
            demand=demand,
            wanted=wanted,
            gap=facts.gap,
            conflict=find_conflict(facts.own, facts.pools, facts.autoscalers, memory.foreign, now),
            cap=cap,
            jobs=jobs,
        )
    )
    memory = memory.cap(at, is_capped=decision.awaited > 0 or decision.limit is Rule.CONNECTION_BUDGET)
    # Pods that do not come up drain nothing.
    count = decision.expected if target.pods.stuck is None else min(decision.expected, target.pods.in_time)
    eta = None if demand is None else drain_seconds(demand, estimates, count, limits.concurrency)
    return Sizing(estimates, decision, demand, wanted, eta, cap, jobs), memory


def _watch_writes(spec: WorkerPoolSpec, target: Target, memory: PoolMemory, at: float) -> PoolMemory:
    """Compare the count with our last write. Outside of Active anybody else may write."""
    is_active = spec.mode is Mode.ACTIVE
    foreign = watch_writes(memory.foreign, target.present, at) if is_active else ForeignWrites()
    return replace(memory, foreign=foreign)


def _keep_allocation(spec: WorkerPoolSpec, facts: PoolFacts, memory: PoolMemory, at: float) -> PoolMemory:
    if spec.database_ref is None:
        return replace(memory, allocation=None)
    allocation = find_allocation(facts.database, facts.own.uid, at)
    return memory if allocation is None else replace(memory, allocation=allocation)


def _claim(
    spec: WorkerPoolSpec, facts: PoolFacts, limits: ScalingLimits, memory: PoolMemory, sizing: Sizing | None
) -> PoolDemand | None:
    """What the pool asks the guard for; a pool does not count the pods of a CronJob as workers."""
    if spec.database_ref is None or spec.workers.target_ref is None:
        return None
    decision = None if sizing is None else sizing.decision
    is_scaled = spec.mode is Mode.ACTIVE and decision is not None and decision.reason is not Reason.TARGET_CONFLICT
    wanted = None if sizing is None else sizing.wanted
    return claim_connections(
        limits,
        facts,
        memory,
        guard=spec.database_ref.name,
        allowed=decision.allowed if decision is not None and is_scaled else None,
        is_lower_bound=wanted is None or wanted.is_lower_bound,
    )


def _is_settling(memory: PoolMemory, signal: SignalVerdict, sizing: Sizing | None, at: float) -> bool:
    """True while a process that took over a reported pool lacks what it needs to evaluate it.

    A queue that was read once has no rates, and a guard needs a pass first. A verdict from less would change again some
    seconds later.
    """
    if not memory.was_reported or not is_first_sight(memory, at):
        return False
    if signal.is_early or sizing is None:
        return signal.is_early
    is_cap_unknown = sizing.cap is not None and sizing.cap.finding.reason is Reason.GUARD_NOT_READY
    return is_cap_unknown or (sizing.wanted is not None and sizing.wanted.is_lower_bound)


def _pause_seconds(sample: QueueSample | None, limits: ScalingLimits) -> float:
    is_late = sample is not None and sample.lag_seconds > limits.target_lag_seconds
    return URGENT_PROBE_SECONDS if is_late else PROBE_SECONDS
