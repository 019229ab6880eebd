"""Every right the chart grants has a reason, none is a wildcard, and each kind the code touches is granted."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

import headroom
from headroom.ports.kube import SECRET, WATCHED

CHART = Path(__file__).parents[3] / "charts" / "headroom"
TABLE: dict[str, Any] = yaml.safe_load((CHART / "files" / "rbac.yaml").read_text())
OURS = {"workerpools", "replicasets", "databaseguards"}
NEVER = {"*", "escalate", "bind", "impersonate"}
OPERATOR = Path(headroom.__file__).parent
KIND = re.compile(r'Kind\("([^"]+)", "[^"]+", "([^"]+)"\)')
WAYS_INTO_A_POD = {"pods/exec", "pods/attach", "pods/portforward", "pods/proxy", "pods/ephemeralcontainers"}


def iterate_rules(tree: Any = TABLE, path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    for key, value in tree.items():
        if isinstance(value, dict):
            yield from iterate_rules(value, f"{path}{key}.")
        else:
            yield from ((f"{path}{key}[{number}]", rule) for number, rule in enumerate(value))


RULES = dict(iterate_rules())


def test_the_table_has_the_scopes_the_templates_render() -> None:
    assert TABLE.keys() == {"operator", "uninstall", "scrapers", "users"}
    assert TABLE["operator"].keys() == {"watched", "own", "cluster", "nodes", "metrics"}
    assert TABLE["uninstall"].keys() == {"watched", "own"}


@pytest.mark.parametrize("name", RULES)
def test_each_right_has_a_reason_and_no_wildcard(name: str) -> None:
    rule = RULES[name]
    assert rule.keys() <= {"apiGroups", "resources", "resourceNames", "nonResourceURLs", "verbs", "why", "risk"}
    assert re.fullmatch(r"[A-Z].{20,}\.", rule["why"]), "a reason is a sentence"
    if not name.startswith(("users.", "scrapers.")):
        assert re.fullmatch(r"[A-Z].{15,}\.", rule["risk"]), "what the right amounts to in wrong hands is a sentence"
    granted = {word for key, words in rule.items() if key not in ("why", "risk") for word in words}
    assert not granted & NEVER
    assert not any("*" in word for word in granted)
    assert not granted & WAYS_INTO_A_POD
    assert "rbac.authorization.k8s.io" not in granted


def test_reviews_are_asked_for_and_nothing_else_is_granted_for_metrics() -> None:
    granted = [(rule["resources"], rule["verbs"]) for rule in TABLE["operator"]["metrics"]]
    assert granted == [(["tokenreviews"], ["create"]), (["subjectaccessreviews"], ["create"])]
    [scraper] = TABLE["scrapers"]["metrics"]
    assert (scraper["nonResourceURLs"], scraper["verbs"]) == (["/metrics"], ["get"])


def test_no_template_grants_anything_outside_the_table() -> None:
    for template in sorted((CHART / "templates").glob("*.yaml")):
        text = template.read_text()
        assert "verbs:" not in text, template.name
        for following in re.findall(r"^\s*rules:\n(.*)$", text, re.MULTILINE):
            assert 'include "headroom.rules"' in following, f"{template.name}: {following}"


def test_secrets_are_read_by_name_and_nothing_else() -> None:
    verbs = [rule["verbs"] for rule in RULES.values() if "secrets" in rule.get("resources", ())]
    assert verbs == [["get"]]


def test_the_operator_neither_makes_nor_deletes_its_own_kinds() -> None:
    for name, rule in RULES.items():
        if not name.startswith("users.") and OURS & set(rule.get("resources", ())):
            assert not {"create", "delete", "deletecollection", "update"} & set(rule["verbs"]), name


def test_every_kind_the_code_names_is_granted() -> None:
    granted = {
        (group, resource)
        for name, rule in RULES.items()
        if name.startswith("operator.")
        for group in rule["apiGroups"]
        for resource in rule["resources"]
    }
    named = {
        (version.rpartition("/")[0], plural)
        for path in OPERATOR.rglob("*.py")
        if {"inmemory", "uninstall"}.isdisjoint(path.parts)
        for version, plural in KIND.findall(path.read_text())
    }
    assert len(named) >= 10
    assert named - granted == set()


def test_each_watched_kind_may_be_watched_where_pods_are() -> None:
    """One right that is missing keeps Kopf listing for ever, and no pass begins: it waits for every kind."""
    verbs: dict[tuple[str, str], set[str]] = {}
    for rule in TABLE["operator"]["watched"]:
        for group in rule["apiGroups"]:
            for resource in rule["resources"]:
                verbs.setdefault((group, resource), set()).update(rule["verbs"])
    for kind in WATCHED:
        assert verbs[kind.api_version.rpartition("/")[0], kind.plural] >= {"get", "list", "watch"}, kind
    watched = {key for key, granted in verbs.items() if "watch" in granted}
    assert watched == {(kind.api_version.rpartition("/")[0], kind.plural) for kind in WATCHED}
    assert ("", SECRET.plural) not in watched
