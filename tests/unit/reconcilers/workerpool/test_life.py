"""A pool's life in memory: first look, growth, shrinkage, modes, and what it says of itself."""

import pytest

from headroom.adapters.inmemory.kube_kinds import CRON_JOB
from headroom.adapters.inmemory.postgres_server import MemoryRole
from headroom.api.v1alpha1.workerpool_status import WorkerPoolStatus
from headroom.ports.kube import WORKER_POOL, ObjectRef
from headroom.reasons import Reason
from headroom.reconcilers.workerpool import metrics
from tests.manifests import NAMESPACE, make, make_deployment
from tests.unit.reconcilers.workerpool.world import POOL, TARGET, PoolWorld

LABELS = {"namespace": NAMESPACE, "name": "mail"}


async def test_all_conditions_are_unknown_at_first_sight() -> None:
    world = PoolWorld()
    seen = []

    def listen(change: str, item: dict[str, object]) -> None:
        if item["kind"] == WORKER_POOL.name:
            seen.append(item["status"])

    world.kube.store.listeners.append(listen)
    await world.make_pass()
    first = seen[0]["conditions"]  # type: ignore[index]
    assert {entry["type"] for entry in first} == {
        "Ready",
        "KeepingUp",
        "ScalingLimited",
        "Effective",
        "Shed",
        "SignalAvailable",
    }
    assert {(entry["status"], entry["reason"]) for entry in first} == {("Unknown", "NotYetObserved")}


async def test_a_calm_pool_says_so_and_then_nothing_more() -> None:
    world = PoolWorld()
    await world.advance(20, rate=0.5)
    assert world.condition("Ready") == ("True", Reason.AS_EXPECTED)
    assert world.condition("KeepingUp") == ("True", Reason.LAG_WITHIN_TARGET)
    assert world.condition("SignalAvailable") == ("True", Reason.AS_EXPECTED)
    assert world.condition("ScalingLimited") == ("False", Reason.AS_EXPECTED)
    assert all(entry["message"] for entry in world.status()["conditions"])
    assert world.condition("Effective")[0] == "Unknown"
    assert world.condition("Shed") == ("False", Reason.AS_EXPECTED)
    await world.advance(100, rate=0.5)
    writes = len(world.kube.writes)
    await world.advance(120, rate=0.5)
    assert len(world.kube.writes) == writes


async def test_its_status_is_what_the_schema_says() -> None:
    world = PoolWorld()
    await world.advance(30, rate=5)
    WorkerPoolStatus.model_validate(world.status())
    known = {field.alias or name for name, field in WorkerPoolStatus.model_fields.items()}
    assert set(world.status()) <= known
    assert set(world.status()["queue"]) >= {"lagSeconds", "backlog", "inFlight", "arrivalsPerSecond", "measuredAt"}
    assert world.status()["target"]["name"] == "mailer"


async def test_a_late_queue_gets_workers_in_the_pass_that_saw_it() -> None:
    world = PoolWorld()
    await world.advance(10)
    world.queue(lag_seconds=100.0, backlog=3000, late=3000)
    pause = await world.make_pass()
    assert world.asked_for() == 6
    assert pause.total_seconds() <= 1.0
    assert world.status()["lastDecision"]["allowed"] == 6
    assert world.status()["desiredWorkers"] == 6


async def test_growth_and_its_reason_can_be_read_everywhere() -> None:
    world = PoolWorld(spec={"maxWorkers": 12})
    await world.advance(10)
    world.queue(lag_seconds=100.0, backlog=6000, late=6000)
    await world.advance(40)
    assert world.asked_for() == 12
    decision = world.status()["lastDecision"]
    assert (decision["allowed"], decision["limit"], decision["reason"]) == (12, "AtMaximum", "AtMaximum")
    assert "6,000 jobs beyond what the target lag allows must be done within" in decision["message"]
    assert world.condition("ScalingLimited") == ("True", Reason.AT_MAXIMUM)
    assert world.condition("KeepingUp") == ("False", Reason.CANNOT_MEET_DEADLINE)
    assert " allowed: " in world.message("KeepingUp")
    assert "see ScalingLimited" not in world.message("KeepingUp")
    assert Reason.STEP_LIMITED in world.telemetry.reasons("mail")
    assert world.telemetry.value(metrics.WORKERS, state="allowed", **LABELS) == 12
    assert world.telemetry.value(metrics.LAG, **LABELS) == 100.0
    assert world.telemetry.value(metrics.SCALED, direction="up", **LABELS) == world.scale_writes()


