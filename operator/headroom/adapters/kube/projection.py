"""What is kept of a watched object, and which objects of a kind are watched at all.

A cluster has far more Deployments than pools, so of a workload only what a pool decides on is kept.
"""

import hashlib
import json
from collections.abc import Callable, Mapping
from typing import Any

from headroom.model.replica import SET_LABEL
from headroom.ports.kube import (
    DEPLOYMENT,
    HORIZONTAL_POD_AUTOSCALER,
    SET_CHILDREN,
    STATEFUL_SET,
    WORKER_POOL,
    Kind,
    Manifest,
)

LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"
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
    manifest["metadata"] = {name: value for name, value in seen["metadata"].items() if name != "managedFields"}
    shrink = SHRINKERS.get(kind)
    return manifest if shrink is None else shrink(manifest)


def _shrink_workload(manifest: Manifest) -> Manifest:
    spec, status = manifest.get("spec") or {}, manifest.get("status") or {}
    kept = {name: spec[name] for name in ("replicas", "selector") if name in spec}
    if "template" in spec:
        kept["templateDigest"] = _digest(spec["template"])
    counts = {name: status[name] for name in COUNTS if name in status}
    return {**manifest, "metadata": _without_last_applied(manifest["metadata"]), "spec": kept, "status": counts}


def _shrink_autoscaler(manifest: Manifest) -> Manifest:
    """The claim on a target; metrics and conditions are not needed."""
    spec = manifest.get("spec") or {}
    kept = {name: spec[name] for name in ("scaleTargetRef", "minReplicas", "maxReplicas") if name in spec}
    parts = {name: value for name, value in manifest.items() if name != "status"}
    return {**parts, "metadata": _without_last_applied(manifest["metadata"]), "spec": kept}


SHRINKERS: Mapping[Kind, Callable[[Manifest], Manifest]] = {
    DEPLOYMENT: _shrink_workload,
    STATEFUL_SET: _shrink_workload,
    HORIZONTAL_POD_AUTOSCALER: _shrink_autoscaler,
}


def _without_last_applied(metadata: Mapping[str, Any]) -> dict[str, Any]:
    annotations = metadata.get("annotations")
    if not annotations or LAST_APPLIED not in annotations:
        return dict(metadata)
    return {**metadata, "annotations": {name: text for name, text in annotations.items() if name != LAST_APPLIED}}


def _digest(template: Any) -> str:
    text = json.dumps(template, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:DIGEST_DIGITS]
