"""What a pool asks the API server: nothing while it is calm, its pods while they start, all again before a write."""

from collections import Counter
from collections.abc import Iterable
from typing import Any

import pytest

from headroom.adapters.inmemory.kube_kinds import CUSTOM_SCALE
from headroom.errors import Conflict, SignalUnavailable
from headroom.ports.kube import DEPLOYMENT, POD, STATEFUL_SET, WORKER_POOL, Kind, ObjectRef
from headroom.reasons import Reason
from headroom.reconcilers.workerpool import metrics
from headroom.reconcilers.workerpool.memory import COUNT_EVERY_SECONDS
from headroom.reconcilers.workerpool.target import parse_workload
from tests.manifests import NAMESPACE, make
from tests.memory_world import LATE
from tests.unit.reconcilers.workerpool.test_guard import with_own_login
from tests.unit.reconcilers.workerpool.world import POOL, TARGET, PoolWorld

LABELS = {"namespace": NAMESPACE, "name": "mail"}
FLEET = Kind("example.org/v1", "Fleet", "fleets")


def calls_since(world: PoolWorld, mark: int) -> Counter[tuple[str, str]]:
    return Counter((verb, ref.kind.name) for verb, ref in world.kube.calls[mark:])


def point_at(world: PoolWorld, kind: Kind, name: str = "mailer") -> None:
    ref = {"apiVersion": kind.api_version, "kind": kind.name, "name": name}
    world.cluster.edit(POOL, lambda pool: pool["spec"]["workers"].update(targetRef=ref))


async def test_a_calm_pool_sends_nothing_to_the_api_server() -> None:
    world = PoolWorld()
    await world.advance(200, rate=1.5)
    mark = len(world.kube.calls)
    await world.advance(300, rate=1.5)
    assert calls_since(world, mark) == Counter()
    assert len(world.probes.questions) >= 90, "the queue is asked all the time"


async def test_a_calm_pool_with_a_login_of_its_own_reads_its_secret_once_a_minute() -> None:
    world = with_own_login()
    await world.advance(200, rate=1.5)
    assert world.condition("Ready") == ("True", Reason.AS_EXPECTED)
    mark = len(world.kube.calls)
    await world.advance(300, rate=1.5)
    assert calls_since(world, mark) == Counter({("get", "Secret"): 5})


async def test_a_new_process_over_a_calm_pool_lists_its_pods_once_and_writes_nothing() -> None:
    world = PoolWorld()
    await world.advance(200, rate=1.5)
    mark = len(world.kube.calls)
    world.restart()
    await world.advance(200, rate=1.5)
    assert calls_since(world, mark) == Counter({("list", "Pod"): 1}), "for the time that a start took"
    assert world.telemetry.value(metrics.LEAD_SECONDS, **LABELS) == 3.0


async def test_a_target_is_asked_for_its_scale_once_so_that_a_missing_right_shows_early() -> None:
    world = PoolWorld()
    await world.advance(60, rate=0.5)
    assert calls_since(world, 0)["get_scale", "Deployment"] == 1
    assert calls_since(world, 0)["resolve", ""] == 0, "discovery is not needed for a Deployment"


async def test_pods_are_listed_while_they_start_and_once_after_the_last_one_is_ready() -> None:
    world = PoolWorld(start_seconds=8.0)
    await world.advance(120, rate=0.5)
    mark = len(world.kube.calls)
    world.queue(**LATE)
    await world.make_pass()
    world.deployments.play()
    world.queue(lag_seconds=0.0, backlog=0, late=0)
    await world.advance(40)
    lists = calls_since(world, mark)["list", "Pod"]
    assert 2 <= lists <= 2 + 8 / COUNT_EVERY_SECONDS
    assert world.telemetry.value(metrics.LEAD_SECONDS, **LABELS) == 8.0
    assert world.status()["readyWorkers"] == 4
    mark = len(world.kube.calls)
    await world.advance(60)
    assert calls_since(world, mark)["list", "Pod"] == 0


async def test_a_late_pool_counts_its_pods_less_often_than_it_decides() -> None:
    world = PoolWorld(start_seconds=10_000, spec={"maxWorkers": 4})
    world.queue(**LATE)
    await world.advance(20)
    mark, asked = len(world.kube.calls), len(world.probes.questions)
    await world.advance(40)
    assert len(world.probes.questions) - asked >= 39
    assert calls_since(world, mark)["list", "Pod"] <= 11


async def test_pods_that_become_unready_are_counted_again() -> None:
    world = PoolWorld()
    await world.advance(120, rate=0.5)
    lose_a_pod(world)
    world.cluster.set_status(TARGET, {"readyReplicas": 1})
    world.queue(**LATE)
    await world.make_pass()
    assert world.condition("KeepingUp") == ("False", Reason.WORKERS_NOT_STARTING)
    assert world.status()["readyWorkers"] == 1


