"""What the pages tell people to apply for safety agrees with the chart, the manifests and the examples."""

import re
import subprocess
from typing import Any

import pytest
import yaml

from tests.unit.docs.test_docs import DOCS, ROOT, iterate_yaml

CHART = ROOT / "charts" / "headroom"
INSTALL = (DOCS / "how-to" / "install.md").read_text()
HARDEN = (DOCS / "how-to" / "harden.md").read_text()
SECURITY = (DOCS / "explanation" / "security.md").read_text()
TUTORIAL = (DOCS / "tutorial" / "first-replica-and-pool.md").read_text()
PREPARE = (DOCS / "how-to" / "prepare-a-primary.md").read_text()


def find(text: str, kind: str, name: str) -> dict[str, Any]:
    """The one object of that kind and name on a page."""
    objects = (found for found in iterate_yaml(text) if isinstance(found, dict) and found.get("kind") == kind)
    [found] = [found for found in objects if found["metadata"]["name"] == name]
    return dict(found)


def read_guard(text: str) -> dict[str, Any]:
    [guard] = [found for found in yaml.safe_load_all(text) if found["kind"] == "DatabaseGuard"]
    return dict(guard["spec"]["connection"])


def grants(rules: list[dict[str, Any]]) -> set[tuple[str, str]]:
    return {(resource, verb) for rule in rules for resource in rule["resources"] for verb in rule["verbs"]}


def test_the_role_of_an_author_grants_what_the_chart_gives_to_edit() -> None:
    users = yaml.safe_load((CHART / "files" / "rbac.yaml").read_text())["users"]
    role = find(INSTALL, "Role", "headroom-author")
    assert grants(role["rules"]) == grants([*users["view"], *users["edit"]])
    assert {group for rule in role["rules"] for group in rule["apiGroups"]} == {"headroom.dev"}
    assert find(INSTALL, "RoleBinding", "headroom-author")["roleRef"]["name"] == role["metadata"]["name"]


def test_the_policy_for_images_looks_at_new_and_at_changed_pods_and_lets_a_replica_be() -> None:
    spec = find(SECURITY, "ValidatingAdmissionPolicy", "headroom-images")["spec"]
    [rule] = spec["matchConstraints"]["resourceRules"]
    assert rule["operations"] == ["CREATE", "UPDATE"]
    assert [validation["reason"] for validation in spec["validations"]] == ["Forbidden"] * 2
    for variable in spec["variables"]:
        parts = set(re.findall(r"spec\.\??(\w+)", variable["expression"]))
        assert parts == {"containers", "initContainers", "ephemeralContainers"}
    allowed = set(re.findall(r"has\(v\.(\w+)\)", spec["validations"][0]["expression"]))
    for path in sorted((ROOT / "tests" / "golden" / "manifests").glob("*.yaml")):
        pods = [found for found in yaml.safe_load_all(path.read_text()) if found["kind"] == "Pod"]
        assert pods
        for pod in pods:
            assert pod["spec"]["automountServiceAccountToken"] is False
            assert {key for volume in pod["spec"]["volumes"] for key in volume if key != "name"} <= allowed


def test_every_secret_of_the_example_is_labelled_before_the_rule_is_set() -> None:
    labelled, rules = INSTALL.index("kubectl label secret"), INSTALL.index("secrets: {label: headroom.dev/use}")
    upgrade = INSTALL.index("--values policy.yaml")
    assert labelled < rules < upgrade
    connection = read_guard((DOCS / "examples" / "guard.yaml").read_text())
    names = {value["name"] for key, value in connection.items() if key.endswith("SecretRef")}
    names.add(connection["tls"]["caSecretRef"]["name"])
    assert len(names) == 4
    [line] = re.findall(r"kubectl label secret (.*store-monitor.*) --namespace", INSTALL)
    assert set(line.split()) == names


