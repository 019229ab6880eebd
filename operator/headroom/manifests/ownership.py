"""Whose child an object is: labels to find it by and the owner reference that garbage collection follows."""

from dataclasses import dataclass
from typing import Any

from headroom.api.v1alpha1.common import API_VERSION
from headroom.model.replica import SET_LABEL

COMMON_LABELS = {"app.kubernetes.io/managed-by": "headroom", "app.kubernetes.io/name": "headroom-replica"}


@dataclass(frozen=True, slots=True)
class Owner:
    """The ReplicaSet that children belong to."""

    name: str
    namespace: str
    uid: str


def build_metadata(
    owner: Owner, name: str, *, labels: dict[str, str] | None = None, annotations: dict[str, str] | None = None
) -> dict[str, Any]:
    """Metadata of a child; our labels win over the ones given."""
    metadata: dict[str, Any] = {
        "name": name,
        "namespace": owner.namespace,
        "labels": {**(labels or {}), **COMMON_LABELS, SET_LABEL: owner.name},
        "ownerReferences": [build_owner_reference(owner)],
    }
    if annotations:
        metadata["annotations"] = annotations
    return metadata


def build_owner_reference(owner: Owner) -> dict[str, Any]:
    """Controller, and not blocking: a foreground deletion of the owner waits for our finalizer, not for pods."""
    return {
        "apiVersion": API_VERSION,
        "kind": "ReplicaSet",
        "name": owner.name,
        "uid": owner.uid,
        "controller": True,
        "blockOwnerDeletion": False,
    }
