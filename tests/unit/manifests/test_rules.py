"""What must hold of a replica's manifests whatever the spec says."""

import re
import shutil
import subprocess
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from psycopg.conninfo import conninfo_to_dict

from headroom.api.v1alpha1.replicaset import ReplicaSetSpec
from headroom.manifests.children import build_disruption_budget, read_service_name
from headroom.manifests.configuration import (
    ReplicaSettings,
    build_conninfo,
    build_floor,
    build_hba,
    build_postgresql_conf,
    load_scripts,
    quote_hba,
)
from headroom.manifests.pod import SERVER_TLS_VOLUME, Upstream, build_pod, build_template_hash
from headroom.model.copies import FROM_NONE, FROM_PRIMARY, CopySource
from headroom.model.database import ConnectionTarget, Credentials
from headroom.model.replica import MemberId
from tests.unit.manifests.test_golden import LARGE, MEMBER, OWNER, SERVER, SLOT, SMALL, make_upstream

UPSTREAM = make_upstream("verify-full", "PEM")


def make_pod(spec: dict[str, Any], member: MemberId = MEMBER) -> dict[str, Any]:
    parsed = ReplicaSetSpec.model_validate(spec)
    return build_pod(OWNER, member, parsed, config="c", slot=SLOT, upstream=UPSTREAM)


def make_settings(**changes: Any) -> ReplicaSettings:
    known: dict[str, Any] = {
        "parameters": {},
        "hba": (),
        "has_hot_standby_feedback": True,
        "eject_replay_lag": timedelta(seconds=10),
        "monitor_role": "monitor",
    }
    return ReplicaSettings(**{**known, **changes})


@pytest.mark.parametrize("spec", [SMALL, LARGE], ids=["small", "large"])
def test_pods_pass_the_restricted_pod_security_standard(spec: dict[str, Any]) -> None:
    pod = make_pod(spec)["spec"]
    assert pod["securityContext"]["runAsNonRoot"]
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    for container in (*pod["initContainers"], *pod["containers"]):
        security = container["securityContext"]
        assert security["allowPrivilegeEscalation"] is False
        assert security["capabilities"] == {"drop": ["ALL"]}
        assert security["readOnlyRootFilesystem"]
    kinds = {kind for volume in pod["volumes"] for kind in volume if kind != "name"}
    assert kinds <= {"persistentVolumeClaim", "configMap", "secret", "emptyDir"}


def test_no_secret_value_is_in_a_manifest() -> None:
    assert "'m'" not in str(make_pod(LARGE)["spec"]["containers"][0]["env"])
    variables = {entry["name"] for entry in make_pod(LARGE)["spec"]["containers"][0]["env"]}
    assert not any("PASSWORD" in name for name in variables)


def test_a_dollar_in_a_name_reaches_the_scripts_as_it_is() -> None:
    upstream = replace(UPSTREAM, user="a$$(PGDATA)")
    pod = build_pod(OWNER, MEMBER, ReplicaSetSpec.model_validate(SMALL), config="c", slot=SLOT, upstream=upstream)
    for container in (*pod["spec"]["initContainers"], *pod["spec"]["containers"]):
        environment = {entry["name"]: entry.get("value") for entry in container["env"]}
        assert environment["REPLICATION_USER"] == "a$$$$(PGDATA)", "each pair stands for one"
        assert "user='a$$$$(PGDATA)' " in environment["PRIMARY_CONNINFO"]


def test_both_containers_see_the_login_to_the_primary_as_the_kubelet_refreshes_it() -> None:
    pod = make_pod(SMALL)["spec"]
    [volume] = [volume for volume in pod["volumes"] if volume["name"] == "replication"]
    assert [item["key"] for item in volume["secret"]["items"]] == ["username", "password"]
    for container in (*pod["initContainers"], *pod["containers"]):
        [mount] = [mount for mount in container["volumeMounts"] if mount["name"] == "replication"]
        assert mount["readOnly"]
        assert "subPath" not in mount, "the kubelet never refreshes one"


