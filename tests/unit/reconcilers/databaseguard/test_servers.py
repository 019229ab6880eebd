"""The sessions of servers: who joins whom, who measures, who takes over, and what is asked once."""

import asyncio
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

import pytest

from headroom.adapters.inmemory.clock import MemoryClock
from headroom.adapters.inmemory.postgres import MemoryPostgres
from headroom.adapters.inmemory.postgres_server import MemoryRole, MemoryServer
from headroom.errors import PrimaryUnavailable
from headroom.model.canary import CanaryWindow
from headroom.model.conditions import Finding
from headroom.model.database import Allocation, ConnectionTarget, Credentials, DatabaseView, PoolDemand, ServerFacts
from headroom.policy.databaseguard.budget import ConnectionLimits
from headroom.policy.databaseguard.facts import ServerMemory, SharedServer
from headroom.policy.databaseguard.identity import ServerId
from headroom.policy.databaseguard.signals import Level
from headroom.policy.databaseguard.state import StateMemory
from headroom.ports.kube import DATABASE_GUARD, WORKER_POOL, ObjectRef
from headroom.ports.postgres import PrimaryLink
from headroom.reasons import Reason
from headroom.reconcilers.servers import ABSENT_SECONDS, GuardLinks, Membership, Servers
from tests.unit.reconcilers.databaseguard.world import Leading

START = datetime(2026, 1, 1, tzinfo=UTC)
SERVER = ServerId("7", START, "10.0.0.7:5432")
FACTS = ServerFacts("7", 170_002, False, 1, None, {}, 0, 0, True, started_at=START)
POOL = ObjectRef(WORKER_POOL, "shop", "mail")


def member(name: str, age: int = 0, namespace: str = "shop", **changes: Any) -> Membership:
    """The younger the higher `age`."""
    made = Membership(
        (namespace, name), f"uid-{name}", f"2026-01-0{1 + age}T00:00:00Z", SERVER, ConnectionLimits(60, 5)
    )
    return replace(made, **changes)


def shared(level: Level | None = None, at: float = 0.0) -> SharedServer:
    return SharedServer(at, FACTS, True, CanaryWindow(), ServerMemory(state=StateMemory(level)))


def view(uid: str = "uid-a", *, is_ready: bool = True, **changes: Any) -> DatabaseView:
    finding = Finding(Reason.CONNECTED if is_ready else Reason.PRIMARY_UNREACHABLE, "")
    return DatabaseView(uid, is_ready, finding, 0.0, **changes)


class Woken(list[ObjectRef]):
    def names(self) -> list[str]:
        found = sorted(ref.name for ref in self)
        self.clear()
        return found


@pytest.fixture
def clock() -> MemoryClock:
    return MemoryClock()


@pytest.fixture
def woken() -> Woken:
    return Woken()


@pytest.fixture
def servers(clock: MemoryClock, woken: Woken) -> Servers:
    return Servers(clock, wake=woken.append)


def test_the_oldest_measures_whatever_the_order_they_come_in(servers: Servers) -> None:
    young, old, middle = member("a", 3), member("b", 1), member("c", 2)
    assert servers.join(young).is_holder
    assert servers.join(old).is_holder
    assert not servers.join(young).is_holder
    assert not servers.join(middle).is_holder
    assert servers.join(old).is_holder


def test_guards_made_in_one_second_are_ordered_by_uid(servers: Servers) -> None:
    servers.join(member("b"))
    assert servers.join(member("a")).is_holder
    assert not servers.join(member("b")).is_holder


def test_each_is_told_the_others(servers: Servers) -> None:
    servers.join(member("a"))
    servers.join(member("b", 1, limits=ConnectionLimits(30, 9)))
    servers.join(member("c", 2, namespace="other"))
    standing = servers.join(member("a"))
    assert (standing.local_guards, standing.foreign_guards) == (("b",), 1)
    assert standing.other_limits == (ConnectionLimits(30, 9), ConnectionLimits(60, 5))


async def test_one_that_makes_no_pass_is_taken_over_and_comes_back(servers: Servers, clock: MemoryClock) -> None:
    servers.join(member("a"))
    servers.join(member("b", 1))
    await clock.advance(ABSENT_SECONDS - 1)
    assert not servers.join(member("b", 1)).is_holder
    await clock.advance(1)
    assert servers.join(member("b", 1)).is_holder
    assert servers.join(member("a")).is_holder
    assert not servers.join(member("b", 1)).is_holder


