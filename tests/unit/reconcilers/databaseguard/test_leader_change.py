"""A new leader: no condition flips and comes back, and the pools keep what they were given while a guard is blind."""

import asyncio
from typing import Any

from headroom.adapters.inmemory.postgres_server import MemorySession
from headroom.model.database import PoolDemand
from headroom.ports.kube import WORKER_POOL, ObjectRef
from headroom.reconcilers.databaseguard import metrics
from tests.manifests import NAMESPACE
from tests.unit.policy.databaseguard.make import make_demand
from tests.unit.reconcilers.databaseguard.world import GuardWorld, make_guard

STORE, POOL = (NAMESPACE, "store"), ObjectRef(WORKER_POOL, NAMESPACE, "mail")
LABELS = {"namespace": NAMESPACE, "name": "store"}


class Watch:
    """Every status that is written, as {type: (status, reason)}."""

    def __init__(self, world: GuardWorld) -> None:
        self.seen: list[dict[str, tuple[str, str]]] = []
        self.states: list[str] = []
        self._write = world.kube.replace_status
        world.kube.replace_status = self

    async def __call__(self, *args: Any, **kwargs: Any) -> Any:
        status = kwargs["status"]
        self.seen.append({entry["type"]: (entry["status"], entry["reason"]) for entry in status["conditions"]})
        self.states.append(status["state"])
        return await self._write(*args, **kwargs)


async def change_leader(world: GuardWorld) -> Watch:
    await world.close()
    world.restart()
    return Watch(world)


async def test_a_guard_that_was_ready_stays_so(world: GuardWorld) -> None:
    await world.run(30)
    before = world.body()["status"]["conditions"]
    watch = await change_leader(world)
    await world.run(30)
    assert world.body()["status"]["conditions"] == before
    for seen in watch.seen:
        assert seen["Ready"] == ("True", "Connected")
        assert seen["SignalAvailable"] == ("True", "AsExpected")
    assert set(watch.states) <= {"Healthy"}


async def test_the_lock_of_the_old_process_is_waited_for_without_a_word(world: GuardWorld) -> None:
    await world.run(30)
    told = len(world.telemetry.events)
    watch = await change_leader(world)
    world.primary.lock_holder = "headroom-0"
    await world.run(7)
    assert watch.seen == []
    assert not world.view.is_ready, "dependents are told the truth"
    world.primary.lock_holder = None
    await world.run(10)
    assert world.ready == ("True", "Connected")
    assert {seen["Ready"][0] for seen in watch.seen} <= {"True"}
    assert world.telemetry.events[told:] == [], "status says Connected already"


async def test_guards_of_one_server_stay_shared(world: GuardWorld) -> None:
    world.cluster.seed(make_guard("second"))
    both = (STORE, (NAMESPACE, "second"))
    await world.run_all(30, *both)
    told = len(world.telemetry.events)
    watch = await change_leader(world)
    await world.run_all(30, *both)
    assert {seen["Ready"] for seen in watch.seen} <= {("True", "SharedInstance")}
    assert world.ready_of("store") == world.ready_of("second") == ("True", "SharedInstance")
    assert world.telemetry.events[told:] == []


async def test_an_old_primary_is_recognized_by_the_next_process_too(world: GuardWorld) -> None:
    world.primary.timeline = 3
    await world.run(10)
    assert world.status["timeline"] == 3
    world.primary.timeline = 2
    world.primary.restart()
    await change_leader(world)
    await world.run(12)
    assert world.ready == ("False", "PrimaryStale")
    assert world.links is None


async def test_after_ten_seconds_it_is_reported(world: GuardWorld) -> None:
    await world.run(30)
    await change_leader(world)
    world.primary.is_down = True
    await world.run(8)
    assert world.ready == ("True", "Connected")
    await world.run(5)
    assert world.ready == ("False", "PrimaryUnreachable")
    assert world.status["state"] == "Unknown"


