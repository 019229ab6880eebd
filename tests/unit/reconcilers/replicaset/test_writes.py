"""How often the status of a set is written."""

from headroom.model.database import Lsn
from headroom.model.numbers import settle_above
from headroom.policy.replicaset.replay_lag import ReplayLag, measure_replay_lag
from headroom.ports.kube import REPLICA_SET
from headroom.reconcilers.replicaset.status import LAG_FLOOR_SECONDS
from tests.unit.policy.replicaset.make import make_mark, make_probe
from tests.unit.reconcilers.replicaset.world import World


def count_writes(world: World) -> int:
    return sum(verb == "replace_status" and ref.kind == REPLICA_SET for verb, ref in world.kube.writes)


def find_member(world: World, role: str) -> str:
    return next(str(member["name"]) for member in world.status["members"] if member["role"] == role)


async def flap(world: World, member: str, seconds: float = 60.0) -> int:
    """The member answers in every other pass; returns how often the status was written."""
    before, end = count_writes(world), world.clock.monotonic() + seconds
    while world.clock.monotonic() < end:
        world.replica(member).is_down = not world.replica(member).is_down
        await world.run(0.5)
    return count_writes(world) - before


async def test_a_standby_that_flaps_causes_six_writes_a_minute_at_most() -> None:
    world = World()
    world.add_set(replicas=1, standbys=1)
    await world.run(40)
    standby = find_member(world, "Standby")
    assert 3 <= await flap(world, standby) <= 6
    events = len(world.telemetry.events)
    assert 3 <= await flap(world, standby) <= 6
    assert len(world.telemetry.events) - events <= 6
    world.replica(standby).is_down = False
    await world.run(20)
    assert world.condition("WarmPoolReady")["status"] == "True"
    assert world.status["standbys"] == 1


async def test_a_replica_that_misses_every_other_probe_is_no_reason_to_write() -> None:
    world = World()
    world.add_set(replicas=1, standbys=0)
    await world.run(40)
    replica = find_member(world, "Serving")
    assert await flap(world, replica) == 0
    assert world.status["members"][0]["replayLagSeconds"] == world.status["maxReplayLagSeconds"] == 0


async def test_the_numbers_of_a_replica_that_is_silent_go() -> None:
    world = World()
    world.add_set(replicas=1, standbys=0)
    await world.run(40)
    world.replica(find_member(world, "Serving")).is_down = True
    await world.run(30)
    assert "maxReplayLagSeconds" not in world.status
    assert "replayLagSeconds" not in world.status["members"][0]


def test_a_mark_that_is_on_its_way_is_not_shown_as_lag() -> None:
    """Something is always written: at the probe, the mark that was taken just before it is not replayed yet."""
    marks = [make_mark(0.0, 100), make_mark(1.0, 200), make_mark(2.0, 300)]
    probe = make_probe(probed_at=2.01, answered_at=2.02, replay_lsn=Lsn(299))
    lag = measure_replay_lag(marks, probe, 2.03)
    assert isinstance(lag, ReplayLag)
    assert lag.seconds > 1.0, "the age of the mark before"
    assert settle_above(0.0, lag.seconds, LAG_FLOOR_SECONDS) == 0.0


async def test_a_new_role_is_written_at_once_with_the_counts() -> None:
    world = World()
    world.add_set(replicas=1, standbys=1)
    await world.run(40)
    world.edit_spec(replicas=2)
    await world.one_pass()
    await world.one_pass()
    assert world.roles().count("serving") == 2
    assert (world.status["replicas"], world.status["standbys"]) == (2, 0)
    assert world.status["desiredReplicas"] == 2
