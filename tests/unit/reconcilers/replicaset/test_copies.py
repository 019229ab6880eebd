"""From where new members are copied, as a whole set shows it: pods, status, events, metrics."""

from typing import Any

from headroom.model.database import BackupProgress
from headroom.model.replica import COPY_SOURCE_ANNOTATION
from headroom.ports.kube import POD
from headroom.reasons import Reason
from headroom.reconcilers.replicaset import metrics
from tests.unit.reconcilers.replicaset.world import World
from tests.unit.reconcilers.stepped import GUARD_REF

GIB = 1024**3


def sources(world: World) -> dict[str, str]:
    return {
        pod["metadata"]["name"]: pod["metadata"]["annotations"][COPY_SOURCE_ANNOTATION] for pod in world.children(POD)
    }


def entry(world: World, name: str) -> dict[str, Any]:
    return next(member for member in world.status["members"] if member["name"] == name)


async def make_world(**spec: Any) -> World:
    """One that serves and one that stands by, both of which can be copied from over TLS."""
    world = World(makes_certificates=True)
    world.add_set(replicas=1, standbys=1, **spec)
    await world.run(20)
    assert world.roles() == ["serving", "standby"]
    return world


async def add_member(world: World, seconds: float = 5) -> str:
    before = set(sources(world))
    world.edit_spec(standbys=2)
    await world.run(seconds)
    [name] = set(sources(world)) - before
    return name


def standby_of(world: World) -> str:
    [name] = [member["name"] for member in world.status["members"] if member["role"] == "Standby"]
    return str(name)


async def test_the_first_member_is_copied_from_the_primary_and_a_later_one_from_the_standby() -> None:
    world = await make_world()
    assert list(sources(world).values()).count("primary") == 2, "one alone in the Service is left alone"
    standby = standby_of(world)
    name = await add_member(world)
    assert sources(world)[name] == standby
    assert entry(world, name)["source"] == standby
    assert entry(world, name)["sourceWhy"] == "it is a warm standby: the primary is spared"
    told = [event.message for event in world.telemetry.events if event.reason is Reason.SEEDING]
    assert told[-1] == f"{name} is copied from {standby}, since it is a warm standby: the primary is spared"
    await world.run(15)
    assert world.roles() == ["serving", "standby", "standby"]


async def test_copies_are_counted_by_their_source() -> None:
    world = await make_world()
    await add_member(world)
    for source, count in (("primary", 2), ("standby", 1)):
        labels = {"namespace": "shop", "name": "store", "source": source}
        assert world.telemetry.value(metrics.COPIES, **labels) == count


async def test_another_source_changes_no_template_and_a_pod_made_again_copies_nothing() -> None:
    world = await make_world()
    standby = standby_of(world)
    name = await add_member(world, 20)
    templates = {pod["metadata"]["annotations"]["headroom.dev/template"] for pod in world.children(POD)}
    assert len(templates) == 1
    world.edit_spec(postgresql={"parameters": {"work_mem": "32MB"}})
    await world.run(60)
    assert set(sources(world).values()) == {"none"}
    assert entry(world, name)["source"] == standby, "what its data was copied from is still known"


async def test_a_source_that_fails_costs_no_attempt_and_the_next_one_is_tried() -> None:
    world = await make_world()
    world.members.failing = {standby_of(world)}
    name = await add_member(world, 20)
    assert sources(world)[name] == "primary"
    assert world.roles() == ["serving", "standby", "standby"]
    assert "attempts" not in entry(world, name)
    assert not [event for event in world.telemetry.events if event.type_ == "Warning"]


async def test_a_set_that_copies_only_from_standbys_says_that_there_is_none_and_begins_nothing() -> None:
    world = World(makes_certificates=True)
    world.add_set(replicas=1, standbys=1, provisioning={"source": "Standby"})
    await world.run(20)
    assert world.slots() == world.children(POD) == []
    stalled = world.condition("Stalled")
    assert (stalled["status"], stalled["reason"]) == ("True", Reason.NO_COPY_SOURCE)
    assert "set it to Auto" in stalled["message"]
    world.edit_spec(provisioning={"source": "Auto"})
    await world.run(20)
    assert world.roles() == ["serving", "standby"]
    assert world.condition("Stalled")["status"] == "False"


async def test_while_the_primary_is_overloaded_only_a_copy_from_it_waits() -> None:
    world = await make_world()
    world.primary.commit_seconds = 1.5
    await world.run(20)
    assert world.read(GUARD_REF)["status"]["state"] in ("Brownout", "Overloaded", "Emergency")
    await add_member(world, 20)
    assert world.roles() == ["serving", "standby", "standby"]
    for server in world.postgres.servers.values():
        server.is_paused = server.upstream is not None
    await world.run(15)
    world.edit_spec(standbys=3)
    slots = world.slots()
    await world.run(30)
    assert world.slots() == slots, "no slot keeps WAL for a copy that may not begin"
    assert "waits until its guard is Healthy" in world.condition("WarmPoolReady")["message"]


async def test_a_copy_whose_wal_would_not_fit_waits_and_says_what_to_raise() -> None:
    world = World(makes_certificates=True)
    world.primary.data_bytes = 4_000_000 * GIB
    world.add_set(replicas=1, standbys=0)
    await world.run(3)
    await world.run(60)
    world.edit_spec(standbys=1)
    await world.run(20)
    assert len(world.slots()) == 1
    pool = world.condition("WarmPoolReady")
    assert (pool["status"], pool["reason"]) == ("False", Reason.COPY_WOULD_EXCEED_SLOT_WAL)
    assert "raise provisioning.maxSlotWAL" in pool["message"]


async def test_how_far_a_copy_is_comes_from_its_source_which_is_asked_only_then() -> None:
    world = await make_world()
    standby = standby_of(world)
    server = world.replica(standby)
    assert server.questions["backups"] == 0
    world.members.copies = False
    name = await add_member(world)
    slot = entry(world, name)["slot"]
    for second in range(20):
        done = (1 + second) * GIB // 10
        server.backups = [BackupProgress(slot, "streaming database files", done, 4 * GIB)]
        await world.run(1)
    shown = entry(world, name)
    assert shown["totalBytes"] == 4.3e9
    assert 1e9 < shown["copiedBytes"] < 2.2e9
    assert 15 < shown["remainingSeconds"] < 40
    [seeded] = [condition for condition in shown["conditions"] if condition["type"] == "Seeded"]
    assert "streaming database files: " in seeded["message"]
    assert f"from {standby}, since it is a warm standby" in seeded["message"]
    server.backups, world.members.copies = [], True
    await world.run(20)
    asked = server.questions["backups"]
    assert asked > 10
    assert "copiedBytes" not in entry(world, name)
    await world.run(20)
    assert server.questions["backups"] == asked
