"""Bad input around a pool: each has a condition with its remedy, makes no double step, and leaves no bound."""

import math
import re
from datetime import timedelta
from typing import Any

import pytest

from headroom.errors import Conflict
from headroom.ports.kube import POD, ObjectRef
from headroom.reasons import Reason
from tests.manifests import NAMESPACE, make_deployment, make_pool
from tests.memory_world import LATE
from tests.unit.reconcilers.workerpool.world import POOL, TARGET, PoolWorld

MOST = 12


class BoundedWorld(PoolWorld):
    """Follows each count that is written to the Deployment."""

    def __init__(self, spec: dict[str, Any] | None = None, **parts: Any) -> None:
        super().__init__({"maxWorkers": MOST, **(spec or {})}, **parts)
        self.counts = [self.asked_for()]
        self.kube.store.listeners.append(self._hear)

    def _hear(self, change: str, item: dict[str, Any]) -> None:
        if item["kind"] == TARGET.kind.name and item["metadata"]["name"] == TARGET.name and change == "MODIFIED":
            count = item["spec"]["replicas"]
            if count != self.counts[-1]:
                self.counts.append(count)

    def check_steps(self) -> None:
        """Every count is within the bounds; none more than doubles the count before, or adds more than four to it."""
        assert all(1 <= count <= MOST for count in self.counts), self.counts
        for before, after in zip(self.counts, self.counts[1:], strict=False):
            assert after <= max(2 * before, before + 4), self.counts

    def stop(self, status: dict[str, Any]) -> None:
        """Pods that are not ready report this status."""
        for pod in self.children(POD):
            if pod.get("status", {}).get("phase") != "Running":
                self.cluster.set_status(ObjectRef(POD, NAMESPACE, pod["metadata"]["name"]), status)


async def test_workers_that_never_become_ready_are_named_with_what_to_do() -> None:
    world = BoundedWorld()
    await world.advance(10)
    world.deployments.start_seconds = 1e6
    world.queue(**LATE)
    await world.advance(200)
    assert world.condition("KeepingUp") == ("False", Reason.WORKERS_NOT_STARTING)
    assert world.condition("Ready") == ("True", Reason.WORKERS_NOT_STARTING)
    message = world.message("KeepingUp")
    assert message.startswith(f"2 of {world.asked_for()} workers are ready; pod mailer-")
    assert message.endswith("; see kubectl describe pod -l app=mailer -n shop")
    world.check_steps()


async def test_an_image_that_does_not_exist_gets_no_end_and_a_way_back() -> None:
    """The remedy can be pasted; how long the backlog lasts is computed from the workers that run."""
    world = BoundedWorld()
    await world.advance(10, rate=2)
    world.deployments.start_seconds = 1e6
    world.queue(lag_seconds=100.0, backlog=600, late=600, in_flight=2)
    waiting = {"reason": "ErrImagePull", "message": "localhost/worker:2.7"}
    for _ in range(20):
        await world.advance(1)
        world.stop({"phase": "Pending", "containerStatuses": [{"state": {"waiting": waiting}}]})
    assert world.condition("KeepingUp") == ("False", Reason.WORKERS_NOT_STARTING)
    assert "ErrImagePull localhost/worker:2.7" in world.message("KeepingUp")
    assert "kubectl rollout undo deployment/mailer -n shop" in world.message("KeepingUp")
    queue = world.status()["queue"]
    spare = world.running() * queue["completionsPerWorkerPerSecond"] - queue["arrivalsPerSecond"]
    assert world.running() < world.asked_for()
    assert queue.get("drainSeconds", math.inf) >= 0.7 * 600 / max(spare, 0.01), (
        "workers that do not start drain nothing"
    )


async def test_workers_that_crash_after_each_job_are_named() -> None:
    world = BoundedWorld()
    await world.advance(10)
    world.queue(**LATE)
    waiting = {"reason": "CrashLoopBackOff", "message": "back-off 40s restarting failed container"}
    status = {"containerStatuses": [{"restartCount": 3, "state": {"waiting": waiting}}], "conditions": []}
    for _ in range(6):
        for name in world.names(POD):
            world.cluster.set_status(ObjectRef(POD, NAMESPACE, name), status)
        world.cluster.set_status(TARGET, {"readyReplicas": 0})
        await world.advance(5)
    assert world.condition("KeepingUp") == ("False", Reason.WORKERS_NOT_STARTING)
    assert "CrashLoopBackOff back-off 40s restarting failed container" in world.message("KeepingUp")
    assert world.message("KeepingUp").endswith("kubectl logs -l app=mailer -n shop --previous and correct the worker")
    world.check_steps()


