"""A count that is lowered takes the idle workers: their pods are marked before, and no job in hand is cut."""

import pytest

from headroom.errors import Conflict, KubeUnavailable, Refused
from headroom.policy.workerpool.victims import DELETION_COST, IDLE_COST
from headroom.ports.kube import POD, ObjectRef
from headroom.reasons import Reason
from tests.manifests import NAMESPACE
from tests.unit.reconcilers.workerpool.busy import BusyWorld
from tests.unit.reconcilers.workerpool.world import POOL


async def test_ten_workers_of_long_jobs_become_three_and_no_job_is_cut() -> None:
    """The step that the queue asks for takes seven workers; each that held a job is there at the end."""
    world = BusyWorld(grace=30, minWorkers=3)
    await world.advance(240)
    assert world.asked_for() == 3
    assert world.alive() == world.busy
    assert world.condition("Ready") == ("True", Reason.GRACE_TOO_SHORT)
    assert "terminationGracePeriodSeconds of the workers to 70 or more" in world.message("Ready")


async def test_a_short_grace_period_holds_all_where_no_worker_can_be_told_from_another() -> None:
    world = BusyWorld(grace=30, knows_workers=False, minWorkers=3)
    await world.advance(240)
    assert world.asked_for() == 10
    assert world.busy < world.alive()
    decision = world.status()["lastDecision"]
    assert decision["reason"] == Reason.GRACE_TOO_SHORT
    assert "limit" not in decision
    assert world.telemetry.reasons("mail").count(Reason.GRACE_TOO_SHORT) == 1


async def test_a_long_grace_period_lets_the_controller_choose() -> None:
    world = BusyWorld(grace=90, knows_workers=False, minWorkers=3)
    await world.advance(240)
    assert world.asked_for() == 3
    assert world.condition("Ready") == ("True", Reason.AS_EXPECTED)
    assert world.costs() == {}


async def test_where_no_worker_can_be_told_from_another_the_youngest_go() -> None:
    """The pods' age is the order of Kubernetes itself, so that no mark is needed for it."""
    world = BusyWorld(grace=90, knows_workers=False, minWorkers=3)
    oldest = world.pods[:3]
    for _ in range(48):
        await world.advance(5)
        assert world.costs() == {}
    assert world.asked_for() == 3
    assert world.alive() == set(oldest)


async def test_a_lowered_maximum_takes_the_idle_workers_only() -> None:
    world = BusyWorld(grace=30, behavior={})
    await world.advance(20)
    world.hold(set(world.pods[-6:]))
    world.cluster.edit(POOL, lambda pool: pool["spec"].update(maxWorkers=2))
    await world.advance(60)
    assert world.alive() == world.busy
    assert world.asked_for() == 6
    assert world.condition("ScalingLimited")[0] == "False"
    world.hold(set(world.pods[-1:]))
    await world.advance(30)
    assert world.asked_for() <= 2
    assert world.alive() >= world.busy


async def test_a_mark_goes_when_its_worker_takes_a_job() -> None:
    world = BusyWorld(grace=30, minWorkers=3)
    world.kube.faults.fail(Refused("no right", reason=Reason.TARGET_FORBIDDEN), verb="set_scale", times=1000)
    await world.advance(90)
    first = world.costs()
    assert set(first.values()) == {IDLE_COST}, "the step was refused, and is tried again in each pass"
    assert world.asked_for() == 10
    world.kube.faults.clear()
    world.hold(world.busy | set(list(first)[:2]))
    await world.advance(240)
    assert world.alive() >= world.busy
    assert world.costs() == {}


async def test_marks_that_are_refused_stop_nothing() -> None:
    world = BusyWorld(grace=90, minWorkers=3)
    world.kube.faults.fail(Refused("pods is forbidden", reason=Reason.FORBIDDEN), verb="patch", kind=POD, times=1000)
    await world.advance(240)
    assert world.asked_for() == 3


async def test_a_pod_that_changes_meanwhile_is_left_alone() -> None:
    world = BusyWorld(grace=90, minWorkers=3)
    world.kube.faults.fail(Conflict("changed"), verb="patch", kind=POD, times=1000)
    await world.advance(240)
    assert world.asked_for() == 3
    assert world.costs() == {}


async def test_dry_run_marks_nothing() -> None:
    world = BusyWorld(grace=30, minWorkers=3, mode="DryRun")
    await world.advance(240)
    assert world.asked_for() == 10
    assert world.costs() == {}
    assert not any(ref.kind == POD for _, ref in world.kube.writes)


