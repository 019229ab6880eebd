"""What bounds the connections of workers beside the server itself: guards' specs, and the CONNECTION LIMITs of roles
and databases.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from headroom.model.conditions import Finding
from headroom.model.database import ConnectionBudget, ConnectionCounts, LimitedConnections, PoolDemand
from headroom.policy.databaseguard.allocation import GroupLimit
from headroom.reasons import Reason

Count = Callable[[Iterable[PoolDemand]], int]
"""How many connections some pools hold."""


@dataclass(frozen=True, slots=True)
class ConnectionLimits:
    """What one guard asks for: the workers' share, the connections left free, and the size of its pooler.

    `database` is the one that the guard logs in to, where its pools are.
    """

    share_percent: int
    reserve: int
    pool_size: int | None = None
    database: str = ""


def merge_limits(limits: Iterable[ConnectionLimits]) -> ConnectionLimits:
    """The smallest share and the largest reserve of the guards of one server; a pooler is that of one guard."""
    shares, reserves = zip(*((limit.share_percent, limit.reserve) for limit in limits), strict=True)
    return ConnectionLimits(min(shares), max(reserves))


def find_role_limits(counts: ConnectionCounts, demands: Iterable[PoolDemand], count: Count) -> Sequence[GroupLimit]:
    """What the pools of each role with a CONNECTION LIMIT may hold together: the limit, less what others hold as it."""
    groups = _group(demands, lambda demand: demand.role)
    limited = ((role, pools, counts.roles.get(role)) for role, pools in groups.items())
    return [
        _limit(f"role {quote_name(role)}", found, found.limit, pools, count(pools))
        for role, pools, found in limited
        if found is not None and found.limit is not None
    ]


def find_database_limits(
    counts: ConnectionCounts, limits: Mapping[str, ConnectionLimits], demands: Iterable[PoolDemand], count: Count
) -> Mapping[str, GroupLimit]:
    """By name, what the pools in each database with a CONNECTION LIMIT may hold together; `limits` are by guard.

    Share and reserve apply to a database as they do to a server, because a service that answers people uses it too.
    """
    merged, found = merge_limits(limits.values()), {}
    groups = _group(demands, lambda demand: limits[demand.guard].database if demand.guard in limits else None)
    for name in {limit.database for limit in limits.values()}:
        database, pools = counts.databases.get(name), groups.get(name, [])
        if database is not None and database.limit is not None:
            usable = max(0, database.limit - merged.reserve)
            share = usable * merged.share_percent // 100
            limit = _limit(f"database {quote_name(name)}", database, usable, pools, count(pools))
            found[name] = replace(limit, size=min(limit.size, share))
    return found


def bound_budget(budget: ConnectionBudget, database: str, limit: GroupLimit | None) -> ConnectionBudget:
    """The budget of a guard, and why it is smaller where its database allows less."""
    if limit is None or limit.size >= budget.budget:
        return budget
    message = (
        f"{limit.name} leaves {limit.size} connections for workers; if that is too few, run: ALTER DATABASE "
        f"{quote_name(database)} CONNECTION LIMIT with a larger number"
    )
    return replace(budget, budget=limit.size, finding=Finding(Reason.DATABASE_CONNECTION_LIMIT, message))


def quote_name(name: str) -> str:
    """A role's or a database's name as SQL has it."""
    return '"' + name.replace('"', '""') + '"'


def _limit(name: str, found: LimitedConnections, usable: int, pools: Iterable[PoolDemand], held: int) -> GroupLimit:
    """What is left by others. They take no worker that runs: nobody knows yet whether they stay."""
    others = max(0, found.used - held)
    size = max(usable - others, min(held, usable))
    return GroupLimit(f"{name} (CONNECTION LIMIT {found.limit})", frozenset(pool.uid for pool in pools), size)


def _group(demands: Iterable[PoolDemand], key: Callable[[PoolDemand], str | None]) -> dict[str, list[PoolDemand]]:
    groups: dict[str, list[PoolDemand]] = {}
    for demand in demands:
        name = key(demand)
        if name is not None:
            groups.setdefault(name, []).append(demand)
    return groups
