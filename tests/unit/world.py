"""The whole application in memory: all three kinds through its own builder, on a clock that runs as the loop does.

What is real: reconcilers, policies, loops, wakes. What is played: the API server and its watches, PostgreSQL, the
kubelet, the controllers of Deployments and Services, and Kopf, which starts loops and keeps finalizers.
"""

import asyncio
import base64
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from headroom.adapters.inmemory.kube import MemoryKube
from headroom.adapters.inmemory.kube_cluster import Cluster
from headroom.adapters.inmemory.postgres import MemoryPostgres
from headroom.adapters.inmemory.postgres_server import MemoryRole, MemoryServer
from headroom.adapters.inmemory.queues import MemoryQueueProbes
from headroom.adapters.inmemory.telemetry import MemoryTelemetry
from headroom.adapters.kube.cache import WatchCache
from headroom.adapters.kube.write_through import WriteThroughKube
from headroom.composition import Ports, build_loops
from headroom.model.database import DatabaseView
from headroom.model.moments import format_time
from headroom.model.replica import ROLE_LABEL
from headroom.ports.kube import (
    CLAIM,
    CONFIG_MAP,
    DATABASE_GUARD,
    DEPLOYMENT,
    OUR_KINDS,
    POD,
    REPLICA_SET,
    SECRET,
    SERVICE,
    WORKER_POOL,
    Kind,
    Manifest,
    ObjectRef,
)
from headroom.reconcilers.loop import LevelLoops
from headroom.reconcilers.wakes import Wakes
from tests.loop_clock import LoopClock
from tests.memory_kopf import MemoryKopf, MemoryWatch

NAMESPACE, INSTALL = "shop", "0123abcd"
PRIMARY_HOST = "store-primary.shop.svc"
PLAY_SECONDS = 0.25
POD_START_SECONDS = 2.0


class Leading:
    def check(self, timeout_seconds: float) -> None:
        """This process leads."""


class Process:
    """One process of the operator: its cache, its loops, and Kopf's part in their lives."""

    def __init__(self, world: "World") -> None:
        cache = WatchCache(world.clock)
        kube = WriteThroughKube(world.kube, cache)
        self.loops: LevelLoops = build_loops(
            Ports(
                kubes=dict.fromkeys(OUR_KINDS, kube),
                reader=kube,
                cache=cache,
                postgres=world.postgres,
                probes=world.probes,
                clock=world.clock,
                telemetry=world.telemetry,
                install_id=INSTALL,
            )
        )
        self._watch = MemoryWatch(world.kube, cache)
        kopf = MemoryKopf(world.kube, self.loops, Wakes(self.loops), self._watch)
        self._running = asyncio.create_task(kopf.run())

    async def stop(self) -> None:
        """The process dies: nothing of it runs on, and nothing is given back."""
        self._watch.is_interrupted = True
        self._running.cancel()
        await asyncio.gather(self._running, return_exceptions=True)


