"""The queue, its workers and its database in discrete events, without any autoscaler.

Jobs are claimed first in, first out, as soon as a slot is free. All running jobs progress at one speed, so that the
database has its own clock: `_work_clock` counts seconds of work at full speed, and an entry of `_in_hand` says at
which of them a job is done.
"""

import heapq
import math
from bisect import bisect_right, insort
from collections import deque
from collections.abc import Callable
from functools import partial
from random import Random

from headroom.simulation.deployment import Deployment, Worker
from headroom.simulation.line import KeyGate, Line
from headroom.simulation.load import Job, Load
from headroom.simulation.shapes import Shape
from headroom.simulation.tally import Tally

RECENT_JOBS = 200
"""Ended jobs whose duration is kept."""


class World:
    """One queue with its workers; `advance` plays it up to a moment, and `call_at` lets somebody act in it.

    `on_ready` is called for each job that becomes claimable, `recent_seconds` is how long the last jobs took.
    """

    def __init__(
        self, shape: Shape, load: Load, *, workers: int, start_delay_seconds: float, target_lag_seconds: float
    ) -> None:
        self.now = 0.0
        self.shape = shape
        self.tally = Tally(target_lag_seconds)
        self.on_ready: Callable[[], None] = lambda: None
        self.line = Line()
        self.in_flight = 0
        self.recent_seconds: deque[float] = deque(maxlen=RECENT_JOBS)
        self._chance = Random(load.seed + 1)
        self._jobs = load.jobs
        self._next = 0
        self._scheduled: list[tuple[float, int, Job]] = []
        self._keys = KeyGate()
        self._calls: list[tuple[float, int, Callable[[], None]]] = []
        self._in_hand: list[tuple[float, int, Job, Worker, int]] = []
        self._lock_waiters: deque[tuple[Job, Worker, int]] = deque()
        self._is_locked = False
        self._work_clock = 0.0
        self._speed = 1.0
        self._factor = 1.0
        self._order = 0
        self.deployment = Deployment(self, shape, self._chance, start_delay_seconds, workers)
        for since, until, factor in shape.slow:
            self.call_at(since, partial(self._set_factor, factor))
            self.call_at(until, partial(self._set_factor, 1.0))
        for batch in load.scheduled:
            self.call_at(batch.known_at, partial(self._schedule, batch.jobs))

    # What an observer can see.

    @property
    def lag(self) -> float:
        """Age of the oldest job in the backlog; 0 without one."""
        return self.now - self.line.oldest_since(self.now)

    @property
    def blocked(self) -> int:
        """Jobs that wait for another job with the same key."""
        return self._keys.barred

    @property
    def lock_waiters(self) -> int:
        """Jobs in flight that wait for the lock all jobs share."""
        return len(self._lock_waiters)

    def count_late(self, seconds: float) -> int:
        """Jobs in the backlog that have waited for longer."""
        return self.line.count_before(self.now - seconds)

    def count_due(self, seconds: float) -> int:
        """Jobs that become ready by themselves within this time."""
        return bisect_right(self._scheduled, self.now + seconds, key=lambda entry: entry[0])

    def list_in_hand(self) -> list[tuple[Job, Worker]]:
        """The jobs in flight and who has them, in no order."""
        entries = [entry[2:] for entry in self._in_hand] + list(self._lock_waiters)
        return [(job, worker) for job, worker, token in entries if token == job.token]

    # Time.

    def call_at(self, at: float, call: Callable[[], None]) -> None:
        """Call at a moment; calls of one moment come in their order."""
        self._order += 1
        heapq.heappush(self._calls, (at, self._order, call))

    def advance(self, until: float) -> None:
        """Play all events up to a moment."""
        while True:
            arrival = self._jobs[self._next].ready_at if self._next < len(self._jobs) else math.inf
            due = self._scheduled[0][0] if self._scheduled else math.inf
            call = self._calls[0][0] if self._calls else math.inf
            end = self.now + (self._in_hand[0][0] - self._work_clock) / self._speed if self._in_hand else math.inf
            at = min(arrival, due, call, end)
            if at > until:
                self._move_to(until)
                return
            self._move_to(at)
            if at == end:
                self._finish()
            elif at == arrival:
                self._next += 1
                self._make_ready(self._jobs[self._next - 1])
            elif at == due:
                self._make_ready(self._scheduled.pop(0)[2])
            else:
                heapq.heappop(self._calls)[2]()

    def close(self) -> None:
        """Count the waits that have not ended yet."""
        if self.line.first is not None:
            self.tally.count_wait(self.line.first[1], self.now)

    def _move_to(self, at: float) -> None:
        self._work_clock += (at - self.now) * self._speed
        self.now = at

    def _set_factor(self, factor: float) -> None:
        self._factor = factor
        self._update_speed()

    def _update_speed(self) -> None:
        """All jobs slow down together once more of them run than the database has cores for."""
        cores, running = self.shape.cores, self.in_flight - len(self._lock_waiters)
        crowd = 1.0 if cores is None or running <= cores else cores / running
        self._speed = self._factor * crowd

    # Jobs.

    def _schedule(self, jobs: tuple[Job, ...]) -> None:
        for job in jobs:
            insort(self._scheduled, (job.ready_at, job.id, job))

    def _make_ready(self, job: Job) -> None:
        if job.is_stuck:
            self.line.stuck.append(job)
            self.tally.arrived += 1
        elif self._keys.take(job):
            self._enqueue(job)

    def _enqueue(self, job: Job) -> None:
        self.tally.arrived += 1
        self.on_ready()
        worker = self.deployment.take_idle()
        if worker is None:
            self.line.append(job, self.now)
        else:
            self._claim(job, worker, waiting_since=self.now)

    def offer_work(self, worker: Worker) -> bool:
        """Let a worker claim the oldest job; False if there is none."""
        if self.line.first is None:
            return False
        job, since = self.line.pop()
        self._claim(job, worker, waiting_since=since)
        return True

    def _claim(self, job: Job, worker: Worker, *, waiting_since: float) -> None:
        self.tally.count_wait(waiting_since, self.now)
        worker.in_hand += 1
        self.in_flight += 1
        job.claimed_at = self.now
        job.token += 1
        self._push(job, worker, job.work_seconds)

    def _push(self, job: Job, worker: Worker, work: float) -> None:
        self._order += 1
        heapq.heappush(self._in_hand, (self._work_clock + work, self._order, job, worker, job.token))
        self._update_speed()

    def _finish(self) -> None:
        """A job has done its own work, or what it does with the lock."""
        _, _, job, worker, token = heapq.heappop(self._in_hand)
        if token != job.token:
            return
        if self.shape.locked_seconds > 0 and not job.has_lock:
            self._lock(job, worker, token)
            return
        if job.has_lock:
            self._unlock(job)
        self._end(job, worker)

    def _lock(self, job: Job, worker: Worker, token: int) -> None:
        if self._is_locked:
            self._lock_waiters.append((job, worker, token))
            self._update_speed()
            return
        self._is_locked = job.has_lock = True
        self._push(job, worker, self.shape.locked_seconds)

    def _unlock(self, job: Job) -> None:
        self._is_locked = job.has_lock = False
        while self._lock_waiters:
            waiter, worker, token = self._lock_waiters.popleft()
            if token == waiter.token:
                self._lock(waiter, worker, token)
                return

    def _end(self, job: Job, worker: Worker) -> None:
        job.token += 1
        self.in_flight -= 1
        worker.in_hand -= 1
        self.tally.ended += 1
        self.recent_seconds.append(self.now - job.claimed_at)
        if self._chance.random() < self.shape.failing_share(self.now):
            self.tally.failed += 1
            job.ready_at = self.now + self.shape.retry_seconds
            self._schedule((job,))
        successor = self._keys.give_back(job)
        if successor is not None:
            self._enqueue(successor)
        self._update_speed()
        self.deployment.work_ended(worker)

    def cut(self, worker: Worker) -> None:
        """End the jobs of a worker whose grace period is over; they wait again."""
        for job, owner in self.list_in_hand():
            if owner is worker:
                job.token += 1
                self.in_flight -= 1
                self.tally.cut += 1
                if job.has_lock:
                    self._unlock(job)
                self._enqueue(job)
        worker.in_hand = 0
        self._update_speed()
