"""The primary fails over under a running set: who follows, who is rebuilt, what a restarted operator still knows."""

from collections.abc import Collection
from dataclasses import replace

from headroom.adapters.inmemory.postgres import MemoryPostgres
from headroom.adapters.inmemory.postgres_links import MemoryReplica
from headroom.adapters.inmemory.postgres_server import MemoryServer
from headroom.errors import Conflict
from headroom.model.database import ConnectionTarget, ReplicaProbe
from headroom.model.replica import DRAINING_WHY_ANNOTATION, MemberId
from headroom.ports.kube import CLAIM, POD
from headroom.reasons import Reason
from tests.failover import LOST_BYTES, fail_over
from tests.memory_world import INSTALL
from tests.unit.reconcilers.replicaset.world import World


async def made(**spec: object) -> World:
    world = World()
    world.add_set(**spec)
    await world.run(40)
    return world


def names(world: World) -> list[str]:
    return sorted(pod["metadata"]["name"] for pod in world.children(POD))


def uids(world: World, kept: Collection[str]) -> set[str]:
    return {pod["metadata"]["uid"] for pod in world.children(POD) if pod["metadata"]["name"] in kept}


def recreated(world: World) -> list[str]:
    """Members that were given up since they diverged, in that order."""
    events = (event.message for event in world.telemetry.events if event.reason is Reason.TIMELINE_DIVERGED)
    return [message.split()[0] for message in events if "is recreated" in message]


def given_up(world: World) -> set[str]:
    """Members that are marked to go."""
    claims = world.children(CLAIM)
    marked = [claim for claim in claims if "headroom.dev/retire" in claim["metadata"].get("annotations", {})]
    return {claim["metadata"]["name"] for claim in marked}


def answer_as_primary(world: World, server: MemoryServer) -> None:
    """The name leads to this server now, also for the members."""
    server.is_down = False
    world.postgres.servers[server.address] = server
    world.primary = world.members.primary = server
    for name in names(world):
        world.replica(name).upstream = server


async def test_those_before_the_fork_follow_and_those_past_it_are_rebuilt_one_by_one() -> None:
    world = await made(replicas=2, standbys=2)
    serving, standbys = sorted(world.serving()), sorted(set(names(world)) - set(world.serving()))
    past = {serving[0], standbys[0]}
    kept = {serving[1], standbys[1]}
    before = uids(world, kept)
    fail_over(world, past)
    await world.run(3)
    assert not past & set(world.serving()), "the diverged one serves"
    for _ in range(200):
        await world.run(0.3)
        assert len(given_up(world)) <= 1
    assert sorted(recreated(world)) == sorted(past)
    assert uids(world, kept) == before, "one that could follow was rebuilt"
    assert world.roles() == ["serving", "serving", "standby", "standby"]
    assert {world.replica(name).timeline for name in names(world)} == {2}
    assert world.condition("Ready")["status"] == "True"
    assert world.condition("ReadsMayBeStale")["status"] == "False"
    assert Reason.TIMELINE_DIVERGED in world.telemetry.reasons("store")
    assert world.primary.questions["history"] == 1


async def test_when_all_are_past_the_fork_all_leave_at_once_and_one_is_given_up_at_a_time() -> None:
    world = await made(replicas=2, standbys=1)
    before, began = set(names(world)), world.clock.monotonic()
    fail_over(world, before)
    while world.clock.monotonic() < began + 60:
        pause = await world.one_pass()
        assert len(given_up(world)) <= 1
        assert len(before & set(names(world))) >= len(before) - len(recreated(world)), "one went without being given up"
        assert len(recreated(world)) <= 1 + len(set(names(world)) - before), "the next before another has the place"
        if world.clock.monotonic() > began + 3:
            assert not before & set(world.serving())
        await world.pass_time(pause.total_seconds() if pause is not None else 0.1)
    assert sorted(recreated(world)) == sorted(before)
    assert world.roles() == ["serving", "serving", "standby"]
    assert not before & set(names(world))
    assert world.condition("Ready")["status"] == "True"


async def test_slots_come_first_on_the_new_primary() -> None:
    """Also while those who must leave the Service cannot be labelled: the new primary recycles WAL meanwhile."""
    world = await made(replicas=1, standbys=1)
    [serving] = world.serving()
    [standby] = set(names(world)) - {serving}
    member = MemberId.parse_object("store", standby)
    assert member is not None
    fail_over(world, [serving])
    assert world.slots() == []
    world.kube.faults.fail(Conflict("it has changed"), verb="patch", kind=POD, times=1000)
    await world.run(4)
    assert world.serving() == [serving]
    assert member.slot_name(INSTALL, world.body["metadata"]["uid"]) in world.slots()


async def test_slots_that_the_manager_drops_on_promotion_come_back() -> None:
    world = await made(replicas=1, standbys=1)
    pods, wanted = uids(world, names(world)), set(world.slots())
    fail_over(world, ())
    for _ in range(5):
        world.primary.slots.clear()
        await world.run(2.5)
        assert set(world.slots()) == wanted
    await world.run(20)
    assert uids(world, names(world)) == pods


