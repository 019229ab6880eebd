"""A set that follows the sessions on its replicas."""

from typing import Any

import pytest

from headroom.adapters.inmemory.postgres_server import MemorySession
from headroom.errors import KubeUnavailable
from headroom.ports.kube import HORIZONTAL_POD_AUTOSCALER, REPLICA_SET, Manifest, ObjectRef
from headroom.reasons import Reason
from tests.manifests import NAMESPACE
from tests.unit.reconcilers.replicaset.world import SET, World


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
    assert "85 sessions on 1 replica," in decision["message"]
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


async def test_without_autoscaling_any_more_the_live_count_stays() -> None:
    """It goes, as when a manifest without it is applied: nobody loses a replica, until `replicas` is written anew."""
    world = World()
    world.add_set(replicas=1, standbys=1, autoscaling=make_scaling())
    await world.run(20)
    load(world, 85)
    await world.run(20)
    assert len(world.serving()) == 2
    load(world, 0)
    world.cluster.edit(SET, lambda item: item["spec"].pop("autoscaling"))
    await world.run(60)
    assert len(world.serving()) == 2
    assert world.status["desiredReplicas"] == 2
    message = world.status["lastDecision"]["message"]
    assert message.startswith("2 stay since spec.autoscaling was removed; spec.replicas, 1, was only where it began: ")
    world.restart()
    await world.run(30)
    assert len(world.serving()) == 2
    for count in (3, 1):
        world.edit_spec(replicas=count)
        await world.run(60)
        assert len(world.serving()) == count
    assert "startReplicas" not in world.status


AUTOSCALER = ObjectRef(HORIZONTAL_POD_AUTOSCALER, NAMESPACE, "keda-hpa-store")


def make_autoscaler(api_version: str = REPLICA_SET.api_version) -> Manifest:
    return {
        "apiVersion": HORIZONTAL_POD_AUTOSCALER.api_version,
        "kind": HORIZONTAL_POD_AUTOSCALER.name,
        "metadata": {"name": AUTOSCALER.name, "namespace": NAMESPACE},
        "spec": {"scaleTargetRef": {"apiVersion": api_version, "kind": "ReplicaSet", "name": "store"}},
    }


async def test_an_autoscaler_on_a_set_that_scales_itself_is_a_conflict_until_it_is_gone() -> None:
    world = World()
    world.add_set(standbys=1, autoscaling=make_scaling())
    await world.run(20)
    world.cluster.seed(make_autoscaler())
    world.edit_spec(replicas=3)
    await world.run(15)
    ready = world.condition("Ready")
    assert (ready["status"], ready["reason"]) == ("False", Reason.TARGET_CONFLICT)
    assert "HorizontalPodAutoscaler keda-hpa-store scales dbrs/store" in ready["message"]
    assert world.roles() == ["serving", "standby"], "the count it wrote is not followed"
    world.cluster.remove(AUTOSCALER)
    await world.run(15)
    assert world.condition("Ready")["reason"] == Reason.AS_EXPECTED


async def test_what_is_known_of_an_autoscaler_outlasts_an_api_server_that_is_busy() -> None:
    world = World()
    world.add_set(standbys=1, autoscaling=make_scaling())
    world.cluster.seed(make_autoscaler())
    await world.run(25)
    busy = KubeUnavailable("busy", reason=Reason.KUBE_UNAVAILABLE)
    for verb in ("list", "get"):
        world.kube.faults.fail(busy, verb=verb, times=1000)
    await world.run(15)
    assert world.condition("Ready")["reason"] == Reason.TARGET_CONFLICT


@pytest.mark.parametrize("scaling", [{"autoscaling": make_scaling()}, {}], ids=["another kind", "no autoscaling"])
async def test_an_autoscaler_that_is_no_rival_is_welcome(scaling: dict[str, Any]) -> None:
    world = World()
    world.add_set(standbys=1, **scaling)
    world.cluster.seed(make_autoscaler("apps/v1" if scaling else REPLICA_SET.api_version))
    await world.run(20)
    assert world.condition("Ready")["reason"] == Reason.AS_EXPECTED


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


async def test_sessions_of_a_pool_on_one_replica_add_one_and_a_new_process_adds_no_other() -> None:
    world = World()
    world.add_set(standbys=1, autoscaling=make_scaling(maxReplicas=8))
    await world.run(20)
    [name] = world.serving()
    load(world, 92, state="idle")
    await world.run(90, step=1)
    assert len(world.serving()) == 2
    limited = world.condition("ScalingLimited")
    assert (limited["status"], limited["reason"]) == ("True", Reason.NO_GAIN_FROM_MORE_REPLICAS)
    assert "shorten the lifetime of the connections in the clients' pools" in limited["message"]
    [full] = [member["name"] for member in world.status["members"] if "fullAt" in member]
    assert full == name
    beside = next(other for other in world.serving() if other != name)
    world.replica(beside).sessions = [MemorySession() for _ in range(20)]
    for _ in range(3):
        world.restart()
        await world.run(30, step=1)
    assert len(world.serving()) == 2
    assert world.condition("ScalingLimited")["reason"] == Reason.NO_GAIN_FROM_MORE_REPLICAS
    world.replica(name).sessions = [MemorySession() for _ in range(10)]
    await world.run(5)
    assert world.condition("ScalingLimited")["status"] == "False"
    assert not [member for member in world.status["members"] if "fullAt" in member]


async def test_a_pool_that_swings_on_one_replica_adds_one_and_no_other_at_each_swing() -> None:
    world = World()
    world.add_set(standbys=1, autoscaling=make_scaling(maxReplicas=8, behavior={}))
    await world.run(20)
    [name] = world.serving()
    for sessions in (92, 69) * 3:
        world.replica(name).sessions = [MemorySession(state="idle") for _ in range(sessions)]
        await world.run(40, step=1)
    assert len(world.serving()) == world.status["desiredReplicas"] == 2


@pytest.mark.parametrize("is_paused", [False, True], ids=["being copied", "paused"])
async def test_nothing_is_said_to_be_added_that_does_not_serve_yet(is_paused: bool) -> None:
    world = World()
    world.add_set(standbys=0, autoscaling=make_scaling(maxReplicas=8))
    await world.run(20)
    if is_paused:
        world.edit_spec(mode="Paused")
    world.members.copies = False
    load(world, 92, state="idle")
    await world.run(120, step=1)
    assert (len(world.serving()), world.status["desiredReplicas"]) == (1, 2)
    assert world.condition("ScalingLimited")["status"] == "False"
    world.members.copies = True
    world.edit_spec(mode="Active")
    await world.run(120, step=1)
    assert len(world.serving()) == world.status["desiredReplicas"] == 2
    assert world.condition("ScalingLimited")["reason"] == Reason.NO_GAIN_FROM_MORE_REPLICAS


async def test_a_pool_at_its_limit_is_said_beside_the_signal() -> None:
    world = World()
    world.add_set(replicas=2, standbys=0, autoscaling=make_scaling())
    await world.run(20)
    load(world, 40)
    await world.run(80, step=1)
    signal = world.condition("SignalAvailable")
    assert (signal["status"], signal["reason"]) == ("True", Reason.SIGNAL_AT_LIMIT)
    assert "raise its pool size" in signal["message"]
