"""One member's link as logins and addresses change under it."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from headroom.adapters.inmemory.clock import MemoryClock
from headroom.adapters.inmemory.postgres import MemoryPostgres
from headroom.adapters.inmemory.postgres_server import MemoryRole, MemoryServer
from headroom.api.v1alpha1.serving import Readiness
from headroom.model.database import ConnectionTarget, Credentials
from headroom.model.replica import PodFacts, Role
from headroom.reconcilers.replicaset.memory import SetMemory
from headroom.reconcilers.replicaset.prober import Prober

OLD = ConnectionTarget("primary", 5432, "store", Credentials("monitor", "old"))
NEW = replace(OLD, credentials=Credentials("monitor", "new"))


class Free:
    """A fence nobody shuts."""

    def check(self, timeout_seconds: float) -> None:
        """Everything may be written."""


class Member:
    """One replica in memory, probed as a pass does it."""

    def __init__(self) -> None:
        clock = MemoryClock()
        self.postgres = MemoryPostgres(clock, Free())
        self.server = self.add("10.0.0.1")
        self.memory = SetMemory()
        self.prober = Prober(self.postgres, clock, self.memory, Readiness())
        self.pod = PodFacts("store-0-a", "uid", "1", Role.STANDBY, datetime(2026, 1, 1, tzinfo=UTC), ip="10.0.0.1")

    def add(self, host: str, password: str = "old") -> MemoryServer:
        upstream = MemoryServer("primary")
        server = MemoryServer(host, upstream=upstream, roles={"monitor": MemoryRole(password)})
        server.settings["cluster_name"] = "store-0-a"
        return self.postgres.add(server)

    async def is_answering(self, target: ConnectionTarget) -> bool:
        await self.prober.probe_all([self.pod], target, ())
        return self.memory.members[self.pod.name].unanswered == 0


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
    assert member.memory.members[member.pod.name].lag is None
    assert await member.prober.probe_now(member.pod, ()) is None


async def test_what_a_probe_met_is_kept_until_one_is_answered(member: Member) -> None:
    assert await member.is_answering(OLD)
    member.server.settings["cluster_name"] = "other-1-b"
    assert not await member.is_answering(OLD)
    assert "a server named 'other-1-b' answers" in member.memory.members[member.pod.name].silence
    member.server.settings["cluster_name"] = "store-0-a"
    assert await member.is_answering(OLD)
    assert member.memory.members[member.pod.name].silence == ""
