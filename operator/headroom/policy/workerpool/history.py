"""What the policy remembers between passes: samples, past wants, our own moves, and since when the queue is late."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from headroom.policy.workerpool.constants import COVERAGE_GAP_SECONDS, MOVES_KEPT_SECONDS, SERVICE_WINDOW_LEAST_SECONDS
from headroom.policy.workerpool.window import Observation, observe


@dataclass(frozen=True, slots=True)
class Want:
    """A count the queue asked for at a moment."""

    at: float
    workers: int


@dataclass(frozen=True, slots=True)
class Wants:
    """The wants of a sliding window, reduced to those that can still become its maximum (newest last, falling).

    `since` is when the unbroken row of wants began: before that nothing is known, and nothing unknown lowers a count.
    """

    since: float | None = None
    latest: float = 0.0
    peaks: tuple[Want, ...] = ()

    def add(self, at: float, workers: int, window_seconds: float) -> "Wants":
        """The row with one more want; a long gap begins a new row."""
        is_broken = self.since is None or at - self.latest > COVERAGE_GAP_SECONDS
        kept = () if is_broken else self.peaks
        peaks = tuple(want for want in kept if want.workers > workers and want.at >= at - window_seconds)
        return Wants(at if is_broken else self.since, at, (*peaks, Want(at, workers)))

    def covers(self, now: float, window_seconds: float) -> bool:
        """True when the row reaches back over the whole window."""
        return self.since is not None and now - self.since >= window_seconds

    def peak(self) -> int:
        """The largest want of the window; 0 without any."""
        return self.peaks[0].workers if self.peaks else 0


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
class PoolHistory:
    """The memory of one pool; a new one begins empty, and an empty one never lowers anything."""

    window: tuple[Observation, ...] = ()
    wants: Wants = Wants()
    moves: tuple[Move, ...] = ()
    late_since: float | None = None
    last_good_rate: float | None = None
    learned_at: float = -math.inf
    foreign: ForeignWrites = ForeignWrites()

    def seen(self, newest: Observation, target_lag_seconds: float) -> "PoolHistory":
        """The memory after one more sample."""
        is_late = newest.sample.lag_seconds > target_lag_seconds
        since = self.late_since if self.late_since is not None else newest.sample.taken_at
        return replace(self, window=observe(self.window, newest), late_since=since if is_late else None)

    def learned(self, rate: float | None, now: float) -> "PoolHistory":
        """The memory after a service rate was measured; not again from the same samples, else the old rate counts for
        nothing.
        """
        if rate is None or now - self.learned_at < SERVICE_WINDOW_LEAST_SECONDS:
            return self
        return replace(self, last_good_rate=rate, learned_at=now)

    def moved(self, move: Move) -> "PoolHistory":
        """The memory after we wrote a count."""
        kept = _recent_moves(self.moves, move.at)
        foreign = replace(self.foreign, written=move.after, written_at=move.at)
        return replace(self, moves=(*kept, move), foreign=foreign)

    def late_for_seconds(self, now: float) -> float:
        """How long lag has been above its target; 0 while it is not."""
        return 0.0 if self.late_since is None else max(0.0, now - self.late_since)


def _recent_moves(moves: Sequence[Move], now: float) -> tuple[Move, ...]:
    return tuple(move for move in moves if now - move.at < MOVES_KEPT_SECONDS)