async def test_annotations_of_others_stay() -> None:
    world = BusyWorld(grace=30, minWorkers=9)
    for name in world.pods:
        ref = ObjectRef(POD, NAMESPACE, name)
        world.cluster.edit(ref, lambda pod: pod["metadata"].update(annotations={"team": "mail"}))
    world.deployments.grace_seconds = 600
    await world.advance(60)
    assert world.asked_for() == 9
    marked = [pod["metadata"]["annotations"] for pod in world.children(POD) if pod["metadata"]["name"] in world.costs()]
    assert marked == [{"team": "mail", DELETION_COST: IDLE_COST}]


async def test_a_queue_that_knows_its_workers_by_other_names_takes_none_and_says_so() -> None:
    world = BusyWorld(grace=30, minWorkers=3)
    world.queue(busy_hosts=frozenset({"mailer-host:17", "mailer-host:18"}))
    await world.advance(120)
    assert world.asked_for() == 10
    assert world.condition("Ready") == ("False", Reason.GRACE_TOO_SHORT)
    assert "busyWorkersQuery return names or IP addresses of pods" in world.message("Ready")


async def make_marks(world: BusyWorld) -> set[str]:
    """A step down that the API server refuses, so that the marks for it are there."""
    world.kube.faults.fail(Refused("no right", reason=Reason.TARGET_FORBIDDEN), verb="set_scale", times=1000)
    await world.advance(90)
    world.kube.faults.clear()
    marked = set(world.costs())
    assert marked
    return marked


async def test_marks_go_when_the_load_comes_back() -> None:
    world = BusyWorld(grace=30, minWorkers=3)
    await make_marks(world)
    world.queue(lag_seconds=5.0, backlog=40, in_flight=10, busy_hosts=frozenset(world.pods))
    await world.advance(10)
    assert world.asked_for() >= 10
    assert world.costs() == {}
    written = sum(ref.kind == POD for _, ref in world.kube.writes)
    await world.advance(60)
    assert sum(ref.kind == POD for _, ref in world.kube.writes) == written, "and nothing is written again"


async def test_marks_go_although_the_api_server_is_away_at_first() -> None:
    world = BusyWorld(grace=30, minWorkers=3)
    await make_marks(world)
    world.kube.faults.fail(KubeUnavailable("away", reason=Reason.KUBE_UNAVAILABLE), verb="patch", kind=POD, times=8)
    world.queue(lag_seconds=5.0, backlog=40, in_flight=10, busy_hosts=frozenset(world.pods))
    await world.advance(30)
    assert world.costs() == {}


@pytest.mark.parametrize("mode", ["Paused", "DryRun"])
async def test_marks_go_when_nothing_is_scaled_any_more(mode: str) -> None:
    world = BusyWorld(grace=30, minWorkers=3)
    await make_marks(world)
    world.cluster.edit(POOL, lambda pool: pool["spec"].update(mode=mode))
    await world.advance(15)
    assert world.costs() == {}


async def test_marks_go_when_it_is_no_longer_known_who_is_idle() -> None:
    world = BusyWorld(grace=600, minWorkers=3)
    await make_marks(world)
    world.queue(busy_hosts=None)
    await world.make_pass()
    assert world.asked_for() < 10
    assert world.costs() == {}, "before any pod goes"


async def test_marks_of_an_earlier_process_go_too() -> None:
    world = BusyWorld(grace=30, minWorkers=3)
    await make_marks(world)
    world.restart()
    world.queue(lag_seconds=5.0, backlog=40, in_flight=10, busy_hosts=frozenset(world.pods))
    await world.advance(90)
    assert world.costs() == {}


@pytest.mark.parametrize("is_new_process", [False, True])
async def test_marks_go_with_their_pool(is_new_process: bool) -> None:
    world = BusyWorld(grace=30, minWorkers=3)
    await make_marks(world)
    if is_new_process:
        world.restart()
    assert await world.reconciler.teardown(world.pool()) is None
    assert world.costs() == {}


async def test_a_mark_that_is_not_ours_stays() -> None:
    world = BusyWorld(grace=30, minWorkers=3)
    ref = ObjectRef(POD, NAMESPACE, world.pods[0])
    world.cluster.edit(ref, lambda pod: pod["metadata"].update(annotations={DELETION_COST: "-5"}))
    await make_marks(world)
    await world.reconciler.teardown(world.pool())
    assert world.costs() == {world.pods[0]: "-5"}
