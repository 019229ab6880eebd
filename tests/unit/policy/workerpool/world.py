"""A small world with a queue and workers, to drive the worker policy in a closed loop without any I/O.

Jobs come by a rate function with Poisson noise, wait first in first out, and are served by workers that take a lead
time to start; service times are exponential. One step is a tenth of a second.
"""

import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from headroom.model.queue import QueueSample
from headroom.policy.workerpool import Facts, Move, Outcome, PoolHistory, ScalingLimits, SignalGap, decide_workers
from headroom.policy.workerpool.constants import PROBE_SECONDS, URGENT_PROBE_SECONDS
from headroom.reasons import Reason

STEP_SECONDS = 0.1


@dataclass
class World:
    rate: Callable[[float], float]
    service_seconds: float
    limits: ScalingLimits
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
    history: PoolHistory = field(default_factory=PoolHistory)
    is_blind: Callable[[float], bool] = lambda _: False
    timeline: list[tuple[float, float, int, int, Outcome]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.chance = random.Random(self.seed)
        self.next_probe = 0.0

    def run(self, seconds: float) -> None:
        end = self.now + seconds
        while self.now < end:
            if self.now >= self.next_probe:
                self.probe()
            self.step()

    def probe(self) -> None:
        outcome = decide_workers(self.limits, self.facts(), self.history)
        self.history = outcome.history
        allowed = outcome.decision.allowed
        if allowed != self.present:
            self.history = self.history.moved(Move(self.now, self.present, allowed))
            self.scale(allowed)
        self.timeline.append((self.now, self.lag(), self.present, len(self.queue), outcome))
        is_late = self.lag() > self.limits.target_lag_seconds
        self.next_probe = self.now + (URGENT_PROBE_SECONDS if is_late else PROBE_SECONDS)

    def facts(self) -> Facts:
        gap = SignalGap(Reason.QUERY_TIMEOUT, "the probe timed out") if self.is_blind(self.now) else None
        young = sum(1 for at in self.starting if self.now - (at - self.lead_seconds) < 2 * self.lead_seconds)
        return Facts(
            now=self.now,
            present=self.present,
            existing=self.ready + len(self.starting),
            capacity_workers=self.ready + young,
            lead_time_seconds=self.lead_seconds,
            sample=None if gap else self.sample(),
            gap=gap,
        )

    def sample(self) -> QueueSample:
        late = sum(1 for at in self.queue if self.now - at > self.limits.target_lag_seconds)
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
        while self.queue and len(self.busy) < self.ready * self.limits.concurrency:
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
