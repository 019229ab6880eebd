"""Which serving members may answer with old data: said for each of them, whatever is done about it."""

from collections.abc import Sequence

from headroom.api.v1alpha1.serving import Readiness
from headroom.model.conditions import Finding
from headroom.model.replica import Role
from headroom.policy.replicaset.ejection import NAMED
from headroom.policy.replicaset.members import EvaluatedMember, Member
from headroom.policy.replicaset.replay_lag import describe_pause, is_beyond
from headroom.policy.replicaset.timeouts import LAG_UNKNOWN_NOTICE
from headroom.reasons import Reason


def find_stale_reads(members: Sequence[EvaluatedMember], bounds: Readiness, lag_panic: str) -> Finding | None:
    """Why reads may be stale while the primary answers; `lag_panic` is what the plan says of those that are kept."""
    serving = [member.facts for member in members if member.facts.role is Role.SERVING and member.facts.is_alive]
    beyond = sorted((facts for facts in serving if is_beyond(facts.lag, bounds)), key=_seconds, reverse=True)
    unknown = [facts for facts in serving if facts.judged_seconds >= LAG_UNKNOWN_NOTICE.total_seconds()]
    stale = lag_panic or _join(
        [f"{f.name} serves data {_seconds(f):.0f} s old{describe_pause(f.probe)}" for f in beyond]
    )
    blind = _join([_describe_unknown(facts) for facts in unknown])
    message = "; ".join(part for part in (stale, blind) if part)
    if not message:
        return None
    if lag_panic:
        return Finding(Reason.LAG_PANIC, message)
    return Finding(Reason.REPLAY_LAG_ABOVE_LIMIT if beyond else Reason.REPLAY_LAG_UNKNOWN, message)


def _describe_unknown(facts: Member) -> str:
    cause = f": {facts.silence}" if facts.silence else ""
    return f"the replay lag of {facts.name} has not been known for {facts.judged_seconds:.0f} s{cause}"


def _seconds(facts: Member) -> float:
    return facts.measured.seconds if facts.measured is not None else 0.0


def _join(parts: Sequence[str]) -> str:
    more = [f"{len(parts) - NAMED} more"] if len(parts) > NAMED else []
    return ", ".join([*parts[:NAMED], *more])
