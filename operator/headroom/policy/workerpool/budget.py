"""The connection budget: how many workers the database has connections for."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from headroom.policy.workerpool.constants import DEFAULT_RESERVE, DEFAULT_WORKER_SHARE_PERCENT, OTHERS_QUANTILE


@dataclass(frozen=True, slots=True)
class ConnectionFacts:
    """Connections of the database that the workers work on.

    `limit` is what ordinary roles may open, `others` the p95 of the last hour of all that no pool declares,
    `other_pools` what the other WorkerPools' workers may hold. `pooler_size` replaces the budget behind a pooler.
    """

    limit: int
    others: int
    other_pools: int
    share_percent: int = DEFAULT_WORKER_SHARE_PERCENT
    reserve: int = DEFAULT_RESERVE
    pooler_size: int | None = None


def budget_of(facts: ConnectionFacts) -> int:
    """Connections that all workers together may hold: min(share of usable, usable - others)."""
    if facts.pooler_size is not None:
        return facts.pooler_size
    usable = max(0, facts.limit - facts.reserve)
    return max(0, min(usable * facts.share_percent // 100, usable - facts.others))


def workers_within(facts: ConnectionFacts, present: int, connections_per_worker: int) -> int:
    """Workers one pool may have: what is free goes to who asks first; over the budget all give the same share.

    Two pools that look at the same moment must not both give way to the other, and then both grow again.
    """
    budget = budget_of(facts)
    total = present * connections_per_worker + facts.other_pools
    if total <= budget:
        return present + (budget - total) // connections_per_worker
    return present * budget // total


def high_quantile(values: Sequence[int], quantile: float = OTHERS_QUANTILE) -> int:
    """The nearest-rank quantile of counts; 0 of none."""
    if not values:
        return 0
    return sorted(values)[max(0, math.ceil(quantile * len(values)) - 1)]
