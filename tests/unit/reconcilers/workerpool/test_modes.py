"""Modes, pauses, schedules and failures: what is done, what is only reported, and where it can be read."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from headroom.ports.kube import HORIZONTAL_POD_AUTOSCALER, ObjectRef
from headroom.reasons import Reason
from headroom.reconcilers.workerpool import metrics
from tests.manifests import NAMESPACE, make_autoscaler
from tests.memory_world import LATE
from tests.unit.reconcilers.workerpool.world import POOL, TARGET, PoolWorld

LABELS = {"namespace": NAMESPACE, "name": "mail"}
QUICK = {"scaleDown": {"stabilizationWindow": "10s", "maxStepPercent": 100}}


def edit(world: PoolWorld, **changes: Any) -> None:
    def change(pool: dict[str, Any]) -> None:
        pool["spec"].update(changes)
        for name in [name for name, value in pool["spec"].items() if value is None]:
            del pool["spec"][name]

    world.cluster.edit(POOL, change)


def dry_runs(world: PoolWorld) -> list[str]:
    """What the events say that would have been written."""
    found = [event.message for event in world.telemetry.events if event.reason is Reason.DRY_RUN]
    return [message for message in found if "would go" in message]


async def test_a_dry_run_reports_each_count_it_would_write_once() -> None:
    world = PoolWorld({"mode": "DryRun"})
    await world.advance(20, rate=1)
    assert dry_runs(world) == []
    world.queue(**LATE)
    await world.advance(30)
    decision = world.status()["lastDecision"]
    assert decision["allowed"] > 2
    assert world.asked_for() == 2
    (message,) = dry_runs(world)
    assert message.startswith(f"deployment/mailer would go from 2 to {decision['allowed']} workers; ")
    assert world.message("Ready").startswith("spec.mode is DryRun: nothing is scaled, and lastDecision says what would")
    edit(world, maxWorkers=3)
    await world.advance(20)
    assert len(dry_runs(world)) == 2
    assert world.scale_writes() == 0


async def test_a_pool_paused_downwards_grows_and_shrinks_once_it_goes_on() -> None:
    world = PoolWorld({"paused": "Down", "behavior": QUICK, "maxWorkers": 8})
    await world.advance(10)
    world.queue(**LATE)
    await world.advance(40)
    assert world.asked_for() == 8
    world.queue(lag_seconds=0.0, backlog=0, late=0)
    await world.advance(60, rate=0.5)
    assert world.asked_for() == 8
    assert world.condition("Ready") == ("True", Reason.PAUSED)
    assert world.message("Ready").startswith("spec.paused is Down: no worker is taken away; remove it to continue; ")
    decision = world.status()["lastDecision"]
    assert decision["reason"] == Reason.PAUSED
    assert "limit" not in decision
    edit(world, paused=None)
    await world.advance(60, rate=0.5)
    assert world.asked_for() < 8
    assert world.condition("Ready") == ("True", Reason.AS_EXPECTED)


async def test_a_pool_paused_upwards_shrinks_and_says_what_it_holds_back() -> None:
    world = PoolWorld({"paused": "Up", "behavior": QUICK}, replicas=6)
    await world.advance(90, rate=0.5)
    small = world.asked_for()
    assert small < 6
    world.queue(**LATE)
    await world.advance(30)
    assert world.asked_for() == small
    assert world.condition("ScalingLimited") == ("True", Reason.PAUSED)
    assert "spec.paused is Up: nothing may add a worker until it is removed" in world.message("ScalingLimited")


async def test_a_pool_that_may_be_empty_goes_to_zero_and_comes_back_with_the_first_job() -> None:
    world = PoolWorld({"minWorkers": 0, "behavior": QUICK}, replicas=2)
    await world.advance(120, rate=0)
    assert world.asked_for() == 0
    assert world.condition("Ready") == ("True", Reason.AS_EXPECTED)
    assert world.condition("KeepingUp") == ("True", Reason.LAG_WITHIN_TARGET)
    world.queue(lag_seconds=0.2, backlog=1, arrived=1)
    await world.make_pass()
    assert world.asked_for() >= 1


@pytest.mark.parametrize("owner", [None, {"kind": "ScaledObject", "name": "mailer", "apiVersion": "keda.sh/v1alpha1"}])
async def test_a_pool_takes_over_from_an_autoscaler_with_the_count_that_it_left(owner: dict[str, str] | None) -> None:
    world = PoolWorld({"maxWorkers": 6}, replicas=9)
    metadata = {} if owner is None else {"ownerReferences": [{**owner, "uid": "x", "controller": True}]}
    world.cluster.seed(make_autoscaler("mailer-hpa", TARGET.name, **metadata))
    world.queue(**LATE)
    await world.advance(60)
    assert world.scale_writes() == 0
    assert world.condition("Ready") == ("False", Reason.TARGET_CONFLICT)
    name = "the HorizontalPodAutoscaler mailer-hpa" if owner is None else "the ScaledObject mailer"
    assert world.message("Ready").startswith(
        f"{name} scales deployment/mailer too: delete it, or delete this WorkerPool"
    )
    world.cluster.remove(ObjectRef(HORIZONTAL_POD_AUTOSCALER, NAMESPACE, "mailer-hpa"))
    await world.advance(10)
    assert world.asked_for() == 6
    assert world.condition("Ready") == ("True", Reason.AS_EXPECTED)


async def test_a_schedule_over_midnight_says_its_next_start_and_its_end() -> None:
    """The clock of this world begins at midnight UTC of 2026-01-01, a Thursday."""
    night = {"name": "night", "cron": "0 23 * * *", "duration": "3h", "minWorkers": 5, "timeZone": "Europe/Berlin"}
    noon = {"name": "noon", "cron": "0 12 * * *", "duration": "1h", "minWorkers": 3}
    world = PoolWorld({"schedules": [night, noon], "behavior": QUICK})
    await world.advance(20, rate=0.5)
    assert world.asked_for() == 5
    assert world.status()["activeSchedules"] == ["night"]
    assert world.status()["nextSchedule"] == {"name": "noon", "at": "2026-01-01T12:00:00Z"}
    assert (
        "the schedule night keeps 5 until Thu 2026-01-01 02:00 Europe/Berlin; "
        "the schedule noon keeps 3 from Thu 2026-01-01 12:00 Etc/UTC" in world.message("Ready")
    )
    world.clock.jump(timedelta(hours=1))
    await world.advance(90, rate=0.5)
    assert world.asked_for() < 5
    assert "activeSchedules" not in world.status()
    world.clock.jump(datetime(2026, 1, 1, 22, 0, tzinfo=UTC) - world.clock.now() - timedelta(seconds=8))
    await world.advance(7, rate=0.5)
    assert world.asked_for() < 5
    assert world.status()["nextSchedule"] == {"name": "night", "at": "2026-01-01T22:00:00Z"}
    await world.advance(10, rate=0.5)
    assert world.asked_for() == 5


async def test_a_paused_pool_says_that_nothing_is_scaled_and_what_a_schedule_would_keep() -> None:
    always = {"name": "every-two", "cron": "*/2 * * * *", "duration": "5m", "minWorkers": 5}
    world = PoolWorld({"mode": "Paused", "schedules": [always]})
    await world.advance(20, rate=0.5)
    assert world.asked_for() == 2
    assert world.condition("ScalingLimited") == ("False", Reason.PAUSED)
    assert world.message("ScalingLimited") == "spec.mode is Paused: nothing is scaled"
    assert "the schedule every-two would keep 5" in world.message("Ready")
    assert world.status()["paused"] == "Both"
    edit(world, mode="Active", paused="Down")
    await world.advance(20, rate=0.5)
    assert world.status()["paused"] == "Down"
    edit(world, paused=None)
    await world.advance(20, rate=0.5)
    assert "paused" not in world.status()


async def test_failures_are_a_field_a_metric_and_the_reason_to_read_beyond_the_backlog() -> None:
    """300 jobs fail within seconds, and the queue is empty."""
    world = PoolWorld()
    await world.advance(20, rate=0)
    world.queue(arrived=300, backlog=150, lag_seconds=2.0, ended=150, failed=150, in_flight=2)
    await world.advance(5)
    world.queue(backlog=0, lag_seconds=0.0, ended=300, failed=300, in_flight=0)
    await world.advance(30)
    assert world.status()["queue"]["failed"] == 300
    assert world.telemetry.value(metrics.FAILED, **LABELS) == 300
    assert world.condition("Ready") == ("True", Reason.JOBS_FAILING)
    assert world.message("Ready").startswith("300 of the last 300 attempts failed: read the workers' logs")
    assert world.condition("KeepingUp") == ("True", Reason.LAG_WITHIN_TARGET)
    assert world.message("KeepingUp").startswith("the queue is empty; 300 of the last 300 attempts failed")
    assert world.telemetry.reasons("mail").count(Reason.JOBS_FAILING) == 1
    await world.advance(700)
    assert world.condition("Ready") == ("True", Reason.AS_EXPECTED)
    assert world.status()["queue"]["failed"] == 0


async def test_a_few_failures_are_counted_and_change_no_reason() -> None:
    world = PoolWorld()
    await world.advance(20, rate=1)
    world.queue(failed=3)
    await world.advance(60, rate=1)
    assert world.status()["queue"]["failed"] == 3
    assert world.condition("Ready") == ("True", Reason.AS_EXPECTED)
