"""The connection budget of a server: what all WorkerPools of a namespace together may hold, and each pool's part of it.

It is computed once for each guard and pass. The same number is obeyed, shown and exported.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from headroom.model.conditions import Finding
from headroom.model.database import Allocation, ConnectionBudget, ConnectionCounts, PoolDemand
from headroom.model.moments import FIRST_SIGHT_SECONDS
from headroom.policy.databaseguard.allocation import allocate
from headroom.reasons import Reason

OTHERS_SECONDS = 3600.0
OTHERS_EVERY_SECONDS = 10.0
BRIEF_COUNTS = round(0.05 * OTHERS_SECONDS / OTHERS_EVERY_SECONDS)
"""Counts of an hour that are above its 95th percentile. In a shorter history as many are passed over: a peak of a
minute must not become the rule for an hour because a process has just started."""


@dataclass(frozen=True, slots=True)
class ConnectionLimits:
    """What one guard asks for: the workers' share, the connections left free, and the size of its pooler."""

    share_percent: int
    reserve: int
    pool_size: int | None = None


@dataclass(frozen=True, slots=True)
class OthersHistory:
    """Connections that no pool of ours holds, counted every 10 s for an hour; monotonic seconds, oldest first."""

    counts: tuple[tuple[float, int], ...] = ()

    def observe(self, now: float, others: int) -> "OthersHistory":
        """The history with one more count, unless the last one is younger than 10 s."""
        if self.counts and now - self.counts[-1][0] < OTHERS_EVERY_SECONDS:
            return self
        kept = tuple(entry for entry in self.counts if now - entry[0] < OTHERS_SECONDS)
        return OthersHistory((*kept, (now, others)))

    def without(self, connections: int) -> "OthersHistory":
        """The history as if so many connections had been ours all the time: those of a pool that is seen now."""
        return OthersHistory(tuple((at, max(0, others - connections)) for at, others in self.counts))

    def high(self) -> int | None:
        """The count that was exceeded for 3 min at most, which is the 95th percentile of a whole hour; None before the
        first count.
        """
        ordered = sorted((count for _, count in self.counts), reverse=True)
        return ordered[min(BRIEF_COUNTS, len(ordered) - 1)] if ordered else None


@dataclass(frozen=True, slots=True)
class ConnectionPlan:
    """The budget of one pass and its parts by pool uid, and what the next pass needs of it.

    `counted_since` is when this process first counted. `allocations` were made from `shared`, `demands` and `poolers`:
    `shared` is the budget of all pools, without the guard's own pooler. While `is_settled` is false, nobody is asked to
    give anything back.
    """

    budget: ConnectionBudget
    allocations: Mapping[str, Allocation]
    history: OthersHistory
    counted_since: float
    shared: int = 0
    demands: tuple[PoolDemand, ...] = ()
    poolers: Mapping[str, int] = field(default_factory=dict)
    is_settled: bool = True


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
    are those of that namespace's pools there. Connections of a pool that is seen for the first time are taken out of
    the history, where they counted as others' until now.

    Others that have just come leave no room to grow. Only those that stay take anything away: an API that is rolled out
    holds its connections twice for a minute, and workers that end keep theirs until their job is done.
    """
    history, since = (OthersHistory(), now) if previous is None else (previous.history, previous.counted_since)
    # Pools post their demand at least every 5 s: connections of one that has not done so yet look like others'.
    is_settled = now - since >= FIRST_SIGHT_SECONDS
    poolers = {name: limit.pool_size for name, limit in limits.items() if limit.pool_size is not None}
    held = count_held(demands, poolers)
    current = max(0, counts.used - held)
    history = history.without(_count_new(previous, demands))
    if is_settled:
        history = history.observe(now, current)
    high, merged = history.high(), merge_limits(limits.values())
    kept = 0 if high is None else min(held, decide_budget(counts, high, merged).budget)
    others, own = max(high or 0, current), replace(merged, pool_size=limits[own_guard].pool_size)
    shared = decide_budget(counts, others, merged, kept=kept)
    budget = decide_budget(counts, others, own, kept=kept)
    plan = ConnectionPlan(budget, {}, history, since, shared.budget, tuple(demands), poolers, is_settled)
    return replace(plan, allocations=_allocate(plan, previous))


def _count_new(previous: ConnectionPlan | None, demands: Sequence[PoolDemand]) -> int:
    """Connections of pools that the last plan did not know."""
    if previous is None:
        return 0
    known = {demand.uid for demand in previous.demands}
    return sum(demand.running * demand.connections_per_worker for demand in demands if demand.uid not in known)


def _allocate(plan: ConnectionPlan, previous: ConnectionPlan | None) -> Mapping[str, Allocation]:
    """Each pool's part. Until all pools had time to post their demand, nobody is asked to give anything back."""
    if previous is not None and _inputs(plan) == _inputs(previous):
        return previous.allocations
    made = allocate(plan.shared, plan.demands, pool_sizes=plan.poolers)
    is_cut = any(made[demand.uid].workers < demand.running for demand in plan.demands)
    return {} if is_cut and not plan.is_settled else made


def _inputs(plan: ConnectionPlan) -> object:
    return plan.shared, plan.is_settled, plan.poolers, plan.demands


def merge_limits(limits: Iterable[ConnectionLimits]) -> ConnectionLimits:
    """The smallest share and the largest reserve of the guards of one server; a pooler is that of one guard."""
    shares, reserves = zip(*((limit.share_percent, limit.reserve) for limit in limits), strict=True)
    return ConnectionLimits(min(shares), max(reserves))


def count_held(demands: Iterable[PoolDemand], poolers: Mapping[str, int]) -> int:
    """Connections that our pools hold; those of a guard with a pooler hold at most its size."""
    held: dict[str, int] = {}
    for demand in demands:
        held[demand.guard] = held.get(demand.guard, 0) + demand.running * demand.connections_per_worker
    return sum(min(number, poolers.get(guard, number)) for guard, number in held.items())


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