def test_a_client_certificate_reaches_both_containers_and_the_conninfo() -> None:
    spec = ReplicaSetSpec.model_validate(SMALL)
    target = replace(UPSTREAM.target, client_certificate_pem="CERTIFICATE", client_key_pem="KEY")
    upstream = replace(UPSTREAM, target=target, client_certificate_secret="store-client")
    pod = build_pod(OWNER, MEMBER, spec, config="c", slot=SLOT, upstream=upstream)["spec"]
    for container in (*pod["initContainers"], *pod["containers"]):
        assert "client-tls" in [mount["name"] for mount in container["volumeMounts"]]
        environment = {entry["name"]: entry.get("value") for entry in container["env"]}
        assert "sslcert=/run/headroom/client.crt sslkey=/run/headroom/client.key" in environment["PRIMARY_CONNINFO"]
        assert environment["CLIENT_TLS"] == "/etc/headroom/client-tls"
    [volume] = [volume for volume in pod["volumes"] if volume["name"] == "client-tls"]
    assert volume["secret"]["secretName"] == "store-client"
    assert "KEY" not in str(pod)


def test_a_rotation_of_a_secrets_content_makes_no_pod_anew() -> None:
    spec = ReplicaSetSpec.model_validate(SMALL)
    before = replace(UPSTREAM.target, client_certificate_pem="CERTIFICATE", client_key_pem="KEY")
    after = replace(
        before, client_certificate_pem="NEW", client_key_pem="NEW", credentials=Credentials("monitor", "new")
    )
    hashes = {
        build_template_hash(
            OWNER, spec, config="c", upstream=replace(UPSTREAM, target=target, client_certificate_secret="store-client")
        )
        for target in (before, after)
    }
    assert len(hashes) == 1


def test_a_new_pod_is_not_in_the_service_whatever_its_labels_say() -> None:
    spec = ReplicaSetSpec.model_validate(SMALL)
    object.__setattr__(spec.template.metadata, "labels", {"headroom.dev/role": "serving"})
    pod = build_pod(OWNER, MEMBER, spec, config="c", slot=SLOT, upstream=UPSTREAM)
    assert pod["metadata"]["labels"]["headroom.dev/role"] == "provisioning"


def test_the_template_hash_is_the_same_for_all_members_and_moves_with_the_spec() -> None:
    spec = ReplicaSetSpec.model_validate(SMALL)
    hashes = {
        make_pod(SMALL, member)["metadata"]["annotations"]["headroom.dev/template"]
        for member in (MEMBER, MemberId(0, "a"))
    }
    assert len(hashes) == 1
    changed = ReplicaSetSpec.model_validate({**SMALL, "image": "postgres:17.3"})
    slower = ReplicaSetSpec.model_validate({**SMALL, "provisioning": {"maxRate": "1Mi"}})
    assert build_template_hash(OWNER, slower, config="c", upstream=UPSTREAM) in hashes
    assert build_template_hash(OWNER, changed, config="c", upstream=UPSTREAM) not in hashes
    assert build_template_hash(OWNER, spec, config="d", upstream=UPSTREAM) not in hashes


@pytest.mark.parametrize(("given", "want"), [({}, "store-read"), ({"serviceName": "shop-reads"}, "shop-reads")])
def test_the_read_service_is_named_after_the_set_unless_said_otherwise(given: dict[str, Any], want: str) -> None:
    spec = ReplicaSetSpec.model_validate({**SMALL, "routing": given})
    assert read_service_name(OWNER.name, spec.routing.service_name) == want


def test_members_spread_over_hosts_even_where_no_node_has_a_zone() -> None:
    pod = make_pod(SMALL)["spec"]
    assert [one["topologyKey"] for one in pod["topologySpreadConstraints"]] == ["kubernetes.io/hostname"]
    [zones] = pod["affinity"]["podAntiAffinity"]["preferredDuringSchedulingIgnoredDuringExecution"]
    assert zones["podAffinityTerm"]["topologyKey"] == "topology.kubernetes.io/zone"


def test_parameters_are_never_below_the_primarys() -> None:
    floor = build_floor({"max_connections": "50", "max_worker_processes": "64"}, SERVER)
    assert floor["max_connections"] == "200"
    assert floor["max_worker_processes"] == "64"


@pytest.mark.parametrize(
    ("version", "parameters", "want"),
    [
        (170002, {}, "reserved_connections = '5'"),
        (160000, {}, "reserved_connections = '5'"),
        (150004, {}, None),
        (170002, {"reserved_connections": "2"}, "reserved_connections = '2'"),
        (170002, {"superuser_reserved_connections": "170"}, "reserved_connections = '3'"),
        (170002, {"superuser_reserved_connections": "195"}, None),
    ],
)
def test_connections_are_reserved_where_the_server_can_and_others_keep_most(
    version: int, parameters: dict[str, str], want: str | None
) -> None:
    conf = build_postgresql_conf(make_settings(parameters=parameters), replace(SERVER, version=version))
    found = [line for line in conf.splitlines() if line.startswith("reserved_connections")]
    assert found == ([want] if want is not None else [])


