"""What another timeline of the primary means for the members: who can follow, who never can, and whose turn it is.

A member that received or replayed WAL past the point where the primary's timeline forked off has rows that the primary
does not have. It never serves again, and is rebuilt; but only one at a time, since a failover may have left all of them
there. A member that is not past that point follows by itself within seconds, and is kept. If it does not, it still
streams from the old primary: its server is restarted, so that it connects to the new one.
"""

from collections.abc import Iterable, Mapping, Sequence

from headroom.model.conditions import Finding
from headroom.model.database import Mark
from headroom.model.replica import Role
from headroom.model.timelines import TimelineHistory, WalPosition, advance_all, read_position
from headroom.policy.replicaset import timeouts
from headroom.policy.replicaset.facts import Answer, MemberFacts
from headroom.policy.replicaset.members import EvaluatedMember, Member
from headroom.policy.replicaset.targets import Targets
from headroom.reasons import Reason


def observe_positions(
    before: Mapping[str, WalPosition], found: Iterable[MemberFacts], system_identifier: str | None
) -> dict[str, WalPosition]:
    """The furthest that each member was ever seen, by name: a restarted server, or another pod, has the same volume."""
    return advance_all(before, {member.name: _read(member, system_identifier) for member in found})


def _read(member: MemberFacts, system_identifier: str | None) -> WalPosition | None:
    """A late answer is as good: a volume never holds less than it did."""
    reading = member.reading
    probe = reading.probe if isinstance(reading, Answer) else reading.late if reading is not None else None
    if probe is None or system_identifier not in (None, probe.system_identifier):
        return None
    return read_position(probe)


def must_know_history(positions: Mapping[str, WalPosition], found: Iterable[MemberFacts], primary: Mark) -> bool:
    """Whether a member was last seen on an earlier timeline than the primary's: only then the fork decides anything."""
    now = observe_positions(positions, found, primary.system_identifier)
    return any(position.timeline < primary.timeline for position in now.values())


def find_divergence(position: WalPosition | None, history: TimelineHistory | None) -> Finding | None:
    """Why a member that got so far can never follow the timeline that `history` led to; None if it can, or may."""
    if position is None or history is None or position.timeline >= history.timeline:
        return None
    end, held = history.find_end(position.timeline), f"it holds WAL of timeline {position.timeline}"
    if end is None:
        cause = f"{held}, from which the primary's timeline {history.timeline} does not descend"
    elif position.lsn > end:
        cause = f"{held} up to {position.lsn}, and the primary's timeline {history.timeline} forked off at {end}"
    else:
        return None
    return Finding(Reason.TIMELINE_DIVERGED, f"{cause}: it may have rows that the primary lost, and is rebuilt")


def may_follow(position: WalPosition | None, history: TimelineHistory | None) -> bool:
    """Whether it is known that a member on an earlier timeline can follow the primary's."""
    is_earlier = position is not None and history is not None and position.timeline < history.timeline
    return is_earlier and find_divergence(position, history) is None


def is_diverged(member: EvaluatedMember) -> bool:
    """It can never follow the primary again."""
    return member.verdict.is_failed and member.verdict.reason is Reason.TIMELINE_DIVERGED


def is_under_way(staying: Iterable[EvaluatedMember]) -> bool:
    """Members are left that do not follow the new timeline yet, or never will: no time to scale in."""
    return any(member.facts.can_follow or is_diverged(member) for member in staying)


def choose_diverged(staying: Sequence[EvaluatedMember], targets: Targets) -> EvaluatedMember | None:
    """The one whose turn it is: new ones, standbys, then those that have left the Service.

    The next one waits until the one before was replaced by a member that streams: whatever went wrong with the primary
    may meet the copy too, and then the volumes that are left are all there is.
    """
    if not (targets.has_primary and targets.may_replace):
        return None
    diverged = [member for member in staying if is_diverged(member) and member.facts.role is not Role.SERVING]
    new = [member for member in staying if member.facts.role in (None, Role.PROVISIONING)]
    if new or len(staying) < targets.desired + targets.standbys:
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
