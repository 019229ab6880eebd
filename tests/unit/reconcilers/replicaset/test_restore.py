"""New members from snapshots: what is chosen, what is said of it, and what happens when a snapshot is of no use."""

from datetime import UTC, datetime
from typing import Any

import pytest

from headroom.adapters.inmemory.postgres_server import MemoryServer
from headroom.errors import Refused
from headroom.model.snapshot import anchor_name
from headroom.ports.kube import CLAIM, POD, VOLUME_SNAPSHOT, ObjectRef
from headroom.reasons import Reason
from headroom.reconcilers.replicaset.children import parse_pod
from headroom.reconcilers.replicaset.metrics import LEAD_TIME
from tests.failover import fail_over
from tests.manifests import NAMESPACE
from tests.memory_world import INSTALL
from tests.snapshots import NEWER, OLDER, SNAPSHOTS, add_snapshot, restored
from tests.unit.reconcilers.replicaset.snapshot_world import TAKEN_IN, make
from tests.unit.reconcilers.replicaset.world import SET, World


async def made(method: str = "Auto", standbys: int = 1, **provisioning: Any) -> World:
    """A set with one that serves and warm ones, made by base backup; from now on no copy of the primary ends."""
    world = World()
    world.add_set(
        replicas=1, standbys=standbys, provisioning={"method": method, "snapshots": SNAPSHOTS, **provisioning}
    )
    if method == "VolumeSnapshot":
        world.edit_spec(provisioning={"method": "Auto", "snapshots": SNAPSHOTS, **provisioning})
    await world.run(25)
    assert world.roles() == ["serving"] + ["standby"] * standbys
    assert restored(world) == {}
    world.edit_spec(provisioning={"method": method, "snapshots": SNAPSHOTS, **provisioning})
    world.members.copies = False
    return world


def new_members(world: World) -> list[dict[str, Any]]:
    """Entries of status of those that are made by snapshot."""
    return [entry for entry in world.status["members"] if entry["method"] == "VolumeSnapshot"]


def message_of(world: World, reason: Reason) -> str:
    return next((event.message for event in reversed(world.telemetry.events) if event.reason is reason), "")


async def test_the_pool_refills_from_a_snapshot_without_a_copy_of_the_primary() -> None:
    world = await made()
    name = add_snapshot(world, SET)
    world.edit_spec(replicas=2)
    await world.run(25)
    assert world.roles() == ["serving", "serving", "standby"]
    [claim] = restored(world)
    assert restored(world) == {claim: name}
    [entry] = new_members(world)
    assert (entry["name"], entry["source"]) == (claim, name)
    assert world.status["method"] == "Mixed"
    took = world.status["leadTime"]["volumeSnapshotSeconds"]
    key = (LEAD_TIME.name, (("method", "volume_snapshot"), ("name", "store"), ("namespace", NAMESPACE)))
    assert world.telemetry.observations[key] == [pytest.approx(took, rel=0.1)]
    assert 0 < took < 10
    assert (
        "of WAL behind and takes about 1 s (assumed, none was measured yet), a base backup takes about 1 s (measured)"
        in message_of(world, Reason.SEEDING)
    )
    assert message_of(world, Reason.SEEDING) == f"{claim} is restored from snapshot {name}, since {entry['sourceWhy']}"


async def test_its_slot_keeps_the_wal_from_the_anchor_on() -> None:
    world = await made()
    name = add_snapshot(world, SET)
    world.primary.write(5_000_000)
    anchor = world.primary.slots[anchor_name(INSTALL, world.body["metadata"]["uid"], OLDER)]
    world.members.restores = False
    world.edit_spec(replicas=2)
    await world.run(5)
    assert list(restored(world).values()) == [name]
    [claim] = restored(world)
    slot = world.primary.slots[
        world.read(ObjectRef(CLAIM, NAMESPACE, claim))["metadata"]["annotations"]["headroom.dev/slot"]
    ]
    assert slot.restart_lsn == anchor.restart_lsn


async def test_its_pod_knows_the_source_also_when_it_is_made_again() -> None:
    world = await made()
    add_snapshot(world, SET)
    world.edit_spec(replicas=2)
    await world.run(5)
    [claim] = restored(world)
    first = seed_environment(world, claim)
    assert (first["RESTORE"], first["RESTORED_SLOT"].split("_")[3:]) == ("Stopped", ["0", "a"])
    world.cluster.remove(ObjectRef(VOLUME_SNAPSHOT, NAMESPACE, "store-s-b"))
    world.cluster.remove(ObjectRef(POD, NAMESPACE, claim))
    await world.run(15)
    assert seed_environment(world, claim) == first
    assert world.roles() == ["serving", "serving", "standby"]


