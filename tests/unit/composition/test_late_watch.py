"""The watches are two seconds behind: nothing is done twice, and nothing is removed on outdated information."""

import asyncio
from collections import Counter

import pytest

from headroom.ports.kube import CLAIM, POD, ObjectRef
from headroom.reasons import Reason
from tests.manifests import NAMESPACE
from tests.memory_world import LATE
from tests.unit.composition.scenes import at_work
from tests.unit.world import POOL, SET, World

pytestmark = pytest.mark.looptime(start=0)
BEHIND_SECONDS = 2.0


def deletions(world: World) -> list[str]:
    return [str(ref) for verb, ref in world.process.client.writes if verb == "delete"]


async def test_a_set_is_made_and_scaled_and_nothing_is_created_twice() -> None:
    async with World() as world:
        world.add_guard()
        await world.start()
        world.process.watch.delay_seconds = BEHIND_SECONDS
        world.add_set(replicas=1, standbys=1)
        most: Counter[str] = Counter()
        for replicas in (1, 2, 3):
            world.edit_spec(SET, replicas=replicas)
            for _ in range(60):
                await asyncio.sleep(0.5)
                for kind in (CLAIM, POD):
                    most[kind.name] = max(most[kind.name], len(world.children(kind)))
                most["slots"] = max(most["slots"], len(world.slots()))
            assert world.roles() == [*["serving"] * replicas, "standby"]
            assert max(most.values()) == replicas + 1
        created = Counter(ref for verb, ref in world.process.client.calls if verb == "create")
        assert set(created.values()) == {1}
        assert deletions(world) == []
        world.check_no_orphan(SET)


async def test_a_count_that_was_taken_back_at_once_moves_nobody() -> None:
    """When the watch brings the first edit, the second one has long been made."""
    async with at_work(60, serving=2, standbys=0, replicas=6, minWorkers=6) as world:
        members = world.names(POD)
        world.process.watch.delay_seconds = BEHIND_SECONDS
        world.edit_spec(SET, replicas=1)
        world.edit_spec(POOL, minWorkers=9)
        await asyncio.sleep(BEHIND_SECONDS / 2)
        world.edit_spec(SET, replicas=2)
        world.edit_spec(POOL, minWorkers=6)
        await asyncio.sleep(30)
        assert world.names(POD) == members
        assert world.asked_for() == 6
        assert world.roles() == ["serving", "serving"]
        assert Reason.DRAINING not in world.telemetry.reasons(SET.name)
        assert "set_scale" not in [verb for verb, _ in world.process.client.writes]


async def test_a_pool_that_grows_sees_no_count_of_others_and_never_goes_back() -> None:
    async with at_work(30, maxWorkers=30) as world:
        world.process.watch.delay_seconds = BEHIND_SECONDS
        world.queue(**LATE)
        counts = [world.asked_for()]
        while world.asked_for() < 30:
            await asyncio.sleep(0.25)
            counts.append(world.asked_for())
            assert world.clock.monotonic() < 180
        await asyncio.sleep(10)
        assert counts == sorted(counts)
        assert Reason.TARGET_CONFLICT not in world.telemetry.reasons(POOL.name)
        assert world.condition(POOL, "Ready") == ("True", Reason.AS_EXPECTED)


async def test_what_happened_while_the_watches_were_interrupted_is_found_without_a_second_copy_of_anything() -> None:
    async with at_work(60, serving=1) as world:
        [standby] = set(world.names(POD)) - set(world.serving()) - {"mail-1", "mail-2"}
        world.process.watch.is_interrupted = True
        world.cluster.remove(ObjectRef(POD, NAMESPACE, standby))
        world.cluster.edit(POOL, lambda pool: pool["spec"].update(maxWorkers=50))
        await asyncio.sleep(BEHIND_SECONDS)
        assert len(world.children(CLAIM)) == len(world.slots()) == 2
        world.process.watch.relist()
        await asyncio.sleep(60)
        assert world.roles() == ["serving", "standby"]
        assert world.status(POOL)["observedGeneration"] == world.read(POOL)["metadata"]["generation"]
        assert deletions(world) == []
        world.check_no_orphan(SET)
