"""The small children of a set (claims, read Service, certificates, disruption budget), and the metadata of all.

The labels find a child, and garbage collection follows its owner reference.
"""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from headroom.api.v1alpha1.common import API_VERSION
from headroom.api.v1alpha1.provisioning import Method
from headroom.api.v1alpha1.replicaset import Storage
from headroom.model.copies import MOST_OF_WHY
from headroom.model.replica import (
    INCARNATION_LABEL,
    ORDINAL_LABEL,
    ROLE_LABEL,
    SET_LABEL,
    SLOT_ANNOTATION,
    MemberId,
    Role,
)
from headroom.model.restore import METHOD_NOTE, WHY_NOTE, format_restored
from headroom.model.snapshot import Stamps
from headroom.model.text import clean_text

COMMON_LABELS = {"app.kubernetes.io/managed-by": "headroom", "app.kubernetes.io/name": "headroom-replica"}
POSTGRES_PORT = 5432
SNAPSHOT_GROUP = "snapshot.storage.k8s.io"
BUNDLE_KEY, BUNDLE_MEMBERS_KEY = "ca.crt", "members"
CERTIFICATE = re.compile(r"-----BEGIN CERTIFICATE-----\n[A-Za-z0-9+/=\n]+-----END CERTIFICATE-----")
"""One certificate (PEM) without anything beside it."""


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
    """An owner that is controller and does not block: a foreground deletion waits for our finalizer, not for pods."""
    return {
        "apiVersion": API_VERSION,
        "kind": "ReplicaSet",
        "name": owner.name,
        "uid": owner.uid,
        "controller": True,
        "blockOwnerDeletion": False,
    }


def read_service_name(set_name: str, wanted: str | None) -> str:
    """Name of the read Service: what the spec says, else the set's name with -read."""
    return wanted or f"{set_name}-read"


def build_serving_labels(owner: Owner) -> dict[str, str]:
    """The labels that only serving pods of this set have; also `status.selector`."""
    return {SET_LABEL: owner.name, ROLE_LABEL: Role.SERVING.value}


def build_read_service(owner: Owner, service_name: str) -> dict[str, Any]:
    """The read Service: it selects by our label, so only the operator adds an endpoint."""
    port = {"name": "postgresql", "port": POSTGRES_PORT, "protocol": "TCP", "targetPort": POSTGRES_PORT}
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": build_metadata(owner, service_name),
        "spec": {"type": "ClusterIP", "selector": build_serving_labels(owner), "ports": [port]},
    }


def bundle_name(set_name: str) -> str:
    """Name of the ConfigMap by which clients verify the members."""
    return f"{set_name}-ca"


def build_bundle(owner: Owner, authorities: Mapping[str, str], given: str) -> dict[str, Any]:
    """The ConfigMap by which clients verify the members: `ca.crt` as libpq's sslrootcert takes it.

    `authorities` has the certificate of each member's authority (PEM) by its name, `given` those that verify the
    certificate of the spec's Secret, if there is one. `members` says which member each belongs to, by a digest, so that
    a member whose pod is being recreated keeps its place.
    """
    listed = sorted(authorities.items())
    texts = [*(pem for _, pem in listed), *([given] if given else [])]
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": build_metadata(owner, bundle_name(owner.name)),
        "data": {
            BUNDLE_KEY: "".join(f"{text.strip()}\n" for text in texts),
            BUNDLE_MEMBERS_KEY: "".join(f"{name} {digest_authority(pem)}\n" for name, pem in listed),
        },
    }


def parse_bundle(data: Mapping[str, Any]) -> dict[str, str]:
    """The members' authorities in the data of such a ConfigMap, by name; what does not fit together is left out."""
    blocks = {digest_authority(pem): pem for pem in CERTIFICATE.findall(str(data.get(BUNDLE_KEY, "")))}
    entries = (line.partition(" ") for line in str(data.get(BUNDLE_MEMBERS_KEY, "")).splitlines())
    return {name: blocks[digest] for name, _, digest in entries if digest in blocks}


def digest_authority(pem: str) -> str:
    """A digest of a certificate's text."""
    return hashlib.sha256(pem.strip().encode()).hexdigest()


def build_disruption_budget(owner: Owner, *, desired: int, min_serving: int) -> dict[str, Any]:
    """One serving replica may be evicted at a time, never below `min_serving`; a single replica may always be evicted.

    With a single replica a budget would only block the drain of its node: a standby takes over first.
    """
    at_least = max(desired - 1, min_serving) if desired > 1 else 0
    return {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": build_metadata(owner, f"{owner.name}-serving"),
        "spec": {
            "minAvailable": at_least,
            "selector": {"matchLabels": build_serving_labels(owner)},
            "unhealthyPodEvictionPolicy": "AlwaysAllow",
        },
    }


def build_member_labels(member: MemberId) -> dict[str, str]:
    """Which member a pod or claim belongs to."""
    return {ORDINAL_LABEL: str(member.ordinal), INCARNATION_LABEL: member.incarnation}


@dataclass(frozen=True, slots=True)
class VolumeSource:
    """The snapshot that a volume is created from: its name, the bytes that such a volume needs, and its stamps."""

    name: str
    size: int
    stamps: Stamps


def build_claim(
    owner: Owner, member: MemberId, storage: Storage, *, slot: str, source: VolumeSource | None = None, why: str = ""
) -> dict[str, Any]:
    """The claim of one member, never reused by another; it names the slot, which must go before it does.

    With a `source` its volume is created from that, and else empty. `why` says why, for a person.
    """
    size = max(storage.size, source.size) if source is not None else storage.size
    spec: dict[str, Any] = {
        "accessModes": ["ReadWriteOnce"],
        "resources": {"requests": {"storage": str(size)}},
    }
    annotations = {SLOT_ANNOTATION: slot, METHOD_NOTE: str(Method.BASE_BACKUP)}
    if source is not None:
        spec["dataSource"] = {"apiGroup": SNAPSHOT_GROUP, "kind": "VolumeSnapshot", "name": source.name}
        annotations |= {METHOD_NOTE: str(Method.VOLUME_SNAPSHOT), **format_restored(source.stamps)}
    if why:
        annotations[WHY_NOTE] = clean_text(why, MOST_OF_WHY)
    if storage.storage_class_name is not None:
        spec["storageClassName"] = storage.storage_class_name
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": build_metadata(
            owner,
            member.object_name(owner.name),
            labels=build_member_labels(member),
            annotations=annotations,
        ),
        "spec": spec,
    }
