"""The elector against the API in memory, on a clock that only the test moves."""

import asyncio
from datetime import timedelta

import pytest

from headroom.adapters.inmemory.clock import MemoryClock, settle
from headroom.adapters.inmemory.kube import MemoryKube
from headroom.adapters.inmemory.kube_cluster import Cluster
from headroom.adapters.inmemory.kube_faults import Latency
from headroom.adapters.inmemory.telemetry import MemoryTelemetry
from headroom.adapters.kube.leadership import LEADER, LEADER_LABEL, LEASE_RENEWALS, LeaderLabel, build_holder
from headroom.adapters.kube.lease import LeaseElector
from headroom.adapters.kube.lease_record import LeaseTimes
from headroom.errors import Conflict, HeadroomError, KubeUnavailable, NotLeading, Refused
from headroom.ports.kube import LEASE, POD, Manifest, ObjectRef
from headroom.reasons import Reason

REF = ObjectRef(LEASE, "headroom", "headroom")
WRITE_SECONDS = 3.0


class Process:
    """One operator process: its client, its elector, and what befell it."""

    def __init__(self, name: str, clock: MemoryClock, beside: "Process | None" = None) -> None:
        self.kube = MemoryKube(
            clock=clock,
            beside=beside.kube if beside else None,
            read_timeout_seconds=2.0,
            write_timeout_seconds=2.0,
        )
        self.ends: list[str] = []
        self.telemetry = MemoryTelemetry()
        self.elector = LeaseElector(
            self.kube,
            clock,
            lease=REF,
            holder=name,
            telemetry=self.telemetry,
            on_lost=self.ends.append,
            jitter=lambda: 0.5,
        )
        self.task: asyncio.Task[object] | None = None

    def start(self) -> "Process":
        self.task = asyncio.create_task(self.elector.acquire())
        return self

    def may_write(self, seconds: float = WRITE_SECONDS) -> bool:
        try:
            self.elector.check(seconds)
        except NotLeading:
            return False
        return True

    def kill(self) -> None:
        """SIGKILL: no call of this process takes effect any more."""
        self.kube.faults.fail(KubeUnavailable("killed", reason=Reason.KUBE_UNAVAILABLE), times=10**9)


def unavailable() -> HeadroomError:
    return KubeUnavailable("HTTP 503", reason=Reason.KUBE_UNAVAILABLE)


@pytest.fixture
def clock() -> MemoryClock:
    return MemoryClock()


@pytest.fixture
async def leader(clock: MemoryClock) -> Process:
    process = Process("a", clock).start()
    await clock.advance(0)
    assert process.elector.is_leading
    return process


def lease_of(process: Process) -> Manifest:
    found = Cluster(process.kube).read(REF)
    assert found is not None
    return found


async def test_the_first_makes_the_lease_and_leads_at_once(clock: MemoryClock) -> None:
    process = Process("a", clock)
    assert not process.may_write()
    assert process.telemetry.value(LEADER) == 0
    process.start()
    await clock.advance(0)
    assert process.may_write()
    assert process.telemetry.value(LEADER) == 1
    spec = lease_of(process)["spec"]
    assert (spec["holderIdentity"], spec["leaseDurationSeconds"], spec["leaseTransitions"]) == ("a", 9, 0)
    assert process.elector.term is not None
    assert process.elector.term.lease_uid == lease_of(process)["metadata"]["uid"]


async def test_it_renews_without_end(clock: MemoryClock, leader: Process) -> None:
    for _ in range(60):
        await clock.advance(1.0)
        assert leader.may_write()
    renewals = leader.telemetry.value(LEASE_RENEWALS, outcome="Renewed")
    assert renewals is not None
    assert 60 / 1.8 - 1 <= renewals <= 60 / 1.5 + 1


async def test_a_follower_waits_while_the_leader_renews(clock: MemoryClock, leader: Process) -> None:
    follower = Process("b", clock, leader).start()
    await clock.advance(120)
    assert leader.may_write()
    assert not follower.elector.is_leading
    assert follower.kube.writes == []


