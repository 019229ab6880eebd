"""What goes wrong around a pool: each has a condition with its remedy, nothing is written, and it comes back."""

from collections.abc import Callable
from typing import Any

import pytest

from headroom.errors import (
    Conflict,
    HeadroomError,
    InvalidSpec,
    KubeUnavailable,
    PrimaryUnavailable,
    Refused,
    SignalUnavailable,
)
from headroom.ports.kube import DATABASE_GUARD, HORIZONTAL_POD_AUTOSCALER, POD, ObjectRef
from headroom.reasons import Reason
from headroom.reconcilers.workerpool import metrics
from tests.unit.reconcilers.workerpool.world import (
    NAMESPACE,
    POOL,
    TARGET,
    PoolWorld,
    make_autoscaler,
    make_object,
    make_pool,
)

LATE = {"lag_seconds": 100.0, "backlog": 6000, "late": 6000}


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (SignalUnavailable("no table", reason=Reason.QUEUE_NOT_FOUND), Reason.QUEUE_NOT_FOUND),
        (SignalUnavailable("no right", reason=Reason.MISSING_RIGHT), Reason.MISSING_RIGHT),
        (SignalUnavailable("two rows", reason=Reason.QUERY_MANY_ROWS), Reason.QUERY_MANY_ROWS),
        (SignalUnavailable("no row", reason=Reason.QUERY_NO_ROW), Reason.QUERY_NO_ROW),
        (SignalUnavailable("slow", reason=Reason.QUERY_TIMEOUT), Reason.QUERY_TIMEOUT),
        (PrimaryUnavailable("gone", reason=Reason.PRIMARY_UNREACHABLE), Reason.PRIMARY_UNREACHABLE),
        (Refused("no right", reason=Reason.MISSING_RIGHT), Reason.MISSING_RIGHT),
        (
            InvalidSpec("queue.postgres.preset", "river is not supported yet", "use x"),
            Reason.UNSUPPORTED_VALUE,
        ),
    ],
)
async def test_an_unknown_queue_holds_the_workers_and_comes_back(error: HeadroomError, reason: Reason) -> None:
    world = PoolWorld(replicas=5)
    await world.advance(20, rate=1)
    world.probes.error = error
    world.queue(**LATE)
    await world.advance(400)
    assert world.asked_for() == 5
    assert world.condition("SignalAvailable") == ("False", reason)
    assert world.message("SignalAvailable") == str(error)
    assert world.condition("KeepingUp") == ("Unknown", reason)
    assert world.condition("Ready") == ("False", reason)
    assert world.message("Ready") == f"the queue cannot be read now, and nothing is scaled until it can: {error}"
    assert world.condition("ScalingLimited") == ("Unknown", Reason.STALE_SIGNAL)
    assert world.status()["lastDecision"]["limit"] == "StaleSignal"
    assert set(world.status()["queue"]) == {"measuredAt"}, "numbers that nobody measured are not shown"
    assert Reason.STALE_SIGNAL not in world.telemetry.reasons("mail")
    assert world.telemetry.reasons("mail").count(reason) == 1, "SignalAvailable says it once"
    failures = world.telemetry.value(metrics.PROBE_FAILURES, namespace=NAMESPACE, name="mail", reason=str(reason))
    assert failures is not None
    world.probes.error = None
    await world.make_pass()
    assert world.condition("SignalAvailable") == ("True", Reason.AS_EXPECTED)
    assert world.condition("Ready") == ("True", Reason.AS_EXPECTED)
    assert world.status()["queue"]["lagSeconds"] == 100.0
    assert world.asked_for() > 5


@pytest.mark.parametrize("mode", ["Active", "DryRun", "Paused"])
async def test_a_moment_without_an_answer_takes_no_ready_away_and_more_does_in_every_mode(mode: str) -> None:
    world = PoolWorld(spec={"mode": mode})
    await world.advance(20, rate=1)
    world.probes.error = SignalUnavailable("slow", reason=Reason.QUERY_TIMEOUT)
    await world.advance(6)
    assert world.condition("Ready") == ("True", Reason.STALE_SIGNAL)
    await world.advance(10)
    assert world.condition("Ready") == ("False", Reason.QUERY_TIMEOUT)
    world.probes.error = None
    await world.make_pass()
    assert world.condition("Ready")[0] == "True"
    world.probes.error = SignalUnavailable("slow", reason=Reason.QUERY_TIMEOUT)
    await world.make_pass()
    assert world.condition("Ready") == ("True", Reason.STALE_SIGNAL), "the count begins anew"


