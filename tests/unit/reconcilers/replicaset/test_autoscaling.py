"""A set that follows the sessions on its replicas."""

from typing import Any

from headroom.adapters.memory.postgres_server import MemorySession
from headroom.reasons import Reason
from tests.unit.reconcilers.replicaset.world import World


def make_scaling(**changes: Any) -> dict[str, Any]:
    signal = {"name": "conns", "type": "Connections", "connections": {"utilizationPercent": 70}}
    behavior = {"scaleDown": {"stabilizationWindow": "20s"}}
    return {"minReplicas": 1, "maxReplicas": 3, "signals": [signal], "behavior": behavior, **changes}


def load(world: World, sessions: int, state: str = "active") -> None:
    for name in world.serving():
        world.replica(name).sessions = [MemorySession(state=state) for _ in range(sessions)]


async def test_sessions_above_the_target_activate_the_standby_and_the_pool_refills() -> None:
    world = World()
    world.add_set(standbys=1, autoscaling=make_scaling())
    await world.run(20)
    load(world, 85)
    await world.run(3)
    assert world.status["desiredReplicas"] == 2
    assert len(world.serving()) == 2
    decision = world.status["lastDecision"]
    assert (decision["from"], decision["to"], decision["rule"]) == (1, 2, "conns")
    assert decision["reason"] == Reason.UTILIZATION_ABOVE_TARGET
    assert "85 sessions on 1 replicas" in decision["message"]
    load(world, 50)
    await world.run(15)
    assert world.roles() == ["serving", "serving", "standby"]


async def test_a_quiet_set_shrinks_after_its_window_one_at_a_time() -> None:
    world = World()
    world.add_set(replicas=3, standbys=0, autoscaling=make_scaling())
    await world.run(15)
    assert world.status["desiredReplicas"] == 3
    await world.run(45)
    assert world.serving() == world.serving()[:1]
    assert world.status["desiredReplicas"] == 1


async def test_the_count_survives_a_restart_and_the_window_begins_anew() -> None:
    world = World()
    world.add_set(standbys=1, autoscaling=make_scaling())
    await world.run(20)
    load(world, 85)
    await world.run(3)
    load(world, 0)
    world.restart()
    await world.run(10)
    assert world.status["desiredReplicas"] == 2


async def test_the_maximum_is_said() -> None:
    world = World()
    world.add_set(standbys=0, autoscaling=make_scaling(maxReplicas=1))
    await world.run(15)
    load(world, 95)
    await world.run(3)
    limited = world.condition("ScalingLimited")
    assert (limited["status"], limited["reason"]) == ("True", Reason.AT_MAXIMUM)


async def test_a_signal_that_cannot_be_read_holds_and_is_said() -> None:
    world = World()
    cpu = {"name": "cpu", "type": "CPU", "cpu": {"utilizationPercent": 70}}
    world.add_set(
        replicas=2,
        standbys=0,
        resources={"requests": {"cpu": "1"}},
        autoscaling=make_scaling(signals=[cpu]),
    )
    await world.run(20)
    assert world.status["desiredReplicas"] == 2
    assert world.condition("SignalAvailable")["reason"] == Reason.STALE_SIGNAL
