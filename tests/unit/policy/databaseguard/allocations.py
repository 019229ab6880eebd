"""Allocations as numbers, pools that follow them, the layers once more in their plainest form, and random pools."""

from collections.abc import Callable, Sequence
from dataclasses import replace

from hypothesis import strategies as st

from headroom.model.database import PoolDemand
from headroom.policy.databaseguard.allocation import allocate
from tests.unit.policy.databaseguard.make import make_demand

CRITICAL, STANDARD, BACKGROUND = 0, 1, 2
RANKS = 3
MOST_ROUNDS = RANKS + 1
LAYERS: tuple[Callable[[PoolDemand], int], ...] = (
    lambda demand: min(demand.minimum, demand.running),
    lambda demand: demand.busy,
    lambda demand: demand.minimum,
    lambda demand: min(1, demand.wanted),
    lambda demand: demand.wanted,
    lambda demand: demand.running,
)


def share(budget: int, *demands: PoolDemand, **more: object) -> dict[str, int]:
    return {uid: allocation.workers for uid, allocation in allocate(budget, demands, **more).items()}


def follow(demands: Sequence[PoolDemand], workers: dict[str, int]) -> tuple[PoolDemand, ...]:
    """All pools run at once what they were given, and workers that terminated are gone."""
    return tuple(replace(demand, running=workers[demand.uid], terminating=0) for demand in demands)


def settle(budget: int, *demands: PoolDemand, **more: object) -> tuple[dict[str, int], int]:
    """What pools run that follow their allocations until nothing changes, and after how many rounds that is so."""
    workers = share(budget, *demands, **more)
    for number in range(20):
        demands = follow(demands, workers)
        after = share(budget, *demands, **more)
        if after == workers:
            return workers, number
        workers = after
    raise AssertionError("the allocations never settle")


def settled(budget: int, *demands: PoolDemand, **more: object) -> dict[str, int]:
    return settle(budget, *demands, **more)[0]


def used(demands: Sequence[PoolDemand], workers: dict[str, int]) -> int:
    return sum(workers[demand.uid] * demand.connections_per_worker for demand in demands)


def held(demands: Sequence[PoolDemand]) -> int:
    return sum(demand.held for demand in demands)


def held_at_most(demands: Sequence[PoolDemand], workers: dict[str, int]) -> int:
    """Connections while those that may grow have done so, and the others have not given anything back yet."""
    most = {demand.uid: max(demand.running, workers[demand.uid]) + demand.terminating for demand in demands}
    return used(demands, most)


def needed(demand: PoolDemand) -> int:
    return min(max(demand.minimum, demand.busy, demand.wanted), demand.maximum)


ANY_SIZE = st.integers(1, 12)


@st.composite
def pools(draw: st.DrawFn, sizes: st.SearchStrategy[int] = ANY_SIZE, least: int = 0) -> tuple[PoolDemand, ...]:
    """Pools that run anything up to their maximum, some with workers that terminate; one in four scales nothing."""
    made, common = [], draw(sizes)
    for number in range(draw(st.integers(least, 6))):
        maximum = draw(st.integers(1, 40))
        running = draw(st.integers(0, maximum))
        is_fixed = draw(st.integers(0, 3)) == 0
        made.append(
            make_demand(
                f"pool-{number}",
                draw(st.integers(0, RANKS - 1)),
                draw(sizes) if sizes is ANY_SIZE else common,
                minimum=draw(st.integers(0, min(10, running if is_fixed else maximum))),
                running=running,
                busy=running if is_fixed else draw(st.integers(0, running)),
                wanted=running if is_fixed else draw(st.integers(0, maximum)),
                maximum=running if is_fixed else maximum,
                terminating=draw(st.sampled_from([0, 0, 0, 1, 7])),
            )
        )
    return tuple(made)


budgets = st.integers(0, 200)
alike = pools(sizes=st.integers(1, 5))
