"""A small shop on Kubernetes: a PostgreSQL primary with data, a queue with workers, readers; and what Headroom adds.

Each function builds plain objects; nothing is sent from here.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from e2e.lab.kubectl import Manifest

PASSWORD = "for-the-laboratory-only"
MONITOR, QUEUE, REPLICATION = "headroom_monitor", "headroom_queue", "headroom_replication"
OWNER, READER = "shop", "shop_reader"
DATABASE = "shop"
SOCKET = "/var/run/postgresql"
"""The only way into a replica for its owner, who is a superuser."""
PRIMARY, GUARD, READ_SERVICE = "store-primary", "store", "store-read"
RESTRICTED = {"pod-security.kubernetes.io/enforce": "restricted"}
HBA = """local all all trust
host all all all scram-sha-256
host replication headroom_replication all scram-sha-256
"""
POSTGRES_UID = 999
APP_GRACE_SECONDS = 2
WORKER_GRACE_SECONDS = 25
"""A worker ends its job first, for at most 20 s."""
PGDATA = "/var/lib/postgresql/data/pgdata"
"""A folder in the volume: its root belongs to the volume, not to the server."""


def secret(name: str, username: str, password: str = PASSWORD) -> Manifest:
    """A login as Headroom reads it."""
    data = {"username": username, "password": password}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "stringData": data}


def primary(
    image: str, *, size: str = "12Gi", node: str | None = None, settings: Mapping[str, str] | None = None
) -> list[Manifest]:
    """A primary as a StatefulSet of one, with its Service and its host-based authentication."""
    labels = {"app": PRIMARY}
    claim = {
        "metadata": {"name": "data"},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": size}}},
    }
    spec = {
        "serviceName": PRIMARY,
        "replicas": 1,
        "selector": {"matchLabels": labels},
        "template": {"metadata": {"labels": labels}, "spec": _primary_pod(image, node, settings or {})},
        "volumeClaimTemplates": [claim],
    }
    return [
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": PRIMARY}, "data": {"pg_hba.conf": HBA}},
        service(PRIMARY, labels),
        {"apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": {"name": PRIMARY}, "spec": spec},
    ]


def _primary_pod(image: str, node: str | None, settings: Mapping[str, str]) -> Manifest:
    parameters = {"shared_buffers": "256MB", "max_wal_size": "4GB", "max_connections": "100", **settings}
    arguments = [part for key, value in parameters.items() for part in ("-c", f"{key}={value}")]
    container = {
        "name": "postgres",
        "image": image,
        "imagePullPolicy": "Never",
        "args": ["-c", "hba_file=/etc/postgresql/pg_hba.conf", *arguments],
        "env": environment(POSTGRES_PASSWORD=PASSWORD, POSTGRES_USER=OWNER, POSTGRES_DB=DATABASE, PGDATA=PGDATA),
        "ports": [{"containerPort": 5432, "name": "postgres"}],
        "readinessProbe": {"exec": {"command": ["pg_isready", "-h", "127.0.0.1"]}, "periodSeconds": 1},
        "securityContext": container_security(),
        "volumeMounts": [
            {"name": "data", "mountPath": "/var/lib/postgresql/data"},
            {"name": "hba", "mountPath": "/etc/postgresql"},
            {"name": "run", "mountPath": "/var/run/postgresql"},
            {"name": "tmp", "mountPath": "/tmp"},
        ],
        "resources": {"requests": {"cpu": "250m", "memory": "512Mi"}},
    }
    return {
        "securityContext": pod_security(POSTGRES_UID),
        "terminationGracePeriodSeconds": 10,
        **_on_node(node),
        "containers": [container],
        "volumes": [
            {"name": "hba", "configMap": {"name": PRIMARY}},
            {"name": "run", "emptyDir": {}},
            {"name": "tmp", "emptyDir": {}},
        ],
    }


def service(name: str, selector: Mapping[str, str]) -> Manifest:
    """A Service for PostgreSQL."""
    spec = {"selector": dict(selector), "ports": [{"port": 5432, "targetPort": "postgres"}]}
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": spec}


def database_guard(**spec: Any) -> Manifest:
    """The guard of the primary."""
    connection = {
        "host": PRIMARY,
        "database": DATABASE,
        "tls": {"mode": "disable"},
        "credentialsSecretRef": {"name": "store-monitor"},
        "queueSecretRef": {"name": "store-queue"},
        "replicationSecretRef": {"name": "store-replication"},
    }
    return custom("DatabaseGuard", GUARD, {"connection": connection, "cores": 2, **spec})


def replica_set(image: str, name: str = "store", **spec: Any) -> Manifest:
    """Read replicas of the primary behind `store-read`."""
    defaults = {
        "databaseRef": {"name": GUARD},
        "replicas": 1,
        "standbys": 1,
        "image": image,
        "storage": {"size": "12Gi"},
        "resources": {"requests": {"cpu": "100m", "memory": "256Mi"}},
        "provisioning": {"method": "BaseBackup", "maxSlotWAL": "4Gi"},
        "routing": {"serviceName": READ_SERVICE},
    }
    return custom("ReplicaSet", name, {**defaults, **spec})


def worker_pool(target: str, **spec: Any) -> Manifest:
    """Workers of the procrastinate queue."""
    defaults = {
        "workers": {"targetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": target}},
        "minWorkers": 1,
        "maxWorkers": 8,
        "queue": {"type": "Postgres", "postgres": {"preset": "procrastinate", "queues": ["commands"]}},
        "databaseRef": {"name": GUARD},
        "connectionsPerWorker": 2,
        "priority": "Standard",
        "objective": {"targetLag": "10s", "drainWithin": "60s"},
    }
    return custom("WorkerPool", target, {**defaults, **spec})


def custom(kind: str, name: str, spec: Mapping[str, Any]) -> Manifest:
    """An object of ours."""
    return {"apiVersion": "headroom.dev/v1alpha1", "kind": kind, "metadata": {"name": name}, "spec": dict(spec)}


def app_container(name: str, image: str, command: Sequence[str], variables: Mapping[str, str]) -> Manifest:
    """A container that runs one of the laboratory's apps."""
    return {
        "name": name,
        "image": image,
        "imagePullPolicy": "Never",
        "command": list(command),
        "env": environment(PYTHONUNBUFFERED="1", **variables),
        "securityContext": container_security(),
        "resources": {"requests": {"cpu": "20m", "memory": "48Mi"}},
    }


