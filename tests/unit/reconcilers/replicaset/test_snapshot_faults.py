"""What keeps snapshots from being taken is said, and nothing is left of what was begun."""

import pytest

from headroom.errors import Refused
from headroom.model.database import Lsn
from headroom.ports.kube import CLAIM, VOLUME_SNAPSHOT, ObjectRef
from headroom.reasons import Reason
from headroom.reconcilers.replicaset import metrics
from tests.failover import fail_over
from tests.manifests import NAMESPACE
from tests.unit.reconcilers.replicaset.snapshot_world import LABELS, TAKEN_IN, SnapshotWorld, make, read_stamps
from tests.unit.reconcilers.replicaset.world import NAME


async def test_without_the_kind_nothing_is_begun_and_the_remedy_is_said() -> None:
    world = SnapshotWorld()
    world.unserved = frozenset({VOLUME_SNAPSHOT})
    world.kube.kinds.remove(VOLUME_SNAPSHOT)
    world.restart()
    world.begin()
    await world.run(40)
    assert world.fresh() == ("False", "SnapshotsNotServed")
    assert "install the snapshot CRDs and controller" in world.condition("SnapshotFresh")["message"]
    assert "restart Headroom" in world.condition("SnapshotFresh")["message"]
    assert world.condition("Ready")["status"] == "True"
    assert world.roles() == ["serving", "standby"]
    assert world.anchors() == []


async def test_without_the_class_nothing_is_begun_until_it_is_there() -> None:
    world = SnapshotWorld(has_class=False)
    world.begin()
    await world.run(60)
    assert world.fresh() == ("False", "SnapshotClassNotFound")
    assert (len(world.names(CLAIM)), world.anchors()) == (2, [])
    assert world.condition("Ready")["status"] == "True"
    world.add_snapshot_class()
    await world.until(TAKEN_IN + 60, world.whole)


async def test_a_class_of_another_driver_is_named() -> None:
    world = SnapshotWorld()
    world.begin()
    await world.run(5)
    provisioner = {"volume.kubernetes.io/storage-provisioner": "disk.example.org"}
    for name in world.names(CLAIM):
        ref = ObjectRef(CLAIM, NAMESPACE, name)
        world.cluster.edit(ref, lambda claim: claim["metadata"]["annotations"].update(provisioner))
    await world.run(40)
    assert world.fresh() == ("False", "SnapshotClassMismatch")
    message = world.condition("SnapshotFresh")["message"]
    assert "csi.example.com" in message
    assert "disk.example.org" in message
    assert (world.taken, world.anchors()) == ([], [])


async def test_a_quota_is_said_its_source_goes_on_and_the_next_attempt_waits() -> None:
    world = SnapshotWorld()
    refusal = Refused("exceeded quota: snapshots, used: 0, limited: 0", reason=Reason.QUOTA_EXCEEDED)
    world.kube.faults.fail(refusal, verb="create", kind=VOLUME_SNAPSHOT, times=1000)
    world.begin()
    await world.until(TAKEN_IN, lambda: world.fresh()[1] == "QuotaExceeded")
    await world.run(120)
    assert world.condition("Ready")["status"] == "True"
    attempts = [ref for verb, ref in world.kube.calls if (verb, ref.kind) == ("create", VOLUME_SNAPSHOT)]
    assert 2 <= len(attempts) <= 5, "ten seconds, doubled each time"
    assert len(world.names(CLAIM)) == 3, "no second copy is made for the next attempt"
    world.kube.faults.clear()
    await world.until(20 * 60, world.whole)
    await world.run(30)
    world.check_clean(2)
    assert world.telemetry.value(metrics.SNAPSHOTS, **LABELS, outcome="taken") == 1


async def test_a_snapshot_that_is_never_ready_is_deleted_after_ten_minutes_and_taken_again() -> None:
    world = SnapshotWorld()
    world.snapshots.ready_after = 1e9
    world.begin()
    await world.until(TAKEN_IN, lambda: world.taken)
    first = world.taken[0]["metadata"]["name"]
    await world.run(9 * 60, step=5)
    assert [item["metadata"]["name"] for item in world.taken] == [first]
    await world.until(120, lambda: world.fresh()[1] == "SnapshotNotReady")
    assert "check the CSI driver" in world.condition("SnapshotFresh")["message"]
    world.snapshots.ready_after = 2.0
    await world.until(240, world.whole)
    assert first not in world.whole()
    await world.run(30)
    world.check_clean(2)


