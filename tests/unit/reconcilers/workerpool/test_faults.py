"""What goes wrong around a pool's workers: each has a condition with its remedy, and it comes back."""

from collections.abc import Callable

import pytest

from headroom.errors import Conflict, KubeUnavailable, Refused
from headroom.ports.kube import POD
from headroom.reasons import Reason
from tests.manifests import make
from tests.memory_world import LATE
from tests.unit.reconcilers.workerpool.world import POOL, TARGET, PoolWorld


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
    world.cluster.seed(make(TARGET.kind, "mailer", spec=old["spec"]))
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
    assert world.asked_for() == 6


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
    with pytest.raises(Conflict, match="has been edited since the decision"):
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
        world.deployments.play()
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
    assert world.asked_for() == 6


async def test_workers_that_do_not_start_are_named() -> None:
    world = PoolWorld()
    await world.advance(10)
    world.deployments.start_seconds = 10_000
    world.queue(**LATE)
    await world.make_pass()
    world.deployments.play()
    stuck = next(ref for ref in world.kube.store.entries if ref.kind == POD and ref.name == "mailer-3")
    waiting = {"reason": "ImagePullBackOff", "message": "back-off pulling image"}
    world.cluster.set_status(stuck, {"phase": "Pending", "containerStatuses": [{"state": {"waiting": waiting}}]})
    await world.advance(20)
    assert world.condition("KeepingUp") == ("False", Reason.WORKERS_NOT_STARTING)
    assert "ImagePullBackOff" in world.message("KeepingUp")


async def test_the_connections_of_the_database_are_a_ceiling() -> None:
    world = PoolWorld(spec={"connectionsPerWorker": 2, "maxWorkers": 40})
    world.set_budget(40)
    world.occupy_budget(15)
    world.queue(**LATE)
    await world.advance(60)
    assert world.asked_for() == 12
    assert world.condition("ScalingLimited") == ("True", Reason.CONNECTION_BUDGET)
    assert "40 connections for workers; other pools hold 15" in world.message("ScalingLimited")
