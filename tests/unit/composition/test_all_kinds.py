"""All three kinds together, as one process runs them."""

import asyncio

import pytest

from headroom.adapters.inmemory.postgres_server import MemorySession
from headroom.ports.kube import DATABASE_GUARD, DEPLOYMENT, REPLICA_SET, WORKER_POOL, ObjectRef
from tests.unit.world import NAMESPACE, World, roles

pytestmark = pytest.mark.looptime(start=0)

LATE = {"lag_seconds": 100.0, "backlog": 6000, "late": 6000}


def occupy(world: World, count: int) -> None:
    """Sessions on the primary that belong to nobody we know."""
    world.primary.sessions[:] = [MemorySession() for _ in range(count)]


async def test_a_set_and_a_pool_come_to_work_beside_their_guard() -> None:
    async with World() as world:
        world.add_guard()
        world.add_set(replicas=2, standbys=1)
        world.add_pool()
        await world.start()
        await asyncio.sleep(60)
        assert roles(world) == ["serving", "serving", "standby"]
        for kind, name in ((DATABASE_GUARD, "store"), (REPLICA_SET, "store"), (WORKER_POOL, "mail")):
            assert world.condition(kind, "Ready", name)[0] == "True", world.status(kind, name)


async def test_a_late_queue_grows_its_workers_up_to_what_the_guard_allocates() -> None:
    async with World() as world:
        world.add_guard()
        world.add_pool()
        occupy(world, 60)
        await world.start()
        await asyncio.sleep(10)
        world.queue(**LATE)
        await asyncio.sleep(240)
        budget = world.view().budget
        assert budget is not None
        assert world.asked_for() == budget.budget
        assert world.status(DATABASE_GUARD)["connections"]["budget"] == budget.budget
        assert world.status(WORKER_POOL, "mail")["lastDecision"]["limit"] == "ConnectionBudget"


async def test_two_pools_together_stay_within_the_budget() -> None:
    async with World() as world:
        world.add_guard()
        world.add_pool("mail", priority="Background")
        world.add_pool("bills", priority="Critical", minWorkers=3)
        occupy(world, 40)
        world.queue(**LATE)
        await world.start()
        for _ in range(60):
            await asyncio.sleep(5)
            budget = world.view().budget
            assert budget is not None
            allocated = sum(allocation.workers for allocation in world.view().allocations.values())
            assert allocated <= budget.budget
        assert world.asked_for("mail") + world.asked_for("bills") <= budget.budget
        assert world.asked_for("bills") > world.asked_for("mail")


async def test_a_guard_that_becomes_overloaded_is_seen_by_the_next_decision_of_a_pool() -> None:
    async with World() as world:
        world.add_guard(thresholds={"lockWaiters": {"brownout": 2, "overloaded": 4, "emergency": 50}})
        world.add_pool()
        await world.start()
        await asyncio.sleep(30)
        assert world.view().state == "Healthy"
        world.primary.lock_waiters = 5
        while world.view().state != "Overloaded":
            asked = len(world.probes.questions)
            await asyncio.sleep(0.05)
            assert asyncio.get_running_loop().time() < 60
        # The pool's pass is due five seconds after the last one: only the news brings it so soon.
        await asyncio.sleep(0.05)
        assert len(world.probes.questions) > asked
        assert world.status(DATABASE_GUARD)["state"] == "Overloaded"


async def test_sessions_of_a_set_count_in_the_budget_of_its_server() -> None:
    """A replica streams and its clients may write: what they hold on the primary is nobody's to give to workers."""
    async with World() as world:
        world.add_guard()
        world.add_set(replicas=1, standbys=1)
        world.add_pool()
        await world.start()
        await asyncio.sleep(30)
        before = world.view().budget
        occupy(world, 70)
        await asyncio.sleep(30)
        after = world.view().budget
        assert before is not None
        assert after is not None
        assert after.budget < before.budget
        assert world.status(DATABASE_GUARD)["connections"]["budget"] == after.budget


async def test_two_guards_of_one_server_show_the_same_budget_and_name_each_other() -> None:
    async with World() as world:
        world.add_guard("store", connections={"workerSharePercent": 60, "reserve": 5})
        world.add_guard("other", connections={"workerSharePercent": 30, "reserve": 10})
        world.add_pool("mail")
        world.add_pool("bills", databaseRef={"name": "other"})
        world.queue(**LATE)
        await world.start()
        await asyncio.sleep(120)
        shown = {name: world.status(DATABASE_GUARD, name)["connections"]["budget"] for name in ("store", "other")}
        assert shown["store"] == shown["other"]
        assert world.view("store").allocations == world.view("other").allocations
        assert world.asked_for("mail") + world.asked_for("bills") <= shown["store"]
        for name in ("store", "other"):
            assert world.condition(DATABASE_GUARD, "Ready", name) == ("True", "SharedInstance")


async def test_a_change_of_leader_turns_no_condition_and_no_count() -> None:
    async with World() as world:
        world.add_guard()
        world.add_set(replicas=2, standbys=1)
        world.add_pool()
        await world.start()
        await asyncio.sleep(60)
        before, members = world.verdicts(), roles(world)
        seen: list[tuple[object, ...]] = []
        world.kube.store.listeners.append(
            lambda _, manifest: seen.extend(
                (manifest["kind"], entry["type"], entry["status"], entry["reason"])
                for entry in (manifest.get("status") or {}).get("conditions") or ()
                if before.get((f"{manifest['kind']}/{manifest['metadata']['name']}", entry["type"]))
                not in (None, entry["status"])
            )
        )
        await world.start()
        await asyncio.sleep(30)
        assert world.verdicts() == before
        assert not seen
        assert roles(world) == members


async def test_all_goes_and_leaves_no_slot() -> None:
    async with World() as world:
        world.add_guard()
        world.add_set(replicas=1, standbys=1)
        world.add_pool()
        await world.start()
        await asyncio.sleep(60)
        for kind, name in ((REPLICA_SET, "store"), (WORKER_POOL, "mail"), (DATABASE_GUARD, "store")):
            world.cluster.delete(ObjectRef(kind, NAMESPACE, name))
        await asyncio.sleep(120)
        assert not list(world.find(REPLICA_SET))
        assert not list(world.find(DATABASE_GUARD))
        assert not world.primary.slots
        assert world.read(DEPLOYMENT, "mail")["spec"]["replicas"] == 2


async def test_a_calm_world_asks_the_api_server_for_nothing_but_its_secrets() -> None:
    async with World() as world:
        world.add_guard()
        world.add_set(replicas=2, standbys=1)
        world.add_pool(minWorkers=2)
        await world.start()
        await asyncio.sleep(120)
        world.kube.calls.clear()
        await asyncio.sleep(300)
        asked = [(verb, str(ref)) for verb, ref in world.kube.calls if ref.kind.name != "Secret"]
        assert not asked
        assert len(world.kube.calls) <= 2 * 6
