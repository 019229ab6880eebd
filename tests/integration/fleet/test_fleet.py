"""A thousand pools through the client's real limits: who is late is decided in time, and who is calm asks nothing."""

import asyncio
import base64
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from headroom.adapters.inmemory.kube import MemoryKube
from headroom.adapters.inmemory.kube_cluster import Cluster
from headroom.adapters.inmemory.postgres import MemoryPostgres
from headroom.adapters.inmemory.postgres_server import MemoryRole, MemoryServer
from headroom.adapters.inmemory.queues import EMPTY, MemoryQueueProbes
from headroom.adapters.inmemory.telemetry import MemoryTelemetry
from headroom.adapters.kube.cache import WatchCache
from headroom.adapters.kube.connect import GUARD_LIMITS, POOL_LIMITS, REPLICA_LIMITS
from headroom.adapters.kube.limits import Limiter, Limits
from headroom.adapters.kube.write_through import WriteThroughKube
from headroom.api.v1alpha1.queue import PostgresQueue
from headroom.composition import Ports, build_loops
from headroom.model.moments import format_time
from headroom.model.queue import QueueQuestion, QueueSample
from headroom.ports.kube import (
    DATABASE_GUARD,
    DEPLOYMENT,
    POD,
    REPLICA_SET,
    SECRET,
    WORKER_POOL,
    Kind,
    Kube,
    Manifest,
    ObjectRef,
)
from headroom.ports.signals import QueueProbe, SqlRunner
from headroom.ports.telemetry import Metric
from headroom.reconcilers.loop import LATENESS
from headroom.reconcilers.wakes import Wakes
from headroom.reconcilers.workerpool.metrics import DECISION_SECONDS
from tests.loop_clock import LoopClock
from tests.memory_kopf import MemoryKopf, MemoryWatch

pytestmark = [pytest.mark.looptime(start=0), pytest.mark.timeout(300)]
ANSWER_SECONDS = 0.02
START_SECONDS = 8.0
CALM_AFTER_SECONDS, CALM_SECONDS, LATE_SECONDS = 75.0, 6.0, 20.0
POOLS, LATE = 1000, 100
GOAL_SECONDS = 5.0


class Leading:
    def check(self, timeout_seconds: float) -> None:
        """This process leads."""


class SlowServer:
    """The API in memory behind a client's limits; each call takes 20 ms."""

    def __init__(self, inner: MemoryKube, limits: Limits, clock: LoopClock, calls: "Counter[str]") -> None:
        self._inner, self._limiter, self._calls = inner, Limiter(limits, clock), calls

    def __getattr__(self, verb: str) -> Callable[..., Awaitable[Any]]:
        async def call(*arguments: Any, **named: Any) -> Any:
            async with self._limiter.place():
                self._calls[verb] += 1
                await asyncio.sleep(ANSWER_SECONDS)
                return await getattr(self._inner, verb)(*arguments, **named)

        return call


class Queues(MemoryQueueProbes):
    """Queues named late... fall far behind once `is_late`; the others have no work."""

    is_late = False

    def open(self, queue: PostgresQueue, runner: SqlRunner) -> QueueProbe:
        return Probe(self, may_be_late=str((queue.queues or [""])[0]).startswith("late"))


@dataclass
class Probe:
    queues: Queues
    may_be_late: bool

    async def sample(self, question: QueueQuestion) -> QueueSample:
        if self.queues.is_late and self.may_be_late:
            return replace(EMPTY, lag_seconds=90.0, backlog=6000, late=6000, taken_at=question.asked_at)
        return replace(EMPTY, taken_at=question.asked_at)


class Telemetry(MemoryTelemetry):
    """Keeps every series: to look for those to drop among many thousands is the work of a test, not of the operator."""

    def forget(self, *metrics: Metric, **labels: str) -> None:
        pass


def make(kind: Kind, name: str, **parts: Any) -> Manifest:
    metadata = {"name": name, "namespace": "shop"}
    return {"apiVersion": kind.api_version, "kind": kind.name, "metadata": metadata, **parts}


