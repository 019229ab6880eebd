"""Each pool's part of a connection budget: a cap in workers, by need and priority, never by who asks first.

A cap is obeyed at once and is not stepped. So it takes nothing away for the sake of somebody's headroom, and it hands
out only connections that nobody holds.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

from headroom.model.database import Allocation, PoolDemand
from headroom.model.frozen import FrozenMap

NO_POOLERS: FrozenMap[str, int] = FrozenMap()
UNITS = 1_000_000
"""Parts of a connection: what a worker takes on average is not a whole number, and sums must be exact."""


@dataclass(frozen=True, slots=True)
class GroupLimit:
    """Connections that the pools of one role, or in one database, may hold together; `name` is for messages."""

    name: str
    uids: frozenset[str]
    size: int


def allocate(
    budget: int,
    demands: Iterable[PoolDemand],
    *,
    pool_sizes: Mapping[str, int] = NO_POOLERS,
    limits: Sequence[GroupLimit] = (),
) -> Mapping[str, Allocation]:
    """Share the budget among the pools of a server, by uid; the sum never exceeds the budget.

    The layers of `_LAYERS` are filled one after the other, each by rank, and what is left is headroom: as many workers
    more for each pool, whatever its class. Within a class, workers that run come first, then the smaller pools grow
    (max-min fairness over workers). That is what each pool may have in the end. Until others have given back their
    part it may grow only into free connections, which are the budget less all that is held, by terminating workers
    too. `pool_sizes` are those of the poolers, by guard, and `limits` those of roles and databases: each bounds its
    pools together. What a pool may not use yet (`limit_now`) is kept for it: a lower class that grew into it would not
    give it back while its jobs last. Pools that run what they were given are given the same.
    """
    shares = [_Share(demand) for demand in sorted(demands, key=lambda demand: (demand.rank, demand.uid))]
    budget = max(0, budget)
    groups = tuple(_find_groups(shares, budget, pool_sizes, limits))
    for group in groups:
        _share_out(group.shares, group.size)
        for share in group.shares:
            if share.group is None or share.workers < share.most_in_group:
                share.group, share.most_in_group = group, share.workers
            share.most, share.most_now = share.promised, share.workers
    _share_out(shares, budget)
    made = _describe(shares, _Group(shares, budget))
    for group in groups:
        described = _describe(group.shares, group)
        bound = (share for share in group.shares if share.group is group and share.is_bound_by_group)
        made.update((share.demand.uid, described[share.demand.uid]) for share in bound)
    return made


@dataclass(frozen=True, slots=True, eq=False)
class _Group:
    """Pools that share a number of connections, and why: a pooler, or a limit of the server."""

    shares: "Sequence[_Share]"
    size: int
    is_pooled: bool = False
    limited: str = ""


def _find_groups(
    shares: "Sequence[_Share]", budget: int, pool_sizes: Mapping[str, int], limits: Sequence[GroupLimit]
) -> Iterator[_Group]:
    for guard, size in pool_sizes.items():
        if size < budget:
            yield _Group([share for share in shares if share.demand.guard == guard], size, is_pooled=True)
    for limit in limits:
        if limit.size < budget:
            members = [share for share in shares if share.demand.uid in limit.uids]
            yield _Group(members, max(0, limit.size), limited=limit.name)


class _Share:
    """What one pool has been given so far, in workers; `most` is what it may be given, `most_now` before others change.

    `goal` is the aim of the present layer, `base` the count from which growth is even. `size` is what a worker takes,
    in `UNITS`. `group` bounds it most, with `most_in_group` workers.
    """

    __slots__ = (
        "base", "demand", "goal", "group", "held", "most", "most_in_group", "most_now", "promised", "size", "workers",
    )  # fmt: skip

    def __init__(self, demand: PoolDemand) -> None:
        self.demand, self.held, self.size = demand, demand.running, max(UNITS, int(demand.per_worker * UNITS))
        self.most, self.most_now = demand.maximum, min(demand.maximum, demand.limit_now)
        self.workers, self.promised, self.goal, self.base = 0, 0, 0, 0
        self.group: _Group | None = None
        self.most_in_group = 0

    @property
    def is_bound_by_group(self) -> bool:
        return self.workers == self.most_in_group < self.asked

    @property
    def asked(self) -> int:
        demand = self.demand
        return min(max(demand.minimum, demand.wanted), demand.maximum, demand.limit_now)

    @property
    def needed(self) -> int:
        """Units that it gets for its minimum, its work and its queue, without what only is there already."""
        demand = self.demand
        return self.size * min(self.promised, max(demand.minimum, demand.busy, demand.wanted))

    @property
    def occupied(self) -> int:
        """Units that its workers take now, those that terminate too."""
        return self.size * (self.demand.running + self.demand.terminating)


_Layer = Callable[[_Share], int]
_LAYERS: tuple[_Layer, ...] = (
    lambda share: min(share.demand.minimum, share.held),
    # Before the rest of any minimum: nobody's busy worker ends for one that does not run yet.
    lambda share: share.demand.busy,
    lambda share: share.demand.minimum,
    # A pool that wants any worker gets one before others of its class get all that they want.
    lambda share: min(1, share.demand.wanted),
    lambda share: share.demand.wanted,
    # Idle workers stay unless somebody has work for their connections; the lowest class gives first.
    lambda share: share.held,
)


def _share_out(shares: Sequence[_Share], budget: int) -> None:
    """First what each may have in the end, then as much of it as is there already or is free."""
    units = budget * UNITS
    for share in shares:
        share.workers, share.most, share.base = 0, min(share.most, units // share.size), 0
    _fill(shares, units)
    for share in shares:
        share.promised, share.most = share.workers, min(share.workers, share.most_now)
        share.workers, share.base = min(share.most, share.held), 0
    _fill(shares, units - sum(share.occupied for share in shares))


def _fill(shares: Sequence[_Share], left: int) -> None:
    classes = [list(members) for _, members in groupby(shares, key=lambda share: share.demand.rank)]
    for layer in _LAYERS:
        for members in classes:
            if left <= 0:
                return
            for share in members:
                share.goal = min(layer(share), share.held)
            left = _raise(members, left)
            for share in members:
                share.goal = layer(share)
            left = _raise(members, left)
    for share in shares:
        share.goal, share.base = share.most, share.workers
    _raise(shares, left)


def _raise(members: Iterable[_Share], left: int) -> int:
    """Raise each to its goal, or all evenly as far as it goes. Returns the units that are left."""
    growing = []
    for share in members:
        share.goal = min(share.goal, share.most)
        if share.workers < share.goal:
            growing.append(share)
    cost = sum(share.size * (share.goal - share.workers) for share in growing)
    if cost > left:
        return _raise_evenly(growing, left)
    for share in growing:
        share.workers = share.goal
    return left - cost


def _raise_evenly(growing: list[_Share], left: int) -> int:
    """Raise the lowest first; a pool whose next worker does not fit is passed over."""
    growing = [share for share in growing if share.size <= left]
    while growing:
        level = _find_level(growing, left)
        for share in growing:
            raised = max(share.workers, min(share.base + level, share.goal))
            left -= share.size * (raised - share.workers)
            share.workers = raised
        # The next level does not fit as a whole, so after this round somebody is passed over and the loop ends.
        for share in growing:
            if share.workers == share.base + level < share.goal and share.size <= left:
                left -= share.size
                share.workers += 1
        growing = [share for share in growing if share.workers < share.goal and share.size <= left]
    return left


def _find_level(growing: Sequence[_Share], left: int) -> int:
    """The highest level that all of them can be raised to with the units that are left."""
    low, high = min(share.workers - share.base for share in growing), max(share.goal - share.base for share in growing)
    while low < high:
        middle = (low + high + 1) // 2
        cost = 0
        for share in growing:
            cost += share.size * max(0, min(share.base + middle, share.goal) - share.workers)
        low, high = (middle, high) if cost <= left else (low, middle - 1)
    return low


def _describe(shares: Sequence[_Share], group: _Group) -> dict[str, Allocation]:
    """The allocations of pools that share a budget, with what a message needs to say why."""
    held, ahead, made = sum(share.demand.held for share in shares), 0, {}
    for _, members in groupby(shares, key=lambda share: share.demand.rank):
        alike = list(members)
        for share in alike:
            demand = share.demand
            made[demand.uid] = Allocation(
                workers=share.workers,
                budget=group.size,
                held_by_others=held - demand.held,
                ahead=-(-ahead // UNITS),
                terminating=-(-demand.terminating * share.size // UNITS),
                is_short=share.promised < share.asked,
                is_pooled=group.is_pooled,
                limited=group.limited,
                per_worker=demand.measured if demand.measured > demand.connections_per_worker else 0.0,
                seen=demand.seen,
            )
        ahead += sum(share.needed for share in alike)
    return made
