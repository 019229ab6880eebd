"""How many of a server's connections there are to use, and how many of them the workers may hold together."""

from dataclasses import dataclass

from headroom.model.database import ConnectionCounts


@dataclass(frozen=True, slots=True)
class ConnectionBudget:
    """`usable` without what is reserved, `budget` for all WorkerPools together, `used_percent` of the usable now."""

    used: int
    usable: int
    budget: int
    used_percent: float


def decide_connection_budget(
    counts: ConnectionCounts, *, reserve: int, worker_share_percent: int, pool_size: int | None
) -> ConnectionBudget:
    """Share out what the server offers to ordinary roles; behind a pooler the workers' budget is its size."""
    usable = max(0, counts.limit - reserve)
    share = usable * worker_share_percent // 100
    budget = share if pool_size is None else min(pool_size, usable)
    used_percent = 100.0 * counts.used / usable if usable else 100.0
    return ConnectionBudget(counts.used, usable, budget, used_percent)
