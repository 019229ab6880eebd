"""A replica that has no connection left, not even for the operator: it lives, and it is full."""

import pytest

from headroom.adapters.inmemory.postgres_server import MemorySession
from headroom.ports.kube import POD
from headroom.reasons import Reason
from tests.unit.reconcilers.replicaset.world import World

SCALING = {
    "minReplicas": 1,
    "maxReplicas": 4,
    "signals": [{"name": "conns", "type": "Connections", "connections": {"utilizationPercent": 70}}],
}


def fill(world: World, name: str, *, is_reserved: bool) -> None:
    """Clients take all that they get; what is reserved is left, if the server can reserve."""
    server = world.replica(name)
    if not is_reserved:
        server.version = 150004
    server.sessions = [MemorySession(state="active") for _ in range(server.usable_connections)]


def load(world: World, name: str, sessions: int) -> None:
    world.replica(name).sessions = [MemorySession() for _ in range(sessions)]


async def restart_beside(world: World, sessions: int, *, is_reserved: bool = False) -> tuple[str, str]:
    """Two serving replicas, one of them full, and a new process that must connect again."""
    await world.run(30)
    full, other = world.serving()
    fill(world, full, is_reserved=is_reserved)
    load(world, other, sessions)
    await world.run(5)
    world.telemetry.events.clear()
    world.restart()
    return full, other


@pytest.mark.parametrize("sessions", [0, 30, 60, 90])
async def test_a_full_replica_serves_on_while_nobody_can_ask_it(sessions: int) -> None:
    world = World()
    world.add_set(replicas=2, standbys=0)
    full, _ = await restart_beside(world, sessions)
    await world.run(60)
    assert world.roles() == ["serving", "serving"]
    assert world.condition("Ready")["reason"] == Reason.AS_EXPECTED
    stale = world.condition("ReadsMayBeStale")
    assert (stale["status"], stale["reason"]) == ("True", Reason.REPLAY_LAG_UNKNOWN)
    assert stale["message"].startswith(f"the replay lag of {full} has not been known for ")
    assert "too many clients already" in stale["message"]
    assert Reason.MEMBER_UNREACHABLE not in {event.reason for event in world.telemetry.events}
    entry = next(entry for entry in world.status["members"] if entry["name"] == full)
    assert "replayLagSeconds" not in entry


async def test_the_connections_that_are_reserved_let_the_operator_in() -> None:
    world = World()
    world.add_set(replicas=2, standbys=0)
    full, _ = await restart_beside(world, 30, is_reserved=True)
    await world.run(30)
    assert world.roles() == ["serving", "serving"]
    assert world.condition("ReadsMayBeStale")["status"] == "False"
    entry = next(entry for entry in world.status["members"] if entry["name"] == full)
    assert entry["sessions"] == world.replica(full).usable_connections


async def test_a_full_replica_that_nobody_can_ask_asks_for_another() -> None:
    world = World()
    world.add_set(replicas=1, standbys=1, autoscaling=SCALING)
    await world.run(30)
    [full] = world.serving()
    fill(world, full, is_reserved=False)
    world.restart()
    await world.run(30)
    assert world.status["desiredReplicas"] == 2
    assert full in world.serving()
    assert world.condition("SignalAvailable")["reason"] == Reason.AS_EXPECTED


async def test_sessions_that_nobody_counted_are_no_pool_at_its_limit_and_shrink_nothing() -> None:
    world = World()
    world.add_set(replicas=2, standbys=0, autoscaling={**SCALING, "minReplicas": 2})
    full, _ = await restart_beside(world, 30)
    await world.run(150)
    assert full in world.serving()
    assert world.condition("SignalAvailable")["reason"] == Reason.AS_EXPECTED


async def test_one_that_is_full_and_has_no_stream_leaves_once_another_can_take_over() -> None:
    world = World()
    world.add_set(replicas=2, standbys=1, routing={"ejectGrace": "10s"})
    full, _ = await restart_beside(world, 30)
    uid = next(pod["metadata"]["uid"] for pod in world.children(POD) if pod["metadata"]["name"] == full)
    world.replica(full).is_cut_off = True
    slot = next(name for name in world.slots() if name.endswith(full.removeprefix("store-").replace("-", "_")))
    world.primary.slots[slot].is_active = False
    world.primary.slots[slot].inactive_since = world.clock.monotonic()
    await world.run(25)
    assert full not in world.serving()
    assert Reason.NOT_STREAMING in {event.reason for event in world.telemetry.events}
    await world.run(40)
    assert uid not in {pod["metadata"]["uid"] for pod in world.children(POD)}, "its sessions have ended"