def seed_environment(world: World, pod: str) -> dict[str, str]:
    [container] = world.read(ObjectRef(POD, NAMESPACE, pod))["spec"]["initContainers"]
    return {entry["name"]: entry["value"] for entry in container["env"]}


async def test_two_bad_snapshots_are_followed_by_a_base_backup_until_there_is_a_new_one() -> None:
    world = await made()
    names = [add_snapshot(world, SET, each) for each in (OLDER, NEWER)]
    world.members.spoiled = dict.fromkeys(names, "the snapshot is of system 9, the primary is 7")
    world.edit_spec(replicas=2)
    await world.run(75)
    chosen = [event.message for event in world.telemetry.events if event.reason is Reason.SEEDING]
    tried = [name for message in chosen for name in names if f"is restored from snapshot {name}, since" in message]
    assert sorted(tried) == names, "both, one after the other"
    assert restored(world) == {}, "what failed is gone"
    assert world.telemetry.reasons("store").count(Reason.RESTORE_REFUSED) == 2
    assert "two restores in a row had failed" in message_of(world, Reason.SEEDING)
    world.members.copies = True
    await world.run(30)
    assert world.roles() == ["serving", "serving", "standby"]
    world.members.copies = False
    latest = add_snapshot(world, SET, "d")
    world.edit_spec(replicas=3)
    await world.run(25)
    assert list(restored(world).values()) == [latest]
    assert world.roles() == ["serving"] * 3 + ["standby"]


async def test_three_failures_of_any_kind_are_reported_as_before() -> None:
    world = await made()
    world.members.spoiled = {add_snapshot(world, SET, each): "the snapshot is wrong" for each in (OLDER, NEWER)}
    world.edit_spec(replicas=2, provisioning={"snapshots": SNAPSHOTS, "stallTimeout": "10s"})
    await world.run(1500, step=2.0)
    assert world.condition("Stalled")["reason"] == Reason.SEED_ATTEMPTS_EXHAUSTED


@pytest.mark.parametrize("is_held", [False, True], ids=["gone", "held while the claim waits for it"])
async def test_a_snapshot_that_is_deleted_half_way_ends_the_attempt_and_another_is_taken(*, is_held: bool) -> None:
    world = await made()
    older, newer = add_snapshot(world, SET, OLDER), add_snapshot(world, SET, NEWER)
    world.members.restores = False
    world.edit_spec(replicas=2)
    await world.run(5)
    assert list(restored(world).values()) == [newer]
    [claim] = restored(world)
    delete = world.cluster.delete if is_held else world.cluster.remove
    delete(ObjectRef(VOLUME_SNAPSHOT, NAMESPACE, newer))
    world.members.restores = True
    await world.run(25)
    assert f"snapshot {newer} was deleted before claim {claim} had its volume" in message_of(
        world, Reason.SNAPSHOT_GONE
    )
    await world.run(25)
    assert list(restored(world).values()) == [older]
    assert world.roles() == ["serving", "serving", "standby"]
    world.check_no_orphan(SET)


async def test_a_restore_that_never_ends_is_given_up_after_ten_minutes() -> None:
    world = await made()
    name = add_snapshot(world, SET)
    world.members.restores = False
    world.edit_spec(replicas=2)
    await world.run(60, step=2.0)
    [entry] = new_members(world)
    [seeded] = [each for each in entry["conditions"] if each["type"] == "Seeded"]
    assert f"for a volume from snapshot {name}; `kubectl describe pvc {entry['name']}` shows" in seeded["message"]
    assert world.condition("Stalled")["status"] == "False", "another source is tried by itself"
    await world.run(600, step=2.0)
    assert Reason.RESTORE_STALLED in world.telemetry.reasons("store")
    world.members.restores = True
    await world.run(60)
    assert world.roles() == ["serving", "serving", "standby"]


