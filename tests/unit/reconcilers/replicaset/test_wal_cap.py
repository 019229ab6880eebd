"""A slot that keeps too much WAL: the primary's disk waits for no drain."""

from datetime import timedelta
from typing import Any

from headroom.adapters.inmemory.postgres_server import MemorySession
from headroom.model.database import Lsn
from headroom.model.replica import MemberId
from headroom.ports.kube import POD, ObjectRef
from headroom.reasons import Reason
from tests.manifests import NAMESPACE
from tests.memory_world import INSTALL
from tests.unit.reconcilers.replicaset.world import World

CAP = {"maxSlotWAL": "64Mi"}
HOUR = {"timeout": "1h"}


async def make_world(**spec: Any) -> World:
    world = World()
    world.add_set(provisioning=CAP, drain=HOUR, **spec)
    await world.run(30)
    return world


def slot_of(world: World, name: str) -> str:
    member = MemberId.parse_object("store", name)
    assert member is not None
    return member.slot_name(INSTALL, world.body["metadata"]["uid"])


def standby(world: World) -> str:
    names = [pod["metadata"]["name"] for pod in world.children(POD)]
    return next(name for name in names if name not in world.serving())


def exceed_cap(world: World, name: str) -> None:
    """All other slots follow the primary."""
    world.primary.write(100 * 1024**2)
    for slot, held in world.primary.slots.items():
        if slot != slot_of(world, name):
            held.restart_lsn = Lsn(world.primary.lsn)


async def test_a_busy_member_gets_the_grace_of_an_ejected_one_and_not_the_drain_of_an_hour() -> None:
    world = await make_world(replicas=2, standbys=0, routing={"ejectGrace": "10s"})
    name = world.serving()[0]
    world.replica(name).sessions = [MemorySession(state="active")]
    world.replica(name).is_cut_off = True
    exceed_cap(world, name)
    await world.run(5)
    assert slot_of(world, name) in world.slots(), "its server still runs"
    await world.run(15)
    assert slot_of(world, name) not in world.slots()


async def test_an_idle_slot_goes_at_once_even_if_its_pod_takes_its_time() -> None:
    world = await make_world(replicas=1, standbys=1)
    name = standby(world)
    world.replica(name).sessions = [MemorySession(state="active")]
    world.primary.slots[slot_of(world, name)].is_active = False
    exceed_cap(world, name)
    await world.run(3)
    assert slot_of(world, name) not in world.slots()
    assert name in [pod["metadata"]["name"] for pod in world.children(POD)]


async def test_a_pod_that_was_being_deleted_with_an_hour_gets_less_once_its_slot_is_over_the_cap() -> None:
    world = await make_world(replicas=2, standbys=0)
    name = world.serving()[0]
    world.replica(name).sessions = [MemorySession(state="active")]
    world.edit_spec(replicas=1)
    world.cluster.delete(ObjectRef(POD, NAMESPACE, name))
    await world.run(5)
    assert slot_of(world, name) in world.slots()
    exceed_cap(world, name)
    await world.run(20)
    assert slot_of(world, name) not in world.slots()


async def test_the_sender_of_a_lost_node_is_ended_and_its_slot_dropped() -> None:
    world = await make_world(replicas=1, standbys=1)
    name = standby(world)
    world.members.dead.add(name)
    world.replica(name).is_down = True
    exceed_cap(world, name)
    await world.run(10)
    assert slot_of(world, name) in world.slots(), "its pod has its grace"
    await world.run(20)
    assert slot_of(world, name) not in world.slots()
    assert Reason.WAL_CAP_REACHED in world.telemetry.reasons("store")


async def test_the_sender_of_a_pod_that_is_gone_is_ended_too() -> None:
    """The node is lost and its pod deleted by force, or collected; the connection of its server has not ended."""
    world = await make_world(replicas=1, standbys=1)
    name = standby(world)
    world.members.dead.add(name)
    world.replica(name).is_down = True
    world.cluster.remove(ObjectRef(POD, NAMESPACE, name))
    exceed_cap(world, name)
    await world.run(10)
    assert slot_of(world, name) not in world.slots()
    said = [event.message for event in world.telemetry.events if "still sent WAL" in event.message]
    assert said == [f"the pod of {name} is gone, and the primary still sent WAL to it: that was ended for its slot"]


async def test_within_the_cap_a_drain_has_its_hour() -> None:
    world = await make_world(replicas=2, standbys=0)
    name = world.serving()[0]
    world.replica(name).sessions = [MemorySession(state="active")]
    pod = ObjectRef(POD, NAMESPACE, name)
    world.cluster.delete(pod)
    await world.run(60, step=1)
    live = world.cluster.read(pod)
    assert live is not None
    assert live["metadata"]["deletionGracePeriodSeconds"] > timedelta(hours=1).total_seconds()
    assert slot_of(world, name) in world.slots()
