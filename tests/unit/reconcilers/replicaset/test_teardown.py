"""A set that is deleted while something is in the way: what is left of it is named and counted, never forgotten."""

from typing import Any

import pytest

from headroom.adapters.inmemory.kube_faults import Killed
from headroom.adapters.inmemory.postgres_server import MemorySession
from headroom.api.v1alpha1.serving import VolumeRetention
from headroom.model.replica import slot_prefix
from headroom.ports.kube import CLAIM, POD, ObjectRef
from headroom.ports.kube import NAMESPACE as KIND_OF_NAMESPACE
from headroom.reasons import Reason
from headroom.reconcilers.replicaset import metrics
from headroom.reconcilers.replicaset.teardown import read_for_teardown
from tests.manifests import NAMESPACE, make, make_set
from tests.memory_world import INSTALL
from tests.unit.reconcilers.replicaset.world import SET, World

DELETING = {"deletionTimestamp": "2026-01-01T00:00:00Z"}


def told(world: World) -> str:
    """What was said about slots that stay; empty for nothing."""
    return "\n".join(event.message for event in world.telemetry.events if event.reason is Reason.SLOT_LEFT_BEHIND)


def counted(world: World, guard: str = "store") -> float | None:
    return world.telemetry.value(metrics.SLOTS_LEFT, namespace=NAMESPACE, guard=guard)


def abandon(world: World) -> None:
    annotation = {"headroom.dev/abandon": "true"}
    world.cluster.edit(SET, lambda item: item["metadata"].update(annotations=annotation))


def slot_of(world: World, name: str) -> str:
    return next(slot for slot in world.slots() if slot.endswith(name.partition("-")[2].replace("-", "_")))


async def make_world(**spec: Any) -> World:
    world = World()
    world.add_set(replicas=1, standbys=1, **spec)
    await world.run(20)
    assert len(world.slots()) == 2
    return world


@pytest.mark.parametrize("is_restarted", [False, True])
async def test_teardown_waits_for_the_primary_ten_minutes_and_then_names_what_is_left(*, is_restarted: bool) -> None:
    world = await make_world()
    world.primary.is_down = True
    assert not await world.delete(60, step=2)
    assert world.children(POD) == world.children(CLAIM) == []
    if is_restarted:
        world.restart()
    assert not await world.delete(500, step=10)
    assert told(world) == ""
    assert await world.delete(100, step=10)
    assert Reason.ABANDONED in world.telemetry.reasons("store")
    assert len(world.slots()) == 2
    assert all(slot in told(world) for slot in world.slots())
    assert counted(world) == 2


async def test_a_namespace_that_ends_is_not_held_by_a_primary_that_ended_with_it() -> None:
    world = await make_world()
    world.cluster.seed(make(KIND_OF_NAMESPACE, NAMESPACE, "", metadata={"finalizers": ["kubernetes"]}))
    world.primary.is_down = True
    assert not await world.delete(40, step=2)
    ending = {"deletionTimestamp": "2026-01-01T00:00:00Z", "deletionGracePeriodSeconds": 0}
    world.cluster.edit(ObjectRef(KIND_OF_NAMESPACE, "", NAMESPACE), lambda item: item["metadata"].update(ending))
    assert await world.delete(10, step=2)
    assert all(slot in told(world) for slot in world.slots())


async def test_a_primary_that_comes_back_in_time_leaves_nothing_to_say() -> None:
    world = await make_world()
    world.primary.is_down = True
    assert not await world.delete(300, step=10)
    world.primary.is_down = False
    assert await world.delete(30)
    assert world.slots() == []
    assert told(world) == ""
    assert counted(world) is None


async def test_an_abandoned_set_is_let_go_at_once_and_names_its_slots() -> None:
    world = await make_world()
    world.primary.is_down = True
    abandon(world)
    assert await world.delete(5)
    assert all(slot in told(world) for slot in world.slots())


async def test_an_abandoned_set_leaves_no_slot_on_a_primary_that_is_well() -> None:
    """The pods are gone, and one connection of theirs has not ended."""
    world = await make_world()
    assert not await world.delete(0.2)
    world.play()
    world.primary.slots[world.slots()[0]].is_active = True
    assert not await world.delete(20)
    assert "annotate it with headroom.dev/abandon=true to end that" in world.condition("Ready")["message"]
    abandon(world)
    assert await world.delete(5)
    assert world.slots() == []
    assert told(world) == ""
    assert Reason.ABANDONED not in world.telemetry.reasons("store")


async def test_an_abandoned_set_names_no_slot_that_it_could_still_drop() -> None:
    """One server runs a query for an hour; who asks not to wait gets ten minutes of patience for it."""
    world = await make_world(drain={"timeout": "1h"})
    [busy] = world.serving()
    world.replica(busy).sessions = [MemorySession(state="active")]
    abandon(world)
    assert not await world.delete(590, step=10)
    [kept] = world.slots()
    assert await world.delete(30)
    assert kept in told(world)
    assert counted(world) == 1


async def test_an_abandoned_set_does_not_wait_for_pods_once_its_slots_are_gone() -> None:
    world = await make_world()
    [name] = world.serving()
    world.members.dead.add(name)
    world.replica(name).is_down = True
    abandon(world)
    world.primary.slots[slot_of(world, name)].is_active = False
    assert await world.delete(30)
    assert world.slots() == []
    assert len(world.children(POD)) == 1


async def test_a_new_process_does_not_give_slots_up_before_its_guard_had_time_to_connect() -> None:
    world = await make_world()
    abandon(world)
    world.restart()
    ended = await world.reconciler.teardown({**world.body, "metadata": {**world.body["metadata"], **DELETING}})
    assert ended is not None
    assert await world.delete(60)
    assert world.slots() == []


