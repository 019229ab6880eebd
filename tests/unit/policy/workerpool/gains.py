"""Workers with a known throughput, to drive the effectiveness gate alone: counts of completions, and nothing else."""

import math
import random
from collections.abc import Callable
from dataclasses import dataclass, field

from headroom.model.waits import Blocker, WaitSample
from headroom.policy.workerpool.effectiveness import observe_gain
from headroom.policy.workerpool.gain_memory import GainFacts, GainMemory, GainRules
from headroom.policy.workerpool.gain_window import NOWHERE, DatabaseLoad

BLOCKER = Blocker("UPDATE accounts SET balance = ?", 3, is_idle=True)
Stop = Callable[[GainMemory], bool]


def never(_: GainMemory) -> bool:
    return False


@dataclass
class Workers:
    """A pool that always has work: each worker does `slot_rate` a second, all together no more than `most`.

    Jobs end in clumps of `clump` on average, `failing` is the share that fails, and the rate moves by `drift` (standard
    deviation, with a memory of a minute). It falls by the share `fading` each minute, and with `has_blocks` the jobs of
    one tenant after another are of another length. `has_lock_waits` shows the sessions beyond the first as waiting for
    a lock.
    """

    seed: int = 1
    slot_rate: float = 1.0
    most: float = math.inf
    probe: float = 5.0
    clump: float = 1.0
    drift: float = 0.0
    fading: float = 0.0
    has_blocks: bool = False
    failing: float = 0.0
    has_lock_waits: bool = False
    wanted: int = 1000
    most_workers: int = 1_000_000
    backlog_growth: float | None = None
    template: str | None = "one"
    is_updating: bool = False
    is_saturated: bool = True
    counts: bool = True
    database_load: DatabaseLoad = NOWHERE
    are_commits_slow: bool = False
    rules: GainRules = field(default_factory=GainRules)
    now: float = 10_000.0
    memory: GainMemory = field(default_factory=GainMemory)
    pace: float = 0.0
    block: float = 1.0
    block_until: float = 0.0

    def __post_init__(self) -> None:
        self.chance = random.Random(self.seed)

    @property
    def speed(self) -> float:
        return self.slot_rate * self.block * math.exp(self.pace)

    def throughput(self, count: int) -> float:
        return min(count * self.speed, self.most)

    def _change(self) -> None:
        """What changes by itself within one probe."""
        if self.drift:
            fresh = self.drift * self.chance.gauss(0, math.sqrt(2 * self.probe / 60))
            self.pace += fresh - self.pace * self.probe / 60
        self.pace += math.log(1 - self.fading) * self.probe / 60
        if self.has_blocks and self.now > self.block_until:
            self.block_until = self.now + self.chance.uniform(40, 160)
            self.block = self.chance.choice([1.0, 1.0, 0.5, 0.12])

    def run(self, count: int, seconds: float, until: Stop = never) -> float:
        """Passes at a steady count of ready workers; the seconds it took until the memory was as asked for."""
        began = self.now
        while self.now < began + seconds and not until(self.memory):
            self.step(count)
        return self.now - began

    def step(self, count: int) -> None:
        self.now += self.probe
        self._change()
        ended = self._count(self.throughput(count) * self.probe) if self.is_saturated else 0
        failed = sum(self.chance.random() < self.failing for _ in range(ended)) if self.failing else 0
        seen = GainFacts(
            at=self.now,
            ready=count,
            template=self.template,
            is_updating=self.is_updating,
            database_load=self.database_load,
            are_commits_slow=self.are_commits_slow,
            seconds=self.probe,
            busy_seconds=count * self.probe,
            ended=ended if self.counts else None,
            failed=failed,
            is_saturated=self.is_saturated,
            service_rate=self.speed,
            waits=self._waits(count),
            wanted=self.wanted,
            most=self.most_workers,
            backlog_growth=self.backlog_growth,
        )
        self.memory = observe_gain(self.memory, seen, self.rules)

    def _waits(self, count: int) -> WaitSample | None:
        if not self.has_lock_waits:
            return None
        waiting = (("Lock:transactionid", count - 1),) if count > 1 else ()
        return WaitSample((("CPU", 1), *waiting), BLOCKER if waiting else None)

    def _count(self, mean: float) -> int:
        clumps = self._poisson(mean / self.clump)
        if self.clump <= 1:
            return clumps
        return sum(1 + int(self.chance.expovariate(1 / (self.clump - 1)) + 0.5) for _ in range(clumps))

    def _poisson(self, mean: float) -> int:
        if mean > 50:
            return max(0, round(self.chance.gauss(mean, math.sqrt(mean))))
        count, product, limit = 0, self.chance.random(), math.exp(-mean)
        while product > limit:
            product *= self.chance.random()
            count += 1
        return count


def is_frozen(memory: GainMemory) -> bool:
    return memory.freeze is not None


def is_decided(memory: GainMemory) -> bool:
    return memory.freeze is not None or memory.gained > 0
