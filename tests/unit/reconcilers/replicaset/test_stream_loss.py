"""Members whose streams break for good, in a running set: replaced one by one, and readers keep an endpoint."""

from headroom.model.database import Lsn
from headroom.model.replica import MemberId
from headroom.ports.kube import POD, ObjectRef
from headroom.reasons import Reason
from tests.manifests import NAMESPACE
from tests.memory_world import INSTALL
from tests.unit.reconcilers.replicaset.world import World


def slot_of(world: World, name: str) -> str:
    member = MemberId.parse_object("store", name)
    assert member is not None
    return member.slot_name(INSTALL, world.body["metadata"]["uid"])


def others(world: World) -> list[str]:
    names = [pod["metadata"]["name"] for pod in world.children(POD)]
    return [name for name in names if name not in world.serving()]


def cut_off(world: World, name: str) -> None:
    """Somebody drops the slot of a member that is not connected, and the primary writes on."""
    world.replica(name).is_cut_off = True
    del world.primary.slots[slot_of(world, name)]
    world.primary.write(10**6)


async def made(**spec: object) -> World:
    world = World()
    world.add_set(**spec)
    await world.run(30)
    return world


async def test_a_standby_whose_slot_somebody_dropped_is_replaced() -> None:
    world = await made(replicas=1, standbys=1)
    [standby] = others(world)
    cut_off(world, standby)
    await world.run(100)
    assert others(world) == [standby]
    await world.run(100)
    assert world.roles() == ["serving", "standby"]
    assert standby not in others(world)
    assert slot_of(world, standby) not in world.slots()
    assert Reason.SLOT_LOST in world.telemetry.reasons("store")


async def test_a_serving_member_whose_slot_somebody_dropped_is_replaced() -> None:
    world = await made(replicas=2, standbys=0)
    name = world.serving()[0]
    cut_off(world, name)
    await world.run(300)
    assert world.roles() == ["serving", "serving"]
    assert name not in world.serving()


async def test_one_in_the_making_that_never_streams_does_not_stop_the_set() -> None:
    world = await made(replicas=1, standbys=0)
    world.edit_spec(standbys=1)
    while not (found := [name for name in others(world) if name in world.members.ips]):
        await world.one_pass()
        world.play()
        await world.clock.advance(0.25)
    cut_off(world, found[0])
    await world.run(200)
    assert world.roles() == ["serving", "standby"]
    assert found[0] not in others(world)


async def test_the_only_member_gets_a_successor_before_it_goes() -> None:
    world = await made(replicas=1, standbys=0)
    [name] = world.serving()
    cut_off(world, name)
    await world.run(500, step=1)
    assert world.serving() == [name]
    for _ in range(300):
        await world.one_pass()
        world.play()
        await world.clock.advance(1)
        assert world.serving()
    assert world.roles() == ["serving"]
    assert world.serving() != [name]


async def test_one_without_a_stream_hides_none_that_lags() -> None:
    world = await made(replicas=2, standbys=0)
    lost, stale = world.serving()
    world.replica(lost).is_cut_off = True
    world.replica(stale).is_paused = True
    await world.run(14)
    assert sorted(world.serving()) == sorted([lost, stale])
    said = world.condition("ReadsMayBeStale")
    assert said["reason"] == Reason.READS_UNBOUNDED
    assert lost in said["message"]
    assert stale in said["message"]


async def test_streams_that_are_all_down_are_waited_for_and_said() -> None:
    world = await made(replicas=2, standbys=1)
    pods = sorted(pod["metadata"]["uid"] for pod in world.children(POD))
    for name in [*world.serving(), *others(world)]:
        world.replica(name).is_cut_off = True
    await world.run(3000, step=5)
    assert sorted(pod["metadata"]["uid"] for pod in world.children(POD)) == pods
    assert len(world.serving()) == 2
    stalled = world.condition("Stalled")
    assert (stalled["status"], stalled["reason"]) == ("True", Reason.NOT_STREAMING)
    stale = world.condition("ReadsMayBeStale")
    assert (stale["status"], stale["reason"]) == ("True", Reason.READS_UNBOUNDED)
    assert all(name in stale["message"] for name in world.serving()), "each of them is named"
    assert "still serve without a stream" in world.condition("Ready")["message"]
    for member in world.status["members"]:
        found = {entry["type"]: (entry["status"], entry["reason"]) for entry in member["conditions"]}
        assert found["Streaming"] == ("False", Reason.NOT_STREAMING)
        assert found["CaughtUp"][0] == "Unknown"
    for name in [*world.serving(), *others(world)]:
        world.replica(name).is_cut_off = False
    await world.run(20)
    assert world.condition("Stalled")["status"] == "False"
    assert world.condition("ReadsMayBeStale")["status"] == "False"
    assert sorted(pod["metadata"]["uid"] for pod in world.children(POD)) == pods


async def test_after_a_failover_without_slots_members_that_follow_are_kept() -> None:
    world = await made(replicas=1, standbys=1)
    pods = sorted(pod["metadata"]["uid"] for pod in world.children(POD))
    for name in [*world.serving(), *others(world)]:
        cut_off(world, name)
    world.primary.timeline = 2
    await world.run(90)
    for name in [*world.serving(), *others(world)]:
        world.replica(name).is_cut_off = False
    await world.run(300)
    assert sorted(pod["metadata"]["uid"] for pod in world.children(POD)) == pods
    assert world.roles() == ["serving", "standby"]


async def test_a_standby_that_found_no_node_for_long_does_not_hold_back_vacuum() -> None:
    world = await made(replicas=1, standbys=1)
    [standby] = others(world)
    ref = ObjectRef(POD, NAMESPACE, standby)
    slot = world.primary.slots[slot_of(world, standby)]
    slot.is_active, slot.has_xmin, slot.inactive_since = False, True, world.clock.monotonic()
    world.replica(standby).is_down = True
    world.cluster.set_status(ref, {"phase": "Running", "containerStatuses": []})
    await world.run(280)
    assert slot_of(world, standby) in world.slots()
    await world.run(60)
    assert slot_of(world, standby) not in world.slots()
    assert world.roles() == ["serving", "standby"]


async def test_a_paused_replay_is_said() -> None:
    world = await made(replicas=1, standbys=1)
    [standby] = others(world)
    world.replica(standby).is_paused = True
    world.replica(standby).is_cut_off = True
    world.primary.slots[slot_of(world, standby)].restart_lsn = Lsn(world.primary.lsn + 10**6)
    await world.run(300)
    assert others(world) == [standby]
    member = next(entry for entry in world.status["members"] if entry["name"] == standby)
    streaming = next(entry for entry in member["conditions"] if entry["type"] == "Streaming")
    assert "pg_wal_replay_resume" in streaming["message"]
