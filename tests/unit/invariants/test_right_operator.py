"""The operator itself, in memory, under the eyes of the checker: what goes wrong around it accuses it of nothing."""

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial

import pytest

from headroom.ports.kube import CLAIM
from tests.unit.crashes.enumerator import WatchedWorld
from tests.unit.crashes.lives import with_set
from tests.unit.world import SET

pytestmark = pytest.mark.looptime(start=0)
TAKEOVER_SECONDS = 12.0
Play = Callable[[WatchedWorld], Awaitable[None]]


async def stand_still(world: WatchedWorld) -> None:
    world.replica(world.serving()[0]).is_paused = True


async def all_stand_still(world: WatchedWorld) -> None:
    for name in world.names(CLAIM):
        world.replica(name).is_paused = True


async def streams_break(world: WatchedWorld) -> None:
    for name in world.serving():
        world.replica(name).is_cut_off = True


async def streams_break_while_the_primary_blinks(world: WatchedWorld) -> None:
    await streams_break(world)
    for _ in range(8):
        await asyncio.sleep(7.0)
        world.primary.is_down = True
        await asyncio.sleep(1.0)
        world.primary.is_down = False


async def stand_still_in_mode(world: WatchedWorld, mode: str) -> None:
    world.edit_spec(SET, mode=mode)
    await asyncio.sleep(5.0)
    await stand_still(world)


async def stand_still_while_nobody_leads(world: WatchedWorld, away: float) -> None:
    world.kill()
    await stand_still(world)
    await asyncio.sleep(away)
    await world.start()


async def lose_primary_for_a_while(world: WatchedWorld) -> None:
    await stand_still(world)
    world.primary.is_down = True
    await asyncio.sleep(40.0)
    world.primary.is_down = False


async def hang(world: WatchedWorld) -> None:
    world.replica(world.serving()[0]).is_hung = True


@pytest.mark.parametrize(
    ("replicas", "standbys", "play"),
    [
        pytest.param(1, 1, stand_still, id="swap"),
        pytest.param(2, 1, all_stand_still, id="panic"),
        pytest.param(2, 0, streams_break, id="no-streams"),
        pytest.param(1, 1, streams_break_while_the_primary_blinks, id="stream-and-blinks"),
        pytest.param(2, 0, streams_break_while_the_primary_blinks, id="no-streams-and-blinks"),
        pytest.param(1, 1, partial(stand_still_in_mode, mode="Paused"), id="paused"),
        pytest.param(2, 1, partial(stand_still_in_mode, mode="DryRun"), id="dry-run"),
        pytest.param(1, 1, partial(stand_still_while_nobody_leads, away=TAKEOVER_SECONDS), id="takeover"),
        pytest.param(1, 0, partial(stand_still_while_nobody_leads, away=60.0), id="long-without-leader"),
        pytest.param(1, 0, lose_primary_for_a_while, id="outage"),
        pytest.param(1, 1, hang, id="hung"),
    ],
)
async def test_a_right_operator_is_accused_of_nothing(replicas: int, standbys: int, play: Play) -> None:
    async with WatchedWorld() as world:
        with_set(replicas, standbys)(world)
        await world.start()
        await world.settle()
        await play(world)
        await asyncio.sleep(60.0)
        assert [violation.describe() for violation in world.checker.violations] == []
