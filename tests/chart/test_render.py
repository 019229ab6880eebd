"""The chart as helm renders it: lint, golden files, refusals, Pod Security, roles."""

import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.chart.helm import CHART, GOLDEN, NAMES, ROOT, HelmError, parse, render, render_named, run_helm

RBAC = "rbac.authorization.k8s.io/v1"


@pytest.mark.parametrize("name", NAMES)
def test_rendered_chart_is_the_golden_one(name: str) -> None:
    assert render_named(name) == (GOLDEN / f"{name}.yaml").read_text(), "run `make chart` and read the difference"


@pytest.mark.parametrize("name", NAMES)
def test_helm_lint_finds_nothing(name: str) -> None:
    run_helm("lint", "--strict", str(CHART), "--values", str(Path(__file__).parent / "values" / f"{name}.yaml"))


@pytest.mark.parametrize(
    ("setting", "complaint"),
    [
        ("replica=3", "'replica' not allowed"),
        ("replicas=0", "/replicas"),
        ("replicas=two", "/replicas"),
        ("image.pullPolicy=Sometimes", "/image/pullPolicy"),
        ("image.digest=sha1:abc", "/image/digest"),
        ("image.repository=", "/image/repository"),
        ("watchNamespaces={Shop}", "/watchNamespaces/0"),
        ("watchNamespaces={shop,shop}", "/watchNamespaces"),
        ("watchNamespaces=shop", "/watchNamespaces"),
        ("log.level=TRACE", "/log/level"),
        ("crds.keep=perhaps", "/crds/keep"),
        ("rbac.scaleTargets[0].apiGroup=*", "/rbac/scaleTargets/0"),
        ("rbac.scaleTargets[0].resource=*", "/rbac/scaleTargets/0"),
        ("uninstall.timeoutSeconds=5", "/uninstall/timeoutSeconds"),
        ("resources.requests.memory=lots", "/resources/requests/memory"),
        ("podDisruptionBudget.maxUnavailable=0", "/podDisruptionBudget/maxUnavailable"),
        ("metrics.serviceMonitor.enabled=true,metrics.service.enabled=false", "/metrics/service/enabled"),
        ("metrics.secure=true", "/metrics/certificateSecret"),
        ("metrics.certificateSecret=Tls", "/metrics/certificateSecret"),
        ("policy.images={registry.example.com/*}", "/policy/images/0"),
        ("policy.secrets.prefix=*", "/policy/secrets/prefix"),
        ("policy.secrets.label=a b", "/policy/secrets/label"),
        ("extraEnv[0].name=HEADROOM_NAMESPACE", "/extraEnv/0/name"),
    ],
)
def test_wrong_values_are_refused_by_name(setting: str, complaint: str) -> None:
    with pytest.raises(HelmError) as refused:
        render("--set", setting)
    assert complaint in str(refused.value)


@pytest.mark.parametrize("name", NAMES)
def test_every_pod_passes_pod_security_restricted_with_a_read_only_root(name: str) -> None:
    pods = list(iterate_pod_specs(parse(render_named(name))))
    assert len(pods) == 2, "the operator and the uninstall hook"
    for pod in pods:
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["runAsUser"] == 65532
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert not {"hostNetwork", "hostPID", "hostIPC"} & pod.keys()
        assert all("emptyDir" in volume or volume["name"] == "metrics-certificate" for volume in pod["volumes"])
        for container in pod["containers"]:
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }


