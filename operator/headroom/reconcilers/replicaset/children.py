"""Parses the pods, claims and endpoint slices of a set into facts; only what the uid of the set owns belongs to it."""

import ssl
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

from headroom.api.quantities import parse_quantity
from headroom.manifests.children import CERTIFICATE
from headroom.manifests.pod import SEED, SERVER, SERVER_TLS_VOLUME
from headroom.model.frozen import FrozenMap
from headroom.model.replica import (
    CONFIG_ANNOTATION,
    COPY_SOURCE_ANNOTATION,
    COPY_WHY_ANNOTATION,
    DRAINING_SINCE_ANNOTATION,
    DRAINING_WHY_ANNOTATION,
    RETIRE_ANNOTATION,
    ROLE_LABEL,
    SEEDED_ANNOTATION,
    SLOT_ANNOTATION,
    TEMPLATE_ANNOTATION,
    ClaimFacts,
    ContainerFacts,
    PodFacts,
    Role,
)
from headroom.model.restore import WHY_NOTE, parse_restored
from headroom.model.snapshot import (
    PROVISIONER_ANNOTATIONS,
    SNAPSHOT_ANNOTATION,
    STAMP_ANNOTATIONS,
    SnapshotFacts,
    Stamps,
)
from headroom.ports.kube import VOLUME_SNAPSHOT, Manifest
from headroom.reasons import Reason

MOST_REPORTS = 1024
"""Reports of seed steps that need not be parsed again in each pass."""
NEVER = datetime.fromtimestamp(0, UTC)


def is_owned(manifest: Manifest, uid: str) -> bool:
    """Whether the object's controller is the set of this uid."""
    owners = manifest["metadata"].get("ownerReferences", ())
    return any(owner.get("uid") == uid and owner.get("controller") for owner in owners)


def parse_pod(manifest: Manifest) -> PodFacts:
    """The facts in a pod's manifest; what the kubelet has not reported yet is absent."""
    metadata, status = manifest["metadata"], manifest.get("status", {})
    annotations = metadata.get("annotations", {})
    since = annotations.get(DRAINING_SINCE_ANNOTATION)
    volumes = manifest.get("spec", {}).get("volumes") or ()
    seed = _parse_container(status.get("initContainerStatuses", ()), SEED)
    has_given = any(volume["name"] == SERVER_TLS_VOLUME for volume in volumes)
    authority = "" if has_given else parse_authority(seed.report)
    return PodFacts(
        name=metadata["name"],
        uid=metadata["uid"],
        resource_version=metadata["resourceVersion"],
        role=_parse_role(metadata.get("labels", {}).get(ROLE_LABEL)),
        created_at=parse_time(metadata.get("creationTimestamp")) or NEVER,
        phase=status.get("phase", "Pending"),
        is_ready=_condition(status, "Ready").get("status") == "True",
        is_deleting="deletionTimestamp" in metadata,
        ends_at=parse_time(metadata.get("deletionTimestamp")),
        scheduled_at=_scheduled_at(status),
        ip=status.get("podIP", ""),
        node=manifest.get("spec", {}).get("nodeName", ""),
        has_tls=has_given or bool(authority),
        authority=authority,
        copy_source=annotations.get(COPY_SOURCE_ANNOTATION, ""),
        copy_why=annotations.get(COPY_WHY_ANNOTATION, ""),
        config=annotations.get(CONFIG_ANNOTATION, ""),
        template=annotations.get(TEMPLATE_ANNOTATION, ""),
        role_label=metadata.get("labels", {}).get(ROLE_LABEL),
        unschedulable=_unschedulable(status),
        seed=seed,
        server=_parse_container(status.get("containerStatuses", ()), SERVER),
        draining_since=parse_time(since),
        why=parse_reason(annotations.get(DRAINING_WHY_ANNOTATION)),
    )


def parse_claim(manifest: Manifest) -> ClaimFacts:
    """The facts in a claim's manifest."""
    metadata = manifest["metadata"]
    annotations: Mapping[str, str] = metadata.get("annotations", {})
    return ClaimFacts(
        name=metadata["name"],
        uid=metadata["uid"],
        resource_version=metadata["resourceVersion"],
        created_at=parse_time(metadata.get("creationTimestamp")) or NEVER,
        is_bound=manifest.get("status", {}).get("phase") == "Bound",
        is_deleting="deletionTimestamp" in metadata,
        retire=parse_reason(annotations.get(RETIRE_ANNOTATION)),
        slot=annotations.get(SLOT_ANNOTATION, ""),
        is_seeded=annotations.get(SEEDED_ANNOTATION) == "true",
        restored_from=_parse_data_source(manifest.get("spec", {})),
        why=annotations.get(WHY_NOTE, ""),
        snapshot=annotations.get(SNAPSHOT_ANNOTATION, ""),
        stamps=FrozenMap((name, annotations[name]) for name in STAMP_ANNOTATIONS if name in annotations),
        provisioner=next((annotations[name] for name in PROVISIONER_ANNOTATIONS if name in annotations), ""),
    )


