"""The PostgreSQL servers that guards watch, for the passes that need one: what is known of it, and the links to it.

Guards of one server share a session. The oldest one that can log in measures; the others take over what it found, each
through its own login. A guard posts its view; pools and sets read it, ask through its links, and are woken when it
changes. What is the same for all sets of a server (slots, copies, the position of its WAL) is asked once, over the link
of the guard that measures, however many ask at the moment.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from headroom.errors import PrimaryUnavailable
from headroom.model.database import BackupProgress, DatabaseView, Mark, PoolDemand, SlotFacts
from headroom.model.replica import ANY_SLOT_PREFIX
from headroom.policy.databaseguard.budget import ConnectionLimits
from headroom.policy.databaseguard.facts import SharedServer
from headroom.policy.databaseguard.identity import ServerId, is_same_server
from headroom.ports.clock import Clock
from headroom.ports.kube import DATABASE_GUARD, ObjectRef
from headroom.ports.postgres import PrimaryLink, SlotLink
from headroom.reasons import Reason

T = TypeVar("T")
GuardKey = tuple[str, str]
"""Namespace and name of a guard."""

POSITION_AGE_SECONDS = 0.05
"""Readings of one moment share a position: none of them waits for another's turn on the connection."""
SLOTS_AGE_SECONDS = 1.0
BACKUPS_AGE_SECONDS = 1.0
ABSENT_SECONDS = 5.0
"""A guard that measures and has made no pass for so long hangs: the next one takes over."""


@dataclass(frozen=True, slots=True)
class GuardLinks:
    """The open links of one guard, each under its own login; `slots` is None without a replication login."""

    primary: PrimaryLink
    slots: SlotLink | None = None


@dataclass(frozen=True, slots=True)
class Membership:
    """A guard that can use its server, as it joins the others; the oldest of them measures."""

    guard: GuardKey
    uid: str
    created_at: str
    server: ServerId
    limits: ConnectionLimits
    has_slots: bool = False

    @property
    def seniority(self) -> tuple[str, str]:
        """The order in which guards of one server take over."""
        return self.created_at, self.uid

    def may_share(self, other: "Membership") -> bool:
        """Whether both watch the same server, as far as either may believe it."""
        is_same_namespace = self.guard[0] == other.guard[0]
        return is_same_server(self.server, other.server, is_same_namespace=is_same_namespace)


@dataclass(frozen=True, slots=True)
class Standing:
    """What a guard is among those of its server; `shared` is what the one that measures has found."""

    is_holder: bool
    is_sweeper: bool
    shared: SharedServer | None
    local_guards: tuple[str, ...]
    foreign_guards: int
    other_limits: tuple[ConnectionLimits, ...]


@dataclass(slots=True)
class ServerSession:
    """One server and the guards that use it, by uid; `seen_at` is when each last made a pass."""

    members: dict[str, Membership] = field(default_factory=dict)
    seen_at: dict[str, float] = field(default_factory=dict)
    shared: SharedServer | None = None

    def admits(self, newcomer: Membership) -> bool:
        """Whether all members may share with it: trust is not passed on from one to the next."""
        return all(newcomer.may_share(member) for uid, member in self.members.items() if uid != newcomer.uid)

    def find_holder(self, now: float) -> Membership | None:
        """The guard that measures."""
        return _find_oldest(self._present(now))

    def find_standing(self, member: Membership, now: float) -> Standing:
        """What one of the members is."""
        holder, sweeper = self.find_holder(now), _find_oldest(one for one in self._present(now) if one.has_slots)
        others = [other for other in self.members.values() if other.uid != member.uid]
        local_guards = [other.guard[1] for other in others if other.guard[0] == member.guard[0]]
        return Standing(
            is_holder=holder is not None and holder.uid == member.uid,
            is_sweeper=sweeper is not None and sweeper.uid == member.uid,
            shared=self.shared,
            local_guards=tuple(sorted(local_guards)),
            foreign_guards=len(others) - len(local_guards),
            other_limits=tuple(other.limits for other in sorted(others, key=lambda other: other.seniority)),
        )

    def _present(self, now: float) -> list[Membership]:
        return [one for uid, one in self.members.items() if now - self.seen_at[uid] < ABSENT_SECONDS]


def _find_oldest(members: Iterable[Membership]) -> Membership | None:
    return min(members, key=lambda member: member.seniority, default=None)


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


@dataclass(frozen=True, slots=True)
class _Demand:
    pool: ObjectRef
    guard: GuardKey
    demand: PoolDemand

    def granted(self, view: DatabaseView) -> int | None:
        """Workers the pool may have of those it wants; None without an allocation."""
        allocation = view.allocations.get(self.demand.uid)
        return None if allocation is None else min(allocation.workers, self.demand.wanted)


def wake_nobody(_: ObjectRef) -> None:
    """Until the loops are there nobody can be woken."""


