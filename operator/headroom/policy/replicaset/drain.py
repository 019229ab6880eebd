"""How the sessions of a member end once it takes no new connections."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from headroom.model.replica import PodFacts
from headroom.policy.replicaset import timeouts
from headroom.policy.replicaset.members import Member
from headroom.reasons import Reason

BY_CHOICE = frozenset({Reason.REPLICAS_SET, Reason.UTILIZATION_BELOW_TARGET, Reason.DRAINING})
"""Reasons that leave the member fit to serve: running statements may end by themselves, and it may serve again."""


class DrainStep(StrEnum):
    """What to do with the sessions of a draining member now."""

    WAIT = "Wait"
    END_IDLE = "EndIdle"
    END_ALL = "EndAll"
    STOP = "Stop"
    """Its time is over and it does not answer: only the end of its pod ends its sessions."""
    DONE = "Done"


@dataclass(frozen=True, slots=True)
class DrainLimits:
    """How long sessions may continue after scale-in, and after an ejection."""

    timeout: timedelta
    eject_grace: timedelta


def decide_drain(member: Member, limits: DrainLimits, now: datetime) -> DrainStep:
    """By choice: sessions may leave until the timeout. Ejected: idle ones end at once, all after the grace, even while
    the Service still lists the member; before that an idle one would only come back.
    """
    pod = member.pod
    if pod is None or pod.is_ended or pod.is_deleting:
        return DrainStep.DONE
    elapsed = _count_elapsed(member, pod, now)
    is_by_choice = pod.why in BY_CHOICE
    limit = limits.timeout if is_by_choice else limits.eject_grace
    answers = member.probe is not None and not member.unanswered
    is_empty = answers and member.sessions == 0
    has_settled = not member.is_listed and elapsed >= timeouts.DRAIN_SETTLES
    is_over = elapsed > limit + timeouts.DRAIN_ENDING_LIMIT
    if has_settled and (is_empty or (is_over and answers)):
        return DrainStep.DONE
    if is_over and (member.is_full or member.unanswered >= timeouts.PROBES_TO_LEAVE):
        return DrainStep.STOP
    if is_empty or (is_by_choice and not has_settled):
        return DrainStep.WAIT
    if elapsed >= limit:
        return DrainStep.END_ALL
    return DrainStep.WAIT if is_by_choice or member.is_listed else DrainStep.END_IDLE


def _count_elapsed(member: Member, pod: PodFacts, now: datetime) -> timedelta:
    """How long it has drained. Only for what another process began the wall clock tells, which may be set at any time;
    and that is never less than what this one has seen.
    """
    seen = timedelta(seconds=member.drain_seconds)
    return seen if member.saw_drain_begin else max(now - (pod.draining_since or now), seen)
