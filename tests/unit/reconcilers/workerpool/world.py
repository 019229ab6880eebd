"""A WorkerPool, its Deployment with pods that start, its queue and its guard, in memory, on a clock moved by hand."""

import base64
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from headroom.adapters.inmemory.clock import MemoryClock
from headroom.adapters.inmemory.kube import MemoryKube
from headroom.adapters.inmemory.kube_cache import MemoryCache
from headroom.adapters.inmemory.kube_cluster import Cluster
from headroom.adapters.inmemory.postgres import MemoryPostgres
from headroom.adapters.inmemory.postgres_primary import MemoryPrimary
from headroom.adapters.inmemory.postgres_server import MemoryRole, MemoryServer
from headroom.adapters.inmemory.postgres_session import MemoryLinkSession
from headroom.adapters.inmemory.queues import MemoryQueueProbes
from headroom.adapters.inmemory.telemetry import MemoryTelemetry
from headroom.errors import Conflict
from headroom.model.conditions import Finding
from headroom.model.database import Allocation, ConnectionTarget, Credentials, DatabaseView
from headroom.model.moments import format_time
from headroom.ports.kube import (
    DATABASE_GUARD,
    DEPLOYMENT,
    HORIZONTAL_POD_AUTOSCALER,
    POD,
    SECRET,
    WORKER_POOL,
    Kind,
    Manifest,
    ObjectRef,
)
from headroom.reasons import Reason
from headroom.reconcilers.context import Services
from headroom.reconcilers.reporter import StatusReporter
from headroom.reconcilers.servers import GuardLinks, Servers
from headroom.reconcilers.workerpool import WorkerPoolReconciler

NAMESPACE = "shop"
TARGET = ObjectRef(DEPLOYMENT, NAMESPACE, "mailer")
POOL = ObjectRef(WORKER_POOL, NAMESPACE, "mail")
GUARD = (NAMESPACE, "store")
PLENTY = Allocation(workers=1000, budget=1000, held_by_others=0)
LATE = {"lag_seconds": 100.0, "backlog": 6000, "late": 6000}
"""A queue that is behind its target by far."""


class Leading:
    def check(self, timeout_seconds: float) -> None:
        """This process leads."""


def encode(**values: str) -> dict[str, str]:
    return {key: base64.b64encode(value.encode()).decode() for key, value in values.items()}


def make_object(kind: Kind, name: str, **parts: Any) -> Manifest:
    metadata = {"name": name, "namespace": NAMESPACE, **parts.pop("metadata", {})}
    return {"apiVersion": kind.api_version, "kind": kind.name, "metadata": metadata, **parts}


def make_pool(name: str = "mail", **spec: Any) -> Manifest:
    return make_object(
        WORKER_POOL,
        name,
        spec={
            "workers": {"targetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "mailer"}},
            "minWorkers": 1,
            "maxWorkers": 20,
            "queue": {"type": "Postgres", "postgres": {"preset": "procrastinate", "queues": ["mails"]}},
            "objective": {"targetLag": "30s", "drainWithin": "5m", "expectedJobDuration": "1s"},
            "databaseRef": {"name": "store"},
            "priority": "Standard",
            **spec,
        },
    )


def make_autoscaler(**metadata: Any) -> Manifest:
    ref = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "mailer"}
    return make_object(HORIZONTAL_POD_AUTOSCALER, "mailer-hpa", metadata=metadata, spec={"scaleTargetRef": ref})


