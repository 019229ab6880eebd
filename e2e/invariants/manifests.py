"""Kubernetes objects as the facts that rules judge: pure."""

import re
from collections.abc import Iterable, Mapping
from typing import Any

from e2e.invariants.excuses import LIBRARY_REASONS
from e2e.invariants.facts import ClaimFacts, GuardFacts, Key, PodFacts, SetFacts, SnapshotFacts

Manifest = Mapping[str, Any]
SET_LABEL, ROLE_LABEL = "headroom.dev/replica-set", "headroom.dev/role"
RETAINED_LABEL = "headroom.dev/retained-from"
WHY_ANNOTATION, SLOT_ANNOTATION = "headroom.dev/draining-why", "headroom.dev/slot"
RETIRE_ANNOTATION = "headroom.dev/retire"
ANCHOR_ANNOTATION, RESTORED_ANCHOR_ANNOTATION = "headroom.dev/snapshot-anchor", "headroom.dev/restored-anchor"
SERVICE_LABEL = "kubernetes.io/service-name"
STALE_CONDITION = "ReadsMayBeStale"
SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
UNITS = {"": 1, "k": 1000, "M": 10**6, "G": 10**9, "T": 10**12, "Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40}


def key_of(manifest: Manifest) -> Key:
    """Namespace and name."""
    metadata = manifest["metadata"]
    return metadata.get("namespace", ""), metadata["name"]


def parse_set(manifest: Manifest) -> SetFacts:
    """A ReplicaSet as the API server stores it, with the defaults of its definition."""
    spec, (namespace, name) = manifest["spec"], key_of(manifest)
    status = manifest.get("status") or {}
    conditions, members = status.get("conditions", ()), status.get("members", ())
    stale: Manifest = next((entry for entry in conditions if _is_true(entry, STALE_CONDITION)), {})
    reasons = frozenset(entry.get("reason", "") for entry in conditions)
    readiness, autoscaling = spec["readiness"], spec.get("autoscaling")
    cap = spec["provisioning"].get("maxSlotWAL")
    return SetFacts(
        key=(namespace, name),
        guard=(namespace, spec["databaseRef"]["name"]),
        service=(namespace, spec.get("routing", {}).get("serviceName") or f"{name}-read"),
        is_active=spec["mode"] == "Active",
        is_deleting="deletionTimestamp" in manifest["metadata"],
        wanted=autoscaling["minReplicas"] if autoscaling else spec["replicas"],
        min_serving=readiness["minServing"],
        max_lag=parse_duration(readiness["maxReplayLag"]),
        eject_lag=parse_duration(readiness["ejectReplayLag"]),
        eject_grace=parse_duration(spec["routing"]["ejectGrace"]),
        drain_timeout=parse_duration(spec["drain"]["timeout"]),
        wal_cap=None if cap is None else parse_quantity(cap),
        stale_reason=stale.get("reason", ""),
        stale_message=stale.get("message", ""),
        measured=frozenset(entry["name"] for entry in members if entry.get("replayLagSeconds") is not None),
        mismatched=frozenset(entry["name"] for entry in members if _has_reason(entry, LIBRARY_REASONS)),
        reasons=reasons,
        uid=manifest["metadata"].get("uid", ""),
    )


def parse_guard(manifest: Manifest) -> GuardFacts:
    """A DatabaseGuard; a host without a dot is a Service of its namespace."""
    connection, (namespace, name) = manifest["spec"]["connection"], key_of(manifest)
    conditions = (manifest.get("status") or {}).get("conditions", ())
    ready: Manifest = next((entry for entry in conditions if entry["type"] == "Ready"), {})
    host = connection["host"]
    return GuardFacts(
        key=(namespace, name),
        host=host if "." in host else f"{host}.{namespace}",
        port=connection.get("port", 5432),
        database=connection["database"],
        is_ready=ready.get("status") == "True",
        reason=ready.get("reason", ""),
    )


def parse_pod(manifest: Manifest) -> PodFacts:
    """A pod; what it mounts and streams with counts whoever made it."""
    metadata, spec, status = manifest["metadata"], manifest["spec"], manifest.get("status") or {}
    labels, annotations = metadata.get("labels", {}), metadata.get("annotations", {})
    containers = (*spec.get("initContainers", ()), *spec.get("containers", ()))
    variables = {entry["name"]: entry.get("value", "") for one in containers for entry in one.get("env", ())}
    volumes = (volume.get("persistentVolumeClaim") for volume in spec.get("volumes", ()))
    return PodFacts(
        key=key_of(manifest),
        set_name=labels.get(SET_LABEL, ""),
        role=labels.get(ROLE_LABEL, ""),
        ip=status.get("podIP", ""),
        is_ready=any(_is_true(entry, "Ready") for entry in status.get("conditions", ())),
        is_ended=status.get("phase") in ("Succeeded", "Failed"),
        is_deleting="deletionTimestamp" in metadata,
        why=annotations.get(WHY_ANNOTATION, ""),
        slot=variables.get("SLOT", "") if SET_LABEL in labels else "",
        claims=tuple(claim["claimName"] for claim in volumes if claim),
    )


def parse_claim(manifest: Manifest) -> ClaimFacts | None:
    """A member's claim; None for anybody else's, and for one that outlives its set."""
    metadata = manifest["metadata"]
    labels, annotations = metadata.get("labels", {}), metadata.get("annotations", {})
    slot = annotations.get(SLOT_ANNOTATION, "")
    if SET_LABEL not in labels or RETAINED_LABEL in labels or not slot:
        return None
    is_leaving = RETIRE_ANNOTATION in annotations or "deletionTimestamp" in metadata
    anchors = frozenset(annotations.get(name, "") for name in (ANCHOR_ANNOTATION, RESTORED_ANCHOR_ANNOTATION)) - {""}
    return ClaimFacts(key_of(manifest), labels[SET_LABEL], slot, is_leaving, anchors)


def parse_snapshot(manifest: Manifest) -> SnapshotFacts | None:
    """A snapshot that the operator took; None for anybody else's."""
    metadata = manifest["metadata"]
    labels, annotations = metadata.get("labels", {}), metadata.get("annotations", {})
    owner = next((entry["uid"] for entry in metadata.get("ownerReferences", ()) if entry["kind"] == "ReplicaSet"), "")
    if SET_LABEL not in labels or not owner:
        return None
    anchor = annotations.get(ANCHOR_ANNOTATION, "")
    return SnapshotFacts(key_of(manifest), labels[SET_LABEL], owner, anchor, "deletionTimestamp" in metadata)


def parse_listed(slices: Iterable[Manifest]) -> dict[Key, frozenset[str]]:
    """The addresses that each Service sends new connections to."""
    found: dict[Key, frozenset[str]] = {}
    for entry in slices:
        service = entry["metadata"].get("labels", {}).get(SERVICE_LABEL)
        if service is not None:
            key = (entry["metadata"]["namespace"], service)
            addresses = [
                address
                for endpoint in entry.get("endpoints") or ()
                if endpoint.get("conditions", {}).get("ready")
                for address in endpoint["addresses"]
            ]
            found[key] = found.get(key, frozenset()) | frozenset(addresses)
    return found


def parse_duration(text: str) -> float:
    """Seconds of a duration such as 1m30s."""
    return sum(int(count) * SECONDS[unit] for count, unit in re.findall(r"(\d+)(ms|s|m|h)", text))


def parse_quantity(value: str | int) -> int:
    """Bytes of a quantity such as 4Gi."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([kMGT]|[KMGT]i)?", str(value))
    if match is None:
        message = f"not a size: {value}"
        raise ValueError(message)
    return int(float(match[1]) * UNITS[match[2] or ""])


def _has_reason(member: Manifest, reasons: frozenset[str]) -> bool:
    return any(entry.get("reason") in reasons for entry in member.get("conditions", ()))


def _is_true(condition: Manifest, kind: str) -> bool:
    return condition["type"] == kind and condition.get("status") == "True"
