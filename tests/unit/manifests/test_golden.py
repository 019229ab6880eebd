"""Every manifest of a replica set as it is sent, beside the file it must equal.

`HEADROOM_UPDATE_GOLDEN=1 pytest tests/unit/manifests` writes the files anew; review the difference.
"""

import os
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from headroom.api.v1alpha1.replicaset import ReplicaSetSpec
from headroom.manifests.children import (
    Owner,
    VolumeSource,
    build_bundle,
    build_claim,
    build_disruption_budget,
    build_read_service,
)
from headroom.manifests.configuration import ReplicaSettings, build_config
from headroom.manifests.pod import Upstream, build_pod
from headroom.model.copies import FROM_NONE
from headroom.model.database import ConnectionTarget, Credentials, Lsn, ServerFacts
from headroom.model.replica import MemberId
from headroom.model.snapshot import Stamps

GOLDEN = Path(__file__).parents[2] / "golden" / "manifests"
OWNER = Owner("store", "shop", "2b5e0b1c-6a4e-4b57-9d2f-0c1f6f1f3c55")
MEMBER = MemberId(7, "t3k9xq")
SLOT = MEMBER.slot_name("0123abcd", OWNER.uid)
SERVER = ServerFacts(
    system_identifier="7300000000000000001",
    version=170002,
    is_in_recovery=False,
    timeline=1,
    flush_lsn=None,
    settings={
        "max_connections": "200",
        "max_worker_processes": "8",
        "max_wal_senders": "10",
        "max_prepared_transactions": "0",
        "max_locks_per_transaction": "64",
    },
    wal_senders_used=0,
    slots_used=0,
    is_direct=True,
)
SMALL: dict[str, Any] = {"databaseRef": {"name": "store"}, "image": "postgres:17", "storage": {"size": "20Gi"}}
LARGE: dict[str, Any] = {
    **SMALL,
    "storage": {"size": "100Gi", "storageClassName": "fast"},
    "resources": {"requests": {"cpu": "500m", "memory": "1Gi"}, "limits": {"memory": "1Gi"}},
    "tls": {"certificateSecretRef": {"name": "store-read-tls"}},
    "postgresql": {
        "parameters": {"work_mem": "32MB", "max_connections": "300", "search_path": "it's, here"},
        "hba": ["host analytics reports 10.0.0.0/8 md5"],
        "hotStandbyFeedback": False,
    },
    "template": {
        "metadata": {"labels": {"team": "shop"}, "annotations": {"example.com/note": "read only"}},
        "tolerations": [{"key": "dedicated", "value": "db", "effect": "NoSchedule"}],
        "affinity": {
            "nodeAffinity": {
                "requiredDuringSchedulingIgnoredDuringExecution": {
                    "nodeSelectorTerms": [{"matchExpressions": [{"key": "disk", "operator": "In", "values": ["nvme"]}]}]
                }
            }
        },
        "topologySpreadConstraints": [
            {"maxSkew": 1, "topologyKey": "topology.kubernetes.io/zone", "whenUnsatisfiable": "DoNotSchedule"}
        ],
        "priorityClassName": "important",
        "securityContext": {"runAsUser": 70, "runAsGroup": 70, "fsGroup": 70, "supplementalGroups": [1001]},
    },
    "provisioning": {"maxRate": "100Mi", "maxSlotWAL": "8Gi"},
    "drain": {"timeout": "90s"},
}


def make_upstream(tls_mode: str, ca_pem: str | None, client_certificate_secret: str | None = None) -> Upstream:
    target = ConnectionTarget("store-primary", 5432, "store", Credentials("monitor", "m"), tls_mode, ca_pem)
    upstream = Upstream(target, "replica's role", "store-replication", SERVER.system_identifier, 17, "monitor")
    if client_certificate_secret is None:
        return upstream
    target = replace(target, client_certificate_pem="CERTIFICATE", client_key_pem="KEY")
    return replace(upstream, target=target, client_certificate_secret=client_certificate_secret)


def build_all(spec: ReplicaSetSpec, upstream: Upstream) -> list[dict[str, Any]]:
    settings = ReplicaSettings(
        parameters=spec.postgresql.parameters,
        hba=spec.postgresql.hba,
        has_hot_standby_feedback=spec.postgresql.hot_standby_feedback,
        eject_replay_lag=timedelta(seconds=10),
        monitor_role="monitor",
        replication_role="replica's role",
        allows_plaintext=spec.tls.allow_plaintext,
    )
    config = build_config(OWNER, settings, SERVER, upstream.target.ca_pem)
    config["data"] = {name: text for name, text in config["data"].items() if not name.endswith(".sh")}
    pod = build_pod(OWNER, MEMBER, spec, config=config["metadata"]["name"], slot=SLOT, upstream=upstream)
    return [
        config,
        build_claim(OWNER, MEMBER, spec.storage, slot=SLOT),
        pod,
        build_read_service(OWNER, "store-read"),
        build_bundle(OWNER, {"store-7-t3k9xq": "-----BEGIN CERTIFICATE-----\n...\n-----END CERTIFICATE-----"}, ""),
        build_disruption_budget(OWNER, desired=3, min_serving=1),
    ]


STAMPS = Stamps(
    SERVER.system_identifier,
    1,
    17,
    "Stopped",
    MemberId(3, "t3a000").slot_name("0123abcd", OWNER.uid),
    "hr_0123abcd_11111111_s_t3b111",
    Lsn.parse("0/5000000"),
    Lsn.parse("0/6000000"),
)
SOURCE = VolumeSource("store-s-t3b111", 150 * 1024**3, STAMPS)


def build_restored(spec: ReplicaSetSpec, upstream: Upstream) -> list[dict[str, Any]]:
    """What differs for a member that is made from a snapshot."""
    why, origin = "snapshot store-s-t3b111 is 12 MiB of WAL behind", replace(FROM_NONE, restored=STAMPS)
    return [
        build_claim(OWNER, MEMBER, spec.storage, slot=SLOT, source=SOURCE, why=why),
        build_pod(OWNER, MEMBER, spec, config="store-0123abcd", slot=SLOT, upstream=upstream, source=origin),
    ]


CASES = {
    "small": (SMALL, make_upstream("disable", None)),
    "large": (LARGE, make_upstream("verify-full", "-----BEGIN CERTIFICATE-----\n...\n", "store-client")),
}


@pytest.mark.parametrize("name", CASES)
def test_manifests_equal_their_golden_file(name: str) -> None:
    spec, upstream = CASES[name]
    check_golden(name, build_all(ReplicaSetSpec.model_validate(spec), upstream))


def test_claim_and_pod_of_a_restored_member_equal_their_golden_file() -> None:
    spec, upstream = CASES["large"]
    check_golden("restored", build_restored(ReplicaSetSpec.model_validate(spec), upstream))


def check_golden(name: str, manifests: list[dict[str, Any]]) -> None:
    built = yaml.safe_dump_all(manifests, sort_keys=True, width=120)
    path = GOLDEN / f"{name}.yaml"
    if os.environ.get("HEADROOM_UPDATE_GOLDEN"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(built)
    assert built == path.read_text()
