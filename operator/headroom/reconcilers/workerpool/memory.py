"""The handles of a pool that live in this process: its probe, its login and link, and when its pods were counted."""

from dataclasses import dataclass
from typing import TypeAlias
from zlib import crc32

from headroom.api.v1alpha1.queue import PostgresQueue
from headroom.api.v1alpha1.workerpool import WorkerPoolSpec
from headroom.model.database import ConnectionTarget
from headroom.policy.workerpool import PodCounts, PoolDecision, PoolFacts, PoolMemory
from headroom.ports.clock import Clock
from headroom.ports.postgres import QueueLink
from headroom.ports.signals import QueueProbe, SqlRunner
from headroom.reconcilers.context import ReconcileContext
from headroom.reconcilers.logins import CachedLogin, LoginBackoff

COUNT_EVERY_SECONDS = 4.0
"""Pods that start are counted at most so often, unless their workload reports a change."""
FIRST_COUNT_WITHIN_SECONDS = 60
"""The pods of a settled workload are counted once, for the time a start took; pools of one leader spread over this."""


@dataclass(slots=True)
class QueueHandles:
    """The probe with what it was opened for, and the link of a queue that has its own login."""

    login: CachedLogin[ConnectionTarget]
    backoff: LoginBackoff
    probe: QueueProbe | None = None
    runner: SqlRunner | None = None
    source: PostgresQueue | None = None
    link: QueueLink | None = None
    target: ConnectionTarget | None = None

    async def close(self) -> None:
        """End the link; the next sample opens a new one."""
        link, self.link, self.probe, self.target = self.link, None, None, None
        if link is not None:
            await link.close()


@dataclass(frozen=True, slots=True)
class Workload:
    """A target as its own status tells of it; `ready` is None and `labels` too where it does not tell."""

    uid: str
    present: int
    existing: int
    ready: int | None
    labels: tuple[tuple[str, str], ...] | None

    @property
    def is_settled(self) -> bool:
        """True when all the pods that are asked for are there and ready, and no other one."""
        return self.ready == self.present == self.existing


@dataclass(slots=True)
class PodCensus:
    """The last count of a target's pods. Pods are listed only while they start or stop, and once after that."""

    first_due: float
    workload: Workload | None = None
    counts: PodCounts | None = None
    counted_at: float = 0.0

    def is_due(self, workload: Workload, now: float) -> bool:
        """True when the workload's own numbers do not suffice."""
        last = self.workload
        if last is None or last.uid != workload.uid:
            return not workload.is_settled or now >= self.first_due
        if workload.is_settled:
            # Once more, so that the last pod that became ready is measured too.
            return not last.is_settled
        return workload != last or now - self.counted_at >= COUNT_EVERY_SECONDS

    def record(self, workload: Workload, counts: PodCounts, now: float) -> None:
        """Keep a count."""
        self.workload, self.counts, self.counted_at = workload, counts, now


@dataclass(slots=True)
class PoolHandles:
    """All of one pool; `next_due` is when its next sample is due (monotonic seconds; None before the first)."""

    namespace: str
    name: str
    queue: QueueHandles
    census: PodCensus
    next_due: float | None = None

    @classmethod
    def create(cls, namespace: str, name: str, uid: str, clock: Clock) -> "PoolHandles":
        """Handles of a pool that this process sees for the first time."""
        spread = crc32(uid.encode()) % FIRST_COUNT_WITHIN_SECONDS
        queue = QueueHandles(CachedLogin(clock), LoginBackoff(clock))
        return cls(namespace, name, queue, PodCensus(clock.monotonic() + spread))

    async def close(self) -> None:
        """End what is open."""
        await self.queue.close()


PoolContext: TypeAlias = ReconcileContext[WorkerPoolSpec, PoolFacts, PoolDecision, PoolMemory, PoolHandles]
