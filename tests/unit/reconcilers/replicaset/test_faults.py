"""What goes wrong around a set, and that it ends as if it had not."""

import pytest

from headroom.adapters.inmemory.kube_faults import WRITE
from headroom.adapters.inmemory.postgres_server import MemorySession
from headroom.errors import Conflict, KubeUnavailable
from headroom.model.database import Lsn
from headroom.model.replica import MemberId
from headroom.ports.kube import CLAIM, POD, ObjectRef
from headroom.reasons import Reason
from tests.manifests import NAMESPACE
from tests.memory_world import INSTALL
from tests.unit.reconcilers.replicaset.world import SET, World


async def test_deletion_while_provisioning_leaves_nothing() -> None:
    world = World(copies=False)
    world.add_set(replicas=1, standbys=1)
    await world.run(10)
    assert world.roles() == ["provisioning"]
    assert await world.delete()
    assert world.children(POD) == world.children(CLAIM) == []
    assert world.slots() == []


@pytest.mark.parametrize(
    "error",
    [
        pytest.param(Conflict("somebody wrote first"), id="409"),
        pytest.param(KubeUnavailable("too many requests", reason=Reason.KUBE_UNAVAILABLE), id="429"),
    ],
)
async def test_an_api_server_that_refuses_every_third_write_delays_only(error: Exception) -> None:
    world = World()
    world.add_set(replicas=2, standbys=1)
    for nth in range(3, 90, 3):
        world.kube.faults.fail(error, verb=WRITE, nth=nth)
    await world.run(40)
    assert world.roles() == ["serving", "serving", "standby"]
    world.check_no_orphan(SET)


async def test_a_primary_that_is_down_for_a_minute_changes_nothing() -> None:
    world = World()
    world.add_set(replicas=2, standbys=1)
    await world.run(30)
    pods = sorted(pod["metadata"]["uid"] for pod in world.children(POD))
    world.primary.is_down = True
    await world.run(60)
    assert world.condition("Ready")["reason"] == Reason.PRIMARY_UNREACHABLE
    assert world.condition("ReadsMayBeStale")["status"] == "True"
    assert world.roles() == ["serving", "serving", "standby"]
    world.primary.is_down = False
    world.primary.restart()
    await world.run(20)
    assert world.condition("Ready")["status"] == "True"
    assert world.condition("ReadsMayBeStale")["status"] == "False"
    assert sorted(pod["metadata"]["uid"] for pod in world.children(POD)) == pods


async def test_a_claim_that_never_binds_is_said_and_its_slot_given_back() -> None:
    world = World(binds=False)
    world.add_set(replicas=1, standbys=0)
    await world.run(60, step=2)
    stalled = world.condition("Stalled")
    assert (stalled["status"], stalled["reason"]) == ("True", Reason.VOLUME_NOT_BOUND)
    assert "storageClassName" in stalled["message"]
    await world.run(3000, step=5)
    assert world.condition("Stalled")["reason"] == Reason.SEED_ATTEMPTS_EXHAUSTED
    world.members.binds = True
    await world.run(250, step=2)
    assert world.roles() == ["serving"]
    assert world.condition("Stalled")["status"] == "False"
    world.check_no_orphan(SET)


async def test_a_stalled_set_holds_nothing_while_it_waits() -> None:
    world = World(binds=False)
    world.add_set(replicas=1, standbys=0)
    seen = []
    for _ in range(160):
        await world.run(6, step=6)
        seen.append((len(world.slots()), len(world.children(CLAIM))))
    assert (0, 0) in seen
    assert max(slots for slots, _ in seen) == 1


async def test_a_failed_pod_is_made_again_on_its_claim() -> None:
    world = World()
    world.add_set(replicas=1, standbys=1)
    await world.run(20)
    [name] = world.serving()
    claims = {claim["metadata"]["uid"] for claim in world.children(CLAIM)}
    world.cluster.end_pod(ObjectRef(POD, NAMESPACE, name))
    await world.run(20)
    assert world.roles() == ["serving", "standby"]
    assert {claim["metadata"]["uid"] for claim in world.children(CLAIM)} == claims


