"""A small world with a queue and workers, to drive the worker policy in a closed loop without any I/O.

Jobs come by a rate function with Poisson noise, wait first in first out, and are served by workers that take a lead
time to start; service times are exponential. One step is a tenth of a second.
"""

import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from headroom.api.v1alpha1.workerpool import WorkerPoolSpec
from headroom.model.conditions import Finding
from headroom.model.database import DatabaseView
from headroom.model.queue import QueueSample
from headroom.policy.workerpool import Move, PodCounts, PoolClaim, PoolDecision, PoolFacts, PoolMemory, Target, decide
from headroom.reasons import Reason
from tests.unit.policy.workerpool.make import DEPLOYMENT, OWN, moment, scaling_of

STEP_SECONDS = 0.1


@dataclass
class World:
    rate: Callable[[float], float]
    service_seconds: float
    spec: WorkerPoolSpec
    lead_seconds: float = 3.0
    seed: int = 1
    can_fail: bool = False
    now: float = 0.0
    ready: int = 1
    present: int = 1
    arrived: int = 0
    ended: int = 0
    failed: int = 0
    queue: deque[float] = field(default_factory=deque)
    busy: list[float] = field(default_factory=list)
    starting: list[float] = field(default_factory=list)
    memory: PoolMemory = field(default_factory=PoolMemory)
    is_blind: Callable[[float], bool] = lambda _: False
    database: Callable[["World"], DatabaseView | None] = lambda _: None
    own: PoolClaim = OWN
    timeline: list[tuple[float, float, int, int, PoolDecision]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.chance = random.Random(self.seed)
        self.next_probe = 0.0
        self.target_lag = self.spec.objective.target_lag.total_seconds()

    def run(self, seconds: float) -> None:
        end = self.now + seconds
        while self.now < end:
            if self.now >= self.next_probe:
                self.probe()
            self.step()

    def probe(self) -> None:
        """One pass of the operator, without any of its shell."""
        outcome = decide(self.spec, self.facts(), self.memory, moment(self.now))
        self.memory = outcome.memory
        allowed = scaling_of(outcome.decision).allowed
        if allowed != self.present:
            self.memory = self.memory.wrote(Move(self.now, self.present, allowed))
            self.scale(allowed)
        self.timeline.append((self.now, self.lag(), self.present, len(self.queue), outcome.decision))
        self.next_probe = self.now + outcome.decision.pause_seconds

    def facts(self) -> PoolFacts:
        gap = Finding(Reason.QUERY_TIMEOUT, "the probe timed out") if self.is_blind(self.now) else None
        young = sum(1 for at in self.starting if self.now - (at - self.lead_seconds) < 2 * self.lead_seconds)
        there = self.ready + len(self.starting)
        pods = PodCounts(running=there, ready=self.ready, in_time=self.ready + young, lead_seconds=self.lead_seconds)
        return PoolFacts(
            own=self.own,
            signal=gap or self.sample(),
            target=Target(DEPLOYMENT, "uid-target", self.present, there, pods),
            database=self.database(self),
            has_guard=self.spec.database_ref is not None,
        )

    def sample(self) -> QueueSample:
        late = sum(1 for at in self.queue if self.now - at > self.target_lag)
        return QueueSample(
            taken_at=self.now,
            lag_seconds=self.lag(),
            backlog=len(self.queue),
            late=late,
            in_flight=len(self.busy),
            arrived=self.arrived,
            ended=self.ended,
            failed=self.failed,
        )

    def lag(self) -> float:
        return self.now - self.queue[0] if self.queue else 0.0

    def step(self) -> None:
        self.now += STEP_SECONDS
        self.arrive(self.poisson(self.rate(self.now) * STEP_SECONDS))
        self.starting, started = (
            [at for at in self.starting if at > self.now],
            sum(at <= self.now for at in self.starting),
        )
        self.ready += started
        done = [end for end in self.busy if end <= self.now]
        self.busy = [end for end in self.busy if end > self.now]
        self.ended += len(done)
        self.failed += sum(1 for _ in done if self.can_fail and self.chance.random() < 0.9)
        while self.queue and len(self.busy) < self.ready * self.spec.concurrency:
            self.queue.popleft()
            self.busy.append(self.now + self.chance.expovariate(1 / self.service_seconds))

    def arrive(self, count: int) -> None:
        self.queue.extend([self.now] * count)
        self.arrived += count

    def scale(self, count: int) -> None:
        there = self.ready + len(self.starting)
        self.starting += [self.now + self.lead_seconds] * max(0, count - there)
        gone = max(0, there - count)
        from_starting = min(gone, len(self.starting))
        self.starting = self.starting[: len(self.starting) - from_starting]
        self.ready -= gone - from_starting
        self.present = count

    def poisson(self, mean: float) -> int:
        count, product, limit = 0, self.chance.random(), 2.718281828459045**-mean
        while product > limit:
            product *= self.chance.random()
            count += 1
        return count

    def counts(self, since: float = 0.0) -> list[int]:
        return [present for at, _, present, _, _ in self.timeline if at >= since]

    def worst_lag(self, since: float = 0.0) -> float:
        return max(lag for at, lag, _, _, _ in self.timeline if at >= since)