STANDBY = CopySource("store-0-a", "it is warm", "10.0.0.9", "verify-full", "AUTHORITY")


def read_environment(pod: dict[str, Any], container: str) -> dict[str, str]:
    found = [*pod["spec"]["initContainers"], *pod["spec"]["containers"]]
    [box] = [box for box in found if box["name"] == container]
    return {entry["name"]: entry["value"] for entry in box["env"]}


def make_pod_from(source: CopySource, upstream: Upstream = UPSTREAM) -> dict[str, Any]:
    spec = ReplicaSetSpec.model_validate(SMALL)
    return build_pod(OWNER, MEMBER, spec, config="c", slot=SLOT, upstream=upstream, source=source)


def test_the_source_of_a_copy_is_on_the_pod_and_changes_no_template() -> None:
    pods = {source.name: make_pod_from(source) for source in (STANDBY, FROM_PRIMARY, FROM_NONE)}
    annotations = {name: pod["metadata"]["annotations"] for name, pod in pods.items()}
    assert {name: found["headroom.dev/copy-source"] for name, found in annotations.items()} == {
        name: name for name in pods
    }
    assert annotations["store-0-a"]["headroom.dev/copy-why"] == "it is warm"
    assert len({found["headroom.dev/template"] for found in annotations.values()}) == 1
    servers = [pod["spec"]["containers"] for pod in pods.values()]
    assert servers[0] == servers[1] == servers[2], "the server itself does not know where its data came from"


def test_a_copy_from_a_standby_is_verified_by_its_own_authority_and_the_stream_is_the_primarys() -> None:
    seed = read_environment(make_pod_from(STANDBY), "seed")
    source, primary = (conninfo_to_dict(seed[name]) for name in ("SOURCE_CONNINFO", "PRIMARY_CONNINFO"))
    assert {name: source[name] for name in ("host", "hostaddr", "port", "sslmode", "sslrootcert")} == {
        "host": "store-0-a",
        "hostaddr": "10.0.0.9",
        "port": "5432",
        "sslmode": "verify-full",
        "sslrootcert": "/run/headroom/source-ca.crt",
    }
    assert (source["user"], source["application_name"]) == (UPSTREAM.user, SLOT)
    assert source["require_auth"] == "scram-sha-256"
    assert primary["host"] == "store-primary"
    assert (seed["SOURCE"], seed["SOURCE_CA"], seed["TRIES"]) == ("store-0-a", "AUTHORITY", "1")
    assert "SOURCE_CONNINFO" not in read_environment(make_pod_from(STANDBY), "postgresql")


def test_a_copy_from_the_primary_goes_where_the_stream_goes() -> None:
    seed = read_environment(make_pod_from(FROM_PRIMARY), "seed")
    assert seed["SOURCE_CONNINFO"] == seed["PRIMARY_CONNINFO"]
    assert (seed["SOURCE"], seed["SOURCE_CA"], seed["TRIES"]) == ("primary", "", "3")
    assert read_environment(make_pod_from(FROM_NONE), "seed")["SOURCE_CONNINFO"] == ""


@pytest.mark.parametrize(
    ("major", "mode", "want"),
    [
        (17, "verify-full", {"require_auth": "scram-sha-256"}),
        (17, "verify-ca", {"require_auth": "scram-sha-256", "channel_binding": "require"}),
        (17, "disable", {"require_auth": "scram-sha-256"}),
        (15, "verify-full", {"channel_binding": "require"}),
        (15, "disable", {}),
    ],
)
def test_a_source_gets_no_more_than_scram(major: int, mode: str, want: dict[str, str]) -> None:
    """One that only the authority of a Secret verifies has to prove by SCRAM that it has the role's verifier."""
    source, upstream = replace(STANDBY, tls_mode=mode), replace(UPSTREAM, major=major)
    words = conninfo_to_dict(read_environment(make_pod_from(source, upstream), "seed")["SOURCE_CONNINFO"])
    assert {name: words[name] for name in ("require_auth", "channel_binding") if name in words} == want
    certificate = replace(UPSTREAM.target, client_certificate_pem="CERTIFICATE", client_key_pem="KEY")
    upstream = replace(upstream, target=certificate, client_certificate_secret="store-client")
    again = conninfo_to_dict(read_environment(make_pod_from(source, upstream), "seed")["SOURCE_CONNINFO"])
    assert again == words, "a member asks for no certificate, and never for nothing"