async def test_the_old_primary_that_comes_back_is_not_believed_also_by_a_new_process() -> None:
    world = await made(replicas=1, standbys=1)
    pods = uids(world, names(world))
    old = fail_over(world, ())
    await world.run(20)
    assert world.status["timeline"] == 2
    answer_as_primary(world, old)
    old.starts += 10
    for _ in range(2):
        await world.run(60)
        assert uids(world, names(world)) == pods
        assert world.serving()
        assert not given_up(world)
        assert not [name for name in old.slots if name not in world.slots()]
        assert world.condition("Ready")["reason"] == Reason.PRIMARY_STALE
        assert world.condition("ReadsMayBeStale")["status"] == "True"
        world.restart()
    assert world.status["timeline"] == 2


async def test_nobody_is_given_up_before_the_status_names_the_timeline() -> None:
    """Else a process that ends then leaves one that could believe the old primary."""
    world = await made(replicas=1, standbys=1)
    fail_over(world, names(world))
    while not given_up(world):
        written = world.status["timeline"]
        await world.one_pass()
        assert not given_up(world) or written == 2
        await world.pass_time(0.05)


async def test_a_member_that_still_streams_from_the_old_primary_is_connected_to_the_new_one() -> None:
    world = await made(replicas=1, standbys=1)
    claims = {claim["metadata"]["uid"] for claim in world.children(CLAIM)}
    old = fail_over(world, ())
    old.is_down, old.lsn = False, world.primary.forks[0][1]  # it writes no more, as one that is fenced
    [standby] = set(names(world)) - set(world.serving())
    world.replica(standby).upstream = old
    [pod] = uids(world, [standby])
    await world.run(8)
    assert uids(world, [standby]) == {pod}
    for _ in range(40):
        await world.run(0.5)
        if uids(world, [standby]) not in ({pod}, set()):
            world.replica(standby).upstream = world.primary
    assert uids(world, [standby]) != {pod}
    assert {claim["metadata"]["uid"] for claim in world.children(CLAIM)} == claims
    assert world.roles() == ["serving", "standby"]
    assert DRAINING_WHY_ANNOTATION not in str(world.children(POD))


async def test_without_a_history_nobody_is_condemned() -> None:
    world = await made(replicas=1, standbys=1)
    pods = uids(world, names(world))
    fail_over(world, names(world))
    world.primary.forks.clear()
    await world.run(50)
    assert uids(world, names(world)) == pods
    assert world.serving()


async def test_after_a_crash_in_the_middle_of_a_record_all_follow_and_nobody_is_rebuilt() -> None:
    world = await made(replicas=2, standbys=1)
    pods, serving = uids(world, names(world)), set(world.serving())
    fail_over(world, names(world), torn_bytes=LOST_BYTES)
    for name in names(world):
        world.replica(name).is_cut_off = True
    await world.run(5)
    assert set(world.serving()) == serving
    for name in names(world):
        world.replica(name).is_cut_off = False
    for _ in range(60):
        await world.run(0.5)
        assert set(world.serving()) == serving
    assert uids(world, names(world)) == pods
    assert not recreated(world)
    assert world.condition("Ready")["status"] == "True"
    assert {world.replica(name).timeline for name in names(world)} == {2}


class BlindReplica(MemoryReplica):
    """Its login may not run pg_ls_waldir()."""

    async def probe(self) -> ReplicaProbe:
        return replace(await super().probe(), wal_timeline=None)


class BlindPostgres(MemoryPostgres):
    """PostgreSQL for a monitor login that may not run pg_ls_waldir()."""

    async def open_replica(self, target: ConnectionTarget) -> MemoryReplica:
        return BlindReplica((await super().open_replica(target)).session)


class BlindWorld(World):
    postgres_class = BlindPostgres


async def test_a_new_process_rebuilds_those_whose_timeline_only_the_status_knows() -> None:
    world = BlindWorld()
    world.add_set(replicas=2, standbys=1)
    await world.run(40)
    before = set(names(world))
    fail_over(world, before)
    world.restart()
    await world.run(30)
    messages = [condition["message"] for entry in world.status["members"] for condition in entry["conditions"]]
    assert any("pg_ls_waldir" in message for message in messages)
    assert {entry["timeline"] for entry in world.status["members"] if entry["name"] in before} == {1}
    for _ in range(100):
        assert len(given_up(world)) <= 1
        await world.run(3)
    assert not before & set(names(world))
    assert world.roles() == ["serving", "serving", "standby"]
    assert world.condition("Ready")["status"] == "True"


async def test_those_that_had_followed_are_kept_through_a_restart_while_their_stream_is_down() -> None:
    world = BlindWorld()
    world.add_set(replicas=2, standbys=1)
    await world.run(40)
    fail_over(world, ())
    await world.run(30)
    pods = uids(world, names(world))
    assert {entry["timeline"] for entry in world.status["members"]} == {2}
    for name in names(world):
        world.replica(name).is_cut_off = True
    await world.run(5)
    world.restart()
    await world.run(150)
    assert uids(world, names(world)) == pods
    assert not recreated(world)


async def test_a_member_that_hangs_at_the_failover_does_not_stop_a_scale_in_for_ever() -> None:
    world = await made(replicas=2, standbys=1)
    [standby] = set(names(world)) - set(world.serving())
    fail_over(world, ())
    world.replica(standby).is_hung = True
    await world.run(30)
    world.edit_spec(replicas=1)
    await world.run(10)
    limited = world.condition("ScalingLimited")
    assert limited["status"] == "True"
    assert f"2 serve, 1 wanted: held until the failover is over: {standby}" in limited["message"]
    assert len(world.serving()) == 2
    await world.run(120)
    assert len(world.serving()) == 1
    assert world.condition("ScalingLimited")["status"] == "False"