async def test_steps_wait_for_the_measured_start_of_a_worker() -> None:
    world = PoolWorld(spec={"behavior": {"scaleUp": {"maxStep": 2}}}, start_seconds=8.0)
    world.queue(lag_seconds=100.0, backlog=6000, late=6000)
    await world.advance(20)
    begun = world.asked_for()
    await world.advance(7.5)
    assert world.asked_for() <= begun + 2
    await world.advance(10)
    assert world.asked_for() > begun + 2


async def test_down_comes_after_a_full_window_in_small_steps() -> None:
    world = PoolWorld(
        replicas=10, spec={"behavior": {"scaleDown": {"stabilizationWindow": "120s", "maxStepPercent": 20}}}
    )
    await world.advance(110, rate=0.5)
    assert world.asked_for() == 10
    await world.advance(30, rate=0.5)
    assert world.asked_for() == 8
    await world.advance(600, rate=0.5)
    assert world.asked_for() == 1
    assert 5 <= world.scale_writes() <= 8


async def test_a_new_process_knows_the_service_rate_and_takes_one_step_in_its_first_window() -> None:
    world = PoolWorld(replicas=6, spec={"behavior": {"scaleDown": {"stabilizationWindow": "120s"}}})
    await world.advance(90, rate=5, service_rate=2.5)
    rate = world.status()["scaling"]["completionsPerSlotPerSecond"]
    assert rate == pytest.approx(2.5, rel=0.1)
    before = world.asked_for()
    world.restart()
    await world.advance(55, rate=0.5, service_rate=2.5)
    assert world.asked_for() == before
    await world.advance(45, rate=0.5, service_rate=2.5)
    assert world.asked_for() == before - 1, "there were workers to spare before it, and it has watched a minute"
    assert world.status()["scaling"]["completionsPerSlotPerSecond"] == pytest.approx(2.5, rel=0.1)
    await world.advance(60, rate=0.5, service_rate=2.5)
    assert world.asked_for() < before - 1


@pytest.mark.parametrize(("mode", "reason"), [("DryRun", Reason.DRY_RUN), ("Paused", Reason.PAUSED)])
async def test_outside_active_nothing_is_written(mode: str, reason: Reason) -> None:
    world = PoolWorld(spec={"mode": mode})
    world.queue(lag_seconds=100.0, backlog=6000, late=6000)
    await world.advance(60)
    assert world.scale_writes() == 0
    assert world.condition("Ready") == ("True", reason)
    if mode == "DryRun":
        assert world.status()["desiredWorkers"] == 6
        assert world.status()["lastDecision"]["allowed"] == 6
    else:
        assert "lastDecision" not in world.status()
        assert world.status()["desiredWorkers"] == 2


@pytest.mark.parametrize(
    ("change", "reason"),
    [({"priority": "Urgent"}, Reason.UNSUPPORTED_VALUE), ({"maxWorkers": "many"}, Reason.INVALID_SPEC)],
)
async def test_a_spec_that_cannot_be_acted_on_is_named(change: dict[str, str], reason: Reason) -> None:
    world = PoolWorld()
    world.cluster.edit(POOL, lambda pool: pool["spec"].update(change))
    world.queue(lag_seconds=100.0, backlog=6000, late=6000)
    await world.make_pass()
    assert world.condition("Ready") == ("False", reason)
    assert f"spec.{next(iter(change))}" in world.message("Ready")
    assert world.asked_for() == 2


async def test_a_cron_job_is_watched_and_never_scaled() -> None:
    world = PoolWorld()
    world.cluster.seed(make(CRON_JOB, "cohorts", spec={}))
    workers = {"suspendRef": {"apiVersion": "batch/v1", "kind": "CronJob", "name": "cohorts"}}
    world.cluster.edit(POOL, lambda pool: pool["spec"].update(workers=workers))
    world.queue(lag_seconds=100.0, backlog=6000, late=6000)
    await world.advance(20)
    assert world.scale_writes() == 0
    assert world.condition("Ready") == ("True", Reason.AS_EXPECTED)
    assert world.condition("KeepingUp") == ("False", Reason.LAG_ABOVE_TARGET)