async def test_after_a_kill_the_other_one_leads_within_twelve_seconds(clock: MemoryClock, leader: Process) -> None:
    follower = Process("b", clock, leader).start()
    await clock.advance(20)
    leader.kill()
    waited = 0.0
    while not follower.may_write():
        assert not (leader.may_write() and follower.elector.is_leading)
        await clock.advance(0.1)
        waited += 0.1
        assert waited < 12, "no takeover"
    assert waited > 7
    assert not leader.may_write(0)
    assert follower.elector.term is not None
    assert follower.elector.term.previous_holder == "a"
    assert follower.elector.term.number == 1


async def test_a_leader_that_cannot_renew_gives_up_at_the_deadline(clock: MemoryClock, leader: Process) -> None:
    await clock.advance(20)
    leader.kill()
    await clock.advance(6.0)
    assert leader.elector.lost.is_set()
    assert leader.ends == ["no renewal within 6 s"]
    assert leader.telemetry.value(LEADER) == 0
    assert not leader.may_write(0)
    await clock.advance(60)
    assert len(leader.ends) == 1


async def test_the_last_write_ends_before_the_lease_does(clock: MemoryClock, leader: Process) -> None:
    # No renewal has been sent since the moment of the acquisition, at 0 s.
    leader.kill()
    await clock.advance(5.9)
    assert leader.may_write(3.0)
    assert not leader.may_write(3.2)
    await clock.advance(0.05)
    assert leader.may_write(3.0)


async def test_a_slow_acquisition_counts_from_its_sending(clock: MemoryClock) -> None:
    process = Process("a", clock)
    process.kube.faults.latency = lambda verb, _ref: Latency(0, 1.9 if verb == "create" else 0)
    process.start()
    await clock.advance(1.95)
    assert process.may_write(7.0)
    assert not process.may_write(7.1)


@pytest.mark.parametrize("phase", [0.0, 0.4, 0.8, 1.2])
async def test_a_follower_takes_no_sooner_than_a_lease_and_its_margin(
    clock: MemoryClock, leader: Process, phase: float
) -> None:
    seen: list[tuple[str, float]] = []
    leader.kube.store.listeners.append(
        lambda _change, lease: seen.append((lease["spec"]["holderIdentity"], clock.monotonic()))
    )
    await clock.advance(phase)
    follower = Process("b", clock, leader)
    follower.elector._times = LeaseTimes(retry_seconds=0.05)
    follower.start()
    await clock.advance(10)
    leader.kill()
    await clock.advance(15)
    last = max(moment for holder, moment in seen if holder == "a")
    taken = min(moment for holder, moment in seen if holder == "b")
    assert 9.0 * 1.02 < taken - last < 9.0 * 1.02 + 0.2


async def test_a_hung_renewal_is_not_waited_for(clock: MemoryClock, leader: Process) -> None:
    class Hung(MemoryKube):
        async def patch(self, *_args: object, **_more: object) -> Manifest:
            await asyncio.Event().wait()
            raise AssertionError

    process = Process("b", clock)
    process.elector._kube = Hung(clock=clock, beside=process.kube)
    process.start()
    await clock.advance(7)
    assert process.ends == ["no renewal within 6 s"]