def app_pod(
    name: str, image: str, command: Sequence[str], variables: Mapping[str, str], *, node: str | None = None
) -> Manifest:
    """A pod that runs an app once."""
    spec = {
        "restartPolicy": "Never",
        "terminationGracePeriodSeconds": APP_GRACE_SECONDS,
        **_on_node(node),
        "securityContext": pod_security(65532),
        "containers": [app_container(name, image, command, variables)],
    }
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": {"app": name}}, "spec": spec}


def app_deployment(name: str, image: str, command: Sequence[str], variables: Mapping[str, str]) -> Manifest:
    """A Deployment of an app; its size is left to whoever scales it."""
    template = app_pod(name, image, command, variables)["spec"]
    template.pop("restartPolicy")
    template["terminationGracePeriodSeconds"] = WORKER_GRACE_SECONDS
    spec = {
        "selector": {"matchLabels": {"app": name}},
        "template": {"metadata": {"labels": {"app": name}}, "spec": template},
    }
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name}, "spec": spec}


def _on_node(node: str | None) -> Manifest:
    return {"nodeSelector": {"kubernetes.io/hostname": node}} if node else {}


def login(host: str, user: str = OWNER) -> dict[str, str]:
    """libpq's variables for a host of the shop; all but its primary speak TLS."""
    mode = "disable" if host == PRIMARY else "require"
    return {"PGHOST": host, "PGUSER": user, "PGPASSWORD": PASSWORD, "PGDATABASE": DATABASE, "PGSSLMODE": mode}


def environment(**variables: str) -> list[Manifest]:
    """Environment variables as Kubernetes lists them."""
    return [{"name": name, "value": value} for name, value in variables.items()]


def pod_security(uid: int) -> Manifest:
    """What Pod Security `restricted` asks of a pod."""
    return {
        "runAsNonRoot": True,
        "runAsUser": uid,
        "runAsGroup": uid,
        "fsGroup": uid,
        "fsGroupChangePolicy": "OnRootMismatch",
        "seccompProfile": {"type": "RuntimeDefault"},
    }


def container_security() -> Manifest:
    """What Pod Security `restricted` asks of a container."""
    return {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}, "readOnlyRootFilesystem": True}
