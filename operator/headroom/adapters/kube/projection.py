"""What is kept of a watched object, and which objects of a kind are watched at all.

A cluster has far more Deployments than pools, so of a workload only what a pool decides on is kept. Anybody may put a
megabyte into the metadata of an object, or our label on a ConfigMap: of metadata only what we read is kept, and of a
child that is too large to be ours only that.
"""

import hashlib
import json
from collections.abc import Callable, Mapping
from typing import Any

from headroom.model.replica import (
    ABANDON_ANNOTATION,
    CONFIG_ANNOTATION,
    COPY_SOURCE_ANNOTATION,
    COPY_WHY_ANNOTATION,
    DRAINING_SINCE_ANNOTATION,
    DRAINING_WHY_ANNOTATION,
    RETIRE_ANNOTATION,
    ROLE_LABEL,
    SEEDED_ANNOTATION,
    SET_LABEL,
    SLOT_ANNOTATION,
    TEMPLATE_ANNOTATION,
)
from headroom.model.restore import RESTORED_ANNOTATIONS, WHY_NOTE
from headroom.model.snapshot import PROVISIONER_ANNOTATIONS, SNAPSHOT_ANNOTATION, STAMP_ANNOTATIONS
from headroom.policy.databaseguard.identity import ACCEPT_ANNOTATION
from headroom.ports.kube import (
    DEPLOYMENT,
    HORIZONTAL_POD_AUTOSCALER,
    SET_CHILDREN,
    STATEFUL_SET,
    WORKER_POOL,
    Kind,
    Manifest,
)

KEPT_METADATA = (
    "name",
    "namespace",
    "uid",
    "resourceVersion",
    "generation",
    "creationTimestamp",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
)
KEPT_ANNOTATIONS = (
    ABANDON_ANNOTATION,
    ACCEPT_ANNOTATION,
    *PROVISIONER_ANNOTATIONS,
    *STAMP_ANNOTATIONS,
    CONFIG_ANNOTATION,
    COPY_SOURCE_ANNOTATION,
    COPY_WHY_ANNOTATION,
    DRAINING_SINCE_ANNOTATION,
    DRAINING_WHY_ANNOTATION,
    *RESTORED_ANNOTATIONS,
    RETIRE_ANNOTATION,
    SEEDED_ANNOTATION,
    SLOT_ANNOTATION,
    SNAPSHOT_ANNOTATION,
    TEMPLATE_ANNOTATION,
    WHY_NOTE,
)
"""All that any pass reads."""
MAX_ANNOTATION = 1024
"""Characters; whatever is longer was not written by us, and is left out."""
FIRST_LABELS = (SET_LABEL, ROLE_LABEL, "kubernetes.io/service-name")
MAX_LABELS = 96
"""Of a child: ours, and the 64 that a spec may add to its pods."""
MAX_SELECTOR = 64
"""Labels of a workload's selector."""
MAX_CHILD = 128 * 1024
"""Characters of a child without its metadata; the ConfigMap of a set, the largest of ours, has less than half."""
COUNTS = (
    "observedGeneration",
    "replicas",
    "readyReplicas",
    "updatedReplicas",
    "availableReplicas",
    "unavailableReplicas",
    "currentReplicas",
)
DIGEST_DIGITS = 16


def is_selected(kind: Kind, manifest: Mapping[str, Any]) -> bool:
    """Whether the watches of a kind bring this object."""
    return kind not in SET_CHILDREN or SET_LABEL in (manifest["metadata"].get("labels") or {})


def target_name(kind: Kind, manifest: Mapping[str, Any]) -> str | None:
    """The name of what a WorkerPool or a HorizontalPodAutoscaler scales; None for other kinds and without a target."""
    spec: Mapping[str, Any] = manifest.get("spec") or {}
    if kind == HORIZONTAL_POD_AUTOSCALER:
        ref = spec.get("scaleTargetRef")
    elif kind == WORKER_POOL:
        ref = (spec.get("workers") or {}).get("targetRef")
    else:
        ref = None
    return None if ref is None else str(ref.get("name"))


