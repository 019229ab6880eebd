"""Reads the workload of a pool, and counts its pods: which can work, which will soon, and which are stuck."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from statistics import median
from typing import Any

from headroom.api.v1alpha1.workers import TargetRef
from headroom.errors import Refused
from headroom.model.conditions import Finding
from headroom.model.moments import Moment
from headroom.policy.workerpool import PodCounts, PoolMemory, Target
from headroom.policy.workerpool.constants import (
    DEFAULT_LEAD_SECONDS,
    LEAD_OUTLIER_FACTOR,
    LEAST_LEAD_SECONDS,
    LEAST_STUCK_SECONDS,
    MOST_LEAD_SECONDS,
    STARTING_LEAD_TIMES,
)
from headroom.ports.kube import DEPLOYMENT, POD, STATEFUL_SET, Kind, Kube, KubeCache, Manifest, ObjectRef
from headroom.reasons import Reason
from headroom.reconcilers.namespace_view import target_id
from headroom.reconcilers.workerpool.memory import PodCensus, StartTimes, Workload

WATCHED = {(kind.api_version, kind.name): kind for kind in (DEPLOYMENT, STATEFUL_SET)}
"""Kinds that are read from the watches; all others are asked for their scale in each pass."""
LEAD_QUANTILE = 0.95
AWAITED_WITHIN_SECONDS = 15.0
"""A pod that is seen unready at this age has never been Ready; pods are counted every few seconds while some start."""
DEFAULT_GRACE_SECONDS = 30.0
"""What the API server writes into a pod that does not say it."""
BACK_OFFS = frozenset(
    {"CrashLoopBackOff", "ImagePullBackOff", "ErrImagePull", "CreateContainerConfigError", "CreateContainerError"}
)
Status = Mapping[str, Any]


async def resolve_kind(kube: Kube, ref: TargetRef) -> Kind | None:
    """The kind of a target; discovery is asked only for one that is not watched."""
    return WATCHED.get((ref.api_version, ref.kind)) or await kube.resolve(ref.api_version, ref.kind)


@dataclass(frozen=True, slots=True)
class TargetReader:
    """Reads the targets of one namespace; `is_sharing` is for a pool that shares the connections of a server."""

    kube: Kube
    cache: KubeCache
    namespace: str
    is_sharing: bool = False

    async def read(self, ref: TargetRef, memory: PoolMemory, census: PodCensus, now: Moment) -> Target | Finding:
        """The target, or what is wrong with it and how to correct it; raises KubeUnavailable."""
        try:
            kind = await resolve_kind(self.kube, ref)
            if kind is None:
                message = f"the API server knows no kind {ref.kind} in {ref.api_version}"
                return Finding(Reason.TARGET_NOT_FOUND, f"{message}: correct spec.workers.targetRef")
            workload = await self._workload(ObjectRef(kind, self.namespace, ref.name), memory)
            if workload is None:
                message = f"there is no {ref.kind.lower()}/{ref.name} in namespace {self.namespace}"
                return Finding(Reason.TARGET_NOT_FOUND, f"{message}: create it or correct spec.workers.targetRef")
            counts = await self._count(workload, memory, census, now)
        except Refused as error:
            return Finding(error.reason, str(error))
        identity = target_id({"apiVersion": ref.api_version, "kind": ref.kind, "name": ref.name})
        return Target(
            identity,
            workload.uid,
            workload.present,
            workload.existing,
            counts,
            workload.labels,
            template=workload.template,
            is_updating=workload.is_updating,
        )

    async def _workload(self, ref: ObjectRef, memory: PoolMemory) -> Workload | None:
        if ref.kind not in WATCHED.values():
            return await self._by_scale(ref)
        manifest = self.cache.get(ref)
        if manifest is None:
            return None
        workload = parse_workload(manifest)
        if memory.target_uid != workload.uid and await self._by_scale(ref) is None:
            # The scale of a new target is read once: a missing right should show before the first rush.
            return None
        return workload

    async def _by_scale(self, ref: ObjectRef) -> Workload | None:
        scale = await self.kube.get_scale(ref)
        if scale is None:
            return None
        labels = parse_selector(scale.selector)
        return Workload(scale.uid, scale.spec_replicas, scale.status_replicas, None, labels)

    async def _count(self, workload: Workload, memory: PoolMemory, census: PodCensus, now: Moment) -> PodCounts:
        if workload.labels is None:
            # Without a usable selector, only the workload's own numbers are left.
            there = workload.existing
            ready = there if workload.ready is None else workload.ready
            return PodCounts(there, ready, max(there, workload.present))
        if census.is_due(workload, now.monotonic, is_late=memory.is_late, is_sharing=self.is_sharing):
            pods = await self.kube.list(POD, self.namespace, labels=dict(workload.labels))
            census.see_marks(workload.labels, pods)
            are_ready = {_uid(pod) for pod in pods if ready_at(pod) is not None}
            census.starts.see({_uid(pod) for pod in pods}, are_ready, now.wall)
            counts = count_pods(pods, census.starts, now=now.wall, known_lead_seconds=memory.lead_seconds)
            census.record(workload, counts, now.monotonic)
            return counts
        if census.complete(workload).is_settled or census.counts is None:
            there = workload.existing
            last = census.counts
            grace = None if last is None else last.grace_seconds
            terminating, is_counted = census.terminating, last is not None
            return PodCounts(there, there, there, terminating=terminating, is_counted=is_counted, grace_seconds=grace)
        return census.counts


def parse_workload(manifest: Manifest) -> Workload:
    """A Deployment or StatefulSet; labels are None if its selector needs more than equal labels."""
    spec, status = manifest["spec"], manifest.get("status") or {}
    selector = spec.get("selector") or {}
    labels: Mapping[str, str] = selector.get("matchLabels") or {}
    return Workload(
        uid=manifest["metadata"]["uid"],
        present=spec.get("replicas", 1),
        existing=status.get("replicas", 0),
        ready=status.get("readyReplicas", 0),
        labels=None if selector.get("matchExpressions") or not labels else tuple(sorted(labels.items())),
        version=manifest["metadata"].get("resourceVersion", ""),
        template=spec.get("templateDigest"),
        # A controller leaves out a count of 0.
        is_updating="observedGeneration" in status and status.get("updatedReplicas", 0) < status.get("replicas", 0),
    )


def parse_selector(text: str) -> tuple[tuple[str, str], ...] | None:
    """A scale's selector as equal labels (`app=mail,tier=back`); None if it is empty or needs more."""
    pairs = []
    for part in text.split(","):
        key, equals, value = part.partition("=")
        if not equals or not key.strip() or key.strip().endswith("!") or " " in key.strip():
            return None
        pairs.append((key.strip(), value.removeprefix("=").strip()))
    return tuple(sorted(pairs))


