"""What another timeline of the primary means for the members: who can follow, who never can, and whose turn it is.

A member that replayed WAL past the point where the primary's timeline forked off has rows that the primary does not
have. It never serves again, and is rebuilt; but only one at a time, since a failover may have left all of them there. A
member that holds nothing past that point follows by itself within seconds, and is kept. If it does not, it still
streams from the old primary: its server is restarted, so that it connects to the new one.

A member that received past that point and did not replay it so far may do either: a primary that crashes leaves half a
record, which nobody replays. Nobody knows either of one whose timeline is not known. It waits for a minute, and is then
replaced like any other that does not come back.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime

from headroom.model.conditions import Finding
from headroom.model.database import Mark, ReplicaProbe
from headroom.model.replica import Role
from headroom.model.timelines import FIRST_TIMELINE, NOWHERE, TimelineHistory, WalPosition, read_position
from headroom.policy.replicaset import timeouts
from headroom.policy.replicaset.facts import Answer, MemberFacts
from headroom.policy.replicaset.members import EvaluatedMember, Member
from headroom.policy.replicaset.targets import Targets
from headroom.reasons import Reason


def observe_positions(
    before: Mapping[str, WalPosition], found: Iterable[MemberFacts], system_identifier: str | None
) -> dict[str, WalPosition]:
    """The furthest that each member was ever seen, by name: a restarted server, or another pod, has the same volume."""
    after = {}
    for member in found:
        known, probe = before.get(member.name), _find_probe(member, system_identifier)
        position = known if probe is None else known.observe(probe) if known is not None else read_position(probe)
        if position is not None:
            after[member.name] = position
    return after


def _find_probe(member: MemberFacts, system_identifier: str | None) -> ReplicaProbe | None:
    """What a replica of this system answered. A late answer is as good: a volume never holds less than it did."""
    reading = member.reading
    probe = reading.probe if isinstance(reading, Answer) else reading.late if reading is not None else None
    is_other = probe is not None and system_identifier not in (None, probe.system_identifier)
    return None if probe is None or is_other or not probe.is_in_recovery else probe


def must_know_history(positions: Mapping[str, WalPosition], found: Sequence[MemberFacts], primary: Mark) -> bool:
    """Whether a member may be on an earlier timeline than the primary: only then the fork decides anything."""
    now = observe_positions(positions, found, primary.system_identifier)
    is_unknown = any(
        member.name not in now and _find_probe(member, primary.system_identifier) is not None for member in found
    )
    is_earlier = any(position.timeline < primary.timeline for position in now.values())
    return is_earlier or (is_unknown and primary.timeline > FIRST_TIMELINE)


def find_divergence(position: WalPosition | None, history: TimelineHistory | None) -> Finding | None:
    """Why a member that got so far can never follow the timeline that `history` led to; None if it can, or may."""
    if position is None or history is None or position.timeline >= history.timeline:
        return None
    end, has = history.find_end(position.timeline), f"WAL of timeline {position.timeline}"
    if end is None:
        cause = f"it holds {has}, from which the primary's timeline {history.timeline} does not descend"
    elif position.replayed > end:
        fork = f"the primary's timeline {history.timeline} forked off at {end}"
        cause = f"it replayed {has} up to {position.replayed}, and {fork}"
    else:
        return None
    return Finding(Reason.TIMELINE_DIVERGED, f"{cause}: it may have rows that the primary lost, and is rebuilt")


def may_follow(position: WalPosition | None, history: TimelineHistory | None) -> bool:
    """Whether it is known that a member on an earlier timeline can follow the primary's."""
    if position is None or history is None or not position.timeline < history.timeline:
        return False
    end = history.find_end(position.timeline)
    return end is not None and NOWHERE < position.held <= end


