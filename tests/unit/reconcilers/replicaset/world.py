"""A cluster and a primary in memory, with what the kubelet, the volume binder and the Service controller would do."""

import asyncio
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from headroom.adapters.inmemory.clock import MemoryClock, settle
from headroom.adapters.inmemory.kube import MemoryKube
from headroom.adapters.inmemory.kube_cache import MemoryCache
from headroom.adapters.inmemory.kube_cluster import Cluster
from headroom.adapters.inmemory.kube_faults import Killed
from headroom.adapters.inmemory.postgres import MemoryPostgres
from headroom.adapters.inmemory.postgres_server import MemoryRole, MemoryServer
from headroom.adapters.inmemory.queues import MemoryQueueProbes
from headroom.adapters.inmemory.telemetry import MemoryTelemetry
from headroom.errors import Conflict, HeadroomError, Unavailable
from headroom.model.conditions import Finding
from headroom.model.database import ConnectionTarget, Credentials, DatabaseView
from headroom.model.replica import ROLE_LABEL, slot_prefix
from headroom.ports.kube import CLAIM, CONFIG_MAP, DATABASE_GUARD, POD, REPLICA_SET, SERVICE, Manifest, ObjectRef
from headroom.reasons import Reason
from headroom.reconcilers.context import Services
from headroom.reconcilers.replicaset import ReplicaSetReconciler
from headroom.reconcilers.reporter import StatusReporter
from headroom.reconcilers.servers import GuardLinks, Servers

NAMESPACE, NAME, INSTALL = "shop", "store", "0123abcd"
GUARD = (NAMESPACE, "store")
SET = ObjectRef(REPLICA_SET, NAMESPACE, NAME)
MONITOR, REPLICATION = Credentials("monitor", "m"), Credentials("replication", "r")
STEP_SECONDS = 0.25
CONFLICT_SECONDS = 0.1
QUIET_SECONDS = 2.5


@dataclass(slots=True)
class CrashFence:
    """Asked before every write, to Kubernetes and to PostgreSQL: ends the process before its `nth`, and all later ones.

    Ending it before write n + 1 is ending it after write n: what a process knew dies with it either way.
    """

    nth: int | None = None
    seen: int = 0

    def check(self, timeout_seconds: float) -> None:
        """Count a write."""
        self.seen += 1
        if self.nth is not None and self.seen >= self.nth:
            raise Killed(f"write {self.nth}")


def make_set(**spec: Any) -> Manifest:
    return {
        "apiVersion": REPLICA_SET.api_version,
        "kind": "ReplicaSet",
        "metadata": {"name": NAME, "namespace": NAMESPACE, "finalizers": ["headroom.dev/finalizer"]},
        "spec": {
            "databaseRef": {"name": "store"},
            "image": "postgres:17",
            "storage": {"size": "1Gi"},
            "replicas": 1,
            "standbys": 1,
            **spec,
        },
    }


