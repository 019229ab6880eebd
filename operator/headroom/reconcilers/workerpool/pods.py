"""The pods of a target, counted: who can work, who will soon, and who is stuck."""

import math
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from statistics import median
from typing import Any

from headroom.policy.workerpool.constants import (
    DEFAULT_LEAD_SECONDS,
    LEAD_OUTLIER_FACTOR,
    LEAST_LEAD_SECONDS,
    MOST_LEAD_SECONDS,
    STARTING_LEAD_TIMES,
)
from headroom.ports.kube import Manifest
from headroom.reconcilers.workerpool.facts import Pods

LEAD_QUANTILE = 0.95
BACK_OFFS = frozenset(
    {"CrashLoopBackOff", "ImagePullBackOff", "ErrImagePull", "CreateContainerConfigError", "CreateContainerError"}
)
Status = Mapping[str, Any]


def parse_selector(text: str) -> dict[str, str] | None:
    """A scale's selector as equal labels (`app=mail,tier=back`); None where it is empty or says more than that."""
    pairs = {}
    for part in text.split(","):
        key, equals, value = part.partition("=")
        if not equals or not key.strip() or key.strip().endswith("!") or " " in key.strip():
            return None
        pairs[key.strip()] = value.removeprefix("=").strip()
    return pairs


def count_pods(pods: Iterable[Manifest], *, now: datetime, known_lead_seconds: float | None) -> Pods:
    """Count pods that are not on their way out; `now` is wall time, as the pods' own times are."""
    present = [pod for pod in pods if not pod["metadata"].get("deletionTimestamp") and not _has_ended(pod)]
    lead = measure_lead(present) or known_lead_seconds
    patience = STARTING_LEAD_TIMES * (lead or DEFAULT_LEAD_SECONDS)
    ready = [pod for pod in present if _ready_at(pod) is not None]
    waiting = [pod for pod in present if _ready_at(pod) is None]
    troubles = [_trouble_of(pod) for pod in waiting]
    old = [pod for pod in waiting if _age(pod, now) > patience]
    young = [
        pod for pod, trouble in zip(waiting, troubles, strict=True) if trouble is None and _age(pod, now) <= patience
    ]
    stuck = next((trouble for trouble in troubles if trouble is not None), None)
    if stuck is None and old:
        stuck = f"pod {old[0]['metadata']['name']} is not ready after {_age(old[0], now):.0f} s"
    return Pods(
        running=sum(pod.get("status", {}).get("phase") == "Running" for pod in present),
        ready=len(ready),
        in_time=len(ready) + len(young),
        lead_seconds=lead,
        stuck=stuck,
    )


def measure_lead(pods: Sequence[Manifest]) -> float | None:
    """95th percentile of creation to Ready; None without a pod to tell.

    A pod that restarted, or became ready far later than the others, was unready in between: that is no start.
    """
    seconds = [_start_seconds(pod) for pod in pods if not _has_restarted(pod)]
    known = sorted(value for value in seconds if value is not None)
    if not known:
        return None
    limit = LEAD_OUTLIER_FACTOR * max(median(known), LEAST_LEAD_SECONDS)
    kept = [value for value in known if value <= limit]
    lead = kept[math.ceil(LEAD_QUANTILE * len(kept)) - 1]
    return min(max(lead, LEAST_LEAD_SECONDS), MOST_LEAD_SECONDS)


def _start_seconds(pod: Manifest) -> float | None:
    ready_at = _ready_at(pod)
    return None if ready_at is None else (ready_at - _parse_time(pod["metadata"]["creationTimestamp"])).total_seconds()


def _ready_at(pod: Manifest) -> datetime | None:
    for condition in pod.get("status", {}).get("conditions") or ():
        if condition["type"] == "Ready" and condition["status"] == "True":
            return _parse_time(condition.get("lastTransitionTime") or pod["metadata"]["creationTimestamp"])
    return None


def _has_ended(pod: Manifest) -> bool:
    return pod.get("status", {}).get("phase") in ("Succeeded", "Failed")


def _has_restarted(pod: Manifest) -> bool:
    return any(status.get("restartCount", 0) > 0 for status in _container_statuses(pod))


def _trouble_of(pod: Manifest) -> str | None:
    """Why a pod will not be ready by waiting: it fits nowhere, or a container is in a back-off."""
    name = pod["metadata"]["name"]
    for condition in pod.get("status", {}).get("conditions") or ():
        if condition["type"] == "PodScheduled" and condition["status"] == "False":
            return f"pod {name} cannot be scheduled: {condition.get('message', 'no node fits')}"
    for status in _container_statuses(pod):
        waiting = (status.get("state") or {}).get("waiting") or {}
        if waiting.get("reason") in BACK_OFFS:
            return f"pod {name}: {waiting['reason']} {waiting.get('message', '')}".strip()
    return None


def _container_statuses(pod: Manifest) -> list[Status]:
    status = pod.get("status", {})
    return [*(status.get("initContainerStatuses") or ()), *(status.get("containerStatuses") or ())]


def _age(pod: Manifest, now: datetime) -> float:
    return (now - _parse_time(pod["metadata"]["creationTimestamp"])).total_seconds()


def _parse_time(text: str) -> datetime:
    return datetime.fromisoformat(text)
