"""A node is lost together with the operator that leads on it: the next one knows what its members carried."""

import pytest

from headroom.adapters.inmemory.postgres_server import MemorySession
from tests.unit.reconcilers.replicaset.world import World


async def run_two(sessions: int) -> tuple[World, str]:
    """Two that serve, and one of them answers no more just as the operator ends."""
    world = World()
    world.add_set(replicas=2, standbys=0)
    await world.run(60)
    lost, other = world.serving()
    for name in (lost, other):
        world.replica(name).sessions += [MemorySession() for _ in range(sessions)]
    await world.run(15)
    world.replica(lost).is_hung = True
    world.restart()
    return world, lost


@pytest.mark.parametrize("restarts", [0, 1, 2])
async def test_a_lost_member_leaves_soon_after_a_takeover_if_the_others_can_carry_its_load(restarts: int) -> None:
    world, lost = await run_two(sessions=20)
    for _ in range(restarts):
        await world.run(1)
        world.restart()
    await world.run(10)
    assert lost not in world.serving()


async def test_it_stays_if_they_cannot() -> None:
    world, lost = await run_two(sessions=60)
    await world.run(10)
    assert lost in world.serving()
    assert "could not carry the load" in world.condition("ReadsMayBeStale")["message"]
