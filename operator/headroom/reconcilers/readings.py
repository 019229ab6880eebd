"""Questions to a server that many ask at the same time and that go over the wire once."""

import asyncio
import logging
import math
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Generic, TypeVar

from headroom.model.database import BackupProgress, Mark, SlotFacts
from headroom.model.libraries import ServerLibraries
from headroom.model.replica import ANY_SLOT_PREFIX
from headroom.model.timelines import TimelineHistory
from headroom.ports.clock import Clock
from headroom.ports.postgres import PrimaryLink, SlotLink

logger = logging.getLogger(__name__)

T = TypeVar("T")
HistoryKey = tuple[str, datetime | None, str, int]
"""Namespace, start of the server, system identifier, timeline: a namespace trusts no server of another."""

POSITION_AGE_SECONDS = 0.05
"""Readings of one moment share a position: none of them waits for another's turn on the connection."""
SLOTS_AGE_SECONDS = 1.0
BACKUPS_AGE_SECONDS = 1.0
LIBRARIES_AGE_SECONDS = 25.0
"""They are asked for every 30 s at most, by each set in its own turn, and a reading walks through all databases."""
SIZE_AGE_SECONDS = 600.0
"""The server looks at each file of each database for it, and nothing changes fast enough to matter to a copy."""
HISTORY_WAIT_SECONDS = 0.3
"""Longer than the answer of a server that is well; no ejection waits for one that is not."""
HISTORY_RETRY_SECONDS = 5.0
MOST_HISTORIES = 32
"""Of one namespace: its server may name ever new timelines."""


@dataclass(slots=True)
class SharedReading(Generic[T]):
    """One question that many ask: while it is under way, and for a moment after, all get the same answer.

    `version` names what is asked about: an answer about another one is not shared.
    """

    clock: Clock
    ask: Callable[[], Awaitable[T]]
    max_age_seconds: float
    _pending: "asyncio.Task[T] | None" = None
    _answer: tuple[float, T] | None = None
    _version: object = None

    async def read(self, version: object = None) -> T:
        """The answer to a question sent at most `max_age_seconds` ago; raises what asking raises."""
        if version != self._version:
            self.invalidate()
            self._version = version
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
class HistoryReading:
    """Where the timelines of a server forked off: never changes, so it is asked for once for each server and timeline.

    A server is known by its identifier and its start: two that were promoted apart may give their timelines one number.
    """

    clock: Clock
    _answers: dict[HistoryKey, TimelineHistory] = field(default_factory=dict)
    _pending: "dict[HistoryKey, asyncio.Task[TimelineHistory]]" = field(default_factory=dict)
    _failed_at: dict[HistoryKey, float] = field(default_factory=dict)

    async def read(self, key: HistoryKey, link: SlotLink) -> TimelineHistory | None:
        """The history, None while it is not known; what takes longer than a moment is there for a later pass."""
        if key in self._answers:
            return self._answers[key]
        is_resting = self.clock.monotonic() - self._failed_at.get(key, -math.inf) < HISTORY_RETRY_SECONDS
        if key not in self._pending and not is_resting:
            task = asyncio.create_task(link.read_history(*key[-2:]))
            task.add_done_callback(lambda done: self._take(key, done))
            self._pending[key] = task
        if key in self._pending:
            await asyncio.wait({self._pending[key]}, timeout=HISTORY_WAIT_SECONDS)
        return self._answers.get(key)

    def _take(self, key: HistoryKey, done: "asyncio.Task[TimelineHistory]") -> None:
        self._pending.pop(key, None)
        error = asyncio.CancelledError() if done.cancelled() else done.exception()
        if error is None:
            _keep(self._answers, key, done.result())
            return
        _keep(self._failed_at, key, self.clock.monotonic())
        logger.info("the history of timeline %s could not be read: %s", key[-1], error)


def _keep(kept: dict[HistoryKey, T], key: HistoryKey, value: T) -> None:
    """Keep the newest of a namespace."""
    kept.pop(key, None)
    kept[key] = value
    of_namespace = [other for other in kept if other[0] == key[0]]
    for old in of_namespace[:-MOST_HISTORIES]:
        del kept[old]


@dataclass(slots=True)
class ServerReadings:
    """The shared questions over one link."""

    position: SharedReading[Mark]
    slots: SharedReading[Sequence[SlotFacts]]
    backups: SharedReading[Sequence[BackupProgress]]
    libraries: SharedReading[ServerLibraries]
    data_bytes: SharedReading[int]

    @classmethod
    def over(cls, link: PrimaryLink, clock: Clock) -> "ServerReadings":
        """Nothing is asked until somebody reads."""
        return cls(
            SharedReading(clock, link.position, POSITION_AGE_SECONDS),
            SharedReading(clock, lambda: link.slots(ANY_SLOT_PREFIX), SLOTS_AGE_SECONDS),
            SharedReading(clock, link.backups, BACKUPS_AGE_SECONDS),
            SharedReading(clock, link.libraries, LIBRARIES_AGE_SECONDS),
            SharedReading(clock, link.data_bytes, SIZE_AGE_SECONDS),
        )