async def test_the_limit_of_the_last_decision_is_what_the_condition_says() -> None:
    """It is there while a limit keeps workers back, as the reason that the condition has, and gone afterwards."""
    world = PoolWorld(spec={"maxWorkers": 12})
    await world.advance(10)
    world.queue(lag_seconds=100.0, backlog=6000, late=6000)
    seen = set()
    for _ in range(40):
        await world.advance(1)
        status, reason = world.condition("ScalingLimited")
        limit = world.status()["lastDecision"].get("limit")
        assert limit == (reason if status == "True" else None)
        seen.add(limit)
    assert {Reason.STEP_LIMITED, Reason.AT_MAXIMUM} <= seen
    world.queue(lag_seconds=0.0, backlog=0, late=0)
    await world.advance(20, rate=0.5)
    assert world.condition("ScalingLimited") == ("False", Reason.AS_EXPECTED)
    assert "limit" not in world.status()["lastDecision"]


async def test_a_schedule_raises_the_minimum_while_it_holds() -> None:
    evening = {"name": "evening", "cron": "2 0 * * *", "duration": "1m", "minWorkers": 8}
    quick = {"scaleDown": {"stabilizationWindow": "5s", "maxStepPercent": 100}}
    world = PoolWorld(spec={"schedules": [evening], "behavior": quick})
    await world.advance(115, rate=0.1)
    assert world.asked_for() < 8
    assert "activeSchedules" not in world.status()
    await world.advance(20, rate=0.1)
    assert world.asked_for() == 8, "the way up to a minimum is not stepped"
    assert world.status()["activeSchedules"] == ["evening"]
    decision = world.status()["lastDecision"]
    assert decision["reason"] == Reason.SCHEDULED
    assert "limit" not in decision, "it keeps more than are wanted, and holds nobody back"
    await world.advance(120, rate=0.1)
    assert world.asked_for() < 8
    assert "activeSchedules" not in world.status()


async def test_another_target_begins_anew_and_the_old_one_stays_as_it_is() -> None:
    world = PoolWorld(replicas=5)
    await world.advance(30, rate=1)
    other = ObjectRef(TARGET.kind, NAMESPACE, "other")
    world.seed(make_deployment("other", 1))
    ref = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "other"}
    world.cluster.edit(POOL, lambda pool: pool["spec"]["workers"].update(targetRef=ref))
    await world.advance(30, rate=20)
    assert world.asked_for() == 5
    live = world.cluster.read(other)
    assert live is not None
    assert live["spec"]["replicas"] > 1
    assert world.condition("Ready") == ("True", Reason.AS_EXPECTED)


async def test_targets_that_come_and_go_are_no_rivals() -> None:
    world = PoolWorld(replicas=5)
    world.seed(make_deployment("other", 2))
    for name in ("mailer", "other", "mailer", "other", "mailer"):
        ref = {"apiVersion": "apps/v1", "kind": "Deployment", "name": name}
        world.cluster.edit(POOL, lambda pool, ref=ref: pool["spec"]["workers"].update(targetRef=ref))
        await world.advance(10, rate=20)
        assert world.condition("Ready") == ("True", Reason.AS_EXPECTED)


async def test_a_new_link_of_the_queue_gets_a_new_probe() -> None:
    world = PoolWorld()
    await world.advance(30)
    for login, opened in (("monitor", 1), ("queue", 2)):
        world.primary.roles[login] = MemoryRole("new", rights=world.primary.roles[login].rights)
        world.set_secret(f"store-{login}", username=login, password="new")
        await world.advance(60)
        assert len(world.probes.opened) == opened, "the guard's own login reads no queue"
        assert world.condition("SignalAvailable")[0] == "True"
    world.cluster.edit(POOL, lambda pool: pool["spec"]["queue"]["postgres"].update(queues=["mails", "news"]))
    await world.advance(10)
    assert [queue.queues for queue, _ in world.probes.opened][-1] == ("mails", "news")


