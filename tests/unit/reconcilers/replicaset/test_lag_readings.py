"""What becomes a replay lag in a running set, what is reported of it, and who may stand in."""

from dataclasses import replace
from typing import Any, ClassVar

import pytest

from headroom.adapters.inmemory.clock import MemoryClock
from headroom.adapters.inmemory.kube_faults import Latency
from headroom.adapters.inmemory.postgres_links import MemoryReplica
from headroom.adapters.inmemory.postgres_server import MemorySession
from headroom.errors import KubeUnavailable
from headroom.model.database import ConnectionTarget, ReplicaProbe
from headroom.ports.kube import NODE, POD, SERVICE, ObjectRef
from headroom.reasons import Reason
from headroom.reconcilers.replicaset import metrics
from tests.manifests import NAMESPACE, make
from tests.unit.reconcilers.replicaset.world import NAME, LinkingPostgres, World

SLOW = Latency(request=0.75, response=0.75)
"""Every call of the API server takes a second and a half."""
BOUND_SECONDS = 1.0


async def made(**spec: Any) -> World:
    world = World()
    world.add_set(**spec)
    await world.run(40)
    world.telemetry.events.clear()
    return world


def standbys(world: World) -> list[str]:
    return [name for name in world.names(POD) if name not in world.serving()]


def slow_down(world: World) -> None:
    for kube in (world.kube, world.guard_kube):
        kube.faults.latency = lambda verb, ref: SLOW


def lags(world: World) -> dict[str, float]:
    found = {}
    for name in world.names(POD):
        lag = world.telemetry.value(metrics.REPLAY_LAG, namespace=NAMESPACE, name=NAME, member=name)
        if lag is not None:
            found[name] = lag
    return found


def lose_ready(world: World, name: str) -> None:
    ref = ObjectRef(POD, NAMESPACE, name)
    world.cluster.set_status(ref, {"conditions": [{"type": "Ready", "status": "False"}]})
    world.replica(name).is_hung = True


async def test_an_api_server_that_takes_its_time_is_no_part_of_a_lag() -> None:
    """Ten idle minutes in which each pass reads the node of a silent member: no lag over the bound, none unknown."""
    world = await made(replicas=2, standbys=1, readiness={"maxReplayLag": "1s"})
    world.cluster.seed(make(NODE, "node-1", "", status={"conditions": [{"type": "Ready", "status": "True"}]}))
    # Paused: else the silent member would soon have a new pod, and its node would not be read.
    world.edit_spec(mode="Paused")
    dead = world.serving()[0]
    lose_ready(world, dead)
    await world.run(90, step=1)
    slow_down(world)
    world.kube.calls.clear()
    readings = 0
    end = world.clock.monotonic() + 600
    while world.clock.monotonic() < end:
        await world.run(2, step=2)
        measured = {name: lag for name, lag in lags(world).items() if name != dead}
        readings += len(measured)
        assert max(measured.values()) < BOUND_SECONDS, measured
        assert world.condition("ReadsMayBeStale")["status"] == "False", world.condition("ReadsMayBeStale")
    assert readings > 200
    assert sum(ref.kind == NODE for _, ref in world.kube.calls) > 50, "each pass waited for the API server"


async def test_a_standby_is_activated_however_slow_the_api_server_is() -> None:
    world = await made(replicas=1, standbys=1, readiness={"maxReplayLag": "1s"})
    slow_down(world)
    world.edit_spec(replicas=2)
    await world.run(30)
    assert len(world.serving()) == 2


async def test_a_node_that_cannot_be_read_keeps_no_pass_from_its_ejections() -> None:
    world = await made(replicas=3, standbys=0)
    world.cluster.seed(make(NODE, "node-1", "", status={"conditions": [{"type": "Ready", "status": "True"}]}))
    dead, late, _ = world.serving()
    lose_ready(world, dead)
    await world.run(90, step=1)
    world.kube.faults.fail(KubeUnavailable("busy", reason=Reason.KUBE_UNAVAILABLE), verb="get", kind=NODE, times=1000)
    world.replica(late).is_paused = True
    await world.run(20)
    assert late not in world.serving()


