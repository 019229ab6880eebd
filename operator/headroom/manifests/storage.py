"""Where a member's data is: its claim, and the ConfigMap its pod reads."""

import hashlib
import json
from typing import Any

from headroom.api.v1alpha1.replicaset import Storage
from headroom.manifests.configuration import ReplicaSettings, build_hba, build_ident, build_postgresql_conf
from headroom.manifests.ownership import Owner, build_metadata
from headroom.manifests.scripts import load_scripts
from headroom.model.database import ServerFacts
from headroom.model.replica import INCARNATION_LABEL, ORDINAL_LABEL, SLOT_ANNOTATION, MemberId

CA_FILE = "primary-ca.crt"


def build_member_labels(member: MemberId) -> dict[str, str]:
    """Which member a pod or claim belongs to."""
    return {ORDINAL_LABEL: str(member.ordinal), INCARNATION_LABEL: member.incarnation}


def build_claim(owner: Owner, member: MemberId, storage: Storage, *, slot: str) -> dict[str, Any]:
    """The claim of one member, never reused by another; it names the slot, which must go before it does."""
    spec: dict[str, Any] = {
        "accessModes": ["ReadWriteOnce"],
        "resources": {"requests": {"storage": str(storage.size)}},
    }
    if storage.storage_class_name is not None:
        spec["storageClassName"] = storage.storage_class_name
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": build_metadata(
            owner,
            member.object_name(owner.name),
            labels=build_member_labels(member),
            annotations={SLOT_ANNOTATION: slot},
        ),
        "spec": spec,
    }


def build_config(owner: Owner, settings: ReplicaSettings, server: ServerFacts, ca_pem: str | None) -> dict[str, Any]:
    """The ConfigMap of configuration, scripts and CA; its name follows its content, so a pod never sees it change."""
    data = {
        "postgresql.conf": build_postgresql_conf(settings, server),
        "pg_hba.conf": build_hba(settings),
        "pg_ident.conf": build_ident(),
        **load_scripts(),
    }
    if ca_pem is not None:
        data[CA_FILE] = ca_pem
    digest = hashlib.sha256(json.dumps(data, sort_keys=True).encode()).hexdigest()[:8]
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": build_metadata(owner, f"{owner.name}-config-{digest}"),
        "data": data,
        "immutable": True,
    }
