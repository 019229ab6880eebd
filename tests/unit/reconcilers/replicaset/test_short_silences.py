"""A primary that does not answer now and then: it pauses what is counted of a member, and neither ends it nor adds."""

import pytest

from headroom.model.database import BackupProgress
from headroom.ports.kube import POD
from headroom.reasons import Reason
from tests.failover import fail_over
from tests.unit.reconcilers.replicaset.test_lag_readings import made, standbys
from tests.unit.reconcilers.replicaset.test_stale_takeover import LONG_BOUND, stale
from tests.unit.reconcilers.replicaset.world import World


async def blink(world: World, up: float, down: float, *, is_hung: bool = False, step: float = 0.0) -> None:
    """The primary answers for a while, and then it does not."""
    await world.run(up, step=step)
    kind = "is_hung" if is_hung else "is_down"
    setattr(world.primary, kind, True)
    await world.run(down)
    setattr(world.primary, kind, False)


async def blink_until_gone(world: World, name: str, up: float, down: float, *, limit: float) -> float:
    """Seconds until a member has left the Service."""
    began = world.clock.monotonic()
    while name in world.serving() and world.clock.monotonic() - began < limit:
        await blink(world, up, down)
    return world.clock.monotonic() - began


@pytest.mark.parametrize(("up", "down"), [(8, 1), (8, 2), (5, 3)])
@pytest.mark.parametrize("replicas", [1, 2])
async def test_one_without_a_stream_leaves_although_the_primary_blinks(replicas: int, up: float, down: float) -> None:
    world = await made(replicas=replicas, standbys=1)
    name = world.serving()[0]
    world.replica(name).is_cut_off = True
    seconds = await blink_until_gone(world, name, up, down, limit=120)
    assert seconds <= 10 * (up + down) / up + 2 * (up + down) + 2
    assert len(world.serving()) == replicas


async def test_one_failed_question_is_no_answer() -> None:
    world = await made(replicas=1, standbys=1, readiness=LONG_BOUND)
    [name] = world.serving()
    world.replica(name).is_cut_off = True
    await blink(world, 100, 1, is_hung=True, step=1)
    await world.run(15)
    assert world.serving() == [name], "data may be 120 s old here"
    await world.run(15)
    assert name not in world.serving()


async def test_what_was_said_of_one_without_a_stream_stays_said_and_turns_nothing() -> None:
    world = await made(replicas=1, standbys=0)
    [name] = world.serving()
    world.replica(name).is_cut_off = True
    await world.run(20)
    assert stale(world) == ("True", Reason.READS_UNBOUNDED)
    kinds = ("ReadsMayBeStale", "Ready")
    before = {kind: world.condition(kind)["lastTransitionTime"] for kind in kinds}
    lost = streaming_since(world, name)
    for _ in range(6):
        await blink(world, 7, 1)
        assert stale(world)[0] == "True"
        assert {kind: world.condition(kind)["lastTransitionTime"] for kind in kinds} == before
    assert streaming_since(world, name) == lost, "a process that follows reads the age of the data there"
    await world.run(5)
    assert stale(world) == ("True", Reason.READS_UNBOUNDED)


def streaming_since(world: World, name: str) -> tuple[str, str]:
    [entry] = [entry for entry in world.status["members"] if entry["name"] == name]
    [found] = [each for each in entry["conditions"] if each["type"] == "Streaming"]
    return found["status"], found["lastTransitionTime"]


@pytest.mark.parametrize("standbys", [0, 1])
@pytest.mark.parametrize("every", [5.0, 11.0])
async def test_neither_blinks_nor_changes_of_leader_make_the_data_younger(standbys: int, every: float) -> None:
    """Each leader meets a silence of the primary before it has seen the bound pass."""
    world = await made(replicas=1, standbys=standbys, readiness={"maxReplayLag": "1s", "ejectReplayLag": "30s"})
    [name] = world.serving()
    world.replica(name).is_cut_off = True
    began = restarted = world.clock.monotonic()
    while name in world.serving() and stale(world)[0] != "True" and world.clock.monotonic() - began < 120:
        await blink(world, 4, 1)
        if world.clock.monotonic() - restarted >= every:
            world.restart()
            restarted = world.clock.monotonic()
    assert world.clock.monotonic() - began <= 30 * 5 / 4 + 15 + 5


@pytest.mark.parametrize("every", [20.0, 100.0])
async def test_a_standby_whose_stream_is_broken_is_replaced_although_the_primary_blinks(every: float) -> None:
    world = await made(replicas=1, standbys=1)
    [standby] = standbys(world)
    world.replica(standby).is_cut_off = True
    began = world.clock.monotonic()
    while standby in world.names(POD) and world.clock.monotonic() - began < 1500:
        await blink(world, every, 1, is_hung=True, step=2)
    assert standby not in world.names(POD)
    assert world.clock.monotonic() - began < 600 * 1.3
    await world.run(60)
    assert world.roles() == ["serving", "standby"]


@pytest.mark.parametrize("standbys", [0, 1])
async def test_one_that_streams_from_the_old_primary_is_reconnected_although_the_new_one_blinks(standbys: int) -> None:
    """The old primary comes back as it was at the fork, and writes nothing."""
    world = await made(replicas=1, standbys=standbys)
    [name] = world.serving()
    old = fail_over(world, [])
    old.lsn, old.is_down = int(world.primary.forks[0][1]), False
    world.replica(name).upstream = old
    [pod] = [item["metadata"]["uid"] for item in world.children(POD) if item["metadata"]["name"] == name]
    began = world.clock.monotonic()
    while name in world.serving() and pod in uids(world) and world.clock.monotonic() - began < 300:
        await blink(world, 7, 1)
    if standbys:
        assert name not in world.serving()
        assert world.clock.monotonic() - began <= 40
    else:
        assert pod not in uids(world)
        assert world.clock.monotonic() - began <= 110, "its last one serves for as long as others might recover"


def uids(world: World) -> set[str]:
    return {item["metadata"]["uid"] for item in world.children(POD)}


async def test_a_copy_that_stands_still_is_given_up_although_the_primary_blinks() -> None:
    world = await made(replicas=1, standbys=0, provisioning={"stallTimeout": "60s"})
    world.members.copies = False
    world.edit_spec(standbys=1)
    await world.run(10)
    [new] = [name for name in world.names(POD) if name not in world.serving()]
    [slot] = [name for name in world.slots() if name.endswith("_1_" + new.rpartition("-")[2])]
    world.primary.backups = [BackupProgress(slot, "streaming database files", 10, 100)]
    began = world.clock.monotonic()
    while new in world.names(POD) and world.clock.monotonic() - began < 300:
        await blink(world, 20, 1)
    assert new not in world.names(POD)
