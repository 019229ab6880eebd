"""Others on the server: the history of their connections, and the plans that leave them theirs and pools ours."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headroom.model.database import PoolDemand
from headroom.model.moments import FIRST_SIGHT_SECONDS
from headroom.policy.databaseguard.budget import (
    COUNTED_WITHIN_SECONDS,
    ConnectionPlan,
    count_held,
    plan_connections,
)
from headroom.policy.databaseguard.limits import ConnectionLimits
from headroom.policy.databaseguard.others import OthersCount, OthersHistory, WorkloadConnections
from tests.unit.policy.databaseguard.make import make_counts, make_demand

DEFAULT = ConnectionLimits(60, 5)


def history(*others: int, ours: tuple[str, ...] = ()) -> OthersHistory:
    """So many connections of others, counted every ten seconds."""
    return OthersHistory(tuple(OthersCount(10.0 * at, count, frozenset(ours)) for at, count in enumerate(others)))


def ready(**connections: int) -> dict[str, WorkloadConnections]:
    """Workloads whose workers are all ready."""
    return {name: WorkloadConnections(count, count) for name, count in connections.items()}


def counted(found: OthersHistory) -> list[int]:
    return [count.others for count in found.counts]


class TestHistory:
    def test_one_count_every_ten_seconds(self) -> None:
        found = OthersHistory()
        for second in range(35):
            found = found.observe(float(second), second)
        assert [(count.at, count.others) for count in found.counts] == [(0.0, 0), (10.0, 10), (20.0, 20), (30.0, 30)]

    def test_nothing_is_known_before_the_first(self) -> None:
        assert OthersHistory().high() is None

    def test_an_hour_is_remembered(self) -> None:
        found = OthersHistory()
        for step in range(1000):
            found = found.observe(step * 10.0, 50 if step < 500 else 3)
        assert len(found.counts) == 360
        assert found.high() == 3

    def test_the_rare_peak_does_not_count_and_the_frequent_one_does(self) -> None:
        assert history(*(90 if number % 25 == 0 else 10 for number in range(360))).high() == 10
        assert history(*(90 if number % 10 == 0 else 10 for number in range(360))).high() == 90

    def test_in_a_short_history_a_peak_is_no_more_than_in_a_long_one(self) -> None:
        values = [90 if number >= 20 else 10 for number in range(100)]
        assert [history(*values[:length]).high() for length in (1, 20, 38, 39)] == [10, 10, 10, 90]

    @given(st.lists(st.integers(0, 500), min_size=1, max_size=400))
    def test_it_is_one_of_the_counts_and_few_are_above(self, values: list[int]) -> None:
        high = history(*values).high()
        assert high in values
        assert sum(value > high for value in values) <= 0.05 * 360

    def test_connections_that_turn_out_to_be_ours_are_taken_out(self) -> None:
        assert counted(history(40, 12, 45).without(ready(a=15), 10)) == [25, 10, 30]

    def test_but_only_once_and_not_where_they_were_ours(self) -> None:
        found = history(40, 45, ours=("b",)).without(ready(a=15, b=30), 10)
        assert counted(found) == [25, 30]
        assert found.without(ready(a=15), 0) is found
        assert counted(found.without(ready(a=15, c=7), 0)) == [18, 23]
        assert counted(OthersHistory().observe(0.0, 40, ("a",)).without(ready(a=15), 0)) == [40]

    def test_connections_of_pods_that_are_not_ready_are_taken_out_as_they_become_certain(self) -> None:
        found = history(80, 80)
        for connected in (0, 12, 5, 12, 20, 40):
            found = found.without({"a": WorkloadConnections(connected, 20)}, 0)
        assert counted(found) == [60, 60], "the rest is the growth of the workload since it came"
        assert found.taken == {}

    def test_a_workload_that_goes_before_all_is_certain_is_not_taken_out_again(self) -> None:
        found = history(80).without({"a": WorkloadConnections(12, 20)}, 0).without({}, 0)
        assert counted(found.without(ready(a=20), 0)) == [68]

    def test_what_a_workload_may_hold_is_known_once_its_pods_were_counted(self) -> None:
        found = history(80).without({"a": WorkloadConnections(10, None)}, 0)
        assert counted(found) == [70]
        found = found.without({"a": WorkloadConnections(14, 24)}, 0).without({"a": WorkloadConnections(30, 30)}, 0)
        assert counted(found) == [56]

    def test_no_count_falls_below_what_others_hold_now(self) -> None:
        assert counted(history(40, 12, 45).without(ready(a=30), 38)) == [38, 12, 38]

    @given(
        st.lists(st.integers(0, 200)),
        st.dictionaries(
            st.sampled_from("abc"),
            st.builds(WorkloadConnections, st.integers(0, 90), st.none() | st.integers(0, 90)),
        ),
        st.integers(0, 99),
    )
    def test_it_never_rises_and_the_second_time_changes_nothing(
        self, values: list[int], workloads: dict[str, WorkloadConnections], measured: int
    ) -> None:
        before = history(*values, ours=("a",))
        after = before.without(workloads, measured)
        for old, new in zip(counted(before), counted(after), strict=True):
            assert min(old, measured) <= new <= old
        assert after.without(workloads, 0) == after


class Plans:
    """Plans one after the other, each second; `others` and what the pools hold are what the server counts.

    It does not count the connections of workers that are `starting` yet.
    """

    def __init__(self, *demands: PoolDemand, others: int = 10, **limits: ConnectionLimits) -> None:
        self.demands, self.others, self.limits = list(demands), others, limits or {"store": DEFAULT}
        self.now, self.starting, self.plan = 100.0, 0, None

    def step(self, guard: str = "store") -> ConnectionPlan:
        used = self.others + self.count_ours() - self.starting
        self.plan = plan_connections(
            guard, make_counts(used), self.limits, self.demands, now=self.now, previous=self.plan
        )
        self.now += 1.0
        return self.plan

    def count_ours(self) -> int:
        """Connections of all pods that are there, as the server sees them."""
        total = 0
        for guard, limit in self.limits.items():
            behind = [demand for demand in self.demands if demand.guard == guard]
            pods = sum(one.connections_per_worker * (one.running + one.terminating) for one in behind)
            total += pods if limit.pool_size is None else min(pods, limit.pool_size)
        return total

    def run(self, seconds: int) -> ConnectionPlan:
        for _ in range(seconds):
            self.step()
        assert self.plan is not None
        return self.plan

    def follow(self) -> None:
        """All pools run what they were given; workers that they give back terminate, and hold their connections."""
        for number, demand in enumerate(self.demands):
            running = min(demand.running, self.workers[demand.uid])
            terminating = demand.terminating + demand.running - running
            self.demands[number] = replace(
                demand, running=running, ready=running, busy=min(demand.busy, running), terminating=terminating
            )

    @property
    def workers(self) -> dict[str, int]:
        assert self.plan is not None
        return {uid: part.workers for uid, part in self.plan.allocations.items()}


class TestOthers:
    """They count as they are now, and as they were in the last hour."""

    def test_others_that_have_just_come_leave_less_to_grow_into(self) -> None:
        plans = Plans(make_demand(running=20, busy=20, wanted=80))
        plans.run(120)
        assert plans.workers == {"a": 55}
        plans.others = 60
        assert plans.step().budget.budget == 32
        assert plans.workers == {"a": 32}

    @pytest.mark.parametrize("seconds", [60, 3600])
    def test_but_take_no_worker_away_before_they_have_stayed_for_minutes(self, seconds: int) -> None:
        """An API that is rolled out holds its connections twice for a minute."""
        plans = Plans(make_demand(running=50, busy=50, wanted=50))
        plans.run(seconds)
        plans.others = 70
        assert plans.run(60).budget.budget == 50, "what is held is the budget, and nobody may grow"
        assert plans.workers == {"a": 50}
        assert plans.run(300).budget.budget == 22

    def test_workers_that_end_do_not_take_others_with_them(self) -> None:
        """50 workers of a budget of 30: 20 have to go, and keep their connections until their job is done."""
        plans = Plans(make_demand(running=50, busy=50, wanted=50), others=62)
        plans.run(120)
        assert plans.workers == {"a": 30}
        plans.demands, plans.others = [make_demand(running=30, busy=30, wanted=50)], 82
        assert plans.run(60).budget.budget == 30
        assert plans.workers == {"a": 30}

    def test_nor_are_their_connections_given_to_another(self) -> None:
        bills = make_demand("bills", 0, wanted=40)
        plans = Plans(bills, make_demand("idle", 2, running=40), others=37)
        plans.run(120)
        assert plans.workers == {"bills": 15, "idle": 15}
        plans.demands, plans.others = [replace(bills, running=15), make_demand("idle", 2, running=15)], 62
        plans.step()
        assert plans.workers == {"bills": 15, "idle": 0}, "25 workers are ending"
        plans.others = 37
        plans.step()
        assert plans.workers["bills"] == 40


class TestPools:
    """A process that starts, and pools that come."""

    def test_connections_of_a_new_pool_were_counted_as_others_and_are_not_any_more(self) -> None:
        """A pool for a Deployment of 30 that has run all the time beside one of 25."""
        plans = Plans(make_demand("a", running=25, minimum=25, busy=25, wanted=25), others=40)
        assert plans.run(400).budget.budget == 52
        plans.demands.append(make_demand("b", running=30, minimum=30, busy=30, wanted=30))
        plans.others = 10
        assert plans.step().budget.budget == 55
        assert plans.workers == {"a": 25, "b": 30}
        assert plans.run(600).budget.budget == 55

    def test_a_pool_that_is_known_changes_nothing_in_the_history(self) -> None:
        plans = Plans(make_demand("a", running=5), others=40)
        plans.run(400)
        plans.demands = [make_demand("a", running=25)]
        assert plans.step().history.high() == 40

    def test_the_same_pools_and_the_same_budget_make_the_same_plan(self) -> None:
        plans = Plans(make_demand("a", wanted=5))
        before = plans.run(30).allocations
        assert plans.step().allocations is before
        plans.others = 11
        assert plans.step().allocations is before, "the share is less than what is free"
        plans.others = 70
        assert plans.step().allocations is not before

    def test_a_process_that_starts_cuts_nobody(self) -> None:
        plans = Plans(make_demand("a", running=30, wanted=30), others=70)
        assert plans.run(8).allocations == {}
        plans.demands, plans.others = [make_demand(uid, running=30, wanted=30) for uid in "ab"], 20
        assert plans.run(2).allocations == {}
        plans.step()
        assert plans.workers == {"a": 28, "b": 27}

    def test_nor_before_it_knows_how_many_workers_terminate(self) -> None:
        """14 that terminate look like others until the pool has counted its pods."""
        pool = make_demand(running=24, busy=24, wanted=24, is_counted=False)
        plans = Plans(pool, others=30 + 14, store=ConnectionLimits(100, 32))
        assert plans.run(30).allocations == {}
        plans.demands, plans.others = [replace(pool, terminating=14, is_counted=True)], 30
        plans.step()
        assert plans.workers == {"a": 24}
        assert plans.run(600).history.high() == 30

    def test_a_pool_that_cannot_count_its_pods_holds_the_others_up_for_a_minute_at_most(self) -> None:
        plans = Plans(make_demand(running=50, wanted=50, is_counted=False), others=70)
        assert plans.run(int(COUNTED_WITHIN_SECONDS)).allocations == {}
        plans.step()
        assert plans.workers == {"a": 22}

    def test_a_pool_that_comes_later_stops_nothing(self) -> None:
        plans = Plans(make_demand("a", running=50, wanted=50), others=70)
        plans.run(int(FIRST_SIGHT_SECONDS) + 1)
        plans.demands.append(make_demand("b", is_counted=False))
        plans.step()
        assert plans.workers["a"] == 22


class TestOurs:
    """What is ours is never counted as others', and what is others' never taken for ours."""

    def test_workers_that_terminate_take_no_others_with_them(self) -> None:
        """50 workers of a budget of 30: 20 have to go, and their jobs take 50 minutes."""
        plans = Plans(make_demand(rank=0, running=50, busy=50, wanted=50), others=62)
        for _ in range(3000):
            plans.step()
            if plans.now > 120:
                plans.follow()
        assert plans.plan.budget.budget == 30
        assert plans.workers == {"a": 30}
        assert (plans.demands[0].running, plans.demands[0].terminating) == (30, 20)
        assert plans.plan.history.high() == 62

    def test_workers_that_have_terminated_leave_no_trace_among_the_others(self) -> None:
        plans = Plans(make_demand(running=40, busy=40, wanted=40))
        plans.run(120)
        plans.demands = [make_demand(running=10, terminating=30)]
        assert plans.run(300).budget.budget == 55
        plans.demands = [make_demand(running=10)]
        assert plans.run(60).budget.budget == 55
        assert plans.plan.history.high() == 10

    def test_they_leave_no_room_to_grow_into(self) -> None:
        plans = Plans(make_demand("a", running=10, terminating=30), make_demand("b", 0, wanted=40))
        plans.run(120)
        assert plans.workers == {"a": 10, "b": 15}

    def test_a_pool_that_leaves_and_returns_takes_nothing_of_the_others(self) -> None:
        pool = make_demand("a", running=25, busy=25, wanted=25)
        plans = Plans(pool, others=40)
        plans.run(400)
        for number in range(5):
            plans.demands, plans.others = [], 65
            plans.run(60)
            plans.demands, plans.others = [replace(pool, uid=f"again-{number}")], 12
            plans.run(60)
        assert {count.others for count in plans.plan.history.counts} == {40, 12}
        assert plans.plan.history.high() == 40
        assert plans.plan.budget.budget == 52

    @pytest.mark.parametrize("at_first", [0, 7, 20])
    def test_a_pool_that_returns_while_its_pods_are_not_ready_keeps_its_workers(self, at_first: int) -> None:
        """Its object was away for ten minutes, its pods were not; they hold their connections all the time."""
        pool = make_demand(running=20, busy=20, wanted=40)
        plans = Plans(pool, others=60)
        plans.run(60)
        plans.demands, plans.others = [], 80
        plans.run(600)
        plans.demands, plans.others = [replace(pool, uid="again", ready=at_first)], 60
        plans.run(5)
        plans.demands = [replace(pool, uid="again")]
        assert plans.step().budget.budget == 32
        assert plans.workers == {"again": 32}
        assert plans.run(120).history.high() == 60

    def test_a_pool_that_grows_from_nothing_takes_nothing_of_what_others_held(self) -> None:
        plans = Plans(others=60)
        plans.run(400)
        plans.demands, plans.others = [make_demand(running=30, ready=0, started=0, wanted=40)], 20
        plans.starting = 30
        plans.run(5)
        plans.demands, plans.starting = [make_demand(running=30, wanted=40)], 0
        assert plans.run(30).history.high() == 60

    def test_what_others_had_before_stays_known_beside_a_pool_whose_workers_are_starting(self) -> None:
        plans = Plans(others=60)
        plans.run(400)
        plans.demands, plans.starting = [make_demand(running=30, ready=0, wanted=30)], 30
        plans.run(5)
        plans.demands, plans.starting = [make_demand(running=30, wanted=30)], 0
        plans.run(30)
        plans.others = 20
        assert plans.run(30).history.high() == 60
        assert plans.plan.budget.budget == 32

    def test_workers_of_an_unreadable_target_are_taken_out_once_it_is_read(self) -> None:
        """A new process, and a pool whose target cannot be read: how many workers run is not known."""
        plans = Plans(make_demand(workload=None), others=50)
        plans.run(400)
        plans.demands, plans.others = [make_demand(running=40, busy=40, wanted=40)], 10
        assert plans.step().history.high() == 10
        assert plans.plan.budget.budget == 55

    def test_two_pools_that_claim_one_workload_hold_its_connections_once(self) -> None:
        demands = [make_demand(uid, running=20, workload="apps/Deployment/mailer") for uid in "ab"]
        assert count_held(demands, {}) == 20
        assert count_held([*demands, make_demand("c", running=5)], {}) == 25


class TestPoolers:
    """`via` of one guard is about the pools that refer to it."""

    def plans(self, pool_size: int) -> Plans:
        demands = (
            replace(make_demand("direct", running=55, busy=55, wanted=55), guard="store"),
            replace(make_demand("behind", wanted=30), guard="pooled"),
        )
        return Plans(*demands, store=DEFAULT, pooled=ConnectionLimits(90, 5, pool_size))

    def test_it_takes_nothing_from_a_pool_of_another_guard(self) -> None:
        plans = self.plans(pool_size=7)
        plans.run(30)
        assert plans.workers["direct"] >= 54, "one worker for a pool that has none"
        assert plans.plan.budget.budget == 55

    def test_its_own_pools_stay_below_its_size(self) -> None:
        plans = self.plans(pool_size=7)
        plans.demands[0] = replace(plans.demands[0], running=20, busy=20, wanted=20)
        plans.run(30)
        assert plans.workers == {"direct": 48, "behind": 7}

    def test_each_guard_shows_its_own_budget(self) -> None:
        plans = self.plans(pool_size=7)
        plans.run(30)
        assert (plans.step("pooled").budget.budget, plans.step("store").budget.budget) == (7, 55)

    def test_only_the_guard_that_has_it_advises_to_lower_its_size(self) -> None:
        plans = self.plans(pool_size=200)
        plans.run(30)
        assert plans.step("store").budget.finding is None
        finding = plans.step("pooled").budget.finding
        assert finding is not None
        assert "poolSize is 200, and the server has 55" in finding.message
