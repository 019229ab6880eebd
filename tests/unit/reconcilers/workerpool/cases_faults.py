"""Bad input and faults around a pool, each played until it says so: the second half of the table of words."""

from headroom.errors import Conflict
from headroom.ports.kube import POD, ObjectRef
from tests.manifests import NAMESPACE, make_pool
from tests.memory_world import LATE
from tests.unit.reconcilers.workerpool.test_bad_input import MOST, BoundedWorld, hang
from tests.unit.reconcilers.workerpool.test_clocks import RUSH, ApartWorld
from tests.unit.reconcilers.workerpool.test_disorder import make_world
from tests.unit.reconcilers.workerpool.test_effectiveness import RaceWorld
from tests.unit.reconcilers.workerpool.world import POOL, TARGET, PoolWorld

CRASH = {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 40s restarting failed container"}}


async def a_race_that_more_workers_only_lengthen() -> PoolWorld:
    world = RaceWorld()
    await world.freeze()
    await world.advance(30, rate=20, service_rate=2.0)
    return world


async def a_minimum_that_needs_more_connections_than_there_are() -> PoolWorld:
    world = PoolWorld({"connectionsPerWorker": 4, "minWorkers": 5, "maxWorkers": 20})
    world.set_budget(12)
    world.queue(**LATE)
    await world.advance(60)
    return world


async def a_pod_that_loses_its_readiness_for_a_moment() -> PoolWorld:
    world = PoolWorld(replicas=4)
    await world.advance(60, rate=3)
    pod = ObjectRef(POD, NAMESPACE, world.names(POD)[0])
    ready = {"type": "Ready", "status": "False", "lastTransitionTime": "2026-01-01T00:01:00Z"}
    world.cluster.set_status(pod, {"phase": "Running", "conditions": [ready]})
    world.cluster.set_status(TARGET, {"readyReplicas": 3})
    await world.advance(10, rate=3)
    return world


async def workers_that_never_become_ready() -> PoolWorld:
    world = BoundedWorld()
    await world.advance(10)
    world.deployments.start_seconds = 1e6
    world.queue(**LATE)
    await world.advance(60)
    return world


async def workers_that_crash_after_each_job() -> PoolWorld:
    world = BoundedWorld()
    await world.advance(10)
    world.queue(**LATE)
    for _ in range(6):
        for name in world.names(POD):
            status = {"containerStatuses": [{"restartCount": 3, "state": CRASH}], "conditions": []}
            world.cluster.set_status(ObjectRef(POD, NAMESPACE, name), status)
        world.cluster.set_status(TARGET, {"readyReplicas": 0})
        await world.advance(5)
    return world


async def workers_that_hang() -> PoolWorld:
    world = BoundedWorld()
    await world.advance(60, rate=2)
    await hang(world, 200)
    return world


async def a_table_that_grows_faster_than_a_sample_counts() -> PoolWorld:
    world = BoundedWorld()
    await world.advance(10)
    for second in range(60):
        rows = 10_000 * second
        late = min(max(0, rows - 300_000), 50_001)
        world.queue(ended=(world.probes.numbers.ended or 0) + world.running())
        counts = {"backlog": min(rows, 50_001), "late": late, "is_truncated": rows > 50_000, "arrived": rows}
        world.queue(lag_seconds=float(second), in_flight=world.running(), **counts)
        await world.advance(1)
    return world


async def answers_out_of_order() -> PoolWorld:
    world, probes = make_world()
    await world.advance(20, rate=1)
    probes.behind = 3
    world.queue(**LATE)
    await world.advance(30)
    return world


async def a_database_whose_clock_is_an_hour_ahead() -> PoolWorld:
    world = ApartWorld(1)
    await world.run_for(20, 1)
    world.table.insert(3 * RUSH)
    await world.run_for(45, 0)
    return world


async def a_writer_whose_clock_is_an_hour_ahead() -> PoolWorld:
    world = ApartWorld(0, writer_hours=1)
    await world.run_for(20, 1)
    world.table.insert(RUSH)
    await world.run_for(20, 1)
    return world


async def a_rolling_update_in_a_step() -> PoolWorld:
    world = BoundedWorld()
    await world.advance(10)
    world.queue(**LATE)
    await world.advance(2)
    world.cluster.edit(TARGET, lambda item: item["spec"].update(template={"metadata": {"labels": {"version": "2"}}}))
    world.cluster.set_status(TARGET, {"replicas": world.asked_for() + 1, "updatedReplicas": 1})
    world.cluster.remove(ObjectRef(POD, NAMESPACE, world.names(POD)[0]))
    await world.advance(1)
    return world


async def a_conflict_on_every_second_write() -> PoolWorld:
    world = BoundedWorld()
    await world.advance(10)
    for nth in range(1, 100, 2):
        world.kube.faults.fail(Conflict("changed since it was read (HTTP 409)"), verb="set_scale", nth=nth)
    world.queue(**LATE)
    await world.advance(30)
    return world


async def a_pool_that_was_made_again() -> PoolWorld:
    world = BoundedWorld(replicas=6)
    await world.advance(30, rate=5)
    assert await world.reconciler.teardown(world.pool()) is None
    world.cluster.remove(POOL)
    world.cluster.seed(make_pool(POOL.name, TARGET.name, maxWorkers=MOST))
    await world.advance(30, rate=5)
    return world


async def a_target_that_was_renamed() -> PoolWorld:
    world = BoundedWorld(replicas=3)
    await world.advance(20, rate=2)
    world.cluster.remove(TARGET)
    world.queue(**LATE)
    await world.advance(20)
    return world


CASES = (
    a_race_that_more_workers_only_lengthen,
    a_minimum_that_needs_more_connections_than_there_are,
    a_pod_that_loses_its_readiness_for_a_moment,
    workers_that_never_become_ready,
    workers_that_crash_after_each_job,
    workers_that_hang,
    a_table_that_grows_faster_than_a_sample_counts,
    answers_out_of_order,
    a_database_whose_clock_is_an_hour_ahead,
    a_writer_whose_clock_is_an_hour_ahead,
    a_rolling_update_in_a_step,
    a_conflict_on_every_second_write,
    a_pool_that_was_made_again,
    a_target_that_was_renamed,
)