@pytest.mark.parametrize(
    ("has_tls", "allows_plaintext", "want"),
    [(True, False, "hostssl"), (True, True, "hostssl"), (False, True, "host"), (False, False, None)],
)
def test_the_replication_role_may_copy_and_nobody_else(
    want: str | None, *, has_tls: bool, allows_plaintext: bool
) -> None:
    settings = make_settings(
        replication_role="replicator", allows_plaintext=allows_plaintext, hba=["host all all all md5"]
    )
    lines = build_hba(settings, SERVER, has_tls=has_tls).splitlines()
    copies = [line for line in lines if " replication " in line]
    ours = (
        []
        if want is None
        else [
            "host replication @/run/headroom/superusers all reject",
            f'{want} replication "replicator" all scram-sha-256',
        ]
    )
    assert copies == ["local replication all reject", *ours, "host replication all all reject"]
    assert lines.index(copies[-1]) < lines.index("host all all all md5")


def test_a_users_parameter_cannot_undo_ours() -> None:
    settings = make_settings(parameters={"hot_standby": "off", "restore_command": "cp"})
    conf = build_postgresql_conf(settings, SERVER)
    assert "hot_standby = 'on'" in conf
    assert "restore_command = ''" in conf


def test_nobody_replicates_from_a_replica_and_the_users_lines_come_before_the_default() -> None:
    settings = make_settings(hba=["host all bad all md5"], monitor_role='mo"ni')
    lines = build_hba(settings, SERVER, has_tls=True).splitlines()
    assert lines.index("host replication all all reject") < lines.index("host all bad all md5")
    assert lines.index("host all @/run/headroom/superusers all reject") < lines.index("host all bad all md5")
    assert lines[-3:] == ["host all bad all md5", "local all all reject", "host all all all reject"]
    assert lines.index('hostssl all "mo""ni" all scram-sha-256') < lines.index("host all bad all md5")


@pytest.mark.parametrize(
    ("has_tls", "allows_plaintext", "want"), [(True, False, "hostssl"), (True, True, "host"), (False, False, "host")]
)
def test_without_lines_of_the_user_clients_need_tls_where_there_is_any(
    want: str, *, has_tls: bool, allows_plaintext: bool
) -> None:
    hba = build_hba(make_settings(allows_plaintext=allows_plaintext), SERVER, has_tls=has_tls)
    assert hba.splitlines()[-1] == f"{want} all all all scram-sha-256"
    assert f'{"hostssl" if has_tls else "host"} all "monitor" all scram-sha-256' in hba


@pytest.mark.parametrize(("version", "want"), [(150_000, '"/.*a_1"'), (160_000, '"/^\\/\\.\\*a_1$"')])
def test_a_role_that_begins_with_a_slash_is_a_name_and_no_expression(version: int, want: str) -> None:
    assert quote_hba("/.*a_1", version) == want


def test_a_conninfo_quotes_what_needs_it() -> None:
    target = ConnectionTarget("db", 5433, "store", Credentials("m", "m"), "verify-full")
    text = build_conninfo(target, "it's a role", "hr_a", "/ca.crt", 17)
    assert "user='it\\'s a role'" in text
    assert "sslmode=verify-full" in text
    assert "password" not in text


def test_white_space_in_a_name_adds_nothing_to_a_conninfo() -> None:
    for space in "\t\n\v\f\r ":
        name = f"a{space}host=elsewhere"
        target = ConnectionTarget("db", 5433, "store", Credentials("m", "m"), "verify-full")
        text = build_conninfo(target, name, "hr_a", None, 17)
        assert conninfo_to_dict(text)["user"] == name
        assert conninfo_to_dict(text)["host"] == "db"