def parse_restored_stamps(manifest: Manifest) -> Stamps | None:
    """What a claim says of the snapshot that its volume is created from; None for any other claim."""
    if not _parse_data_source(manifest.get("spec", {})):
        return None
    return parse_restored(manifest["metadata"].get("annotations", {}))


def _parse_data_source(spec: Mapping[str, Any]) -> str:
    source = spec.get("dataSource") or {}
    return str(source.get("name", "")) if source.get("kind") == VOLUME_SNAPSHOT.name else ""


def parse_snapshot(manifest: Manifest) -> SnapshotFacts:
    """The facts in a VolumeSnapshot's manifest."""
    metadata, status = manifest["metadata"], manifest.get("status") or {}
    return SnapshotFacts(
        name=metadata["name"],
        uid=metadata["uid"],
        resource_version=metadata["resourceVersion"],
        created_at=parse_time(metadata.get("creationTimestamp")) or NEVER,
        claim=(manifest.get("spec", {}).get("source") or {}).get("persistentVolumeClaimName") or "",
        class_name=manifest.get("spec", {}).get("volumeSnapshotClassName") or "",
        cut_at=parse_time(status.get("creationTime")),
        is_ready=status.get("readyToUse") is True,
        is_deleting="deletionTimestamp" in metadata,
        size=_parse_size(status.get("restoreSize")),
        error=(status.get("error") or {}).get("message") or "",
        stamps=Stamps.parse(metadata.get("annotations", {})),
    )


def _parse_size(text: object) -> int | None:
    """Bytes; a driver may leave the size out, or report 0 for unknown."""
    try:
        return int(parse_quantity(str(text))) or None if text is not None else None
    except ValueError:
        return None


def parse_listed(slices: Iterable[Manifest]) -> frozenset[str]:
    """Uids of the pods that the Service sends connections to."""
    return frozenset(
        endpoint["targetRef"]["uid"]
        for manifest in slices
        for endpoint in manifest.get("endpoints") or ()
        if endpoint.get("conditions", {}).get("ready") and "uid" in endpoint.get("targetRef", {})
    )


@lru_cache(maxsize=MOST_REPORTS)
def parse_authority(report: str) -> str:
    """The certificate that a seed step reported (PEM); empty unless it is one certificate that parses."""
    text = report.strip()
    if not CERTIFICATE.fullmatch(text):
        return ""
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cadata=text)
    except (ssl.SSLError, ValueError):
        return ""
    return text


def is_node_lost(manifest: Manifest | None) -> bool:
    """True for a node that is gone, or whose kubelet has not reported for as long as the cluster waits."""
    return manifest is None or _condition(manifest.get("status", {}), "Ready").get("status") != "True"


def parse_time(text: str | None) -> datetime | None:
    """Read an RFC 3339 time; None without a text."""
    return datetime.fromisoformat(text) if text else None


def parse_reason(text: str | None) -> Reason | None:
    """Read a reason that we wrote; one that this version does not know is `Retired`, since it was decided."""
    if not text:
        return None
    return Reason(text) if text in set(Reason) else Reason.RETIRED


def _parse_role(text: str | None) -> Role:
    return Role(text) if text in set(Role) else Role.PROVISIONING


def _parse_container(statuses: Iterable[Mapping[str, Any]], name: str) -> ContainerFacts:
    status: Mapping[str, Any] = next((entry for entry in statuses if entry.get("name") == name), {})
    state = status.get("state", {})
    ended = state.get("terminated") or status.get("lastState", {}).get("terminated") or {}
    running = state.get("running")
    return ContainerFacts(
        is_running=running is not None,
        is_done=state.get("terminated", {}).get("exitCode") == 0,
        started_at=parse_time((running or {}).get("startedAt")),
        restarts=status.get("restartCount", 0),
        waiting=state.get("waiting", {}).get("reason", ""),
        waiting_why=state.get("waiting", {}).get("message", ""),
        image=status.get("image", ""),
        message=(ended.get("message") or "") if ended.get("exitCode") else "",
        exit_code=ended.get("exitCode"),
        ended_by=ended.get("reason") or "",
        report=(ended.get("message") or "") if ended.get("exitCode") == 0 else "",
    )


def _condition(status: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    return next((entry for entry in status.get("conditions", ()) if entry.get("type") == name), {})


def _scheduled_at(status: Mapping[str, Any]) -> datetime | None:
    scheduled = _condition(status, "PodScheduled")
    return parse_time(scheduled.get("lastTransitionTime")) if scheduled.get("status") == "True" else None


def _unschedulable(status: Mapping[str, Any]) -> str:
    scheduled = _condition(status, "PodScheduled")
    return str(scheduled.get("message", "")) if scheduled.get("reason") == "Unschedulable" else ""