class World:
    """A namespace with a primary, and everybody in it; `start` brings the operator up, `restart` replaces it."""

    def __init__(self) -> None:
        self.clock = LoopClock()
        self.telemetry = MemoryTelemetry()
        self.kube = MemoryKube(clock=self.clock)
        self.cluster = Cluster(self.kube)
        self.postgres = MemoryPostgres(self.clock, Leading())
        self.probes = MemoryQueueProbes()
        self.primary = self.add_primary(PRIMARY_HOST)
        self.process: Process | None = None
        self.ips: dict[str, str] = {}
        self.workers = 0
        self._player: asyncio.Task[None] | None = None

    async def __aenter__(self) -> "World":
        self._player = asyncio.create_task(self._play_on())
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._player is not None
        self._player.cancel()
        if self.process is not None:
            await self.process.stop()

    async def start(self) -> None:
        """Bring a process of the operator up, after the one before is gone."""
        if self.process is not None:
            await self.process.stop()
        self.process = Process(self)

    @property
    def servers(self) -> Any:
        assert self.process is not None
        return self.process.loops.servers

    def view(self, guard: str = "store", namespace: str = NAMESPACE) -> DatabaseView:
        found: DatabaseView | None = self.servers.view((namespace, guard))
        assert found is not None
        return found

    def add_primary(self, host: str, **fields: Any) -> MemoryServer:
        roles = {"monitor": MemoryRole("m"), "replication": MemoryRole("r", may_replicate=True)}
        server = self.postgres.add(MemoryServer(host, roles=roles, **fields))
        server.settings |= {"reserved_connections": "5", "max_slot_wal_keep_size": "1024"}
        return server

    def add_guard(self, name: str = "store", namespace: str = NAMESPACE, **spec: Any) -> None:
        logins = {"monitor": "m", "replication": "r"}
        for login, password in logins.items():
            ref = ObjectRef(SECRET, namespace, f"store-{login}")
            if self.cluster.read(ref) is None:
                data = {
                    key: base64.b64encode(value.encode()).decode()
                    for key, value in (("username", login), ("password", password))
                }
                self.cluster.seed(make(SECRET, ref.name, namespace, data=data))
        connection = {
            "host": PRIMARY_HOST,
            "database": "store",
            "credentialsSecretRef": {"name": "store-monitor"},
            "replicationSecretRef": {"name": "store-replication"},
            **spec.pop("connection", {}),
        }
        self.cluster.seed(make(DATABASE_GUARD, name, namespace, spec={"connection": connection, **spec}))

    def add_set(self, name: str = "store", **spec: Any) -> None:
        self.cluster.seed(
            make(
                REPLICA_SET,
                name,
                spec={
                    "databaseRef": {"name": "store"},
                    "image": "postgres:17",
                    "storage": {"size": "1Gi"},
                    "replicas": 1,
                    "standbys": 1,
                    "routing": {"serviceName": f"{name}-read"},
                    **spec,
                },
            )
        )

    def add_pool(self, name: str = "mail", *, replicas: int = 2, namespace: str = NAMESPACE, **spec: Any) -> None:
        selector = {"matchLabels": {"app": name}}
        self.cluster.seed(make(DEPLOYMENT, name, namespace, spec={"replicas": replicas, "selector": selector}))
        self.cluster.seed(
            make(
                WORKER_POOL,
                name,
                namespace,
                spec={
                    "workers": {"targetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": name}},
                    "minWorkers": 1,
                    "maxWorkers": 100,
                    "queue": {"type": "Postgres", "postgres": {"preset": "procrastinate", "queues": [name]}},
                    "objective": {"targetLag": "30s", "drainWithin": "5m", "expectedJobDuration": "1s"},
                    "databaseRef": {"name": "store"},
                    "priority": "Standard",
                    **spec,
                },
            )
        )

    def queue(self, **numbers: Any) -> None:
        """What every queue's probe tells from now on."""
        self.probes.numbers = replace(self.probes.numbers, **numbers)

    def read(self, kind: Kind, name: str = "store", namespace: str = NAMESPACE) -> Manifest:
        found = self.cluster.read(ObjectRef(kind, namespace, name))
        assert found is not None
        return found

    def status(self, kind: Kind, name: str = "store", namespace: str = NAMESPACE) -> dict[str, Any]:
        return dict(self.read(kind, name, namespace).get("status") or {})

    def condition(self, kind: Kind, type_: str, name: str = "store", namespace: str = NAMESPACE) -> tuple[str, str]:
        entries = self.status(kind, name, namespace).get("conditions") or ()
        entry = next((entry for entry in entries if entry["type"] == type_), {})
        return entry.get("status", ""), entry.get("reason", "")

    def verdicts(self) -> dict[tuple[str, str], str]:
        """Status of every condition of every object of ours, by object and condition type."""
        return {
            (f"{ref.kind.name}/{ref.name}", entry["type"]): entry["status"]
            for ref, stored in self.kube.store.entries.items()
            if ref.kind in OUR_KINDS
            for entry in (stored.manifest.get("status") or {}).get("conditions") or ()
        }

    def find(self, kind: Kind) -> Iterator[Manifest]:
        return iter([stored.manifest for ref, stored in self.kube.store.entries.items() if ref.kind == kind])

    def asked_for(self, name: str = "mail") -> int:
        return int(self.read(DEPLOYMENT, name)["spec"]["replicas"])

    async def _play_on(self) -> None:
        while True:
            self.play()
            await asyncio.sleep(PLAY_SECONDS)

    def play(self) -> None:
        """One step of everybody else."""
        if not self.primary.is_down:
            self.primary.write(1000)
        for claim in self.find(CLAIM):
            if claim.get("status", {}).get("phase") != "Bound":
                self.cluster.bind_claim(_ref(CLAIM, claim))
        for pod in self.find(POD):
            self._play_pod(pod)
        for deployment in self.find(DEPLOYMENT):
            self._roll_out(deployment)
        for service in self.find(SERVICE):
            self._list_endpoints(service)

    def _play_pod(self, pod: Manifest) -> None:
        ref = _ref(POD, pod)
        slot = _slot_of(pod)
        if "deletionTimestamp" in pod["metadata"]:
            self._stop_member(ref.name, slot)
            self.cluster.finish_deletion(ref)
        elif slot and pod.get("status", {}).get("phase") != "Running":
            config = pod["spec"]["volumes"][1]["configMap"]["name"]
            claim = self.cluster.read(ObjectRef(CLAIM, ref.namespace, ref.name)) or {}
            has_config = self.cluster.read(ObjectRef(CONFIG_MAP, ref.namespace, config)) is not None
            is_bound = claim.get("status", {}).get("phase") == "Bound"
            if is_bound and has_config and slot in self.primary.slots and not self.primary.is_down:
                self._start_member(ref, slot)

    def _start_member(self, ref: ObjectRef, slot: str) -> None:
        ip = self.ips.setdefault(ref.name, f"10.0.0.{len(self.ips) + 10}")
        if (ip, 5432) not in self.postgres.servers:
            server = self.postgres.add(MemoryServer(ip, upstream=self.primary, roles=dict(self.primary.roles)))
            server.settings["cluster_name"] = ref.name
        self.postgres.servers[ip, 5432].is_down = False
        self.primary.slots[slot].is_active = True
        self.cluster.run_pod(ref, ip=ip)
        done = [{"name": "seed", "restartCount": 0, "state": {"terminated": {"exitCode": 0}}}]
        self.cluster.set_status(ref, {"initContainerStatuses": done})

    def _stop_member(self, name: str, slot: str) -> None:
        server = self.postgres.servers.get((self.ips.get(name, ""), 5432))
        if server is not None:
            server.is_down = True
        if slot in self.primary.slots:
            self.primary.slots[slot].is_active = False

    def _roll_out(self, deployment: Manifest) -> None:
        wanted, labels = deployment["spec"]["replicas"], deployment["spec"]["selector"]["matchLabels"]
        namespace = deployment["metadata"]["namespace"]
        own = [pod for pod in self.find(POD) if pod["metadata"].get("labels") == labels]
        for pod in own[wanted:]:
            self.cluster.remove(_ref(POD, pod))
        for _ in range(wanted - len(own)):
            self.workers += 1
            name = f"{deployment['metadata']['name']}-{self.workers}"
            self.cluster.seed(make(POD, name, namespace, metadata={"labels": labels}, spec={}))
        ready = sum(self._start_worker(pod) for pod in self.find(POD) if pod["metadata"].get("labels") == labels)
        status = {"replicas": wanted, "readyReplicas": ready, "updatedReplicas": wanted}
        if {name: deployment.get("status", {}).get(name) for name in status} != status:
            self.cluster.set_status(_ref(DEPLOYMENT, deployment), status, manager="deployment-controller")

    def _start_worker(self, pod: Manifest) -> bool:
        if pod.get("status", {}).get("phase") == "Running":
            return True
        ready_at = datetime.fromisoformat(pod["metadata"]["creationTimestamp"]) + timedelta(seconds=POD_START_SECONDS)
        if self.clock.now() < ready_at:
            return False
        condition = {"type": "Ready", "status": "True", "lastTransitionTime": format_time(ready_at)}
        self.cluster.set_status(_ref(POD, pod), {"phase": "Running", "conditions": [condition]})
        return True

    def _list_endpoints(self, service: Manifest) -> None:
        namespace, name = service["metadata"]["namespace"], service["metadata"]["name"]
        selector = service["spec"]["selector"]
        names = [
            pod["metadata"]["name"]
            for pod in self.find(POD)
            if selector.items() <= (pod["metadata"].get("labels") or {}).items()
            and pod.get("status", {}).get("phase") == "Running"
        ]
        self.cluster.publish_endpoints(namespace, name, names)


def make(kind: Kind, name: str, namespace: str = NAMESPACE, **parts: Any) -> Manifest:
    metadata = {"name": name, "namespace": namespace, **parts.pop("metadata", {})}
    return {"apiVersion": kind.api_version, "kind": kind.name, "metadata": metadata, **parts}


def roles(world: World) -> list[str]:
    """Role labels of all members, sorted."""
    found = ((pod["metadata"].get("labels") or {}).get(ROLE_LABEL) for pod in world.find(POD))
    return sorted(role for role in found if role)


def _ref(kind: Kind, manifest: Manifest) -> ObjectRef:
    return ObjectRef(kind, manifest["metadata"]["namespace"], manifest["metadata"]["name"])


def _slot_of(pod: Manifest) -> str:
    containers = pod["spec"].get("containers") or ({},)
    return next((entry["value"] for entry in containers[0].get("env", ()) if entry["name"] == "SLOT"), "")
