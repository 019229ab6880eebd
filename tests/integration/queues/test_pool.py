"""A WorkerPool with a real queue and real workers: as many run as it wrote, until the queue is empty again."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import procrastinate
import pytest

from headroom.adapters.clock import SystemClock
from headroom.adapters.inmemory.kube import MemoryKube
from headroom.adapters.inmemory.kube_cache import MemoryCache
from headroom.adapters.inmemory.kube_cluster import Cluster
from headroom.adapters.inmemory.telemetry import MemoryTelemetry
from headroom.adapters.postgres.queues import PostgresQueueProbes
from headroom.errors import Conflict
from headroom.model.conditions import Finding
from headroom.model.database import Allocation, DatabaseView
from headroom.model.moments import format_time
from headroom.ports.kube import DATABASE_GUARD, DEPLOYMENT, POD, WORKER_POOL, Kind, Manifest, ObjectRef
from headroom.reasons import Reason
from headroom.reconcilers.context import Services
from headroom.reconcilers.reporter import StatusReporter
from headroom.reconcilers.servers import GuardLinks, Servers
from headroom.reconcilers.workerpool import WorkerPoolReconciler
from tests.integration.queues.conftest import Shop, running_worker
from tests.postgres_server import QUEUE

pytestmark = pytest.mark.postgres

NAMESPACE = "shop"
JOB_SECONDS = 0.2


def make_object(kind: Kind, name: str, **parts: Any) -> Manifest:
    metadata = {"name": name, "namespace": NAMESPACE, **parts.pop("metadata", {})}
    return {"apiVersion": kind.api_version, "kind": kind.name, "metadata": metadata, **parts}


def make_pool() -> Manifest:
    spec = {
        "workers": {"targetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "commands"}},
        "maxWorkers": 6,
        "queue": {"type": "Postgres", "postgres": {"preset": "procrastinate", "queues": ["commands"]}},
        "objective": {"targetLag": "2s", "drainWithin": "10s"},
        "behavior": {"scaleDown": {"stabilizationWindow": "5s", "maxStepPercent": 100}},
        "databaseRef": {"name": "store"},
        "priority": "Standard",
    }
    return make_object(WORKER_POOL, "commands", spec=spec)


@dataclass
class Laboratory:
    """A pool over the real queue; a Deployment in memory whose pods are real workers in tasks of this process."""

    shop: Shop
    app: procrastinate.App
    kube: MemoryKube = field(default_factory=lambda: MemoryKube(clock=SystemClock()))
    telemetry: MemoryTelemetry = field(default_factory=MemoryTelemetry)
    workers: list[tuple[str, Any]] = field(default_factory=list)
    started: int = 0

    async def open(self) -> None:
        clock = SystemClock()
        self.servers = Servers(clock)
        self.cluster = Cluster(self.kube)
        selector = {"matchLabels": {"app": "commands"}}
        self.cluster.seed(make_object(DEPLOYMENT, "commands", spec={"replicas": 1, "selector": selector}))
        self.cluster.seed(make_object(DATABASE_GUARD, "store", spec={}))
        self.uid = self.cluster.seed(make_pool())["metadata"]["uid"]
        self.links = GuardLinks(await self.shop.open_primary())
        self.post_guard()
        self.reconciler = WorkerPoolReconciler(
            Services(
                kube=self.kube,
                cache=MemoryCache(self.kube.store),
                postgres=self.shop.postgres(),
                probes=PostgresQueueProbes(),
                clock=clock,
                telemetry=self.telemetry,
                reporter=StatusReporter(self.kube, clock, WORKER_POOL),
                servers=self.servers,
                install_id="12345678",
            )
        )

    def post_guard(self) -> None:
        """What the guard's pass would post: the server can be used, and there are connections enough."""
        view = DatabaseView(
            "uid",
            is_ready=True,
            finding=Finding(Reason.CONNECTED, ""),
            observed_at=self.servers.clock.monotonic(),
            allocations={self.uid: Allocation(workers=50, budget=50, held_by_others=0)},
            target=self.shop.server.target(),
            queue=QUEUE,
        )
        self.servers.post((NAMESPACE, "store"), view, self.links)

    async def run(self) -> None:
        """The level loop and the Deployment's controllers."""
        while True:
            pause = 0.1
            self.post_guard()
            with contextlib.suppress(Conflict):
                pause = (await self.reconciler.reconcile(self.read(WORKER_POOL))).total_seconds()
            await self.roll_out()
            await asyncio.sleep(pause)

    async def roll_out(self) -> None:
        wanted = self.asked_for()
        while len(self.workers) > wanted:
            name, worker = self.workers.pop()
            await worker.__aexit__(None, None, None)
            self.cluster.remove(ObjectRef(POD, NAMESPACE, name))
        while len(self.workers) < wanted:
            self.started += 1
            name = f"commands-{self.started}"
            worker = running_worker(self.app, queues=["commands"], concurrency=1)
            await worker.__aenter__()
            self.workers.append((name, worker))
            self.cluster.seed(make_object(POD, name, metadata={"labels": {"app": "commands"}}, spec={}))
            ready = {"type": "Ready", "status": "True", "lastTransitionTime": format_time(datetime.now(UTC))}
            status = {"phase": "Running", "conditions": [ready]}
            self.cluster.set_status(ObjectRef(POD, NAMESPACE, name), status)
        there = {"replicas": len(self.workers), "readyReplicas": len(self.workers)}
        self.cluster.set_status(ObjectRef(DEPLOYMENT, NAMESPACE, "commands"), there)

    async def close(self) -> None:
        await self.reconciler.forget(self.uid)
        for _, worker in self.workers:
            await worker.__aexit__(None, None, None)

    def read(self, kind: Kind) -> Manifest:
        found = self.cluster.read(ObjectRef(kind, NAMESPACE, "commands"))
        assert found is not None
        return found

    def asked_for(self) -> int:
        return int(self.read(DEPLOYMENT)["spec"]["replicas"])

    def status(self) -> dict[str, Any]:
        status: dict[str, Any] = self.read(WORKER_POOL).get("status") or {}
        return status


