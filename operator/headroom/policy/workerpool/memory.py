"""What the policy remembers of a pool between passes: samples, past wants, our own writes, and its verdicts."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from headroom.model.conditions import Finding
from headroom.model.database import Allocation
from headroom.model.queue import QueueSample
from headroom.policy.workerpool.constants import (
    BACK_WITHIN,
    COVERAGE_GAP_SECONDS,
    DEADBAND_SHARE,
    DEADBAND_WORKERS,
    FALLEN_SHARE,
    MOVES_KEPT_SECONDS,
    SERVICE_WINDOW_LEAST_SECONDS,
)
from headroom.policy.workerpool.facts import Target
from headroom.policy.workerpool.gain_memory import GainMemory
from headroom.policy.workerpool.hang import Hang, LastEnd, find_hang, see_end
from headroom.policy.workerpool.heads import HeadMemory
from headroom.policy.workerpool.occupancy import Occupancy
from headroom.policy.workerpool.window import Interval, Observation, observe, remember


@dataclass(frozen=True, slots=True)
class Want:
    """A count the queue asked for at a moment."""

    at: float
    workers: int


@dataclass(frozen=True, slots=True)
class Wants:
    """The wants of a sliding window, reduced to those that can still become its maximum (newest last, falling).

    `since` is when the unbroken row of wants began: what was wanted before that is unknown, and nothing unknown lowers
    a count. `resumed_at` is when this process took the row over from an earlier one.
    """

    since: float | None = None
    latest: float = 0.0
    peaks: tuple[Want, ...] = ()
    resumed_at: float = -math.inf

    @classmethod
    def resume(cls, since: float, now: float, workers: int) -> "Wants":
        """The row that an earlier process began; of its peaks nothing is known, and it asked for `workers` at most."""
        return cls(since, now, (Want(now, workers),), now)

    def add(self, at: float, workers: int, window_seconds: float) -> "Wants":
        """The row with one more want; a long gap begins a new row."""
        is_broken = self.since is None or at - self.latest > COVERAGE_GAP_SECONDS
        kept = () if is_broken else self.peaks
        peaks = tuple(want for want in kept if want.workers > workers and want.at >= at - window_seconds)
        since, resumed_at = (at, -math.inf) if is_broken else (self.since, self.resumed_at)
        return Wants(since, at, (*peaks, Want(at, workers)), resumed_at)

    def covers(self, now: float, window_seconds: float) -> bool:
        """True when the row reaches back over the whole window, and this process has seen a minute of it."""
        own = min(window_seconds, COVERAGE_GAP_SECONDS)
        return self.since is not None and now - self.since >= window_seconds and now - self.resumed_at >= own

    def peak(self) -> int:
        """The largest want of the window; 0 without any."""
        return self.peaks[0].workers if self.peaks else 0


@dataclass(frozen=True, slots=True)
class Lateness:
    """Since when lag is above its target, and when it was last seen to fall clearly, from which height."""

    since: float
    peak_seconds: float
    fell_at: float

    def see(self, lag_seconds: float, now: float) -> "Lateness":
        """With one more sample; to rise from a height does not make it fall later."""
        if lag_seconds < FALLEN_SHARE * self.peak_seconds:
            return Lateness(self.since, lag_seconds, now)
        return Lateness(self.since, max(self.peak_seconds, lag_seconds), self.fell_at)


@dataclass(frozen=True, slots=True)
class Move:
    """A change of the count that we wrote."""

    at: float
    before: int
    after: int


@dataclass(frozen=True, slots=True)
class ForeignWrites:
    """What we last wrote into `spec.replicas`, when, and when others wrote something else (monotonic seconds)."""

    written: int | None = None
    written_at: float = 0.0
    seen_at: tuple[float, ...] = ()
    hold_until: float | None = None


@dataclass(frozen=True, slots=True)
class PoolMemory:
    """The memory of one pool; a new one is empty, and an empty one never lowers a count. Times are monotonic.

    `seen_at` is when this process first saw the pool, `was_reported` whether an earlier process had reported on it.
    `lateness` is there while lag is above its target; `is_late` keeps until lag is clearly below it. `has_answered` is
    true once a sample was taken by any process, `blind_since` is when samples began to fail. `wanted` is the last count
    the queue asked for, `allocation` the last one that the guard made, and `capped_since` is when it became too small.
    `running` and `terminating` are the workers of the last pass that could read the target. `heads` are the items that
    the workers pass over. `spare_since` is when the queue began to ask for clearly fewer workers than there are.
    `gain` is what the effectiveness gate remembers, `occupancy` how many items a worker takes at a time. `last_end` is
    when a job was last seen to end.
    """

    window: tuple[Observation, ...] = ()
    wants: Wants = Wants()
    moves: tuple[Move, ...] = ()
    lateness: Lateness | None = None
    last_good_rate: float | None = None
    learned_at: float = -math.inf
    foreign: ForeignWrites = ForeignWrites()
    seen_at: float = 0.0
    was_reported: bool = False
    target_uid: str | None = None
    lead_seconds: float | None = None
    has_answered: bool = False
    blind_since: float | None = None
    is_late: bool = False
    wanted: int | None = None
    allocation: Allocation | None = None
    capped_since: float | None = None
    running: int = 0
    terminating: int = 0
    history: tuple[Interval, ...] = ()
    spare_since: float | None = None
    heads: HeadMemory = field(default_factory=HeadMemory)
    gain: GainMemory = field(default_factory=GainMemory)
    occupancy: Occupancy = field(default_factory=Occupancy)
    last_end: LastEnd | None = None

    def follow(self, target: Target) -> "PoolMemory":
        """The memory of this target, without what was written to another one and how much that was found to do."""
        memory = replace(
            self,
            target_uid=target.uid,
            lead_seconds=target.pods.lead_seconds or self.lead_seconds,
            running=target.running,
            terminating=target.pods.terminating,
        )
        if self.target_uid in (None, target.uid):
            return memory
        return replace(memory, wants=Wants(), moves=(), foreign=ForeignWrites(), gain=GainMemory())

    def answered(self, signal: QueueSample | Finding | None, target_lag_seconds: float, now: float) -> "PoolMemory":
        """The memory after the queue was asked. A failed answer changes no verdict on the lag."""
        if signal is None:
            return self
        if isinstance(signal, Finding):
            return replace(self, blind_since=now if self.blind_since is None else self.blind_since)
        # Two bounds, so that a lag around its target does not turn the verdict with each sample.
        bound = BACK_WITHIN * target_lag_seconds if self.is_late else target_lag_seconds
        return replace(self, has_answered=True, blind_since=None, is_late=signal.lag_seconds > bound)

    def observe(self, newest: Observation, target_lag_seconds: float) -> "PoolMemory":
        """The memory after one more sample."""
        lag, at = newest.sample.lag_seconds, newest.sample.taken_at
        late = None if lag <= target_lag_seconds else (self.lateness or Lateness(at, lag, at)).see(lag, at)
        window = observe(self.window, newest)
        return replace(self, window=window, history=remember(self.history, window), lateness=late)

    def occupy(self, occupancy: Occupancy) -> "PoolMemory":
        """The memory after it was seen what a worker takes; what was measured of other slots compares with nothing."""
        if occupancy.taken == self.occupancy.taken:
            return replace(self, occupancy=occupancy)
        return replace(self, occupancy=occupancy, gain=self.gain.forget_slots())

    def learn(self, rate: float | None, now: float) -> "PoolMemory":
        """The memory after a service rate was measured.

        The same samples do not count twice, else the old rate would soon count for nothing.
        """
        if rate is None or now - self.learned_at < SERVICE_WINDOW_LEAST_SECONDS:
            return self
        return replace(self, last_good_rate=rate, learned_at=now)

    def see_end(self) -> "PoolMemory":
        """The memory after a sample; what workers do that hang is not how fast they are."""
        last = see_end(self.last_end, self.window, self.last_good_rate)
        rate = last.rate if last is not None and find_hang(last, self.window) else self.last_good_rate
        return replace(self, last_end=last, last_good_rate=rate)

    @property
    def hang(self) -> Hang | None:
        """Whether the workers hang, by the newest sample."""
        return find_hang(self.last_end, self.window)

    def want(self, workers: int, now: float, window_seconds: float, *, is_lower_bound: bool) -> "PoolMemory":
        """The memory after the queue asked for a count; a lower bound must not lower anything later."""
        if is_lower_bound:
            return replace(self, wanted=max(workers, self.wanted or 0))
        return replace(self, wanted=workers, wants=self.wants.add(now, workers, window_seconds))

    def spare(self, now: float, wanted: int, present: int) -> "PoolMemory":
        """The memory after a want: since when clearly more workers are there than the queue asks for."""
        if wanted >= present:
            return replace(self, spare_since=None)
        is_begun = self.spare_since is None and present - wanted > max(DEADBAND_WORKERS, DEADBAND_SHARE * present)
        return replace(self, spare_since=now) if is_begun else self

    def cap(self, now: float, *, is_capped: bool) -> "PoolMemory":
        """The memory after a decision that connections held back, or did not."""
        since = now if self.capped_since is None else self.capped_since
        return replace(self, capped_since=since if is_capped else None)

    def writing(self) -> "PoolMemory":
        """The memory during a write: its answer may be lost, so no count counts as foreign."""
        return replace(self, foreign=replace(self.foreign, written=None))

    def wrote(self, move: Move) -> "PoolMemory":
        """The memory after we wrote a count."""
        foreign = replace(self.foreign, written=move.after, written_at=move.at)
        return replace(self, moves=(*_recent_moves(self.moves, move.at), move), foreign=foreign)

    def late_for_seconds(self, now: float) -> float:
        """How long lag has been above its target; 0 while it is not."""
        return 0.0 if self.lateness is None else max(0.0, now - self.lateness.since)

    @property
    def not_falling_seconds(self) -> float:
        """How long lag has been above its target without falling clearly; 0 while it is not above."""
        if self.lateness is None or not self.window:
            return 0.0
        return self.window[-1].sample.taken_at - self.lateness.fell_at

    def since_start_seconds(self, now: float) -> float:
        """How long ago we last asked for more workers; infinite if we never did."""
        return now - max((move.at for move in self.moves if move.after > move.before), default=-math.inf)


def _recent_moves(moves: Sequence[Move], now: float) -> tuple[Move, ...]:
    return tuple(move for move in moves if now - move.at < MOVES_KEPT_SECONDS)