@dataclass
class PoolWorld:
    """All that one reconciler talks to; `advance` makes the passes that fall due."""

    spec: dict[str, Any] = field(default_factory=dict)
    replicas: int = 2
    start_seconds: float = 3.0
    clock: MemoryClock = field(default_factory=MemoryClock)
    telemetry: MemoryTelemetry = field(default_factory=MemoryTelemetry)

    def __post_init__(self) -> None:
        self.kube = MemoryKube(clock=self.clock)
        self.cache = MemoryCache(self.kube.store)
        self.cluster = Cluster(self.kube)
        self.postgres = MemoryPostgres(self.clock, Leading())
        self.server = self.postgres.add(MemoryServer("jobs", roles={"jobs": MemoryRole("secret")}))
        self.link: MemoryPrimary | None = self._open_link()
        self.is_guarded, self.allocation = True, PLENTY
        self.probes = MemoryQueueProbes()
        self.numbers = 0
        self.conflicts = 0
        selector = {"matchLabels": {"app": "mailer"}}
        self.cluster.seed(make_object(DEPLOYMENT, "mailer", spec={"replicas": self.replicas, "selector": selector}))
        self.cluster.seed(make_object(DATABASE_GUARD, "store", spec={}))
        self.uid = self.cluster.seed(make_pool(**self.spec))["metadata"]["uid"]
        self.restart()
        self.roll_out()

    def restart(self) -> None:
        """A new process: nothing in memory is left; the guard's first pass comes before the pool's."""
        self.servers = Servers(self.clock)
        self.reconciler = WorkerPoolReconciler(
            Services(
                kube=self.kube,
                cache=self.cache,
                postgres=self.postgres,
                probes=self.probes,
                clock=self.clock,
                telemetry=self.telemetry,
                reporter=StatusReporter(self.kube, self.clock, WORKER_POOL),
                servers=self.servers,
                install_id="12345678",
            )
        )
        self.post_guard()

    def set_guard(self, *, is_ready: bool = True) -> None:
        """What the guard finds from now on; a new link when it is ready."""
        self.link = self._open_link() if is_ready else None
        self.is_guarded = True
        self.post_guard()

    def lose_guard(self) -> None:
        """The guard posts nothing any more, as before its first pass."""
        self.is_guarded = False
        self.servers.remove(GUARD, "guard-uid")

    def post_guard(self) -> None:
        """What the guard's pass posts, as long as it makes passes."""
        if not self.is_guarded:
            return
        link, is_ready = self.link, self.link is not None
        uids = (demand.uid for demand in self.servers.demands(GUARD))
        refusal = Finding(Reason.PASSWORD_REJECTED, "the password is wrong")
        view = DatabaseView(
            "guard-uid",
            is_ready=is_ready,
            finding=Finding(Reason.CONNECTED, "") if is_ready else refusal,
            observed_at=self.clock.monotonic(),
            allocations=dict.fromkeys((self.uid, *uids), self.allocation),
        )
        self.servers.post(GUARD, view, None if link is None else GuardLinks(link))

    def _open_link(self) -> MemoryPrimary:
        target = ConnectionTarget("jobs", 5432, "jobs", Credentials("jobs", "secret"))
        return MemoryPrimary(MemoryLinkSession(self.postgres, target))

    def set_secret(self, name: str, **values: str) -> None:
        ref = ObjectRef(SECRET, NAMESPACE, name)
        if self.cluster.read(ref) is None:
            self.cluster.seed(make_object(SECRET, name, data=encode(**values)))
        else:
            self.cluster.edit(ref, lambda secret: secret.update(data=encode(**values)))

    def queue(self, **numbers: Any) -> None:
        """What the probe tells from now on."""
        self.probes.numbers = replace(self.probes.numbers, **numbers)

    def work(self, *, seconds: float, rate: float, service_rate: float) -> None:
        """Let jobs arrive and end for a while, in the numbers only."""
        told = self.probes.numbers
        arrived = round(rate * seconds)
        done = min(told.backlog + arrived, round(self.running() * service_rate * seconds))
        self.queue(
            arrived=(told.arrived or 0) + arrived,
            ended=(told.ended or 0) + done,
            backlog=max(0, told.backlog + arrived - done),
            in_flight=min(self.running(), round(done / seconds / service_rate)) if seconds else 0,
        )

    def running(self) -> int:
        pods = [entry.manifest for ref, entry in self.kube.store.entries.items() if ref.kind == POD]
        return sum(pod.get("status", {}).get("phase") == "Running" for pod in pods)

    def scale_by_hand(self, count: int) -> None:
        self.cluster.edit(TARGET, lambda item: item["spec"].update(replicas=count), manager="kubectl-scale")

    def roll_out(self) -> None:
        """What the Deployment's controllers and the kubelet do: pods as asked for, Ready after their start."""
        live = self.cluster.read(TARGET)
        if live is None:
            return
        names = [ref.name for ref in self.kube.store.entries if ref.kind == POD]
        for name in names[live["spec"]["replicas"] :]:
            self.cluster.remove(ObjectRef(POD, NAMESPACE, name))
        for _ in range(live["spec"]["replicas"] - len(names)):
            self.numbers += 1
            metadata = {"labels": {"app": "mailer"}}
            self.cluster.seed(make_object(POD, f"mailer-{self.numbers}", metadata=metadata, spec={}))
        for ref in [ref for ref in self.kube.store.entries if ref.kind == POD]:
            self._start(ref)
        counts = {"replicas": live["spec"]["replicas"], "readyReplicas": self.running()}
        self.cluster.set_status(TARGET, counts, manager="deployment-controller")

    def _start(self, ref: ObjectRef) -> None:
        pod = self.cluster.read(ref)
        assert pod is not None
        created = timedelta(seconds=self.start_seconds)
        ready_at = _parse(pod["metadata"]["creationTimestamp"]) + created
        if pod.get("status", {}).get("phase") != "Running" and self.clock.now() >= ready_at:
            condition = {"type": "Ready", "status": "True", "lastTransitionTime": format_time(ready_at)}
            self.cluster.set_status(ref, {"phase": "Running", "conditions": [condition]})

    async def make_pass(self) -> timedelta:
        """One pass, with the object as a watch would show it; a conflict is tried again as the loop does."""
        for _ in range(10):
            body = self.cluster.read(POOL)
            assert body is not None
            try:
                return await self.reconciler.reconcile(body)
            except Conflict:
                self.conflicts += 1
        raise AssertionError("ten conflicts in a row")

    async def advance(self, seconds: float, *, rate: float | None = None, service_rate: float = 1.0) -> None:
        """Make passes as they fall due until the clock has moved so far; the cluster follows each."""
        end = self.clock.monotonic() + seconds
        while self.clock.monotonic() < end:
            pause = (await self.make_pass()).total_seconds()
            step = min(pause, end - self.clock.monotonic())
            await self.clock.advance(max(step, 0.01))
            self.post_guard()
            if rate is not None:
                self.work(seconds=step, rate=rate, service_rate=service_rate)
            self.roll_out()

    def pool(self) -> Manifest:
        live = self.cluster.read(POOL)
        assert live is not None
        return live

    def status(self) -> dict[str, Any]:
        status: dict[str, Any] = self.pool()["status"]
        return status

    def condition(self, name: str) -> tuple[str, str]:
        entry = next(entry for entry in self.status()["conditions"] if entry["type"] == name)
        return entry["status"], entry["reason"]

    def message(self, name: str) -> str:
        return str(next(entry["message"] for entry in self.status()["conditions"] if entry["type"] == name))

    def asked_for(self) -> int:
        live = self.cluster.read(TARGET)
        assert live is not None
        return int(live["spec"]["replicas"])

    def scale_writes(self) -> int:
        return sum(verb == "set_scale" for verb, _ in self.kube.writes)


def _parse(text: str) -> datetime:
    return datetime.fromisoformat(text)