async def test_before_a_write_the_pool_and_the_scale_are_read_live() -> None:
    world = PoolWorld()
    await world.advance(120, rate=0.5)
    mark = len(world.kube.calls)
    world.queue(**LATE)
    await world.make_pass()
    verbs = [verb for verb, ref in world.kube.calls[mark:] if ref.kind in (WORKER_POOL, DEPLOYMENT)]
    assert verbs == ["get", "get_scale", "set_scale", "replace_status"]


@pytest.mark.parametrize("change", ["count", "object", "gone"])
async def test_a_watch_of_the_target_that_is_behind_scales_nothing(change: str) -> None:
    # Without the gate, which measures the nine before it adds more.
    world = PoolWorld({"effectiveness": {"enabled": False}}, replicas=2)
    await world.advance(120, rate=0.5)
    old = world.cluster.read(TARGET)
    assert old is not None
    world.cache.freeze()
    body = world.pool()
    if change == "count":
        world.scale_by_hand(9)
    else:
        world.cluster.remove(TARGET)
    if change == "object":
        world.cluster.seed(make(DEPLOYMENT, "mailer", spec=old["spec"]))
    before = world.scale_writes()
    world.queue(**LATE)
    with pytest.raises(Conflict, match="deployment/mailer has changed since the decision"):
        await world.reconciler.reconcile(body)
    assert world.scale_writes() == before
    world.cache.thaw()
    if change == "count":
        await world.make_pass()
        assert world.asked_for() > 9, "the next pass decides on what is there"


async def test_a_conflict_leaves_what_was_written_known() -> None:
    world = PoolWorld()
    await world.advance(10)
    world.queue(**LATE)
    await world.make_pass()
    world.kube.faults.fail(Conflict("somebody was first"), verb="get_scale", times=3)
    await world.advance(10)
    assert world.condition("Ready")[0] == "True", "our own count is no foreign write"


async def test_a_stateful_set_is_scaled_in_the_same_way() -> None:
    world = PoolWorld()
    selector = {"matchLabels": {"app": "mailer"}}
    world.cluster.seed(make(STATEFUL_SET, "mailer", spec={"replicas": 1, "selector": selector}))
    point_at(world, STATEFUL_SET)
    await world.advance(6)
    world.queue(**LATE)
    await world.make_pass()
    live = world.cluster.read(ObjectRef(STATEFUL_SET, NAMESPACE, "mailer"))
    assert live is not None
    assert live["spec"]["replicas"] == 5
    assert world.status()["target"]["kind"] == "StatefulSet"
    assert world.asked_for() == 2, "the Deployment of that name stays as it is"


def add_fleet(world: PoolWorld) -> ObjectRef:
    """A target of a kind that no watch brings, with the pods of the Deployment."""
    world.kube.kinds.register(FLEET, scale=CUSTOM_SCALE)
    world.cluster.seed(make(FLEET, "mailer", spec={"replicas": 2}))
    fleet = ObjectRef(FLEET, NAMESPACE, "mailer")
    world.cluster.set_status(fleet, {"replicas": 2, "selector": "app=mailer"})
    point_at(world, FLEET)
    return fleet


def lose_a_pod(world: PoolWorld) -> None:
    """One pod of the target is no longer ready, and its scale does not show it."""
    sick = next(ref for ref in world.kube.store.entries if ref.kind == POD)
    waiting = {"state": {"waiting": {"reason": "CrashLoopBackOff"}}}
    world.cluster.set_status(sick, {"phase": "Running", "conditions": [], "containerStatuses": [waiting]})


async def test_a_calm_pool_with_a_target_of_any_other_kind_asks_for_its_scale_only() -> None:
    world = PoolWorld()
    await world.advance(10, rate=0.5)
    add_fleet(world)
    await world.advance(120, rate=0.5)
    mark = len(world.kube.calls)
    await world.advance(60, rate=0.5)
    calls = calls_since(world, mark)
    assert set(calls) <= {("get_scale", "Fleet"), ("resolve", "")}
    assert calls["get_scale", "Fleet"] <= 14


async def test_the_pods_of_any_other_kind_are_counted_again_while_the_queue_is_late() -> None:
    world = PoolWorld(spec={"maxWorkers": 2})
    await world.advance(10, rate=0.5)
    add_fleet(world)
    await world.advance(60, rate=0.5)
    lose_a_pod(world)
    await world.advance(60, rate=0.5)
    assert world.status()["readyWorkers"] == 2, "nothing depends on it while the queue is within its target"
    world.queue(**LATE)
    mark = len(world.kube.calls)
    await world.advance(20)
    assert world.condition("KeepingUp") == ("False", Reason.WORKERS_NOT_STARTING)
    assert calls_since(world, mark)["list", "Pod"] <= 1 + 20 / COUNT_EVERY_SECONDS


