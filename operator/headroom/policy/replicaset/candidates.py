"""Who could be put into the Service in this pass, and how many are needed.

While the primary answers, only members within the enter bounds are candidates. While it does not, no lag can be
measured: then one that was within them when the primary was last heard may replace one that is dead, since an old
answer is better than none. `ReadsMayBeStale` is True in that time. A new process knows the last lags from the status.
"""

from collections.abc import Sequence

from headroom.model.replica import Role, Stage
from headroom.policy.replicaset import timeouts
from headroom.policy.replicaset.drain import BY_CHOICE
from headroom.policy.replicaset.members import EvaluatedMember, Member, may_lag_more
from headroom.policy.replicaset.replay_lag import OLDEST_USABLE_MARK_SECONDS, is_within
from headroom.policy.replicaset.targets import Targets, is_drifted


def rank_candidates(staying: Sequence[EvaluatedMember], targets: Targets) -> list[EvaluatedMember]:
    """Who could serve now, least lag first; members of an older template last, so that a swap makes progress."""
    if targets.no_activation:
        return []
    return rank_fit(staying, targets)


def rank_fit(staying: Sequence[EvaluatedMember], targets: Targets) -> list[EvaluatedMember]:
    """The same, whether or not one of them may be put into the Service."""

    def rank(member: EvaluatedMember) -> tuple[bool, float, int, int]:
        lag = member.facts.measured
        seconds, backlog = (lag.seconds, lag.bytes) if lag is not None else (0.0, 0)
        return is_drifted(member, targets), seconds, backlog, member.facts.id.ordinal

    return sorted((member for member in staying if _is_fit(member, targets)), key=rank)


def _is_fit(member: EvaluatedMember, targets: Targets) -> bool:
    facts = member.facts
    if not facts.is_alive or facts.pod is None or not facts.pod.is_ready or facts.unanswered or facts.is_resting:
        return False
    if not (is_within(facts.lag, targets.bounds) or _was_within(facts, targets)):
        return False
    if facts.role is Role.DRAINING:
        return facts.pod.why in BY_CHOICE and not facts.has_other_libraries
    return facts.role is Role.STANDBY and member.verdict.stage is Stage.STANDBY


def _was_within(facts: Member, targets: Targets) -> bool:
    """Within the enter bounds when the primary was last heard, by a replica that still is one."""
    if targets.has_primary or targets.outage_seconds is None:
        return False
    is_recent = facts.judged_seconds <= targets.outage_seconds + OLDEST_USABLE_MARK_SECONDS
    is_replica = facts.probe is not None and facts.probe.is_in_recovery
    return is_recent and is_replica and is_within(facts.judged, targets.bounds)


def count_dead(staying: Sequence[EvaluatedMember], targets: Targets) -> int:
    """Places to fill while the primary does not answer: those of dead members; nothing is scaled out in that time."""
    serving = [member.facts for member in staying if member.facts.role is Role.SERVING]
    dead = sum(map(_is_dead, serving))
    living = len(serving) - dead
    missing = max(targets.desired - living, 0)
    return min(missing, max(dead, 0 if living else 1))


def _is_dead(facts: Member) -> bool:
    is_ready = facts.is_alive and facts.pod is not None and facts.pod.is_ready
    return not is_ready or facts.unanswered >= timeouts.PROBES_TO_LEAVE


def count_swapped(good: Sequence[EvaluatedMember], candidates: Sequence[EvaluatedMember], targets: Targets) -> int:
    """One more than wanted, for a moment: a member of the present template joins before an older one leaves, and one
    whose lag is known before one that may lag by any time.
    """
    has_old = any(is_drifted(member, targets) for member in good)
    has_new = any(not is_drifted(member, targets) for member in candidates)
    has_blind = bool(candidates) and any(may_lag_more(member.facts) for member in good)
    is_swap = (has_old and has_new) or has_blind
    return 1 if len(good) == targets.desired and is_swap and targets.has_primary else 0