async def test_a_driver_that_uploads_for_long_keeps_no_source_and_its_snapshot_is_used_in_the_end() -> None:
    world = SnapshotWorld()
    world.snapshots.cut_after, world.snapshots.ready_after = 2.0, 12 * 60
    world.begin()
    await world.until(TAKEN_IN, world.sources)
    await world.until(60, lambda: len(world.names(CLAIM)) == 2)
    assert world.snapshots.of_running == set()
    assert "taken, and not ready yet" in world.condition("SnapshotFresh")["message"]
    [item], claims = world.taken, world.names(CLAIM)
    await world.run(13 * 60, step=20)
    assert world.whole() == [item["metadata"]["name"]]
    assert world.names(CLAIM) == claims, "nobody else was made for it"
    assert world.fresh() == ("True", "AsExpected")
    world.check_clean(2)


async def test_what_the_driver_says_is_shown_cleaned_and_bounded() -> None:
    world = SnapshotWorld()
    world.snapshots.error = "rpc error:\n\x1b[31mno space\x1b[0m " + "x" * 5000
    world.begin()
    await world.until(TAKEN_IN, lambda: world.fresh()[1] == "SnapshotFailed")
    message = world.condition("SnapshotFresh")["message"]
    assert "no space" in message
    assert message.isprintable()
    assert len(message) < 500
    world.snapshots.error = ""
    await world.until(60, lambda: world.fresh() == ("True", "AsExpected"))


async def test_a_controller_that_is_away_for_ten_minutes_leaves_nothing() -> None:
    world = SnapshotWorld()
    world.snapshots.is_away = True
    world.begin()
    await world.until(TAKEN_IN, lambda: world.taken)
    await world.run(11 * 60, step=5)
    assert len(world.taken) <= 2
    world.snapshots.is_away = False
    await world.until(20 * 60, world.whole)
    await world.run(60)
    world.check_clean(2)
    assert world.roles() == ["serving", "standby"]


async def test_one_that_was_deleted_by_hand_half_way_is_taken_again() -> None:
    world = SnapshotWorld()
    world.snapshots.ready_after = 20.0
    world.begin()
    await world.until(TAKEN_IN, lambda: world.taken and world.taken[0]["metadata"].get("finalizers"))
    world.snapshots.is_away = True
    ref = ObjectRef(VOLUME_SNAPSHOT, NAMESPACE, world.taken[0]["metadata"]["name"])
    world.cluster.delete(ref)
    await world.until(10, lambda: world.sources() == [])
    world.snapshots.is_away = False
    await world.until(120, world.whole)
    await world.run(30)
    world.check_clean(2)


async def test_a_source_whose_pod_does_not_end_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    world = SnapshotWorld()
    monkeypatch.setattr(world.members, "_may_finish", lambda _: True)
    world.begin()
    await world.until(TAKEN_IN, world.sources)
    [source] = world.sources()
    await world.until(6 * 60, lambda: world.sources() == [])
    assert world.fresh()[1] == "SnapshotFailed"
    assert f"pod {source} does not end" in world.condition("SnapshotFresh")["message"]
    assert {"serving", "standby"} <= set(world.roles())
    monkeypatch.undo()
    await world.until(20 * 60, world.whole)
    await world.run(60)
    world.check_clean(2)


@pytest.mark.parametrize("seconds", [0.0, 1.0, 3.0])
async def test_a_failover_between_the_steps_drops_what_was_begun(seconds: float) -> None:
    world = SnapshotWorld()
    world.snapshots.ready_after = 10.0
    world.begin()
    await world.until(TAKEN_IN, world.sources)
    await world.run(seconds)
    begun = {item["metadata"]["name"] for item in world.taken}
    fail_over(world, set())
    await world.until(6 * 60, lambda: world.whole() and read_stamps(world.taken[-1]).timeline == 2)
    await world.run(60)
    assert not begun & set(world.whole())
    world.check_clean(2)
    assert world.roles() == ["serving", "standby"]


async def test_a_snapshot_of_before_a_failover_goes_with_its_anchor() -> None:
    world = await make()
    old = world.whole()
    fail_over(world, set())
    await world.until(5 * 60, lambda: world.whole() and not set(old) & set(world.whole()))
    await world.run(30)
    world.check_clean(2)


async def test_an_anchor_over_the_cap_is_dropped_before_any_member() -> None:
    world = await make()
    [anchor], members = world.anchors(), world.names(CLAIM)
    world.primary.write(1200 * 1024**2)
    for name, slot in world.primary.slots.items():
        if name != anchor:
            slot.restart_lsn = type(slot.restart_lsn)(world.primary.lsn)
    world.edit_spec(mode="Paused")
    await world.run(5)
    assert world.anchors() == [], "also while the set is paused"
    assert world.names(CLAIM) == members
    world.edit_spec(mode="Active")
    await world.until(TAKEN_IN, lambda: len(world.whole()) == 1 and world.anchors())
    await world.run(20)
    world.check_clean(2)


