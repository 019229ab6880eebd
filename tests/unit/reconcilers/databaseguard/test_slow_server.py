"""Two guards of one slow server, as one process runs them: an observation serves all for as long as one may take."""

import asyncio

import pytest

from headroom.adapters.inmemory.postgres_primary import MemoryPrimary
from headroom.adapters.inmemory.postgres_server import MemoryRole
from headroom.model.database import ConnectionCounts
from tests.unit.world import World

pytestmark = pytest.mark.looptime(start=0)


def add_two(world: World) -> None:
    """Two guards the second one with a login of its own."""
    world.primary.roles["auditor"] = MemoryRole("a")
    world.set_secret("other-monitor", username="auditor", password="a")
    world.add_guard("store")
    world.add_guard("other", connection={"credentialsSecretRef": {"name": "other-monitor"}})


async def follow(world: World, seconds: float) -> list[tuple[bool, str, bool, str]]:
    """Readiness and state of both guards, each time one of them changes."""
    seen: list[tuple[bool, str, bool, str]] = []
    for _ in range(int(seconds * 10)):
        one, other = world.view("store"), world.view("other")
        found = one.is_ready, one.state, other.is_ready, other.state
        if found not in seen[-1:]:
            seen.append(found)
        await asyncio.sleep(0.1)
    return seen


async def test_slow_observations_of_one_guard_leave_the_other_ready(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each takes 5.2 s of its deadline of 6 s, and the next one begins a second later."""
    count = MemoryPrimary.connections

    async def count_slowly(link: MemoryPrimary) -> ConnectionCounts:
        await asyncio.sleep(5.2)
        return await count(link)

    async with World() as world:
        add_two(world)
        await world.start()
        await asyncio.sleep(30)
        monkeypatch.setattr(MemoryPrimary, "connections", count_slowly)
        before = world.process.postgres.take_overs
        seen = await follow(world, 60)
        assert seen == [(True, "Healthy", True, "Healthy")]
        assert world.process.postgres.take_overs == before
