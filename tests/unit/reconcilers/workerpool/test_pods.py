"""Pods counted: who can work, who will soon, who is stuck, and how long a start takes."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from headroom.model.moments import format_time
from headroom.policy.target_conflict import TargetId
from headroom.policy.workerpool import PodCounts, Target
from headroom.ports.kube import Manifest
from headroom.reconcilers.workerpool.memory import StartTimes
from headroom.reconcilers.workerpool.target import count_pods, measure_lead, parse_selector

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)


def pod(
    *, age: float = 600.0, ready_after: float | None = 4.0, phase: str = "Running", name: str = "p", **status: Any
) -> Manifest:
    created = NOW - timedelta(seconds=age)
    conditions = status.pop("conditions", [])
    if ready_after is not None:
        at = format_time(created + timedelta(seconds=ready_after))
        conditions = [*conditions, {"type": "Ready", "status": "True", "lastTransitionTime": at}]
    metadata = {"name": name, "creationTimestamp": format_time(created)}
    return {"metadata": metadata, "status": {"phase": phase, "conditions": conditions, **status}}


def starting(age: float, **status: Any) -> Manifest:
    return pod(age=age, ready_after=None, phase="Pending", **status)


def count(*pods: Manifest, known: float | None = None) -> PodCounts:
    return count_pods(pods, StartTimes(), now=NOW, known_lead_seconds=known)


def test_ready_and_young_pods_are_capacity() -> None:
    assert count(pod(), pod(), starting(7.0)) == PodCounts(
        running=2, ready=2, in_time=3, lead_seconds=4.0, waiting=1, grace_seconds=30.0
    )


def test_a_pod_that_takes_more_than_two_starts_is_late_and_reported_after_half_a_minute() -> None:
    found = count(pod(), starting(9.0, name="x"))
    assert (found.in_time, found.stuck) == (1, None)
    assert count(pod(), starting(30.0, name="x")).stuck is None
    assert count(pod(), starting(31.0, name="x")).stuck == "pod x is not ready after 31 s"
    assert count(pod(ready_after=20.0), starting(31.0), starting(39.0)).stuck is None, "two starts are 40 s"
    assert count(pod(ready_after=20.0), starting(31.0), starting(41.0, name="y")).stuck is not None


def test_a_pod_that_names_its_trouble_is_reported_at_once() -> None:
    waiting = [{"state": {"waiting": {"reason": "ImagePullBackOff", "message": 'Back-off pulling image "x:1"'}}}]
    found = count(pod(), starting(2.0, name="x", containerStatuses=waiting))
    assert found.stuck == 'pod x: ImagePullBackOff Back-off pulling image "x:1"'


def test_before_any_start_was_seen_half_a_minute_is_assumed() -> None:
    assert count(starting(59.0)).in_time == 1
    assert count(starting(61.0)).in_time == 0
    assert count(starting(59.0), known=5.0).in_time == 0


def terminating(manifest: Manifest) -> Manifest:
    manifest["metadata"]["deletionTimestamp"] = format_time(NOW)
    return manifest


def test_pods_that_are_done_do_not_count() -> None:
    assert count(pod(phase="Succeeded"), pod(phase="Failed"), terminating(pod(phase="Failed"))) == PodCounts(0, 0, 0)


def test_pods_that_terminate_are_counted_apart() -> None:
    """They hold connections until they are gone, and take no job; how long they took to start is of the past."""
    found = count(terminating(pod(name="p1")), pod(ready_after=6.0), terminating(starting(9.0)))
    assert found == PodCounts(running=1, ready=1, in_time=1, lead_seconds=6.0, terminating=2, grace_seconds=30.0)


def test_the_shortest_grace_period_counts_and_a_pod_that_says_none_has_the_default() -> None:
    """During a rolling update the old pods may have another one; those that terminate are cut or not already."""
    long, short = pod(name="p1"), pod(name="p2")
    long["spec"], short["spec"] = {"terminationGracePeriodSeconds": 90}, {"terminationGracePeriodSeconds": 0}
    assert count(long).grace_seconds == 90.0
    assert count(long, pod()).grace_seconds == 30.0
    assert count(long, short).grace_seconds == 0.0
    assert count(long, terminating(short)).grace_seconds == 90.0
    assert count().grace_seconds is None


@pytest.mark.parametrize(
    ("existing", "pods", "running"),
    [
        (14, PodCounts(14, 14, 14, terminating=10), 14),
        (24, PodCounts(14, 14, 14, terminating=10), 14),
        (18, PodCounts(14, 14, 14, waiting=4, terminating=10), 18),
        (0, PodCounts(0, 0, 0), 14),
        (0, PodCounts(0, 0, 0, terminating=10), 14),
    ],
    ids=["its own count is without them", "with them", "a surge", "nothing is there yet", "all is replaced"],
)
def test_workers_that_run_are_without_those_that_terminate(existing: int, pods: PodCounts, running: int) -> None:
    target = Target(TargetId("apps", "Deployment", "mailer"), "uid", 14, existing, pods)
    assert target.running == running


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (
            {"conditions": [{"type": "PodScheduled", "status": "False", "message": "0/1 nodes: Insufficient cpu"}]},
            "pod p cannot be scheduled: 0/1 nodes: Insufficient cpu",
        ),
        (
            {"containerStatuses": [{"state": {"waiting": {"reason": "CrashLoopBackOff", "message": "again in 10s"}}}]},
            "pod p: CrashLoopBackOff again in 10s",
        ),
        ({"initContainerStatuses": [{"state": {"waiting": {"reason": "ErrImagePull"}}}]}, "pod p: ErrImagePull"),
    ],
)
def test_what_waiting_will_not_mend_is_named_at_once(status: dict[str, Any], words: str) -> None:
    found = count(pod(), starting(1.0, **status))
    assert (found.in_time, found.stuck) == (1, words)


def test_a_container_that_is_being_created_is_only_young() -> None:
    creating = {"containerStatuses": [{"state": {"waiting": {"reason": "ContainerCreating"}}}]}
    assert count(starting(1.0, **creating)) == PodCounts(0, 0, 1, waiting=1, grace_seconds=30.0)


def lead(*pods: Manifest, starts: StartTimes | None = None) -> float | None:
    """The lead time of pods that are told apart by their order."""
    for index, manifest in enumerate(pods):
        manifest["metadata"]["uid"] = f"uid-{index}"
    return measure_lead(pods, starts or StartTimes(), NOW)


def test_the_lead_time_is_the_slow_end_of_real_starts() -> None:
    starts = [pod(ready_after=seconds) for seconds in (3, 4, 4, 5, 9)]
    assert lead(*starts) == 9.0
    assert lead(*starts, pod(ready_after=290.0)) == 9.0, "unready for a while, later: no start"
    restarted = pod(ready_after=10.0, containerStatuses=[{"restartCount": 2}])
    assert lead(*starts, restarted) == 9.0
    assert lead() is None
    assert lead(pod(ready_after=0.0)) == 1.0


def test_a_time_above_the_bound_is_dropped_and_not_taken_for_the_bound() -> None:
    assert lead(pod(ready_after=900.0)) is None
    assert lead(pod(ready_after=900.0), pod(ready_after=4.0)) == 4.0
    assert lead(pod(ready_after=300.0)) == 300.0


def test_a_pod_that_loses_its_readiness_for_a_moment_has_not_started_again() -> None:
    """Two workers; the second one flaps after 200 s, the first one is replaced by one that starts slowly."""
    starts = StartTimes()
    assert lead(pod(ready_after=4.0), pod(ready_after=5.0), starts=starts) == 5.0
    assert lead(pod(ready_after=4.0), pod(ready_after=None), starts=starts) == 5.0
    assert lead(pod(ready_after=200.0), pod(ready_after=205.0), starts=starts) == 5.0
    assert set(starts.seconds.values()) == {4.0, 5.0}


def test_a_slow_start_that_was_seen_is_a_slow_start() -> None:
    starts = StartTimes()
    fast = [pod(ready_after=3.0) for _ in range(3)]
    assert lead(*fast, pod(age=10.0, ready_after=None), starts=starts) == 3.0
    assert lead(*fast, pod(age=90.0, ready_after=80.0), starts=starts) == 80.0
    assert lead(*fast, starts=starts) == 3.0, "of pods that are gone nothing is kept"
    assert starts.awaited == set()


@pytest.mark.parametrize(
    ("text", "labels"),
    [
        ("app=mailer", {"app": "mailer"}),
        ("app=mailer,tier==back", {"app": "mailer", "tier": "back"}),
        ("", None),
        ("app in (a,b)", None),
        ("app", None),
        ("!app", None),
        ("app!=a", None),
    ],
)
def test_selectors(text: str, labels: dict[str, str] | None) -> None:
    assert parse_selector(text) == (None if labels is None else tuple(sorted(labels.items())))