@dataclass(slots=True)
class Servers:
    """Written by the guards' passes, read by all others; `wake` starts an object's next pass."""

    clock: Clock
    wake: Callable[[ObjectRef], None] = wake_nobody
    _entries: dict[GuardKey, _Entry] = field(default_factory=dict)
    _sessions: list[ServerSession] = field(default_factory=list)
    _dependents: dict[ObjectRef, GuardKey] = field(default_factory=dict)
    _demands: dict[str, "_Demand"] = field(default_factory=dict)

    def join(self, member: Membership) -> Standing:
        """Make a guard's pass known to the others of its server; it moves when another server answers it."""
        now, session = self.clock.monotonic(), self._find_session(member.guard)
        known = None if session is None else session.members.get(member.uid)
        if session is None or known is None or known.server != member.server or not session.admits(member):
            self.leave(member.guard)
            session = next((one for one in self._sessions if one.admits(member)), None)
            if session is None:
                session = ServerSession()
                self._sessions.append(session)
        session.members[member.uid], session.seen_at[member.uid] = member, now
        return session.find_standing(member, now)

    def leave(self, guard: GuardKey) -> bool:
        """A guard that cannot use its server measures no more; True when others of that server are left."""
        session = self._find_session(guard)
        if session is None:
            return False
        for uid in [uid for uid, member in session.members.items() if member.guard == guard]:
            del session.members[uid], session.seen_at[uid]
        if not session.members:
            self._sessions.remove(session)
        self._wake_guards(session)
        return bool(session.members)

    def share(self, member: Membership, found: SharedServer) -> None:
        """What the guard that measures has found, for the others of its server."""
        session = self._find_session(member.guard)
        if session is None:
            return
        before, session.shared = session.shared, found
        if before is None or _summarize(before) != _summarize(found):
            self._wake_guards(session, but=member.guard)

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
        else:
            self._wake_pools(guard, before.view, view)

    def remove(self, guard: GuardKey, uid: str) -> None:
        """Forget a guard that is gone, unless another one of that name has come."""
        session = self._find_session(guard)
        if session is not None and uid in session.members:
            self.leave(guard)
        entry = self._entries.get(guard)
        if entry is not None and entry.view.guard_uid == uid:
            del self._entries[guard]
            self._wake_dependents(guard)

    def view(self, guard: GuardKey) -> DatabaseView | None:
        """What was last found, or None when no such guard was ever observed."""
        entry = self._entries.get(guard)
        return None if entry is None else entry.view

    def links(self, guard: GuardKey) -> GuardLinks | None:
        """The guard's open links, under its own login, or None while it has none."""
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
        """A slot was created or dropped: the next reader asks the server again."""
        entry = self._entries.get(self._reading_guard(guard))
        if entry is not None and entry.readings is not None:
            entry.readings.slots.invalidate()

    def depend(self, ref: ObjectRef, guard: GuardKey) -> None:
        """Wake this object when what is known through the guard changes."""
        self._dependents[ref] = guard

    def post_demand(self, pool: ObjectRef, guard: GuardKey, demand: PoolDemand) -> None:
        """What a pool holds and wants; the budget is shared out over all demands at the guard's next pass."""
        self._demands[demand.uid] = _Demand(pool, guard, demand)

    def demands(self, guard: GuardKey) -> tuple[PoolDemand, ...]:
        """The demands of all pools of the guard's server, whichever guard they refer to, in a fixed order."""
        session = self._find_session(guard)
        guards = {guard} if session is None else {member.guard for member in session.members.values()}
        found = (posted.demand for posted in self._demands.values() if posted.guard in guards)
        return tuple(sorted(found, key=lambda demand: demand.uid))

    def forget(self, ref: ObjectRef, uid: str) -> None:
        """Drop what an object that is gone asked for."""
        self._dependents.pop(ref, None)
        self._demands.pop(uid, None)

    def _find_session(self, guard: GuardKey) -> ServerSession | None:
        for session in self._sessions:
            if any(member.guard == guard for member in session.members.values()):
                return session
        return None

    def _reading_guard(self, guard: GuardKey) -> GuardKey:
        """The guard over whose link the shared questions go: the one that measures, if it has a link."""
        session = self._find_session(guard)
        holder = None if session is None else session.find_holder(self.clock.monotonic())
        entry = None if holder is None else self._entries.get(holder.guard)
        return holder.guard if holder is not None and entry is not None and entry.readings is not None else guard

    def _readings(self, guard: GuardKey) -> ServerReadings:
        entry = self._entries.get(self._reading_guard(guard))
        if entry is None or entry.readings is None:
            raise PrimaryUnavailable("the guard has no link to its server", reason=Reason.GUARD_NOT_READY)
        return entry.readings

    def _wake_dependents(self, guard: GuardKey) -> None:
        for ref, depends_on in self._dependents.items():
            if depends_on == guard:
                self.wake(ref)

    def _wake_pools(self, guard: GuardKey, before: DatabaseView, after: DatabaseView) -> None:
        """Those that are granted another count. What is left over moves with every pool that scales: that wakes nobody."""
        for posted in self._demands.values():
            if posted.guard == guard and posted.granted(before) != posted.granted(after):
                self.wake(posted.pool)

    def _wake_guards(self, session: ServerSession, *, but: GuardKey | None = None) -> None:
        for member in session.members.values():
            if member.guard != but:
                self.wake(ObjectRef(DATABASE_GUARD, *member.guard))


def _summarize(shared: SharedServer) -> object:
    """What the other guards of a server should not learn a second late."""
    return shared.memory.state.level, shared.memory.allocations


def _is_news(before: DatabaseView, after: DatabaseView) -> bool:
    """What changes every dependent's next decision: whether the server can be used, why not, and its state."""
    return (before.is_ready, before.finding.reason, before.state) != (after.is_ready, after.finding.reason, after.state)
