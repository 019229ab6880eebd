"""Passes over one member, for tests of what a row of them shows."""

from typing import Any

from headroom.policy.replicaset.facts import Reading, Silence
from headroom.policy.replicaset.member_memory import MemberMemory
from tests.unit.policy.replicaset.make import BOUNDS, answer, make_mark


class Passes:
    """Passes over one member, a second apart unless told, by a primary that is at LSN 500."""

    def __init__(self) -> None:
        self.known, self.at = MemberMemory("u0", seen_since=100.0), 100.0

    def make(self, reading: Reading | None, *, is_blind: bool = False, step: float = 1.0) -> MemberMemory:
        marks = () if is_blind else (make_mark(self.at, 500),)
        self.known = self.known.observe(reading, marks, BOUNDS, self.at)
        self.at += step
        return self.known

    def answer(self, *, count: int = 1, is_blind: bool = False, step: float = 1.0, **changes: Any) -> MemberMemory:
        for _ in range(count):
            self.make(answer(self.at, **changes), is_blind=is_blind, step=step)
        return self.known

    def broken(self, *, count: int = 1, step: float = 1.0, **changes: Any) -> float:
        return self.answer(count=count, step=step, is_streaming=False, timeline=None, **changes).stream.broken_seconds


def late(at: float, **changes: Any) -> Silence:
    """An answer to the question of the round before."""
    return Silence("its answer took 0.9 s", late=answer(at, **changes).probe)
