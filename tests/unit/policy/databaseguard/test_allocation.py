"""Who gets how much of the budget: by need and rank, never from what somebody still holds, never for headroom."""

from collections.abc import Sequence
from dataclasses import replace

import pytest

from headroom.model.database import NO_LIMIT, Allocation, PoolDemand
from headroom.policy.databaseguard.allocation import GroupLimit, allocate
from tests.unit.policy.databaseguard.allocations import BACKGROUND, CRITICAL, STANDARD, settled, share
from tests.unit.policy.databaseguard.make import make_demand


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
    assert settled(10, demands[0], replace(demands[1], minimum=1)) == {"a": 10, "b": 0}, "not for a minimum either"


def test_a_minimum_without_workers_takes_no_busy_worker_of_a_higher_class() -> None:
    bills = make_demand("bills", CRITICAL, running=40, busy=40, wanted=40)
    report = make_demand("report", BACKGROUND, minimum=30, wanted=30)
    assert settled(55, bills, report) == {"bills": 40, "report": 15}
    assert settled(40, bills, report) == {"bills": 40, "report": 0}
    assert settled(55, replace(bills, busy=20), report) == {"bills": 25, "report": 30}, "idle workers yield to it"
    assert settled(55, bills, replace(report, running=30)) == {"bills": 25, "report": 30}, "a minimum that runs stays"


def test_the_missing_part_of_a_minimum_comes_before_wants_and_by_class() -> None:
    demands = (
        make_demand("critical", CRITICAL, minimum=8, running=5, busy=2, wanted=20),
        make_demand("standard", STANDARD, minimum=4, wanted=20),
        make_demand("background", BACKGROUND, minimum=6, running=3, busy=3, wanted=20),
    )
    assert settled(8, *demands) == {"critical": 5, "standard": 0, "background": 3}
    assert settled(11, *demands) == {"critical": 8, "standard": 0, "background": 3}
    assert settled(17, *demands) == {"critical": 8, "standard": 4, "background": 5}
    assert settled(20, *demands) == {"critical": 10, "standard": 4, "background": 6}


class TestTerminating:
    """Workers that terminate hold their connections and serve nobody."""

    def test_nobody_grows_into_their_connections(self) -> None:
        demands = (make_demand("bills", CRITICAL, running=2, wanted=28), make_demand("mail", running=4, terminating=20))
        assert share(32, *demands) == {"bills": 8, "mail": 4}
        assert share(32, demands[0], replace(demands[1], terminating=0)) == {"bills": 28, "mail": 4}

    def test_their_own_pool_does_not_grow_into_them_either(self) -> None:
        made = allocate(32, [make_demand(size=2, running=5, terminating=9, wanted=16)])["a"]
        assert (made.workers, made.is_short) == (7, False), "they are on their way"
        assert (made.held_by_others, made.terminating) == (0, 18)

    def test_they_take_no_worker_from_anybody(self) -> None:
        demands = (make_demand("a", running=24, terminating=20), make_demand("b", running=8))
        assert share(32, *demands) == {"a": 24, "b": 8}

    def test_others_are_told_that_they_are_held(self) -> None:
        made = allocate(32, (make_demand("a", size=2, running=3, terminating=1), make_demand("b", size=5, running=2)))
        assert (made["a"].held_by_others, made["b"].held_by_others) == (10, 8)
        assert (made["a"].terminating, made["b"].terminating) == (2, 0)


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


def test_what_may_not_be_used_yet_is_kept_for_its_pool() -> None:
    """The lower class is measured first, and its jobs never end."""
    bills = make_demand("bills", CRITICAL, running=1, busy=1, wanted=40, maximum=8, limit_now=1)
    mail = make_demand("mail", STANDARD, size=2, running=1, busy=1, wanted=40)
    assert share(31, bills, mail) == {"bills": 1, "mail": 11}
    later = (replace(bills, limit_now=NO_LIMIT), replace(mail, running=11, busy=11))
    assert share(31, *later) == {"bills": 8, "mail": 11}


def test_it_is_kept_within_the_limit_of_a_role_too() -> None:
    imports = make_demand("imports", STANDARD, running=1, busy=1, wanted=40, limit_now=1)
    mail = make_demand("mail", STANDARD, running=1, busy=1, wanted=40)
    made = allocate(31, [imports, mail], limits=[GroupLimit("role", frozenset({"imports"}), 6)])
    assert {uid: found.workers for uid, found in made.items()} == {"imports": 1, "mail": 25}


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
        assert made["two"] == Allocation(1, 7, 3, ahead=6, is_short=True, is_pooled=True)
        assert made["direct"] == Allocation(85, 92, 5, ahead=6), "what it gets in the end, as in `settled` above"

    def test_or_of_the_server_if_that_leaves_less(self) -> None:
        direct = replace(self.pools()[0], running=80, busy=80)
        made = allocate(82, [direct, *self.pools()[1:]], pool_sizes={"pooled": 40})
        assert made["two"].is_short
        assert (made["two"].budget, made["two"].held_by_others, made["two"].is_pooled) == (82, 83, False)


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