@pytest.mark.parametrize(
    ("major", "changes", "want"),
    [
        (15, {}, None),
        (15, {"tls_mode": "disable"}, None),
        (15, {"password_method": "md5"}, None),
        (16, {}, "scram-sha-256"),
        (17, {"password_method": "md5"}, "scram-sha-256,md5"),
        (17, {"client_certificate_pem": "C", "client_key_pem": "K"}, "scram-sha-256,none"),
    ],
)
def test_a_replica_gives_its_password_to_nobody_who_asks_for_it(
    major: int, changes: dict[str, str], want: str | None
) -> None:
    target = replace(ConnectionTarget("db", 5433, "store", Credentials("m", "m"), "verify-full"), **changes)
    found = conninfo_to_dict(build_conninfo(target, "r", "hr_a", None, major))
    assert found.get("require_auth") == want
    assert (found.get("channel_binding") == "require") is (major < 16 and changes == {}), "else it could not log in"


@pytest.mark.parametrize("spec", [SMALL, LARGE], ids=["small", "large"])
def test_only_the_keys_that_are_needed_of_a_secret_are_mounted(spec: dict[str, Any]) -> None:
    parsed = ReplicaSetSpec.model_validate(spec)
    upstream = make_upstream("verify-full", "PEM", "store-client")
    pod = build_pod(OWNER, MEMBER, parsed, config="c", slot=SLOT, upstream=upstream)
    mounted = {
        volume["secret"]["secretName"]: [item["key"] for item in volume["secret"]["items"]]
        for volume in pod["spec"]["volumes"]
        if "secret" in volume
    }
    names = ("store-client", "store-read-tls") if spec is LARGE else ("store-client",)
    certificates = {name: ["tls.crt", "tls.key"] for name in names}
    assert mounted == {"store-replication": ["username", "password"], **certificates}


@pytest.mark.parametrize(
    ("desired", "min_serving", "want"), [(0, 1, 0), (1, 1, 0), (2, 1, 1), (3, 1, 2), (3, 3, 3), (5, 2, 4)]
)
def test_a_budget_lets_one_go_at_a_time(desired: int, min_serving: int, want: int) -> None:
    budget = build_disruption_budget(OWNER, desired=desired, min_serving=min_serving)
    assert budget["spec"]["minAvailable"] == want


@pytest.mark.parametrize("spec", [SMALL, LARGE], ids=["small", "large"])
def test_a_pod_tells_whether_its_server_has_a_certificate(spec: dict[str, Any]) -> None:
    volumes = {volume["name"] for volume in make_pod(spec)["spec"]["volumes"]}
    assert (SERVER_TLS_VOLUME in volumes) == ("tls" in spec)


def test_the_grace_period_holds_all_that_a_stop_may_take() -> None:
    pod = make_pod(LARGE)["spec"]
    environment = {entry["name"]: entry.get("value") for entry in pod["containers"][0]["env"]}
    assert (environment["LAME_DUCK_SECONDS"], environment["DRAIN_SECONDS"]) == ("5", "90")
    assert pod["terminationGracePeriodSeconds"] == 5 + 90 + 60


@pytest.mark.parametrize("spec", [SMALL, LARGE], ids=["small", "large"])
def test_a_busy_replica_may_miss_two_probes_in_a_row(spec: dict[str, Any]) -> None:
    """All replicas of a set are busy together: what takes one out for a late answer takes out all of them at once."""
    ready = next(each for each in make_pod(spec)["spec"]["containers"] if "readinessProbe" in each)["readinessProbe"]
    assert ready["failureThreshold"] > 2
    slowest = max(ready["timeoutSeconds"], ready["periodSeconds"])
    assert (ready["failureThreshold"] - 1) * slowest >= 20, "it may be busy for so long"


def test_a_probe_ends_before_the_kubelet_ends_it() -> None:
    [server] = make_pod(SMALL)["spec"]["containers"]
    scripts = load_scripts()
    for kind, script in (("readinessProbe", "ready.sh"), ("livenessProbe", "live.sh"), ("startupProbe", "started.sh")):
        waits = re.findall(r"knock (\d+)", scripts[script])
        assert int(waits[-1]) < server[kind]["timeoutSeconds"]


def test_scripts_stop_at_the_first_error() -> None:
    """Those that others source have the setting of the script that does."""
    run = [text for text in load_scripts().values() if text.startswith("#!")]
    assert len(run) == 10
    assert all("\nset -eu\n" in text for text in run)


@pytest.mark.parametrize("name", load_scripts())
def test_scripts_are_valid_shell(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_text(load_scripts()[name])
    dash = shutil.which("dash") or shutil.which("sh")
    assert dash is not None
    assert subprocess.run([dash, "-n", str(path)], check=False).returncode == 0