def count_pods(
    pods: Iterable[Manifest], starts: StartTimes, *, now: datetime, known_lead_seconds: float | None
) -> PodCounts:
    """Count pods, those that terminate apart, and record their starts; `now` is wall time, as their own times are."""
    existing = [pod for pod in pods if not has_ended(pod)]
    present = [pod for pod in existing if not pod["metadata"].get("deletionTimestamp")]
    running = sum(pod.get("status", {}).get("phase") == "Running" for pod in present)
    # The pods of now come first: an image or a node type may have changed since the last measurement.
    lead = measure_lead(present, starts, now) or known_lead_seconds
    patience = STARTING_LEAD_TIMES * (lead or DEFAULT_LEAD_SECONDS)
    ready = [pod for pod in present if ready_at(pod) is not None]
    waiting = [pod for pod in present if ready_at(pod) is None]
    troubles = [_find_trouble(pod) for pod in waiting]
    old = [pod for pod in waiting if _age(pod, starts, now) > patience]
    young = [
        pod
        for pod, trouble in zip(waiting, troubles, strict=True)
        if trouble is None and _age(pod, starts, now) <= patience
    ]
    stuck = next((trouble for trouble in troubles if trouble is not None), None)
    late = [pod for pod in old if _age(pod, starts, now) > LEAST_STUCK_SECONDS]
    if stuck is None and late:
        stuck = f"pod {late[0]['metadata']['name']} is not ready after {_age(late[0], starts, now):.0f} s"
    return PodCounts(
        running=running,
        ready=len(ready),
        in_time=len(ready) + len(young),
        lead_seconds=lead,
        stuck=stuck,
        waiting=len(present) - running,
        terminating=len(existing) - len(present),
        grace_seconds=min((_grace(pod) for pod in present), default=None),
    )


