"""The connection budget of a server: what all WorkerPools of a namespace together may hold, and each pool's part of it.

It is computed once for each guard and pass. The same number is obeyed, shown and exported.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

from headroom.model.conditions import Finding
from headroom.model.database import Allocation, ConnectionBudget, ConnectionCounts, PoolDemand
from headroom.model.frozen import FrozenMap
from headroom.model.moments import FIRST_SIGHT_SECONDS
from headroom.policy.databaseguard.allocation import GroupLimit, allocate
from headroom.policy.databaseguard.limits import (
    ConnectionLimits,
    bound_budget,
    find_database_limits,
    find_role_limits,
    merge_limits,
)
from headroom.policy.databaseguard.others import OthersHistory, WorkloadConnections
from headroom.policy.databaseguard.use import UseHistory
from headroom.reasons import Reason

COUNTED_WITHIN_SECONDS = 60.0
"""Pools count their pods within seconds. One that cannot does not hold up the others for longer."""


@dataclass(frozen=True, slots=True)
class ConnectionPlan:
    """The budget of one pass and its parts by pool uid, and what the next pass needs of it.

    `counted_since` is when this process first counted. `allocations` were made from `shared`, `demands`, `poolers` and
    `groups`: the budget of all pools without the guard's own pooler, and what roles and databases allow. `use` is what
    workers were measured to take; the demands have it. While `is_settled` is false, nobody is asked to give anything
    back: what pools hold is not all known yet.
    """

    budget: ConnectionBudget
    allocations: FrozenMap[str, Allocation]
    history: OthersHistory
    counted_since: float
    shared: int = 0
    demands: tuple[PoolDemand, ...] = ()
    poolers: FrozenMap[str, int] = field(default_factory=FrozenMap)
    is_settled: bool = True
    groups: tuple[GroupLimit, ...] = ()
    use: UseHistory = field(default_factory=UseHistory)


def plan_connections(
    own_guard: str,
    counts: ConnectionCounts,
    limits: Mapping[str, ConnectionLimits],
    demands: Sequence[PoolDemand],
    *,
    now: float,
    previous: ConnectionPlan | None,
) -> ConnectionPlan:
    """Plan one pass of a guard; `now` is monotonic seconds, `previous` the last plan of this process, if there is one.

    `limits` are those of the guards of one namespace on one server, by name and with `own_guard` among them; `demands`
    are those of that namespace's pools there. Connections of a workload that no pool had when others were counted are
    taken out of that count now. Terminating workers are not among the others: their pool holds their connections.

    Others that have just come leave no room to grow. Only those that stay take anything away: an API that is rolled out
    holds its connections twice for a minute, and workers that end keep theirs until their job is done.
    """
    history, use, since = OthersHistory(), UseHistory(), now
    if previous is not None:
        history, use, since = previous.history, previous.use, previous.counted_since
    is_settled = (previous is not None and previous.is_settled) or _is_settled(demands, now - since)
    poolers = FrozenMap((name, limit.pool_size) for name, limit in limits.items() if limit.pool_size is not None)
    use = use.observe(now, counts.roles, demands)
    demands = use.measure(demands, now)
    held = count_held(demands, poolers)
    history = _observe_others(history, counts, demands, poolers, now=now, is_settled=is_settled)
    high, merged = history.high(), merge_limits(limits.values())
    kept = 0 if high is None else min(held, decide_budget(counts, high, merged).budget)
    others, own = max(high or 0, counts.used - held, 0), limits[own_guard]
    shared = decide_budget(counts, others, merged, kept=kept)
    budget = decide_budget(counts, others, replace(merged, pool_size=own.pool_size), kept=kept)
    count = partial(count_held, poolers=poolers)
    databases = find_database_limits(counts, limits, demands, count)
    plan = ConnectionPlan(
        budget=bound_budget(budget, own.database, databases.get(own.database)),
        allocations=FrozenMap(),
        history=history,
        counted_since=since,
        shared=shared.budget,
        demands=demands,
        poolers=poolers,
        is_settled=is_settled,
        groups=(*find_role_limits(counts, demands, count), *databases.values()),
        use=use,
    )
    return replace(plan, allocations=_allocate(plan, previous))


def _observe_others(
    history: OthersHistory,
    counts: ConnectionCounts,
    demands: Sequence[PoolDemand],
    poolers: Mapping[str, int],
    *,
    now: float,
    is_settled: bool,
) -> OthersHistory:
    workloads = _count_workloads(demands)
    # Without the workers that start: the server may not count them yet, and then others would seem to be fewer.
    history = history.without(workloads, max(0, counts.used - count_connected(demands, poolers)))
    if not is_settled:
        return history
    return history.observe(now, max(0, counts.used - count_held(demands, poolers)), workloads)


def _is_settled(demands: Iterable[PoolDemand], seconds: float) -> bool:
    """Whether a process that has counted for so long knows what is ours.

    Pools post a demand at least every 5 s, and count the pods that terminate soon after. What is not known of theirs
    looks like others'.
    """
    if seconds >= COUNTED_WITHIN_SECONDS:
        return True
    return seconds >= FIRST_SIGHT_SECONDS and all(demand.is_counted for demand in demands)


def _allocate(plan: ConnectionPlan, previous: ConnectionPlan | None) -> FrozenMap[str, Allocation]:
    """Each pool's part. Until all pools had time to post their demand, nobody is asked to give anything back."""
    if previous is not None and _inputs(plan) == _inputs(previous):
        return previous.allocations
    made = allocate(plan.shared, plan.demands, pool_sizes=plan.poolers, limits=plan.groups)
    is_cut = any(made[demand.uid].workers < demand.running for demand in plan.demands)
    return FrozenMap() if is_cut and not plan.is_settled else FrozenMap(made)


