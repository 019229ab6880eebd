"""Who gets how much of the budget: by need and rank, never from what somebody still holds, never for headroom."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headroom.model.database import Allocation, PoolDemand
from headroom.policy.databaseguard.allocation import allocate
from tests.unit.policy.databaseguard.make import make_demand

CRITICAL, STANDARD, BACKGROUND = 0, 1, 2
RANKS = 3
MOST_ROUNDS = RANKS + 1
LAYERS: tuple[Callable[[PoolDemand], int], ...] = (
    lambda demand: demand.minimum,
    lambda demand: demand.busy,
    lambda demand: min(1, demand.wanted),
    lambda demand: demand.wanted,
    lambda demand: demand.running,
)


def share(budget: int, *demands: PoolDemand, **more: object) -> dict[str, int]:
    return {uid: allocation.workers for uid, allocation in allocate(budget, demands, **more).items()}


def follow(demands: Sequence[PoolDemand], workers: dict[str, int]) -> tuple[PoolDemand, ...]:
    """All pools run at once what they were given."""
    return tuple(replace(demand, running=workers[demand.uid]) for demand in demands)


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
    return sum(demand.running * demand.connections_per_worker for demand in demands)


def needed(demand: PoolDemand) -> int:
    return min(max(demand.minimum, demand.busy, demand.wanted), demand.maximum)


def test_one_pool_may_have_all_of_it_up_to_its_maximum() -> None:
    assert share(32, make_demand(wanted=3)) == {"a": 32}
    assert share(32, make_demand(wanted=3, maximum=9)) == {"a": 9}
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
    assert share(35, *demands) == {"critical": 25, "background": 10}, "headroom is the same for all"


def test_headroom_of_a_higher_class_takes_no_idle_worker() -> None:
    """An idle Critical pool of at most two workers beside a Standard pool whose queue has just become empty."""
    demands = (
        make_demand("bills", CRITICAL, minimum=1, running=1, wanted=1, maximum=2),
        make_demand("mail", STANDARD, minimum=1, running=25, wanted=1, maximum=100),
    )
    assert share(55, *demands) == {"bills": 2, "mail": 53}
    assert share(26, *demands) == {"bills": 1, "mail": 25}


def test_headroom_goes_to_all_alike_and_never_above_a_maximum() -> None:
    demands = (
        make_demand("a", CRITICAL, running=2, wanted=2, maximum=4),
        make_demand("b", STANDARD, running=10, wanted=10),
        make_demand("c", BACKGROUND, running=3, wanted=3),
    )
    assert share(27, *demands) == {"a": 4, "b": 15, "c": 8}
    assert share(15, *replaced(demands, maximum=0)) == {"a": 0, "b": 0, "c": 0}


def replaced(demands: Sequence[PoolDemand], **fields: int) -> list[PoolDemand]:
    return [replace(demand, **fields) for demand in demands]


def test_idle_workers_of_lower_classes_yield_to_a_want_and_background_first() -> None:
    demands = (
        make_demand("critical", CRITICAL, running=10, busy=10, wanted=26),
        make_demand("standard", STANDARD, running=10, busy=2, wanted=2),
        make_demand("background", BACKGROUND, running=12, busy=3, wanted=3),
    )
    assert share(32, *demands) == {"critical": 10, "standard": 3, "background": 3}
    assert settled(32, *demands) == {"critical": 26, "standard": 3, "background": 3}
    few = (replace(demands[0], wanted=14), *demands[1:])
    assert settled(32, *few) == {"critical": 14, "standard": 10, "background": 8}


def test_what_somebody_still_holds_is_not_given_to_another() -> None:
    demands = (make_demand("bills", CRITICAL, running=2, wanted=32), make_demand("idle", BACKGROUND, running=30))
    assert share(32, *demands) == {"bills": 2, "idle": 0}
    gone = (demands[0], replace(demands[1], running=12))
    assert share(32, *gone) == {"bills": 20, "idle": 0}


def test_a_pool_that_scales_nothing_keeps_what_it_holds_and_gets_no_more() -> None:
    paused = make_demand("paused", BACKGROUND, running=30, busy=30, wanted=30, maximum=30)
    assert settled(47, make_demand("bills", CRITICAL, wanted=60), paused) == {"bills": 17, "paused": 30}
    assert settled(90, make_demand("bills", CRITICAL, wanted=20), paused) == {"bills": 60, "paused": 30}


def test_a_pool_that_wants_a_worker_gets_one_before_its_class_keeps_idle_ones() -> None:
    demands = (make_demand("a", running=10, busy=4, wanted=10), make_demand("b", wanted=10))
    assert share(10, *demands) == {"a": 9, "b": 0}
    assert settled(10, *demands) == {"a": 9, "b": 1}


def test_work_in_hand_is_not_cut_for_a_pool_that_has_none() -> None:
    demands = (make_demand("a", running=10, busy=10, wanted=10), make_demand("b", wanted=10))
    assert settled(10, *demands) == {"a": 10, "b": 0}
    assert settled(10, demands[0], replace(demands[1], minimum=1)) == {"a": 9, "b": 1}, "but for a minimum it is"


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
    assert settled(10, *demands) == {"z": 9, "a": 1}
    assert settled(12, *demands) == {"z": 10, "a": 2}


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


def test_and_what_a_higher_class_gets_first() -> None:
    made = allocate(
        40,
        (
            make_demand("a", CRITICAL, size=2, running=9, busy=1, wanted=4),
            make_demand("b", STANDARD, running=20, busy=20, wanted=50),
            make_demand("c", BACKGROUND, wanted=3),
        ),
    )
    assert [made[uid].ahead for uid in "abc"] == [0, 8, 39], "not what is idle, and not what can never be given"
    assert [made[uid].is_short for uid in "abc"] == [False, True, True]


def test_short_is_who_stays_below_what_it_asked_for() -> None:
    yields = (make_demand("bills", CRITICAL, running=2, wanted=20), make_demand("idle", BACKGROUND, running=30))
    made = allocate(32, yields)
    assert (made["bills"].workers, made["bills"].is_short) == (2, False), "what is on its way is no shortage"
    assert allocate(19, yields)["bills"].is_short
    assert not allocate(19, [replace(yields[0], maximum=12)])["bills"].is_short, "more than its maximum it cannot want"
    assert allocate(3, [make_demand("a", minimum=4)])["a"].is_short


class TestPooler:
    """A pooler bounds the pools of its own guard together, and nobody else."""

    def pools(self) -> list[PoolDemand]:
        return [
            replace(make_demand("direct", running=40, busy=40, wanted=60), guard="store"),
            replace(make_demand("one", CRITICAL, running=3, wanted=20), guard="pooled"),
            replace(make_demand("two", running=2, wanted=20), guard="pooled"),
        ]

    def test_only_its_own_pools_are_bounded(self) -> None:
        assert settled(92, *self.pools(), pool_sizes={"pooled": 7}) == {"direct": 85, "one": 6, "two": 1}
        assert settled(92, *self.pools()) == settled(92, *self.pools(), pool_sizes={"pooled": 92})

    def test_it_has_no_connections_that_the_server_has_not(self) -> None:
        pools = [replace(self.pools()[0], rank=CRITICAL, wanted=50), *self.pools()[1:]]
        assert settled(60, *pools, pool_sizes={"pooled": 200}) == settled(60, *pools)

    def test_its_pools_are_told_of_it(self) -> None:
        made = allocate(92, self.pools(), pool_sizes={"pooled": 7})
        assert made["two"] == Allocation(1, 7, 3, ahead=5, is_short=True, is_pooled=True)
        assert made["direct"] == Allocation(85, 92, 5, ahead=5)

    def test_or_of_the_server_if_that_leaves_less(self) -> None:
        direct = replace(self.pools()[0], running=80, busy=80)
        made = allocate(82, [direct, *self.pools()[1:]], pool_sizes={"pooled": 40})
        assert made["two"].is_short
        assert (made["two"].budget, made["two"].held_by_others, made["two"].is_pooled) == (82, 83, False)


ANY_SIZE = st.integers(1, 12)


@st.composite
def pools(draw: st.DrawFn, sizes: st.SearchStrategy[int] = ANY_SIZE, least: int = 0) -> tuple[PoolDemand, ...]:
    """Pools that run anything up to their maximum, and one in four that scales nothing."""
    made, common = [], draw(sizes)
    for number in range(draw(st.integers(least, 6))):
        maximum = draw(st.integers(1, 40))
        running = draw(st.integers(0, maximum))
        is_fixed = draw(st.integers(0, 3)) == 0
        made.append(
            PoolDemand(
                uid=f"pool-{number}",
                rank=draw(st.integers(0, RANKS - 1)),
                connections_per_worker=draw(sizes) if sizes is ANY_SIZE else common,
                minimum=draw(st.integers(0, min(10, running if is_fixed else maximum))),
                running=running,
                busy=running if is_fixed else draw(st.integers(0, running)),
                wanted=running if is_fixed else draw(st.integers(0, maximum)),
                maximum=running if is_fixed else maximum,
            )
        )
    return tuple(made)


budgets = st.integers(0, 200)
alike = pools(sizes=st.integers(1, 5))


@given(budgets, pools())
def test_nobody_grows_into_connections_that_are_held(budget: int, demands: tuple[PoolDemand, ...]) -> None:
    workers = share(budget, *demands)
    most = {demand.uid: max(demand.running, workers[demand.uid]) for demand in demands}
    assert used(demands, most) <= max(budget, held(demands))


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
    if short:
        lower = [demand for demand in demands if demand.rank > min(short)]
        assert all(workers[demand.uid] == 0 for demand in lower), "nothing for a lower class before a minimum is met"
        others = [demand for demand in demands if demand.rank <= min(short)]
        assert all(workers[demand.uid] <= demand.minimum for demand in others)


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
    most = {demand.uid: max(demand.running, workers[demand.uid]) for demand in demands}
    assert used(behind, most) <= max(pool_size, held(behind))
    assert used(demands, most) <= max(budget, held(demands))
    assert settle(budget, *demands, pool_sizes={"a": pool_size})[1] <= MOST_ROUNDS


@pytest.mark.parametrize("number", [1, 10, 100, 1000])
def test_many_pools_are_shared_among(number: int) -> None:
    demands = [
        make_demand(f"{index:04}", index % 3, minimum=1, wanted=50, running=5, busy=2) for index in range(number)
    ]
    workers = settled(5000, *demands)
    assert sum(workers.values()) == 5000
    by_rank = [{count for uid, count in workers.items() if int(uid) % 3 == rank} for rank in range(min(3, number))]
    assert all(max(counts) - min(counts) <= 1 for counts in by_rank)
    assert [min(counts) for counts in by_rank] == sorted((min(counts) for counts in by_rank), reverse=True)