@contextlib.asynccontextmanager
async def laboratory(shop: Shop) -> AsyncIterator[tuple[Laboratory, Any]]:
    app = shop.app()

    @app.task(name="work", queue="commands")
    async def work(seconds: float) -> None:
        await asyncio.sleep(seconds)

    async with app.open_async():
        lab = Laboratory(shop, app)
        await lab.open()
        loop = asyncio.create_task(lab.run())
        try:
            yield lab, work
        finally:
            loop.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await loop
            await lab.close()


async def until(what: str, is_so: Any, seconds: float, lab: Laboratory) -> None:
    end = asyncio.get_running_loop().time() + seconds
    while not is_so():
        if asyncio.get_running_loop().time() > end:
            pytest.fail(f"waited {seconds:g} s for {what}; status: {lab.status()}")
        await asyncio.sleep(0.1)


async def test_real_workers_follow_a_real_queue_up_and_down(shop: Shop) -> None:
    async with laboratory(shop) as (lab, work):
        await until("the first sample", lambda: lab.status().get("queue"), 20, lab)
        await work.configure().batch_defer_async(*({"seconds": JOB_SECONDS} for _ in range(240)))
        await until("more workers", lambda: lab.asked_for() >= 3, 40, lab)
        await until(
            "the service rate", lambda: "completionsPerSlotPerSecond" in lab.status().get("scaling", {}), 40, lab
        )
        await until("an empty queue", lambda: lab.status()["queue"].get("backlog") == 0, 90, lab)
        await until("the least workers", lambda: lab.asked_for() == len(lab.workers) == 1, 60, lab)
        rate = lab.status()["scaling"]["completionsPerSlotPerSecond"]
        assert 1.0 < rate <= 1 / JOB_SECONDS * 1.1
        ended = shop.run("SELECT status::text, count(*) FROM procrastinate_jobs GROUP BY 1")
        assert ended == [{"status": "succeeded", "count": 240}]
        ready = next(entry for entry in lab.status()["conditions"] if entry["type"] == "Ready")
        assert ready["status"] == "True"
