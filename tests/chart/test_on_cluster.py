"""The chart on a real cluster: ready soon, in both watch modes, with just its rights, and gone without a trace.

It installs, and in the end removes, the release `headroom` in the namespace `headroom`.
"""

import json
import time
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from e2e.cluster.provider import choose_cluster
from e2e.lab.kubectl import Kubectl, Manifest, run
from e2e.lab.release import Release
from e2e.lab.waiting import wait_until
from tests.chart.helm import CHART, ROOT

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(300)]
WATCHED, OTHER = Kubectl("chart-watched"), Kubectl("chart-other")
ACCOUNT = "system:serviceaccount:headroom:headroom"
READY_WITHIN_SECONDS = 30
TABLE: dict[str, Any] = yaml.safe_load((CHART / "files" / "rbac.yaml").read_text())
NEVER = [
    ("", "secrets", "list"),
    ("", "secrets", "watch"),
    ("", "secrets", "create"),
    ("", "pods/exec", "create"),
    ("apps", "deployments", "update"),
    ("apps", "deployments", "delete"),
    ("headroom.dev", "replicasets", "create"),
    ("headroom.dev", "replicasets", "delete"),
    ("rbac.authorization.k8s.io", "rolebindings", "create"),
    ("", "serviceaccounts/token", "create"),
]


@pytest.fixture(scope="module")
def release() -> Iterator[Release]:
    release = Release(choose_cluster().image("operator"))
    remove(release)
    remove_kinds()
    for space in (WATCHED, OTHER):
        space.ensure_namespace()
    yield release
    remove(release)
    for space in (WATCHED, OTHER):
        run(("kubectl", "delete", "namespace", space.namespace, "--wait=true", "--timeout=120s"), timeout=130)


def remove(release: Release) -> None:
    if run(("helm", "list", "-n", release.namespace, "-q", "--filter", f"^{release.name}$")).strip():
        release.uninstall()


def remove_kinds() -> None:
    """Start as on a fresh cluster, unless somebody's resources would go with the kinds."""
    kinds = run(("kubectl", "get", "crd", "-l", "app.kubernetes.io/part-of=headroom", "-o", "name")).split()
    names = [kind.rpartition("/")[2] for kind in kinds]
    in_use = [name for name in names if run(("kubectl", "get", name, "-A", "-o", "name")).strip()]
    if in_use:
        message = f"the cluster holds {', '.join(in_use)} of somebody: delete them first"
        raise RuntimeError(message)
    if kinds:
        run(("kubectl", "delete", "--wait=true", "--timeout=60s", *kinds), timeout=70)


def guard() -> Manifest:
    """A guard of a server that is not there: enough to see whether it is looked at."""
    connection = {"host": "nowhere.invalid", "database": "d", "credentialsSecretRef": {"name": "none"}}
    return {
        "apiVersion": "headroom.dev/v1alpha1",
        "kind": "DatabaseGuard",
        "metadata": {"name": "probe"},
        "spec": {"connection": connection},
    }


def review(space: Kubectl, *questions: tuple[str, str, str]) -> dict[tuple[str, str, str], bool]:
    """Ask the API server whether the operator's account may; (group, resource, verb)."""
    items = []
    for group, resource, verb in questions:
        kind, _, part = resource.partition("/")
        attributes = {"namespace": space.namespace, "group": group, "resource": kind, "subresource": part, "verb": verb}
        spec = {"user": ACCOUNT, "groups": ["system:authenticated"], "resourceAttributes": attributes}
        items.append({"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview", "spec": spec})
    body = json.dumps({"apiVersion": "v1", "kind": "List", "items": items})
    answers = yaml.safe_load_all(run(("kubectl", "create", "-f", "-", "-o", "yaml"), stdin=body))
    return {
        question: bool(answer["status"].get("allowed")) for question, answer in zip(questions, answers, strict=True)
    }