def test_one_that_leaves_wakes_the_others_and_the_next_measures(servers: Servers, woken: Woken) -> None:
    servers.join(member("a"))
    servers.join(member("b", 1))
    assert servers.leave(("shop", "a"))
    assert woken.names() == ["b"]
    assert servers.join(member("b", 1)).is_holder
    assert not servers.leave(("shop", "b")), "nobody is left"
    assert not servers.leave(("shop", "b")), "it is gone already"


def test_what_was_found_is_shared_and_news_wake_the_others(servers: Servers, woken: Woken) -> None:
    servers.join(member("a"))
    assert servers.join(member("b", 1)).shared is None
    servers.share(member("a"), shared(Level.HEALTHY))
    assert woken.names() == ["b"]
    standing = servers.join(member("b", 1))
    assert standing.shared is not None
    assert standing.shared.memory.state.level is Level.HEALTHY
    servers.share(member("a"), shared(Level.HEALTHY, at=1.0))
    assert woken.names() == [], "the same a second later"
    servers.share(member("a"), shared(Level.OVERLOADED))
    assert woken.names() == ["b"]
    servers.share(member("stranger"), shared(Level.EMERGENCY))
    assert woken.names() == [], "who has not joined has nothing to share"


def test_a_restarted_server_is_another_session(servers: Servers) -> None:
    servers.join(member("a"))
    servers.join(member("b", 1))
    servers.share(member("a"), shared(Level.HEALTHY))
    after = replace(SERVER, started_at=datetime(2026, 1, 2, tzinfo=UTC))
    moved = servers.join(member("a", server=after))
    assert moved.is_holder
    assert (moved.local_guards, moved.shared) == ((), None)
    assert servers.join(member("b", 1)).is_holder, "it is alone until it sees the new one"
    assert servers.join(member("b", 1, server=after)).local_guards == ("a",)


def test_a_claim_is_not_passed_on_from_one_to_the_next(servers: Servers) -> None:
    alias = replace(SERVER, address="10.0.0.8:5432")
    servers.join(member("a"))
    servers.join(member("alias", 1, server=alias))
    foreign = servers.join(member("x", 2, namespace="other"))
    assert (foreign.local_guards, foreign.foreign_guards, foreign.is_holder) == ((), 0, True)
    lone = Servers(MemoryClock())
    lone.join(member("a"))
    assert lone.join(member("x", 2, namespace="other")).foreign_guards == 1


def test_only_one_sweeps_and_it_needs_a_replication_login(servers: Servers) -> None:
    servers.join(member("a"))
    assert servers.join(member("b", 1, has_slots=True)).is_sweeper
    servers.join(member("c", 2, has_slots=True))
    assert not servers.join(member("a")).is_sweeper
    assert not servers.join(member("c", 2, has_slots=True)).is_sweeper
    assert servers.join(member("a", has_slots=True)).is_sweeper


def test_demands_are_those_of_all_pools_of_the_server(servers: Servers) -> None:
    demands = [PoolDemand(uid, 1, 1, 0, 1, 0, 1) for uid in ("c", "a", "b")]
    for name, demand in zip(("one", "two", "alone"), demands, strict=True):
        servers.post_demand(POOL, ("shop", name), demand)
    assert [demand.uid for demand in servers.demands(("shop", "one"))] == ["c"]
    servers.join(member("one"))
    servers.join(member("two", 1))
    assert [demand.uid for demand in servers.demands(("shop", "two"))] == ["a", "c"]
    servers.forget(POOL, "a")
    assert [demand.uid for demand in servers.demands(("shop", "two"))] == ["c"]


NEWS = [
    ({"is_ready": False}, True),
    ({"state": "Overloaded"}, True),
    ({"allocations": {"a": Allocation(3, 32, 0)}}, True),
    ({"allocations": {"a": Allocation(30, 32, 0), "b": Allocation(2, 32, 0)}}, False),
    ({"observed_at": 9.0}, False),
    ({"marks": ()}, False),
]


@pytest.mark.parametrize(("change", "is_news"), NEWS)
def test_dependents_are_woken_by_what_changes_their_decision(
    servers: Servers, woken: Woken, change: dict[str, Any], is_news: bool
) -> None:
    servers.depend(POOL, ("shop", "a"))
    servers.post_demand(POOL, ("shop", "a"), PoolDemand("a", 1, 1, 0, 4, 0, 8))
    known = view(allocations={"a": Allocation(9, 32, 0)})
    servers.post(("shop", "a"), known)
    assert woken.names() == ["mail"]
    servers.post(("shop", "a"), replace(known, **change))
    assert woken.names() == (["mail"] if is_news else [])
    servers.post(("shop", "another"), view())
    servers.forget(POOL, "uid-mail")
    servers.post(("shop", "a"), view(is_ready=False))
    assert woken.names() == []