async def test_replay_that_is_paused_on_a_quiet_primary_is_reported_and_replaced() -> None:
    world = await made(replicas=2, standbys=1)
    stale = world.serving()[0]
    world.replica(stale).is_paused = True
    await world.run(25)
    assert stale not in world.serving()
    assert len(world.serving()) == 2
    told = [event for event in world.telemetry.events if event.reason is Reason.REPLAY_LAG_ABOVE_LIMIT]
    assert told
    assert all(event.type_ == "Warning" for event in told)
    assert any("its replay is paused" in event.message for event in told)


async def test_the_last_one_serves_on_and_every_reader_can_know_it() -> None:
    world = await made(replicas=1, standbys=0)
    [name] = world.serving()
    world.replica(name).is_paused = True
    await world.run(60)
    assert world.serving() == [name]
    stale = world.condition("ReadsMayBeStale")
    assert (stale["status"], stale["reason"]) == ("True", Reason.LAG_PANIC)
    assert f"{name} serves data" in stale["message"]
    assert "pg_wal_replay_resume" in stale["message"]
    warned = [event for event in world.telemetry.events if event.reason is Reason.LAG_PANIC]
    assert [event.type_ for event in warned] == ["Warning"]
    [member] = world.status["members"]
    caught_up = next(entry for entry in member["conditions"] if entry["type"] == "CaughtUp")
    assert (caught_up["status"], caught_up["reason"]) == ("False", Reason.REPLAY_LAG_ABOVE_LIMIT)
    world.replica(name).is_paused = False
    await world.run(20)
    assert world.condition("ReadsMayBeStale")["status"] == "False"


@pytest.mark.parametrize("replicas", [1, 2])
async def test_where_a_panic_ejects_the_last_one_is_said_to_stay(replicas: int) -> None:
    world = World()
    world.add_set(replicas=replicas, standbys=0, readiness={"onLagPanic": "Eject"})
    await world.run(40)
    for name in world.serving():
        world.replica(name).sessions = [MemorySession() for _ in range(60)]
        world.replica(name).is_paused = True
    said = set()
    for _ in range(40):
        await world.run(1)
        message = world.condition("ReadsMayBeStale")["message"]
        for name in world.serving():
            own = next((part for part in message.split(" s old") if name in part), "")
            said |= {(len(world.serving()), own and "all the same" in message and "last one" not in message)}
    [last] = world.serving()
    stale = world.condition("ReadsMayBeStale")
    assert (stale["status"], stale["reason"]) == ("True", Reason.LAG_PANIC)
    assert f"{last} serves data" in stale["message"]
    assert "kept in the Service: it is the last one" in stale["message"]
    assert "all the same" not in stale["message"], "nobody else is there"
    assert (1, True) not in said


@pytest.mark.parametrize("mode", ["Paused", "DryRun"])
async def test_a_standby_that_the_mode_keeps_back_hides_nothing(mode: str) -> None:
    world = await made(replicas=1, standbys=1)
    [name] = world.serving()
    [standby] = standbys(world)
    world.edit_spec(mode=mode)
    world.replica(name).is_paused = True
    await world.run(110)
    assert world.serving() == [name]
    stale = world.condition("ReadsMayBeStale")
    assert (stale["status"], stale["reason"]) == ("True", Reason.LAG_PANIC)
    assert f"{standby} may not take over: spec.mode is {mode}" in stale["message"]
    world.edit_spec(mode="Active")
    await world.run(20)
    assert world.serving() == [standby]


@pytest.mark.parametrize("mode", ["Paused", "DryRun"])
async def test_ejection_goes_on_where_the_rest_can_carry_the_load(mode: str) -> None:
    world = await made(replicas=2, standbys=1)
    stale, other = world.serving()
    world.edit_spec(mode=mode)
    world.replica(stale).is_paused = True
    await world.run(25)
    assert world.serving() == [other]


async def test_a_standby_that_a_foreign_service_keeps_back_hides_nothing() -> None:
    world = await made(replicas=1, standbys=1)
    [name] = world.serving()
    service = ObjectRef(SERVICE, NAMESPACE, "store-read")
    world.cluster.remove(service)
    world.cluster.seed(make(SERVICE, "store-read", NAMESPACE, spec={}))
    world.replica(name).is_paused = True
    await world.run(60)
    stale = world.condition("ReadsMayBeStale")
    assert (stale["status"], stale["reason"]) == ("True", Reason.LAG_PANIC)
    assert "may not take over: another object has the name of the read Service" in stale["message"]


