"""Which serving members may answer with old data: said for each of them, whatever is done about it."""

from collections.abc import Collection, Sequence

from headroom.api.v1alpha1.serving import Readiness
from headroom.model.conditions import Finding
from headroom.model.replica import Role
from headroom.policy.replicaset.ejection import NAMED
from headroom.policy.replicaset.members import EvaluatedMember, Member, describe_stale
from headroom.policy.replicaset.replay_lag import is_beyond, is_within
from headroom.policy.replicaset.timeouts import LAG_UNKNOWN_NOTICE, PROBE_PERIOD
from headroom.reasons import Reason


def find_stale_reads(
    members: Sequence[EvaluatedMember], bounds: Readiness, lag_panic: str, panicked: Collection[str] = ()
) -> Finding | None:
    """Why reads may be stale.

    `lag_panic` is what the plan says of those that are kept, the `panicked`. One that was seen beyond its bound is
    named until a reading refutes that: a silence does not.
    """
    serving = [member.facts for member in members if member.facts.role is Role.SERVING and member.facts.is_alive]
    beyond = [facts for facts in serving if facts.beyond or is_beyond(facts.lag, bounds)]
    others = sorted((facts for facts in beyond if facts.name not in panicked), key=_seconds, reverse=True)
    unknown = [facts for facts in serving if facts not in beyond and _is_unknown_for_long(facts, bounds)]
    parts = (
        lag_panic,
        _join([f"{facts.name} {describe_stale(facts)}" for facts in others]),
        _join([_describe_unknown(facts) for facts in unknown]),
    )
    message = "; ".join(filter(None, parts))
    if not message:
        return None
    if lag_panic:
        return Finding(Reason.LAG_PANIC, message)
    return Finding(Reason.REPLAY_LAG_ABOVE_LIMIT if beyond else Reason.REPLAY_LAG_UNKNOWN, message)


def describe_unstreamed(members: Sequence[EvaluatedMember], bounds: Readiness) -> str:
    """Names all that have served without a stream for as long as the bound; empty if there is none."""
    serving = [member.facts for member in members if member.facts.role is Role.SERVING]
    bound = bounds.eject_replay_lag.total_seconds()
    cut_off = [
        (facts.name, facts.refusal.message) for facts in serving if facts.refusal and facts.unstreamed_age >= bound
    ]
    if not cut_off:
        return ""
    verb, causes = "serves" if len(cut_off) == 1 else "serve", dict.fromkeys(cause for _, cause in cut_off)
    names = _join([name for name, _ in cut_off])
    return f"{names} still {verb} without a stream, since no other can: {', '.join(causes)}"


def find_others(members: Sequence[EvaluatedMember], unstreamed: str, stale: Finding | None) -> str:
    """What to add about stale reads of members that have a stream; empty if there is no such member."""
    serving = [member.name for member in members if member.facts.role is Role.SERVING]
    is_new = stale is not None and any(name in stale.message and name not in unstreamed for name in serving)
    return f"; {stale.message}" if stale is not None and is_new else ""


def _is_unknown_for_long(facts: Member, bounds: Readiness) -> bool:
    """Its data may have passed the bound since its lag was last measured, or nobody has known the lag for too long."""
    return _may_be_old(facts, bounds) or facts.judged_seconds >= LAG_UNKNOWN_NOTICE.total_seconds()


def _may_be_old(facts: Member, bounds: Readiness) -> bool:
    """Whoever is ineligible, as without a stream, ages from its last measured lag on, also through a silence of the
    primary. Of others a silence says that only if they lagged.
    """
    if facts.refusal is not None:
        return facts.age >= bounds.eject_replay_lag.total_seconds()
    has_lagged = facts.unmeasured_seconds > 0 and not is_within(facts.last_lag, bounds)
    return has_lagged and facts.age >= (bounds.eject_replay_lag + PROBE_PERIOD).total_seconds()


def _describe_unknown(facts: Member) -> str:
    if facts.judged_seconds < LAG_UNKNOWN_NOTICE.total_seconds() and facts.last_lag is not None:
        known = f"{facts.last_lag.seconds:.0f} s when last measured, {facts.unmeasured_seconds:.0f} s ago"
        cause = f"; {facts.refusal.message}" if facts.refusal is not None else ""
        return f"{facts.name} may serve data {facts.age:.0f} s old: its replay lag was {known}{cause}"
    lag, seconds = facts.measured, f"{facts.judged_seconds:.0f} s"
    if lag is not None and not lag.is_bounded:
        least = f"at least {lag.seconds:.0f} s"
        return f"the replay lag of {facts.name} is {least}, and how much it is has not been known for {seconds}"
    cause = f": {facts.silence}" if facts.silence else ""
    return f"the replay lag of {facts.name} has not been known for {seconds}{cause}"


def _seconds(facts: Member) -> float:
    lag = facts.stale or facts.measured
    return lag.seconds if lag is not None else 0.0


def _join(parts: Sequence[str]) -> str:
    more = [f"{len(parts) - NAMED} more"] if len(parts) > NAMED else []
    return ", ".join([*parts[:NAMED], *more])