def test_a_guard_is_removed_unless_another_of_its_name_has_come(servers: Servers) -> None:
    servers.join(member("a"))
    servers.join(member("b", 1))
    servers.post(("shop", "a"), view("uid-a"))
    servers.remove(("shop", "a"), "uid-of-another")
    assert servers.view(("shop", "a")) is not None
    servers.remove(("shop", "a"), "uid-a")
    assert servers.view(("shop", "a")) is None
    assert servers.join(member("b", 1)).is_holder


@dataclass
class SlowLink:
    """A link whose list of slots takes its time."""

    inner: PrimaryLink
    clock: MemoryClock
    asked: int = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    async def slots(self, prefix: str) -> Any:
        self.asked += 1
        await self.clock.sleep(0.1)
        return await self.inner.slots(prefix)


class TestReadings:
    """Questions that are the same for all sets of a server go over the link of the guard that measures."""

    @pytest.fixture
    def postgres(self, clock: MemoryClock) -> MemoryPostgres:
        made = MemoryPostgres(clock, Leading())
        made.add(MemoryServer("db", roles={"m": MemoryRole("p")}))
        return made

    async def link(self, postgres: MemoryPostgres) -> GuardLinks:
        return GuardLinks(await postgres.open_primary(ConnectionTarget("db", 5432, "store", Credentials("m", "p"))))

    async def test_many_readers_are_one_question(
        self, servers: Servers, clock: MemoryClock, postgres: MemoryPostgres
    ) -> None:
        link = SlowLink((await self.link(postgres)).primary, clock)
        servers.post(("shop", "a"), view(), GuardLinks(link))
        readers = [asyncio.create_task(servers.read_slots(("shop", "a"))) for _ in range(5)]
        await clock.advance(0.2)
        assert await asyncio.gather(*readers) == [[]] * 5
        assert link.asked == 1

    async def test_a_reader_that_gives_up_takes_the_answer_from_nobody(
        self, servers: Servers, clock: MemoryClock, postgres: MemoryPostgres
    ) -> None:
        servers.post(("shop", "a"), view(), GuardLinks(SlowLink((await self.link(postgres)).primary, clock)))
        hasty, patient = (asyncio.create_task(servers.read_slots(("shop", "a"))) for _ in range(2))
        await clock.advance(0.05)
        hasty.cancel()
        await clock.advance(0.2)
        assert await patient == []

    async def test_an_answer_holds_for_a_moment_and_not_after_a_change(
        self, servers: Servers, clock: MemoryClock, postgres: MemoryPostgres
    ) -> None:
        servers.post(("shop", "a"), view(), await self.link(postgres))
        first = await servers.read_slots(("shop", "a"))
        assert await servers.read_slots(("shop", "a")) is first
        servers.invalidate_slots(("shop", "a"))
        second = await servers.read_slots(("shop", "a"))
        assert second is not first
        await clock.advance(1.1)
        assert await servers.read_slots(("shop", "a")) is not second

    async def test_all_guards_of_a_server_share_the_answer(self, servers: Servers, postgres: MemoryPostgres) -> None:
        servers.join(member("a"))
        servers.join(member("b", 1))
        servers.post(("shop", "a"), view(), await self.link(postgres))
        servers.post(("shop", "b"), view("uid-b"), await self.link(postgres))
        assert await servers.read_backups(("shop", "b")) is await servers.read_backups(("shop", "a"))
        servers.leave(("shop", "a"))
        servers.post(("shop", "a"), view(is_ready=False))
        assert (await servers.read_position(("shop", "b"))).lsn > 0
        with pytest.raises(PrimaryUnavailable):
            await servers.read_position(("shop", "a"))

    async def test_while_the_one_that_measures_has_no_link_yet_the_own_one_serves(
        self, servers: Servers, postgres: MemoryPostgres
    ) -> None:
        servers.join(member("a"))
        servers.join(member("b", 1))
        servers.post(("shop", "b"), view("uid-b"), await self.link(postgres))
        assert (await servers.read_position(("shop", "b"))).lsn > 0

    async def test_without_a_link_nothing_can_be_read(self, servers: Servers) -> None:
        for read in (servers.read_position, servers.read_slots, servers.read_backups):
            with pytest.raises(PrimaryUnavailable) as caught:
                await read(("shop", "a"))
            assert caught.value.reason is Reason.GUARD_NOT_READY
        servers.invalidate_slots(("shop", "a"))


def test_guards_are_woken_by_their_kind(servers: Servers, woken: Woken) -> None:
    servers.join(member("a"))
    servers.join(member("b", 1, namespace="other"))
    servers.leave(("shop", "a"))
    assert woken == [ObjectRef(DATABASE_GUARD, "other", "b")]