def measure_lead(pods: Sequence[Manifest], starts: StartTimes, now: datetime) -> float | None:
    """95th percentile of creation to the first Ready, each pod measured once; None if no pod shows it.

    A pod that loses its readiness and gains it again has not started again. Of a pod that was not seen while it
    started, only its last change is known: far later than the others, or above MOST_LEAD_SECONDS, that was not a start.
    """
    starts.forget_others({_uid(pod) for pod in pods})
    for pod in pods:
        _record_start(pod, starts, now)
    known = {uid: seconds for uid, seconds in starts.seconds.items() if seconds is not None}
    if not known:
        return None
    limit = LEAD_OUTLIER_FACTOR * max(median(known.values()), LEAST_LEAD_SECONDS)
    kept = sorted(seconds for uid, seconds in known.items() if uid in starts.awaited or seconds <= limit)
    return max(kept[math.ceil(LEAD_QUANTILE * len(kept)) - 1], LEAST_LEAD_SECONDS)


def _record_start(pod: Manifest, starts: StartTimes, now: datetime) -> None:
    uid, seconds = _uid(pod), _start_seconds(pod)
    if uid in starts.seconds:
        return
    if seconds is None:
        if _age(pod, starts, now) <= AWAITED_WITHIN_SECONDS:
            starts.awaited.add(uid)
        return
    starts.seconds[uid] = None if _has_restarted(pod) or seconds > MOST_LEAD_SECONDS else seconds


def _uid(pod: Manifest) -> str:
    uid: str = pod["metadata"].get("uid") or pod["metadata"]["name"]
    return uid


def _start_seconds(pod: Manifest) -> float | None:
    at = ready_at(pod)
    return None if at is None else (at - _parse_time(pod["metadata"]["creationTimestamp"])).total_seconds()


def ready_at(pod: Manifest) -> datetime | None:
    """Since when a pod is Ready; None if it is not."""
    for condition in pod.get("status", {}).get("conditions") or ():
        if condition["type"] == "Ready" and condition["status"] == "True":
            return _parse_time(condition.get("lastTransitionTime") or pod["metadata"]["creationTimestamp"])
    return None


def _grace(pod: Manifest) -> float:
    seconds = pod.get("spec", {}).get("terminationGracePeriodSeconds")
    return DEFAULT_GRACE_SECONDS if seconds is None else float(seconds)


def has_ended(pod: Manifest) -> bool:
    """Whether all containers of a pod have ended for good."""
    return pod.get("status", {}).get("phase") in ("Succeeded", "Failed")


def _has_restarted(pod: Manifest) -> bool:
    return any(status.get("restartCount", 0) > 0 for status in _container_statuses(pod))


def _find_trouble(pod: Manifest) -> str | None:
    """Why a pod does not become ready: it fits on no node, or a container is in a back-off."""
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


def _age(pod: Manifest, starts: StartTimes, now: datetime) -> float:
    born = starts.born.get(_uid(pod)) or _parse_time(pod["metadata"]["creationTimestamp"])
    return (now - born).total_seconds()


def _parse_time(text: str) -> datetime:
    return datetime.fromisoformat(text)