async def test_a_lost_slot_makes_a_new_member_and_readers_keep_one() -> None:
    world = World()
    world.add_set(replicas=1, standbys=1)
    await world.run(20)
    [name] = world.serving()
    member = MemberId.parse_object("store", name)
    assert member is not None
    slot = member.slot_name(INSTALL, world.body["metadata"]["uid"])
    world.primary.slots[slot].wal_status = "lost"
    for _ in range(12):
        await world.one_pass()
        world.play()
        await world.clock.advance(0.25)
        assert world.serving()
    await world.run(20)
    assert world.roles() == ["serving", "standby"]
    assert slot not in world.slots()


async def test_a_promoted_member_leaves_the_service_at_once_and_is_made_anew() -> None:
    world = World()
    world.add_set(replicas=1, standbys=1)
    await world.run(20)
    [name] = world.serving()
    world.replica(name).promote()
    await world.one_pass()
    assert name not in world.serving()
    assert Reason.MEMBER_PROMOTED in world.telemetry.reasons("store")
    await world.run(20)
    assert world.roles() == ["serving", "standby"]
    assert name not in [pod["metadata"]["name"] for pod in world.children(POD)]


async def test_a_member_that_the_service_never_lists_is_put_back() -> None:
    world = World(lists=False)
    world.add_set(replicas=1, standbys=0)
    await world.run(12)
    assert Reason.NOT_IN_SERVICE_IN_TIME in world.telemetry.reasons("store")
    world.members.lists = True
    await world.run(10)
    assert world.roles() == ["serving"]


async def test_a_dead_replica_is_no_trouble_of_the_primary() -> None:
    world = World()
    world.add_set(replicas=2, standbys=1)
    await world.run(30)
    name = world.serving()[0]
    world.replica(name).is_down = True
    for _ in range(60):
        await world.run(0.5)
        assert world.condition("Ready")["status"] == "True", world.condition("Ready")
    assert name not in world.serving()
    assert Reason.PRIMARY_UNREACHABLE not in world.telemetry.reasons("store")


async def test_an_unreachable_member_is_replaced_and_the_last_one_never_taken_out() -> None:
    world = World()
    world.add_set(replicas=1, standbys=0)
    await world.run(15)
    [name] = world.serving()
    world.replica(name).is_hung = True
    await world.run(20)
    assert world.serving() == [name]
    world.replica(name).is_hung = False
    world.edit_spec(replicas=2)
    await world.run(20)
    world.replica(name).is_hung = True
    await world.run(8)
    assert world.serving()
    assert name not in world.serving()


async def test_sessions_that_outstay_the_drain_are_ended() -> None:
    world = World()
    world.add_set(replicas=2, standbys=0, drain={"timeout": "5s"})
    await world.run(25)
    for name in world.serving():
        world.replica(name).sessions = [MemorySession(state="active"), MemorySession()]
    world.edit_spec(replicas=1)
    await world.run(4)
    assert sorted(world.roles()) == ["draining", "serving"]
    await world.run(10)
    assert world.roles() == ["serving"]
    assert Reason.SESSIONS_TERMINATED in world.telemetry.reasons("store")


async def test_a_set_without_its_guard_says_so_and_can_be_deleted() -> None:
    world = World()
    world.add_set(databaseRef={"name": "nowhere"})
    await world.run(5)
    assert world.condition("Ready")["reason"] == Reason.GUARD_NOT_FOUND
    assert await world.delete(5)


async def test_retained_volumes_outlive_the_set_without_an_owner() -> None:
    world = World()
    world.add_set(replicas=1, standbys=0, retention={"volumes": "Retain"})
    await world.run(20)
    assert await world.delete()
    [claim] = world.children(CLAIM)
    assert "ownerReferences" not in claim["metadata"]
    assert claim["metadata"]["labels"]["headroom.dev/retained-from"] == "store"
    assert world.slots() == []


