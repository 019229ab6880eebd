"""The workers of a simulated Deployment: they take a while to start, and they stop gracefully."""

from collections import deque
from dataclasses import dataclass, field
from itertools import count
from random import Random
from typing import TYPE_CHECKING

from headroom.policy.target_conflict import TargetId
from headroom.policy.workerpool import PodCounts, Target
from headroom.policy.workerpool.constants import STARTING_LEAD_TIMES
from headroom.simulation.shapes import Shape

if TYPE_CHECKING:
    from headroom.simulation.world import World

TARGET = TargetId("apps", "Deployment", "workers")
LONG_AGO = -1e6
START_SPREAD = 0.1
"""Starts differ by up to this share of the start delay."""


@dataclass(slots=True, eq=False)
class Worker:
    """One pod; `ready_at` is when it can take its first job."""

    number: int
    created_at: float
    ready_at: float
    in_hand: int = 0
    is_ready: bool = False
    is_terminating: bool = False
    is_gone: bool = False


@dataclass(slots=True)
class Bill:
    """What the workers cost: seconds of all pods from creation until they are gone, and the changes of the count.

    A change is its moment and the counts before and after.
    """

    worker_seconds: float = 0.0
    updated_at: float = 0.0
    highest: int = 0
    changes: list[tuple[float, int, int]] = field(default_factory=list)


class Deployment:
    """Follows `replicas`. As with a ReplicaSet of Kubernetes, workers that start go first, then the youngest.

    `template` names the version of the pod template.
    """

    def __init__(self, world: "World", shape: Shape, chance: Random, start_delay_seconds: float, workers: int) -> None:
        self._world = world
        self._shape = shape
        self._chance = chance
        self._start_delay = start_delay_seconds
        self.replicas = workers
        self.template = "template-1"
        self.bill = Bill()
        self._workers: list[Worker] = []
        self._terminating: set[int] = set()
        self._idle: deque[Worker] = deque()
        self._numbers = count(1)
        for _ in range(workers):
            worker = Worker(next(self._numbers), LONG_AGO, LONG_AGO + start_delay_seconds)
            self._workers.append(worker)
            self._become_ready(worker)

    @property
    def existing(self) -> int:
        """Pods that cost something, those that terminate included."""
        return len(self._workers) + len(self._terminating)

    @property
    def ready(self) -> int:
        """Pods that take jobs."""
        return sum(worker.is_ready for worker in self._workers)

    def begin_bill(self) -> None:
        """Forget what the workers have cost so far."""
        self.bill = Bill(updated_at=self._world.now, highest=self.replicas)

    def update_bill(self) -> None:
        """Add what the pods have cost since the last update."""
        now = self._world.now
        self.bill.worker_seconds += self.existing * (now - self.bill.updated_at)
        self.bill.updated_at = now
        self.bill.highest = max(self.bill.highest, self.replicas)

    def scale(self, replicas: int, *, idle_first: bool = False) -> None:
        """Set `replicas`: start workers, or end some; with a deletion cost on idle ones those go before busy ones."""
        if replicas == self.replicas:
            return
        self.update_bill()
        self.bill.changes.append((self._world.now, self.replicas, replicas))
        self.replicas = replicas
        for _ in range(replicas - len(self._workers)):
            self._start()
        if replicas < len(self._workers):
            leaving = sorted(self._workers, key=lambda worker: _survival(worker, idle_first=idle_first))
            for worker in leaving[: len(self._workers) - replicas]:
                self._stop(worker)
        self.update_bill()

    def observe(self) -> Target:
        """The target as the operator reads it; a pod counts as started in time for two lead times."""
        now, ready = self._world.now, self.ready
        patience = STARTING_LEAD_TIMES * max(self._start_delay, 1.0)
        waiting = [worker for worker in self._workers if not worker.is_ready]
        young = sum(now - worker.created_at <= patience for worker in waiting)
        pods = PodCounts(
            running=ready,
            ready=ready,
            in_time=ready + young,
            lead_seconds=max(self._start_delay * (1 + START_SPREAD * 0.9), 1.0) if ready else None,
            waiting=len(waiting),
            terminating=len(self._terminating),
            grace_seconds=self._shape.grace_seconds,
        )
        return Target(
            TARGET, "uid-target", self.replicas, len(self._workers), pods, (("app", "workers"),), self.template
        )

    def take_idle(self) -> Worker | None:
        """A worker with a free slot; None if all are busy."""
        while self._idle:
            worker = self._idle.popleft()
            if not worker.is_terminating:
                return worker
        return None

    def work_ended(self, worker: Worker) -> None:
        """A slot is free: it takes the next job, or waits for one; a worker that terminates goes when it is empty."""
        if worker.is_terminating:
            if worker.in_hand == 0:
                self._remove(worker)
        elif not self._world.offer_work(worker):
            self._idle.append(worker)

    def _start(self) -> None:
        world = self._world
        delay = self._start_delay * (1 + START_SPREAD * (2 * self._chance.random() - 1))
        worker = Worker(next(self._numbers), world.now, world.now + delay)
        self._workers.append(worker)
        world.call_at(worker.ready_at, lambda: self._become_ready(worker))

    def _become_ready(self, worker: Worker) -> None:
        if worker.is_terminating:
            return
        worker.is_ready = True
        for _ in range(self._shape.concurrency):
            self.work_ended(worker)

    def _stop(self, worker: Worker) -> None:
        self._workers.remove(worker)
        worker.is_terminating = True
        if worker.in_hand == 0:
            worker.is_gone = True
            return
        self._terminating.add(id(worker))
        self._world.call_at(self._world.now + self._shape.grace_seconds, lambda: self._kill(worker))

    def _kill(self, worker: Worker) -> None:
        if not worker.is_gone:
            self._world.cut(worker)
            self._remove(worker)

    def _remove(self, worker: Worker) -> None:
        self.update_bill()
        worker.is_gone = True
        self._terminating.discard(id(worker))


def _survival(worker: Worker, *, idle_first: bool) -> tuple[bool, bool, float]:
    """Workers with the smallest go first."""
    return worker.is_ready, idle_first and worker.in_hand > 0, -worker.created_at