async def test_a_failover_in_between_ends_the_attempt_before_its_server_runs() -> None:
    world = await made()
    add_snapshot(world, SET)
    world.members.restores = False
    world.edit_spec(replicas=2)
    await world.run(5)
    [claim] = restored(world)
    fail_over(world, ())
    await world.run(10)
    assert f"{claim} was given up: the snapshot store-s-b needs WAL from" in message_of(
        world, Reason.SNAPSHOT_OUT_OF_REACH
    )
    world.members.copies = True
    await world.run(60)
    assert restored(world) == {}
    assert world.roles() == ["serving", "serving", "standby"]
    assert "there is no snapshot yet" in message_of(world, Reason.SEEDING)
    assert "store-s-b is deleted: it has no anchor any more" in message_of(world, Reason.SNAPSHOT_DROPPED)
    world.check_no_orphan(SET)


async def test_a_snapshot_that_can_follow_the_new_primary_is_used_after_a_failover() -> None:
    """Its anchor came along, as a slot that a failover keeps in step does."""
    world = await made()
    name = add_snapshot(world, SET)
    anchor = anchor_name(INSTALL, world.body["metadata"]["uid"], OLDER)
    world.primary.write(1000)
    old = fail_over(world, ())
    world.primary.slots[anchor] = old.slots[anchor]
    await world.run(10)
    world.edit_spec(replicas=2)
    await world.run(30)
    assert list(restored(world).values()) == [name]
    assert world.roles() == ["serving", "serving", "standby"]


async def test_a_failover_before_the_claim_leaves_the_snapshot_alone() -> None:
    world = await made()
    add_snapshot(world, SET)
    world.primary.write(1000)
    fail_over(world, ())
    world.members.copies = True
    world.edit_spec(replicas=2)
    await world.run(40)
    assert restored(world) == {}
    assert world.roles() == ["serving", "serving", "standby"]


async def test_a_slot_whose_wal_is_gone_ends_the_attempt() -> None:
    world = await made()
    add_snapshot(world, SET)
    world.members.restores = False
    world.edit_spec(replicas=2)
    await world.run(5)
    [claim] = restored(world)
    annotations = world.read(ObjectRef(CLAIM, NAMESPACE, claim))["metadata"]["annotations"]
    for name in (annotations["headroom.dev/slot"], annotations["headroom.dev/restored-anchor"]):
        world.primary.slots[name].wal_status = "lost"
    world.members.copies = world.members.restores = True
    await world.run(60)
    assert Reason.SLOT_LOST in world.telemetry.reasons("store")
    assert restored(world) == {}
    assert world.roles() == ["serving", "serving", "standby"]


async def test_an_anchor_that_is_lost_at_the_last_moment_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    world = await made()
    add_snapshot(world, SET)
    create = MemoryServer.create_slot

    def lose(server: MemoryServer, name: str, *arguments: Any, copied_from: str = "") -> Any:
        if copied_from:
            server.slots[copied_from].wal_status = "lost"
        return create(server, name, *arguments, copied_from=copied_from)

    monkeypatch.setattr(MemoryServer, "create_slot", lose)
    world.primary.write(1000)
    world.members.copies = True
    world.edit_spec(replicas=2)
    ready = set()
    for _ in range(60):
        await world.run(0.5)
        ready.add(world.condition("Ready")["status"])
    assert "is of no use: slot" in message_of(world, Reason.SLOT_LOST)
    assert ready == {"True"}, "nothing is wrong with the set"
    assert restored(world) == {}
    assert world.roles() == ["serving", "serving", "standby"]


async def test_a_quota_that_has_no_room_for_the_larger_volume_leads_to_a_copy() -> None:
    world = await made()
    for each in (OLDER, NEWER):
        add_snapshot(world, SET, each, size="2Gi")
    refusal = Refused("exceeded quota: small, requested: requests.storage=2Gi", reason=Reason.QUOTA_EXCEEDED)
    world.kube.faults.fail(refusal, verb="create", kind=CLAIM, times=2)
    world.members.copies = True
    world.edit_spec(replicas=2)
    await world.run(2)
    assert world.condition("Ready")["reason"] == Reason.QUOTA_EXCEEDED
    await world.run(40)
    assert restored(world) == {}
    assert world.roles() == ["serving", "serving", "standby"]


