"""Objects as people write them: guards, sets, pools, their Secrets and their Deployments."""

import base64
from typing import Any

from headroom.ports.kube import (
    DATABASE_GUARD,
    DEPLOYMENT,
    HORIZONTAL_POD_AUTOSCALER,
    REPLICA_SET,
    SECRET,
    WORKER_POOL,
    Kind,
    Manifest,
)

NAMESPACE = "shop"
PRIMARY = "store-primary"


def make(kind: Kind, name: str, namespace: str = NAMESPACE, **parts: Any) -> Manifest:
    """An object of any kind; `parts` are its top-level members, `metadata` those beside name and namespace."""
    metadata = {"name": name, "namespace": namespace, **parts.pop("metadata", {})}
    return {"apiVersion": kind.api_version, "kind": kind.name, "metadata": metadata, **parts}


def encode(**values: str) -> dict[str, str]:
    return {key: base64.b64encode(value.encode()).decode() for key, value in values.items()}


def make_secret(name: str, namespace: str = NAMESPACE, **values: str) -> Manifest:
    return make(SECRET, name, namespace, data=encode(**values))


def make_guard(name: str = "store", namespace: str = NAMESPACE, **spec: Any) -> Manifest:
    """A guard with all logins; a part of `connection` that is None is left out."""
    connection = {
        "host": PRIMARY,
        "database": "store",
        "credentialsSecretRef": {"name": "store-monitor"},
        "replicationSecretRef": {"name": "store-replication"},
        "queueSecretRef": {"name": "store-queue"},
        **spec.pop("connection", {}),
    }
    present = {key: value for key, value in connection.items() if value is not None}
    return make(DATABASE_GUARD, name, namespace, spec={"connection": present, **spec})


def make_set(name: str = "store", **spec: Any) -> Manifest:
    defaults = {
        "databaseRef": {"name": "store"},
        "image": "postgres:17",
        "storage": {"size": "1Gi"},
        "replicas": 1,
        "standbys": 1,
    }
    return make(REPLICA_SET, name, spec={**defaults, **spec})


def make_pool(name: str = "mail", target: str = "", namespace: str = NAMESPACE, **spec: Any) -> Manifest:
    """A pool that scales the Deployment `target`, by default the one of its own name."""
    defaults = {
        "workers": {"targetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": target or name}},
        "minWorkers": 1,
        "maxWorkers": 20,
        "queue": {"type": "Postgres", "postgres": {"preset": "procrastinate", "queues": [name]}},
        "objective": {"targetLag": "30s", "drainWithin": "5m", "expectedJobDuration": "1s"},
        "databaseRef": {"name": "store"},
        "priority": "Standard",
    }
    return make(WORKER_POOL, name, namespace, spec={**defaults, **spec})


def make_deployment(name: str, replicas: int, namespace: str = NAMESPACE, **parts: Any) -> Manifest:
    spec = {"replicas": replicas, "selector": {"matchLabels": {"app": name}}}
    return make(DEPLOYMENT, name, namespace, spec=spec, **parts)


def make_autoscaler(name: str, target: str, kind: Kind = DEPLOYMENT, **metadata: Any) -> Manifest:
    ref = {"apiVersion": kind.api_version, "kind": kind.name, "name": target}
    return make(HORIZONTAL_POD_AUTOSCALER, name, metadata=metadata, spec={"scaleTargetRef": ref})
