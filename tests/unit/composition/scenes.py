"""Where most plays begin: all kinds at work, and nothing left to do."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from tests.unit.world import World


@asynccontextmanager
async def at_work(
    seconds: float, *, serving: int | None = None, standbys: int = 1, **pool: Any
) -> AsyncIterator[World]:
    """A guard and a pool that have been at work for so long, and a set if `serving` says how many replicas serve."""
    async with World() as world:
        world.add_guard()
        if serving is not None:
            world.add_set(replicas=serving, standbys=standbys)
        world.add_pool(**pool)
        await world.start()
        await asyncio.sleep(seconds)
        yield world
