"""What is known of servers: who is told, who is woken, and what is asked once."""

import asyncio
import gc
from dataclasses import dataclass, replace
from typing import Any

import pytest

from headroom.adapters.inmemory.clock import MemoryClock
from headroom.adapters.inmemory.postgres import MemoryPostgres
from headroom.adapters.inmemory.postgres_server import MemoryRole, MemoryServer
from headroom.errors import PrimaryUnavailable
from headroom.model.conditions import Finding
from headroom.model.database import (
    Allocation,
    ConnectionTarget,
    Credentials,
    DatabaseView,
)
from headroom.ports.kube import DATABASE_GUARD, ObjectRef
from headroom.ports.postgres import PrimaryLink
from headroom.reasons import Reason
from headroom.reconcilers.readings import SharedReading
from headroom.reconcilers.servers import GuardLinks, Servers
from tests.memory_world import CrashFence
from tests.unit.policy.databaseguard.make import make_demand
from tests.unit.reconcilers.databaseguard.members import POOL, Woken, member


def view(uid: str = "uid-a", *, is_ready: bool = True, **changes: Any) -> DatabaseView:
    finding = Finding(Reason.CONNECTED if is_ready else Reason.PRIMARY_UNREACHABLE, "")
    return DatabaseView(uid, is_ready, finding, 0.0, **changes)


def test_demands_are_those_of_all_pools_of_the_server(servers: Servers) -> None:
    demands = [make_demand(uid, running=1, wanted=1) for uid in ("c", "a", "b")]
    for name, demand in zip(("one", "two", "alone"), demands, strict=True):
        servers.post_demand(POOL, ("shop", name), demand)
    assert [demand.uid for demand in servers.demands(("shop", "one"))] == ["c"]
    servers.sessions.join(member("one"))
    servers.sessions.join(member("two", 1))
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
    servers.post_demand(POOL, ("shop", "a"), make_demand("a", running=4, wanted=8))
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
    servers.sessions.join(member("a"))
    servers.sessions.join(member("b", 1))
    servers.post(("shop", "a"), view("uid-a"))
    servers.remove(("shop", "a"), "uid-of-another")
    assert servers.view(("shop", "a")) is not None
    servers.remove(("shop", "a"), "uid-a")
    assert servers.view(("shop", "a")) is None
    assert servers.sessions.join(member("b", 1)).is_holder


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
        made = MemoryPostgres(clock, CrashFence())
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

    async def test_an_error_that_all_readers_gave_up_waiting_for_is_not_lost_to_the_log(
        self, clock: MemoryClock
    ) -> None:
        lost: list[str] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: lost.append(context["message"]))

        async def fail() -> int:
            await clock.sleep(0.1)
            raise PrimaryUnavailable("gone", reason=Reason.PRIMARY_UNREACHABLE)

        reading = SharedReading(clock, fail, 1.0)
        readers = [asyncio.create_task(reading.read()) for _ in range(3)]
        await clock.advance(0.05)
        for reader in readers:
            reader.cancel()
        await clock.advance(0.2)
        del reader, readers
        gc.collect()
        await clock.advance(0.1)
        assert lost == []

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

    async def test_sets_in_other_turns_share_a_walk_through_the_databases_but_not_that_of_another_server(
        self, servers: Servers, clock: MemoryClock, postgres: MemoryPostgres
    ) -> None:
        servers.post(("shop", "a"), view(), await self.link(postgres))
        first = await servers.read_libraries(("shop", "a"), "before")
        await clock.advance(20.0)
        assert await servers.read_libraries(("shop", "a"), "before") is first
        second = await servers.read_libraries(("shop", "a"), "restarted")
        assert second is not first
        await clock.advance(29.0)
        assert await servers.read_libraries(("shop", "a"), "restarted") is not second, "each reading of one set is new"

    async def test_all_guards_of_a_server_share_the_answer(self, servers: Servers, postgres: MemoryPostgres) -> None:
        servers.sessions.join(member("a"))
        servers.sessions.join(member("b", 1))
        servers.post(("shop", "a"), view(), await self.link(postgres))
        servers.post(("shop", "b"), view("uid-b"), await self.link(postgres))
        assert await servers.read_backups(("shop", "b")) is await servers.read_backups(("shop", "a"))
        servers.sessions.leave("uid-a")
        servers.post(("shop", "a"), view(is_ready=False))
        assert (await servers.read_position(("shop", "b"))).lsn > 0
        with pytest.raises(PrimaryUnavailable):
            await servers.read_position(("shop", "a"))

    async def test_while_the_one_that_measures_has_no_link_yet_the_own_one_serves(
        self, servers: Servers, postgres: MemoryPostgres
    ) -> None:
        servers.sessions.join(member("a"))
        servers.sessions.join(member("b", 1))
        servers.post(("shop", "b"), view("uid-b"), await self.link(postgres))
        assert (await servers.read_position(("shop", "b"))).lsn > 0

    async def test_without_a_link_nothing_can_be_read(self, servers: Servers) -> None:
        for read in (servers.read_position, servers.read_slots, servers.read_backups):
            with pytest.raises(PrimaryUnavailable) as caught:
                await read(("shop", "a"))
            assert caught.value.reason is Reason.GUARD_NOT_READY
        servers.invalidate_slots(("shop", "a"))


def test_guards_are_woken_by_their_kind(servers: Servers, woken: Woken) -> None:
    servers.sessions.join(member("a"))
    servers.sessions.join(member("b", 1, namespace="other"))
    servers.sessions.leave("uid-a")
    assert woken == [ObjectRef(DATABASE_GUARD, "other", "b")]
