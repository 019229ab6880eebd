"""Workers that terminate: they take no job any more, and their connections remain their pool's until they are gone."""

from headroom.adapters.inmemory.postgres_server import MemorySession
from headroom.model.database import PoolDemand
from headroom.model.moments import FIRST_SIGHT_SECONDS
from headroom.policy.workerpool import PodCounts
from headroom.ports.kube import POD, ObjectRef
from headroom.reconcilers.workerpool.memory import (
    COUNT_EVERY_SECONDS,
    COUNT_TERMINATING_EVERY_SECONDS,
    FIRST_COUNT_WITHIN_SECONDS,
    PodCensus,
    Workload,
)
from tests.unit.reconcilers.stepped import GUARD
from tests.unit.reconcilers.workerpool.world import POOL, PoolWorld

OTHERS = 30


def make_world() -> PoolWorld:
    """24 workers and 30 others on a server that has 60 connections for workers, or fewer."""
    world = PoolWorld({"minWorkers": 24, "maxWorkers": 24}, replicas=24)
    world.set_budget(60)
    world.deployments.grace_seconds = 3000
    return world


async def follow(world: PoolWorld, seconds: int, others: int = OTHERS) -> None:
    """Each pod holds its connection until it is gone."""
    for _ in range(seconds):
        pods = sum(ref.kind == POD for ref in world.kube.store.entries)
        world.primary.sessions = [MemorySession() for _ in range(others + pods)]
        await world.advance(1.0)


def lower(world: PoolWorld, workers: int) -> None:
    world.cluster.edit(POOL, lambda pool: pool["spec"].update(minWorkers=workers, maxWorkers=workers))


def demand_of(world: PoolWorld) -> PoolDemand:
    [demand] = world.servers.demands(GUARD)
    return demand


def terminating(world: PoolWorld) -> list[ObjectRef]:
    entries = world.kube.store.entries.items()
    return [ref for ref, stored in entries if ref.kind == POD and "deletionTimestamp" in stored.manifest["metadata"]]


def lists(world: PoolWorld, mark: int) -> int:
    return sum((verb, ref.kind) == ("list", POD) for verb, ref in world.kube.calls[mark:])


def budget_of(world: PoolWorld) -> int:
    view = world.servers.view(GUARD)
    assert view is not None
    assert view.budget is not None
    return view.budget.budget


async def test_they_are_no_others_for_all_their_grace_period() -> None:
    world = make_world()
    await follow(world, 90)
    before = budget_of(world)
    lower(world, 10)
    await follow(world, 1200)
    assert len(terminating(world)) == 14
    demand = demand_of(world)
    assert (demand.running, demand.ready, demand.terminating) == (10, 10, 14)
    assert budget_of(world) == before
    assert world.asked_for() == 10
    assert world.status()["workers"] == 10


async def test_once_they_are_gone_they_leave_no_trace() -> None:
    world = make_world()
    await follow(world, 90)
    before = budget_of(world)
    lower(world, 10)
    await follow(world, 300)
    for pod in terminating(world):
        world.cluster.finish_deletion(pod)
    await follow(world, 30)
    assert demand_of(world).terminating == 0
    assert budget_of(world) == before
    mark = len(world.kube.calls)
    await follow(world, 60)
    assert lists(world, mark) == 0


async def test_pods_are_counted_every_ten_seconds_while_some_terminate() -> None:
    world = make_world()
    await follow(world, 90)
    lower(world, 10)
    await follow(world, 20)
    mark = len(world.kube.calls)
    await follow(world, 300)
    assert 15 <= lists(world, mark) <= 1 + 300 / COUNT_TERMINATING_EVERY_SECONDS


async def test_a_change_of_leader_takes_no_busy_worker_for_the_sake_of_those_that_terminate() -> None:
    """14 terminate, and six others have come meanwhile: a new process must not take the 14 for others as well."""
    world = PoolWorld({"minWorkers": 1, "maxWorkers": 38}, replicas=38)
    world.deployments.grace_seconds = 3000
    world.queue(late=6000, backlog=6000, in_flight=38, lag_seconds=100.0, job_seconds=5.0)
    world.set_budget(60)
    await follow(world, 60, 20)
    world.cluster.edit(POOL, lambda pool: pool["spec"].update(maxWorkers=24))
    await follow(world, 60, 26)
    assert (world.asked_for(), len(terminating(world))) == (24, 14)
    world.restart()
    for _ in range(90):
        await follow(world, 1, 26)
        assert world.asked_for() == 24
    assert demand_of(world).terminating == 14


async def test_pods_of_a_pool_that_shares_a_server_are_counted_within_seconds() -> None:
    for guard, within in (({"name": "store"}, FIRST_SIGHT_SECONDS), (None, FIRST_COUNT_WITHIN_SECONDS)):
        census, is_sharing = PodCensus(100.0, spread=0.9), guard is not None
        assert not census.is_due(workload(), 99.0 + 0.9 * within, is_late=False, is_sharing=is_sharing)
        assert census.is_due(workload(), 101.0 + 0.9 * within, is_late=False, is_sharing=is_sharing)


def workload(count: int = 24, version: str = "1") -> Workload:
    return Workload("u", count, count, count, (("app", "mailer"),), version)


def make_census(*, terminating: int = 0) -> PodCensus:
    census = PodCensus(0.0)
    census.record(workload(), PodCounts(24, 24, 24, terminating=terminating), 100.0)
    return census


def test_a_workload_that_became_smaller_between_two_passes_is_counted_at_once() -> None:
    census = make_census()
    assert not census.is_due(workload(), 1000.0, is_late=False)
    assert census.is_due(workload(14, "2"), 100.5, is_late=False)


def test_a_pod_that_was_replaced_between_two_passes_is_found() -> None:
    """The numbers are the same again, and the old pod may hold its connection for an hour."""
    census = make_census()
    assert census.is_due(workload(version="2"), 100.0 + COUNT_EVERY_SECONDS, is_late=False)
    assert not census.is_due(workload(version="2"), 99.0 + COUNT_EVERY_SECONDS, is_late=False)


def test_pods_that_terminate_are_counted_until_they_are_gone() -> None:
    census = make_census(terminating=3)
    assert census.is_due(workload(), 100.0 + COUNT_TERMINATING_EVERY_SECONDS, is_late=False)
    assert not census.is_due(workload(), 99.0 + COUNT_TERMINATING_EVERY_SECONDS, is_late=False)
