"""One member's link as logins and addresses change under it."""

import asyncio
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from headroom.adapters.inmemory.clock import MemoryClock
from headroom.adapters.inmemory.postgres import MemoryPostgres
from headroom.adapters.inmemory.postgres_links import MemoryReplica
from headroom.adapters.inmemory.postgres_server import MemoryRole, MemoryServer
from headroom.adapters.inmemory.postgres_session import MemoryLinkSession
from headroom.model.database import ConnectionTarget, Credentials, Lsn, Mark, ReplicaProbe
from headroom.model.replica import PodFacts, Role
from headroom.policy.replicaset.facts import Answer, Reading, Silence
from headroom.ports.postgres import ReplicaLink
from headroom.reconcilers.replicaset.memory import SetHandles
from headroom.reconcilers.replicaset.prober import LoopWatch, Prober, excuse
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


class Probing(MemoryReplica):
    """A link whose probes a test answers: `seconds` of the clock until each answer, or an error, or a stalled loop."""

    def __init__(self, session: MemoryLinkSession, clock: "StallingClock") -> None:
        super().__init__(session)
        self.clock = clock
        self.asked, self.seconds, self.stall = 0, 0.0, 0.0
        self.error: Exception | None = None
        self.replayed: list[int] = []

    async def probe(self) -> ReplicaProbe:
        self.asked += 1
        probed_at = self.clock.monotonic()
        await self.clock.sleep(self.seconds)
        if self.stall:
            self.clock.stall(self.stall)
        if self.error is not None:
            raise self.error
        probe = await MemoryReplica.probe(self)
        probe = replace(probe, probed_at=probed_at, answered_at=self.clock.monotonic())
        return replace(probe, replay_lsn=Lsn(self.replayed.pop(0))) if self.replayed else probe

    async def close(self) -> None:
        if self.error is not None:
            raise self.error


class StallingClock(MemoryClock):
    """Moves on without letting anybody run, as a blocked event loop does."""

    def stall(self, seconds: float) -> None:
        self._move_to(self._elapsed + seconds)


async def probing(member: Member) -> Probing:
    """The member's link, once it is open, under the test's control."""
    member.prober = replace(member.prober, clock=(clock := StallingClock()))
    assert await member.is_answering(OLD)
    handles = member.handles.members["store-0-a"]
    assert isinstance(handles.link, MemoryReplica)
    handles.link = link = Probing(handles.link.session, clock)
    return link