async def test_any_other_kind_is_found_by_discovery_and_asked_for_its_scale() -> None:
    world = PoolWorld()
    fleet = add_fleet(world)
    await world.advance(30, rate=0.5)
    assert world.condition("Ready") == ("True", Reason.AS_EXPECTED)
    assert world.status()["readyWorkers"] == 2, "its pods are counted by the selector of its scale"
    world.queue(**LATE)
    await world.make_pass()
    live = world.cluster.read(fleet)
    assert live is not None
    assert live["spec"]["replicas"] == 6
    assert world.message("Ready").startswith("fleet/mailer is scaled by this pool")


def workload(**parts: Any) -> dict[str, Any]:
    spec = {"replicas": 3, "selector": {"matchLabels": {"app": "mailer", "tier": "back"}}, **parts}
    return {"metadata": {"uid": "u"}, "spec": spec, "status": {"replicas": 4, "readyReplicas": 2}}


def test_a_workload_is_read_from_its_manifest() -> None:
    found = parse_workload(workload())
    assert (found.uid, found.present, found.existing, found.ready) == ("u", 3, 4, 2)
    assert found.labels == (("app", "mailer"), ("tier", "back"))
    assert not found.is_settled


def test_what_the_api_server_leaves_out_has_its_meaning() -> None:
    found = parse_workload({"metadata": {"uid": "u"}, "spec": {}})
    assert (found.present, found.existing, found.ready, found.labels) == (1, 0, 0, None)
    empty = parse_workload({"metadata": {"uid": "u"}, "spec": {"replicas": 0}, "status": {}})
    assert empty.is_settled, "nothing is asked for, and nothing is there"


async def test_a_selector_that_is_more_than_equal_labels_leaves_the_workloads_own_counts() -> None:
    expressions = [{"key": "app", "operator": "In", "values": ["mailer", "sender"]}]
    assert parse_workload(workload(selector={"matchExpressions": expressions})).labels is None
    world = PoolWorld()
    world.cluster.edit(TARGET, lambda item: item["spec"]["selector"].update(matchExpressions=expressions))
    await world.advance(20, rate=0.5)
    assert world.status()["readyWorkers"] == 2
    assert calls_since(world, 0)["list", "Pod"] <= 1


def set_ready(world: PoolWorld, pods: list[ObjectRef], ready: int) -> None:
    """The first so many pods are ready, and the target counts them."""
    for number, pod in enumerate(pods):
        was_ready = world.read(pod)["status"]["conditions"][0]["status"] == "True"
        if was_ready == (number < ready):
            continue
        condition = {"type": "Ready", "status": str(number < ready), "lastTransitionTime": "2026-01-01T00:00:30Z"}
        world.cluster.set_status(pod, {"phase": "Running", "conditions": [condition]})
    world.cluster.set_status(TARGET, {"readyReplicas": ready})


async def follow_ready(world: PoolWorld, counts: Iterable[int]) -> int:
    """A pass each second with so many ready pods; returns how often the status was written."""
    pods = [ref for ref in world.kube.store.entries if ref.kind == POD]
    before = len(world.kube.writes)
    for ready in counts:
        set_ready(world, pods, ready)
        await world.make_pass()
        await world.clock.advance(1)
    return sum(verb == "replace_status" for verb, _ in world.kube.writes[before:])


async def test_a_pod_that_flaps_causes_six_writes_a_minute_at_most() -> None:
    world = PoolWorld(replicas=25, spec={"minWorkers": 25, "maxWorkers": 30})
    await world.advance(60, rate=0.5)
    assert 10 <= await follow_ready(world, [24 + second % 2 for second in range(180)]) <= 1 + 3 * 6
    await follow_ready(world, [24] * 11)
    assert (world.status()["workers"], world.status()["readyWorkers"]) == (25, 24), (
        "one of 25 is not too small a change"
    )


async def test_pods_that_become_ready_one_by_one_cause_six_writes_a_minute_at_most() -> None:
    world = PoolWorld(replicas=60, spec={"minWorkers": 60, "maxWorkers": 60})
    await world.advance(60, rate=0.5)
    assert 4 <= await follow_ready(world, range(60)) <= 1 + 6


async def test_a_verdict_that_flaps_is_no_event_in_each_pass() -> None:
    world = PoolWorld()
    await world.advance(60, rate=0.5)
    before = len(world.telemetry.events)
    for _ in range(24):
        for error in (SignalUnavailable("no such table", reason=Reason.QUEUE_NOT_FOUND), None):
            world.probes.error = error
            await world.make_pass()
            await world.clock.advance(1)
    # For each of the writes an event of SignalAvailable, and of Ready.
    assert 4 <= len(world.telemetry.events) - before <= 2 * 6
