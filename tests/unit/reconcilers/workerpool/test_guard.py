"""A pool and its guard: what the pool asks for, what wakes it, and what it does while the guard cannot see."""

from typing import Any

from headroom.ports.kube import ObjectRef
from headroom.reasons import Reason
from tests.memory_world import LATE
from tests.unit.reconcilers.stepped import GUARD
from tests.unit.reconcilers.workerpool.test_blind import CUSTOM
from tests.unit.reconcilers.workerpool.world import POOL, PoolWorld


def with_own_login(**spec: Any) -> PoolWorld:
    """A pool that can read its queue without its guard."""
    world = PoolWorld(spec={"queue": CUSTOM, "maxWorkers": 40, **spec})
    world.set_secret("jobs-login", username="jobs", password="j")
    return world


async def test_each_pass_tells_the_guard_what_the_pool_holds_and_wants() -> None:
    world = PoolWorld(spec={"connectionsPerWorker": 2, "priority": "Critical"})
    await world.advance(60, rate=1)
    [demand] = world.servers.demands(GUARD)
    assert (demand.uid, demand.rank, demand.connections_per_worker) == (world.uid, 0, 2)
    assert (demand.minimum, demand.running) == (1, 2)
    assert demand.busy <= 2
    world.queue(**LATE, in_flight=2)
    await world.make_pass()
    [late] = world.servers.demands(GUARD)
    assert late.wanted == 20
    assert late.busy == 2


async def test_a_cron_job_asks_the_guard_for_nothing() -> None:
    world = PoolWorld()
    await world.advance(10)
    workers = {"suspendRef": {"apiVersion": "batch/v1", "kind": "CronJob", "name": "cohorts"}}
    world.cluster.edit(POOL, lambda pool: pool["spec"].update(workers=workers))
    await world.advance(10)
    assert world.servers.demands(GUARD) == ()


async def test_another_guard_takes_over_the_demand() -> None:
    world = PoolWorld()
    await world.advance(10)
    world.cluster.edit(POOL, lambda pool: pool["spec"].update(databaseRef={"name": "other"}))
    await world.advance(10)
    assert world.servers.demands(GUARD) == ()
    [demand] = world.servers.demands((GUARD[0], "other"))
    assert demand.uid == world.uid


async def test_news_of_the_guard_wake_the_pool_until_it_refers_to_none() -> None:
    world = with_own_login()
    woken: list[ObjectRef] = []
    world.servers.wake = woken.append
    await world.make_pass()
    await world.clock.advance(1.5)
    assert woken == [POOL], "the guard has allocated"
    world.cluster.edit(POOL, lambda pool: pool["spec"].pop("databaseRef"))
    await world.make_pass()
    world.primary.is_down = True
    await world.clock.advance(3)
    assert woken == [POOL]
    assert world.servers.demands(GUARD) == ()


async def test_after_deletion_the_guard_hears_of_the_pool_no_more() -> None:
    world = PoolWorld()
    await world.advance(10)
    assert world.servers.demands(GUARD)
    woken: list[ObjectRef] = []
    world.servers.wake = woken.append
    await world.reconciler.teardown(world.pool())
    world.primary.is_down = True
    await world.clock.advance(3)
    assert (woken, world.servers.demands(GUARD)) == ([], ())


async def test_while_the_guard_is_blind_the_workers_stay_and_nothing_grows() -> None:
    world = with_own_login()
    await world.advance(30, rate=1)
    before = world.asked_for()
    world.stop_guards()
    await world.advance(12, rate=1)
    world.queue(**LATE, in_flight=before)
    await world.advance(120)
    assert world.asked_for() == before
    assert world.condition("SignalAvailable")[0] == "True", "the queue is read all the while"
    assert world.condition("ScalingLimited") == ("True", Reason.GUARD_NOT_READY)
    assert "no workers are added: dbg/store cannot say" in world.message("ScalingLimited")
    assert world.condition("KeepingUp")[0] == "False"
    world.has_guard_passes = True
    await world.advance(30)
    assert world.asked_for() > before


async def test_a_guard_that_is_gone_lets_nothing_grow_either() -> None:
    world = with_own_login(databaseRef={"name": "nobody"})
    await world.advance(10, rate=1)
    world.queue(**LATE)
    await world.advance(30)
    assert world.asked_for() == 2
    assert world.condition("ScalingLimited") == ("True", Reason.GUARD_NOT_FOUND)


async def test_a_new_pool_grows_as_soon_as_its_guard_has_allocated() -> None:
    world = with_own_login()
    world.lose_guard()
    world.queue(**LATE)
    await world.make_pass()
    assert world.asked_for() == 2
    world.has_guard_passes = True
    await world.make_pass()
    assert world.asked_for() == 6


async def test_a_smaller_allocation_takes_workers_away_in_the_next_pass() -> None:
    world = PoolWorld(replicas=10)
    world.queue(**LATE)
    await world.advance(20)
    assert world.asked_for() > 3
    world.set_budget(10)
    world.occupy_budget(7)
    await world.clock.advance(1)
    await world.make_pass()
    assert world.asked_for() == 3
    wanted = {demand.uid: demand.wanted for demand in world.servers.demands(GUARD)}
    assert wanted[world.uid] == 20, "what the queue asks for is known to the guard all the same"
