"""The sessions of servers: who joins whom, who measures and for how long, and what a namespace shares."""

from dataclasses import replace
from datetime import UTC, datetime

from headroom.adapters.inmemory.clock import MemoryClock
from headroom.model.canary import CanaryWindow
from headroom.model.database import ConnectionCounts
from headroom.policy.databaseguard.budget import plan_connections
from headroom.policy.databaseguard.facts import Observation, SharedPlan
from headroom.policy.databaseguard.identity import ServerId
from headroom.policy.databaseguard.limits import ConnectionLimits
from headroom.reconcilers.servers import Servers
from headroom.reconcilers.sessions import FRESH_SECONDS
from tests.unit.policy.databaseguard.make import make_demand
from tests.unit.reconcilers.databaseguard.members import FACTS, POOL, SERVER, Woken, member


def observe(servers: Servers, uid: str, at: float | None = None) -> None:
    """The guard has measured its server, now or at a time of its own."""
    counts = ConnectionCounts(10, 0, 0, 97, 0, 0.0)
    time = servers.clock.monotonic() if at is None else at
    servers.sessions.share_observation(uid, Observation(time, FACTS, counts, CanaryWindow()))


class TestWhoMeasures:
    """The best equipped guard; another one only while nothing fresh is there."""

    def test_the_oldest_measures_whatever_the_order_they_come_in(self, servers: Servers) -> None:
        young, old, middle = member("a", 3), member("b", 1), member("c", 2)
        join = servers.sessions.join
        assert join(young).is_holder
        assert join(old).is_holder
        assert not join(young).is_holder
        assert not join(middle).is_holder
        assert join(old).is_holder

    def test_whoever_measures_goes_on_until_the_better_one_has_its_first_observation(self, servers: Servers) -> None:
        join = servers.sessions.join
        assert join(member("young", 1)).is_holder
        observe(servers, "uid-young")
        assert join(member("old")).is_holder
        assert join(member("young", 1)).is_holder, "the others have nothing else yet"
        observe(servers, "uid-old")
        assert not join(member("young", 1)).is_holder

    def test_a_younger_one_that_sees_more_measures_for_all(self, servers: Servers) -> None:
        join = servers.sessions.join
        join(member("weak", sees_sessions=False))
        assert join(member("strong", 1)).is_holder
        observe(servers, "uid-strong")
        assert not join(member("weak", sees_sessions=False)).is_holder

    async def test_an_observation_serves_for_eight_seconds(self, servers: Servers, clock: MemoryClock) -> None:
        join = servers.sessions.join
        join(member("a"))
        observe(servers, "uid-a")
        await clock.advance(FRESH_SECONDS)
        assert not join(member("b", 1)).is_holder
        await clock.advance(0.1)
        assert join(member("b", 1)).is_holder

    async def test_one_that_hangs_before_its_first_observation_is_not_waited_for(
        self, servers: Servers, clock: MemoryClock
    ) -> None:
        join = servers.sessions.join
        join(member("a"))
        await clock.advance(FRESH_SECONDS)
        assert not join(member("b", 1)).is_holder
        await clock.advance(0.1)
        assert join(member("b", 1)).is_holder

    async def test_one_that_comes_back_after_a_hang_measures_again(self, servers: Servers, clock: MemoryClock) -> None:
        join = servers.sessions.join
        join(member("a"))
        observe(servers, "uid-a")
        await clock.advance(9)
        assert join(member("b", 1)).is_holder
        observe(servers, "uid-b")
        assert join(member("a")).is_holder
        assert join(member("b", 1)).is_holder, "until the first has measured"
        await clock.advance(1)
        observe(servers, "uid-a")
        assert not join(member("b", 1)).is_holder
        assert [found.observed_at for found in join(member("a")).observations] == [0.0, 9.0, 10.0], (
            "with what it missed"
        )

    def test_one_that_leaves_wakes_the_others_and_the_next_measures(self, servers: Servers, woken: Woken) -> None:
        join, leave = servers.sessions.join, servers.sessions.leave
        join(member("a"))
        observe(servers, "uid-a")
        join(member("b", 1))
        assert leave("uid-a")
        assert woken.names() == ["b"]
        assert join(member("b", 1)).is_holder
        assert not leave("uid-b"), "nobody is left"
        assert not leave("uid-b"), "it is gone already"

    def test_guards_that_wait_are_woken_by_the_first_observation(self, servers: Servers, woken: Woken) -> None:
        join = servers.sessions.join
        join(member("a"))
        assert join(member("b", 1)).observations == ()
        observe(servers, "uid-a")
        assert woken.names() == ["b"]
        assert len(join(member("b", 1)).observations) == 1
        observe(servers, "uid-a")
        assert woken.names() == []
        observe(servers, "uid-stranger")
        assert woken.names() == [], "who has not joined has nothing to share"

    async def test_observations_are_kept_for_a_minute(self, servers: Servers, clock: MemoryClock) -> None:
        servers.sessions.join(member("a"))
        for _ in range(100):
            observe(servers, "uid-a")
            await clock.advance(1)
        observe(servers, "uid-a")
        assert servers.sessions.join(member("a")).observations[0].observed_at == 40.0

    def test_a_restarted_server_is_another_session(self, servers: Servers) -> None:
        join = servers.sessions.join
        join(member("a"))
        join(member("b", 1))
        observe(servers, "uid-a")
        after = replace(SERVER, started_at=datetime(2026, 1, 2, tzinfo=UTC))
        moved = join(member("a", server=after))
        assert moved.is_holder
        assert (moved.local_guards, moved.observations) == ((), ())
        assert join(member("b", 1)).is_holder, "it is alone until it sees the new one"
        assert join(member("b", 1, server=after)).local_guards == ("a",)

    def test_each_is_told_the_others(self, servers: Servers) -> None:
        join = servers.sessions.join
        join(member("a"))
        join(member("b", 1, canary_seconds=0.2))
        join(member("c", 2, namespace="other"))
        standing = join(member("a"))
        assert (standing.local_guards, standing.foreign_guards, standing.canary_seconds) == (("b",), 1, 0.2)
        servers.sessions.leave("uid-b")
        standing = join(member("a"))
        assert (standing.local_guards, standing.foreign_guards, standing.canary_seconds) == ((), 1, 1.0)

    def test_one_that_was_created_again_is_no_neighbour_of_itself(self, servers: Servers) -> None:
        servers.sessions.join(member("a"))
        assert servers.sessions.join(member("a", uid="uid-new")).local_guards == ()

    async def test_only_one_sweeps_and_it_needs_a_replication_login(self, servers: Servers, clock: MemoryClock) -> None:
        join = servers.sessions.join
        join(member("a"))
        assert join(member("b", 1, has_slots=True)).is_sweeper
        join(member("c", 2, has_slots=True))
        assert not join(member("a")).is_sweeper
        assert not join(member("c", 2, has_slots=True)).is_sweeper
        assert join(member("a", has_slots=True)).is_sweeper
        await clock.advance(9)
        assert join(member("c", 2, has_slots=True)).is_sweeper, "the passes of the others hang"


