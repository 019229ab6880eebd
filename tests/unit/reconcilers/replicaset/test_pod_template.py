"""What a guard's connection makes of a member's pod."""

from dataclasses import replace
from typing import Any

import pytest
from headroom.reconcilers.board import GuardView

from headroom.adapters.inmemory.clock import MemoryClock
from headroom.adapters.inmemory.postgres import MemoryPostgres
from headroom.api.v1alpha1.replicaset import ReplicaSetSpec
from headroom.manifests.pod import build_pod
from headroom.manifests.storage import CA_FILE
from headroom.model.database import ConnectionTarget, Credentials
from headroom.reasons import Reason
from headroom.reconcilers.replicaset.memory import PodTemplate, SetMemory
from headroom.reconcilers.replicaset.pod_template import build_pod_template
from tests.unit.manifests.test_golden import MEMBER, OWNER, SERVER, SLOT, SMALL
from tests.unit.reconcilers.replicaset.world import CrashFence

SPEC = ReplicaSetSpec.model_validate(SMALL)
TARGET = ConnectionTarget("primary", 5432, "store", Credentials("monitor", "m"), "verify-full")


def draw(target: ConnectionTarget, authorities: str | None = "SYSTEM", client_secret: str = "") -> PodTemplate | None:
    postgres = MemoryPostgres(MemoryClock(), CrashFence(), authorities=authorities)
    memory = SetMemory(replication_secret="store-replication", client_certificate_secret=client_secret)
    view = GuardView("g", True, Reason.CONNECTED, "", 0.0, target, Credentials("replication", "r"), SERVER)
    return build_pod_template(OWNER, SPEC, view, memory, postgres)


def build(pod_template: PodTemplate) -> dict[str, Any]:
    name = pod_template.config_name
    return build_pod(OWNER, MEMBER, SPEC, config=name, slot=SLOT, upstream=pod_template.upstream)


@pytest.mark.parametrize(
    ("mode", "ca", "want"),
    [
        pytest.param("verify-full", None, "SYSTEM", id="the default: what the operator's system trusts"),
        pytest.param("verify-ca", None, "SYSTEM", id="verify-ca"),
        pytest.param("verify-full", "OURS", "OURS", id="an authority of the spec"),
        pytest.param("require", None, None, id="nothing is verified"),
        pytest.param("disable", None, None, id="nothing is encrypted"),
    ],
)
def test_a_member_trusts_what_the_operator_trusts(mode: str, ca: str | None, want: str | None) -> None:
    pod_template = draw(replace(TARGET, tls_mode=mode, ca_pem=ca))
    assert pod_template is not None
    assert pod_template.config["data"].get(CA_FILE) == want
    environment = {entry["name"]: entry["value"] for entry in build(pod_template)["spec"]["containers"][0]["env"]}
    assert ("sslrootcert=" in environment["PRIMARY_CONNINFO"]) == (want is not None)


def test_a_client_certificate_is_mounted_from_its_secret() -> None:
    target = replace(TARGET, client_certificate_pem="CERTIFICATE", client_key_pem="KEY")
    pod_template = draw(target, client_secret="store-client")
    assert pod_template is not None
    secrets = [
        volume["secret"]["secretName"] for volume in build(pod_template)["spec"]["volumes"] if "secret" in volume
    ]
    assert secrets == ["store-replication", "store-client"]
    assert draw(target) is None, "which Secret it is in is not known yet"
