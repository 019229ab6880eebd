"""Marks idle workers before a count is lowered, so that the controller of their Deployment ends those first.

A mark is for one step: pods that stay lose it, whether the step was refused or the load came back, or the pool is gone.
"""

import asyncio
import logging
from collections.abc import Sequence, Set

from headroom.api.v1alpha1.workers import TargetRef
from headroom.errors import Conflict, KubeUnavailable, Refused
from headroom.model.conditions import Finding
from headroom.policy.workerpool import Target
from headroom.policy.workerpool.facts import CHOOSING_KINDS
from headroom.policy.workerpool.jobs import JobsInHand
from headroom.policy.workerpool.victims import DELETION_COST, IDLE_COST, WorkerPod, choose_victims
from headroom.ports.kube import POD, JsonOp, Kube, Manifest, ObjectRef
from headroom.reasons import Reason
from headroom.reconcilers.context import Services
from headroom.reconcilers.namespace_view import target_id
from headroom.reconcilers.workerpool.memory import PoolContext, is_marked
from headroom.reconcilers.workerpool.target import (
    WATCHED,
    has_ended,
    parse_selector,
    parse_workload,
    ready_at,
    resolve_kind,
)

ANNOTATIONS = "/metadata/annotations"
MOST_NAMED = 3
COST_POINTER = f"{ANNOTATIONS}/{DELETION_COST.replace('/', '~1')}"
VICTIMS_GO_WITHIN_SECONDS = 10.0
"""After a count was lowered, the pods that are marked for it are given so long to go."""
Labels = Sequence[tuple[str, str]]

logger = logging.getLogger(__name__)


async def mark_victims(context: PoolContext, target: Target, allowed: int, jobs: JobsInHand) -> int:
    """Mark the idle workers that are to go; the count that may be written after that.

    It is `allowed`, or more if only idle workers may go and fewer of them are found. Pods that were marked for a step
    that did not happen lose the mark. A pod that changes meanwhile stays as it is.
    """
    sample, labels = context.facts.sample, target.labels
    if sample is None or sample.busy_hosts is None or not target.chooses_victims or not labels:
        await clear_marks(context)
        return allowed
    listed = await context.services.kube.list(POD, context.namespace, labels=dict(labels))
    pods = {pod["metadata"]["name"]: pod for pod in listed if _may_go(pod)}
    marks = choose_victims([_parse(pod) for pod in pods.values()], sample.busy_hosts, target.present - allowed)
    if marks.marked:
        context.handles.census.marked = labels
    kube, namespace = context.services.kube, context.namespace
    await _patch(kube, namespace, [pods[pod.name] for pod in marks.marked], is_idle=True)
    await _patch(kube, namespace, [pods[pod.name] for pod in marks.unmarked], is_idle=False)
    if not jobs.busy or not jobs.is_grace_too_short:
        return allowed
    if pods and not marks.idle:
        context.record(_describe_unknown_hosts(target, sample.busy_hosts))
    return max(allowed, target.present - marks.idle)


async def clear_marks(context: PoolContext) -> None:
    """Remove the marks of a step that did not happen; what fails is tried again in the next pass."""
    census = context.handles.census
    if census.marked is None or not _have_victims_gone(context):
        return
    try:
        is_done = await _unmark(context.services.kube, context.namespace, census.marked)
    except KubeUnavailable as error:
        logger.info("%s/%s: marks of idle workers stay for now: %s", context.namespace, context.name, error)
    except Refused as error:
        logger.warning("%s/%s: marks of idle workers stay: %s", context.namespace, context.name, error)
        census.marked = None
    else:
        census.marked = None if is_done else census.marked


async def clear_all_marks(services: Services, namespace: str, ref: TargetRef, known: Labels | None) -> None:
    """Remove the marks from the pods of a target before its pool goes; `known` are labels of pods that may have some.

    Raises KubeUnavailable. A mark that may not be removed stays.
    """
    identity = target_id({"apiVersion": ref.api_version, "kind": ref.kind, "name": ref.name})
    try:
        can_choose = (identity.group, identity.kind) in CHOOSING_KINDS
        live = await _find_labels(services, namespace, ref) if can_choose else None
        for labels in {tuple(labels) for labels in (known, live) if labels}:
            await _unmark(services.kube, namespace, labels)
    except Refused as error:
        logger.warning("%s/%s: marks of idle workers stay: %s", namespace, ref.name, error)


