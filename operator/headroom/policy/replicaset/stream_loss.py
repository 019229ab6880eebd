"""Whether a member has lost its stream for good: it is broken, and waiting will not restore it.

Most of what breaks a stream is the primary's or the network's, and a new member would meet it too: a rejected password,
no WAL sender left, a restart. So time alone is not enough to give a member up. Either what the member would have to
receive is known not to be kept for it, or another member of the set streams while this one does not.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from datetime import timedelta

from headroom.model.conditions import Finding
from headroom.model.database import Lsn, ReplicaProbe
from headroom.model.timelines import find_position
from headroom.policy.replicaset import timeouts
from headroom.policy.replicaset.durations import Stopwatch, begin
from headroom.policy.replicaset.members import Member
from headroom.policy.replicaset.replay_lag import LagUnknown, LagVerdict, NotEligible
from headroom.reasons import Reason


@dataclass(frozen=True, slots=True)
class StreamHistory:
    """How long a pod's stream was seen broken; any WAL that arrives ends the count, and so does a stream that lasts.

    A silence pauses it, and so does a pass without the primary: a stream that is down is then not the member's fault.
    """

    position: int | None = None
    broken: Stopwatch = field(default_factory=Stopwatch)
    streams_since: float | None = None

    @property
    def broken_seconds(self) -> float:
        """As of the last pass."""
        return self.broken.counted

    def observe(self, probe: ReplicaProbe | None, lag: LagVerdict | None, now: float) -> "StreamHistory":
        """Take up one pass: the last answer, and the verdict on it, None if it is not of this pass."""
        if probe is None or lag is None or isinstance(lag, LagUnknown):
            streams_since = self.streams_since if probe is not None and probe.is_streaming else None
            return replace(self, broken=self.broken.pause(now), streams_since=streams_since)
        position = find_position(probe)
        has_moved = position != self.position
        if isinstance(lag, NotEligible) and lag.reason is Reason.NOT_STREAMING:
            broken = begin(now) if has_moved else self.broken.run(now, longest=timeouts.LONGEST_STEP_SECONDS)
            return StreamHistory(position, broken)
        since = self.streams_since if self.streams_since is not None else now
        is_restored = has_moved or now - since >= timeouts.STREAM_LASTS_SECONDS
        return StreamHistory(position, begin(now) if is_restored else self.broken.pause(now), since)


def find_streaming(members: Iterable[Member]) -> frozenset[str]:
    """Names of the members whose replay lag could be measured: they have a stream."""
    return frozenset(
        member.name for member in members if member.measured is not None and not (member.unanswered or member.is_going)
    )


def find_stream_loss(
    member: Member, *, has_witness: bool, flush_lsn: int | None, longest_wait: timedelta
) -> Finding | None:
    """Why a member cannot recover by itself; None while it may.

    `has_witness`: another one streams; `longest_wait`: how long queries may hold up replay.
    """
    if member.probe is not None and member.probe.is_replay_paused:
        return None
    gap = _describe_gap(member, flush_lsn)
    gap_limit = max(timeouts.GAP_LIMIT, longest_wait) if has_witness else timeouts.STREAM_LOSS_LIMIT
    if gap and member.broken_seconds >= gap_limit.total_seconds():
        return Finding(Reason.SLOT_LOST, gap)
    if not has_witness:
        return None
    if member.broken_seconds >= max(timeouts.STREAM_LOSS_LIMIT, longest_wait).total_seconds():
        message = f"it has not streamed for {member.broken_seconds:.0f} s while others do"
        return Finding(Reason.NOT_STREAMING, message)
    return find_held_vacuum(member, longest_wait)


def _describe_gap(member: Member, flush_lsn: int | None) -> str:
    """Why the WAL that a member needs next is gone; empty if it may be kept."""
    position, slot = find_position(member.probe), member.slot
    if position is None:
        return ""
    if slot is not None and slot.restart_lsn is not None and slot.restart_lsn > position:
        return (
            f"it holds WAL up to {Lsn(position)} and its slot {slot.name} keeps it from {slot.restart_lsn} on: the "
            "slot was dropped and recreated too late; let nobody else drop it (Patroni: ignore_slots)"
        )
    if flush_lsn is not None and position > flush_lsn:
        return f"it holds WAL up to {Lsn(position)} and the primary has written up to {Lsn(flush_lsn)} only"
    return ""


def find_held_vacuum(member: Member, longest_wait: timedelta) -> Finding | None:
    """An unused slot that holds back vacuum harms the primary; a server that is starting may still use it."""
    slot, limit = member.slot, max(timeouts.IDLE_XMIN_LIMIT, longest_wait).total_seconds()
    if slot is None or slot.is_active or not slot.has_xmin or member.slot_idle_seconds < limit:
        return None
    is_on_its_way = member.pod is not None and member.pod.server.is_running and member.broken_seconds < limit
    if is_on_its_way:
        return None
    message = f"its slot {slot.name} has been unused for {member.slot_idle_seconds:.0f} s and holds back vacuum"
    return Finding(Reason.NOT_STREAMING, f"{message} on the primary")
