"""The connection budget: one number from one count, and its history of other people's connections."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headroom.policy.databaseguard.budget import OthersHistory, count_held, decide_budget
from headroom.policy.databaseguard.facts import limits_of
from headroom.policy.databaseguard.limits import ConnectionLimits, merge_limits
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
    assert limits_of(make_spec()) == ConnectionLimits(60, 5, None, "store")
    spec = make_spec(connections={"workerSharePercent": 10, "reserve": 0}, connection={"via": {"poolSize": 7}})
    assert limits_of(spec) == ConnectionLimits(10, 0, 7, "store")


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


def history_of(world: GuardPolicyWorld) -> OthersHistory:
    planned = world.memory.server.planned
    assert planned is not None
    return planned.plan.history


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
        assert decision.ready_finding.reason is Reason.POOL_LARGER_THAN_SERVER

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
        assert [count.others for count in history_of(world).counts] == [80]

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
