"""The uninstallation itself, over any API server: the operator ends first, then our finalizers go.

A finalizer that goes before would come back from an operator that still runs.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from headroom.errors import Conflict, HeadroomError, NotServed
from headroom.manifests.children import read_service_name
from headroom.model.replica import SET_LABEL, hash8
from headroom.ports.clock import Clock
from headroom.ports.kube import (
    CLAIM,
    DATABASE_GUARD,
    DEPLOYMENT,
    FINALIZER,
    OUR_KINDS,
    POD,
    REPLICA_SET,
    WORKER_POOL,
    Kind,
    Kube,
    KubeReader,
    KubeWriter,
    Manifest,
    ObjectRef,
    Scales,
)

POLL_SECONDS = 1.0
ATTEMPTS = 10
"""How often a write is tried if others keep changing the object, which is rare once the operator has ended."""


class OperatorStillRuns(HeadroomError):
    """The operator's pods still run after the timeout, so its finalizers would come back."""


@dataclass(frozen=True, slots=True)
class Release:
    """What is being uninstalled: the operator's Deployment, its pods' labels, and what it watched (empty: all)."""

    namespace: str
    deployment: str
    selector: Mapping[str, str]
    watched: tuple[str, ...]
    timeout_seconds: float


async def uninstall(kube: Kube, clock: Clock, release: Release, say: Callable[[str], None]) -> None:
    """End the operator, then release every resource; raises HeadroomError if either fails."""
    await stop_operator(kube, release)
    await wait_until_gone(kube, clock, release)
    say(f"The operator {release.namespace}/{release.deployment} is stopped.")
    # Before the finalizers go: an object that is being deleted vanishes with its finalizer.
    left = await _gather_left(kube, release)
    for kind in OUR_KINDS:
        for body in await _list_watched(kube, kind, release):
            await release_finalizer(kube, kube, _ref_of(kind, body))
    say(f"The finalizer {FINALIZER} is off every resource: none will hang when it is deleted.")
    for line in left:
        say(line)


async def stop_operator(scales: Scales, release: Release) -> None:
    """Scale the operator to zero, so that it cannot add a finalizer again; a missing Deployment counts as stopped."""
    ref = ObjectRef(DEPLOYMENT, release.namespace, release.deployment)
    for _ in range(ATTEMPTS):
        scale = await scales.get_scale(ref)
        if scale is None or scale.spec_replicas == 0:
            return
        try:
            await scales.set_scale(scale, 0)
        except Conflict:
            continue
        return
    raise OperatorStillRuns(f"{ref} is changed by others all the time: scale it to 0 by hand, then uninstall again")


async def wait_until_gone(reader: KubeReader, clock: Clock, release: Release) -> None:
    """Wait until no pod of the operator runs; raises OperatorStillRuns after the timeout."""
    deadline = clock.monotonic() + release.timeout_seconds
    while names := await _list_running(reader, release):
        if clock.monotonic() >= deadline:
            raise OperatorStillRuns(
                f"after {release.timeout_seconds:g} s these pods still run: {', '.join(names)}; "
                "end them, then uninstall again; nothing was changed but the number of operators"
            )
        await clock.sleep(POLL_SECONDS)


async def _list_running(reader: KubeReader, release: Release) -> list[str]:
    """The operator's pods that have not ended; an evicted one stays listed for a long time and does nothing."""
    pods = await reader.list(POD, release.namespace, labels=release.selector)
    return _names([pod for pod in pods if pod.get("status", {}).get("phase") not in ("Failed", "Succeeded")])


async def release_finalizer(reader: KubeReader, writer: KubeWriter, ref: ObjectRef) -> None:
    """Remove our finalizer from an object and leave those of others; a missing object counts as released."""
    for _ in range(ATTEMPTS):
        body = await reader.get(ref)
        finalizers = (body or {}).get("metadata", {}).get("finalizers") or []
        if body is None or FINALIZER not in finalizers:
            return
        kept = [finalizer for finalizer in finalizers if finalizer != FINALIZER]
        is_unchanged = {"op": "test", "path": "/metadata/resourceVersion", "value": body["metadata"]["resourceVersion"]}
        try:
            await writer.patch(ref, [is_unchanged, {"op": "replace", "path": "/metadata/finalizers", "value": kept}])
        except Conflict:
            continue
        return
    raise Conflict(f"{ref} is changed by others all the time: uninstall again")


