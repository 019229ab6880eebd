"""What the API server refuses is said and tried again in its time; it is neither counted as done nor hurried."""

import asyncio
from datetime import timedelta

import pytest

from headroom.errors import Conflict, InvariantBroken, Refused
from headroom.model.replica import SET_LABEL, MemberId
from headroom.ports.kube import CLAIM, POD, SERVICE, Kind, Manifest, ObjectRef
from headroom.reasons import Reason
from tests.manifests import NAMESPACE
from tests.memory_world import INSTALL
from tests.unit.reconcilers.replicaset.world import World

FORBIDDEN = Refused("admission webhook denied the request", reason=Reason.FORBIDDEN)


def slot_of(world: World, name: str) -> str:
    member = MemberId.parse_object("store", name)
    assert member is not None
    return member.slot_name(INSTALL, world.body["metadata"]["uid"])


def attempts_failed(world: World) -> float:
    return sum(
        value for key, value in world.telemetry.values.items() if key[0] == "headroom_replicaset_failed_attempts_total"
    )


@pytest.mark.parametrize("error", [FORBIDDEN, Conflict("somebody wrote first")])
async def test_an_attempt_is_given_up_once_however_often_the_write_is_refused(error: Exception) -> None:
    world = World(copies=False)
    world.add_set(replicas=1, standbys=0)
    await world.run(5)
    [name] = [pod["metadata"]["name"] for pod in world.children(POD)]
    world.primary.slots[slot_of(world, name)].wal_status = "lost"
    await world.clock.advance(1.5)  # slots are read once a second
    world.kube.faults.fail(error, verb="patch", kind=CLAIM, times=5)
    pauses = [await world.one_pass() for _ in range(5)]
    assert attempts_failed(world) == 0
    assert all(pause is None or pause >= timedelta(seconds=0.25) for pause in pauses)
    await world.one_pass()
    assert attempts_failed(world) == 1
    gone = [event for event in world.telemetry.events if event.reason is Reason.SLOT_LOST]
    assert len(gone) == 1


async def test_a_pod_that_may_not_be_deleted_is_not_asked_for_twenty_times_a_second() -> None:
    world = World()
    world.add_set(replicas=1, standbys=0)
    await world.run(15)
    [name] = world.serving()
    world.cluster.end_pod(ObjectRef(POD, NAMESPACE, name))
    world.kube.faults.fail(FORBIDDEN, verb="delete", kind=POD, times=3)
    pauses = [await world.one_pass() for _ in range(3)]
    assert all(pause is not None and pause >= timedelta(seconds=0.25) for pause in pauses)
    assert world.condition("Ready")["reason"] == Reason.FORBIDDEN


async def test_a_refused_activation_does_not_keep_the_status_from_being_written() -> None:
    world = World()
    world.add_set(replicas=1, standbys=1)
    await world.run(20)
    world.kube.faults.fail(FORBIDDEN, verb="patch", kind=POD, times=1000)
    world.edit_spec(replicas=2)
    await world.run(5)
    assert world.status["desiredReplicas"] == 2
    assert world.condition("Ready")["reason"] == Reason.FORBIDDEN


async def test_a_policy_that_refuses_a_pod_waits_for_a_person_and_says_so_once() -> None:
    world = World()
    world.kube.faults.fail(FORBIDDEN, verb="create", kind=POD, times=1000)
    world.kube.faults.fail(FORBIDDEN, verb="apply", kind=POD, times=1000)
    world.add_set(replicas=1, standbys=0)
    await world.run(60)
    ready, stalled = world.condition("Ready"), world.condition("Stalled")
    assert (ready["status"], ready["reason"]) == ("False", Reason.FORBIDDEN)
    assert (stalled["status"], stalled["reason"]) == ("True", Reason.FORBIDDEN)
    assert stalled["message"] == ready["message"] == "admission webhook denied the request"
    assert world.status["reason"] == Reason.FORBIDDEN
    told = [event.message for event in world.telemetry.events if event.message.startswith("Stalled: ")]
    assert told == ["Stalled: admission webhook denied the request"]


async def test_no_activation_outlives_the_pass_that_began_it() -> None:
    world = World()
    world.add_set(replicas=1, standbys=2)
    await world.run(25)
    world.edit_spec(replicas=3)
    world.kube.faults.fail(InvariantBroken("a state that must not exist"), verb="patch", kind=POD)
    before = asyncio.all_tasks()
    assert await world.one_pass() is None
    assert asyncio.all_tasks() <= before


def foreign(kind: Kind, name: str) -> Manifest:
    return {"apiVersion": "v1", "kind": kind.name, "metadata": {"name": name, "namespace": NAMESPACE}, "spec": {}}


@pytest.mark.parametrize("kind", [CLAIM, POD])
async def test_a_foreign_pod_or_claim_of_our_name_is_said_and_the_pass_goes_on(kind: Kind) -> None:
    world = World()
    world.add_set(replicas=1, standbys=0)
    for _ in range(4):
        if not world.slots():
            await world.one_pass()
    [slot] = world.slots()
    ordinal, incarnation = slot.split("_")[-2:]
    ref = ObjectRef(kind, NAMESPACE, f"store-{ordinal}-{incarnation}")
    uid = world.cluster.seed(foreign(kind, ref.name))["metadata"]["uid"]
    await world.run(5)
    assert world.condition("Ready")["reason"] == Reason.NAME_CONFLICT
    assert ref.name in world.condition("Ready")["message"]
    assert world.children(SERVICE)
    live = world.cluster.read(ref)
    assert live is not None
    assert live["metadata"]["uid"] == uid
    world.cluster.delete(ref)
    await world.run(20)
    assert world.roles() == ["serving"]


async def test_a_pod_that_lost_its_label_is_said() -> None:
    world = World()
    world.add_set(replicas=1, standbys=0)
    await world.run(15)
    [name] = world.serving()
    ref = ObjectRef(POD, NAMESPACE, name)
    world.cluster.edit(ref, lambda item: item["metadata"]["labels"].pop(SET_LABEL))
    await world.run(3)
    assert world.condition("Ready")["reason"] == Reason.NAME_CONFLICT
    assert SET_LABEL in world.condition("Ready")["message"]


async def test_without_a_service_of_its_own_no_member_is_put_to_serve() -> None:
    world = World()
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "store-read", "namespace": NAMESPACE},
        "spec": {"selector": {"app": "other"}},
    }
    world.cluster.seed(service)
    world.add_set(replicas=1, standbys=0)
    await world.run(60)
    assert world.roles() == ["standby"]
    assert world.condition("Ready")["reason"] == Reason.NAME_CONFLICT
    assert Reason.NOT_IN_SERVICE_IN_TIME not in world.telemetry.reasons("store")
    world.cluster.remove(ObjectRef(SERVICE, NAMESPACE, "store-read"))
    await world.run(10)
    assert world.roles() == ["serving"]


async def test_a_service_that_a_policy_refuses_keeps_nobody_from_serving() -> None:
    world = World()
    world.add_set(replicas=1, standbys=1)
    await world.run(20)
    world.kube.faults.fail(FORBIDDEN, verb="apply", kind=SERVICE, times=1000)
    world.cluster.edit(ObjectRef(SERVICE, NAMESPACE, "store-read"), lambda item: item["spec"].update(ports=[]))
    await world.run(40)
    assert world.condition("Ready")["reason"] == Reason.FORBIDDEN
    world.edit_spec(replicas=2)
    await world.run(10)
    assert len(world.serving()) == 2
