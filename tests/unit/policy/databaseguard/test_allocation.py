"""Who gets how much of the budget: minimums, work in hand, wants, by rank; fair within a class, and a fixed point."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headroom.model.database import PoolDemand
from headroom.policy.databaseguard.budget import allocate
from tests.unit.policy.databaseguard.make import make_demand

CRITICAL, STANDARD, BACKGROUND = 0, 1, 2


def share(budget: int, *demands: PoolDemand) -> dict[str, int]:
    return {uid: allocation.workers for uid, allocation in allocate(budget, demands).items()}


def used(budget: int, demands: Sequence[PoolDemand]) -> int:
    workers = share(budget, *demands)
    return sum(workers[demand.uid] * demand.connections_per_worker for demand in demands)


def test_one_pool_may_have_all_of_it() -> None:
    assert share(32, make_demand(wanted=3)) == {"a": 32}
    assert share(32, make_demand(size=5, wanted=3)) == {"a": 6}
    assert share(0, make_demand(wanted=3, minimum=3, running=3, busy=3)) == {"a": 0}
    assert share(-5, make_demand(wanted=3)) == {"a": 0}
    assert share(32) == {}


def test_minimums_come_before_work_in_hand_and_that_before_wants() -> None:
    demands = (
        make_demand("critical", CRITICAL, minimum=2, running=10, busy=6, wanted=20),
        make_demand("background", BACKGROUND, minimum=3, running=5, busy=5, wanted=5),
    )
    assert share(2, *demands) == {"critical": 2, "background": 0}
    assert share(5, *demands) == {"critical": 2, "background": 3}
    assert share(9, *demands) == {"critical": 6, "background": 3}
    assert share(11, *demands) == {"critical": 6, "background": 5}
    assert share(20, *demands) == {"critical": 15, "background": 5}
    assert share(25, *demands) == {"critical": 20, "background": 5}
    assert share(40, *demands) == {"critical": 35, "background": 5}, "what is left is headroom, by rank"


def test_a_pool_that_wants_a_worker_gets_one_before_its_class_keeps_idle_ones() -> None:
    demands = (make_demand("a", running=10, busy=4, wanted=10), make_demand("b", wanted=10))
    assert share(10, *demands) == {"a": 9, "b": 1}


def test_work_in_hand_is_not_cut_for_a_pool_that_has_none() -> None:
    demands = (make_demand("a", running=10, busy=10, wanted=10), make_demand("b", wanted=10))
    assert share(10, *demands) == {"a": 10, "b": 0}
    assert share(10, demands[0], replace(demands[1], minimum=1)) == {"a": 9, "b": 1}, "but for a minimum it is"


def test_what_is_held_comes_first_within_a_class() -> None:
    demands = (make_demand("a", running=8, wanted=10), make_demand("b", running=1, wanted=10))
    assert share(9, *demands) == {"a": 8, "b": 1}


def test_growth_goes_to_the_smaller_pool_first() -> None:
    demands = (make_demand("a", running=8, wanted=20), make_demand("b", running=1, wanted=20))
    assert share(12, *demands) == {"a": 8, "b": 4}
    assert share(20, *demands) == {"a": 10, "b": 10}
    assert share(21, *demands) == {"a": 11, "b": 10}


def test_a_higher_class_is_served_before_a_lower_one() -> None:
    demands = (make_demand("z", CRITICAL, wanted=10), make_demand("a", STANDARD, running=10, wanted=10))
    assert share(10, *demands) == {"z": 9, "a": 1}
    assert share(12, *demands) == {"z": 10, "a": 2}


def test_a_worker_that_does_not_fit_leaves_its_place_to_smaller_ones() -> None:
    demands = (make_demand("wide", CRITICAL, size=10, wanted=3), make_demand("slim", BACKGROUND, wanted=9))
    assert share(9, *demands) == {"wide": 0, "slim": 9}
    assert share(10, *demands) == {"wide": 1, "slim": 0}
    assert share(29, *demands) == {"wide": 2, "slim": 9}


def test_a_pool_that_can_never_fit_stops_nobody() -> None:
    demands = (make_demand("huge", CRITICAL, size=100, minimum=1, wanted=5), make_demand("b", wanted=4))
    assert share(32, *demands) == {"huge": 0, "b": 32}


def test_the_message_of_a_pool_knows_the_budget_and_what_others_hold() -> None:
    made = allocate(32, (make_demand("a", size=2, running=3), make_demand("b", size=5, running=2)))
    assert (made["a"].budget, made["a"].held_by_others) == (32, 10)
    assert (made["b"].budget, made["b"].held_by_others) == (32, 6)


def test_the_order_in_which_pools_are_named_does_not_matter() -> None:
    demands = [make_demand(uid, rank, wanted=9, running=2) for uid, rank in (("a", 1), ("b", 0), ("c", 1), ("d", 2))]
    assert share(17, *demands) == share(17, *reversed(demands))


ANY_SIZE = st.integers(1, 12)


@st.composite
def pools(draw: st.DrawFn, sizes: st.SearchStrategy[int] = ANY_SIZE) -> tuple[PoolDemand, ...]:
    made = []
    for number in range(draw(st.integers(0, 6))):
        running = draw(st.integers(0, 30))
        made.append(
            PoolDemand(
                uid=f"pool-{number}",
                rank=draw(st.integers(0, 2)),
                connections_per_worker=draw(sizes),
                minimum=draw(st.integers(0, 10)),
                running=running,
                busy=draw(st.integers(0, running)),
                wanted=draw(st.integers(0, 40)),
            )
        )
    return tuple(made)


budgets = st.integers(0, 200)


@given(budgets, pools())
def test_the_sum_never_exceeds_the_budget(budget: int, demands: tuple[PoolDemand, ...]) -> None:
    assert used(budget, demands) <= budget


@given(budgets, pools())
def test_no_connection_is_left_that_a_worker_would_fit_into(budget: int, demands: tuple[PoolDemand, ...]) -> None:
    smallest = min((demand.connections_per_worker for demand in demands), default=0)
    if smallest:
        assert budget - used(budget, demands) < smallest


@given(budgets, pools())
def test_pools_that_hold_what_they_were_given_are_given_the_same(budget: int, demands: tuple[PoolDemand, ...]) -> None:
    once = share(budget, *demands)
    followed = tuple(replace(demand, running=once[demand.uid]) for demand in demands)
    assert share(budget, *followed) == once


@given(st.integers(0, 150), pools())
def test_a_larger_budget_is_used_by_more(budget: int, demands: tuple[PoolDemand, ...]) -> None:
    assert used(budget + 1, demands) >= used(budget, demands)


@given(st.integers(0, 150), st.integers(1, 40), pools(sizes=st.just(3)))
def test_a_larger_budget_takes_from_nobody_where_workers_are_alike(
    budget: int, more: int, demands: tuple[PoolDemand, ...]
) -> None:
    before, after = share(budget, *demands), share(budget + more, *demands)
    assert all(after[uid] >= workers for uid, workers in before.items())


@given(budgets, pools(sizes=st.just(1)))
def test_minimums_are_met_by_rank(budget: int, demands: tuple[PoolDemand, ...]) -> None:
    workers = share(budget, *demands)
    short = [demand.rank for demand in demands if workers[demand.uid] < demand.minimum]
    if short:
        lower = [demand for demand in demands if demand.rank > min(short)]
        assert all(workers[demand.uid] == 0 for demand in lower), "nothing for a lower class before a minimum is met"
        alike = [demand for demand in demands if demand.rank <= min(short)]
        assert all(workers[demand.uid] <= demand.minimum for demand in alike)


@given(budgets, pools(sizes=st.just(1)))
def test_no_pool_keeps_idle_workers_while_one_of_its_class_has_none(
    budget: int, demands: tuple[PoolDemand, ...]
) -> None:
    workers = share(budget, *demands)
    for starved in (demand for demand in demands if demand.wanted > 0 and workers[demand.uid] == 0):
        for other in demands:
            if other.rank == starved.rank:
                assert workers[other.uid] <= max(other.minimum, other.busy, 1)


@given(budgets, pools(sizes=st.just(1)))
def test_growth_within_a_class_is_even(budget: int, demands: tuple[PoolDemand, ...]) -> None:
    """A pool that grew has at most one worker more than one of its class that still wants to."""
    workers = share(budget, *demands)
    for one in demands:
        for other in demands:
            grew = workers[one.uid] > max(one.running, one.minimum, one.busy, 1)
            if grew and one.rank == other.rank and workers[other.uid] < other.wanted:
                assert workers[one.uid] <= workers[other.uid] + 1


@given(budgets, pools(sizes=st.just(1)))
def test_a_lower_class_gets_no_more_than_a_higher_one_leaves(budget: int, demands: tuple[PoolDemand, ...]) -> None:
    """Once a class is short of what its queues ask for, a lower one has its minimum, its work in hand, and one."""
    workers = share(budget, *demands)
    short = [demand.rank for demand in demands if workers[demand.uid] < demand.wanted]
    for demand in demands:
        if short and demand.rank > min(short):
            assert workers[demand.uid] <= max(demand.minimum, demand.busy, 1)


@given(budgets, pools(), st.randoms(use_true_random=False))
def test_it_is_deterministic(budget: int, demands: tuple[PoolDemand, ...], random: object) -> None:
    shuffled = list(demands)
    random.shuffle(shuffled)
    assert share(budget, *shuffled) == share(budget, *demands)


@pytest.mark.parametrize("number", [1, 10, 100, 1000])
def test_many_pools_are_shared_among(number: int) -> None:
    demands = [
        make_demand(f"{index:04}", index % 3, minimum=1, wanted=50, running=5, busy=2) for index in range(number)
    ]
    workers = share(5000, *demands)
    assert sum(workers.values()) == 5000
    by_rank = [{count for uid, count in workers.items() if int(uid) % 3 == rank} for rank in range(min(3, number))]
    assert all(max(counts) - min(counts) <= 1 for counts in by_rank)
    assert all(min(higher) >= min(lower) for higher, lower in pairwise(by_rank))
