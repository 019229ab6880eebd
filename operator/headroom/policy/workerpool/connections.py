"""The database's connections: how many workers the guard allows a pool, and what the pool asks the guard for."""

import math
from dataclasses import dataclass

from headroom.model.conditions import Finding
from headroom.model.database import Allocation, DatabaseView, PoolDemand
from headroom.model.numbers import count_of
from headroom.policy.workerpool.constants import GUARD_FRESH_SECONDS
from headroom.policy.workerpool.facts import PoolFacts, ScalingLimits, Target
from headroom.policy.workerpool.memory import PoolMemory
from headroom.reasons import Reason


@dataclass(frozen=True, slots=True)
class ConnectionCap:
    """Workers at most for the sake of the database, and why; not `is_known` while the guard does not tell."""

    workers: int
    finding: Finding
    is_known: bool = True


def find_allocation(database: DatabaseView | None, uid: str, now: float) -> Allocation | None:
    """What the guard allows this pool now; None while the guard has no fresh numbers, or none for this pool."""
    if database is None or not database.is_ready or now - database.observed_at > GUARD_FRESH_SECONDS:
        return None
    return database.allocations.get(uid)


def cap_workers(
    facts: PoolFacts, limits: ScalingLimits, memory: PoolMemory, now: float, *, guard: str
) -> ConnectionCap:
    """The cap of this pass. Without fresh numbers the last allocation holds, and nothing grows.

    Nobody knows then whether the connections are still free: a pool that grew would take them from the service that
    answers people.
    """
    allocation = find_allocation(facts.database, facts.own.uid, now)
    if allocation is not None:
        return ConnectionCap(allocation.workers, _describe_budget(allocation, limits))
    last, present = memory.allocation, 0 if facts.workload is None else facts.workload.present
    workers = present if last is None else min(last.workers, present)
    return ConnectionCap(workers, _describe_blindness(guard, facts, now), is_known=False)


def claim_connections(
    limits: ScalingLimits,
    facts: PoolFacts,
    memory: PoolMemory,
    *,
    is_scaled: bool,
    is_lower_bound: bool,
) -> PoolDemand:
    """What the pool holds and wants. A pool that is not scaled now, or has no target, asks for nothing more."""
    target = facts.workload
    if target is None:
        return PoolDemand(facts.own.uid, limits.rank, limits.connections_per_worker, 0, 0, 0, 0)
    running = max(target.existing, target.pods.running)
    asked = target.present if memory.wanted is None else memory.wanted
    if is_lower_bound:
        asked = max(asked, target.present)
    wanted = min(max(asked, limits.min_workers), limits.max_workers)
    return PoolDemand(
        uid=facts.own.uid,
        rank=limits.rank,
        connections_per_worker=limits.connections_per_worker,
        minimum=limits.min_workers if is_scaled else min(limits.min_workers, target.present),
        running=running,
        busy=_busy_workers(target, facts, limits, running),
        wanted=wanted if is_scaled else target.present,
    )


def _busy_workers(target: Target, facts: PoolFacts, limits: ScalingLimits, running: int) -> int:
    """Workers that handle a job now; all of them while that is not known, since a busy one must not count as idle."""
    in_flight = None if facts.sample is None else facts.sample.in_flight
    if in_flight is None:
        return running
    return min(math.ceil(in_flight / limits.concurrency), target.pods.running)


def _describe_budget(allocation: Allocation, limits: ScalingLimits) -> Finding:
    is_enough = allocation.workers >= limits.min_workers
    reason = Reason.CONNECTION_BUDGET if is_enough else Reason.BUDGET_BELOW_MINIMUM
    return Finding(
        reason,
        f"the database has {count_of(allocation.budget, 'connection')} for workers, other pools hold "
        f"{allocation.held_by_others} of them, and one worker takes {limits.connections_per_worker}",
    )


def _describe_blindness(guard: str, facts: PoolFacts, now: float) -> Finding:
    database = facts.database
    if not facts.has_guard:
        return Finding(Reason.GUARD_NOT_FOUND, f"no workers are added: there is no DatabaseGuard {guard}")
    if database is None:
        why = "it has not been observed yet"
    elif not database.is_ready:
        why = database.finding.message or str(database.finding.reason)
    elif now - database.observed_at > GUARD_FRESH_SECONDS:
        why = "its last numbers are old"
    else:
        why = "it has allocated none to this pool yet"
    message = f"no workers are added: dbg/{guard} cannot say how many connections are free ({why})"
    return Finding(Reason.GUARD_NOT_READY, message)
