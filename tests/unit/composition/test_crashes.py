"""The operator dies before any of its writes, all kinds running: the next process reaches the same end, no orphans."""

import asyncio
import itertools
from collections.abc import Callable
from typing import Any

import pytest

from headroom.reasons import Reason
from tests.memory_world import LATE
from tests.unit.world import POOL, SET, World

pytestmark = pytest.mark.looptime(start=0)
LEARN_SECONDS = 30.0
CALM = {"lag_seconds": 0.0, "backlog": 0, "late": 0}
Change = Callable[[World], object]


async def disturb(world: World, nth: int, change: Change, wanted: dict[str, Any]) -> bool:
    """Make a change, and end the process before its `nth` write from then on; True unless it had no such write.

    Write n + 1 is the one after write n: with every number, each write is the last one of a process and the first one
    that another has to make up for.
    """
    fence = world.process.fence
    fence.nth = fence.seen + nth
    change(world)
    await world.until(lambda: world.summary() == wanted)
    await world.settle()
    if was_killed := fence.is_shut:
        await world.start()
        await world.until(lambda: world.summary() == wanted)
        await world.settle()
    fence.nth = None
    assert world.summary() == wanted, f"killed at write {nth}"
    return was_killed


async def learn(world: World, change: Change) -> dict[str, Any]:
    """What a change leads to when nothing goes wrong."""
    change(world)
    await asyncio.sleep(LEARN_SECONDS)
    return world.summary()


async def repeat(world: World, there: Change, back: Change) -> int:
    """There and back, killed at each write in turn, until neither way has so many; returns how many there were."""
    wanted_there, wanted_back = await learn(world, there), await learn(world, back)
    for nth in itertools.count(1):
        was_killed = await disturb(world, nth, there, wanted_there)
        check_no_orphan(world)
        was_killed |= await disturb(world, nth, back, wanted_back)
        check_no_orphan(world)
        if not was_killed:
            return nth - 1
    raise AssertionError


def check_no_orphan(world: World) -> None:
    if SET in world.kube.store.entries:
        world.check_no_orphan(SET)


async def test_a_set_that_comes_and_goes() -> None:
    async with World() as world:
        world.add_guard()
        world.add_pool()
        await world.start()
        await world.settle()
        bare = world.summary()
        writes = await repeat(world, World.add_set, lambda world: world.cluster.delete(SET))
        assert world.summary() == bare
        assert writes > 20
        assert not world.primary.slots


async def test_a_set_that_is_scaled_out_and_in() -> None:
    async with World() as world:
        world.add_guard()
        world.add_pool()
        world.add_set(replicas=1, standbys=1)
        await world.start()
        await world.settle()
        writes = await repeat(
            world, lambda world: world.edit_spec(SET, replicas=2), lambda world: world.edit_spec(SET, replicas=1)
        )
        assert world.roles() == ["serving", "standby"]
        assert writes > 10


async def test_a_pool_that_is_scaled_out_and_in() -> None:
    """Its own count is no foreign one to the next process, whether or not it knew of its last write."""
    async with World() as world:
        world.add_guard()
        world.add_set()
        quick = {"scaleDown": {"stabilizationWindow": "5s", "maxStepPercent": 100}}
        world.add_pool(replicas=1, maxWorkers=12, behavior=quick)
        await world.start()
        await world.settle()
        writes = await repeat(world, lambda world: world.queue(**LATE), lambda world: world.queue(**CALM))
        assert world.asked_for() == 1
        assert Reason.TARGET_CONFLICT not in world.telemetry.reasons(POOL.name)
        assert writes > 5