def project(kind: Kind, seen: Mapping[str, Any]) -> Manifest:
    """What is kept of an object. Parts are shared with `seen`, which nobody may change afterwards."""
    manifest: Manifest = {"apiVersion": kind.api_version, "kind": kind.name, **seen}
    manifest["metadata"] = project_metadata(kind, seen["metadata"])
    shrink = SHRINKERS.get(kind)
    return manifest if shrink is None else shrink(manifest)


def project_metadata(kind: Kind, metadata: Mapping[str, Any]) -> dict[str, Any]:
    """What is kept of an object's metadata."""
    kept = {name: metadata[name] for name in KEPT_METADATA if name in metadata}
    annotations = project_annotations(metadata)
    if annotations:
        kept["annotations"] = annotations
    owners = [owner for owner in metadata.get("ownerReferences") or () if owner.get("controller")]
    if owners:
        kept["ownerReferences"] = owners
    labels = metadata.get("labels")
    if labels and kind in SET_CHILDREN:
        kept["labels"] = labels if len(labels) <= MAX_LABELS else _first_labels(labels)
    return kept


def project_annotations(metadata: Mapping[str, Any]) -> dict[str, str]:
    """The annotations that a pass reads."""
    found = metadata.get("annotations") or {}
    return {name: found[name] for name in KEPT_ANNOTATIONS if name in found and len(found[name]) <= MAX_ANNOTATION}


def _first_labels(labels: Mapping[str, str]) -> dict[str, str]:
    names = [*(name for name in FIRST_LABELS if name in labels), *(name for name in labels if name not in FIRST_LABELS)]
    return {name: labels[name] for name in names[:MAX_LABELS]}


def _shrink_child(manifest: Manifest) -> Manifest:
    metadata = manifest["metadata"]
    parts = {name: value for name, value in manifest.items() if name != "metadata"}
    if _find_room(parts, MAX_CHILD) >= 0:
        return manifest
    return {"apiVersion": manifest["apiVersion"], "kind": manifest["kind"], "metadata": metadata}


def _find_room(value: Any, left: int) -> int:
    """How many of `left` characters a value leaves; below 0 as soon as it is known to leave none."""
    if isinstance(value, str):
        return left - len(value)
    if isinstance(value, Mapping):
        parts = [part for item in value.items() for part in item]
    elif isinstance(value, list | tuple):
        parts = list(value)
    else:
        return left
    for part in parts:
        if left < 0:
            break
        left = _find_room(part, left - 1)
    return left


def _shrink_workload(manifest: Manifest) -> Manifest:
    spec, status = manifest.get("spec") or {}, manifest.get("status") or {}
    kept = {name: spec[name] for name in ("replicas",) if name in spec}
    if "selector" in spec:
        kept["selector"] = _shrink_selector(spec["selector"] or {})
    if "template" in spec:
        kept["templateDigest"] = _digest(spec["template"])
    counts = {name: status[name] for name in COUNTS if name in status}
    return {**manifest, "spec": kept, "status": counts}


def _shrink_selector(selector: Mapping[str, Any]) -> dict[str, Any]:
    """Equal labels, if they are all there is and not too many; else nothing, since nobody can list by it."""
    labels = selector.get("matchLabels") or {}
    if selector.get("matchExpressions") or not labels or len(labels) > MAX_SELECTOR:
        return {}
    return {"matchLabels": labels}


def _shrink_autoscaler(manifest: Manifest) -> Manifest:
    """The claim on a target; metrics and conditions are not needed."""
    spec = manifest.get("spec") or {}
    kept = {name: spec[name] for name in ("scaleTargetRef", "minReplicas", "maxReplicas") if name in spec}
    parts = {name: value for name, value in manifest.items() if name != "status"}
    return {**parts, "spec": kept}


SHRINKERS: Mapping[Kind, Callable[[Manifest], Manifest]] = {
    **dict.fromkeys(SET_CHILDREN, _shrink_child),
    DEPLOYMENT: _shrink_workload,
    STATEFUL_SET: _shrink_workload,
    HORIZONTAL_POD_AUTOSCALER: _shrink_autoscaler,
}


def _digest(template: Any) -> str:
    text = json.dumps(template, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:DIGEST_DIGITS]
