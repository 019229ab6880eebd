"""A window of completions at a steady count of workers, in pieces that show how much the counts vary."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import reduce

from headroom.policy.workerpool.constants import (
    DRIFT_LEAST_JOBS,
    DRIFT_SIGMAS,
    OTHERS_MOVED,
    PIECE_SECONDS,
    PIECES_LEAST,
    WINDOW_JOBS,
    WINDOW_KEEP_SECONDS,
)
from headroom.policy.workerpool.gain_constants import (
    DRIFT_PIECES,
    TAIL_JOBS,
    TAIL_SECONDS,
)


@dataclass(frozen=True, slots=True)
class DatabaseLoad:
    """What else moves a throughput: two windows are compared only if it was the same in both.

    `state` is that of the guard, `others` the connections that other pools of the database hold; None is not known.
    """

    state: str | None = None
    others: int | None = None

    def is_like(self, other: "DatabaseLoad") -> bool:
        """True when a difference in throughput cannot come from the database."""
        if self.state != other.state:
            return False
        if self.others is None or other.others is None:
            return True
        return abs(self.others - other.others) <= OTHERS_MOVED * max(self.others, other.others)


NOWHERE = DatabaseLoad()
"""Without a guard nothing is known of the database."""


@dataclass(frozen=True, slots=True)
class Piece:
    """What ended in a few seconds of a window; `busy_seconds` are slot-seconds with an item in flight.

    `at` is when it ended, in monotonic seconds.
    """

    seconds: float = 0.0
    ended: int = 0
    failed: int = 0
    busy_seconds: float = 0.0
    at: float = 0.0

    def join(self, newer: "Piece") -> "Piece":
        """Both together."""
        return Piece(
            self.seconds + newer.seconds,
            self.ended + newer.ended,
            self.failed + newer.failed,
            self.busy_seconds + newer.busy_seconds,
            newer.at,
        )


@dataclass(frozen=True, slots=True)
class GainWindow:
    """What ended at a steady count of `workers` that all had work, in `pieces` of a few seconds.

    The newest piece may still grow. A window of five minutes loses its oldest piece with each new one.
    """

    workers: int
    database_load: DatabaseLoad
    ended_at: float
    pieces: tuple[Piece, ...] = ()

    @property
    def seconds(self) -> float:
        """Time that was counted."""
        return sum(piece.seconds for piece in self.pieces)

    @property
    def ended(self) -> int:
        """Attempts that ended."""
        return sum(piece.ended for piece in self.pieces)

    @property
    def rate(self) -> float:
        """Attempts that ended per second."""
        seconds = self.seconds
        return self.ended / seconds if seconds > 0 else 0.0

    @property
    def slot_rate(self) -> float:
        """Attempts that ended per second of a busy slot."""
        return self.ended / max(sum(piece.busy_seconds for piece in self.pieces), TINY)

    @property
    def failing(self) -> float:
        """The share of attempts that failed."""
        return sum(piece.failed for piece in self.pieces) / max(1, self.ended)

    @property
    def error(self) -> float:
        """Standard error of the rate, as a share of it."""
        return math.sqrt(estimate_dispersion(self) / self.ended) if self.ended > 0 else math.inf

    @property
    def middle(self) -> float:
        """When it was, on average."""
        seconds = self.seconds
        return sum(piece.seconds * (piece.at - piece.seconds / 2) for piece in self.pieces) / max(seconds, TINY)

    def newest(self) -> "GainWindow":
        """The newest pieces that are enough for a verdict: what is older says less about the present."""
        count, jobs, seconds = 0, 0, 0.0
        while count < len(self.pieces) and (jobs < TAIL_JOBS or seconds < TAIL_SECONDS):
            count += 1
            jobs, seconds = jobs + self.pieces[-count].ended, seconds + self.pieces[-count].seconds
        return self if count == len(self.pieces) else replace(self, pieces=self.pieces[-count:])

    @property
    def is_counted(self) -> bool:
        """True when enough has ended for a verdict that stops growth."""
        return self.ended >= WINDOW_JOBS and self.is_long

    @property
    def is_long(self) -> bool:
        """True when there are enough pieces to see how much they vary."""
        return len(_whole(self.pieces)) >= PIECES_LEAST

    def add(self, at: float, newest: Piece) -> "GainWindow":
        """The window with one more interval; it begins again where the rate is clearly another one than before."""
        newest = replace(newest, at=at)
        is_open = bool(self.pieces) and self.pieces[-1].seconds < PIECE_SECONDS
        whole, last = (self.pieces[:-1], self.pieces[-1].join(newest)) if is_open else (self.pieces, newest)
        longer = replace(self, ended_at=at, pieces=(*whole[-MOST_PIECES:], last))
        return longer if last.seconds < PIECE_SECONDS else longer.begin_again()

    def begin_again(self) -> "GainWindow":
        """Only the newest pieces, if they do not belong to the rate of the others.

        Several are looked at together as well: a piece of two times hides the change, and all that come after it.
        """
        for count in (1, DRIFT_PIECES):
            before, newest = replace(self, pieces=self.pieces[:-count]), self.pieces[-count:]
            if _has_drifted(before, reduce(Piece.join, newest)):
                return replace(self, pieces=newest)
        return self


TINY = 1e-9
MOST_PIECES = round(WINDOW_KEEP_SECONDS / PIECE_SECONDS)


def estimate_dispersion(*windows: GainWindow) -> float:
    """Variance / mean of the counts of all windows, each around its own rate; at least 1, which is chance alone.

    It is estimated over pieces, and over two and four of them together: jobs that become slower for half a minute vary
    more over a longer time. Few pieces tell little: one standard error is added.
    """
    freedom, squares = _scatter(windows, 1)
    least = max(1.0, squares / freedom) * (1 + math.sqrt(2 / freedom)) if freedom > 0 else 1.0
    slower = (_scatter(windows, size) for size in (2, 4))
    return max(least, *(squares / freedom if freedom >= LEAST_FREEDOM else 1.0 for freedom, squares in slower))


LEAST_FREEDOM = 3
"""Blocks beside the first of each window, before their variance says anything."""


def _scatter(windows: Sequence[GainWindow], size: int) -> tuple[int, float]:
    """Degrees of freedom, and the sum of (k - X t)^2 / (X t), of blocks of so many pieces."""
    freedom, squares = 0, 0.0
    for window in windows:
        blocks = _blocks(window.pieces, size)
        ended, seconds = sum(block.ended for block in blocks), sum(block.seconds for block in blocks)
        if ended > 0:
            freedom += len(blocks) - 1
            rate = ended / seconds
            squares += sum((block.ended - rate * block.seconds) ** 2 / (rate * block.seconds) for block in blocks)
    return freedom, squares


def _blocks(pieces: Sequence[Piece], size: int) -> list[Piece]:
    """Whole pieces joined by so many, from the oldest; what is left over is left out."""
    whole = _whole(pieces)
    groups = (whole[begin : begin + size] for begin in range(0, len(whole) - size + 1, size))
    return [reduce(Piece.join, group) for group in groups]


def _whole(pieces: Sequence[Piece]) -> list[Piece]:
    return [piece for piece in pieces if piece.seconds >= PIECE_SECONDS]


def _has_drifted(window: GainWindow, newest: Piece) -> bool:
    """Whether the newest piece does not belong to the rate of the others."""
    if window.ended < DRIFT_LEAST_JOBS:
        return False
    expected = window.rate * newest.seconds
    variance = estimate_dispersion(window) * max(expected, 1.0) * (1 + newest.seconds / window.seconds)
    return abs(newest.ended - expected) > DRIFT_SIGMAS * math.sqrt(variance)
