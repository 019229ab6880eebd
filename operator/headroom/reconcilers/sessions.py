"""The guards that use PostgreSQL servers: who watches which one, who measures it, and what the others get from it.

Guards of one server share one observation. Each of them concludes from it for itself, so nothing has to be handed over
when another one continues. Only guards of one namespace share more: the plan for their pools.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

from headroom.policy.databaseguard.facts import Observation, SharedPlan
from headroom.policy.databaseguard.membership import Membership, find_budget_group, find_group, rank_measurers
from headroom.ports.clock import Clock

FRESH_SECONDS = 8.0
"""Others use an observation for so long: longer than the deadline of one and the pause before it. After that the next
guard measures."""
KEPT_SECONDS = 60.0
"""Observations are kept for so long, for guards whose passes were late."""


@dataclass(frozen=True, slots=True)
class Standing:
    """What a guard is among those of its server.

    `observations` are those of guards that can measure for it, its own included, oldest first. `canary_seconds` is the
    shortest interval that one of them asks for, None if none times commits.
    """

    is_holder: bool
    is_sweeper: bool
    observations: tuple[Observation, ...] = ()
    canary_seconds: float | None = None
    local_guards: tuple[str, ...] = ()
    foreign_guards: int = 0


@dataclass(slots=True)
class _Member:
    """A guard of a server. One that cannot log in now is not present; its pools still hold their connections.

    `measuring_since` is when it began to measure, None while another one does. `turned_at` is when its samples went
    above its state.
    """

    membership: Membership
    seen_at: float
    is_present: bool = True
    measuring_since: float | None = None
    observations: tuple[Observation, ...] = ()
    planned: SharedPlan | None = None
    turned_at: float | None = None

    def is_fresh(self, now: float) -> bool:
        """True while others may use what it has observed."""
        return bool(self.observations) and now - self.observations[-1].observed_at <= FRESH_SECONDS

    def is_starting(self, now: float) -> bool:
        """True while its first observation is under way."""
        return self.measuring_since is not None and now - self.measuring_since <= FRESH_SECONDS


@dataclass(slots=True)
class Sessions:
    """Written by the passes of guards; `wake` starts the next pass of a guard."""

    clock: Clock
    wake: Callable[[Membership], None]
    _members: dict[str, _Member] = field(default_factory=dict)

    def join(self, member: Membership) -> Standing:
        """Make a guard's pass known to the others of its server; it moves when another server answers it."""
        now, known = self.clock.monotonic(), self._members.get(member.uid)
        if known is None or not known.membership.may_share(member):
            known = self._members[member.uid] = _Member(member, now)
        known.membership, known.seen_at, known.is_present = member, now, True
        is_holder = self.find_measurer(member).uid == member.uid
        if not is_holder:
            known.measuring_since = None
        elif known.measuring_since is None:
            known.measuring_since = now
        return self._describe_standing(member, is_holder=is_holder)

    def remember(self, member: Membership) -> None:
        """A guard that cannot use its server now, at the server that it saw last: its limits and pools still count."""
        known = self._members.get(member.uid)
        if known is None:
            self._members[member.uid] = _Member(member, self.clock.monotonic(), is_present=False)
        elif not known.is_present:
            known.membership = replace(known.membership, limits=member.limits)

    def leave(self, uid: str) -> bool:
        """A guard that cannot use its server measures no more; True when others of that server are there."""
        known = self._members.get(uid)
        if known is None or not known.is_present:
            return False
        others = [member for member in self._find_group(known.membership) if member.uid != uid]
        known.is_present, known.measuring_since, known.observations = False, None, ()
        for other in others:
            self.wake(other)
        return bool(others)

    def remove(self, uid: str) -> None:
        """Forget a guard that is gone."""
        self.leave(uid)
        self._members.pop(uid, None)

    def share_observation(self, uid: str, found: Observation) -> None:
        """What a guard has measured, for the others of its server; those that wait for it are woken."""
        known, now = self._members.get(uid), self.clock.monotonic()
        if known is None or not known.is_present:
            return
        group = self._find_group(known.membership)
        is_awaited = not any(self._members[member.uid].is_fresh(now) for member in group)
        kept = tuple(old for old in known.observations if now - old.observed_at <= KEPT_SECONDS)
        known.observations = (*kept, found)
        for member in group:
            if is_awaited and member.uid != uid:
                self.wake(member)

    def share_plan(self, uid: str, planned: SharedPlan) -> None:
        """The plan for the pools of the guard's namespace, for its other guards of that server."""
        known = self._members.get(uid)
        if known is not None:
            known.planned = planned

    def share_turn(self, uid: str, turned_at: float | None) -> None:
        """When the guard's samples went above its state, for the guards of other servers."""
        known = self._members.get(uid)
        if known is not None:
            known.turned_at = turned_at

    def find_turns(self, uid: str) -> tuple[float | None, ...]:
        """When the other servers turned that answer, or did until then: an entry for each of the guard's own namespace,
        and one for each other namespace, which turned when most of its servers had. Nobody gets more votes by more
        guards than one, since whoever may write them also decides how slow their servers are.
        """
        own = self._members.get(uid)
        if own is None:
            return ()
        found: dict[str, dict[tuple[str, datetime | None], float | None]] = {}
        for known in self._members.values():
            server, at = known.membership.server, known.turned_at
            if own.membership.may_share(known.membership) or not (known.is_present or at is not None):
                continue
            servers = found.setdefault(known.membership.namespace, {})
            key = server.system_identifier, server.started_at
            servers[key] = max((one for one in (servers.get(key), at) if one is not None), default=None)
        neighbours = found.pop(own.membership.namespace, {})
        foreign = ([at for key, at in servers.items() if key not in neighbours] for servers in found.values())
        return (*neighbours.values(), *(_find_turn(turns) for turns in foreign if turns))

    def find_measurer(self, member: Membership) -> Membership:
        """The best guard that can measure for `member` and does so; `member` itself if no observation is fresh."""
        now, ranked = self.clock.monotonic(), rank_measurers(member, self._find_group(member))
        others = {other.uid: self._members[other.uid] for other in ranked if other.uid in self._members}
        has_fresh = any(other.is_fresh(now) for other in others.values())
        for candidate in ranked:
            other = others.get(candidate.uid)
            if candidate.uid == member.uid or other is None:
                return member
            # Until the better one has its first observation, whoever measures continues.
            if other.is_fresh(now) or (other.is_starting(now) and not has_fresh):
                return candidate
        return member

    def find_budget_group(self, uid: str) -> tuple[Membership, ...]:
        """The guards whose pools share a budget with those of the guard, itself included; empty before it was seen."""
        known = self._members.get(uid)
        members = (other.membership for other in self._members.values())
        return () if known is None else find_budget_group(known.membership, members)

    def find_plan(self, group: Iterable[Membership]) -> SharedPlan | None:
        """The newest plan that one of these guards has made."""
        plans = (self._members[member.uid].planned for member in group)
        return max(filter(None, plans), key=lambda planned: planned.made_at, default=None)

    def find_present(self, guard: tuple[str, str]) -> Membership | None:
        """The guard of that namespace and name, while it can use its server."""
        for known in self._members.values():
            if known.is_present and known.membership.guard == guard:
                return known.membership
        return None

    def _find_group(self, member: Membership) -> tuple[Membership, ...]:
        return find_group(member, (known.membership for known in self._members.values() if known.is_present))

    def _describe_standing(self, member: Membership, *, is_holder: bool) -> Standing:
        group, now = self._find_group(member), self.clock.monotonic()
        measurers = [self._members[one.uid] for one in rank_measurers(member, group)]
        found = [observation for one in measurers for observation in one.observations]
        intervals = [one.canary_seconds for one in group if one.canary_seconds is not None]
        return Standing(
            is_holder=is_holder,
            is_sweeper=self._find_sweeper(group, now) == member.uid,
            observations=tuple(sorted(found, key=lambda observation: observation.observed_at)),
            canary_seconds=min(intervals, default=None),
            local_guards=tuple(sorted({one.guard[1] for one in group if _is_neighbour(one, member)})),
            foreign_guards=sum(one.namespace != member.namespace for one in group),
        )

    def _find_sweeper(self, group: Sequence[Membership], now: float) -> str | None:
        """The oldest guard with a replication login whose passes do not hang."""
        awake = (one for one in group if one.has_slots and now - self._members[one.uid].seen_at <= FRESH_SECONDS)
        return next((one.uid for one in awake), None)


def _find_turn(turns: Sequence[float | None]) -> float | None:
    """When more than half of these servers had turned; None if they have not."""
    latest_first = sorted((at for at in turns if at is not None), reverse=True)
    needed = len(turns) // 2 + 1
    return latest_first[needed - 1] if len(latest_first) >= needed else None


def _is_neighbour(one: Membership, member: Membership) -> bool:
    return one.namespace == member.namespace and one.guard != member.guard
