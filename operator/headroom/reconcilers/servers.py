"""The PostgreSQL servers that guards watch, for the passes that need one: what is known of it, and the links to it.

Guards of one server share a session: the best equipped one measures, and all conclude from what it has observed. Each
acts through its own login. A guard posts its view; pools and sets read it, ask through its links, and are woken when it
changes. What is the same for all sets of a server (slots, copies, the position of its WAL) is asked once, over the link
of the guard that measures, however many ask at the moment.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from headroom.errors import PrimaryUnavailable
from headroom.model.database import BackupProgress, DatabaseView, Mark, PoolDemand, SlotFacts
from headroom.model.frozen import FrozenMap
from headroom.model.libraries import ServerLibraries
from headroom.model.timelines import TimelineHistory
from headroom.policy.databaseguard.facts import SharedPlan
from headroom.policy.databaseguard.limits import ConnectionLimits
from headroom.policy.databaseguard.membership import Membership
from headroom.ports.clock import Clock
from headroom.ports.kube import DATABASE_GUARD, ObjectRef
from headroom.ports.postgres import PrimaryLink, SlotLink
from headroom.reasons import Reason
from headroom.reconcilers.queue_links import QueueLinks
from headroom.reconcilers.readings import HistoryReading, ServerReadings
from headroom.reconcilers.sessions import Sessions

GuardKey = tuple[str, str]
"""Namespace and name of a guard."""


@dataclass(frozen=True, slots=True)
class GuardLinks:
    """The open links of one guard, each under its own login; `slots` is None without a replication login."""

    primary: PrimaryLink
    slots: SlotLink | None = None


@dataclass(frozen=True, slots=True)
class BudgetGroup:
    """What the plan for a namespace's pools follows: limits by guard, demands of pools, and the newest plan."""

    limits: FrozenMap[str, ConnectionLimits]
    demands: tuple[PoolDemand, ...]
    planned: SharedPlan | None


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
    sessions: Sessions = field(init=False)
    queue_links: QueueLinks = field(init=False)
    _histories: HistoryReading = field(init=False)
    _entries: dict[GuardKey, _Entry] = field(default_factory=dict)
    _dependents: dict[ObjectRef, GuardKey] = field(default_factory=dict)
    _demands: dict[str, "_Demand"] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.sessions = Sessions(self.clock, self._wake_guard)
        self.queue_links = QueueLinks(self.clock)
        self._histories = HistoryReading(self.clock)

    def read_budget_group(self, uid: str) -> BudgetGroup:
        """Whose limits and pools share the budget of the guard's namespace on its server; empty before it joins."""
        group = self.sessions.find_budget_group(uid)
        return BudgetGroup(
            limits=FrozenMap((member.guard[1], member.limits) for member in group),
            demands=self._find_demands({member.guard for member in group}),
            planned=self.sessions.find_plan(group),
        )

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
        self.sessions.remove(uid)
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

    async def read_data_bytes(self, guard: GuardKey) -> int:
        """What the primary's databases take on disk, as of the last ten minutes; raises PrimaryUnavailable."""
        return await self._readings(guard).data_bytes.read()

    async def read_libraries(self, guard: GuardKey, version: object) -> ServerLibraries:
        """What the primary's image has and its databases need; may take seconds. Raises PrimaryUnavailable.

        The answer is shared for half a minute, unless `version` says that the server is another one or has restarted.
        """
        return await self._readings(guard).libraries.read(version)

    async def read_history(self, guard: GuardKey, position: Mark) -> TimelineHistory | None:
        """Where the timelines of the primary that answered at `position` forked off; None while it is not known."""
        entry = self._entries.get(guard)
        server = entry.view.server if entry is not None else None
        if entry is None or server is None or entry.links is None or entry.links.slots is None:
            return None
        key = guard[0], server.started_at, position.system_identifier, position.timeline
        return await self._histories.read(key, entry.links.slots)

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
        """The demands that share a budget with those of the guard's own pools, in a fixed order."""
        member = self.sessions.find_present(guard)
        return self._find_demands({guard}) if member is None else self.read_budget_group(member.uid).demands

    def forget(self, ref: ObjectRef, uid: str) -> None:
        """Drop what an object that is gone asked for."""
        self._dependents.pop(ref, None)
        self._demands.pop(uid, None)

    def _find_demands(self, guards: set[GuardKey]) -> tuple[PoolDemand, ...]:
        found = (posted.demand for posted in self._demands.values() if posted.guard in guards)
        return tuple(sorted(found, key=lambda demand: demand.uid))

    def _reading_guard(self, guard: GuardKey) -> GuardKey:
        """The guard over whose link the shared questions go: the one that measures, if it has a link."""
        member = self.sessions.find_present(guard)
        if member is None:
            return guard
        measurer = self.sessions.find_measurer(member)
        entry = self._entries.get(measurer.guard)
        return measurer.guard if entry is not None and entry.readings is not None else guard

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
        """Those that are granted another count. What is left over moves with each pool that scales: it wakes nobody."""
        for posted in self._demands.values():
            if posted.guard == guard and posted.granted(before) != posted.granted(after):
                self.wake(posted.pool)

    def _wake_guard(self, member: Membership) -> None:
        self.wake(ObjectRef(DATABASE_GUARD, *member.guard))


def _is_news(before: DatabaseView, after: DatabaseView) -> bool:
    """What changes every dependent's next decision: whether the server can be used, why not, and its state."""
    return (before.is_ready, before.finding.reason, before.state) != (after.is_ready, after.finding.reason, after.state)
