"""A late queue that tells only its lag and its backlog, at counts of workers that a test sets."""

import math
import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from headroom.model.queue import QueueSample
from headroom.policy.workerpool import PoolMemory
from headroom.policy.workerpool.facts import limits_of
from headroom.policy.workerpool.gain_memory import GainMemory
from headroom.policy.workerpool.growth import follow_growth
from headroom.policy.workerpool.rates import Estimates
from headroom.policy.workerpool.window import Observation
from tests.unit.policy.workerpool.make import make_facts, make_spec, make_target

LIMITS = limits_of(make_spec(max_workers=1000))
Stop = Callable[[GainMemory], bool]


def never(_: GainMemory) -> bool:
    return False


@dataclass
class TwoNumbers:
    """Each worker takes `slot_rate` items a second, all together no more than `most`; `arrivals` come a second.

    Arrivals come in clumps of `clump` on average, and change by `trend` (a share of them) a minute. The rate of a
    worker moves by `drift` (standard deviation, with a memory of a minute). The share `urgent` is taken first.
    """

    seed: int = 1
    slot_rate: float = 1.0
    most: float = math.inf
    arrivals: float = 20.0
    probe: float = 1.0
    clump: float = 1.0
    trend: float = 0.0
    drift: float = 0.0
    urgent: float = 0.0
    now: float = 10_000.0
    memory: PoolMemory = field(default_factory=PoolMemory)
    pace: float = 0.0

    def __post_init__(self) -> None:
        self.chance = random.Random(self.seed)
        self.waiting: deque[float] = deque()
        self.first: deque[float] = deque()
        self._next_arrival = self.now
        self._work = 0.0

    @property
    def gain(self) -> GainMemory:
        return self.memory.gain

    def throughput(self, count: int) -> float:
        return min(count * self.slot_rate * math.exp(self.pace), self.most)

    def run(self, count: int, seconds: float, until: Stop = never) -> float:
        """Passes at a steady count of ready workers; the seconds it took until the memory was as asked for."""
        began = self.now
        while self.now < began + seconds and not until(self.gain):
            self.step(count)
        return self.now - began

    def step(self, count: int) -> None:
        self.now += self.probe
        self.arrivals *= 1 + self.trend * self.probe / 60
        if self.drift:
            fresh = self.drift * self.chance.gauss(0, math.sqrt(2 * self.probe / 60))
            self.pace += fresh - self.pace * self.probe / 60
        self._arrive()
        self._take(self.throughput(count))
        sample = QueueSample(self.now, self._lag(), len(self.first) + len(self.waiting))
        memory = self.memory.observe(Observation(sample, count, True, count), LIMITS.target_lag_seconds)
        facts = make_facts(count, signal=sample, target=make_target(count))
        self.memory = replace(memory, gain=follow_growth(facts, LIMITS, memory, Estimates(), self.now))

    def _arrive(self) -> None:
        while self._next_arrival <= self.now:
            many = 1 if self.clump <= 1 else 1 + int(self.chance.expovariate(1 / (self.clump - 1)) + 0.5)
            for _ in range(many):
                line = self.first if self.chance.random() < self.urgent else self.waiting
                line.append(self._next_arrival)
            self._next_arrival += self.chance.expovariate(self.arrivals / max(1.0, self.clump))

    def _take(self, rate: float) -> None:
        """Times of work are exponential, so that what ends is Poisson."""
        at = self.now - self.probe
        while (at := at + self.chance.expovariate(rate)) < self.now:
            line = self.first or self.waiting
            if line:
                line.popleft()

    def _lag(self) -> float:
        heads = [line[0] for line in (self.first, self.waiting) if line]
        return self.now - min(heads) if heads else 0.0