async def test_a_guard_gets_some_seconds_before_it_is_said_aloud() -> None:
    world = PoolWorld()
    world.board.remove(NAMESPACE, "store")
    await world.make_pass()
    assert world.condition("Ready") == ("False", Reason.GUARD_NOT_READY)
    assert world.condition("SignalAvailable") == ("Unknown", Reason.GUARD_NOT_READY)
    await world.advance(5)
    assert world.telemetry.events == []
    await world.advance(10)
    assert world.condition("SignalAvailable") == ("False", Reason.GUARD_NOT_READY)
    assert world.telemetry.reasons("mail") == [Reason.GUARD_NOT_READY]
    world.post_guard()
    await world.advance(5)
    assert world.condition("Ready")[0] == "True"


async def test_a_new_process_keeps_a_ready_pool_ready_until_its_guard_was_looked_at() -> None:
    world = PoolWorld()
    await world.advance(20, rate=1)
    world.restart()
    world.board.remove(NAMESPACE, "store")
    await world.make_pass()
    assert world.condition("Ready") == ("True", Reason.STALE_SIGNAL)
    await world.advance(15)
    assert world.condition("Ready") == ("False", Reason.GUARD_NOT_READY)


async def test_a_blind_pool_has_no_figures_of_its_queue_and_keeps_those_of_its_workers() -> None:
    labels = {"namespace": NAMESPACE, "name": "mail"}
    world = PoolWorld(replicas=5)
    await world.advance(60, rate=4)
    assert all(world.telemetry.value(metric, **labels) is not None for metric in metrics.OF_QUEUE)
    world.probes.error = SignalUnavailable("slow", reason=Reason.QUERY_TIMEOUT)
    await world.advance(10)
    assert [metric.name for metric in metrics.OF_QUEUE if world.telemetry.value(metric, **labels) is not None] == []
    assert world.telemetry.value(metrics.SIGNAL, **labels) == 0
    for state in ("present", "allowed", "ready"):
        assert world.telemetry.value(metrics.WORKERS, state=state, **labels) == world.asked_for()
    probes = world.telemetry.observations[metrics.PROBE_SECONDS.name, tuple(sorted(labels.items()))]
    assert len(probes) >= 14, "counts go on"
    world.probes.error = None
    await world.advance(10, rate=4)
    assert all(world.telemetry.value(metric, **labels) is not None for metric in metrics.OF_QUEUE)


async def test_a_number_the_source_stops_telling_is_gone() -> None:
    world = PoolWorld()
    await world.advance(20, rate=1)
    assert world.telemetry.value(metrics.IN_FLIGHT, namespace=NAMESPACE, name="mail") is not None
    world.queue(in_flight=None)
    await world.make_pass()
    assert world.telemetry.value(metrics.IN_FLIGHT, namespace=NAMESPACE, name="mail") is None
    assert world.telemetry.value(metrics.BACKLOG, namespace=NAMESPACE, name="mail") is not None


async def test_a_passing_fault_before_the_first_answer_is_not_ready() -> None:
    world = PoolWorld()
    world.probes.error = SignalUnavailable("slow", reason=Reason.QUERY_TIMEOUT)
    await world.make_pass()
    assert world.condition("Ready") == ("False", Reason.QUERY_TIMEOUT)


async def test_without_a_sample_even_the_bounds_wait() -> None:
    world = PoolWorld(replicas=0, spec={"minWorkers": 3})
    world.probes.error = SignalUnavailable("slow", reason=Reason.QUERY_TIMEOUT)
    await world.advance(20)
    assert world.asked_for() == 0
    world.probes.error = None
    await world.make_pass()
    assert world.asked_for() == 3