def make_pool(name: str, queue: str) -> Manifest:
    target = {"apiVersion": "apps/v1", "kind": "Deployment", "name": name}
    spec = {
        "workers": {"targetRef": target},
        "minWorkers": 1,
        "maxWorkers": 20,
        "queue": {"type": "Postgres", "postgres": {"preset": "procrastinate", "queues": [queue]}},
        "objective": {"targetLag": "30s", "drainWithin": "5m", "expectedJobDuration": "1s"},
        "databaseRef": {"name": "store"},
        "priority": "Standard",
    }
    return make(WORKER_POOL, name, spec=spec)


def make_secret(name: str, **values: str) -> Manifest:
    return make(SECRET, name, data={key: base64.b64encode(value.encode()).decode() for key, value in values.items()})


@dataclass
class Fleet:
    """All three kinds, through the application's own builder."""

    clock: LoopClock = field(default_factory=LoopClock)
    telemetry: Telemetry = field(default_factory=Telemetry)
    queues: Queues = field(default_factory=Queues)
    calls: "Counter[str]" = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self.kube = MemoryKube(clock=self.clock)
        self.cluster = Cluster(self.kube)
        self.postgres = MemoryPostgres(self.clock, Leading())
        server = MemoryServer("store.shop.svc", roles={"monitor": MemoryRole("secret")})
        server.settings["max_connections"] = "30000"
        self.postgres.add(server)
        self.cluster.seed(make_secret("store-monitor", username="monitor", password="secret"))
        connection = {
            "host": "store",
            "database": "store",
            "tls": {"mode": "verify-full"},
            "credentialsSecretRef": {"name": "store-monitor"},
        }
        self.cluster.seed(make(DATABASE_GUARD, "store", spec={"connection": connection}))
        for number in range(POOLS):
            name = f"{'late' if number < LATE else 'calm'}-{number}"
            self.seed_workload(name, name)
        self.kube.store.listeners.append(self.roll_out)

    def seed_workload(self, name: str, queue: str) -> None:
        """A Deployment with one worker that is ready, and its pool."""
        labels = {"app": name}
        status = {"replicas": 1, "readyReplicas": 1}
        spec = {"replicas": 1, "selector": {"matchLabels": labels}}
        self.cluster.seed(make(DEPLOYMENT, name, spec=spec, status=status))
        self.start_pod(f"{name}-0", labels)
        self.ready_pod(f"{name}-0")
        self.cluster.seed(make_pool(name, queue))

    def start_pod(self, name: str, labels: dict[str, str]) -> None:
        pod = make(POD, name, spec={})
        pod["metadata"]["labels"] = labels
        self.cluster.seed(pod)

    def ready_pod(self, name: str) -> None:
        ready = {"type": "Ready", "status": "True", "lastTransitionTime": format_time(self.clock.now())}
        self.cluster.set_status(ObjectRef(POD, "shop", name), {"phase": "Running", "conditions": [ready]})

    def roll_out(self, change: str, manifest: Manifest) -> None:
        """What is asked for is there at once, and ready after its start; nothing is taken away here."""
        if change != "MODIFIED" or manifest["kind"] != "Deployment":
            return
        name, there, asked = manifest["metadata"]["name"], manifest["status"]["replicas"], manifest["spec"]["replicas"]
        if asked > there:
            loop = asyncio.get_running_loop()
            loop.call_soon(self.start_workers, name, there, asked)
            loop.call_later(START_SECONDS, self.ready_workers, name, there, asked)

    def start_workers(self, name: str, there: int, asked: int) -> None:
        for number in range(there, asked):
            self.start_pod(f"{name}-{number}", {"app": name})
        self.cluster.set_status(ObjectRef(DEPLOYMENT, "shop", name), {"replicas": asked})

    def ready_workers(self, name: str, there: int, asked: int) -> None:
        for number in range(there, asked):
            self.ready_pod(f"{name}-{number}")
        self.cluster.set_status(ObjectRef(DEPLOYMENT, "shop", name), {"readyReplicas": asked})

    def start(self) -> "asyncio.Task[None]":
        cache = WatchCache(self.clock)

        def through(limits: Limits) -> Kube:
            slow: Any = SlowServer(self.kube, limits, self.clock, self.calls)
            return WriteThroughKube(slow, cache)

        kubes = {
            DATABASE_GUARD: through(GUARD_LIMITS),
            REPLICA_SET: through(REPLICA_LIMITS),
            WORKER_POOL: through(POOL_LIMITS),
        }
        loops = build_loops(
            Ports(
                kubes=kubes,
                reader=through(Limits()),
                cache=cache,
                postgres=self.postgres,
                probes=self.queues,
                clock=self.clock,
                telemetry=self.telemetry,
                install_id="0123abcd",
            )
        )
        kopf = MemoryKopf(self.kube, loops, Wakes(loops), MemoryWatch(self.kube, cache))
        return asyncio.create_task(kopf.run())

    def take_lateness(self) -> list[float]:
        """Seconds from due to done of the pools' passes since the last call, in order."""
        return sorted(self.telemetry.observations.pop((LATENESS.name, (("kind", "WorkerPool"),)), []))

    def take_scaled(self) -> list[float]:
        """Seconds from when a sample was due until the count that it led to was written, in order."""
        series = [key for key in self.telemetry.observations if key[0] == DECISION_SECONDS.name]
        return sorted(seconds for key in series for seconds in self.telemetry.observations.pop(key))

    def take_calls(self) -> "Counter[str]":
        """Calls to the API server since the last time."""
        calls = Counter(self.calls)
        self.calls.clear()
        return calls

    def count_grown(self) -> int:
        """Deployments with more than one worker."""
        found = (self.cluster.read(ObjectRef(DEPLOYMENT, "shop", f"late-{number}")) for number in range(LATE))
        return sum(item is not None and item["spec"]["replicas"] > 1 for item in found)