def has_not_followed(member: Member) -> bool:
    """It has had time to follow the primary, and does not."""
    limit = timeouts.DIVERGED_LIMIT.total_seconds()
    if member.behind_seconds is None or member.ineligible is None:
        return False
    if member.ineligible.reason is Reason.TIMELINE_DIVERGED:
        return member.refused_seconds > limit
    # If the fork cannot be read, what keeps its stream down may be the same, and a new copy would meet it too. One that
    # replays what it has may come to the end of it.
    is_cut_off = member.ineligible.reason is Reason.NOT_STREAMING and member.broken_seconds > limit
    return is_cut_off and member.is_fork_known


def is_diverged(member: EvaluatedMember) -> bool:
    """It can never follow the primary again."""
    return member.verdict.is_failed and member.verdict.reason is Reason.TIMELINE_DIVERGED


def find_under_way(staying: Sequence[EvaluatedMember]) -> EvaluatedMember | None:
    """One that does not follow the new timeline yet, or never will: no time to scale in.

    It holds that up for a minute only, unless it is to be rebuilt: one that cannot be asked would never end that.
    """
    limit = timeouts.DIVERGED_LIMIT.total_seconds()
    behind = ((member, member.facts.behind_seconds) for member in staying)
    recent = (member for member, seconds in behind if seconds is not None and seconds <= limit)
    return next(recent, None) or next(filter(is_diverged, staying), None)


def is_being_rebuilt(member: Member, now: datetime) -> bool:
    """It was given up since it diverged, and its server has not ended. A pod that outlives its end is on a node that
    does not answer, and nobody waits for that.
    """
    claim, pod = member.claim, member.pod
    if claim is None or claim.retire is not Reason.TIMELINE_DIVERGED or pod is None or pod.is_ended:
        return False
    return pod.ends_at is None or now <= pod.ends_at


def choose_diverged(staying: Sequence[EvaluatedMember], targets: Targets) -> EvaluatedMember | None:
    """The one whose turn it is: new ones, standbys, then those that have left the Service.

    The next one waits until the one before has gone (`is_being_rebuilt`) and was replaced by a member that streams.
    Whatever went wrong with the primary may meet the copy too, and then the volumes that are left are all there is.
    """
    if not (targets.has_primary and targets.may_replace):
        return None
    diverged = [member for member in staying if is_diverged(member) and member.facts.role is not Role.SERVING]
    new = [member for member in staying if member.facts.role in (None, Role.PROVISIONING)]
    if new or len(staying) < targets.wanted:
        return next((member for member in diverged if member in new), None)
    return min(diverged, key=lambda member: (member.facts.role is Role.DRAINING, member.facts.id), default=None)


def choose_reconnected(remaining: Sequence[EvaluatedMember], targets: Targets) -> tuple[str, ...]:
    """Names of members that could follow and still stream from the old primary: their pods are recreated.

    With each write there one more of them gets past the fork. One that serves goes last, if no other is left to take
    over: until then stale reads are better than none.
    """
    if not targets.has_primary:
        return ()
    left = [member for member in remaining if _streams_from_old(member.facts)]
    free = [member for member in left if member.facts.role is not Role.SERVING]
    if free or any(_is_spare(member.facts) for member in remaining):
        return tuple(member.name for member in free)
    limit = timeouts.DIVERGED_LIMIT.total_seconds()
    serving = [member.facts for member in remaining if member.facts.role is Role.SERVING]
    is_alone = all(facts in [member.facts for member in left] and facts.refused_seconds >= limit for facts in serving)
    return (left[0].name,) if left and is_alone else ()


def _streams_from_old(facts: Member) -> bool:
    refusal, limit = facts.ineligible, timeouts.RECONNECT_LIMIT.total_seconds()
    is_on_old = refusal is not None and refusal.reason is Reason.TIMELINE_DIVERGED
    return is_on_old and facts.can_follow and facts.is_alive and facts.refused_seconds >= limit


def _is_spare(facts: Member) -> bool:
    return facts.is_alive and facts.role in (Role.STANDBY, Role.PROVISIONING)