async def hang(world: BoundedWorld, seconds: int) -> None:
    """All workers take a job, and none of these ends; two a second arrive."""
    began = world.probes.numbers
    for second in range(0, seconds, 5):
        waiting = began.backlog + 2 * (second + 5)
        numbers = {"backlog": waiting, "late": max(0, waiting - 60), "arrived": (began.arrived or 0) + 2 * (second + 5)}
        world.queue(lag_seconds=began.lag_seconds + second + 5.0, in_flight=world.running(), **numbers)
        await world.advance(5)


@pytest.mark.long
async def test_workers_that_hang_are_named_and_a_restart_is_the_remedy() -> None:
    world = BoundedWorld()
    await world.advance(60, rate=2)
    await hang(world, 50)
    assert world.condition("KeepingUp")[1] != Reason.JOBS_NOT_ENDING, "a failover takes as long"
    await hang(world, 750)
    assert world.condition("KeepingUp") == ("False", Reason.JOBS_NOT_ENDING)
    assert world.condition("Ready") == ("True", Reason.JOBS_NOT_ENDING)
    assert world.status()["reason"] == Reason.JOBS_NOT_ENDING
    logs, restart = "kubectl logs -l app=mailer -n shop", "kubectl rollout restart deployment/mailer -n shop"
    remedy = re.compile(rf"; {MOST} jobs are in flight, and none has ended for 1\d min \(one took (.+)\): (.+)$")
    found = remedy.search(world.message("KeepingUp"))
    assert found is not None, world.message("KeepingUp")
    assert found[2] == f"see what they wait for with {logs}, then {restart}"
    assert "terminationGracePeriodSeconds" not in world.message("Ready"), "jobs that hang tell no length"
    world.check_steps()
    world.restart()
    await hang(world, 90)
    assert world.condition("KeepingUp") == ("False", Reason.JOBS_NOT_ENDING), "another leader names them too"
    await world.advance(30, rate=2, service_rate=2)
    assert world.condition("KeepingUp")[1] != Reason.JOBS_NOT_ENDING


async def test_a_table_that_grows_by_ten_thousand_rows_a_second_is_bounded_by_the_spec() -> None:
    world = BoundedWorld()
    await world.advance(10)
    rows = 0
    for second in range(90):
        rows += 10_000
        is_truncated = rows > 50_000
        world.queue(
            lag_seconds=float(second),
            backlog=min(rows, 50_001),
            late=min(max(0, rows - 300_000), 50_001),
            is_truncated=is_truncated,
            arrived=rows,
            in_flight=world.running(),
        )
        await world.advance(1)
    assert world.asked_for() == MOST
    assert world.condition("ScalingLimited") == ("True", Reason.AT_MAXIMUM)
    assert world.condition("KeepingUp") == ("False", Reason.CANNOT_MEET_DEADLINE)
    assert "50,001 items or more wait" in world.message("KeepingUp")
    world.check_steps()


@pytest.mark.parametrize("hours", [1, -1])
async def test_a_clock_that_jumps_by_an_hour_moves_no_count(hours: int) -> None:
    """Of the operator's node; the ages of items come from the database, and spans of time from the monotonic clock."""
    world = BoundedWorld(replicas=4)
    await world.advance(100, rate=3)
    before = world.asked_for()
    world.clock.jump(timedelta(hours=hours))
    await world.advance(60, rate=3)
    assert world.asked_for() == before
    assert world.condition("Ready") == ("True", Reason.AS_EXPECTED)
    assert world.condition("KeepingUp") == ("True", Reason.LAG_WITHIN_TARGET)


