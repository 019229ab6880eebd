"""The connection budget: one number from one count, and its history of other people's connections."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headroom.model.database import PoolDemand
from headroom.policy.databaseguard.budget import (
    ConnectionLimits,
    ConnectionPlan,
    OthersHistory,
    count_held,
    decide_budget,
    merge_limits,
    plan_connections,
)
from headroom.policy.databaseguard.facts import limits_of
from headroom.reasons import Reason
from tests.unit.policy.databaseguard.make import UNREACHABLE, GuardPolicyWorld, make_counts, make_demand, make_spec

DEFAULT = ConnectionLimits(60, 5)


def test_the_budget_is_a_share_of_what_is_usable() -> None:
    budget = decide_budget(make_counts(50, 97), 0, DEFAULT)
    assert (budget.used, budget.usable, budget.budget) == (50, 92, 55)
    assert budget.used_percent == pytest.approx(100 * 50 / 92)
    assert budget.finding is None


def test_connections_of_others_leave_less() -> None:
    assert decide_budget(make_counts(60, 97), 60, DEFAULT).budget == 32
    assert decide_budget(make_counts(60, 97), 92, DEFAULT).budget == 0
    assert decide_budget(make_counts(60, 97), 500, DEFAULT).budget == 0


def test_a_pooler_holds_at_most_its_size() -> None:
    assert decide_budget(make_counts(1, 97), 0, ConnectionLimits(60, 5, 40)).budget == 40


def test_a_pooler_that_is_larger_than_the_server_is_reported_and_does_not_count() -> None:
    budget = decide_budget(make_counts(60, 97), 60, ConnectionLimits(60, 5, 200))
    assert budget.budget == 32
    assert budget.finding is not None
    assert budget.finding.reason is Reason.POOL_LARGER_THAN_SERVER
    assert "poolSize is 200" in budget.finding.message
    assert "32 connections for workers" in budget.finding.message
    assert decide_budget(make_counts(60, 97), 60, ConnectionLimits(60, 5, 32)).finding is None


def test_a_server_without_a_usable_connection_is_full() -> None:
    budget = decide_budget(make_counts(3, 4), 3, DEFAULT)
    assert (budget.usable, budget.budget, budget.used_percent) == (0, 0, 100.0)


counts = st.builds(make_counts, st.integers(0, 500), st.integers(0, 500))
limits = st.builds(ConnectionLimits, st.integers(1, 100), st.integers(0, 1000), st.none() | st.integers(1, 999))


@given(counts, st.integers(0, 600), limits)
def test_the_budget_never_exceeds_what_is_usable(counted: object, others: int, limit: ConnectionLimits) -> None:
    budget = decide_budget(counted, others, limit)
    assert 0 <= budget.budget <= budget.usable <= max(0, counted.limit)
    assert budget.budget <= max(0, budget.usable - others)
    assert budget.budget <= (limit.pool_size if limit.pool_size is not None else budget.usable)
    assert budget.used_percent >= 0


@given(counts, st.integers(0, 300), st.integers(0, 300), limits)
def test_more_others_never_raise_the_budget(counted: object, one: int, more: int, limit: ConnectionLimits) -> None:
    assert decide_budget(counted, one + more, limit).budget <= decide_budget(counted, one, limit).budget


@given(st.lists(limits, min_size=1, max_size=5), counts, st.integers(0, 300))
def test_guards_of_one_server_get_no_more_together_than_each_alone(
    all_limits: list[ConnectionLimits], counted: object, others: int
) -> None:
    direct = [replace(limit, pool_size=None) for limit in all_limits]
    together = decide_budget(counted, others, merge_limits(all_limits)).budget
    assert together <= min(decide_budget(counted, others, limit).budget for limit in direct)


def test_the_smallest_share_and_the_largest_reserve_count() -> None:
    merged = merge_limits([ConnectionLimits(60, 5), ConnectionLimits(30, 2, 80), ConnectionLimits(90, 20, 40)])
    assert merged == ConnectionLimits(30, 20), "a pooler is that of one guard"
    assert merge_limits([ConnectionLimits(60, 5)]) == ConnectionLimits(60, 5)


@given(counts, st.integers(0, 600), st.integers(0, 600), limits)
def test_what_is_kept_is_never_taken_away(counted: object, others: int, kept: int, limit: ConnectionLimits) -> None:
    free, made = decide_budget(counted, others, limit), decide_budget(counted, others, limit, kept=kept)
    bound = kept if limit.pool_size is None else min(kept, limit.pool_size)
    assert made.budget == max(free.budget, bound)


def test_limits_are_those_of_the_spec() -> None:
    assert limits_of(make_spec()) == ConnectionLimits(60, 5, None)
    spec = make_spec(connections={"workerSharePercent": 10, "reserve": 0}, connection={"via": {"poolSize": 7}})
    assert limits_of(spec) == ConnectionLimits(10, 0, 7)


def test_pools_hold_what_all_their_workers_take() -> None:
    demands = (make_demand("a", size=3, running=5), make_demand("b", size=2, running=10))
    assert count_held(demands, {}) == 35
    assert count_held((), {}) == 0


def test_through_a_pooler_only_the_pools_of_its_guard_hold_at_most_its_size() -> None:
    demands = (
        replace(make_demand("a", size=3, running=50), guard="pooled"),
        replace(make_demand("b", running=4), guard="pooled"),
        replace(make_demand("c", running=30), guard="direct"),
    )
    assert count_held(demands, {"pooled": 20}) == 50
    assert count_held(demands, {"pooled": 200}) == 184


class TestHistory:
    def test_one_count_every_ten_seconds(self) -> None:
        history = OthersHistory()
        for second in range(35):
            history = history.observe(float(second), second)
        assert history.counts == ((0.0, 0), (10.0, 10), (20.0, 20), (30.0, 30))

    def test_nothing_is_known_before_the_first(self) -> None:
        assert OthersHistory().high() is None

    def test_an_hour_is_remembered(self) -> None:
        history = OthersHistory()
        for step in range(1000):
            history = history.observe(step * 10.0, 50 if step < 500 else 3)
        assert len(history.counts) == 360
        assert history.high() == 3

    def test_the_rare_peak_does_not_count_and_the_frequent_one_does(self) -> None:
        rare = OthersHistory(tuple((10.0 * number, 90 if number % 25 == 0 else 10) for number in range(360)))
        frequent = OthersHistory(tuple((10.0 * number, 90 if number % 10 == 0 else 10) for number in range(360)))
        assert rare.high() == 10
        assert frequent.high() == 90

    def test_in_a_short_history_a_peak_is_no_more_than_in_a_long_one(self) -> None:
        counts = tuple((10.0 * number, 90 if number >= 20 else 10) for number in range(100))
        assert [OthersHistory(counts[:length]).high() for length in (1, 20, 38, 39)] == [10, 10, 10, 90]

    @given(st.lists(st.integers(0, 500), min_size=1, max_size=400))
    def test_it_is_one_of_the_counts_and_few_are_above(self, values: list[int]) -> None:
        high = OthersHistory(tuple((float(number), value) for number, value in enumerate(values))).high()
        assert high in values
        assert sum(value > high for value in values) <= 0.05 * 360

    def test_connections_that_turn_out_to_be_ours_are_taken_out(self) -> None:
        history = OthersHistory(((0.0, 40), (10.0, 12), (20.0, 45)))
        assert history.without(15) == OthersHistory(((0.0, 25), (10.0, 0), (20.0, 30)))
        assert history.without(0) == history


def history_of(world: GuardPolicyWorld) -> OthersHistory:
    planned = world.memory.server.planned
    assert planned is not None
    return planned.plan.history


class Plans:
    """Plans one after the other, each second; `others` and what the pools hold are what the server counts."""

    def __init__(self, *demands: PoolDemand, others: int = 10, **limits: ConnectionLimits) -> None:
        self.demands, self.others, self.limits = list(demands), others, limits or {"store": DEFAULT}
        self.now, self.plan = 100.0, None

    def step(self, guard: str = "store") -> ConnectionPlan:
        poolers = {name: limit.pool_size for name, limit in self.limits.items() if limit.pool_size is not None}
        used = self.others + count_held(self.demands, poolers)
        self.plan = plan_connections(
            guard, make_counts(used), self.limits, self.demands, now=self.now, previous=self.plan
        )
        self.now += 1.0
        return self.plan

    def run(self, seconds: int) -> ConnectionPlan:
        for _ in range(seconds):
            self.step()
        assert self.plan is not None
        return self.plan

    def follow(self) -> None:
        """All pools run what they were given; workers that end are gone at once."""
        self.demands = [replace(demand, running=self.workers[demand.uid]) for demand in self.demands]

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


class TestInThePass:
    """97 usable, reserve 5, share 60 %, 60 connections of others."""

    def test_the_example_is_one_number_everywhere(self) -> None:
        world = GuardPolicyWorld(counts=make_counts(60), demands=(make_demand("a", wanted=80),))
        decision = world.run(30)
        assert decision.budget is not None
        assert decision.budget.budget == 32
        assert decision.allocations["a"].budget == 32
        assert decision.allocations["a"].workers == 32

    def test_with_a_larger_pooler_too_and_ready_says_why(self) -> None:
        spec = make_spec(connection={"via": {"poolSize": 200}})
        decision = GuardPolicyWorld(spec=spec, counts=make_counts(60)).run(30)
        assert decision.budget is not None
        assert decision.budget.budget == 32
        assert "connection.via.poolSize is 200" in decision.ready_finding.message
        assert decision.ready_finding.reason is Reason.CONNECTED

    def test_a_peak_of_others_is_remembered_for_an_hour(self) -> None:
        world = GuardPolicyWorld(counts=make_counts(10))
        world.run(60)
        world.counts = make_counts(80)
        assert world.run(300).budget.budget == 12
        world.counts = make_counts(10)
        assert world.run(600).budget.budget == 12
        assert world.run(3600).budget.budget == 55

    def test_workers_that_have_just_been_started_do_not_count_as_others(self) -> None:
        world = GuardPolicyWorld(counts=make_counts(10), demands=(make_demand("a", wanted=60),))
        before = world.run(30).budget.budget
        world.counts, world.demands = make_counts(50), (make_demand("a", running=40, busy=40, wanted=60),)
        assert world.run(30).budget.budget == before

    def test_pools_that_have_not_posted_their_demand_yet_do_not_shrink_anybody(self) -> None:
        """A new process: 60 workers of two pools hold connections, and one pool has not made a pass yet."""
        one, other = make_demand("a", running=30, wanted=30), make_demand("b", running=30, wanted=30)
        world = GuardPolicyWorld(counts=make_counts(96), demands=(one,))
        assert world.run(5).allocations == {}, "the workers of b look like others, and leave 26"
        world.demands = (one, other)
        decision = world.run(10)
        assert decision.budget.budget == 55
        assert {uid: part.workers for uid, part in decision.allocations.items()} == {"a": 28, "b": 27}
        assert history_of(world).high() == 36

    def test_counts_of_others_begin_once_all_pools_had_time(self) -> None:
        world = GuardPolicyWorld(counts=make_counts(80))
        world.run(9)
        assert history_of(world).counts == ()
        world.run(3)
        assert [count for _, count in history_of(world).counts] == [80]

    def test_a_blind_guard_keeps_the_last_counts_budget_and_allocations(self) -> None:
        world = GuardPolicyWorld(counts=make_counts(60), demands=(make_demand("a", running=10, wanted=80),))
        before = world.run(30)
        world.problem, world.demands = UNREACHABLE, ()
        after = world.run(600)
        assert not after.is_usable
        assert after.budget == before.budget
        assert after.allocations == before.allocations
        assert world.memory.server.counts == make_counts(60)
        assert after.counts is None, "nothing was counted in this pass"

    def test_what_does_not_change_is_not_computed_again(self) -> None:
        world = GuardPolicyWorld(demands=(make_demand("a", wanted=5),))
        before = world.run(20).allocations
        assert world.step().allocations is before
        world.demands = (make_demand("a", wanted=6),)
        assert world.step().allocations is not before
