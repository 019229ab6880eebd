"""One member's link as logins and addresses change under it."""

import asyncio
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from headroom.adapters.inmemory.clock import MemoryClock
from headroom.adapters.inmemory.postgres import MemoryPostgres
from headroom.adapters.inmemory.postgres_server import MemoryRole, MemoryServer
from headroom.model.database import ConnectionTarget, Credentials
from headroom.model.replica import PodFacts, Role
from headroom.policy.replicaset.facts import Answer, Reading, Silence
from headroom.ports.postgres import ReplicaLink
from headroom.reconcilers.replicaset.memory import SetHandles
from headroom.reconcilers.replicaset.prober import Prober
from tests.memory_world import CrashFence

OLD = ConnectionTarget("primary", 5432, "store", Credentials("monitor", "old"))
NEW = replace(OLD, credentials=Credentials("monitor", "new"))


class Member:
    """One replica in memory, probed as a pass does it."""

    def __init__(self) -> None:
        clock = MemoryClock()
        self.postgres = MemoryPostgres(clock, CrashFence())
        self.server = self.add("10.0.0.1")
        self.clock, self.handles = clock, SetHandles()
        self.prober = Prober(self.postgres, clock, self.handles)
        self.pod = PodFacts("store-0-a", "uid", "1", Role.STANDBY, datetime(2026, 1, 1, tzinfo=UTC), ip="10.0.0.1")

    def add(self, host: str, password: str = "old") -> MemoryServer:
        upstream = MemoryServer("primary")
        server = MemoryServer(host, upstream=upstream, roles={"monitor": MemoryRole(password)})
        server.settings["cluster_name"] = "store-0-a"
        return self.postgres.add(server)

    async def probe(self, target: ConnectionTarget) -> Reading:
        readings = await self.prober.probe_all([self.pod], target)
        return readings[self.pod.name]

    async def is_answering(self, target: ConnectionTarget) -> bool:
        return isinstance(await self.probe(target), Answer)


@pytest.fixture
def member() -> Member:
    return Member()


async def test_a_link_that_breaks_after_a_rotation_comes_back_with_the_new_password(member: Member) -> None:
    assert await member.is_answering(OLD)
    member.server.roles["monitor"] = MemoryRole("new")
    assert await member.is_answering(NEW)
    member.server.restart()
    assert await member.is_answering(NEW)
    assert member.postgres.opened == ["member", "member"], "a link is opened once for each login"


async def test_the_old_link_stays_until_the_member_has_replayed_the_new_password(member: Member) -> None:
    assert await member.is_answering(OLD)
    assert await member.is_answering(NEW), "the old session still answers"
    member.server.roles["monitor"] = MemoryRole("new")
    assert await member.is_answering(NEW)
    member.server.restart()
    assert await member.is_answering(NEW)


async def test_a_pod_that_moved_is_never_judged_by_who_has_its_old_address(member: Member) -> None:
    assert await member.is_answering(OLD)
    member.pod = replace(member.pod, ip="10.0.0.2")
    assert not await member.is_answering(OLD), "another member may have the address now"
    member.add("10.0.0.2")
    assert await member.is_answering(OLD)


async def test_what_answers_under_another_name_is_no_reading_of_the_member(member: Member) -> None:
    assert await member.is_answering(OLD)
    member.server.settings["cluster_name"] = "other-1-b"
    member.server.promote()
    assert not await member.is_answering(OLD), "a server of another name at its address says nothing of it"
    assert await member.prober.probe_now(member.pod) is None


async def test_a_silence_says_what_the_probe_met(member: Member) -> None:
    assert await member.is_answering(OLD)
    member.server.settings["cluster_name"] = "other-1-b"
    silence = await member.probe(OLD)
    assert isinstance(silence, Silence)
    assert "a server named 'other-1-b' answers" in silence.message
    assert not silence.is_excused


class SlowPostgres(MemoryPostgres):
    """Accepts connections once the gate is open."""

    gate: asyncio.Event

    async def open_replica(self, target: ConnectionTarget) -> ReplicaLink:
        """Wait for the gate first."""
        await self.gate.wait()
        return await MemoryPostgres.open_replica(self, target)


async def test_a_probe_that_is_on_its_way_goes_on_and_no_second_is_begun(member: Member) -> None:
    slow = SlowPostgres(member.clock, CrashFence())
    slow.gate = asyncio.Event()
    slow.add(member.server)
    member.prober = Prober(slow, member.clock, member.handles)
    assert await member.probe(OLD) == Silence()
    slow.gate.set()
    assert await member.is_answering(OLD)
    assert slow.opened == ["member"]


async def test_only_pods_that_may_run_and_have_an_address_are_asked(member: Member) -> None:
    for pod in (replace(member.pod, ip=""), replace(member.pod, phase="Failed")):
        assert await member.prober.probe_all([pod], OLD) == {}


async def test_the_link_to_a_pod_that_is_gone_is_closed(member: Member) -> None:
    assert await member.is_answering(OLD)
    await member.prober.forget_missing([member.pod])
    assert member.handles.members
    await member.prober.forget_missing([replace(member.pod, uid="another")])
    assert member.handles.members == {}
    assert await member.prober.probe_now(member.pod) is None
