"""Pods counted: who can work, who will soon, who is stuck, and how long a start takes."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from headroom.model.moments import format_time
from headroom.policy.target_conflict import TargetId
from headroom.policy.workerpool import PodCounts, Target
from headroom.ports.kube import Manifest
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
    return count_pods(pods, now=NOW, known_lead_seconds=known)


def test_ready_and_young_pods_are_capacity() -> None:
    assert count(pod(), pod(), starting(7.0)) == PodCounts(running=2, ready=2, in_time=3, lead_seconds=4.0, waiting=1)


def test_a_pod_that_takes_more_than_two_starts_is_stuck() -> None:
    found = count(pod(), starting(9.0, name="x"))
    assert (found.in_time, found.stuck) == (1, "pod x is not ready after 9 s")


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
    assert found == PodCounts(running=1, ready=1, in_time=1, lead_seconds=6.0, terminating=2)


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
    assert count(starting(1.0, **creating)) == PodCounts(0, 0, 1, waiting=1)


def test_the_lead_time_is_the_slow_end_of_real_starts() -> None:
    starts = [pod(ready_after=seconds) for seconds in (3, 4, 4, 5, 9)]
    assert measure_lead(starts) == 9.0
    assert measure_lead([*starts, pod(ready_after=500.0)]) == 9.0, "unready for a while, later: no start"
    restarted = pod(ready_after=10.0, containerStatuses=[{"restartCount": 2}])
    assert measure_lead([*starts, restarted]) == 9.0
    assert measure_lead([]) is None
    assert measure_lead([pod(ready_after=0.0)]) == 1.0
    assert measure_lead([pod(ready_after=900.0)]) == 300.0


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