def mark(at: float, lsn: int) -> Mark:
    return Mark(at, Lsn(lsn), None, 1, "1")


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rounds that do not wait for long: the event loop's time is real here, and the clock's is not."""
    monkeypatch.setattr("headroom.reconcilers.replicaset.prober.ROUND_SECONDS", 0.02)


@pytest.mark.usefixtures("hasty")
async def test_an_answer_to_an_earlier_round_is_a_sign_of_life_and_no_reading(member: Member) -> None:
    link = await probing(member)
    link.seconds = 0.9
    assert await member.probe(OLD) == Silence()
    await link.clock.advance(7.8)
    link.seconds = 0.0
    fresh = await member.probe(OLD)
    assert isinstance(fresh, Answer), "the question of this round was answered"
    assert fresh.probe.probed_at == 7.8


@pytest.mark.usefixtures("hasty")
async def test_a_member_that_needs_longer_than_a_round_each_time_is_late_and_not_silent(member: Member) -> None:
    link = await probing(member)
    link.seconds = 0.9
    assert await member.probe(OLD) == Silence()
    for _ in range(4):
        await link.clock.advance(1.7)
        reading = await member.probe(OLD)
        assert isinstance(reading, Silence)
        assert reading.late is not None
        assert reading.message == "its answer took 0.9 s"
    assert link.asked == 5, "each round asks once"


@pytest.mark.usefixtures("hasty")
async def test_an_answer_that_comes_during_a_round_to_the_question_before_is_late_too(member: Member) -> None:
    link = await probing(member)
    link.seconds = 0.9
    assert await member.probe(OLD) == Silence()
    await link.clock.advance(0.5)
    waiting = asyncio.create_task(member.probe(OLD))
    await asyncio.sleep(0)
    await link.clock.advance(0.5)
    reading = await waiting
    assert isinstance(reading, Silence)
    assert reading.late is not None
    assert link.asked == 1


async def test_an_error_that_nobody_foresaw_costs_only_its_member(
    member: Member, caplog: pytest.LogCaptureFixture
) -> None:
    link = await probing(member)
    link.error = KeyError("replay_lsn")
    member.add("10.0.0.2").settings["cluster_name"] = "store-1-a"
    other = replace(member.pod, name="store-1-a", uid="other", ip="10.0.0.2")
    for _ in range(3):
        readings = await member.prober.probe_all([member.pod, other], OLD)
        assert readings["store-0-a"] == Silence("'replay_lsn'")
        assert isinstance(readings["store-1-a"], Answer)
    assert await member.prober.probe_now(member.pod) is None
    assert len(caplog.records) == 1, "the same error in a row is logged once"
    link.error = None
    assert isinstance(await member.probe(OLD), Answer)


async def test_a_link_that_cannot_be_closed_stops_nobody(member: Member) -> None:
    link = await probing(member)
    link.error = KeyError("close")
    handles = member.handles.members["store-0-a"]
    handles.pending = asyncio.create_task(link.probe())
    await asyncio.wait([handles.pending])
    await member.prober.forget_missing([])
    assert member.handles.members == {}


async def test_one_that_is_a_moment_behind_the_position_is_asked_again(member: Member) -> None:
    link = await probing(member)
    link.replayed = [90, 100]
    waiting = asyncio.create_task(member.prober.probe_all([member.pod], OLD, mark(0.0, 100)))
    await link.clock.advance(0.1)
    reading = (await waiting)["store-0-a"]
    assert isinstance(reading, Answer)
    assert (reading.probe.replay_lsn, link.asked) == (100, 2)


async def test_one_that_stays_behind_keeps_its_last_answer(member: Member) -> None:
    link = await probing(member)
    link.replayed = [90, 91, 92]
    waiting = asyncio.create_task(member.prober.probe_all([member.pod], OLD, mark(0.0, 100)))
    await link.clock.advance(0.2)
    reading = (await waiting)["store-0-a"]
    assert isinstance(reading, Answer)
    assert (reading.probe.replay_lsn, link.asked) == (92, 3)


async def test_one_whose_replay_is_paused_is_not_waited_for(member: Member) -> None:
    link = await probing(member)
    member.server.is_paused = True
    link.replayed = [90]
    reading = (await member.prober.probe_all([member.pod], OLD, mark(0.0, 100)))["store-0-a"]
    assert isinstance(reading, Answer)
    assert link.asked == 1


async def test_a_round_in_which_our_own_loop_was_late_is_seen(member: Member) -> None:
    link = await probing(member)
    with LoopWatch(link.clock) as watch:
        readings = await member.prober.probe_all([member.pod], OLD)
        assert not watch.is_late
        assert isinstance(readings["store-0-a"], Answer)
    link.stall = 2.0
    with LoopWatch(link.clock) as watch:
        readings = await member.prober.probe_all([member.pod], OLD)
        assert watch.is_late
    excused = excuse(readings)["store-0-a"]
    assert isinstance(excused, Silence)
    assert excused.is_excused
    assert excused.late is not None, "that it lives is known all the same"


async def test_a_loop_that_is_late_before_the_last_turn_is_seen_too() -> None:
    clock = StallingClock()
    with LoopWatch(clock) as watch:
        clock.stall(0.4)
        await asyncio.sleep(0.06)
        assert watch.is_late
    with LoopWatch(clock) as watch:
        await asyncio.sleep(0.06)
        assert not watch.is_late


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