@pytest.mark.parametrize(
    "error",
    [
        Conflict("HTTP 409 of something in between"),
        KubeUnavailable("HTTP 429", reason=Reason.KUBE_UNAVAILABLE, retry_after=timedelta(seconds=1)),
        KubeUnavailable("timeout", reason=Reason.KUBE_UNAVAILABLE),
        Refused("HTTP 403", reason=Reason.FORBIDDEN),
        ValueError("a mistake of ours"),
    ],
    ids=["409", "429", "timeout", "403", "bug"],
)
async def test_two_failed_renewals_in_a_row_are_survived(clock: MemoryClock, leader: Process, error: Exception) -> None:
    await clock.advance(5)
    if isinstance(error, Conflict):
        # The server itself retries a patch without a version: only another term or no Lease at all is a Conflict.
        Cluster(leader.kube).edit(REF, lambda lease: lease["metadata"].update(labels={"seen": "by a person"}))
    else:
        leader.kube.faults.fail(error, verb="patch", times=2)
    for _ in range(100):
        await clock.advance(0.5)
        assert leader.elector.is_leading
    assert leader.ends == []


async def test_lost_responses_of_renewals_do_no_harm(clock: MemoryClock, leader: Process) -> None:
    leader.kube.faults.lose_response(verb="patch", times=2)
    await clock.advance(30)
    assert leader.may_write()
    assert leader.ends == []


async def test_a_takeover_whose_response_is_lost_is_known_again(clock: MemoryClock, leader: Process) -> None:
    follower = Process("b", clock, leader)
    follower.kube.faults.lose_response(verb="patch", times=1)
    follower.start()
    await clock.advance(5)
    leader.kill()
    await clock.advance(16)
    assert follower.may_write()
    assert follower.elector.term is not None
    assert (follower.elector.term.number, follower.elector.term.previous_holder) == (1, "a")


async def test_a_creation_whose_response_is_lost_is_known_again(clock: MemoryClock) -> None:
    process = Process("a", clock)
    process.kube.faults.lose_response(verb="create", times=1)
    process.start()
    await clock.advance(2)
    assert process.may_write()


async def test_two_that_start_together_do_not_both_lead(clock: MemoryClock) -> None:
    first = Process("a", clock)
    second = Process("b", clock, first)
    for process in (first, second):
        process.kube.faults.latency = lambda _verb, _ref: Latency(0.2, 0.1)
        process.start()
    for _ in range(100):
        await clock.advance(0.3)
        assert not (first.may_write(0) and second.may_write(0))
    assert first.may_write() != second.may_write()


async def test_a_stolen_lease_ends_the_leader_at_the_next_renewal(clock: MemoryClock, leader: Process) -> None:
    await clock.advance(10)
    Cluster(leader.kube).edit(REF, lambda lease: lease["spec"].update(holderIdentity="thief"))
    await clock.advance(1.9)
    assert leader.ends == ["another process holds the lease, or it was deleted"]


async def test_a_deleted_lease_is_not_taken_before_its_leader_knows(clock: MemoryClock, leader: Process) -> None:
    follower = Process("b", clock, leader).start()
    await clock.advance(10)
    Cluster(leader.kube).remove(REF)
    for _ in range(40):
        await clock.advance(0.5)
        assert not (leader.may_write(0) and follower.may_write(0))
    assert leader.ends == ["another process holds the lease, or it was deleted"]
    assert follower.may_write()


async def test_a_released_lease_is_taken_at_the_next_look(clock: MemoryClock, leader: Process) -> None:
    follower = Process("b", clock, leader).start()
    await clock.advance(10)
    await leader.elector.release()
    assert not leader.may_write(0)
    assert lease_of(leader)["spec"]["holderIdentity"] == ""
    await clock.advance(1.8)
    assert follower.may_write()
    assert leader.ends == []


async def test_a_release_waits_for_the_writes_on_their_way(clock: MemoryClock, leader: Process) -> None:
    await clock.advance(10)
    leader.elector.check(WRITE_SECONDS)
    release = asyncio.create_task(leader.elector.release())
    await clock.advance(2.9)
    assert lease_of(leader)["spec"]["holderIdentity"] == "a"
    assert not leader.may_write(0)
    await clock.advance(0.2)
    await release
    assert lease_of(leader)["spec"]["holderIdentity"] == ""


