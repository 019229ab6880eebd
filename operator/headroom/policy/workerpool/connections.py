"""The database's connections: how many workers the guard allows a pool, and what the pool asks the guard for."""

import math
from dataclasses import dataclass, replace

from headroom.model.conditions import Finding
from headroom.model.database import ROUNDING, VIEW_FRESH_SECONDS, Allocation, DatabaseView, PoolDemand
from headroom.model.numbers import count_of
from headroom.policy.target_conflict import TargetId
from headroom.policy.workerpool.constants import ALLOCATION_SECONDS
from headroom.policy.workerpool.facts import PoolFacts, ScalingLimits, Target
from headroom.policy.workerpool.memory import PoolMemory
from headroom.reasons import Reason


@dataclass(frozen=True, slots=True)
class ConnectionCap:
    """Workers at most for the sake of the database, and why.

    Not `is_known` while the guard says nothing. With `is_awaited` it gave this pool all that it had asked for: a larger
    want waits for the next allocation, and that is not a shortage yet. `per_worker` are the connections of one worker,
    `seen` what one was measured to hold where that is less (0: not known).
    """

    workers: int
    finding: Finding
    per_worker: float = 1.0
    seen: float = 0.0
    is_known: bool = True
    is_awaited: bool = False


def find_allocation(database: DatabaseView | None, uid: str, now: float) -> Allocation | None:
    """What the guard allows this pool now; None while the guard has no fresh numbers, or none for this pool."""
    if database is None or not database.is_ready or now - database.observed_at > VIEW_FRESH_SECONDS:
        return None
    return database.allocations.get(uid)


def cap_workers(
    facts: PoolFacts, limits: ScalingLimits, memory: PoolMemory, now: float, *, guard: str, is_active: bool
) -> ConnectionCap:
    """The cap of this pass. Without fresh numbers the last allocation holds, and nothing grows.

    Nobody knows then whether the connections are still free, and a pool that grows could take them from the service
    that answers people. A pool that is not active is allocated what it runs; its cap is what it could have without
    taking from others.
    """
    allocation = find_allocation(facts.database, facts.own.uid, now)
    if allocation is not None:
        has_waited = memory.capped_since is not None and now - memory.capped_since >= ALLOCATION_SECONDS
        free = 0 if is_active else int(_find_free(allocation) / _per_worker(allocation, limits) + ROUNDING)
        workers = max(allocation.workers, free)
        is_awaited = is_active and not allocation.is_short and not has_waited
        finding = _describe_budget(workers, allocation, limits)
        per_worker = _per_worker(allocation, limits)
        return ConnectionCap(workers, finding, per_worker, allocation.seen, is_awaited=is_awaited)
    last, present = memory.allocation, 0 if facts.workload is None else facts.workload.present
    workers = present if last is None else min(last.workers, present)
    per_worker = limits.connections_per_worker if last is None else _per_worker(last, limits)
    return ConnectionCap(workers, _describe_blindness(guard, facts, now), per_worker, is_known=False)


def claim_connections(
    limits: ScalingLimits,
    facts: PoolFacts,
    memory: PoolMemory,
    *,
    guard: str,
    allowed: int | None,
    is_lower_bound: bool,
) -> PoolDemand:
    """What the pool holds and wants; `allowed` is the count that is written now, None for a pool that scales nothing.

    Such a pool cannot give workers back. One whose target cannot be read holds what it held: a wrong name in the spec
    ends no worker.
    """
    target = facts.workload
    running = memory.running if target is None else target.running
    terminating = memory.terminating if target is None else target.pods.terminating
    present = running if target is None else target.present
    is_seen = target is not None or running + terminating > 0
    demand = PoolDemand(
        uid=facts.own.uid,
        rank=limits.rank,
        connections_per_worker=limits.connections_per_worker,
        minimum=min(limits.min_workers, present),
        running=running,
        busy=running,
        wanted=present,
        maximum=running,
        guard=guard,
        ready=running if target is None else min(target.pods.ready, running),
        terminating=terminating,
        workload=_name_workload(facts.own.target) if is_seen else None,
        started=running if target is None else min(target.pods.running, running),
        is_counted=target is None or target.pods.is_counted,
        role=limits.role,
    )
    if allowed is None or target is None:
        return demand
    asked = _count_asked(target, memory, is_lower_bound=is_lower_bound)
    return replace(
        demand,
        minimum=limits.min_workers,
        running=max(running, allowed),
        busy=_busy_workers(target, facts, limits, running),
        wanted=min(max(asked, limits.min_workers), limits.max_workers),
        maximum=limits.max_workers,
    )


