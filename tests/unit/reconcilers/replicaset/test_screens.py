"""What somebody on call sees first of a set in trouble: the line of `kubectl get`, then conditions and events."""

from headroom.api.kinds import REPLICA_SET
from tests.unit.api.test_columns import show
from tests.unit.reconcilers.replicaset.world import World


def line_of(world: World) -> dict[str, str]:
    return show(REPLICA_SET, world.body, is_wide=True)


def warnings(world: World) -> list[str]:
    return [event.message for event in world.telemetry.events if event.name == "store" and event.type_ == "Warning"]


async def test_a_calm_set_is_as_expected_and_shows_what_was_done() -> None:
    world = World()
    world.add_set(replicas=2, standbys=1, provisioning={"method": "Auto"})
    await world.run(60)
    line = line_of(world)
    assert (line["READY"], line["REASON"], line["METHOD"]) == ("True", "AsExpected", "BaseBackup")
    assert (line["DESIRED"], line["SERVING"], line["STANDBY"], line["PROVISIONING"]) == ("2", "2", "1", "0")


async def test_too_few_wal_senders_are_in_the_first_screen_with_the_count_that_is_needed() -> None:
    world = World()
    world.add_set(replicas=1, standbys=0)
    await world.run(20)
    world.primary.settings["max_wal_senders"] = "2"
    world.primary.wal_senders_used = 1
    await world.run(70)
    world.edit_spec(replicas=3, standbys=1)
    await world.run(20)
    line, stalled = line_of(world), world.condition("Stalled")
    assert line["SERVING"] == "1"
    assert line["REASON"] == "Stalled:WALSendersExhausted"
    assert stalled["status"] == "True"
    assert "4 replicas need max_wal_senders ≥ 5 while a copy runs, and it is 2" in stalled["message"]
    assert "ALTER SYSTEM SET max_wal_senders = 5, then restart the primary" in stalled["message"]
    assert any(message.startswith("Stalled: ") for message in warnings(world))
    assert world.condition("Ready")["reason"] != "AsExpected"


async def test_a_replica_whose_replay_is_paused_is_named_with_the_command_that_resumes_it() -> None:
    """It is the only one, so it stays in the Service, and that is said."""
    world = World()
    world.add_set(replicas=1, standbys=0)
    await world.run(30)
    [name] = world.serving()
    world.replica(name).is_paused = True
    await world.run(60)
    line, stale = line_of(world), world.condition("ReadsMayBeStale")
    assert stale["status"] == "True"
    assert (line["READY"], line["REASON"]) == ("False", "ServingBelowMinimum")
    assert name in stale["message"]
    assert "SELECT pg_wal_replay_resume()" in stale["message"]
    assert any(message.startswith("ReadsMayBeStale: ") for message in warnings(world))
    world.replica(name).is_paused = False
    await world.run(30)
    assert world.condition("ReadsMayBeStale")["status"] == "False"
    assert line_of(world)["REASON"] == "AsExpected"


async def test_of_two_replicas_the_one_whose_replay_is_paused_leaves_the_service() -> None:
    world = World()
    world.add_set(replicas=2, standbys=0)
    await world.run(40)
    behind = world.serving()[0]
    world.replica(behind).is_paused = True
    await world.run(30)
    assert behind not in world.serving()
    assert world.serving()
    assert line_of(world)["REASON"] != "AsExpected"


async def test_a_set_that_is_being_deleted_or_cannot_be_read_says_so_in_its_line() -> None:
    world = World()
    world.add_set(replicas=1, standbys=0)
    await world.run(20)
    world.edit_spec(image=5)
    await world.run(1)
    assert (line_of(world)["READY"], line_of(world)["REASON"]) == ("False", "InvalidSpec")
    assert (world.condition("Stalled")["status"], world.condition("Stalled")["reason"]) == ("True", "InvalidSpec")
    world.primary.is_down = True
    assert not await world.delete(20, step=2)
    assert (line_of(world)["READY"], line_of(world)["REASON"]) == ("False", "Deleting")
