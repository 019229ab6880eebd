"""How many connections one worker really takes, where the sessions of the workers' role tell it."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from headroom.model.database import NO_LIMIT, LimitedConnections, PoolDemand
from headroom.model.frozen import FrozenMap

USE_SECONDS = 300.0
USE_EVERY_SECONDS = 5.0
FIRST_EVERY_SECONDS = 1.0
FIRST_COUNTS = 4
"""Counts of ready workers, a second apart and not rising, after which their use is known: some connect a moment after
they are Ready.
Until then their pools do not grow, since nobody knows what that would take."""
PATIENCE_SECONDS = 30.0
"""Workers that are never all Ready at once are taken at their spec's word after so long."""
BRIEF_SHARE = 0.05
"""Counts above their 95th percentile are passed over, and one in any history: a reconnect holds two sessions for a
moment."""
LESS_SHARE = 0.9
"""Workers that hold nearly what their spec says are not worth a word: it may be that one of them connects again."""
MOST_USED = 20
MOST_TIMES = 4
"""A role with more sessions for each worker than 20, and than four times what its spec says, has users that are not
workers: what a worker takes cannot be told there."""


@dataclass(frozen=True, slots=True)
class UseCount:
    """Sessions of a role at `at` (monotonic seconds), divided by the connections that its pools declare for them."""

    at: float
    factor: float


@dataclass(frozen=True, slots=True)
class RoleUse:
    """What is known of one role: its counts of the last five minutes, oldest first.

    `since` is when its first workers were seen, `steady` the number of counts while all of them were Ready, up to
    `FIRST_COUNTS`. `last` is the factor of the last time that there were counts.
    """

    since: float
    counts: tuple[UseCount, ...] = ()
    steady: int = 0
    last: float = 0.0

    def observe(self, now: float, sessions: int, declared: "_Declared") -> "RoleUse":
        """One more count, unless the last one is too young; while there are no workers, nothing is learned."""
        kept = tuple(count for count in self.counts if now - count.at < USE_SECONDS)
        if not declared.connections:
            since = self.since if self.steady >= FIRST_COUNTS else now
            return replace(self, counts=kept, since=since)
        count, is_known = UseCount(now, sessions / declared.connections), self.is_known(now)
        is_rising = not is_known and count.factor > self.last
        every = USE_EVERY_SECONDS if is_known else FIRST_EVERY_SECONDS
        if not declared.is_counted or (kept and now - kept[-1].at < every and not is_rising):
            return replace(self, counts=kept)
        counts = (*kept, count)
        # Workers that still connect tell nothing yet: the counting begins again.
        before = 0 if is_rising else self.steady
        steady = min(FIRST_COUNTS, before + (declared.is_steady and sessions > 0))
        # The first sessions are at once the workers' own, since others' would seem to take the role's limit.
        high = _find_high(counts) if is_known else max(each.factor for each in counts)
        return replace(self, counts=counts, steady=steady, last=high)

    def is_known(self, now: float) -> bool:
        """Whether the counts tell what a worker takes, or will not tell it soon."""
        return self.steady >= FIRST_COUNTS or now - self.since >= PATIENCE_SECONDS


@dataclass(frozen=True, slots=True)
class UseHistory:
    """What workers take, by their role."""

    roles: FrozenMap[str, RoleUse] = field(default_factory=FrozenMap)

    def observe(
        self, now: float, sessions: Mapping[str, LimitedConnections], demands: Iterable[PoolDemand]
    ) -> "UseHistory":
        """The history with one more count of each role that a pool names.

        Workers that start count as if they were connected, so that a count is too low rather than too high.
        """
        found = {}
        for role, declared in _sum_up(demands).items():
            used = sessions[role].used if role in sessions else 0
            found[role] = self.roles.get(role, RoleUse(now)).observe(now, used, declared)
        return UseHistory(FrozenMap(found))

    def measure(self, demands: Iterable[PoolDemand], now: float) -> tuple[PoolDemand, ...]:
        """The demands with what one of their workers was measured to take; until it is known, they may not grow."""
        return tuple(self._measure(demand, now) for demand in demands)

    def _measure(self, demand: PoolDemand, now: float) -> PoolDemand:
        use = self.roles.get(demand.role or "")
        if use is None:
            return demand
        # Never less than was declared: a worker may open later what it has not opened yet.
        declared, used = demand.connections_per_worker, demand.connections_per_worker * use.last
        measured = used if declared < used <= max(MOST_USED, MOST_TIMES * declared) else 0.0
        limit = NO_LIMIT if use.is_known(now) else max(1, demand.running)
        seen = used if 0 < used <= LESS_SHARE * declared and use.steady >= FIRST_COUNTS else 0.0
        return replace(demand, measured=measured, seen=seen, limit_now=limit)


def _find_high(counts: tuple[UseCount, ...]) -> float:
    """The 95th percentile of five minutes; of a shorter history the largest but one."""
    ordered = sorted((count.factor for count in counts), reverse=True)
    passed_over = min(max(1, int(BRIEF_SHARE * len(ordered))), len(ordered) - 1)
    return ordered[passed_over]


@dataclass(frozen=True, slots=True)
class _Declared:
    """The connections that the workers of a role hold according to their specs."""

    connections: int = 0
    is_counted: bool = True
    is_steady: bool = True


def _sum_up(demands: Iterable[PoolDemand]) -> Mapping[str, _Declared]:
    """By role; two pools that claim one workload have its workers once."""
    workers: dict[str, dict[str, int]] = {}
    flags: dict[str, tuple[bool, bool]] = {}
    for demand in demands:
        if demand.role is None:
            continue
        of_role = workers.setdefault(demand.role, {})
        workload = demand.workload or demand.uid
        connections = demand.connections_per_worker * (demand.running + demand.terminating)
        of_role[workload] = max(of_role.get(workload, 0), connections)
        is_counted, is_steady = flags.get(demand.role, (True, True))
        is_ready = demand.ready >= demand.running and demand.terminating == 0
        flags[demand.role] = (is_counted and demand.is_counted, is_steady and is_ready)
    return {role: _Declared(sum(found.values()), *flags[role]) for role, found in workers.items()}
