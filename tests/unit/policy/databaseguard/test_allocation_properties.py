"""What holds for any pools and any budget, however the workers are shared out."""

from collections.abc import Sequence
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from headroom.model.database import PoolDemand
from tests.unit.policy.databaseguard.allocations import (
    LAYERS,
    MOST_ROUNDS,
    RANKS,
    alike,
    budgets,
    follow,
    held,
    held_at_most,
    needed,
    pools,
    settle,
    settled,
    share,
    used,
)


@given(budgets, pools())
def test_nobody_grows_into_connections_that_are_held(budget: int, demands: tuple[PoolDemand, ...]) -> None:
    workers = share(budget, *demands)
    assert held_at_most(demands, workers) <= max(budget, held(demands))


@given(budgets, pools())
def test_the_sum_never_exceeds_the_budget_and_nobody_its_maximum(budget: int, demands: tuple[PoolDemand, ...]) -> None:
    workers = share(budget, *demands)
    assert used(demands, workers) <= budget
    assert all(0 <= workers[demand.uid] <= demand.maximum for demand in demands)


@given(budgets, pools())
def test_in_the_end_no_connection_is_left_that_a_worker_would_fit_into(
    budget: int, demands: tuple[PoolDemand, ...]
) -> None:
    workers = settled(budget, *demands)
    left = budget - used(demands, workers)
    assert all(workers[demand.uid] == demand.maximum or demand.connections_per_worker > left for demand in demands)


@given(budgets, pools())
def test_pools_that_follow_soon_are_given_the_same(budget: int, demands: tuple[PoolDemand, ...]) -> None:
    workers, rounds = settle(budget, *demands)
    assert rounds < MOST_ROUNDS
    assert share(budget, *follow(demands, workers)) == workers


def layered(budget: int, demands: Sequence[PoolDemand]) -> dict[str, int]:
    """The layers without headroom, worker by worker, for pools whose workers take equally many connections."""
    workers = dict.fromkeys((demand.uid for demand in demands), 0)
    left = budget // max((demand.connections_per_worker for demand in demands), default=1)
    for layer in LAYERS:
        for rank in range(RANKS):
            members = [demand for demand in demands if demand.rank == rank]
            for goals in (
                {one.uid: min(layer(one), one.running, one.maximum) for one in members},
                {one.uid: min(layer(one), one.maximum) for one in members},
            ):
                while left > 0 and (below := [uid for uid, goal in goals.items() if workers[uid] < goal]):
                    workers[min(below, key=lambda uid: (workers[uid], uid))] += 1
                    left -= 1
    return workers


@given(budgets, alike)
def test_all_soon_have_what_the_layers_give_them(budget: int, demands: tuple[PoolDemand, ...]) -> None:
    tight = [replace(one, maximum=min(one.maximum, max(one.running, needed(one)))) for one in demands]
    workers, rounds = settle(budget, *tight)
    assert workers == layered(budget, demands)
    assert rounds < MOST_ROUNDS


@given(st.integers(0, 150), st.integers(1, 40), alike)
def test_a_larger_budget_takes_from_nobody_where_workers_are_alike(
    budget: int, more: int, demands: tuple[PoolDemand, ...]
) -> None:
    before, after = share(budget, *demands), share(budget + more, *demands)
    assert all(after[uid] >= workers for uid, workers in before.items())


@given(st.integers(0, 150), pools())
def test_a_larger_budget_is_used_by_more(budget: int, demands: tuple[PoolDemand, ...]) -> None:
    before, after = settled(budget, *demands), settled(budget + 1, *demands)
    smallest = min((demand.connections_per_worker for demand in demands), default=0)
    assert used(demands, after) >= used(demands, before) - smallest + 1 or not demands


@given(budgets, pools())
def test_headroom_costs_nobody_a_worker(budget: int, demands: tuple[PoolDemand, ...]) -> None:
    """Without headroom, each pool is bounded by what it runs or needs."""
    tight = [replace(one, maximum=min(one.maximum, max(one.running, needed(one)))) for one in demands]
    with_headroom, without = share(budget, *demands), share(budget, *tight)
    assert all(with_headroom[uid] >= workers for uid, workers in without.items())


@given(budgets, alike)
def test_minimums_are_met_by_rank(budget: int, demands: tuple[PoolDemand, ...]) -> None:
    workers = settled(budget, *demands)
    short = [demand.rank for demand in demands if workers[demand.uid] < demand.minimum]
    for demand in demands if short else ():
        minimum = demand.minimum if demand.rank <= min(short) else min(demand.minimum, demand.running)
        assert workers[demand.uid] <= max(minimum, demand.busy), "no new worker for a lower class, no want of anybody"


@given(budgets, alike)
def test_no_busy_worker_is_cut_for_one_that_does_not_run_yet(budget: int, demands: tuple[PoolDemand, ...]) -> None:
    for workers in (share(budget, *demands), settled(budget, *demands)):
        if any(workers[demand.uid] < min(demand.busy, demand.maximum) for demand in demands):
            assert all(workers[demand.uid] <= demand.running for demand in demands)


@given(budgets, alike)
def test_no_pool_keeps_idle_workers_while_one_of_its_class_has_none(
    budget: int, demands: tuple[PoolDemand, ...]
) -> None:
    workers = settled(budget, *demands)
    for starved in (demand for demand in demands if demand.wanted > 0 and workers[demand.uid] == 0):
        for other in demands:
            if other.rank == starved.rank:
                assert workers[other.uid] <= max(other.minimum, other.busy, 1)


@given(budgets, alike)
def test_growth_within_a_class_is_even(budget: int, demands: tuple[PoolDemand, ...]) -> None:
    """A pool that grew has at most one worker more than one of its class that still wants to."""
    workers = settled(budget, *demands)
    for one in demands:
        for other in demands:
            grew = workers[one.uid] > max(one.running, one.minimum, one.busy, 1)
            if grew and one.rank == other.rank and workers[other.uid] < other.wanted:
                assert workers[one.uid] <= workers[other.uid] + 1


@given(budgets, alike)
def test_a_lower_class_gets_no_more_than_a_higher_one_leaves(budget: int, demands: tuple[PoolDemand, ...]) -> None:
    """Once a class is short of what its queues ask for, a lower one has its minimum, its work in hand, and one."""
    workers = settled(budget, *demands)
    short = [demand.rank for demand in demands if workers[demand.uid] < demand.wanted]
    for demand in demands:
        if short and demand.rank > min(short):
            assert workers[demand.uid] <= max(demand.minimum, demand.busy, 1)


@given(budgets, pools(), st.randoms(use_true_random=False))
def test_it_is_deterministic(budget: int, demands: tuple[PoolDemand, ...], random: object) -> None:
    shuffled = list(demands)
    random.shuffle(shuffled)
    assert share(budget, *shuffled) == share(budget, *demands)


@given(budgets, st.integers(1, 200), pools(least=1))
def test_the_pools_of_a_pooler_stay_within_its_size(
    budget: int, pool_size: int, demands: tuple[PoolDemand, ...]
) -> None:
    demands = tuple(replace(demand, guard="ab"[index % 2]) for index, demand in enumerate(demands))
    behind = [demand for demand in demands if demand.guard == "a"]
    workers = share(budget, *demands, pool_sizes={"a": pool_size})
    assert used(behind, workers) <= pool_size
    assert held_at_most(behind, workers) <= max(pool_size, held(behind))
    assert held_at_most(demands, workers) <= max(budget, held(demands))
    assert settle(budget, *demands, pool_sizes={"a": pool_size})[1] <= MOST_ROUNDS