async def _gather_left(reader: KubeReader, release: Release) -> list[str]:
    pools = await _list_watched(reader, WORKER_POOL, release)
    lines = [_describe_pool(pool) for pool in pools]
    for body in await _list_watched(reader, REPLICA_SET, release):
        namespace, labels = body["metadata"]["namespace"], {SET_LABEL: body["metadata"]["name"]}
        pods = await reader.list(POD, namespace, labels=labels)
        claims = await reader.list(CLAIM, namespace, labels=labels)
        lines += describe_set(body, _names(pods), _names(claims))
    for body in await _list_watched(reader, DATABASE_GUARD, release):
        lines.append(
            f"dbg/{body['metadata']['name']} in {body['metadata']['namespace']} stays: nothing watches it now."
        )
    return [*(lines or ["No resource of these kinds stays."]), *_describe_last_steps(release)]


def _describe_last_steps(release: Release) -> list[str]:
    """What stays after every uninstall, and how a person removes it."""
    kinds = " ".join(f"{kind.plural}.{kind.api_version.partition('/')[0]}" for kind in OUR_KINDS)
    return [
        f"The three kinds and the namespace {release.namespace} stay. To remove them too, last:",
        f"    kubectl delete crd {kinds}   (with every resource of these kinds, replicas included)",
        f"    kubectl delete namespace {release.namespace}",
    ]


def describe_set(body: Manifest, pods: Sequence[str], claims: Sequence[str]) -> list[str]:
    """What stays of a ReplicaSet, and how a person removes it permanently."""
    metadata = body["metadata"]
    namespace, name = metadata["namespace"], metadata["name"]
    service = read_service_name(name, body["spec"].get("routing", {}).get("serviceName"))
    ours = f"slot_name ~ '^hr_[0-9a-f]{{8}}_{hash8(metadata['uid'])}_'"
    fate = "continues to serve reads, but nobody watches its replay lag now."
    if "deletionTimestamp" in metadata:
        fate = "was being deleted: pods, claims and Service go now, its slots do not."
    return [
        f"dbrs/{name} in {namespace} {fate}",
        f"  Service: {service}",
        f"  pods:    {', '.join(pods) or 'none'}",
        f"  claims:  {', '.join(claims) or 'none'}",
        "  slots on the primary; each keeps WAL there while its pod is away:",
        f"    SELECT slot_name, active, wal_status FROM pg_replication_slots WHERE {ours};",  # noqa: S608  a person runs it
        "  to remove it for good, in this order:",
        f"    kubectl -n {namespace} delete dbrs/{name}",
        f"    SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE {ours} AND NOT active;",  # noqa: S608
    ]


def _describe_pool(body: Manifest) -> str:
    target = body["spec"]["workers"].get("targetRef") or body["spec"]["workers"].get("suspendRef") or {}
    where = f"{target.get('kind', 'its target')} {target.get('name', '')} in {body['metadata']['namespace']}"
    return f"wp/{body['metadata']['name']}: {where} keeps its number of workers; nothing scales it now."


async def _list_watched(reader: KubeReader, kind: Kind, release: Release) -> list[Manifest]:
    """All of a kind; none if its definition is gone, since its resources went with it."""
    try:
        return [body for namespace in release.watched or ("",) for body in await reader.list(kind, namespace)]
    except NotServed:
        return []


def _ref_of(kind: Kind, body: Manifest) -> ObjectRef:
    return ObjectRef(kind, body["metadata"]["namespace"], body["metadata"]["name"])


def _names(objects: Sequence[Manifest]) -> list[str]:
    return [body["metadata"]["name"] for body in objects]
