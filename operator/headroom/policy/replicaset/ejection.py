"""Which serving members must leave the read Service, and when that is too dangerous.

Order of rank: disowned (never serves, whatever it costs) > unreachable, not streaming or due for replacement (never the
last) > lag (only if the rest can carry the load).
"""

from collections.abc import Sequence
from dataclasses import dataclass

from headroom.api.v1alpha1.serving import OnLagPanic, Readiness
from headroom.model.numbers import count_of
from headroom.model.replica import Role
from headroom.policy.replicaset import timeouts
from headroom.policy.replicaset.members import EvaluatedMember
from headroom.policy.replicaset.replay_lag import ReplayLag
from headroom.reasons import Reason

CARRIES = 0.90
"""The rest may take over if they stay below this share of their connections."""


@dataclass(frozen=True, slots=True)
class Ejection:
    """A serving member that leaves the Service, and why."""

    name: str
    reason: Reason
    message: str


@dataclass(frozen=True, slots=True)
class Ejections:
    """Who leaves, who serves well, and why members beyond the bound stay if there are no others."""

    gone: tuple[Ejection, ...]
    good: tuple[EvaluatedMember, ...]
    lag_panic: str = ""


def decide_ejections(
    members: Sequence[EvaluatedMember], *, desired: int, bounds: Readiness, has_primary: bool, has_substitute: bool
) -> Ejections:
    """Evaluate the serving members; `has_substitute` says that a standby within the bounds is about to join them."""
    serving = [member for member in members if member.facts.role is Role.SERVING and member.facts.is_alive]
    disowned = [member for member in serving if member.verdict.is_failed]
    rest = [member for member in serving if member not in disowned]
    gone = [Ejection(member.name, member.verdict.reason, member.verdict.message) for member in disowned]
    broken = [member for member in rest if has_primary and _find_breakage(member, bounds) is not None]
    fit = [member for member in rest if member not in broken]
    lagging = [member for member in fit if member.facts.beyond >= timeouts.READINGS_TO_LEAVE]
    good = [member for member in fit if member not in lagging and _is_reachable(member)]
    if good:
        gone += [_broken_ejection(member, bounds) for member in broken]
    late, lag_panic = _eject_lagging(lagging, good, desired=desired, bounds=bounds, has_substitute=has_substitute)
    return Ejections((*gone, *late), tuple(good), lag_panic)


def _eject_lagging(
    lagging: Sequence[EvaluatedMember],
    good: Sequence[EvaluatedMember],
    *,
    desired: int,
    bounds: Readiness,
    has_substitute: bool,
) -> tuple[list[Ejection], str]:
    if not lagging:
        return [], ""
    worst_first = sorted(lagging, key=lambda member: -(_seconds(member)))
    gone = [_late_ejection(member) for member in worst_first]
    least = max(1, min(bounds.min_serving, desired))
    if len(good) >= max(desired, least) or (len(good) >= least and _can_carry(good, lagging)):
        return gone, ""
    if has_substitute:
        return [], ""
    message = (
        f"{count_of(len(lagging), 'replica lags', 'replicas lag')} and the other {len(good)} could not carry their load"
    )
    if bounds.on_lag_panic is OnLagPanic.EJECT:
        return gone if good else gone[:-1], message
    return [], message


def _can_carry(good: Sequence[EvaluatedMember], lagging: Sequence[EvaluatedMember]) -> bool:
    probes = [member.facts.probe for member in (*good, *lagging)]
    sessions = sum(probe.sessions for probe in probes if probe is not None)
    capacity = sum(member.facts.probe.max_connections for member in good if member.facts.probe is not None)
    return sessions < CARRIES * capacity


def _find_breakage(member: EvaluatedMember, bounds: Readiness) -> Reason | None:
    facts = member.facts
    if member.verdict.is_due_for_replacement:
        return member.verdict.reason
    if facts.unanswered >= timeouts.PROBES_TO_LEAVE:
        return Reason.MEMBER_UNREACHABLE
    if facts.ineligible is None:
        return None
    # A replica without a stream falls behind by a second each second.
    return facts.ineligible.reason if facts.refused_seconds >= bounds.eject_replay_lag.total_seconds() else None


def _is_reachable(member: EvaluatedMember) -> bool:
    return member.facts.pod is not None and member.facts.pod.is_ready


def _broken_ejection(member: EvaluatedMember, bounds: Readiness) -> Ejection:
    reason = _find_breakage(member, bounds) or Reason.MEMBER_UNREACHABLE
    if member.verdict.is_due_for_replacement:
        return Ejection(member.name, reason, member.verdict.message)
    lag = member.facts.lag
    message = "" if lag is None or isinstance(lag, ReplayLag) else lag.message
    return Ejection(member.name, reason, message or "it does not answer probes")


def _late_ejection(member: EvaluatedMember) -> Ejection:
    return Ejection(member.name, Reason.REPLAY_LAG_ABOVE_LIMIT, member.verdict.message)


def _seconds(member: EvaluatedMember) -> float:
    measured = member.facts.measured
    return measured.seconds if measured is not None else 0.0
