"""Reads per second of all serving replicas together: from counters of transactions to a window at a steady count."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from headroom.policy.replicaset.timeouts import LONGEST_STEP_SECONDS

WINDOW_SECONDS = 30.0
"""A session reports its transactions to the server once a second: over so long that is 3 %."""
WINDOW_KEEP_SECONDS = 60.0
"""A longer window keeps its newest part: it shows the present."""
PIECE_SECONDS = 5.0
"""Reads are counted in pieces, which show how much they vary; the gate of the workers has the same."""
LEAST_RATE = 50.0
"""Reads per second and replica from which on they are evaluated: beside them our own probes, at most three a second,
are no more than 6 %."""


@dataclass(frozen=True, slots=True)
class Counter:
    """Transactions of one replica since its statistics began, ended in whatever way, at a monotonic second."""

    transactions: int
    at: float


@dataclass(frozen=True, slots=True)
class Piece:
    """What was read in a few seconds; `active_seconds` are session-seconds with a statement."""

    seconds: float = 0.0
    reads: int = 0
    active_seconds: float = 0.0

    @property
    def rate(self) -> float:
        """Reads per second."""
        return self.reads / self.seconds

    def join(self, newer: "Piece") -> "Piece":
        """Both together."""
        return Piece(self.seconds + newer.seconds, self.reads + newer.reads, self.active_seconds + newer.active_seconds)


def measure_reads(before: Mapping[str, Counter], after: Mapping[str, Counter], active: int) -> Piece | None:
    """What was read between two passes over the same replicas, with `active` sessions at work.

    None if one of the counters was reset, as by a restart, or nobody looked for too long.
    """
    if not after or before.keys() != after.keys():
        return None
    seconds = [counter.at - before[name].at for name, counter in after.items()]
    reads = [counter.transactions - before[name].transactions for name, counter in after.items()]
    if min(seconds) <= 0 or max(seconds) > LONGEST_STEP_SECONDS or min(reads) < 0:
        return None
    mean = sum(seconds) / len(seconds)
    return Piece(mean, sum(reads), active * mean)


@dataclass(frozen=True, slots=True)
class ReadWindow:
    """What `count` replicas read together while the load pressed; both times are monotonic seconds."""

    count: int
    began_at: float
    ended_at: float
    pieces: tuple[Piece, ...] = ()

    def add(self, newest: Piece, at: float) -> "ReadWindow":
        """The window with one more interval, without what is too old."""
        is_open = bool(self.pieces) and self.pieces[-1].seconds < PIECE_SECONDS
        pieces = (*self.pieces[:-1], self.pieces[-1].join(newest)) if is_open else (*self.pieces, newest)
        kept = pieces[-round(WINDOW_KEEP_SECONDS / PIECE_SECONDS) :]
        began_at = self.began_at if len(kept) == len(pieces) else at - sum(piece.seconds for piece in kept)
        return replace(self, began_at=began_at, ended_at=at, pieces=kept)

    @property
    def seconds(self) -> float:
        """How long it was measured."""
        return sum(piece.seconds for piece in self.pieces)

    @property
    def reads(self) -> int:
        """Transactions in that time."""
        return sum(piece.reads for piece in self.pieces)

    @property
    def rate(self) -> float:
        """Reads per second of all replicas together."""
        return self.reads / self.seconds

    @property
    def active(self) -> float:
        """Sessions at work, on average."""
        return sum(piece.active_seconds for piece in self.pieces) / self.seconds

    @property
    def is_long(self) -> bool:
        """Whether it says something."""
        return self.seconds >= WINDOW_SECONDS and self.rate >= LEAST_RATE * self.count


def estimate_error(*windows: ReadWindow) -> float:
    """Standard error of the ratio of their rates: counts are Poisson-like, and vary as much more as their pieces do.

    Few pieces tell little: one standard error is added to the variance / mean.
    """
    freedom = sum(len(window.pieces) - 1 for window in windows)
    squares = sum(_scatter(window.pieces, window.rate) for window in windows)
    dispersion = max(1.0, squares / freedom) * (1 + math.sqrt(2 / freedom)) if freedom > 0 else 1.0
    return math.sqrt(dispersion * sum(1 / window.reads for window in windows))


def _scatter(pieces: Sequence[Piece], rate: float) -> float:
    return sum((piece.reads - rate * piece.seconds) ** 2 / (rate * piece.seconds) for piece in pieces)
