"""Members that clients reach and the operator does not: what becomes of their sessions, and of the pool."""

from typing import Any

from headroom.adapters.inmemory.postgres_server import MemorySession
from headroom.ports.kube import POD
from headroom.reasons import Reason
from tests.unit.reconcilers.replicaset.world import World

GRACE = {"ejectGrace": "10s"}


def uids(world: World) -> dict[str, str]:
    return {pod["metadata"]["name"]: pod["metadata"]["uid"] for pod in world.children(POD)}


def cut(world: World, name: str) -> None:
    """Its stream is gone, and it hears clients alone."""
    server = world.replica(name)
    server.is_cut_off = server.is_hung = True


async def test_sessions_on_an_ejected_member_that_does_not_answer_end_with_its_pod() -> None:
    world = World()
    world.add_set(replicas=2, standbys=1, routing=GRACE)
    await world.run(30)
    name = world.serving()[0]
    server, uid = world.replica(name), uids(world)[name]
    server.sessions = [MemorySession(state="active") for _ in range(20)]
    cut(world, name)
    await world.run(12)
    assert world.roles() == ["draining", "serving", "serving"]
    assert len(server.sessions) == 20, "the grace is not over"
    await world.run(25)
    assert server.sessions == []
    assert uids(world)[name] != uid
    assert "standby" not in world.roles(), "it would be the only one, and nobody could ask it"
    ended = [event.message for event in world.telemetry.events if event.reason == Reason.SESSIONS_TERMINATED]
    cause = f"no answer from {server.host}:5432"
    assert ended == [f"{name} is restarted: its sessions are to end, and it cannot be asked to end them: {cause}"]
    assert world.condition("WarmPoolReady")["reason"] == Reason.MEMBER_UNREACHABLE


async def test_a_new_pod_that_does_not_answer_either_is_given_up_for_another_member() -> None:
    world = World()
    world.add_set(replicas=2, standbys=1, routing=GRACE)
    await world.run(30)
    name = world.serving()[0]
    cut(world, name)
    await world.run(700, step=1)
    assert name not in uids(world)
    await world.run(60)
    assert world.roles() == ["serving", "serving", "standby"]


async def test_a_new_pod_that_answers_goes_back_to_the_pool() -> None:
    world = World()
    world.add_set(replicas=2, standbys=1, routing=GRACE)
    await world.run(30)
    name = world.serving()[0]
    uid = uids(world)[name]
    cut(world, name)
    await world.run(30)
    world.replica(name).is_cut_off = world.replica(name).is_hung = False
    await world.run(30)
    assert uids(world)[name] != uid
    assert world.roles() == ["serving", "serving", "standby"]


async def test_a_standby_that_does_not_answer_gets_a_new_pod_after_a_long_time() -> None:
    world = World()
    world.add_set(replicas=1, standbys=1)
    await world.run(30)
    name = next(name for name in uids(world) if name not in world.serving())
    uid = uids(world)[name]
    world.replica(name).is_hung = True
    await world.run(400, step=2)
    assert uids(world)[name] == uid
    await world.run(250, step=2)
    assert uids(world)[name] != uid


async def test_while_the_primary_is_silent_no_pod_is_stopped() -> None:
    world = World()
    world.add_set(replicas=2, standbys=1, routing=GRACE)
    await world.run(30)
    name = world.serving()[0]
    uid = uids(world)[name]
    cut(world, name)
    await world.run(8)
    assert name not in world.serving()
    world.primary.is_down = True
    await world.run(60)
    assert uids(world)[name] == uid


async def test_an_error_that_nobody_foresaw_ends_no_pass() -> None:
    world = World()
    world.add_set(replicas=2, standbys=0)
    await world.run(30)
    role: Any = ["no name of a role"]
    for name in world.serving():
        world.replica(name).sessions = [MemorySession(role=role, state="active")]
    world.edit_spec(replicas=1, drain={"timeout": "5s"})
    await world.run(8)
    assert world.roles() == ["draining", "serving"]
    for _ in range(6):
        assert await world.one_pass() is not None
        await world.pass_time(1)
    await world.run(10)
    [going] = [pod["metadata"] for pod in world.children(POD) if pod["metadata"]["name"] not in world.serving()]
    assert "deletionTimestamp" in going, "all steps after it are taken too"
