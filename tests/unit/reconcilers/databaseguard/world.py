"""A DatabaseGuard with its Secrets and its primary, all in memory, and a clock that is moved by hand."""

import base64
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from headroom.adapters.inmemory.clock import MemoryClock, settle
from headroom.adapters.inmemory.kube import MemoryKube
from headroom.adapters.inmemory.kube_cache import MemoryCache
from headroom.adapters.inmemory.kube_cluster import Cluster
from headroom.adapters.inmemory.postgres import MemoryPostgres
from headroom.adapters.inmemory.postgres_server import MemoryRole, MemoryServer
from headroom.adapters.inmemory.queues import MemoryQueueProbes
from headroom.adapters.inmemory.telemetry import MemoryTelemetry
from headroom.model.database import DatabaseView
from headroom.ports.kube import DATABASE_GUARD, REPLICA_SET, SECRET, Manifest, ObjectRef
from headroom.reconcilers.context import Services
from headroom.reconcilers.databaseguard import GuardReconciler
from headroom.reconcilers.reporter import StatusReporter
from headroom.reconcilers.servers import GuardLinks, Servers

NAMESPACE, INSTALL = "shop", "0123abcd"
HOST = "store-primary.shop.svc"


class Leading:
    def check(self, timeout_seconds: float) -> None:
        """This process leads."""


def encode(**values: str) -> dict[str, str]:
    return {key: base64.b64encode(value.encode()).decode() for key, value in values.items()}


def make_guard(name: str = "store", namespace: str = NAMESPACE, **spec: Any) -> Manifest:
    connection = {
        "host": "store-primary",
        "database": "store",
        "tls": {"mode": "verify-full"},
        "credentialsSecretRef": {"name": "store-monitor"},
        "replicationSecretRef": {"name": "store-replication"},
        **spec.pop("connection", {}),
    }
    return {
        "apiVersion": DATABASE_GUARD.api_version,
        "kind": DATABASE_GUARD.name,
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"connection": {key: value for key, value in connection.items() if value is not None}, **spec},
    }


def ref(name: str = "store", namespace: str = NAMESPACE) -> ObjectRef:
    return ObjectRef(DATABASE_GUARD, namespace, name)


@dataclass
class GuardWorld:
    """All that one reconciler talks to."""

    clock: MemoryClock = field(default_factory=MemoryClock)
    telemetry: MemoryTelemetry = field(default_factory=MemoryTelemetry)
    namespaces: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        self.kube = MemoryKube(clock=self.clock)
        self.cluster = Cluster(self.kube)
        self.postgres = MemoryPostgres(self.clock, Leading())
        roles = {
            "headroom_monitor": MemoryRole("monitor-password"),
            "headroom_replication": MemoryRole("replication-password", frozenset(), may_replicate=True),
        }
        self.server = self.postgres.add(MemoryServer(HOST, roles=roles))
        self.server.settings["reserved_connections"] = "5"
        self.set_secret("store-monitor", username="headroom_monitor", password="monitor-password")
        self.set_secret("store-replication", username="headroom_replication", password="replication-password")
        self.cluster.seed(make_guard())
        self.restart()

    def restart(self) -> None:
        """A new process: nothing in memory is left."""
        self.servers = Servers(self.clock)
        self.reconciler = GuardReconciler(
            Services(
                kube=self.kube,
                cache=MemoryCache(self.kube.store),
                postgres=self.postgres,
                probes=MemoryQueueProbes(),
                clock=self.clock,
                telemetry=self.telemetry,
                reporter=StatusReporter(self.kube, self.clock, DATABASE_GUARD),
                servers=self.servers,
                install_id=INSTALL,
                watch_namespaces=self.namespaces,
            )
        )

    def set_secret(self, name: str, namespace: str = NAMESPACE, **values: str) -> None:
        where = ObjectRef(SECRET, namespace, name)
        data = encode(**values)
        if self.cluster.read(where) is None:
            metadata = {"name": name, "namespace": namespace}
            self.cluster.seed({"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "data": data})
        else:
            self.cluster.edit(where, lambda secret: secret.update(data=data))

    def remove_secret(self, name: str) -> None:
        self.cluster.remove(ObjectRef(SECRET, NAMESPACE, name))

    def edit_spec(self, change: Any, name: str = "store") -> None:
        self.cluster.edit(ref(name), lambda guard: change(guard["spec"]))

    def annotate(self, **annotations: str) -> None:
        self.cluster.edit(ref(), lambda guard: guard["metadata"].update(annotations=annotations))

    def add_set(self, name: str, guard: str = "store") -> None:
        metadata = {"name": name, "namespace": NAMESPACE}
        spec = {"databaseRef": {"name": guard}}
        self.cluster.seed(
            {"apiVersion": REPLICA_SET.api_version, "kind": "ReplicaSet", "metadata": metadata, "spec": spec}
        )

    def body(self, name: str = "store", namespace: str = NAMESPACE) -> Manifest:
        found = self.cluster.read(ref(name, namespace))
        assert found is not None
        return found

    @property
    def status(self) -> dict[str, Any]:
        return self.status_of("store")

    def status_of(self, name: str, namespace: str = NAMESPACE) -> dict[str, Any]:
        return dict(self.body(name, namespace).get("status", {}))

    def condition(self, kind: str = "Ready", name: str = "store", namespace: str = NAMESPACE) -> dict[str, Any]:
        conditions = self.status_of(name, namespace)["conditions"]
        return next(dict(entry) for entry in conditions if entry["type"] == kind)

    @property
    def ready(self) -> tuple[str, str]:
        return self.ready_of("store")

    def ready_of(self, name: str, namespace: str = NAMESPACE) -> tuple[str, str]:
        condition = self.condition("Ready", name, namespace)
        return condition["status"], condition["reason"]

    @property
    def view(self) -> DatabaseView:
        return self.view_of("store")

    def view_of(self, name: str, namespace: str = NAMESPACE) -> DatabaseView:
        found = self.servers.view((namespace, name))
        assert found is not None
        return found

    @property
    def links(self) -> GuardLinks | None:
        return self.servers.links((NAMESPACE, "store"))

    async def step(self, name: str = "store", namespace: str = NAMESPACE) -> timedelta:
        """One pass, then as much time as the loop would sleep."""
        pause = await self.reconciler.reconcile(self.body(name, namespace))
        await self.clock.advance(pause.total_seconds())
        return pause

    async def run(self, seconds: float) -> None:
        """Passes until so much time is over."""
        end = self.clock.monotonic() + seconds
        while self.clock.monotonic() < end:
            await self.step()
        await settle()

    async def run_all(self, seconds: float, *guards: tuple[str, str]) -> None:
        """A pass of each of these guards every second."""
        end = self.clock.monotonic() + seconds
        while self.clock.monotonic() < end:
            for namespace, name in guards:
                await self.reconciler.reconcile(self.body(name, namespace))
            await self.clock.advance(1)
        await settle()

    async def close(self) -> None:
        for entry in [entry for entry in self.kube.store.entries if entry.kind == DATABASE_GUARD]:
            await self.reconciler.forget(self.body(entry.name, entry.namespace)["metadata"]["uid"])
