"""What a guard's connection makes of a member's pod."""

from dataclasses import replace
from typing import Any

import pytest

from headroom.api.v1alpha1.replicaset import ReplicaSetSpec
from headroom.manifests.configuration import CA_FILE
from headroom.manifests.pod import build_pod
from headroom.model.conditions import Finding
from headroom.model.database import ConnectionTarget, Credentials, DatabaseView
from headroom.reasons import Reason
from headroom.reconcilers.replicaset.pod_template import PodTemplate, build_pod_template, build_upstream
from tests.unit.manifests.test_golden import MEMBER, OWNER, SERVER, SLOT, SMALL

SPEC = ReplicaSetSpec.model_validate(SMALL)
TARGET = ConnectionTarget("primary", 5432, "store", Credentials("monitor", "m"), "verify-full")


def draw(target: ConnectionTarget, authorities: str | None = "SYSTEM", client_secret: str = "") -> PodTemplate | None:
    finding = Finding(Reason.CONNECTED, "")
    view = DatabaseView(
        "g",
        is_ready=True,
        finding=finding,
        observed_at=0.0,
        target=target,
        replication=Credentials("replication", "r"),
        server=SERVER,
    )
    tls = {"clientCertificateSecretRef": {"name": client_secret}} if client_secret else {}
    guard = {"spec": {"connection": {"replicationSecretRef": {"name": "store-replication"}, "tls": tls}}}
    upstream = build_upstream(view, guard, authorities)
    return None if upstream is None else build_pod_template(OWNER, SPEC, SERVER, upstream)


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
    environment = {entry["name"]: entry.get("value") for entry in build(pod_template)["spec"]["containers"][0]["env"]}
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


@pytest.mark.parametrize("missing", ["view", "server", "target", "replication"])
def test_nothing_is_drawn_while_the_primary_is_not_known(missing: str) -> None:
    view = DatabaseView(
        "g", is_ready=True, finding=Finding(Reason.CONNECTED, ""), observed_at=0.0, target=TARGET, server=SERVER
    )
    view = replace(view, replication=Credentials("replication", "r"))
    guard = {"spec": {"connection": {"replicationSecretRef": {"name": "store-replication"}}}}
    assert build_upstream(view, guard, None) is not None
    assert build_upstream(view, None, None) is None, "which Secret holds the login is not known"
    assert build_upstream(None if missing == "view" else replace(view, **{missing: None}), guard, None) is None