async def test_a_paused_set_makes_and_moves_nothing() -> None:
    world = World()
    world.add_set(replicas=1, standbys=1, mode="Paused")
    await world.run(10)
    assert world.children(POD) == world.children(CLAIM) == []
    assert world.slots() == []
    assert world.condition("Ready")["status"] == "False"


async def test_a_primary_with_unlimited_slots_needs_a_cap_and_says_which_field() -> None:
    world = World()
    world.primary.settings["max_slot_wal_keep_size"] = "-1"
    world.add_set()
    await world.run(5)
    stalled = world.condition("Stalled")
    assert stalled["reason"] == Reason.WAL_CAP_REQUIRED
    assert "provisioning.maxSlotWAL" in stalled["message"]
    assert world.slots() == []
    world.edit_spec(provisioning={"maxSlotWAL": "8Gi"})
    await world.run(15)
    assert world.roles() == ["serving", "standby"]


async def test_a_foreign_service_of_the_same_name_stays_untouched() -> None:
    world = World()
    world.cluster.seed(
        {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "store-read", "namespace": NAMESPACE}, "spec": {}}
    )
    world.add_set()
    await world.run(5)
    assert world.condition("Ready")["reason"] == Reason.NAME_CONFLICT


async def test_another_system_behind_the_same_name_is_not_believed() -> None:
    world = World()
    world.add_set(replicas=1, standbys=1)
    await world.run(20)
    pods = world.roles()
    world.primary.system_identifier = "7300000000000000002"
    await world.run(20)
    assert world.condition("Ready")["reason"] == Reason.PRIMARY_REPLACED
    assert world.roles() == pods


async def test_a_set_as_it_was_before_takes_nothing_away() -> None:
    world = World()
    old = world.add_set(replicas=0, standbys=0)
    await world.run(5)
    older = world.body
    world.edit_spec(replicas=1, standbys=1)
    await world.run(20)
    world.kube.writes.clear()
    for body in (old, older):
        with pytest.raises(Conflict):
            await world.reconciler.reconcile(body)
    assert world.kube.writes == []
    assert world.roles() == ["serving", "standby"]


async def test_an_installation_under_another_name_keeps_the_members_it_finds() -> None:
    world = World()
    world.add_set(replicas=1, standbys=1)
    await world.run(20)
    pods = sorted(pod["metadata"]["uid"] for pod in world.children(POD))
    slots = world.slots()
    world.restart("fedcba98")
    await world.run(20)
    assert sorted(pod["metadata"]["uid"] for pod in world.children(POD)) == pods
    assert sorted(world.primary.slots) == slots
    assert await world.delete()
    assert not world.primary.slots


async def test_a_slot_that_keeps_too_much_wal_is_given_up_to_protect_the_primary() -> None:
    world = World()
    world.add_set(replicas=1, standbys=1, provisioning={"maxSlotWAL": "64Mi"})
    await world.run(20)
    before = world.slots()
    [standby] = [
        pod["metadata"]["name"] for pod in world.children(POD) if pod["metadata"]["name"] not in world.serving()
    ]
    uid = world.body["metadata"]["uid"]
    member = MemberId.parse_object("store", standby)
    assert member is not None
    kept = member.slot_name(INSTALL, uid)
    world.replica(standby).is_cut_off = True
    world.primary.write(100 * 1024**2)
    for name, slot in world.primary.slots.items():
        if name != kept:
            slot.restart_lsn = Lsn(world.primary.lsn)
    await world.run(20)
    assert Reason.WAL_CAP_REACHED in world.telemetry.reasons("store")
    assert kept not in world.slots()
    assert len(world.slots()) == len(before)
    assert world.roles() == ["serving", "standby"]