async def test_a_conflict_on_every_second_write_makes_the_same_steps() -> None:
    calm = BoundedWorld()
    await calm.advance(10)
    calm.queue(**LATE)
    await calm.advance(60)
    world = BoundedWorld()
    await world.advance(10)
    for nth in range(1, 100, 2):
        world.kube.faults.fail(Conflict("changed since it was read (HTTP 409)"), verb="set_scale", nth=nth)
    world.queue(**LATE)
    await world.advance(60)
    assert world.conflicts > 0
    assert world.counts == calm.counts
    assert world.condition("Ready") == ("True", Reason.AS_EXPECTED)


async def test_a_rolling_update_in_the_middle_of_a_step_makes_no_second_one() -> None:
    """All pods are replaced, one more at a time than asked for, while four workers are starting."""
    calm = BoundedWorld()
    await calm.advance(10)
    calm.queue(**LATE)
    await calm.advance(40)
    world = BoundedWorld()
    await world.advance(10)
    world.queue(**LATE)
    await world.advance(2)
    world.cluster.edit(TARGET, lambda item: item["spec"].update(template={"metadata": {"labels": {"version": "2"}}}))
    for pod in world.names(POD):
        if pod in world.names(POD):
            world.cluster.set_status(TARGET, {"replicas": world.asked_for() + 1, "updatedReplicas": 1})
            world.cluster.remove(ObjectRef(POD, NAMESPACE, pod))
            await world.advance(2)
    await world.advance(30)
    assert world.counts == calm.counts
    world.check_steps()


async def test_a_pool_made_again_under_its_name_keeps_the_count_and_begins_without_a_past() -> None:
    world = BoundedWorld(replicas=6)
    await world.advance(30, rate=5)
    before, old = world.asked_for(), world.pool()
    assert await world.reconciler.teardown(old) is None
    world.cluster.remove(POOL)
    assert world.asked_for() == before
    world.cluster.seed(make_pool(POOL.name, TARGET.name, maxWorkers=MOST))
    assert world.pool()["metadata"]["uid"] != old["metadata"]["uid"]
    await world.advance(30, rate=5)
    assert world.condition("Ready") == ("True", Reason.AS_EXPECTED)
    assert world.asked_for() == before
    assert world.telemetry.reasons("mail").count(Reason.TARGET_CONFLICT) == 0
    world.check_steps()


async def test_two_pools_of_one_name_in_a_row_never_act_at_once() -> None:
    """The old object's pass is under way when the new object is there: what it decided is not written."""
    world = BoundedWorld()
    await world.advance(20, rate=1)
    old = world.pool()
    world.cluster.remove(POOL)
    world.cluster.seed(make_pool(POOL.name, TARGET.name, maxWorkers=MOST))
    world.queue(**LATE)
    with pytest.raises(Conflict):
        await world.reconciler.reconcile(old)
    assert world.counts == [2]
    await world.advance(5)
    world.check_steps()
    assert world.asked_for() > 2


async def test_a_target_that_was_renamed_is_named_and_followed_once_the_spec_is() -> None:
    world = BoundedWorld(replicas=3)
    await world.advance(20, rate=2)
    world.cluster.remove(TARGET)
    world.seed(make_deployment("post", 3))
    world.queue(**LATE)
    await world.advance(20)
    assert world.condition("Ready") == ("False", Reason.TARGET_NOT_FOUND)
    assert world.message("Ready").endswith("create it or correct spec.workers.targetRef")
    renamed = ObjectRef(TARGET.kind, NAMESPACE, "post")
    assert world.read(renamed)["spec"]["replicas"] == 3
    ref = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "post"}
    world.cluster.edit(POOL, lambda pool: pool["spec"]["workers"].update(targetRef=ref))
    await world.advance(30)
    assert world.condition("Ready") == ("True", Reason.AS_EXPECTED)
    assert 3 < world.read(renamed)["spec"]["replicas"] <= MOST


async def test_without_a_target_any_more_the_count_stays() -> None:
    """`targetRef` goes, as when a manifest without it is applied: the workload is left as it is."""
    world = BoundedWorld(replicas=5)
    await world.advance(20, rate=2)
    before = world.asked_for()
    workers = {"suspendRef": {"apiVersion": "batch/v1", "kind": "CronJob", "name": "nightly"}}
    world.cluster.edit(POOL, lambda pool: pool["spec"].update(workers=workers))
    world.queue(**LATE)
    await world.advance(60)
    assert world.asked_for() == before
    assert world.condition("Ready")[0] == "True"
