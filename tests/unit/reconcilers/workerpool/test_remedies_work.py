"""A remedy is done as the message says it, with its own numbers, and the trouble is over."""

import re
from typing import Any

import pytest

from headroom.adapters.inmemory.postgres_server import MemoryRole
from headroom.ports.kube import POD, ObjectRef
from headroom.reasons import Reason
from tests.manifests import NAMESPACE
from tests.memory_world import LOGINS
from tests.unit.reconcilers.workerpool import cases, cases_faults
from tests.unit.reconcilers.workerpool.world import POOL, PoolWorld


def find(world: PoolWorld, kind: str, pattern: str) -> re.Match[str]:
    """The part of a message that says what to do."""
    found = re.search(pattern, world.message(kind))
    assert found is not None, world.message(kind)
    return found


def patch(world: PoolWorld, path: str, value: Any) -> None:
    """What `kubectl patch` does to the pool."""

    def change(pool: dict[str, Any]) -> None:
        *parents, last = path.removeprefix("spec.").split(".")
        inner = pool["spec"]
        for name in parents:
            inner = inner.setdefault(name, {})
        inner[last] = value

    world.cluster.edit(POOL, change)


async def replace_pods(world: PoolWorld) -> None:
    """What a rollout does: each pod goes, and one of the present template comes."""
    for name in world.names(POD):
        world.cluster.remove(ObjectRef(POD, NAMESPACE, name))
        world.deployments._changed[ObjectRef(cases.TARGET.kind, NAMESPACE, cases.TARGET.name)] = None
        world.deployments.play()
        await world.advance(world.deployments.start_seconds + 1)


async def test_the_grace_period_of_the_message_is_long_enough() -> None:
    world = await cases.a_grace_period_shorter_than_a_job()
    found = find(world, "Ready", r"set spec\.template\.spec\.terminationGracePeriodSeconds of the workers to (\d+)")
    world.deployments.pod_grace_seconds = int(found[1])
    await replace_pods(world)
    await world.advance(30)
    assert world.condition("Ready") == ("True", Reason.AS_EXPECTED)


async def test_the_concurrency_of_the_message_is_what_the_workers_take() -> None:
    world = await cases.late_for_long_with_slots_that_do_not_exist()
    patch(
        world, "spec.concurrency", int(find(world, "SignalAvailable", r"spec\.concurrency is 10: set it to (\d+)")[1])
    )
    await world.advance(10)
    assert world.condition("SignalAvailable") == ("True", Reason.AS_EXPECTED)


async def test_the_expected_duration_ends_the_learning_of_deleted_jobs() -> None:
    world = await cases.finished_jobs_that_are_deleted()
    patch(world, find(world, "SignalAvailable", r"set (objective\.expectedJobDuration)")[1], "1s")
    for _ in range(10):
        world.queue(in_flight=world.running())
        await world.advance(2)
    assert world.condition("SignalAvailable") == ("True", Reason.AS_EXPECTED)
    assert world.condition("KeepingUp")[1] != Reason.LEARNING_RATE


async def test_the_maximum_of_the_message_is_the_field_that_holds_back() -> None:
    world = await cases.a_maximum_below_what_is_wanted()
    wanted = int(find(world, "ScalingLimited", r"^(\d+) workers wanted: .*; 4 allowed: maxWorkers is 4$")[1])
    patch(world, "spec.maxWorkers", 2 * wanted)
    await world.advance(10)
    assert world.condition("ScalingLimited")[1] != Reason.AT_MAXIMUM
    assert world.asked_for() > 4


async def test_the_connections_of_the_message_are_enough_for_what_arrives() -> None:
    world = await cases.on_call_h_the_connections_are_short()
    found = find(world, "ScalingLimited", r"needs (\d+) workers = (\d+) connections: raise max_connections")
    world.set_budget(int(found[2]))
    for _ in range(15):
        world.queue(in_flight=world.running())
        await world.advance(5)
    assert world.asked_for() == int(found[1])


async def test_the_minimum_of_the_message_fits_into_the_budget() -> None:
    world = await cases_faults.a_minimum_that_needs_more_connections_than_there_are()
    found = find(world, "ScalingLimited", r"minWorkers is 5 and needs 20: lower it to (\d+)")
    patch(world, "spec.minWorkers", int(found[1]))
    await world.advance(20)
    assert world.condition("ScalingLimited")[1] != Reason.BUDGET_BELOW_MINIMUM
    assert world.asked_for() == int(found[1])


async def test_the_password_of_the_secret_ends_what_a_wrong_one_began() -> None:
    world = await cases.on_call_b_the_password_is_wrong()
    name = find(world, "Ready", r"\(Secret ([\w-]+)\)")[1]
    world.primary.roles["monitor"] = MemoryRole(LOGINS["monitor"])
    world.set_secret(name, username="monitor", password=LOGINS["monitor"])
    await world.advance(60)
    assert world.condition("Ready") == ("True", Reason.AS_EXPECTED)


async def test_undoing_the_rollout_starts_the_workers() -> None:
    world = await cases.on_call_c_the_image_does_not_exist()
    find(world, "Ready", r"kubectl rollout undo deployment/mailer -n shop")
    world.deployments.start_seconds = 1.0
    await replace_pods(world)
    await world.advance(10)
    assert world.condition("Ready")[1] != Reason.WORKERS_NOT_STARTING
    assert world.condition("KeepingUp")[1] != Reason.WORKERS_NOT_STARTING
    assert world.running() == world.asked_for()


@pytest.mark.parametrize("is_restarted", [False, True])
async def test_a_restart_ends_what_hangs(is_restarted: bool) -> None:
    world = await cases_faults.workers_that_hang()
    find(world, "Ready", r"then kubectl rollout restart deployment/mailer -n shop")
    if is_restarted:
        await replace_pods(world)
        await world.advance(20, rate=2)
    else:
        await world.advance(20)
    assert (world.condition("Ready")[1] == Reason.JOBS_NOT_ENDING) is not is_restarted


async def test_a_restart_lifts_the_freeze_of_a_race() -> None:
    world = await cases_faults.a_race_that_more_workers_only_lengthen()
    find(world, "Effective", r"kubectl rollout restart deployment/mailer -n shop lets the pool grow at once")
    world.roll_out("second")  # type: ignore[attr-defined]
    await world.advance(5, rate=20, service_rate=2.0)
    assert world.condition("Effective") == ("Unknown", Reason.GROWTH_RESUMED)
