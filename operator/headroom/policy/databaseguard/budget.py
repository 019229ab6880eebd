"""The connection budget of a server: what all WorkerPools together may hold, and each pool's part of it.

It is computed once for each server and pass. The same number is obeyed, shown and exported.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

from headroom.model.conditions import Finding
from headroom.model.database import Allocation, ConnectionBudget, ConnectionCounts, PoolDemand
from headroom.reasons import Reason

OTHERS_QUANTILE = 0.95
OTHERS_SECONDS = 3600.0
OTHERS_EVERY_SECONDS = 10.0


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

    def high(self) -> int | None:
        """The 95th percentile (nearest rank); None before the first count."""
        if not self.counts:
            return None
        ordered = sorted(count for _, count in self.counts)
        return ordered[max(0, math.ceil(OTHERS_QUANTILE * len(ordered)) - 1)]


def merge_limits(limits: Sequence[ConnectionLimits]) -> ConnectionLimits:
    """The smallest share, the largest reserve and the smallest pooler of all guards on one server; at least one."""
    pools = [limit.pool_size for limit in limits if limit.pool_size is not None]
    share, reserve = min(limit.share_percent for limit in limits), max(limit.reserve for limit in limits)
    return ConnectionLimits(share, reserve, min(pools, default=None))


def count_others(counts: ConnectionCounts, demands: Iterable[PoolDemand], limits: ConnectionLimits) -> int:
    """Connections in use that our pools do not hold; through a pooler they hold at most its size."""
    held = sum(demand.running * demand.connections_per_worker for demand in demands)
    if limits.pool_size is not None:
        held = min(held, limits.pool_size)
    return max(0, counts.used - held)


def decide_budget(counts: ConnectionCounts, others: int, limits: ConnectionLimits) -> ConnectionBudget:
    """min(share of the usable, usable - others), and behind a pooler at most its size.

    `others` is the 95th percentile of an hour. Usable is what the server offers ordinary roles, less the reserve.
    """
    usable = max(0, counts.limit - limits.reserve)
    share = max(0, min(usable * limits.share_percent // 100, usable - others))
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


def allocate(budget: int, demands: Iterable[PoolDemand]) -> Mapping[str, Allocation]:
    """Share the budget among the pools of a server, by uid; the sum never exceeds the budget.

    Four layers are filled one after the other, each by rank: the minimum of every pool, its busy workers, one worker
    for each pool that wants any, and what its queue asks for. The rest is headroom, by rank too, so that a pool can
    grow before its next demand arrives. Within a class, workers that run come first, then the smaller pools grow
    (max-min fairness over workers). The result is a fixed point: pools that run what they were given get the same.
    """
    ordered = sorted(demands, key=lambda demand: (demand.rank, demand.uid))
    shares = [_Share(demand, max(0, budget)) for demand in ordered]
    left = max(0, budget)
    for layer in _LAYERS:
        for _, members in groupby(shares, key=lambda share: share.demand.rank):
            left = _fill(list(members), layer, left)
    held = sum(demand.running * demand.connections_per_worker for demand in ordered)
    return {
        share.demand.uid: Allocation(
            workers=share.workers,
            budget=max(0, budget),
            held_by_others=held - share.demand.running * share.demand.connections_per_worker,
        )
        for share in shares
    }


class _Share:
    """What one pool has been given so far; `most` is what the whole budget would be for it alone."""

    __slots__ = ("demand", "most", "size", "workers")

    def __init__(self, demand: PoolDemand, budget: int) -> None:
        self.demand, self.workers = demand, 0
        self.size = max(1, demand.connections_per_worker)
        self.most = budget // self.size

    def up_to(self, target: int) -> int:
        """The count within the budget, and not below what was given."""
        return max(self.workers, min(target, self.most))


_Layer = Callable[[_Share], int]
_LAYERS: tuple[_Layer, ...] = (
    lambda share: share.demand.minimum,
    lambda share: share.demand.busy,
    lambda share: min(1, share.demand.wanted),
    lambda share: share.demand.wanted,
    lambda share: share.most,
)


def _fill(members: list[_Share], layer: _Layer, left: int) -> int:
    """Give one class up to its layer: first what is held, then growth. Returns the connections that are left."""
    held = {share.demand.uid: share.up_to(min(layer(share), share.demand.running)) for share in members}
    left = _raise_evenly(members, held, left)
    return _raise_evenly(members, {share.demand.uid: share.up_to(layer(share)) for share in members}, left)


def _raise_evenly(members: list[_Share], targets: Mapping[str, int], left: int) -> int:
    """Raise the lowest first, up to each one's target; a pool whose next worker does not fit is passed over."""
    growing = [share for share in members if share.workers < targets[share.demand.uid]]
    while growing:
        level = _find_level(growing, targets, left)
        for share in growing:
            left -= share.size * (_at_level(share, targets, level) - share.workers)
            share.workers = _at_level(share, targets, level)
        growing = [share for share in growing if share.workers < targets[share.demand.uid]]
        # The next level does not fit as a whole, so at least one of these is passed over and the loop ends.
        for share in [share for share in growing if share.workers == level]:
            if share.size <= left:
                left -= share.size
                share.workers += 1
            else:
                growing.remove(share)
        growing = [share for share in growing if share.workers < targets[share.demand.uid]]
    return left


def _at_level(share: _Share, targets: Mapping[str, int], level: int) -> int:
    return max(share.workers, min(level, targets[share.demand.uid]))


def _find_level(growing: list[_Share], targets: Mapping[str, int], left: int) -> int:
    """The highest level that all of them can be raised to with the connections that are left."""
    low, high = min(share.workers for share in growing), max(targets[share.demand.uid] for share in growing)
    while low < high:
        middle = (low + high + 1) // 2
        cost = sum(share.size * (_at_level(share, targets, middle) - share.workers) for share in growing)
        low, high = (middle, high) if cost <= left else (low, middle - 1)
    return low