def quantile(values: list[float], part: float) -> float:
    return values[min(len(values) - 1, int(len(values) * part))]


def describe(name: str, values: list[float], calls: "Counter[str]") -> str:
    spread = ", ".join(f"{part:.0%} {quantile(values, part):.2f} s" for part in (0.5, 0.9, 0.99))
    return f"{name}: {len(values)} passes, due to done {spread}; calls {dict(calls)}"


async def test_a_thousand_pools_are_decided_in_time(capsys: pytest.CaptureFixture[str]) -> None:
    fleet = Fleet()
    running = fleet.start()
    await asyncio.sleep(CALM_AFTER_SECONDS)
    fleet.take_lateness()
    fleet.calls.clear()
    await asyncio.sleep(CALM_SECONDS)
    calm, calls_when_calm = fleet.take_lateness(), fleet.take_calls()
    fleet.queues.is_late = True
    await asyncio.sleep(LATE_SECONDS)
    late, scaled, calls_when_late = fleet.take_lateness(), fleet.take_scaled(), fleet.take_calls()
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    with capsys.disabled():
        print(f"\n{describe('calm', calm, calls_when_calm)}\n{describe('100 late', late, calls_when_late)}")
        p50, p99 = quantile(scaled, 0.5), quantile(scaled, 0.99)
        print(f"due to scaled: {len(scaled)} writes, 50% {p50:.2f} s, 99% {p99:.2f} s")
    assert calls_when_calm.total() == 0
    assert len(calm) >= POOLS
    assert quantile(calm, 0.99) <= GOAL_SECONDS
    assert fleet.count_grown() == LATE
    assert len(late) >= LATE * LATE_SECONDS / 5
    assert quantile(late, 0.99) <= GOAL_SECONDS
    assert len(scaled) >= LATE
    assert p99 <= GOAL_SECONDS
