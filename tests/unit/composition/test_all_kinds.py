"""All three kinds together, as one process runs them."""

import asyncio

import pytest

from headroom.ports.kube import DATABASE_GUARD, REPLICA_SET, SECRET, ObjectRef
from tests.manifests import NAMESPACE
from tests.memory_world import LATE
from tests.unit.composition.scenes import at_work
from tests.unit.world import GUARD, POOL, SET, World

pytestmark = pytest.mark.looptime(start=0)
OTHER = ObjectRef(DATABASE_GUARD, NAMESPACE, "other")


async def test_a_set_and_a_pool_come_to_work_beside_their_guard() -> None:
    async with at_work(60, serving=2) as world:
        assert world.roles() == ["serving", "serving", "standby"]
        for ref in (GUARD, SET, POOL):
            assert world.condition(ref, "Ready")[0] == "True", world.status(ref)


async def test_a_late_queue_grows_its_workers_up_to_what_the_guard_allocates() -> None:
    async with World() as world:
        world.add_guard()
        world.add_pool()
        world.occupy(60)
        await world.start()
        await asyncio.sleep(10)
        world.queue(**LATE)
        await asyncio.sleep(140)
        budget = world.view().budget
        assert budget is not None
        assert world.asked_for() == budget.budget
        assert world.status(GUARD)["connections"]["budget"] == budget.budget
        assert world.status(POOL)["lastDecision"]["limit"] == "ConnectionBudget"


async def test_two_pools_together_stay_within_the_budget() -> None:
    async with World() as world:
        world.add_guard()
        world.add_pool("mail", priority="Background")
        world.add_pool("bills", priority="Critical", minWorkers=3)
        world.occupy(40)
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
        assert world.status(GUARD)["state"] == "Overloaded"


async def test_sessions_of_a_set_count_in_the_budget_of_its_server() -> None:
    """A replica streams and its clients may write: what they hold on the primary is nobody's to give to workers."""
    async with at_work(30, serving=1) as world:
        before = world.view().budget
        world.occupy(70)
        await asyncio.sleep(30)
        after = world.view().budget
        assert before is not None
        assert after is not None
        assert after.budget < before.budget
        assert world.status(GUARD)["connections"]["budget"] == after.budget


async def test_two_guards_of_one_server_show_the_same_budget_and_name_each_other() -> None:
    async with World() as world:
        world.add_guard("store", connections={"workerSharePercent": 60, "reserve": 5})
        world.add_guard("other", connections={"workerSharePercent": 30, "reserve": 10})
        world.add_pool("mail")
        world.add_pool("bills", databaseRef={"name": "other"})
        world.queue(**LATE)
        await world.start()
        await asyncio.sleep(120)
        shown = {ref.name: world.status(ref)["connections"]["budget"] for ref in (GUARD, OTHER)}
        assert shown["store"] == shown["other"]
        assert world.view("store").allocations == world.view("other").allocations
        assert world.asked_for("mail") + world.asked_for("bills") <= shown["store"]
        for ref in (GUARD, OTHER):
            assert world.condition(ref, "Ready") == ("True", "SharedInstance")


async def test_a_change_of_leader_turns_no_condition_and_no_count() -> None:
    async with at_work(60, serving=2) as world:
        before, members = world.verdicts(), world.roles()
        turned = world.follow_verdicts()
        await world.start()
        await asyncio.sleep(30)
        assert world.verdicts() == before
        assert not turned
        assert world.roles() == members


async def test_all_goes_and_leaves_no_slot() -> None:
    async with at_work(60, serving=1) as world:
        for ref in (SET, POOL, GUARD):
            world.cluster.delete(ref)
        await asyncio.sleep(120)
        assert not world.children(REPLICA_SET)
        assert not world.children(DATABASE_GUARD)
        assert not world.primary.slots
        assert world.asked_for() == 2


async def test_a_calm_world_asks_the_api_server_for_nothing_but_its_secrets() -> None:
    async with at_work(120, serving=2, minWorkers=2) as world:
        calls = world.process.client.calls
        calls.clear()
        await asyncio.sleep(300)
        asked = [(verb, str(ref)) for verb, ref in calls if ref.kind != SECRET]
        assert not asked
        assert len(calls) <= 3 * 6, "the monitor, the replication and the queue login, once a minute"