def iterate_pod_specs(objects: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    return (found["spec"]["template"]["spec"] for found in objects if found["kind"] in {"Deployment", "Job"})


def test_listed_namespaces_get_roles_and_the_cluster_none() -> None:
    objects = [found for found in parse(render_named("namespaces")) if found["apiVersion"] == RBAC]
    assert {found["kind"] for found in objects} == {"Role", "RoleBinding"}
    assert {found["metadata"]["namespace"] for found in objects} == {"headroom", "shop", "billing"}


def test_the_whole_cluster_is_watched_with_one_role_and_its_aggregate() -> None:
    objects = [found for found in parse(render_named("default")) if found["kind"] == "ClusterRole"]
    names = {found["metadata"]["name"] for found in objects}
    assert names == {"headroom", "headroom-scale-targets", "headroom-uninstall", "headroom-view", "headroom-edit"}
    aggregate = next(found for found in objects if found["metadata"]["name"] == "headroom-scale-targets")
    assert aggregate["aggregationRule"]["clusterRoleSelectors"] == [
        {"matchLabels": {"rbac.headroom.dev/scale-target": "true"}}
    ]
    assert "rules" not in aggregate, "the aggregation controller owns them; an upgrade must not fight it"


def test_nodes_may_be_read_beside_listed_namespaces_on_request() -> None:
    objects = parse(render("--set", "watchNamespaces={shop},rbac.nodes=true,rbac.aggregateToUserRoles=false"))
    roles = [found for found in objects if found["kind"] == "ClusterRole"]
    assert [role["metadata"]["name"] for role in roles] == ["headroom-nodes"]
    assert roles[0]["rules"] == [{"apiGroups": [""], "resources": ["nodes"], "verbs": ["get"]}]


SECURE = "metrics.secure=true,metrics.certificateSecret=tls,metrics.serviceMonitor.enabled=true"


@pytest.mark.parametrize("scope", ["", ",watchNamespaces={shop}"])
def test_secure_metrics_are_reviewed_encrypted_and_verified(scope: str) -> None:
    objects = parse(render("--set", SECURE + scope))
    roles = {
        found["metadata"]["name"]: found["rules"]
        for found in objects
        if found["kind"] == "ClusterRole" and "rules" in found
    }
    assert [rule["resources"] for rule in roles["headroom-metrics-reviews"]] == [
        ["tokenreviews"],
        ["subjectaccessreviews"],
    ]
    assert roles["headroom-metrics-reader"] == [{"nonResourceURLs": ["/metrics"], "verbs": ["get"]}]
    bound = {found["roleRef"]["name"] for found in objects if found["kind"] == "ClusterRoleBinding"}
    assert "headroom-metrics-reviews" in bound
    assert "headroom-metrics-reader" not in bound, "nobody reads metrics unless you bind it"
    service = next(found for found in objects if found["kind"] == "Service")
    assert service["spec"]["ports"] == [{"name": "https", "port": 8443, "targetPort": "https"}]
    [endpoint] = next(found for found in objects if found["kind"] == "ServiceMonitor")["spec"]["endpoints"]
    assert (endpoint["port"], endpoint["scheme"]) == ("https", "https")
    assert "insecureSkipVerify" not in endpoint["tlsConfig"], "the token would go to whoever answers"
    assert endpoint["tlsConfig"]["serverName"] == "headroom-metrics.headroom.svc"


def test_open_metrics_have_neither_reviews_nor_readers() -> None:
    names = {found["metadata"]["name"] for found in parse(render("--set", "metrics.serviceMonitor.enabled=true"))}
    assert not [name for name in names if name.startswith("headroom-metrics-re")]


@pytest.mark.parametrize("settings", ["replicas=2", SECURE])
def test_probes_have_a_port_that_metrics_do_not_have(settings: str) -> None:
    [pod] = (
        pod
        for pod in iterate_pod_specs(parse(render("--set", settings)))
        if "volumes" in pod and pod["containers"][0]["name"] == "operator"
    )
    container = pod["containers"][0]
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    probes = {container[probe]["httpGet"]["port"] for probe in ("startupProbe", "livenessProbe", "readinessProbe")}
    assert probes == {"probes"}
    assert len(ports) == len(set(ports.values())) == 2
    variables = {entry["name"]: entry.get("value") for entry in container["env"]}
    assert variables["HEADROOM_PROBE_PORT"] == str(ports["probes"])
    assert variables["HEADROOM_METRICS_PORT"] == str(ports.get("https") or ports["http"])


@pytest.mark.parametrize("namespaces", ["", "watchNamespaces={shop}"])
def test_the_notes_say_what_watching_the_whole_cluster_amounts_to(namespaces: str) -> None:
    arguments = ("--set", namespaces) if namespaces else ()
    text = run_helm("install", "headroom", str(CHART), "-n", "headroom", "--dry-run=client", *arguments)
    notes = text.partition("NOTES:")[2]
    assert "docs/tutorial" in notes
    assert ("WARNING" in notes) is (namespaces == "")


@pytest.mark.parametrize("name", NAMES)
def test_no_rendered_rule_has_a_wildcard(name: str) -> None:
    rules = [
        rule
        for found in parse(render_named(name))
        if found["kind"] in {"Role", "ClusterRole"}
        for rule in found.get("rules", [])
    ]
    assert len(rules) > 10
    for rule in rules:
        assert not any("*" in word for words in rule.values() for word in words), rule


@pytest.mark.parametrize("keep", [True, False])
def test_crds_are_the_generated_ones_and_kept_on_request(keep: bool) -> None:
    rendered = parse(render("--set", f"crds.keep={str(keep).lower()}", "-s", "templates/crds.yaml", with_crds=True))
    generated = [yaml.safe_load(path.read_text()) for path in sorted((ROOT / "crds").glob("*.yaml"))]
    assert len(generated) == 3
    assert [found["spec"] for found in rendered] == [found["spec"] for found in generated]
    for found in rendered:
        policy = found["metadata"].get("annotations", {}).get("helm.sh/resource-policy")
        assert policy == ("keep" if keep else None)


def test_uninstall_hook_has_rights_before_it_runs_and_leaves_none_behind() -> None:
    hooks = [found for found in parse(render_named("namespaces")) if "helm.sh/hook" in annotations(found)]
    job = next(found for found in hooks if found["kind"] == "Job")
    for found in hooks:
        assert annotations(found)["helm.sh/hook"] == "pre-delete"
        if found is not job:
            assert int(annotations(found)["helm.sh/hook-weight"]) < int(annotations(job)["helm.sh/hook-weight"])
        assert "hook-succeeded" in annotations(found)["helm.sh/hook-delete-policy"], "its pod goes too"
    assert annotations(job)["helm.sh/hook-output-log-policy"] == "hook-succeeded,hook-failed"


def annotations(found: dict[str, Any]) -> dict[str, str]:
    return found["metadata"].get("annotations") or {}


def test_the_package_holds_crds_rights_and_the_setup_script(tmp_path: Path) -> None:
    run_helm("package", str(CHART), "--destination", str(tmp_path))
    with tarfile.open(next(tmp_path.glob("*.tgz"))) as archive:
        names = set(archive.getnames())
    wanted = [f"crds/{path.name}" for path in (ROOT / "crds").glob("*.yaml")]
    assert len(wanted) == 3
    for name in (*wanted, "rbac.yaml", "headroom-setup.sql"):
        assert f"headroom/files/{name}" in names