@pytest.mark.parametrize("page", ["how-to/prepare-a-primary.md", "examples/guard.yaml"])
def test_the_lines_for_pg_hba_and_the_guard_agree_on_tls(page: str) -> None:
    script = (CHART / "files" / "headroom-setup.sql").read_text()
    lines = [re.findall(r"^(?:-- +)?(host\w*) .*headroom_", text, re.MULTILINE) for text in (PREPARE, script)]
    assert lines == [["hostssl"] * 4] * 2
    text = (DOCS / page).read_text()
    [tls] = re.findall(r"^ *tls: (\{.*\}\})", text, re.MULTILINE)
    assert yaml.safe_load(tls) == {
        "mode": "verify-full",
        "caSecretRef": {"name": "store-primary-ca", "key": "ca.crt"},
    }
    assert "create secret generic store-primary-ca" in text


def test_the_tutorial_turns_tls_off_for_its_primary_and_for_no_other_field() -> None:
    [command] = re.findall(r"^(sed 's/tls: .*') docs/examples/guard\.yaml", TUTORIAL, re.MULTILINE)
    example = DOCS / "examples" / "guard.yaml"
    done = subprocess.run(["sh", "-c", f'{command} "$0"', str(example)], capture_output=True, text=True, check=True)
    connection = read_guard(example.read_text())
    assert read_guard(done.stdout) == {**connection, "tls": {"mode": "disable"}}
    primary = yaml.safe_load_all((DOCS / "examples" / "try-out-primary.yaml").read_text())
    [config] = [found["data"] for found in primary if found["kind"] == "ConfigMap"]
    assert "hostssl" not in config["pg_hba.conf"]


def test_the_tutorial_makes_the_namespace_before_the_operator_that_watches_it() -> None:
    assert TUTORIAL.count("kubectl create namespace shop") == 1
    assert 0 < TUTORIAL.index("kubectl create namespace shop") < TUTORIAL.index("helm install")
    assert "'watchNamespaces={shop}'" in TUTORIAL


def test_four_members_of_the_example_fit_on_two_cores_beside_the_rest() -> None:
    replicas = yaml.safe_load((DOCS / "examples" / "replicas.yaml").read_text())
    assert replicas["spec"]["resources"]["requests"]["cpu"] == "100m"


def test_the_network_policies_open_the_ports_of_chart_and_replicas_and_no_others() -> None:
    operator = find(HARDEN, "NetworkPolicy", "headroom")["spec"]
    replicas = find(HARDEN, "NetworkPolicy", "store-replicas")["spec"]
    assert ports(operator["ingress"]) == set(map(int, re.findall(r"containerPort: (\d+)", golden("default"))))
    assert {"8443"} == set(re.findall(r"name: https, containerPort: (\d+)", golden("everything")))
    assert ports(operator["egress"]) == {53, 5432, 6443}
    assert ports(replicas["ingress"]) == {5432}
    selector = operator["podSelector"]["matchLabels"]
    assert [entry["podSelector"]["matchLabels"] for entry in replicas["ingress"][0]["from"]][1] == selector
    assert all(f"{key}: {value}" in golden("default") for key, value in selector.items())


def golden(name: str) -> str:
    return (ROOT / "tests" / "chart" / "golden" / f"{name}.yaml").read_text()


def ports(rules: list[dict[str, Any]]) -> set[int]:
    return {entry["port"] for rule in rules for entry in rule["ports"]}


def test_the_steps_to_harden_are_the_headings_in_the_same_order() -> None:
    steps = re.findall(r"^\| \d+\. \[.*\]\(#(\S+)\)", HARDEN, re.MULTILINE)
    headings = re.findall(r"^## (\d)\. (.*)$", HARDEN, re.MULTILINE)
    assert steps == [f"{number}-{title.lower().replace(' ', '-')}" for number, title in headings]
    assert len(steps) == 7


def test_no_page_puts_a_password_on_a_command_line() -> None:
    for path in [*sorted(DOCS.rglob("*.md")), *ROOT.glob("*.md"), *sorted(CHART.rglob("*.sql"))]:
        assert not re.findall(r"--from-literal=\S*password", path.read_text()), path
