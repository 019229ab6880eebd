"""Which guards watch one server, which of them measures it, and whose pools share a budget.

Everything follows from the set of members alone, never from the order in which they came.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from headroom.policy.databaseguard.identity import ServerId, is_same_server
from headroom.policy.databaseguard.limits import ConnectionLimits


@dataclass(frozen=True, slots=True)
class Membership:
    """A guard (namespace and name), and the server that it saw last.

    `canary_seconds` is the interval of its canary, None if it times no commits. `sees_sessions` is true if its login
    may read the states of other roles' sessions, `has_slots` if it has a replication login that works. `endpoint` is
    the host and port that its spec names.
    """

    guard: tuple[str, str]
    uid: str
    created_at: str
    server: ServerId
    limits: ConnectionLimits
    canary_seconds: float | None = None
    sees_sessions: bool = False
    has_slots: bool = False
    endpoint: str = ""

    @property
    def namespace(self) -> str:
        """Namespace of the guard."""
        return self.guard[0]

    @property
    def seniority(self) -> tuple[str, str]:
        """The order among guards of one server, the oldest first."""
        return self.created_at, self.uid

    @property
    def equipment(self) -> int:
        """How much of a server it can measure: commits and sessions, one of them, or none."""
        return (self.canary_seconds is not None) + self.sees_sessions

    def may_share(self, other: "Membership") -> bool:
        """Whether both watch the same server, as far as either may believe it."""
        return is_same_server(self.server, other.server, is_same_namespace=self.namespace == other.namespace)

    def can_measure_for(self, other: "Membership") -> bool:
        """Whether it measures all that the other one would: nobody is made blind by a guard that sees less."""
        has_canary = self.canary_seconds is not None or other.canary_seconds is None
        return has_canary and (self.sees_sessions or not other.sees_sessions)


def find_group(member: Membership, members: Iterable[Membership]) -> tuple[Membership, ...]:
    """The guards that share one observation with `member`, itself included, the oldest first.

    Guards of one namespace that see the same server stay together. Those of different namespaces join only if every
    pair may share, in order of seniority: trust is not passed on from one to the next.
    """
    local: dict[str, list[Membership]] = {}
    claimants = [other for other in members if other.uid != member.uid and _is_claim_equal(other, member)]
    for other in sort_by_seniority([*claimants, member]):
        local.setdefault(other.namespace, []).append(other)
    groups: list[list[Membership]] = []
    for candidates in local.values():
        home = next((group for group in groups if _may_all_share(group, candidates)), None)
        if home is None:
            groups.append(list(candidates))
        else:
            home.extend(candidates)
    return sort_by_seniority(next(group for group in groups if member in group))


def rank_measurers(member: Membership, group: Iterable[Membership]) -> tuple[Membership, ...]:
    """Those of the group who can measure for `member`, itself included: the best equipped first, then the oldest."""
    able = [other for other in group if other.can_measure_for(member)]
    return tuple(sorted(able, key=lambda other: (-other.equipment, *other.seniority)))


def find_budget_group(member: Membership, members: Iterable[Membership]) -> tuple[Membership, ...]:
    """The guards of the namespace whose pools hold connections of the same server, the oldest first.

    Guards that cannot log in now are among them, with the server that they saw last: their pools hold on to their
    connections. A server that was restarted, or whose service leads to a new primary, is known by its address then. A
    guard that this process has not seen at any server yet is known by the host that its spec names, as that of another
    guard: the system alone would make a clone the same server.
    """
    system = member.server.system_identifier
    local = [
        other
        for other in members
        if other.uid != member.uid
        and other.namespace == member.namespace
        and other.server.system_identifier == system != ""
    ]
    found, added = [member], [member]
    while added:
        added = [other for other in local if other not in found and any(_is_linked(other, known) for known in added)]
        found.extend(added)
    endpoints = {known.endpoint for known in found}
    unplaced = [
        other for other in local if other not in found and not _is_placed(other) and other.endpoint in endpoints
    ]
    return sort_by_seniority([*found, *unplaced])


def sort_by_seniority(members: Iterable[Membership]) -> tuple[Membership, ...]:
    """The oldest first."""
    return tuple(sorted(members, key=lambda member: member.seniority))


def _is_claim_equal(one: Membership, other: Membership) -> bool:
    # Asked of all guards in each pass: the first part excludes most of them.
    is_same_system = one.server.system_identifier == other.server.system_identifier
    return is_same_system and is_same_server(one.server, other.server, is_same_namespace=True)


def _may_all_share(group: Sequence[Membership], candidates: Sequence[Membership]) -> bool:
    return all(one.may_share(other) for one in group for other in candidates)


def _is_placed(member: Membership) -> bool:
    return member.server.started_at is not None or member.server.address != ""


def _is_linked(one: Membership, other: Membership) -> bool:
    if not (_is_placed(one) and _is_placed(other)):
        return False
    is_same_address = one.server.address == other.server.address != ""
    return is_same_address or one.server.started_at == other.server.started_at is not None
