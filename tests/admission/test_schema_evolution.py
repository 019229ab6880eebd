"""An object that a newer schema would refuse can still be scaled, paused, deleted and have its status written.

The "older" schema is ours without its bounds and rules, under a group of its own; the newer one is ours as it is.
"""

import copy
from collections.abc import Iterator
from typing import Any

import pytest
from kubernetes import client

from tests.admission.server import Server

pytestmark = pytest.mark.cluster
GROUP = "evolution.headroom.dev"
BOUNDS = frozenset(
    {"x-kubernetes-validations", "pattern", "enum", "minimum", "maximum", "maxLength", "minLength", "maxItems"}
    | {"minItems", "maxProperties", "required", "x-kubernetes-list-type", "x-kubernetes-list-map-keys"}
)
# Each of these breaks a rule of the present schema: on the spec as a whole, on a part of it, on one value.
BROKEN_REPLICA_SET = {
    "databaseRef": {"name": "store"},
    "image": "postgres 17",
    "storage": {"size": "1Mi"},
    "replicas": 2,
    "postgresql": {"parameters": {"port": "1"}},
    "autoscaling": {"minReplicas": 4, "maxReplicas": 3, "signals": [{"name": "a", "type": "CPU", "cpu": {}}]},
    "schedules": [{"name": "a", "cron": "never", "duration": "1d", "minReplicas": 9}],
    "readiness": {"maxReplayLag": "10s", "ejectReplayLag": "1s"},
    "routing": {"rebalance": {"enabled": True, "roles": ["web", "web"]}},
}
BROKEN_WORKER_POOL = {
    "workers": {},
    "minWorkers": 9,
    "maxWorkers": 3,
    "priority": "Highest",
    "queue": {"type": "Kafka", "claims": "Unfenced"},
    "shedding": {"pause": "Queue"},
    "schedules": [{"name": "a", "cron": "never", "duration": "1d", "minWorkers": 9}],
}
BROKEN_DATABASE_GUARD = {
    "connection": {
        "host": "a,b",
        "database": "store",
        "credentialsSecretRef": {"name": "x"},
        "tls": {"mode": "prefer"},
    },
    "thresholds": {"commitLatency": {"brownout": "9s"}},
    "locks": {"cancelAfter": "20s"},
    "notify": [{"name": "ops", "type": "Pager"}],
}
STORED = {
    "ReplicaSet": BROKEN_REPLICA_SET,
    "WorkerPool": BROKEN_WORKER_POOL,
    "DatabaseGuard": BROKEN_DATABASE_GUARD,
}
STATUS = {
    "observedGeneration": 1,
    "conditions": [
        {
            "type": "Ready",
            "status": "False",
            "reason": "InvalidSpec",
            "message": "spec.image: write an image such as postgres:17",
            "lastTransitionTime": "2024-01-01T00:00:00Z",
        }
    ],
}


@pytest.fixture(scope="module")
def plurals(
    api: client.ApiClient, namespace: str, crds: list[dict[str, Any]]
) -> Iterator[tuple[Server, dict[str, str]]]:
    """A server that holds a broken object of each kind, stored under the older schema, and now has the newer one."""
    server = Server(api, namespace)
    newer = [_under_own_group(crd) for crd in crds]
    plurals = {crd["spec"]["names"]["kind"]: crd["spec"]["names"]["plural"] for crd in newer}
    try:
        server.install([_without_bounds(crd) for crd in newer])
        for kind, spec in STORED.items():
            server.create(GROUP, plurals[kind], _object(kind, "stored", spec))
        server.install(newer)
        yield server, plurals
    finally:
        for crd in newer:
            server.uninstall(crd)


@pytest.mark.parametrize("kind", STORED)
def test_the_newer_schema_does_refuse_such_an_object(plurals: tuple[Server, dict[str, str]], kind: str) -> None:
    server, plural = plurals

    assert server.try_create(GROUP, plural[kind], _object(kind, "fresh", STORED[kind])) is not None


@pytest.mark.parametrize("kind", STORED)
def test_its_status_can_be_written(plurals: tuple[Server, dict[str, str]], kind: str) -> None:
    server, plural = plurals

    assert server.merge(GROUP, plural[kind], "stored", {"status": STATUS}, "/status") is None
    stored = server.read(GROUP, plural[kind], "stored")
    assert stored is not None
    assert stored["status"]["conditions"][0]["reason"] == "InvalidSpec"


def test_it_can_be_scaled(plurals: tuple[Server, dict[str, str]]) -> None:
    server, plural = plurals

    assert server.merge(GROUP, plural["ReplicaSet"], "stored", {"spec": {"replicas": 3}}, "/scale") is None
    stored = server.read(GROUP, plural["ReplicaSet"], "stored")
    assert stored is not None
    assert stored["spec"]["replicas"] == 3


@pytest.mark.parametrize("kind", ["ReplicaSet", "WorkerPool"])
def test_it_can_be_paused(plurals: tuple[Server, dict[str, str]], kind: str) -> None:
    server, plural = plurals

    assert server.merge(GROUP, plural[kind], "stored", {"spec": {"mode": "Paused"}}) is None


@pytest.mark.parametrize(
    ("kind", "spec"),
    [
        ("ReplicaSet", {"image": "postgres 18"}),
        ("ReplicaSet", {"autoscaling": {"minReplicas": 5}}),
        ("WorkerPool", {"minWorkers": 8}),
        ("DatabaseGuard", {"locks": {"cancelAfter": "21s"}}),
    ],
    ids=str,
)
def test_what_is_broken_can_only_be_changed_to_what_is_right(
    plurals: tuple[Server, dict[str, str]], kind: str, spec: dict[str, Any]
) -> None:
    server, plural = plurals

    assert server.merge(GROUP, plural[kind], "stored", {"spec": spec}) is not None


@pytest.mark.parametrize("kind", STORED)
def test_it_can_get_and_lose_a_finalizer_and_be_deleted(plurals: tuple[Server, dict[str, str]], kind: str) -> None:
    server, plural = plurals
    assert server.merge(GROUP, plural[kind], "stored", {"metadata": {"finalizers": ["headroom.dev/teardown"]}}) is None

    server.delete(GROUP, plural[kind], "stored")

    assert server.read(GROUP, plural[kind], "stored") is not None, "the finalizer holds it"
    assert server.merge(GROUP, plural[kind], "stored", {"metadata": {"finalizers": None}}) is None
    assert server.read(GROUP, plural[kind], "stored") is None


def _object(kind: str, name: str, spec: dict[str, Any]) -> dict[str, Any]:
    return {"apiVersion": f"{GROUP}/v1alpha1", "kind": kind, "metadata": {"name": name}, "spec": spec}


def _under_own_group(crd: dict[str, Any]) -> dict[str, Any]:
    moved = copy.deepcopy(crd)
    moved["spec"]["group"] = GROUP
    moved["spec"]["names"]["shortNames"] = []
    moved["spec"]["names"]["categories"] = []
    moved["metadata"]["name"] = f"{crd['spec']['names']['plural']}.{GROUP}"
    return moved


def _without_bounds(node: Any) -> Any:
    if isinstance(node, dict):
        return {key: _without_bounds(value) for key, value in node.items() if key not in BOUNDS}
    return [_without_bounds(value) for value in node] if isinstance(node, list) else node