async def test_a_fixed_method_waits_and_says_how_to_end_that() -> None:
    world = await made("VolumeSnapshot")
    world.edit_spec(replicas=2)
    await world.run(10)
    pool = world.condition("WarmPoolReady")
    assert pool["reason"] == Reason.NO_SNAPSHOT_FITS
    assert "none can be restored: there is no snapshot yet; Headroom waits for one, or set" in pool["message"]
    stalled = world.condition("Stalled")
    assert (stalled["status"], stalled["reason"]) == ("True", Reason.NO_SNAPSHOT_FITS), "nobody is there to spare"
    assert len(world.slots()) == 2, "nothing is held meanwhile"
    given_up = [event.message for event in world.telemetry.events if "was given up" in event.message]
    assert given_up == [], "no attempt is begun, and none fails"
    name = add_snapshot(world, SET)
    await world.run(25)
    assert list(restored(world).values()) == [name]
    assert world.roles() == ["serving", "serving", "standby"]
    assert world.condition("Stalled")["status"] == "False"


async def test_snapshots_that_are_taken_by_themselves_make_replicas_and_the_source_of_the_next_one() -> None:
    world = await make(snapshots={"maxWALBehind": "64Mi"})
    [first] = world.whole()
    world.members.copies = False
    world.edit_spec(replicas=2)
    await world.run(30)
    assert world.roles() == ["serving", "serving", "standby"]
    assert list(restored(world).values()) == [first]
    world.primary.write(60 << 20)
    await world.until(TAKEN_IN, lambda: len(world.whole()) == 2 and len(world.names(CLAIM)) == 3)
    world.edit_spec(replicas=3)
    await world.run(30)
    assert sorted(restored(world).values()) == world.whole()
    assert world.roles() == ["serving"] * 3 + ["standby"]
    world.check_clean(4)


async def test_snapshots_that_cannot_be_restored_are_not_fresh_and_the_next_one_is_due() -> None:
    world = await make()
    [first] = world.whole()
    world.members.spoiled = {first: "the snapshot is of system 9, the primary is 7"}
    world.edit_spec(replicas=2)
    await world.until(180, lambda: len(world.whole()) == 2)
    assert world.telemetry.reasons("store").count(Reason.RESTORE_REFUSED) == 2
    await world.run(60)
    assert world.fresh() == ("True", "AsExpected")
    assert world.roles() == ["serving", "serving", "standby"]


async def test_a_fixed_method_that_nothing_can_feed_needs_a_person() -> None:
    world = World()
    world.add_set(provisioning={"method": "VolumeSnapshot", "snapshots": SNAPSHOTS})
    await world.run(10)
    stalled = world.condition("Stalled")
    assert (stalled["status"], stalled["reason"]) == ("True", Reason.NO_SNAPSHOT_FITS)
    assert "set provisioning.method: Auto" in stalled["message"]


async def test_a_slot_that_fits_no_snapshot_any_more_is_given_up_where_the_method_is_fixed() -> None:
    world = await made("VolumeSnapshot")
    name = add_snapshot(world, SET)
    refusal = Refused("not now", reason=Reason.FORBIDDEN)
    world.kube.faults.fail(refusal, verb="create", kind=CLAIM, times=1_000)
    world.edit_spec(replicas=2)
    await world.run(5)
    assert (len(world.slots()), len(world.anchors())) == (3, 1), "two members, and the slot of the new one"
    world.cluster.remove(ObjectRef(VOLUME_SNAPSHOT, NAMESPACE, name))
    await world.run(20)
    assert (len(world.slots()), len(world.anchors())) == (2, 0)
    assert Reason.NO_SNAPSHOT_FITS in world.telemetry.reasons("store")


async def test_a_restore_does_not_wait_for_a_calm_primary() -> None:
    """Only a copy of the primary would add to its load."""
    world = await made()
    add_snapshot(world, SET)
    world.primary.commit_seconds = 3.0
    world.edit_spec(replicas=2)
    await world.run(60)
    assert world.roles() == ["serving", "serving", "standby"]
    assert len(restored(world)) == 1


@pytest.mark.parametrize(("status", "placed"), [("True", datetime(2026, 3, 1, 12, tzinfo=UTC)), ("False", None)])
def test_a_pod_says_since_when_it_has_a_node(status: str, placed: datetime | None) -> None:
    condition = {"type": "PodScheduled", "status": status, "lastTransitionTime": "2026-03-01T12:00:00Z"}
    metadata = {"name": "store-0-a", "uid": "u", "resourceVersion": "1"}
    assert parse_pod({"metadata": metadata, "status": {"conditions": [condition]}}).scheduled_at == placed
    assert parse_pod({"metadata": metadata}).scheduled_at is None