def granted() -> list[tuple[str, str, str]]:
    return [
        (group, resource, verb)
        for rule in TABLE["operator"]["watched"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    ]


def finalizers(space: Kubectl) -> list[str]:
    return list((space.get("databaseguard", "probe") or {}).get("metadata", {}).get("finalizers") or [])


def is_looked_at(space: Kubectl) -> bool:
    return bool((space.get("databaseguard", "probe") or {}).get("status", {}).get("conditions"))


def test_the_operator_is_ready_soon_after_an_install_from_the_checkout(release: Release) -> None:
    started = time.monotonic()
    release.install()
    assert time.monotonic() - started < READY_WITHIN_SECONDS
    assert len([pod for pod in release.pods() if pod["status"]["phase"] == "Running"]) == 2


def test_the_installed_kinds_are_the_generated_ones_and_will_be_kept(release: Release) -> None:
    for path in sorted((ROOT / "crds").glob("*.yaml")):
        name = yaml.safe_load(path.read_text())["metadata"]["name"]
        live = json.loads(run(("kubectl", "get", "crd", name, "-o", "json")))
        assert live["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep"
        assert run(("kubectl", "diff", "--server-side", "--force-conflicts", "-f", str(path)), stdin="") == ""


def test_watching_the_cluster_grants_the_table_everywhere_and_no_more(release: Release) -> None:
    for space in (WATCHED, OTHER):
        assert [question for question, allowed in review(space, *granted()).items() if not allowed] == []
        assert [question for question, allowed in review(space, *NEVER).items() if allowed] == []


def test_watching_the_cluster_looks_at_every_namespace(release: Release) -> None:
    for space in (WATCHED, OTHER):
        space.apply(guard())
    wait_until("both guards to be looked at", lambda: is_looked_at(WATCHED) and is_looked_at(OTHER), timeout=60)


def test_an_upgrade_to_listed_namespaces_takes_the_rights_elsewhere_away(release: Release) -> None:
    OTHER.delete("databaseguard", "probe")
    release.install({"watchNamespaces": "{" + WATCHED.namespace + "}", "rbac.aggregateToUserRoles": "false"})
    assert [question for question, allowed in review(WATCHED, *granted()).items() if not allowed] == []
    assert [question for question, allowed in review(WATCHED, *NEVER).items() if allowed] == []
    assert [question for question, allowed in review(OTHER, *granted()).items() if allowed] == []
    roles = json.loads(run(("kubectl", "get", "clusterroles,clusterrolebindings", "-o", "json")))["items"]
    assert [role["metadata"]["name"] for role in roles if role["metadata"]["name"].startswith("headroom")] == []


def test_only_the_listed_namespace_is_looked_at(release: Release) -> None:
    release.wait_leader()
    for space in (WATCHED, OTHER):
        space.delete("databaseguard", "probe")
        space.apply(guard())
    wait_until("the guard of the listed namespace to be looked at", lambda: is_looked_at(WATCHED), timeout=60)
    assert not is_looked_at(OTHER)
    assert finalizers(OTHER) == []


def test_uninstalling_leaves_resources_without_our_finalizer_and_no_rights(release: Release) -> None:
    wait_until("the finalizer of the listed guard", lambda: finalizers(WATCHED), timeout=30)
    log = release.uninstall()
    assert WATCHED.get("databaseguard", "probe") is not None
    assert finalizers(WATCHED) == []
    assert [question for question, allowed in review(WATCHED, *granted()).items() if allowed] == []
    assert "dbg/probe in" in log
    assert f"kubectl delete namespace {release.namespace}" in log
    leftovers = Kubectl(release.namespace)("get", "deploy,svc,sa,role,rolebinding,pdb,job", "-o", "name").split()
    assert [name for name in leftovers if "headroom" in name] == []


def test_what_was_left_can_be_deleted_without_an_operator(release: Release) -> None:
    WATCHED.delete("databaseguard", "probe", timeout=10)
    assert WATCHED.get("databaseguard", "probe") is None