@pytest.mark.parametrize("mebibytes", [870, 1100])
async def test_after_a_long_time_without_a_checkpoint_neither_anchors_nor_copies_follow_each_other(
    mebibytes: int,
) -> None:
    """A slot keeps WAL from the last checkpoint on; 1 GiB is allowed, and at 819 MiB the next snapshot is due."""
    world = SnapshotWorld()
    world.begin()
    while len(world.primary.slots) < 3:
        await world.one_pass()
        await world.pass_time(0.1)
    assert world.anchors() == []
    world.primary.write(2 * 1024**3)
    world.primary.since_checkpoint = mebibytes * 1024**2
    for slot in world.primary.slots.values():
        slot.restart_lsn = Lsn(world.primary.lsn)
    claims = set[str]()
    for _ in range(45):
        await world.run(1)
        claims |= set(world.names(CLAIM))
    failed = world.telemetry.value(metrics.SNAPSHOTS, **LABELS, outcome="failed") or 0
    assert 2 <= failed <= 4, "ten seconds, doubled each time"
    assert len(claims) <= 3
    assert world.fresh() == ("False", "SnapshotFailed")
    assert "last checkpoint" in world.condition("SnapshotFresh")["message"]
    world.primary.since_checkpoint = 0
    await world.until(2 * 60, world.whole)


@pytest.mark.parametrize("mode", ["Paused", "DryRun"])
async def test_a_set_that_does_not_act_takes_none(mode: str) -> None:
    world = SnapshotWorld()
    world.begin()
    await world.until(60, lambda: world.roles() == ["serving", "standby"])
    world.edit_spec(mode=mode)
    before = world.names(CLAIM)
    await world.run(60)
    assert (world.taken, world.anchors(), world.names(CLAIM)) == ([], [], before)
    assert world.fresh() == ("False", mode)


async def test_a_set_that_wants_no_snapshots_any_more_deletes_them() -> None:
    world = await make()
    world.edit_spec(provisioning={"maxSlotWAL": "1Gi"})
    await world.run(20)
    assert (world.taken, world.anchors()) == ([], [])
    assert world.fresh() == ("False", "SnapshotsNotConfigured")


@pytest.mark.parametrize(("setting", "longest", "touches"), [("3600", 65, (4, 6)), ("30", 15, (20, 31))])
async def test_idle_anchors_are_touched_where_the_primary_gives_them_up(
    setting: str, longest: float, touches: tuple[int, int]
) -> None:
    world = SnapshotWorld()
    world.primary.settings["idle_replication_slot_timeout"] = setting
    world.begin()
    await world.run(TAKEN_IN)
    [anchor] = world.anchors()
    begins = world.primary.slots[anchor].restart_lsn
    touched_at = set()
    for _ in range(60):
        await world.run(5, step=5)
        touched_at.add(world.primary.slots[anchor].inactive_since)
        assert world.clock.monotonic() - max(touched_at) <= longest
    assert touches[0] <= len(touched_at) <= touches[1]
    assert world.primary.slots[anchor].restart_lsn == begins


async def test_where_the_primary_gives_up_none_no_anchor_is_touched() -> None:
    world = await make()
    [anchor] = world.anchors()
    since = world.primary.slots[anchor].inactive_since
    await world.run(180, step=5)
    assert world.primary.slots[anchor].inactive_since == since


async def test_a_set_that_goes_takes_its_snapshots_and_anchors_along() -> None:
    world = await make()
    assert await world.delete(60)
    assert (world.taken, world.anchors(), world.slots(), world.names(CLAIM)) == ([], [], [], [])


async def test_a_set_that_retains_its_volumes_retains_its_snapshots_without_an_owner() -> None:
    world = await make(retention={"volumes": "Retain"})
    assert len(world.names(CLAIM)) == 2, "the volume that was taken is not retained as well"
    assert await world.delete(60)
    [left] = world.taken
    assert "ownerReferences" not in left["metadata"]
    assert left["metadata"]["labels"]["headroom.dev/retained-from"] == NAME
    assert world.anchors() == []


async def test_the_status_and_the_metrics_show_what_can_be_restored() -> None:
    world = await make()
    world.primary.write(100 * 1024**2)
    await world.run(15)
    [shown] = world.status["snapshots"]
    assert (shown["name"], shown["ready"], shown["timeline"]) == (world.whole()[0], True, 1)
    assert shown["walBehindBytes"] == pytest.approx(100 * 1024**2, rel=0.1)
    age = world.telemetry.value(metrics.SNAPSHOT_AGE, **LABELS)
    assert age is not None
    assert 0 < age < TAKEN_IN + 30
    assert world.telemetry.value(metrics.SNAPSHOTS, **LABELS, outcome="taken") == 1
    assert world.status["slots"]["count"] == 3