async def test_a_standby_replaces_one_that_dies_with_the_primary() -> None:
    world = await made(replicas=1, standbys=1)
    [name] = world.serving()
    [standby] = standbys(world)
    world.primary.is_down = True
    lose_ready(world, name)
    await world.run(3)
    assert world.serving() == [name], "not before it counts as an outage"
    await world.run(12)
    assert standby in world.serving()
    stale = world.condition("ReadsMayBeStale")
    assert (stale["status"], stale["reason"]) == ("True", Reason.READS_UNBOUNDED)


async def test_a_standby_that_lagged_when_the_primary_was_last_heard_replaces_nobody() -> None:
    world = await made(replicas=1, standbys=1)
    [name] = world.serving()
    [standby] = standbys(world)
    world.replica(standby).is_paused = True
    await world.run(15)
    world.primary.is_down = True
    lose_ready(world, name)
    await world.run(30)
    assert standby not in world.serving()


async def test_while_the_primary_is_away_nothing_is_scaled_out() -> None:
    world = await made(replicas=1, standbys=1)
    world.primary.is_down = True
    await world.run(10)
    world.edit_spec(replicas=2)
    await world.run(20)
    assert len(world.serving()) == 1


async def test_unreachable_members_stay_where_the_rest_could_not_carry_their_sessions() -> None:
    world = await made(replicas=4, standbys=0)
    serving = world.serving()
    for name in serving:
        world.replica(name).sessions = [MemorySession() for _ in range(60)]
    await world.run(5)
    for name in serving[:3]:
        world.replica(name).is_hung = True
    await world.run(30)
    assert world.serving() == serving
    stale = world.condition("ReadsMayBeStale")
    assert (stale["status"], stale["reason"]) == ("True", Reason.LAG_PANIC)
    assert "does not answer probes" in stale["message"]


class Broken(MemoryReplica):
    """A link whose probe meets what no code foresaw."""

    async def probe(self) -> ReplicaProbe:
        raise KeyError("replay_lsn")


class FragilePostgres(LinkingPostgres):
    """Gives out broken links to some addresses."""

    link_class = Broken
    broken: ClassVar[set[str]] = set()

    def is_meant(self, target: ConnectionTarget) -> bool:
        return target.host in self.broken


class FragileWorld(World):
    postgres_class = FragilePostgres


async def test_an_error_that_nobody_foresaw_in_one_probe_costs_only_that_member(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = FragileWorld()
    world.add_set(replicas=2, standbys=1)
    await world.run(40)
    name = world.serving()[0]
    monkeypatch.setattr(FragilePostgres, "broken", {world.members.ips[name]})
    world.replica(name).restart()
    world.reconciler._states[world.body["metadata"]["uid"]].handles.members[name].link_target = None
    await world.run(30)
    assert name not in world.serving()
    assert len(world.serving()) == 2
    assert Reason.MEMBER_UNREACHABLE in world.telemetry.reasons(NAME)


class Stalling(MemoryReplica):
    """A link that answers once our own loop has stood still for `StallingPostgres.stall`."""

    async def probe(self) -> ReplicaProbe:
        probe, clock = await MemoryReplica.probe(self), self.session.world.clock
        assert isinstance(clock, MemoryClock)
        clock._move_to(clock.monotonic() + StallingPostgres.stall)
        return replace(probe, answered_at=clock.monotonic())


class StallingPostgres(LinkingPostgres):
    """The event loop blocks while an answer waits to be read."""

    link_class = Stalling
    stall: ClassVar[float] = 0.0


class StallingWorld(World):
    postgres_class = StallingPostgres


async def test_a_pass_in_which_our_own_loop_was_late_measures_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    world = StallingWorld()
    world.add_set(replicas=1, standbys=1, readiness={"maxReplayLag": "1s", "ejectReplayLag": "2s"})
    await world.run(40)
    roles = world.roles()
    assert roles == ["serving", "standby"]
    for number in range(40):
        monkeypatch.setattr(StallingPostgres, "stall", 2.0 if number % 2 else 0.0)
        await world.run(1)
        assert max(lags(world).values()) < BOUND_SECONDS
        assert world.condition("ReadsMayBeStale")["status"] == "False"
    assert world.roles() == roles