async def test_a_set_whose_guard_is_gone_names_its_slots() -> None:
    world = await make_world()
    world.primary.is_down = True
    guard = next(ref for ref in world.kube.store.entries if ref.kind.name == "DatabaseGuard")
    world.cluster.remove(guard)
    assert await world.delete(30)
    assert all(slot in told(world) for slot in world.slots())


async def test_a_slot_made_in_the_very_last_pass_is_named() -> None:
    world = World()
    world.add_set(replicas=1, standbys=0)
    while not world.slots():
        await world.one_pass()
    assert world.children(CLAIM) == []
    world.primary.is_down = True
    assert await world.delete(700, step=10)
    assert all(slot in told(world) for slot in world.slots())
    assert counted(world) == 1


async def test_a_process_killed_at_any_write_never_lets_a_slot_be_forgotten() -> None:
    """The set is deleted while the process is down, and so is the primary: nobody saw whether a slot was made."""
    orphans = 0
    for nth in range(1, 10):
        world = World()
        world.add_set(replicas=1, standbys=0)
        world.fence.nth = nth
        with pytest.raises(Killed):
            await world.run(20)
        world.restart()
        world.primary.is_down = True
        assert await world.delete(700, step=10), f"killed at write {nth}"
        if world.slots():
            orphans += 1
            assert slot_prefix(INSTALL, world.body["metadata"]["uid"]) in told(world), f"killed at write {nth}"
            assert counted(world) == 1
    assert orphans > 2


async def test_a_set_that_was_never_made_says_nothing_and_does_not_wait() -> None:
    world = World()
    world.primary.is_down = True
    world.add_set()
    await world.run(5)
    assert await world.delete(5)
    assert told(world) == ""
    assert Reason.ABANDONED not in world.telemetry.reasons("store")


async def test_a_replication_login_that_is_refused_holds_the_finalizer_ten_minutes_at_most() -> None:
    world = await make_world()
    world.set_secret("store-replication", username="replication", password="wrong")
    world.restart()
    await world.run(5)
    assert not await world.delete(590, step=10)
    assert world.children(POD) == []
    assert await world.delete(60, step=10)
    assert all(slot in told(world) for slot in world.slots())
    assert counted(world) == 2


async def test_slots_of_an_installation_of_another_name_keep_their_claims_until_they_can_be_dropped() -> None:
    world = await make_world()
    world.restart("fedcba98")
    world.primary.is_down = True
    assert not await world.delete(120, step=10)
    assert world.children(POD) == []
    assert len(world.children(CLAIM)) == 2
    world.primary.is_down = False
    assert await world.delete(30)
    assert world.slots() == world.children(CLAIM) == []


UNREADABLE: Any = [
    pytest.param({"image": None}, 0, id="of another field"),
    pytest.param({"unknown": 1}, 0, id="with a newer field"),
    pytest.param({"retention": {"volumes": "Archive"}}, 2, id="with a newer retention"),
    pytest.param({"retention": "Delete"}, 2, id="with a retention of another type"),
    pytest.param({"image": 5, "retention": {"volumes": "Retain"}}, 2, id="that retains"),
]


@pytest.mark.parametrize(("change", "kept"), UNREADABLE)
async def test_a_set_whose_spec_cannot_be_read_is_torn_down(change: dict[str, Any], kept: int) -> None:
    world = await make_world()
    world.edit_spec(**change)
    await world.run(5)
    assert world.condition("Ready")["reason"] in (Reason.INVALID_SPEC, Reason.UNSUPPORTED_VALUE)
    world.restart()
    assert await world.delete(60)
    assert world.children(POD) == world.slots() == []
    assert len(world.children(CLAIM)) == kept
    assert not [claim for claim in world.children(CLAIM) if "ownerReferences" in claim["metadata"]]


async def test_a_set_whose_guard_cannot_be_read_names_its_slots() -> None:
    world = await make_world()
    world.edit_spec(databaseRef=5)
    world.restart()
    assert await world.delete(60)
    assert len(world.slots()) == 2
    assert all(slot in told(world) for slot in world.slots())
    assert counted(world, "headroom-unreadable") == 2


@pytest.mark.parametrize("spec", [None, {}, [], "text", {"databaseRef": {"name": "store"}, "drain": {"timeout": 5}}])
def test_whatever_a_spec_is_it_can_be_read_for_a_teardown(spec: Any) -> None:
    read = read_for_teardown({"spec": spec})
    is_nothing_known = not isinstance(spec, dict)
    assert read.retention.volumes is (VolumeRetention.RETAIN if is_nothing_known else VolumeRetention.DELETE)
    assert read.database_ref.name == ("store" if spec and isinstance(spec, dict) else "headroom-unreadable")


def test_a_spec_that_can_be_read_is_read_as_a_whole() -> None:
    read = read_for_teardown(make_set(replicas=3, drain={"timeout": "7s"}))
    assert read.replicas == 3
    assert read.drain.timeout.total_seconds() == 7


async def test_a_deletion_that_waits_says_for_what_and_how_to_end_it() -> None:
    world = await make_world()
    world.primary.is_down = True
    assert not await world.delete(30, step=2)
    ready = world.condition("Ready")
    assert (ready["status"], ready["reason"]) == ("False", Reason.DELETING)
    assert "headroom.dev/abandon=true" in ready["message"]
    assert (world.condition("WarmPoolReady")["status"], world.condition("WarmPoolReady")["reason"]) == (
        "Unknown",
        Reason.DELETING,
    )