def _have_victims_gone(context: PoolContext) -> bool:
    """False while pods that are marked for the last step may still have to go."""
    target, moves = context.facts.target, context.memory.moves
    if isinstance(target, Finding):
        return False
    is_recent = bool(moves) and context.services.clock.monotonic() - moves[-1].at < VICTIMS_GO_WITHIN_SECONDS
    return target is None or (target.existing <= target.present and not is_recent)


async def _find_labels(services: Services, namespace: str, ref: TargetRef) -> Labels | None:
    """The labels of a target's pods; None without a target, or if its selector needs more than equal labels."""
    kind = await resolve_kind(services.kube, ref)
    if kind is None:
        return None
    target = ObjectRef(kind, namespace, ref.name)
    if kind in WATCHED.values():
        manifest = services.cache.get(target)
        return None if manifest is None else parse_workload(manifest).labels
    scale = await services.kube.get_scale(target)
    return None if scale is None else parse_selector(scale.selector)


async def _unmark(kube: Kube, namespace: str, labels: Labels) -> bool:
    """Remove all marks; False if a pod changed meanwhile."""
    pods = await kube.list(POD, namespace, labels=dict(labels))
    return await _patch(kube, namespace, [pod for pod in pods if is_marked(pod) and _may_go(pod)], is_idle=False)


def _describe_unknown_hosts(target: Target, hosts: Set[str]) -> Finding:
    some = ", ".join(sorted(hosts)[:MOST_NAMED])
    message = (
        f"no worker may go: of the busy workers ({some}), at least one is not a pod of {target}; "
        "let spec.queue.postgres.custom.busyWorkersQuery return names or IP addresses of pods of this pool only"
    )
    return Finding(Reason.GRACE_TOO_SHORT, message)


async def _patch(kube: Kube, namespace: str, pods: Sequence[Manifest], *, is_idle: bool) -> bool:
    """Add or remove marks; False if a pod changed meanwhile, and was left alone."""
    results = await asyncio.gather(
        *(_patch_one(kube, namespace, pod, is_idle=is_idle) for pod in pods), return_exceptions=True
    )
    failures = [result for result in results if isinstance(result, BaseException)]
    if failures and all(isinstance(failure, Refused) for failure in failures):
        # The workers go in the controller's own order, as without a mark.
        logger.warning("%s: marks of idle workers cannot be changed: %s", namespace, failures[0])
        return True
    for failure in failures:
        raise failure
    return all(results)


async def _patch_one(kube: Kube, namespace: str, pod: Manifest, *, is_idle: bool) -> bool:
    metadata = pod["metadata"]
    ref = ObjectRef(POD, namespace, metadata["name"])
    operations: list[JsonOp] = [
        {"op": "test", "path": "/metadata/uid", "value": metadata["uid"]},
        {"op": "test", "path": "/metadata/resourceVersion", "value": metadata["resourceVersion"]},
    ]
    if not is_idle:
        operations.append({"op": "remove", "path": COST_POINTER})
    elif metadata.get("annotations"):
        operations.append({"op": "add", "path": COST_POINTER, "value": IDLE_COST})
    else:
        operations.append({"op": "add", "path": ANNOTATIONS, "value": {DELETION_COST: IDLE_COST}})
    try:
        await kube.patch(ref, operations)
    except Conflict:
        logger.info("pod %s/%s changed before its mark", namespace, ref.name)
        return False
    return True


def _may_go(pod: Manifest) -> bool:
    return not has_ended(pod) and not pod["metadata"].get("deletionTimestamp")


def _parse(pod: Manifest) -> WorkerPod:
    metadata, status = pod["metadata"], pod.get("status") or {}
    addresses = [entry.get("ip") for entry in status.get("podIPs") or ()] or [status.get("podIP")]
    hosts = [metadata["name"], pod.get("spec", {}).get("hostname"), *addresses]
    return WorkerPod(
        name=metadata["name"],
        uid=metadata["uid"],
        hosts=frozenset(host for host in hosts if host),
        is_ready=ready_at(pod) is not None,
        cost=(metadata.get("annotations") or {}).get(DELETION_COST),
    )
