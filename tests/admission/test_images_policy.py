"""The admission policy of the page on security, applied to a real API server for an account like the operator's."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from e2e.lab.kubectl import CommandFailed, Kubectl
from e2e.lab.waiting import wait_until
from tests.unit.docs.test_docs import iterate_yaml

pytestmark = pytest.mark.cluster
PAGE = Path(__file__).parents[2] / "docs" / "explanation" / "security.md"
OPERATOR = "system:serviceaccount:headroom:headroom"
IMAGE, OTHER = "registry.example.com/db/postgres:17", "docker.io/library/busybox:1"
ACCOUNT, STORED, THEIRS = "operator", "stored", "theirs"


def pod(name: str, **spec: Any) -> dict[str, Any]:
    """A pod that no node runs."""
    ours = {"serviceAccountName": ACCOUNT, "automountServiceAccountToken": False, "nodeSelector": {"no": "node"}}
    whole = {**ours, "containers": [{"name": "server", "image": IMAGE}], **spec}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": whole}


class Account:
    """What the account may do with the pods of one namespace, asked and not done."""

    def __init__(self, namespace: str) -> None:
        self.name = f"system:serviceaccount:{namespace}:{ACCOUNT}"
        self.kubectl = Kubectl(namespace)

    def is_refused(self, *command: str, stdin: str | None = None) -> bool:
        """Whether the policy refuses it, as Forbidden; any other refusal is an error."""
        try:
            self.kubectl(*command, "--as", self.name, stdin=stdin)
        except CommandFailed as failed:
            text = str(failed)
            assert "(Forbidden)" in text, text
            assert "ValidatingAdmissionPolicy" in text, text
            return True
        return False

    def is_creation_refused(self, **spec: Any) -> bool:
        return self.is_refused("create", "--dry-run=server", "-f", "-", stdin=yaml.safe_dump(pod("asked", **spec)))

    def is_patch_refused(self, name: str, patch: dict[str, Any]) -> bool:
        return self.is_refused("patch", "pod", name, "--dry-run=server", "--patch", json.dumps(patch))


@pytest.fixture(scope="module")
def account(namespace: str) -> Iterator[Account]:
    """The policy holds for an account of this namespace, so that no operator on the same cluster meets it."""
    account = Account(namespace)
    text = PAGE.read_text()
    assert text.count(OPERATOR) == 1
    found = [one for one in iterate_yaml(text.replace(OPERATOR, account.name)) if "headroom-images" in str(one)]
    policy, binding = found
    for one in found:
        one["metadata"]["name"] = namespace
    binding["spec"]["policyName"] = namespace
    kubectl = account.kubectl
    kubectl("create", "serviceaccount", ACCOUNT)
    kubectl("create", "rolebinding", ACCOUNT, "--clusterrole=cluster-admin", f"--serviceaccount={namespace}:{ACCOUNT}")
    kubectl.apply(pod(STORED), pod(THEIRS, containers=[{"name": "server", "image": OTHER}]))
    kubectl.apply(policy, binding)
    wait_until("the policy to hold", lambda: account.is_creation_refused(automountServiceAccountToken=True), timeout=30)
    yield account
    kubectl("delete", f"validatingadmissionpolicybinding/{namespace}", f"validatingadmissionpolicy/{namespace}")
    kubectl("delete", "pod", STORED, THEIRS, "--now")


def test_a_pod_of_the_registry_is_created(account: Account) -> None:
    secret = {"name": "login", "secret": {"secretName": "login"}}
    init = [{"name": "seed", "image": IMAGE}]
    assert not account.is_creation_refused(volumes=[secret, {"name": "tmp", "emptyDir": {}}], initContainers=init)


@pytest.mark.parametrize(
    "spec",
    [
        {"containers": [{"name": "server", "image": OTHER}]},
        {"containers": [{"name": "server", "image": IMAGE}, {"name": "beside", "image": OTHER}]},
        {"initContainers": [{"name": "seed", "image": OTHER}]},
        {"automountServiceAccountToken": True},
        {"volumes": [{"name": "token", "projected": {"sources": [{"serviceAccountToken": {"path": "token"}}]}}]},
        {"volumes": [{"name": "node", "hostPath": {"path": "/"}}]},
    ],
    ids=["image", "second container", "init container", "token", "projected token", "path of the node"],
)
def test_another_pod_is_not_created(account: Account, spec: dict[str, Any]) -> None:
    assert account.is_creation_refused(**spec)


@pytest.mark.parametrize("name", [STORED, THEIRS])
def test_no_pod_gets_another_image(account: Account, name: str) -> None:
    for image in (f"{IMAGE}.1", "docker.io/library/alpine:3"):
        assert account.is_patch_refused(name, {"spec": {"containers": [{"name": "server", "image": image}]}})


@pytest.mark.parametrize("name", [STORED, THEIRS])
def test_each_pod_may_be_relabelled(account: Account, name: str) -> None:
    assert not account.is_patch_refused(name, {"metadata": {"labels": {"headroom.dev/role": "serving"}}})


def test_no_pod_gets_a_container_beside_its_own(account: Account) -> None:
    found = account.kubectl.get("pod", STORED)
    assert found is not None
    found["spec"]["ephemeralContainers"] = [{"name": "look", "image": IMAGE}]
    path = f"/api/v1/namespaces/{account.kubectl.namespace}/pods/{STORED}/ephemeralcontainers?dryRun=All"
    assert account.is_refused("replace", "--raw", path, "-f", "-", stdin=json.dumps(found))
