"""Pools of one namespace share a budget, whichever guard they refer to; those of other namespaces are others."""

from headroom.adapters.inmemory.postgres_server import MemorySession
from headroom.ports.kube import WORKER_POOL, ObjectRef
from headroom.reconcilers.databaseguard import metrics
from tests.manifests import NAMESPACE
from tests.unit.policy.databaseguard.make import make_demand
from tests.unit.reconcilers.databaseguard.neighbours import BOTH, FIRST, OTHER, SECOND, WAITERS, add_foreign, add_second
from tests.unit.reconcilers.databaseguard.world import GuardWorld, ref


async def test_pools_of_both_guards_share_one_budget(world: GuardWorld) -> None:
    add_second(world)
    one = make_demand("a", 0, 1, minimum=1, running=40, busy=40, wanted=80)
    other = make_demand("b", 1, 1, minimum=2, running=10, busy=0, wanted=80)
    world.primary.sessions = [MemorySession() for _ in range(50)]
    world.servers.post_demand(ObjectRef(WORKER_POOL, NAMESPACE, "mail"), FIRST, one)
    world.servers.post_demand(ObjectRef(WORKER_POOL, NAMESPACE, "mail"), SECOND, other)
    await world.run_all(30, *BOTH)
    assert world.view.budget == world.view_of("second").budget
    assert world.view.allocations == world.view_of("second").allocations
    workers = {uid: part.workers for uid, part in world.view.allocations.items()}
    assert workers == {"a": 45, "b": 2}, "b still holds eight more"
    assert world.telemetry.value(metrics.CONNECTIONS, what="budget", namespace=NAMESPACE, name="second") == 55


async def test_a_guard_of_another_namespace_takes_no_connection_from_our_pools(world: GuardWorld) -> None:
    add_foreign(world)
    spec = {"connections": {"workerSharePercent": 1, "reserve": 90}, "thresholds": WAITERS}
    world.cluster.edit(ref("theirs", "other"), lambda guard: guard["spec"].update(spec))
    theirs = make_demand("theirs", 0, 1, minimum=1, running=9, busy=9, wanted=9)
    world.servers.post_demand(ObjectRef(WORKER_POOL, "other", "mail"), OTHER, theirs)
    world.primary.sessions = [MemorySession() for _ in range(20)]
    await world.run_all(30, FIRST, OTHER)
    assert world.ready == ("True", "SharedInstance")
    assert world.status["connections"] == {"used": 20, "usable": 92, "budget": 55}
    assert world.view.allocations == {}
    assert world.status_of("theirs", "other")["connections"]["budget"] == 0
    world.primary.lock_waiters = 4
    await world.run_all(20, FIRST, OTHER)
    assert world.status["state"] == "Healthy"
    assert world.status_of("theirs", "other")["state"] == "Emergency", "it has used all that it left itself"


async def test_pools_of_another_namespace_hold_what_others_hold(world: GuardWorld) -> None:
    add_foreign(world)
    theirs = make_demand("theirs", 0, 1, minimum=1, running=60, busy=60, wanted=60)
    world.servers.post_demand(ObjectRef(WORKER_POOL, "other", "mail"), OTHER, theirs)
    world.primary.sessions = [MemorySession() for _ in range(60)]
    await world.run_all(30, FIRST, OTHER)
    assert world.status["connections"]["budget"] == 32
    assert world.status_of("theirs", "other")["connections"]["budget"] == 55


def post_demands(world: GuardWorld) -> None:
    """A pool of each guard, and thirty connections of others."""
    for uid, guard in (("a", FIRST), ("b", SECOND)):
        demand = make_demand(uid, 1, 1, minimum=25, running=25, busy=25, wanted=25, guard=guard[1])
        world.servers.post_demand(ObjectRef(WORKER_POOL, NAMESPACE, uid), guard, demand)
    world.primary.sessions = [MemorySession() for _ in range(80)]


def granted(world: GuardWorld, name: str) -> dict[str, int]:
    return {uid: part.workers for uid, part in world.view_of(name).allocations.items()}


async def test_pools_of_a_guard_that_cannot_log_in_remain_ours(world: GuardWorld) -> None:
    add_second(world, connections={"workerSharePercent": 58})
    post_demands(world)
    await world.run_all(30, *BOTH)
    before = world.status_of("store")["connections"]["budget"]
    world.set_secret("second-monitor", username="second_monitor", password="wrong")
    await world.run_all(200, *BOTH)
    assert world.ready_of("second") == ("False", "PasswordRejected")
    assert world.ready_of("store") == ("True", "Connected")
    assert world.status_of("store")["connections"]["budget"] == before == 53
    world.set_secret("second-monitor", username="second_monitor", password="second-password")
    await world.run_all(70, *BOTH)
    assert granted(world, "store") == granted(world, "second")
    assert min(granted(world, "second").values()) >= 25


async def test_they_remain_ours_after_a_restart_of_the_server_and_of_the_operator(world: GuardWorld) -> None:
    add_second(world)
    post_demands(world)
    await world.run_all(30, *BOTH)
    world.set_secret("second-monitor", username="second_monitor", password="wrong")
    await world.run_all(70, *BOTH)
    world.primary.restart()
    post_demands(world)
    await world.run_all(30, *BOTH)
    assert world.ready_of("second")[0] == "False"
    assert world.status_of("store")["connections"]["budget"] == 55
    await world.close()
    world.restart()
    post_demands(world)
    await world.run_all(30, *BOTH)
    assert world.ready_of("second")[0] == "False"
    assert world.status_of("store")["connections"]["budget"] == 55, "its status tells which system it was at"


async def test_limits_of_a_guard_that_cannot_log_in_follow_its_spec(world: GuardWorld) -> None:
    add_second(world)
    await world.run_all(10, *BOTH)
    world.set_secret("second-monitor", username="second_monitor", password="wrong")
    await world.run_all(70, *BOTH)
    world.edit_spec(lambda spec: spec.update(connections={"workerSharePercent": 10}), "second")
    await world.run_all(5, *BOTH)
    assert world.status_of("store")["connections"]["budget"] == 9
    await world.reconciler.forget(world.body("second")["metadata"]["uid"])
    await world.run_all(15, FIRST)
    assert world.status_of("store")["connections"]["budget"] == 55, "until it is removed"


async def test_a_pool_that_appears_with_running_workers_is_not_limited_by_its_own_past(world: GuardWorld) -> None:
    world.primary.sessions = [MemorySession() for _ in range(60)]
    await world.run(300)
    assert world.status["connections"]["budget"] == 32
    demand = make_demand("a", 1, 1, minimum=45, running=45, busy=45, wanted=45)
    world.servers.post_demand(ObjectRef(WORKER_POOL, NAMESPACE, "a"), FIRST, demand)
    await world.run(20)
    assert world.status["connections"]["budget"] == 55
    assert granted(world, "store")["a"] >= 45


async def test_a_guard_that_comes_later_shows_the_same_budget(world: GuardWorld) -> None:
    world.primary.sessions = [MemorySession() for _ in range(80)]
    await world.run(300)
    world.primary.sessions = world.primary.sessions[:10]
    add_second(world)
    await world.run_all(20, *BOTH)
    assert world.status_of("second")["connections"]["budget"] == world.status_of("store")["connections"]["budget"] == 12
