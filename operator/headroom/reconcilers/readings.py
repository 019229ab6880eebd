"""Questions to a server that many ask at the same time and that go over the wire once."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from headroom.model.database import BackupProgress, Mark, SlotFacts
from headroom.model.replica import ANY_SLOT_PREFIX
from headroom.ports.clock import Clock
from headroom.ports.postgres import PrimaryLink

T = TypeVar("T")

POSITION_AGE_SECONDS = 0.05
"""Readings of one moment share a position: none of them waits for another's turn on the connection."""
SLOTS_AGE_SECONDS = 1.0
BACKUPS_AGE_SECONDS = 1.0


@dataclass(slots=True)
class SharedReading(Generic[T]):
    """One question that many ask: while it is under way, and for a moment after, all get the same answer."""

    clock: Clock
    ask: Callable[[], Awaitable[T]]
    max_age_seconds: float
    _pending: "asyncio.Task[T] | None" = None
    _answer: tuple[float, T] | None = None

    async def read(self) -> T:
        """The answer to a question sent at most `max_age_seconds` ago; raises what asking raises."""
        if self._answer is not None and self.clock.monotonic() - self._answer[0] <= self.max_age_seconds:
            return self._answer[1]
        if self._pending is None:
            self._pending = asyncio.create_task(self._send())
            self._pending.add_done_callback(_retrieve)
        # Shielded: whoever gives up waiting must not take the answer from the others.
        return await asyncio.shield(self._pending)

    def invalidate(self) -> None:
        """Something was changed: the next reader asks again."""
        self._answer, self._pending = None, None

    async def _send(self) -> T:
        task, began = asyncio.current_task(), self.clock.monotonic()
        try:
            answer = await self.ask()
            if self._pending is task:
                self._answer = began, answer
            return answer
        finally:
            if self._pending is task:
                self._pending = None


def _retrieve(task: "asyncio.Task[T]") -> None:
    """Take the error: if all readers have given up, nobody else does, and asyncio would log it as lost."""
    if not task.cancelled():
        task.exception()


@dataclass(slots=True)
class ServerReadings:
    """The shared questions over one link."""

    position: SharedReading[Mark]
    slots: SharedReading[Sequence[SlotFacts]]
    backups: SharedReading[Sequence[BackupProgress]]

    @classmethod
    def over(cls, link: PrimaryLink, clock: Clock) -> "ServerReadings":
        """Nothing is asked until somebody reads."""
        return cls(
            SharedReading(clock, link.position, POSITION_AGE_SECONDS),
            SharedReading(clock, lambda: link.slots(ANY_SLOT_PREFIX), SLOTS_AGE_SECONDS),
            SharedReading(clock, link.backups, BACKUPS_AGE_SECONDS),
        )