def _name_workload(target: TargetId | None) -> str | None:
    return None if target is None else f"{target.group}/{target.kind}/{target.name}"


def _count_asked(target: Target, memory: PoolMemory, *, is_lower_bound: bool) -> int:
    """What the queue wants; what the effectiveness gate leaves unused is for other pools."""
    asked = target.present if memory.wanted is None else memory.wanted
    if is_lower_bound:
        asked = max(asked, target.present)
    return asked if memory.gain.freeze is None else min(asked, memory.gain.freeze.allowed)


def _find_free(allocation: Allocation) -> int:
    """Connections of the budget that the pool's own workers use or could use."""
    return allocation.budget - allocation.held_by_others - allocation.terminating


def _per_worker(allocation: Allocation, limits: ScalingLimits) -> float:
    """Connections of one worker: what was measured where that is more than the spec says."""
    return max(allocation.per_worker, limits.connections_per_worker)


def _busy_workers(target: Target, facts: PoolFacts, limits: ScalingLimits, running: int) -> int:
    """Workers that handle a job now; all of them while that is not known, since a busy one must not count as idle."""
    in_flight = None if facts.sample is None else facts.sample.in_flight
    if in_flight is None:
        return running
    return min(math.ceil(in_flight / limits.concurrency), target.pods.running)


def _describe_budget(workers: int, allocation: Allocation, limits: ScalingLimits) -> Finding:
    is_enough = workers >= limits.min_workers
    reason = Reason.CONNECTION_BUDGET if is_enough else Reason.BUDGET_BELOW_MINIMUM
    owner, others = "the database", "other pools hold"
    if allocation.is_pooled:
        owner, others = "the pooler of the database", "other pools behind it hold"
    if allocation.limited:
        owner, others = allocation.limited, "other pools of it hold"
    terminating = f" terminating workers {allocation.terminating}," if allocation.terminating else ""
    message = (
        f"{owner} has {count_of(allocation.budget, 'connection')} for workers; {others} {allocation.held_by_others},"
        f"{terminating} and one worker takes {_per_worker(allocation, limits):.3g}"
    )
    if allocation.per_worker > limits.connections_per_worker:
        message += f" as measured (connectionsPerWorker is {limits.connections_per_worker})"
    if not is_enough:
        needed = math.ceil(limits.min_workers * _per_worker(allocation, limits) - ROUNDING)
        message += f"; minWorkers is {limits.min_workers} and needs {needed}: lower it to {workers}, or raise the share"
    if allocation.ahead:
        message += f"; pools of a higher priority come first, with {allocation.ahead}"
    return Finding(reason, message)


def _describe_blindness(guard: str, facts: PoolFacts, now: float) -> Finding:
    database = facts.database
    if not facts.has_guard:
        return Finding(Reason.GUARD_NOT_FOUND, f"no workers are added: there is no DatabaseGuard {guard}")
    if database is None:
        why = "it has not been observed yet"
    elif not database.is_ready:
        why = database.finding.message or str(database.finding.reason)
    elif now - database.observed_at > VIEW_FRESH_SECONDS:
        why = "its last numbers are old"
    else:
        why = "it has allocated none to this pool yet"
    message = f"no workers are added: dbg/{guard} cannot say how many connections are free ({why})"
    return Finding(Reason.GUARD_NOT_READY, message)
