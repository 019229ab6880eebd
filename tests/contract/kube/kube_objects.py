"""Objects that the contract suite makes, in the namespace of the world it runs in."""

from typing import Any

from headroom.ports.kube import (
    Kind,
    Manifest,
    ObjectRef,
)

from .conftest import SAMPLE, World


def build_config_map(
    world: World, name: str = "one", *, data: dict[str, str] | None = None, **metadata: Any
) -> Manifest:
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"namespace": world.namespace, "name": name, **metadata},
        "data": data or {"a": "1"},
    }


def build_service(world: World, *, ports: list[dict[str, Any]], **metadata: Any) -> Manifest:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"namespace": world.namespace, "name": "read", **metadata},
        "spec": {"selector": {"role": "serving"}, "ports": ports},
    }


def build_claim(world: World) -> Manifest:
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"namespace": world.namespace, "name": "data"},
        "spec": {
            "accessModes": ["ReadWriteOnce"],
            "storageClassName": "contract-none",
            "resources": {"requests": {"storage": "1Gi"}},
        },
    }


def build_deployment(world: World, *, replicas: int = 0) -> Manifest:
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"namespace": world.namespace, "name": "workers"},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": "workers", "tier": "back"}},
            "template": {
                "metadata": {"labels": {"app": "workers", "tier": "back"}},
                "spec": {
                    "nodeSelector": {"contract.headroom.dev/nowhere": "true"},
                    "containers": [{"name": "worker", "image": "worker:1"}],
                },
            },
        },
    }


def build_sample(world: World, *, replicas: int = 0) -> Manifest:
    return {
        "apiVersion": SAMPLE.api_version,
        "kind": SAMPLE.name,
        "metadata": {"namespace": world.namespace, "name": "one"},
        "spec": {"replicas": replicas, "note": "as created"},
    }


def build_pod(world: World, name: str = "store-1") -> Manifest:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"namespace": world.namespace, "name": name, "labels": {"role": "standby"}},
        "spec": {
            "nodeSelector": {"contract.headroom.dev/nowhere": "true"},
            "automountServiceAccountToken": False,
            "containers": [{"name": "postgres", "image": "postgres:17"}],
        },
    }


def build_budget(world: World) -> Manifest:
    return {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": {"namespace": world.namespace, "name": "store"},
        "spec": {"minAvailable": 1, "selector": {"matchLabels": {"role": "serving"}}},
    }


def find_unsorted(value: Any) -> list[list[str]]:
    """The keys of every mapping in a JSON tree that are not in their order."""
    if isinstance(value, list):
        return [keys for inner in value for keys in find_unsorted(inner)]
    if not isinstance(value, dict):
        return []
    own = [list(value)] if list(value) != sorted(value) else []
    return own + [keys for inner in value.values() for keys in find_unsorted(inner)]


def ref_of(world: World, kind: Kind, name: str) -> ObjectRef:
    return ObjectRef(kind, world.namespace, name)


def version_of(manifest: Manifest) -> str:
    return str(manifest["metadata"]["resourceVersion"])


def reference_to(owner: Manifest) -> dict[str, Any]:
    return {
        "apiVersion": owner["apiVersion"],
        "kind": owner["kind"],
        "name": owner["metadata"]["name"],
        "uid": owner["metadata"]["uid"],
        "controller": True,
        "blockOwnerDeletion": False,
    }
