"""The handles of a pool in this process: its probe, its login and link, and when its pods were counted."""

from collections.abc import Iterable, Set
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import TypeAlias
from zlib import crc32

from headroom.api.v1alpha1.queue import PostgresQueue
from headroom.api.v1alpha1.workerpool import WorkerPoolSpec
from headroom.model.database import ConnectionTarget
from headroom.model.moments import FIRST_SIGHT_SECONDS
from headroom.policy.workerpool import PodCounts, PoolDecision, PoolFacts, PoolMemory
from headroom.policy.workerpool.victims import DELETION_COST, IDLE_COST
from headroom.ports.clock import Clock
from headroom.ports.kube import Manifest
from headroom.ports.postgres import QueueLink
from headroom.ports.signals import QueueProbe
from headroom.reconcilers.context import ReconcileContext
from headroom.reconcilers.logins import CachedLogin
from headroom.reconcilers.queue_links import QueueLease

COUNT_EVERY_SECONDS = 4.0
"""How often pods that start are counted at most, unless their workload reports a change."""
COUNT_TERMINATING_EVERY_SECONDS = 10.0
"""How often pods are counted while some terminate: they hold their connections, and a grace period may be an hour."""
FIRST_COUNT_WITHIN_SECONDS = 60.0
"""The pods of a settled workload are counted once, to measure their start; all pools of a leader spread over this
time. Those that share a server's connections do so sooner: some of their pods may terminate."""
SPREAD_STEPS = 600


@dataclass(slots=True)
class QueueHandles:
    """The probe with what it was opened for, and the use of the link of a queue that has its own login.

    `sample_seconds` is how long the last sample took, `deafness` why its library's notifications cannot be heard.
    """

    login: CachedLogin[ConnectionTarget]
    probe: QueueProbe | None = None
    runner: QueueLink | None = None
    source: PostgresQueue | None = None
    lease: QueueLease | None = None
    sample_seconds: float = 0.0
    deafness: str = ""

    async def close(self) -> None:
        """Give the link back; the next sample opens one."""
        lease, self.lease, self.probe = self.lease, None, None
        if lease is not None:
            await lease.close()


@dataclass(frozen=True, slots=True)
class Workload:
    """A target according to its own status; `ready` and `labels` are None if it does not report them.

    `version` changes with every change of the object; it is empty for a kind that no watch brings. `template` is a
    digest of the pod template, None where it is not told; `is_updating` is true while not all pods are of it.
    """

    uid: str
    present: int
    existing: int
    ready: int | None
    labels: tuple[tuple[str, str], ...] | None
    version: str = field(default="", compare=False)
    template: str | None = field(default=None, compare=False)
    is_updating: bool = field(default=False, compare=False)

    @property
    def is_settled(self) -> bool:
        """True when exactly the pods that are asked for exist, and all are ready."""
        return self.ready == self.present == self.existing


@dataclass(slots=True)
class StartTimes:
    """How long each pod took to become Ready for the first time, by uid; None: that is not known of it.

    `awaited` are pods that were seen before they were Ready, soon after they were created. `born` is when pods appeared
    between two counts, or were no longer `ready`, by our own clock: the API server's may be an hour off. None: the
    first count has found them.
    """

    seconds: dict[str, float | None] = field(default_factory=dict)
    awaited: set[str] = field(default_factory=set)
    born: dict[str, datetime | None] = field(default_factory=dict)
    ready: set[str] = field(default_factory=set)
    has_counted: bool = False

    def see(self, uids: Set[str], ready: Set[str], now: datetime) -> None:
        """Keep which pods are new or have lost their readiness, and forget those that are gone."""
        born = {uid: at for uid, at in self.born.items() if uid in uids}
        born.update(dict.fromkeys(uids - born.keys(), now if self.has_counted else None))
        born.update(dict.fromkeys((self.ready - ready) & uids, now))
        self.born = born
        self.ready, self.has_counted = set(ready), True

    def forget_others(self, uids: Set[str]) -> None:
        """Drop what is known of pods that are gone."""
        self.seconds = {uid: seconds for uid, seconds in self.seconds.items() if uid in uids}
        self.awaited &= uids