@dataclass(slots=True)
class World:
    """Everything around one reconciler; `reconciler` can be replaced, as by a restart."""

    clock: MemoryClock = field(default_factory=MemoryClock)
    telemetry: MemoryTelemetry = field(default_factory=MemoryTelemetry)
    fence: CrashFence = field(default_factory=CrashFence)
    binds: bool = True
    copies: bool = True
    lists: bool = True
    has_slots: bool = True
    published: list[str] | None = None
    kube: MemoryKube = field(init=False)
    cluster: Cluster = field(init=False)
    postgres: MemoryPostgres = field(init=False)
    primary: MemoryServer = field(init=False)
    cache: MemoryCache = field(init=False)
    servers: Servers = field(init=False)
    reconciler: ReplicaSetReconciler = field(init=False)
    links: Any = None
    marks: list[Any] = field(default_factory=list)
    ips: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.kube = MemoryKube(clock=self.clock, fence=self.fence)
        self.cluster = Cluster(self.kube)
        self.cache = MemoryCache(self.kube.store)
        self.postgres = MemoryPostgres(self.clock, self.fence)
        roles = {"monitor": MemoryRole("m"), "replication": MemoryRole("r", may_replicate=True)}
        self.primary = self.postgres.add(MemoryServer("primary", roles=roles))
        self.primary.settings["max_slot_wal_keep_size"] = "1024"
        self.cluster.seed(
            {
                "apiVersion": DATABASE_GUARD.api_version,
                "kind": "DatabaseGuard",
                "metadata": {"name": "store", "namespace": NAMESPACE},
                "spec": {"connection": {"replicationSecretRef": {"name": "store-replication"}}},
            }
        )
        self.restart()

    def restart(self, install_id: str = INSTALL) -> None:
        """A new process: nothing in memory is left, and no guard has made a pass yet."""
        self.fence.nth = None
        self.servers = Servers(self.clock)
        services = Services(
            kube=self.kube,
            cache=self.cache,
            postgres=self.postgres,
            probes=MemoryQueueProbes(),
            clock=self.clock,
            telemetry=self.telemetry,
            servers=self.servers,
            reporter=StatusReporter(self.kube, self.clock, REPLICA_SET),
            install_id=install_id,
        )
        self.reconciler = ReplicaSetReconciler(services)

    def add_set(self, **spec: Any) -> Manifest:
        return self.cluster.seed(make_set(**spec))

    def edit_spec(self, **changes: Any) -> None:
        self.cluster.edit(SET, lambda item: item["spec"].update(changes))

    @property
    def body(self) -> Manifest:
        found = self.cluster.read(SET)
        assert found is not None
        return found

    @property
    def status(self) -> dict[str, Any]:
        return dict(self.body.get("status", {}))

    def condition(self, kind: str) -> dict[str, Any]:
        return next(entry for entry in self.status["conditions"] if entry["type"] == kind)

    def roles(self) -> list[str]:
        """Role labels of all pods, sorted."""
        return sorted(pod["metadata"]["labels"][ROLE_LABEL] for pod in self.children(POD))

    def children(self, kind: Any) -> list[Manifest]:
        return [entry.manifest for ref, entry in self.kube.store.entries.items() if ref.kind == kind]

    def slots(self) -> list[str]:
        return sorted(name for name in self.primary.slots if name.startswith(slot_prefix(INSTALL)))

    def replica(self, pod: str) -> MemoryServer:
        """The server inside a pod."""
        return self.postgres.servers[self.ips[pod], 5432]

    def serving(self) -> list[str]:
        pods = [pod["metadata"] for pod in self.children(POD)]
        return [pod["name"] for pod in pods if pod.get("labels", {}).get(ROLE_LABEL) == "serving"]

    async def observe(self) -> None:
        """The guard's pass: a fresh view, or why there is none."""
        target = ConnectionTarget("primary", 5432, "store", MONITOR, "disable")
        now = self.clock.monotonic()
        try:
            if self.links is None:
                primary = await self.postgres.open_primary(target)
                self.links = (primary, await self.postgres.open_slots(target, REPLICATION))
            self.marks = [*self.marks[-60:], await self.links[0].position()]
            server = await self.links[0].identify()
        except Unavailable as error:
            self.servers.post(GUARD, DatabaseView("g", False, Finding(error.reason, str(error)), now))
            return
        view = DatabaseView(
            "g",
            True,
            Finding(Reason.CONNECTED, ""),
            now,
            target=target,
            replication=REPLICATION,
            server=server,
            marks=tuple(self.marks),
        )
        self.servers.post(GUARD, view, GuardLinks(self.links[0], self.links[1] if self.has_slots else None))

    def play(self) -> None:
        """One step of everybody else."""
        self.primary.write(1000)
        for claim in self.children(CLAIM):
            if self.binds and claim.get("status", {}).get("phase") != "Bound":
                self.cluster.bind_claim(ObjectRef(CLAIM, NAMESPACE, claim["metadata"]["name"]))
        for pod in self.children(POD):
            self._play_pod(pod)
        if self.lists and any(item["metadata"]["name"] == "store-read" for item in self.children(SERVICE)):
            ready = [name for name in self.serving() if self._is_running(name)]
            if ready != self.published:
                self.cluster.publish_endpoints(NAMESPACE, "store-read", ready)
                self.published = ready

    def _is_running(self, name: str) -> bool:
        pod = self._peek(ObjectRef(POD, NAMESPACE, name))
        return pod is not None and pod.get("status", {}).get("phase") == "Running"

    def _peek(self, ref: ObjectRef) -> Manifest | None:
        entry = self.kube.store.entries.get(ref)
        return entry.manifest if entry is not None else None

    def _play_pod(self, pod: Manifest) -> None:
        name = pod["metadata"]["name"]
        ref = ObjectRef(POD, NAMESPACE, name)
        if "ownerReferences" not in pod["metadata"]:
            if "deletionTimestamp" in pod["metadata"]:
                self.cluster.finish_deletion(ref)
            return
        slot = next(entry["value"] for entry in pod["spec"]["containers"][0]["env"] if entry["name"] == "SLOT")
        if "deletionTimestamp" in pod["metadata"]:
            self._stop(name, slot)
            self.cluster.finish_deletion(ref)
            return
        claim = self._peek(ObjectRef(CLAIM, NAMESPACE, name))
        config = self._peek(ObjectRef(CONFIG_MAP, NAMESPACE, pod["spec"]["volumes"][1]["configMap"]["name"]))
        if claim is None or claim.get("status", {}).get("phase") != "Bound" or config is None:
            return
        if not self.copies or slot not in self.primary.slots or self.primary.is_down:
            if pod.get("status", {}).get("phase") != "Running":
                self.cluster.set_status(ref, {"initContainerStatuses": [_container("seed", {"running": {}})]})
            return
        if pod.get("status", {}).get("phase") != "Running":
            self._start(ref, name, slot)

    def _start(self, ref: ObjectRef, name: str, slot: str) -> None:
        ip = self.ips.setdefault(name, f"10.0.0.{len(self.ips) + 10}")
        self.cluster.run_pod(ref, ip=ip)
        done = [_container("seed", {"terminated": {"exitCode": 0}})]
        self.cluster.set_status(ref, {"initContainerStatuses": done})
        if (ip, 5432) not in self.postgres.servers:
            roles = dict(self.primary.roles)
            server = self.postgres.add(MemoryServer(ip, upstream=self.primary, roles=roles))
            server.settings["cluster_name"] = name
        self.postgres.servers[ip, 5432].is_down = False
        self.primary.slots[slot].is_active = True

    def _stop(self, name: str, slot: str) -> None:
        if name in self.ips and (server := self.postgres.servers.get((self.ips[name], 5432))) is not None:
            server.is_down = True
        if slot in self.primary.slots:
            self.primary.slots[slot].is_active = False

    async def one_pass(self) -> timedelta | None:
        """One pass of the level loop; None when it ended in an error it would survive."""
        await self.observe()
        work = asyncio.create_task(self.reconciler.reconcile(self.body))
        try:
            return await self._drive(work)
        except HeadroomError:
            return None

    async def _drive(self, work: "asyncio.Task[Any]") -> Any:
        for _ in range(400):
            await settle()
            if work.done():
                break
            self.play()
            await self.clock.advance(0.05)
        return await work

    async def run(self, seconds: float = 20.0, *, step: float = 0.0) -> None:
        """Passes and everybody else, for that long; `step` stretches the pauses where nothing happens for long."""
        end = self.clock.monotonic() + seconds
        while self.clock.monotonic() < end:
            pause = await self.one_pass()
            self.play()
            seconds = pause.total_seconds() if pause is not None else CONFLICT_SECONDS
            await self.clock.advance(max(seconds, step))

    async def settle(self, limit: float = 60.0) -> None:
        """Passes until one has nothing to do but look, and nothing was written for a while."""
        end, quiet_since, count = self.clock.monotonic() + limit, self.clock.monotonic(), -1
        while self.clock.monotonic() < min(end, quiet_since + QUIET_SECONDS):
            pause = await self.one_pass()
            if len(self.kube.writes) != count:
                count, quiet_since = len(self.kube.writes), self.clock.monotonic()
            self.play()
            await self.clock.advance(pause.total_seconds() if pause is not None else CONFLICT_SECONDS)

    async def delete(self, seconds: float = 30.0, *, step: float = STEP_SECONDS) -> bool:
        """`kubectl delete`: teardown until the finalizer may go; True if it did within that time."""
        if "deletionTimestamp" not in self.body["metadata"]:
            self.cluster.delete(SET)
        end = self.clock.monotonic() + seconds
        while self.clock.monotonic() < end:
            await self.observe()
            try:
                if await self._drive(asyncio.create_task(self.reconciler.teardown(self.body))) is None:
                    return True
            except (Conflict, Unavailable):
                pass
            self.play()
            await self.clock.advance(step)
        return False


def _container(name: str, state: dict[str, Any]) -> dict[str, Any]:
    return {"name": name, "restartCount": 0, "state": state}


__all__ = ["INSTALL", "NAME", "NAMESPACE", "SET", "Killed", "World", "make_set"]
