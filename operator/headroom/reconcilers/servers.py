"""The PostgreSQL servers that guards watch, for the passes that need one: what is known of it, and the links to it.

A guard posts what it found; pools and sets read it, ask through its links, and are woken when it changes. What is the
same for all sets of a server (slots, copies, the position of its WAL) is asked once, however many ask at the moment.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from headroom.errors import PrimaryUnavailable
from headroom.model.database import BackupProgress, DatabaseView, Mark, PoolDemand, SlotFacts
from headroom.model.replica import ANY_SLOT_PREFIX
from headroom.ports.clock import Clock
from headroom.ports.kube import ObjectRef
from headroom.ports.postgres import PrimaryLink, SlotLink
from headroom.reasons import Reason

T = TypeVar("T")
GuardKey = tuple[str, str]
"""Namespace and name of a guard."""

POSITION_AGE_SECONDS = 0.05
"""Readings of one moment share a position: none of them waits for another's turn on the connection."""
SLOTS_AGE_SECONDS = 1.0
BACKUPS_AGE_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class GuardLinks:
    """The open links of one guard, each under its own login; `slots` is None without a replication login."""

    primary: PrimaryLink
    slots: SlotLink | None = None


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


@dataclass(slots=True)
class _Entry:
    view: DatabaseView
    links: GuardLinks | None
    readings: ServerReadings | None


def wake_nobody(_: ObjectRef) -> None:
    """Until the loops are there nobody can be woken."""


@dataclass(slots=True)
class Servers:
    """Written by the guards' passes, read by all others; `wake` starts an object's next pass."""

    clock: Clock
    wake: Callable[[ObjectRef], None] = wake_nobody
    _entries: dict[GuardKey, _Entry] = field(default_factory=dict)
    _dependents: dict[ObjectRef, GuardKey] = field(default_factory=dict)
    _demands: dict[str, tuple[GuardKey, PoolDemand]] = field(default_factory=dict)

    def post(self, guard: GuardKey, view: DatabaseView, links: GuardLinks | None = None) -> None:
        """Replace what is known through one guard; whoever depends on it is woken where that changes what they do."""
        before = self._entries.get(guard)
        readings = before.readings if before is not None else None
        if links is None:
            readings = None
        elif before is None or before.links is None or before.links.primary is not links.primary:
            readings = ServerReadings.over(links.primary, self.clock)
        self._entries[guard] = _Entry(view, links, readings)
        if before is None or _is_news(before.view, view):
            self._wake_dependents(guard)

    def remove(self, guard: GuardKey, uid: str) -> None:
        """Forget a guard that is gone, unless another one of that name has come."""
        entry = self._entries.get(guard)
        if entry is not None and entry.view.guard_uid == uid:
            del self._entries[guard]
            self._wake_dependents(guard)

    def view(self, guard: GuardKey) -> DatabaseView | None:
        """What was last found, or None when no such guard was ever observed."""
        entry = self._entries.get(guard)
        return None if entry is None else entry.view

    def links(self, guard: GuardKey) -> GuardLinks | None:
        """The guard's open links, or None while it has none."""
        entry = self._entries.get(guard)
        return None if entry is None else entry.links

    async def read_position(self, guard: GuardKey) -> Mark:
        """The primary's flush position now; raises PrimaryUnavailable."""
        return await self._readings(guard).position.read()

    async def read_slots(self, guard: GuardKey) -> Sequence[SlotFacts]:
        """All physical slots of Headroom's, any installation's; raises PrimaryUnavailable."""
        return await self._readings(guard).slots.read()

    async def read_backups(self, guard: GuardKey) -> Sequence[BackupProgress]:
        """Base backups that stream now; raises PrimaryUnavailable."""
        return await self._readings(guard).backups.read()

    def invalidate_slots(self, guard: GuardKey) -> None:
        """A slot was made or dropped: the next reader asks the server again."""
        entry = self._entries.get(guard)
        if entry is not None and entry.readings is not None:
            entry.readings.slots.invalidate()

    def depend(self, ref: ObjectRef, guard: GuardKey) -> None:
        """Wake this object when what is known through the guard changes."""
        self._dependents[ref] = guard

    def post_demand(self, guard: GuardKey, demand: PoolDemand) -> None:
        """What a pool holds and wants; the budget is shared out over all demands at the guard's next pass."""
        self._demands[demand.uid] = guard, demand

    def demands(self, guard: GuardKey) -> tuple[PoolDemand, ...]:
        """The demands of the pools that refer to a guard, in a fixed order."""
        found = (demand for key, demand in self._demands.values() if key == guard)
        return tuple(sorted(found, key=lambda demand: demand.uid))

    def forget(self, ref: ObjectRef, uid: str) -> None:
        """Drop what an object that is gone asked for."""
        self._dependents.pop(ref, None)
        self._demands.pop(uid, None)

    def _readings(self, guard: GuardKey) -> ServerReadings:
        entry = self._entries.get(guard)
        if entry is None or entry.readings is None:
            raise PrimaryUnavailable("the guard has no link to its server", reason=Reason.GUARD_NOT_READY)
        return entry.readings

    def _wake_dependents(self, guard: GuardKey) -> None:
        for ref, depends_on in self._dependents.items():
            if depends_on == guard:
                self.wake(ref)


def _is_news(before: DatabaseView, after: DatabaseView) -> bool:
    """What changes a dependent's next decision: whether the server can be used, why not, and who may hold how much."""
    return (before.is_ready, before.finding.reason, before.allocations) != (
        after.is_ready,
        after.finding.reason,
        after.allocations,
    )