@dataclass(slots=True)
class PodCensus:
    """The last count of a target's pods. Pods are listed only while they start or terminate, and once after that.

    `began_at` is when this process first saw the pool, `spread` where it stands among all pools, from 0 to 1.
    `workload` has the ready pods of that count where it does not report them itself. `marked` are the labels of pods of
    which some may have our mark, None while none has.
    """

    began_at: float
    spread: float = 0.0
    workload: Workload | None = None
    counts: PodCounts | None = None
    counted_at: float = 0.0
    starts: StartTimes = field(default_factory=StartTimes)
    marked: tuple[tuple[str, str], ...] | None = None

    def see_marks(self, labels: tuple[tuple[str, str], ...], pods: Iterable[Manifest]) -> None:
        """Keep whether listed pods have our mark: an earlier process may have left it."""
        if any(is_marked(pod) for pod in pods):
            self.marked = labels

    def complete(self, workload: Workload) -> Workload:
        """A workload that does not report its ready pods has those of the last count, until its own numbers change."""
        if workload.ready is not None or self.workload is None:
            return workload
        counted = replace(workload, ready=self.workload.ready)
        return counted if counted == self.workload else workload

    def is_due(self, workload: Workload, now: float, *, is_late: bool, is_sharing: bool = False) -> bool:
        """True when the workload's own numbers are not enough; `is_late` is whether the queue is, `is_sharing` whether
        connections of pods that terminate would be taken for others'.
        """
        last, reported = self.workload, workload
        workload = self.complete(workload)
        if last is None or last.uid != workload.uid:
            within = FIRST_SIGHT_SECONDS if is_sharing else FIRST_COUNT_WITHIN_SECONDS
            return not workload.is_settled or now - self.began_at >= self.spread * within
        if workload.is_settled and is_late and reported.ready is None:
            # Nothing reports that a pod is no longer ready, and now it matters.
            return now - self.counted_at >= COUNT_EVERY_SECONDS
        if workload.is_settled:
            # Once more, so that the last pod that became ready is measured too, and those that terminate are seen.
            return workload != last or self._is_recount_due(workload, last, now)
        return workload != last or now - self.counted_at >= COUNT_EVERY_SECONDS

    @property
    def terminating(self) -> int:
        """Pods that terminated at the last count."""
        return 0 if self.counts is None else self.counts.terminating

    def _is_recount_due(self, workload: Workload, last: Workload, now: float) -> bool:
        """Whether a settled workload may have other terminating pods than at the last count.

        Its numbers are the same again when a pod was replaced between two passes; its version is not.
        """
        seconds = now - self.counted_at
        is_over = self.terminating > 0 and seconds >= COUNT_TERMINATING_EVERY_SECONDS
        return is_over or (workload.version != last.version and seconds >= COUNT_EVERY_SECONDS)

    def record(self, workload: Workload, counts: PodCounts, now: float) -> None:
        """Keep a count."""
        is_reported = workload.ready is not None
        self.workload = workload if is_reported else replace(workload, ready=counts.ready)
        self.counts, self.counted_at = counts, now


def is_marked(pod: Manifest) -> bool:
    """Whether a pod that does not terminate has our mark of an idle worker."""
    metadata = pod["metadata"]
    return not metadata.get("deletionTimestamp") and (metadata.get("annotations") or {}).get(DELETION_COST) == IDLE_COST


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
        spread = crc32(uid.encode()) % SPREAD_STEPS / SPREAD_STEPS
        queue = QueueHandles(CachedLogin(clock))
        return cls(namespace, name, queue, PodCensus(clock.monotonic(), spread))

    async def close(self) -> None:
        """End what is open."""
        await self.queue.close()


PoolContext: TypeAlias = ReconcileContext[WorkerPoolSpec, PoolFacts, PoolDecision, PoolMemory, PoolHandles]
