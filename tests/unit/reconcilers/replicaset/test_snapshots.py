"""Snapshots are taken, replaced and pruned, and cost nobody whom the spec asks for."""

import pytest

from headroom.model.replica import MemberId
from headroom.ports.kube import CLAIM, POD
from tests.memory_world import INSTALL
from tests.unit.reconcilers.replicaset.snapshot_world import TAKEN_IN, SnapshotWorld, make, read_stamps
from tests.unit.reconcilers.replicaset.world import NAME


@pytest.mark.parametrize(("replicas", "standbys"), [(2, 2), (1, 1), (1, 0), (0, 1)])
async def test_the_first_snapshot_costs_nobody_whom_the_spec_asks_for(replicas: int, standbys: int) -> None:
    world = SnapshotWorld()
    world.begin(replicas, standbys)
    whole = ["serving"] * replicas + ["standby"] * standbys
    await world.until(60, lambda: world.roles()[: len(whole)] == whole or sorted(world.roles()) == whole)
    world.watch()
    await world.until(TAKEN_IN, lambda: world.whole() and len(world.names(CLAIM)) == len(whole))
    await world.run(20)
    assert world.fewest == {"serving": replicas, "standby": standbys}
    assert world.fresh() == ("True", "AsExpected")
    assert world.roles() == whole
    world.check_clean(len(whole))
    assert world.snapshots.of_running == set()


async def test_a_snapshot_says_what_a_restore_has_to_know() -> None:
    world = SnapshotWorld()
    world.begin()
    await world.until(TAKEN_IN, world.sources)
    [source] = world.sources()
    await world.until(TAKEN_IN, lambda: world.taken)
    received, before = world.replica(source)._received, world.primary.lsn
    await world.until(TAKEN_IN, world.whole)
    [item] = world.taken
    stamps = read_stamps(item)
    member = MemberId.parse_object(NAME, source)
    assert member is not None
    assert stamps.source_slot == member.slot_name(INSTALL, world.body["metadata"]["uid"])
    assert (stamps.system_identifier, stamps.timeline) == (world.primary.system_identifier, 1)
    assert (stamps.major, stamps.consistency) == (17, "Stopped")
    assert [stamps.anchor] == world.anchors()
    restart_lsn = world.primary.slots[stamps.anchor].restart_lsn
    assert stamps.to_lsn is not None
    assert restart_lsn <= stamps.from_lsn <= received <= stamps.to_lsn <= before
    assert item["spec"] == {
        "volumeSnapshotClassName": "csi-snap",
        "source": {"persistentVolumeClaimName": source},
    }


async def test_it_is_replaced_before_it_is_too_old_and_the_older_ones_are_pruned() -> None:
    world = await make(snapshots={"maxAge": "10m", "keep": 2})
    first, shown = world.whole(), list[tuple[str, str]]()
    await world.until(10 * 60, lambda: len(world.whole()) == 2 and not shown.append(world.fresh()))
    assert set(shown) == {("True", "AsExpected")}, "there is a fresh one at any time"
    await world.until(15 * 60, lambda: first[0] not in world.whole())
    await world.run(30)
    assert len(world.whole()) == 2
    world.check_clean(2)


async def test_it_is_replaced_once_too_much_wal_was_written_since() -> None:
    world = await make(snapshots={"maxWALBehind": "64Mi"})
    first = world.whole()
    world.primary.write(30 * 1024**2)
    await world.run(20)
    assert world.whole() == first
    assert world.names(CLAIM) == world.names(POD)
    world.primary.write(25 * 1024**2)
    await world.until(TAKEN_IN, lambda: len(world.whole()) == 2)
    assert world.fresh() == ("True", "AsExpected")


async def test_a_replica_that_leaves_by_scale_in_is_the_source_for_free() -> None:
    world = await make(replicas=2, standbys=1, snapshots={"maxAge": "10m"})
    before = set(world.names(CLAIM))
    end = world.clock.monotonic() + 8 * 60 - TAKEN_IN - 10
    while world.clock.monotonic() < end:
        await world.run(20, step=5)
    world.edit_spec(replicas=1, drain={"timeout": "120s"})
    for name in world.serving():
        world.replica(name).sessions = []
    await world.until(10 * 60, lambda: len(world.whole()) == 2)
    await world.run(20)
    assert set(world.names(CLAIM)) < before, "no member was made for it"
    assert world.roles() == ["serving", "standby"]
    world.check_clean(2)


async def test_atomic_takes_a_running_standby_and_no_member_more() -> None:
    world = SnapshotWorld()
    world.begin(snapshots={"consistency": "Atomic"})
    await world.until(60, lambda: world.roles() == ["serving", "standby"])
    world.watch()
    pods = world.names(POD)
    await world.until(30, world.whole)
    await world.run(5)
    assert world.fewest == {"serving": 1, "standby": 1}
    assert world.names(POD) == pods
    assert world.snapshots.of_running == set(world.whole())
    stamps = read_stamps(world.taken[0])
    assert stamps.consistency == "Atomic"
    assert stamps.to_lsn is not None
    assert stamps.from_lsn < stamps.to_lsn <= world.primary.lsn
    world.check_clean(2)


async def test_atomic_without_a_standby_says_what_it_needs() -> None:
    world = SnapshotWorld()
    world.begin(standbys=0, snapshots={"consistency": "Atomic"})
    await world.run(40)
    assert world.fresh() == ("False", "SnapshotPending")
    assert "set spec.standbys" in world.condition("SnapshotFresh")["message"]
    assert (world.taken, world.anchors()) == ([], [])