async def test_a_guard_that_is_not_there_or_not_ready_is_named() -> None:
    world = PoolWorld()
    world.post_guard(is_ready=False)
    await world.advance(15)
    assert world.condition("SignalAvailable") == ("False", Reason.GUARD_NOT_READY)
    assert "dbg/store cannot use its server: the password is wrong" in world.message("SignalAvailable")
    world.cluster.delete(ObjectRef(DATABASE_GUARD, NAMESPACE, "store"))
    await world.advance(15)
    assert world.condition("Ready") == ("False", Reason.GUARD_NOT_FOUND)
    assert "create it or correct spec.databaseRef" in world.message("Ready")
    world.cluster.seed(make_object(DATABASE_GUARD, "store", spec={}))
    world.post_guard()
    await world.advance(15)
    assert world.condition("Ready") == ("True", Reason.AS_EXPECTED)


async def test_a_missing_target_is_named_and_found_when_it_comes() -> None:
    world = PoolWorld()
    await world.advance(10)
    old = world.cluster.read(TARGET)
    assert old is not None
    world.cluster.delete(TARGET)
    world.queue(**LATE)
    await world.advance(10)
    assert world.condition("Ready") == ("False", Reason.TARGET_NOT_FOUND)
    assert "create it or correct spec.workers.targetRef" in world.message("Ready")
    assert world.condition("SignalAvailable")[0] == "True"
    assert world.status()["queue"]["lagSeconds"] == 100.0
    world.cluster.seed(make_object(TARGET.kind, "mailer", spec=old["spec"]))
    await world.advance(10)
    assert world.condition("Ready")[0] == "True"
    assert world.asked_for() > 2


@pytest.mark.parametrize(
    ("ref", "reason", "words"),
    [
        ({"apiVersion": "apps/v2", "kind": "Deployment", "name": "mailer"}, Reason.TARGET_NOT_FOUND, "knows no kind"),
        ({"apiVersion": "batch/v1", "kind": "CronJob", "name": "mailer"}, Reason.TARGET_NOT_SCALABLE, "no scale"),
    ],
)
async def test_a_target_that_cannot_be_scaled_is_named(ref: dict[str, str], reason: Reason, words: str) -> None:
    world = PoolWorld()
    world.cluster.edit(POOL, lambda pool: pool["spec"]["workers"].update(targetRef=ref))
    await world.make_pass()
    assert world.condition("Ready") == ("False", reason)
    assert words in world.message("Ready")


@pytest.mark.parametrize("verb", ["get_scale", "set_scale"])
async def test_a_missing_right_says_the_rule_to_paste(verb: str) -> None:
    world = PoolWorld()
    await world.advance(10)
    world.queue(**LATE)
    refusal = Refused('deployments/scale is forbidden; apply: {"kind": "ClusterRole"}', reason=Reason.TARGET_FORBIDDEN)
    world.kube.faults.fail(refusal, verb=verb, times=3)
    await world.make_pass()
    assert world.condition("Ready") == ("False", Reason.TARGET_FORBIDDEN)
    assert "ClusterRole" in world.message("Ready")
    await world.advance(20)
    assert world.condition("Ready")[0] == "True"
    assert world.asked_for() > 2


async def test_a_write_conflict_is_a_new_pass() -> None:
    world = PoolWorld()
    await world.advance(10)
    world.queue(**LATE)
    world.kube.faults.fail(Conflict("somebody was first"), verb="set_scale")
    await world.make_pass()
    assert world.conflicts == 1
    assert world.asked_for() == 4


@pytest.mark.parametrize(
    "change",
    [
        lambda world: world.cluster.edit(POOL, lambda pool: pool["spec"].update(mode="Paused")),
        lambda world: world.cluster.edit(POOL, lambda pool: pool["spec"].update(maxWorkers=2)),
        lambda world: world.cluster.remove(POOL),
    ],
    ids=["paused", "lowered", "gone"],
)
async def test_a_watch_that_is_behind_scales_nothing(change: Callable[[PoolWorld], object]) -> None:
    world = PoolWorld(replicas=2)
    await world.advance(20, rate=1)
    seen = world.pool()
    change(world)
    before = world.scale_writes()
    world.queue(**LATE)
    with pytest.raises(Conflict, match="edited meanwhile"):
        await world.reconciler.reconcile(seen)
    assert world.scale_writes() == before
    assert world.asked_for() == 2