async def test_a_secret_that_is_gone_is_reported_at_once(world: GuardWorld) -> None:
    await world.run(30)
    await change_leader(world)
    world.remove_secret("store-monitor")
    await world.step()
    assert world.ready == ("False", "SecretNotFound")


async def test_a_guard_above_healthy_keeps_its_state_its_beginning_and_its_calm(world: GuardWorld) -> None:
    await world.overload()
    world.primary.commit_seconds = 0.001
    await world.run(40)
    since, clean = world.status["stateSince"], world.status["memory"]["cleanSince"]
    watch = await change_leader(world)
    await world.run(20)
    assert world.status["state"] == "Overloaded"
    assert (world.status["stateSince"], world.status["memory"]["cleanSince"]) == (since, clean)
    assert set(watch.states) <= {"Overloaded"}


def demand(**counts: int) -> PoolDemand:
    values = {"minimum": 1, "running": 10, "busy": 5, "wanted": 40}
    return make_demand("mail", **{**values, **counts})


async def test_the_budget_example_is_one_number_everywhere(world: GuardWorld) -> None:
    """97 usable, reserve 5, share 60 %, 60 connections of others."""
    world.edit_spec(lambda spec: spec["connection"].update(via={"poolSize": 200}))
    world.primary.sessions = [MemorySession() for _ in range(60)]
    world.servers.post_demand(POOL, STORE, demand(running=0, busy=0, wanted=80))
    await world.run(30)
    assert world.status["connections"] == {"used": 60, "usable": 92, "budget": 32}
    assert world.telemetry.value(metrics.CONNECTIONS, what="budget", **LABELS) == 32
    assert world.view.budget is not None
    assert world.view.budget.budget == 32
    part = world.view.allocations["mail"]
    assert (part.budget, part.workers) == (32, 32)
    assert "connection.via.poolSize is 200" in world.condition()["message"]
    assert world.ready == ("True", "PoolLargerThanServer")


async def test_a_blind_guard_keeps_the_last_counts_budget_and_allocations(world: GuardWorld) -> None:
    world.primary.sessions = [MemorySession() for _ in range(60)]
    world.servers.post_demand(POOL, STORE, demand())
    await world.run(30)
    before = world.view
    world.primary.is_down = True
    await world.run(60)
    after = world.view
    assert not after.is_ready
    assert (after.connections, after.budget, after.allocations) == (
        before.connections,
        before.budget,
        before.allocations,
    )
    assert after.target == before.target, "replicas are asked with it while the primary is away"
    assert world.links is None
    assert "connections" not in world.status, "what is not measured is not shown"


async def test_a_pool_is_woken_by_its_allocation_and_by_the_state(world: GuardWorld) -> None:
    woken: list[ObjectRef] = []
    world.servers.wake = woken.append
    world.servers.depend(POOL, STORE)
    await world.run(20)
    woken.clear()
    world.servers.post_demand(POOL, STORE, demand())
    await world.step()
    assert woken == [POOL]
    woken.clear()
    await world.run(20)
    assert woken == []
    world.primary.commit_seconds = 2
    await world.run(15)
    assert world.view.state == "Overloaded"
    assert woken == [POOL]


async def test_a_slow_secret_is_not_part_of_an_observation(world: GuardWorld) -> None:
    await world.run(3)
    read = world.kube.get

    async def slow(ref: ObjectRef) -> Any:
        await world.clock.sleep(4)
        return await read(ref)

    world.kube.get = slow
    world.edit_spec(lambda spec: spec["connection"].update(port=5432, tls={"mode": "require"}))
    observed = world.telemetry.observations[metrics.OBSERVATION_SECONDS.name, tuple(sorted(LABELS.items()))]
    observed.clear()
    task = asyncio.create_task(world.reconciler.reconcile(world.body()))
    await world.clock.advance(15)
    await task
    assert world.ready[0] == "True"
    assert max(observed) < 1
