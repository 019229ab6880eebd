"""Objects that are gone although nobody saw them go: nothing of them is left in the process."""

import asyncio
from collections.abc import Iterable

import pytest

from headroom.adapters.inmemory.kube_faults import Latency
from headroom.ports.kube import DATABASE_GUARD, DEPLOYMENT, REPLICA_SET, SECRET, WORKER_POOL, Kind, ObjectRef
from headroom.ports.telemetry import Metric
from headroom.reconcilers.databaseguard import metrics as of_guards
from headroom.reconcilers.loop import PASSES
from headroom.reconcilers.replicaset import metrics as of_sets
from headroom.reconcilers.workerpool import metrics as of_pools
from tests.manifests import NAMESPACE
from tests.unit.composition.scenes import at_work
from tests.unit.world import GUARD, POOL, SET, World

pytestmark = pytest.mark.looptime(start=0)
OTHER = ObjectRef(DATABASE_GUARD, NAMESPACE, "other")
METRICS = {DATABASE_GUARD: of_guards.ALL, REPLICA_SET: of_sets.ALL, WORKER_POOL: of_pools.ALL}


async def add_and_remove_other(world: World) -> None:
    """A second guard comes, and goes while it waits for its Secret."""
    world.process.client.faults.latency = lambda _, ref: Latency(request=5.0 if ref.kind == SECRET else 0.0)
    world.add_guard("other", connections={"workerSharePercent": 5, "reserve": 5})
    await asyncio.sleep(3)
    world.cluster.remove(OTHER)


async def test_a_guard_that_is_removed_while_it_connects_leaves_nothing_behind() -> None:
    async with World() as world:
        world.add_guard()
        await world.start()
        await asyncio.sleep(10)
        budget = world.view().budget
        take_overs = world.process.postgres.take_overs
        await add_and_remove_other(world)
        await asyncio.sleep(20)
        world.cluster.remove(GUARD)
        opened = len(world.process.postgres.opened)
        await asyncio.sleep(20)
        assert budget is not None
        assert world.process.servers.view((NAMESPACE, "other")) is None
        assert world.process.servers.links((NAMESPACE, "other")) is None
        assert world.process.postgres.take_overs == take_overs, "no canary was started over its link"
        asked = world.primary.questions.total()
        await asyncio.sleep(20)
        assert world.primary.questions.total() == asked
        assert len(world.process.postgres.opened) == opened


async def test_the_other_guard_of_a_server_does_not_obey_one_that_is_gone() -> None:
    async with World() as world:
        world.add_guard()
        await world.start()
        await asyncio.sleep(10)
        before = world.view().budget
        await add_and_remove_other(world)
        await asyncio.sleep(30)
        assert world.view().budget == before
        assert world.condition(GUARD, "Ready") == ("True", "Connected")


async def recreate_in_a_gap(world: World, ref: ObjectRef) -> None:
    """Delete and create while the watch is interrupted: it names the new object, and no event ends the old one.

    Returns once the new one is at work.
    """
    old = world.read(ref)
    world.process.watch.is_interrupted = True
    world.cluster.remove(ref)
    world.seed({**old, "metadata": {"name": ref.name, "namespace": ref.namespace}})
    world.process.watch.relist()
    await asyncio.sleep(20)


def count_passes(world: World, kind: Kind) -> int:
    """Passes over all objects of a kind, whatever their outcome."""
    found = world.telemetry.observations.items()
    return sum(
        len(seconds)
        for (name, labels), seconds in found
        if (name, dict(labels).get("kind")) == (PASSES.name, kind.name)
    )


@pytest.mark.parametrize(("ref", "a_minute"), [(GUARD, 66), (POOL, 14)])
async def test_an_object_that_was_created_again_in_a_gap_of_the_watch_has_one_loop(
    ref: ObjectRef, a_minute: int
) -> None:
    async with at_work(20) as world:
        await recreate_in_a_gap(world, ref)
        assert world.condition(ref, "Ready")[0] == "True"
        before = count_passes(world, ref.kind)
        await asyncio.sleep(60)
        assert count_passes(world, ref.kind) - before <= a_minute


async def test_a_pool_that_was_created_again_in_a_gap_still_hears_of_its_target() -> None:
    async with at_work(20) as world:
        await recreate_in_a_gap(world, POOL)
        target = ObjectRef(DEPLOYMENT, NAMESPACE, POOL.name)
        asked = len(world.probes.questions)
        world.cluster.edit(target, lambda item: item["spec"].update(replicas=9), manager="kubectl-scale")
        await asyncio.sleep(0.05)
        assert len(world.probes.questions) == asked + 1


@pytest.mark.parametrize("gone", [POOL, SET, GUARD])
async def test_the_end_of_an_object_keeps_the_metrics_of_other_kinds_of_its_name(gone: ObjectRef) -> None:
    async with at_work(40, serving=1, standbys=0, name=GUARD.name) as world:
        ref = ObjectRef(gone.kind, NAMESPACE, GUARD.name)
        before = {kind: count_observations(world, metrics) for kind, metrics in METRICS.items()}
        assert all(before.values())
        world.cluster.remove(ref)
        await asyncio.sleep(0.1)
        after = {kind: count_observations(world, metrics) for kind, metrics in METRICS.items()}
        assert not after.pop(gone.kind)
        assert all(before[kind] <= count for kind, count in after.items())


def count_observations(world: World, metrics: Iterable[Metric]) -> int:
    """What histograms have of these metrics; a gauge would be back with the next pass."""
    names = {metric.name for metric in metrics}
    return sum(len(seconds) for (name, _), seconds in world.telemetry.observations.items() if name in names)
