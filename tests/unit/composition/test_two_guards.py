"""Two guards of one server, each under a login of its own: one measures, and the other takes over when it goes."""

import asyncio
from typing import Any

import pytest

from headroom.adapters.inmemory.postgres_server import MemoryRole
from headroom.ports.kube import DATABASE_GUARD, ObjectRef
from tests.manifests import NAMESPACE
from tests.unit.world import GUARD, POOL, SET, World

pytestmark = pytest.mark.looptime(start=0)
OTHER = ObjectRef(DATABASE_GUARD, NAMESPACE, "other")


def add_other(world: World, **connection: Any) -> None:
    """The second guard, with a login of its own."""
    world.primary.roles["auditor"] = MemoryRole("a")
    world.set_secret("other-monitor", username="auditor", password="a")
    world.add_guard("other", connection={"credentialsSecretRef": {"name": "other-monitor"}, **connection})


async def test_the_second_guard_adds_one_connection_and_measures_nothing() -> None:
    async with World() as world:
        world.add_guard()
        await world.start()
        await asyncio.sleep(20)
        opened, asked = list(world.process.postgres.opened), world.primary.questions["connections"]
        add_other(world, replicationSecretRef=None)
        await asyncio.sleep(20)
        assert world.condition(OTHER, "Ready") == ("True", "SharedInstance")
        assert world.process.postgres.opened == [*opened, "observer"]
        assert world.process.postgres.take_overs == 1, "one canary and one lock"
        assert world.primary.questions["connections"] - asked < 25, "asked once a second, not by each"


async def test_when_the_guard_that_measures_is_deleted_the_other_goes_on_where_it_was() -> None:
    async with World() as world:
        world.add_guard()
        await world.start()
        await asyncio.sleep(5)
        add_other(world)
        world.add_set(databaseRef={"name": "other"})
        world.add_pool(databaseRef={"name": "other"})
        world.occupy(60)
        await asyncio.sleep(240)
        # The budget follows the hour before: a guard that began anew would find most of these connections free.
        world.occupy(10)
        await asyncio.sleep(20)
        budget, allocations = world.view("other").budget, world.view("other").allocations
        shown = world.status(OTHER)["connections"]["budget"]
        assert budget is not None
        assert budget.budget < 40
        turned, states = world.follow_verdicts(), follow_states(world)
        world.cluster.delete(GUARD)
        await asyncio.sleep(30)
        assert GUARD not in world.kube.store.entries
        assert world.process.postgres.take_overs == 2
        assert world.condition(OTHER, "Ready") == ("True", "Connected")
        assert [entry for entry in turned if entry[0] != f"DatabaseGuard/{GUARD.name}"] == []
        assert states <= {"Healthy"}
        after = world.view("other").budget
        assert after is not None
        assert (after.budget, world.view("other").allocations) == (budget.budget, allocations)
        assert world.status(OTHER)["connections"]["budget"] == shown
        assert world.condition(SET, "Ready")[0] == world.condition(POOL, "Ready")[0] == "True"


def follow_states(world: World) -> set[str]:
    """The states that the second guard shows from now on."""
    states: set[str] = set()

    def listen(_: str, item: dict[str, Any]) -> None:
        if item["metadata"]["name"] == OTHER.name and item["kind"] == DATABASE_GUARD.name:
            states.add(item["status"]["state"])

    world.kube.store.listeners.append(listen)
    return states
