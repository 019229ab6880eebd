"""Marks idle workers before a count is lowered, so that the controller of their Deployment ends those first."""

import asyncio
import logging
from collections.abc import Sequence, Set

from headroom.errors import Conflict, Refused
from headroom.model.conditions import Finding
from headroom.policy.workerpool import Target
from headroom.policy.workerpool.jobs import JobsInHand
from headroom.policy.workerpool.victims import DELETION_COST, IDLE_COST, WorkerPod, choose_victims
from headroom.ports.kube import POD, JsonOp, Manifest, ObjectRef
from headroom.reasons import Reason
from headroom.reconcilers.workerpool.memory import PoolContext
from headroom.reconcilers.workerpool.target import has_ended, ready_at

ANNOTATIONS = "/metadata/annotations"
MOST_NAMED = 3
COST_POINTER = f"{ANNOTATIONS}/{DELETION_COST.replace('/', '~1')}"

logger = logging.getLogger(__name__)


async def mark_victims(context: PoolContext, target: Target, allowed: int, jobs: JobsInHand) -> int:
    """Mark the idle workers that are to go; the count that may be written after that.

    It is `allowed`, or more if only idle workers may go and fewer of them are found. Pods that were marked for a step
    that did not happen lose the mark. A pod that changes meanwhile stays as it is.
    """
    sample, labels = context.facts.sample, target.labels
    if sample is None or sample.busy_hosts is None or not target.chooses_victims or not labels:
        return allowed
    listed = await context.services.kube.list(POD, context.namespace, labels=dict(labels))
    pods = {pod["metadata"]["name"]: pod for pod in listed if _may_go(pod)}
    marks = choose_victims([_parse(pod) for pod in pods.values()], sample.busy_hosts, target.present - allowed)
    await _patch(context, pods, marks.marked, is_marked=True)
    await _patch(context, pods, marks.unmarked, is_marked=False)
    if not jobs.busy or not jobs.is_grace_too_short:
        return allowed
    if pods and not marks.idle:
        context.record(_describe_unknown_hosts(target, sample.busy_hosts))
    return max(allowed, target.present - marks.idle)


def _describe_unknown_hosts(target: Target, hosts: Set[str]) -> Finding:
    some = ", ".join(sorted(hosts)[:MOST_NAMED])
    message = (
        f"no worker may go: of the busy workers ({some}), at least one is not a pod of {target}; "
        "let spec.queue.postgres.custom.busyWorkersQuery return names or IP addresses of pods of this pool only"
    )
    return Finding(Reason.GRACE_TOO_SHORT, message)


async def _patch(
    context: PoolContext, pods: dict[str, Manifest], chosen: Sequence[WorkerPod], *, is_marked: bool
) -> None:
    results = await asyncio.gather(
        *(_patch_one(context, pods[pod.name], is_marked=is_marked) for pod in chosen), return_exceptions=True
    )
    failures = [result for result in results if isinstance(result, BaseException)]
    if failures and all(isinstance(failure, Refused) for failure in failures):
        # The worker goes in the controller's own order, as without a mark.
        logger.warning("%s/%s: idle workers cannot be marked: %s", context.namespace, context.name, failures[0])
        return
    for failure in failures:
        raise failure


async def _patch_one(context: PoolContext, pod: Manifest, *, is_marked: bool) -> None:
    metadata = pod["metadata"]
    ref = ObjectRef(POD, context.namespace, metadata["name"])
    operations: list[JsonOp] = [
        {"op": "test", "path": "/metadata/uid", "value": metadata["uid"]},
        {"op": "test", "path": "/metadata/resourceVersion", "value": metadata["resourceVersion"]},
    ]
    if not is_marked:
        operations.append({"op": "remove", "path": COST_POINTER})
    elif metadata.get("annotations"):
        operations.append({"op": "add", "path": COST_POINTER, "value": IDLE_COST})
    else:
        operations.append({"op": "add", "path": ANNOTATIONS, "value": {DELETION_COST: IDLE_COST}})
    try:
        await context.services.kube.patch(ref, operations)
    except Conflict:
        logger.info("pod %s/%s changed before it was marked", context.namespace, ref.name)


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
