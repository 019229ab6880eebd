"""Many pools through the client's real limits, in virtual time."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Any

from headroom.adapters.inmemory.kube import MemoryKube
from headroom.adapters.inmemory.queues import EMPTY, MemoryQueueProbes
from headroom.adapters.inmemory.telemetry import MemoryTelemetry
from headroom.adapters.kube.cache import WatchCache
from headroom.adapters.kube.connect import GUARD_LIMITS, POOL_LIMITS, REPLICA_LIMITS
from headroom.adapters.kube.limits import Limiter, Limits
from headroom.adapters.kube.write_through import WriteThroughKube
from headroom.api.v1alpha1.queue import PostgresQueue
from headroom.model.queue import QueueQuestion, QueueSample
from headroom.ports.kube import DATABASE_GUARD, DEPLOYMENT, REPLICA_SET, WORKER_POOL, Kube, ObjectRef
from headroom.ports.signals import QueueProbe, SqlRunner
from headroom.ports.telemetry import Metric, current_subject
from headroom.reconcilers.loop import LATENESS
from headroom.reconcilers.wakes import Wakes
from headroom.reconcilers.workerpool.metrics import DECISION_SECONDS
from tests.loop_clock import LoopClock
from tests.manifests import NAMESPACE, make_deployment, make_pool
from tests.memory_kopf import MemoryKopf, MemoryWatch
from tests.memory_world import MemoryWorld

ANSWER_SECONDS = 0.02
START_SECONDS = 8.0
PLAY_SECONDS = 0.25


class SlowServer:
    """The API in memory behind a client's limits; each call takes 20 ms."""

    def __init__(self, inner: MemoryKube, limiter: Limiter, calls: "Counter[str]") -> None:
        self._inner, self._limiter, self._calls = inner, limiter, calls

    def __getattr__(self, verb: str) -> Callable[..., Awaitable[Any]]:
        async def call(*arguments: Any, **named: Any) -> Any:
            subject = current_subject()
            async with self._limiter.place("" if subject is None else subject.namespace):
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
    channels: tuple[str, ...] = ()

    async def sample(self, question: QueueQuestion) -> QueueSample:
        if self.queues.is_late and self.may_be_late:
            return replace(EMPTY, lag_seconds=90.0, backlog=6000, late=6000, taken_at=question.asked_at)
        return replace(EMPTY, taken_at=question.asked_at)


class Telemetry(MemoryTelemetry):
    """Keeps every series: to look for those to drop among many thousands is the work of a test, not of the operator."""

    def forget(self, *metrics: Metric, **labels: str) -> None:
        pass


class Fleet(MemoryWorld):
    """All three kinds, through the application's own builder."""

    def __init__(self, pools: int, late: int) -> None:
        super().__init__(LoopClock())
        self.late = late
        self.telemetry: Telemetry = Telemetry()
        self.probes: Queues = Queues()
        self.calls: Counter[str] = Counter()
        self.set_budget(30_000)
        self.add_guard(connection={"replicationSecretRef": None})
        for number in range(pools):
            name = f"{'late' if number < late else 'calm'}-{number}"
            self.seed(make_deployment(name, 1))
            self.seed(make_pool(name))
        # The first workers are ready at once: nobody has seen a long start yet, and growth takes its quickest steps.
        self.deployments.start_seconds = 0
        self.deployments.play()
        self.deployments.play()
        self.deployments.start_seconds = START_SECONDS

    async def run(self) -> None:
        """The operator and the Deployments' controller, until cancelled."""
        cache = WatchCache(self.clock)

        def through(limits: Limits) -> Kube:
            slow: Any = SlowServer(self.kube, Limiter(limits, self.clock), self.calls)
            return WriteThroughKube(slow, cache)

        limits = {DATABASE_GUARD: GUARD_LIMITS, REPLICA_SET: REPLICA_LIMITS, WORKER_POOL: POOL_LIMITS}
        kubes = {kind: through(limit) for kind, limit in limits.items()}
        loops = self.build_loops(kubes, through(Limits()), cache, self.postgres)
        kopf = MemoryKopf(self.kube, loops, Wakes(loops), MemoryWatch(self.kube, cache))
        await asyncio.gather(kopf.run(), self._roll_out())

    async def _roll_out(self) -> None:
        while True:
            self.deployments.play()
            await asyncio.sleep(PLAY_SECONDS)

    def take_lateness(self) -> list[float]:
        """Seconds from due to done of the pools' passes since the last call, in order."""
        return sorted(self.telemetry.observations.pop((LATENESS.name, (("kind", "WorkerPool"),)), []))

    def take_scaled(self, namespace: str = NAMESPACE) -> list[float]:
        """Seconds from when a sample was due until the count that it led to was written, in order."""
        found = (key for key in self.telemetry.observations if key[0] == DECISION_SECONDS.name)
        series = [key for key in found if dict(key[1])["namespace"] == namespace]
        return sorted(seconds for key in series for seconds in self.telemetry.observations.pop(key))

    def take_calls(self) -> "Counter[str]":
        """Calls to the API server since the last time."""
        calls = Counter(self.calls)
        self.calls.clear()
        return calls

    def count_grown(self) -> int:
        """Deployments with more than one worker."""
        found = (self.cluster.read(ObjectRef(DEPLOYMENT, NAMESPACE, f"late-{number}")) for number in range(self.late))
        return sum(item is not None and item["spec"]["replicas"] > 1 for item in found)


def quantile(values: list[float], part: float) -> float:
    return values[min(len(values) - 1, int(len(values) * part))]