async def test_the_same_pod_started_again_waits_like_any_other(clock: MemoryClock, leader: Process) -> None:
    leader.kill()
    again = Process("a", clock, leader).start()
    await clock.advance(8.5)
    assert not again.elector.is_leading
    await clock.advance(3)
    assert again.may_write()


@pytest.mark.parametrize("jump", [timedelta(hours=1), timedelta(hours=-1), timedelta(days=400)])
async def test_a_jump_of_the_wall_clock_changes_nothing(clock: MemoryClock, leader: Process, jump: timedelta) -> None:
    follower = Process("b", clock, leader).start()
    await clock.advance(5)
    clock.jump(jump)
    for _ in range(60):
        await clock.advance(0.5)
        assert leader.may_write()
        assert not follower.elector.is_leading


async def test_a_longer_lease_of_an_older_version_is_respected(clock: MemoryClock) -> None:
    old = Process("old", clock)
    old.elector._times = LeaseTimes(lease_seconds=30, renew_deadline_seconds=20)
    old.start()
    await clock.advance(0)
    new = Process("new", clock, old).start()
    await clock.advance(1)
    old.kill()
    await clock.advance(28)
    assert not new.elector.is_leading
    await clock.advance(5)
    assert new.may_write()


async def test_an_api_that_refuses_is_asked_again(clock: MemoryClock) -> None:
    process = Process("a", clock)
    process.kube.faults.fail(Refused("HTTP 403", reason=Reason.FORBIDDEN), times=3)
    process.start()
    await clock.advance(10)
    assert process.may_write()


class TestLeaderLabel:
    @pytest.fixture
    def kube(self) -> MemoryKube:
        return MemoryKube()

    def add_pod(self, kube: MemoryKube, name: str, labels: dict[str, str] | None) -> str:
        metadata: dict[str, object] = {"namespace": "headroom", "name": name}
        if labels is not None:
            metadata["labels"] = labels
        pod = Cluster(kube).seed({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": {}})
        return build_holder(name, pod["metadata"]["uid"])

    def labels_of(self, kube: MemoryKube, name: str) -> dict[str, str]:
        pod = Cluster(kube).read(ObjectRef(POD, "headroom", name))
        assert pod is not None
        return dict(pod["metadata"].get("labels") or {})

    @pytest.mark.parametrize("labels", [None, {}, {"app": "headroom"}])
    async def test_it_is_put_on_and_taken_off(self, kube: MemoryKube, labels: dict[str, str] | None) -> None:
        holder = self.add_pod(kube, "operator-1", labels)
        label = LeaderLabel(kube, kube, "headroom")
        await label.put_on(holder)
        assert self.labels_of(kube, "operator-1") == {**(labels or {}), LEADER_LABEL: "true"}
        await label.take_off(holder)
        await label.take_off(holder)
        assert self.labels_of(kube, "operator-1") == (labels or {})

    async def test_a_pod_that_hangs_loses_it_to_the_next(self, kube: MemoryKube) -> None:
        old = self.add_pod(kube, "operator-1", {LEADER_LABEL: "true"})
        new = self.add_pod(kube, "operator-2", {})
        await LeaderLabel(kube, kube, "headroom").put_on(new, previous_holder=old)
        assert LEADER_LABEL not in self.labels_of(kube, "operator-1")
        assert self.labels_of(kube, "operator-2") == {LEADER_LABEL: "true"}

    async def test_another_pod_of_the_same_name_is_left_alone(self, kube: MemoryKube) -> None:
        self.add_pod(kube, "operator-1", {LEADER_LABEL: "true"})
        label = LeaderLabel(kube, kube, "headroom")
        await label.take_off("operator-1_another-uid")
        with pytest.raises(Conflict):
            await label.put_on("operator-1_another-uid")
        assert self.labels_of(kube, "operator-1") == {LEADER_LABEL: "true"}


async def test_settling_gives_way() -> None:
    done: list[int] = []
    asyncio.get_running_loop().call_soon(done.append, 1)
    await settle(1)
    assert done == [1]