def plan(at: float) -> SharedPlan:
    counts = ConnectionCounts(10, 0, 0, 97, 0, 0.0)
    return SharedPlan(at, plan_connections("a", counts, {"a": ConnectionLimits(60, 5)}, (), now=at, previous=None))


class TestBudgetGroup:
    """Guards of a namespace at one server share limits, demands and plan, whether they can log in or not."""

    def test_the_limits_of_the_namespace_are_those_that_count(self, servers: Servers) -> None:
        servers.sessions.join(member("a"))
        servers.sessions.join(member("b", 1, limits=ConnectionLimits(30, 9)))
        servers.sessions.join(member("c", 2, namespace="other", limits=ConnectionLimits(1, 90)))
        group = servers.read_budget_group("uid-a")
        assert group.limits == {"a": ConnectionLimits(60, 5), "b": ConnectionLimits(30, 9)}

    def test_one_that_left_still_counts_until_it_is_removed(self, servers: Servers) -> None:
        servers.sessions.join(member("a"))
        servers.sessions.join(member("b", 1))
        servers.post_demand(POOL, ("shop", "b"), make_demand("pool", running=1, wanted=1))
        servers.sessions.leave("uid-b")
        group = servers.read_budget_group("uid-a")
        assert (set(group.limits), [demand.uid for demand in group.demands]) == ({"a", "b"}, ["pool"])
        servers.remove(("shop", "b"), "uid-b")
        group = servers.read_budget_group("uid-a")
        assert (set(group.limits), group.demands) == ({"a"}, ())

    def test_one_that_has_not_logged_in_yet_is_remembered_at_its_system(self, servers: Servers) -> None:
        servers.sessions.join(member("a"))
        unplaced = member("b", 1, server=ServerId("7", None, ""))
        servers.sessions.remember(unplaced)
        assert set(servers.read_budget_group("uid-a").limits) == {"a", "b"}
        assert servers.sessions.find_present(("shop", "b")) is None
        servers.sessions.remember(replace(unplaced, limits=ConnectionLimits(7, 7)))
        assert servers.read_budget_group("uid-a").limits["b"] == ConnectionLimits(7, 7)
        servers.sessions.join(member("b", 1))
        servers.sessions.remember(unplaced)
        assert servers.sessions.find_present(("shop", "b")) == member("b", 1), "one that is there knows better"

    def test_the_newest_plan_of_the_namespace_counts(self, servers: Servers) -> None:
        for number, namespace in enumerate(("shop", "shop", "other")):
            servers.sessions.join(member(f"g{number}", number, namespace=namespace))
            servers.sessions.share_plan(f"uid-g{number}", plan(float(number)))
        servers.sessions.share_plan("uid-stranger", plan(99.0))
        assert servers.read_budget_group("uid-g0").planned == plan(1.0)
        assert servers.read_budget_group("uid-g2").planned == plan(2.0)

    def test_who_has_joined_nothing_shares_nothing(self, servers: Servers) -> None:
        group = servers.read_budget_group("uid-a")
        assert (group.limits, group.demands, group.planned) == ({}, (), None)