def _inputs(plan: ConnectionPlan) -> object:
    return plan.shared, plan.is_settled, plan.poolers, plan.demands, plan.groups


def count_held(demands: Iterable[PoolDemand], poolers: Mapping[str, int]) -> int:
    """Connections that our pools hold; those of a guard with a pooler hold at most its size."""
    return _sum_up(((demand.guard, demand.workload or demand.uid, demand.held) for demand in demands), poolers)


def count_connected(demands: Iterable[PoolDemand], poolers: Mapping[str, int]) -> int:
    """Those of them that the server certainly counts."""
    return _sum_up(((demand.guard, demand.workload or demand.uid, demand.connected) for demand in demands), poolers)


def _count_workloads(demands: Iterable[PoolDemand]) -> dict[str, WorkloadConnections]:
    """Connections of each workload; two pools that claim one hold them once."""
    found: dict[str, list[PoolDemand]] = {}
    for demand in demands:
        if demand.workload is not None:
            found.setdefault(demand.workload, []).append(demand)
    return {workload: _merge_claims(claims) for workload, claims in found.items()}


def _merge_claims(claims: Sequence[PoolDemand]) -> WorkloadConnections:
    is_counted = all(demand.is_counted for demand in claims)
    possible = max(demand.possible for demand in claims) if is_counted else None
    return WorkloadConnections(max(demand.connected for demand in claims), possible)


def _sum_up(numbers: Iterable[tuple[str, str, int]], poolers: Mapping[str, int]) -> int:
    """The sum of connections by guard and workload. Two pools that claim one workload hold its connections once."""
    largest: dict[str, tuple[int, str]] = {}
    for guard, workload, number in numbers:
        largest[workload] = max(largest.get(workload, (0, guard)), (number, guard))
    sums: dict[str, int] = {}
    for number, guard in largest.values():
        sums[guard] = sums.get(guard, 0) + number
    return sum(min(number, poolers.get(guard, number)) for guard, number in sums.items())


def decide_budget(
    counts: ConnectionCounts, others: int, limits: ConnectionLimits, *, kept: int = 0
) -> ConnectionBudget:
    """min(share of the usable, usable - others) or what may be `kept`, and behind a pooler at most its size.

    Usable is what the server offers ordinary roles, less the reserve.
    """
    usable = max(0, counts.limit - limits.reserve)
    share = max(kept, min(usable * limits.share_percent // 100, usable - others), 0)
    budget = share if limits.pool_size is None else min(limits.pool_size, share)
    used_percent = 100.0 * counts.used / usable if usable else 100.0
    return ConnectionBudget(counts.used, usable, budget, used_percent, _find_large_pooler(limits.pool_size, share))


def _find_large_pooler(pool_size: int | None, share: int) -> Finding | None:
    if pool_size is None or pool_size <= share:
        return None
    message = (
        f"connection.via.poolSize is {pool_size}, and the server has {share} connections for workers: that number "
        "counts; lower poolSize, or raise max_connections"
    )
    return Finding(Reason.POOL_LARGER_THAN_SERVER, message)