async def test_a_lost_answer_to_a_write_is_no_foreign_write() -> None:
    world = PoolWorld()
    await world.advance(10)
    world.queue(**LATE)
    for _ in range(3):
        world.kube.faults.lose_response(verb="set_scale")
        with pytest.raises(KubeUnavailable):
            await world.make_pass()
        await world.clock.advance(4)
        world.roll_out()
    await world.advance(5)
    assert world.condition("Ready") == ("True", Reason.AS_EXPECTED)
    assert world.asked_for() > 8


async def test_an_api_server_that_is_busy_ends_the_pass_and_nothing_else() -> None:
    world = PoolWorld()
    await world.advance(10)
    world.queue(**LATE)
    world.kube.faults.fail(KubeUnavailable("429", reason=Reason.KUBE_UNAVAILABLE), verb="get_scale")
    with pytest.raises(KubeUnavailable):
        await world.make_pass()
    await world.make_pass()
    assert world.asked_for() == 4


async def test_an_autoscaler_on_the_target_wins_until_it_is_gone() -> None:
    world = PoolWorld()
    owner = {"apiVersion": "keda.sh/v1alpha1", "kind": "ScaledObject", "name": "mailer", "uid": "x", "controller": True}
    world.cluster.seed(make_autoscaler(ownerReferences=[owner]))
    world.queue(**LATE)
    await world.advance(30)
    assert world.asked_for() == 2
    assert world.condition("Ready") == ("False", Reason.TARGET_CONFLICT)
    assert "the ScaledObject mailer scales deployment/mailer too" in world.message("Ready")
    assert world.status()["lastDecision"]["limit"] == "TargetConflict"
    world.cluster.remove(ObjectRef(HORIZONTAL_POD_AUTOSCALER, NAMESPACE, "mailer-hpa"))
    await world.advance(15)
    assert world.condition("Ready")[0] == "True"
    assert world.asked_for() > 2


async def test_of_two_pools_on_one_target_the_younger_stands_back() -> None:
    world = PoolWorld()
    await world.clock.advance(60)
    world.cluster.seed(make_pool("younger"))
    world.queue(**LATE)
    younger = ObjectRef(POOL.kind, NAMESPACE, "younger")
    for _ in range(3):
        body = world.cluster.read(younger)
        assert body is not None
        try:
            await world.reconciler.reconcile(body)
        except Conflict:
            continue
    assert world.scale_writes() == 0
    live = world.cluster.read(younger)
    assert live is not None
    ready = next(entry for entry in live["status"]["conditions"] if entry["type"] == "Ready")
    assert ready["reason"] == Reason.TARGET_CONFLICT
    assert "the older WorkerPool mail" in ready["message"]
    await world.make_pass()
    assert world.condition("Ready")[0] == "True"
    older = ObjectRef(POOL.kind, NAMESPACE, "mail")
    world.cluster.edit(older, lambda pool: pool["metadata"].update(finalizers=["headroom.dev/finalizer"]))
    world.cluster.delete(older)
    await world.clock.advance(15)
    body = world.cluster.read(younger)
    assert body is not None
    await world.reconciler.reconcile(body)
    live = world.cluster.read(younger)
    assert live is not None
    ready = next(entry for entry in live["status"]["conditions"] if entry["type"] == "Ready")
    assert ready["status"] == "True", "a pool that is being deleted claims nothing any more"


async def test_a_person_may_change_the_count_once_and_a_rival_makes_us_hold() -> None:
    world = PoolWorld()
    await world.advance(10)
    world.queue(**LATE)
    await world.advance(5)
    world.scale_by_hand(1)
    await world.advance(5)
    assert world.asked_for() > 1
    assert world.condition("Ready")[0] == "True"
    world.scale_by_hand(1)
    await world.advance(300)
    assert world.asked_for() == 1
    assert world.condition("Ready") == ("False", Reason.TARGET_CONFLICT)
    assert "remove `replicas` from the manifest in Git" in world.message("Ready")
    held_until = world.status()["scaling"]["heldUntil"]
    assert f"held until {held_until[11:19]} UTC" in world.message("Ready")
    assert "1 present, left alone: something else set" in world.message("Ready")
    world.restart()
    await world.advance(200)
    assert world.asked_for() == 1, "a new process keeps the promise"
    await world.advance(150)
    assert world.asked_for() > 1