async def test_a_calm_pool_emits_no_event() -> None:
    world = PoolWorld()
    await world.advance(120, rate=0.5)
    assert world.telemetry.reasons("mail") == []


async def test_a_little_backlog_that_comes_and_goes_is_not_written() -> None:
    world = PoolWorld()
    await world.advance(90, rate=0.5)
    writes = len(world.kube.writes)
    for step, backlog in enumerate((4, 1, 6, 2, 9, 1, 5, 0, 7)):
        told = world.probes.numbers
        count = 4 + step % 3
        world.queue(
            backlog=backlog,
            lag_seconds=0.1 * backlog,
            in_flight=backlog % 2,
            arrived=(told.arrived or 0) + count,
            ended=(told.ended or 0) + count,
        )
        await world.advance(10)
    assert len(world.kube.writes) <= writes + 1


async def test_blocked_items_are_said_and_scale_nothing() -> None:
    world = PoolWorld()
    world.queue(blocked=40, blocked_seconds=500.0)
    await world.advance(20)
    assert world.asked_for() == 2
    assert world.condition("KeepingUp") == ("True", Reason.BACKLOG_BLOCKED)
    assert "more workers cannot help" in world.message("KeepingUp")


@pytest.mark.parametrize(
    ("numbers", "reason"),
    [
        ({"phantoms": 3}, Reason.PHANTOM_IN_FLIGHT),
        ({"hides_completions": True, "arrived": None, "ended": None}, Reason.LEARNING_RATE),
        ({"in_flight": 9}, Reason.CONCURRENCY_MISMATCH),
    ],
)
async def test_what_is_odd_about_the_queue_is_said(numbers: dict[str, object], reason: Reason) -> None:
    world = PoolWorld({"objective": {"targetLag": "30s", "drainWithin": "5m"}})
    await world.advance(10)
    world.queue(**numbers)
    await world.advance(70)
    assert world.condition("SignalAvailable") == ("True", reason)


async def test_the_verdict_does_not_flutter_around_the_target() -> None:
    world = PoolWorld()
    await world.advance(10)
    for lag in (31.0, 29.0, 31.0, 29.0, 31.0):
        world.queue(lag_seconds=lag, backlog=5, late=1)
        await world.make_pass()
        assert world.condition("KeepingUp")[1] == Reason.LAG_ABOVE_TARGET
    world.queue(lag_seconds=20.0)
    await world.make_pass()
    assert world.condition("KeepingUp")[1] == Reason.LAG_WITHIN_TARGET


async def test_after_deletion_nothing_is_left_in_memory() -> None:
    world = PoolWorld()
    await world.advance(10)
    body = world.pool()
    assert await world.reconciler.teardown(body) is None
    assert world.asked_for() == 2
    assert world.telemetry.value(metrics.LAG, **LABELS) is None


async def test_the_time_from_a_due_sample_to_the_written_count_is_recorded() -> None:
    world = PoolWorld()
    await world.advance(10)
    world.queue(lag_seconds=100.0, backlog=3000, late=3000)
    await world.make_pass()
    (observed,) = world.telemetry.observations[metrics.DECISION_SECONDS.name, tuple(sorted(LABELS.items()))]
    assert observed < 1.0


@pytest.mark.parametrize("mode", ["Active", "DryRun", "Paused"])
async def test_what_is_accepted_and_not_acted_on_is_said_and_changes_no_verdict(mode: str) -> None:
    world = PoolWorld({"mode": mode, "databaseRole": "mailer", "shedding": {"maxDeferral": "5m"}})
    await world.advance(6, rate=1)
    reason = {"Active": Reason.AS_EXPECTED, "DryRun": Reason.DRY_RUN, "Paused": Reason.PAUSED}[mode]
    assert world.condition("Ready") == ("True", reason)
    said = "; accepted, but not acted on yet: shedding.maxDeferral"
    assert world.message("Ready").endswith(said)
    assert world.telemetry.reasons("mail").count(Reason.NOT_ACTED_ON) == 1
    world.cluster.edit(POOL, lambda pool: pool["spec"].update(maxWorkers=7))
    await world.advance(20, rate=1)
    assert world.telemetry.reasons("mail").count(Reason.NOT_ACTED_ON) == 2, "once for each generation"