async def test_a_paused_pool_lets_a_person_scale_by_hand_and_then_goes_on() -> None:
    world = PoolWorld()
    await world.advance(10)
    world.queue(**LATE)
    for _ in range(2):
        await world.advance(5)
        world.scale_by_hand(1)
    await world.advance(5)
    assert world.condition("Ready") == ("False", Reason.TARGET_CONFLICT)
    world.cluster.edit(POOL, lambda pool: pool["spec"].update(mode="Paused"))
    for count in (7, 3):
        world.scale_by_hand(count)
        await world.advance(10)
        assert world.asked_for() == count
    assert world.condition("Ready") == ("True", Reason.PAUSED)
    world.cluster.edit(POOL, lambda pool: pool["spec"].update(mode="Active"))
    await world.advance(10)
    assert world.condition("Ready")[0] == "True"
    assert world.asked_for() > 3


async def test_workers_that_do_not_start_are_named() -> None:
    world = PoolWorld()
    await world.advance(10)
    world.start_seconds = 10_000
    world.queue(**LATE)
    await world.make_pass()
    world.roll_out()
    stuck = next(ref for ref in world.kube.store.entries if ref.kind == POD and ref.name == "mailer-3")
    waiting = {"reason": "ImagePullBackOff", "message": "back-off pulling image"}
    world.cluster.set_status(stuck, {"phase": "Pending", "containerStatuses": [{"state": {"waiting": waiting}}]})
    await world.advance(20)
    assert world.condition("KeepingUp") == ("False", Reason.WORKERS_NOT_STARTING)
    assert "ImagePullBackOff" in world.message("KeepingUp")


async def test_the_connections_of_the_database_are_a_ceiling() -> None:
    spec = {"connectionsPerWorker": 2, "maxWorkers": 40}
    world = PoolWorld(spec=spec)
    world.cluster.seed(make_pool("other", connectionsPerWorker=3, workers=other_workers()))
    world.cluster.set_status(ObjectRef(POOL.kind, NAMESPACE, "other"), {"workers": 4, "desiredWorkers": 5})
    world.cluster.edit(
        ObjectRef(DATABASE_GUARD, NAMESPACE, "store"),
        lambda guard: guard.update(spec={"connections": {"workerSharePercent": 50, "reserve": 17}}),
    )
    world.post_guard(used=30, limit=97)
    world.queue(**LATE)
    await world.advance(60)
    assert world.asked_for() == 12  # half of 80, less 15 of the other pool, is 25 connections of two each
    assert world.condition("ScalingLimited") == ("True", Reason.CONNECTION_BUDGET)
    assert "40 connections for workers, other pools hold 15" in world.message("ScalingLimited")


def other_workers() -> dict[str, Any]:
    return {"targetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "other"}}


CONNECTION = {
    "host": "jobs",
    "database": "store",
    "tls": {"mode": "disable"},
    "credentialsSecretRef": {"name": "jobs-login"},
}
CUSTOM: dict[str, Any] = {
    "type": "Postgres",
    "claims": "Exclusive",
    "postgres": {"custom": {"lagQuery": "SELECT 1", "backlogQuery": "SELECT 1"}, "connection": CONNECTION},
}


async def test_a_queue_with_its_own_login_names_what_its_secret_lacks() -> None:
    world = PoolWorld(spec={"queue": CUSTOM})
    world.postgres.servers[world.postgres.servers.popitem()[0]] = world.server
    world.server.host = "jobs.shop.svc"
    world.postgres.add(world.server)
    await world.make_pass()
    assert world.condition("Ready") == ("False", Reason.SECRET_NOT_FOUND)
    assert "create it in namespace shop" in world.message("Ready")
    world.set_secret("jobs-login", username="jobs", password="wrong")
    await world.advance(6)
    assert world.condition("Ready") == ("False", Reason.PASSWORD_REJECTED)
    opened = world.postgres.opened.count("queue")
    await world.advance(20)
    assert world.postgres.opened.count("queue") <= opened + 3, "a wrong password is not tried every five seconds"
    world.set_secret("jobs-login", username="jobs", password="secret")
    await world.advance(15)
    assert world.condition("Ready") == ("True", Reason.AS_EXPECTED)
    assert len(world.probes.opened) == 1
    await world.advance(60)
    assert len(world.probes.opened) == 1, "one link and one probe for as long as nothing changes"
