"""How far a replica is behind its primary, by the LSN round trip: marks of the primary against one probe.

A mark (t, L) says that everything the primary had flushed before `t` lies at or before `L`. A replica that has
replayed L at time `now` was therefore, at most, `now - t` behind; one that has not is at least `now - t` behind.
No clock is compared with another, and an idle primary gives a small lag because its canary moves the WAL.

A probe counts only if it was sent after the newest mark was taken: an older one says nothing about now. The round trip
is exact, so a replica leaves by seconds alone; to enter, bytes count too, since they foresee a replay that falls back.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from headroom.api.v1alpha1.serving import Readiness
from headroom.model.database import Mark, ReplicaProbe
from headroom.reasons import Reason

OLDEST_USABLE_MARK_SECONDS = 5.0
"""If the newest mark is older, the primary does not answer, and nothing is known about its replicas."""


@dataclass(frozen=True, slots=True)
class ReplayLag:
    """A replica's lag: `seconds` and `bytes`, never negative.

    `replayed` is the newest mark seen replayed and `replayed_within_seconds` how long that took at most; `pending` is
    the oldest mark not yet replayed. Hand the value to the next measurement as `previous`: a mark that was
    seen replayed at once then stays so between two marks, and a lag longer than the window of marks keeps growing.
    `is_bounded`: it is not more. If no known mark was replayed, the replica may lack much that is older than the first
    mark: after a change of leader or of the timeline, one that replays nothing would seem to be milliseconds behind.
    """

    seconds: float
    bytes: int
    replayed: Mark | None = None
    replayed_within_seconds: float = 0.0
    pending: Mark | None = None
    is_bounded: bool = True


@dataclass(frozen=True, slots=True)
class NotEligible:
    """The replica must not serve, even with a small lag: `reason` and `message` say why."""

    reason: Reason
    message: str


@dataclass(frozen=True, slots=True)
class LagUnknown:
    """The lag is not known: nothing changes."""

    reason: Reason
    message: str


LagVerdict = ReplayLag | NotEligible | LagUnknown


def measure_replay_lag(
    marks: Sequence[Mark],
    probe: ReplicaProbe,
    now_monotonic: float,
    *,
    previous: LagVerdict | None = None,
) -> LagVerdict:
    """Evaluate one probe of a replica by the primary's newest marks (oldest first).

    Lag = max(time the newest replayed mark took, now - time of the oldest mark not replayed); bytes = newest mark's LSN
    - replay LSN. Marks of another timeline than the newest are left out. The newest mark is the primary's position of
    this pass, read just before the probe: the time between the two is part of what is measured.
    """
    if not marks:
        return LagUnknown(Reason.READS_UNBOUNDED, "the primary has not been measured yet")
    newest = marks[-1]
    unfit = find_ineligibility(probe, newest.system_identifier, newest.timeline)
    if unfit is not None:
        return unfit
    age = now_monotonic - newest.taken_at
    if age > OLDEST_USABLE_MARK_SECONDS:
        return LagUnknown(Reason.READS_UNBOUNDED, f"the primary last answered {age:.0f} s ago")
    if probe.probed_at < newest.taken_at:
        return LagUnknown(Reason.REPLAY_LAG_UNKNOWN, "its answer is older than the primary's position")
    if probe.replay_lsn is None:
        return NotEligible(Reason.REPLAYING, "the replica has not replayed anything yet")
    known = previous if isinstance(previous, ReplayLag) else None
    return _measure(_same_history(marks, newest), probe, int(probe.replay_lsn), known)


def find_ineligibility(probe: ReplicaProbe, system_identifier: str, timeline: int) -> NotEligible | None:
    """Why a replica may not serve for a primary of that identity, or None when only its lag decides."""
    if probe.system_identifier != system_identifier:
        message = f"it is a copy of system {probe.system_identifier}, the primary is {system_identifier}"
        return NotEligible(Reason.FOREIGN_MEMBER, message)
    if not probe.is_in_recovery:
        return NotEligible(Reason.MEMBER_PROMOTED, "it has left recovery and accepts writes")
    if probe.timeline is None or not probe.is_streaming:
        return NotEligible(Reason.NOT_STREAMING, "its WAL receiver is not connected")
    if probe.timeline != timeline:
        message = f"it receives timeline {probe.timeline}, the primary writes timeline {timeline}"
        return NotEligible(Reason.TIMELINE_DIVERGED, message)
    return None


def _same_history(marks: Sequence[Mark], newest: Mark) -> list[Mark]:
    """Marks that may be compared with the newest: positions of another timeline mean other bytes."""
    return [
        mark
        for mark in marks
        if mark.timeline == newest.timeline and mark.system_identifier == newest.system_identifier
    ]


def _measure(marks: Sequence[Mark], probe: ReplicaProbe, replay: int, previous: ReplayLag | None) -> ReplayLag:
    at = probe.answered_at
    replayed = next((mark for mark in reversed(marks) if mark.lsn <= replay), None)
    pending = _find_pending(marks, replay, previous)
    within = _replayed_within(replayed, previous, at)
    waiting = max(0.0, at - pending.taken_at) if pending is not None else 0.0
    return ReplayLag(
        seconds=max(within, waiting),
        bytes=max(0, int(marks[-1].lsn) - replay),
        replayed=replayed,
        replayed_within_seconds=within,
        pending=pending,
        is_bounded=replayed is not None or _is_known_from_before(previous, pending),
    )


def _is_known_from_before(previous: ReplayLag | None, pending: Mark | None) -> bool:
    """The oldest mark that is not replayed was so before as well, and all that is older was seen replayed."""
    return previous is not None and previous.is_bounded and pending is not None and previous.pending == pending


def _replayed_within(replayed: Mark | None, previous: ReplayLag | None, at: float) -> float:
    if replayed is None:
        return 0.0
    if previous is not None and previous.replayed == replayed:
        return previous.replayed_within_seconds
    return max(0.0, at - replayed.taken_at)


def _find_pending(marks: Sequence[Mark], replay: int, previous: ReplayLag | None) -> Mark | None:
    """Oldest mark not replayed; the remembered one may be older than the window of marks."""
    pending = next((mark for mark in marks if mark.lsn > replay), None)
    remembered = previous.pending if previous is not None else None
    if remembered is None or remembered.lsn <= replay or not _same_history([remembered], marks[-1]):
        return pending
    return remembered if pending is None or remembered.taken_at < pending.taken_at else pending


def is_within(lag: LagVerdict | None, bounds: Readiness) -> bool:
    """Under both enter bounds, measured now; unknown is not within, and neither is a lag that may be more."""
    if not (isinstance(lag, ReplayLag) and lag.is_bounded):
        return False
    return lag.seconds <= bounds.max_replay_lag.total_seconds() and lag.bytes <= bounds.max_replay_backlog


def is_beyond(lag: LagVerdict | None, bounds: Readiness) -> bool:
    """Over the leave bound, which is in seconds; measured now, and unknown is not beyond."""
    return isinstance(lag, ReplayLag) and lag.seconds > bounds.eject_replay_lag.total_seconds()


def is_bounded(lag: LagVerdict | None) -> bool:
    """Measured now, and not more than that."""
    return isinstance(lag, ReplayLag) and lag.is_bounded


def describe_lag(lag: LagVerdict | None) -> str:
    """The reading as text."""
    if isinstance(lag, ReplayLag):
        least = "" if lag.is_bounded else "at least "
        return f"replay lag {least}{lag.seconds:.1f} s, {lag.bytes / 1024**2:.1f} MiB to replay"
    return (lag.message if lag else "") or "the replay lag is not known"


def describe_age(lag: ReplayLag, seconds_ago: float = 0.0) -> str:
    """How old the data is that a replica answers with, as a predicate: as measured now, or so many seconds ago."""
    age = f"data {'' if lag.is_bounded else 'at least '}{lag.seconds:.0f} s old"
    return f"served {age} when that was last known, {seconds_ago:.0f} s ago" if seconds_ago else f"serves {age}"


def describe_pause(probe: ReplicaProbe | None) -> str:
    """The text to add if a person, or a parameter below the primary's, has paused replay: only a person resumes it."""
    if probe is None or not probe.is_replay_paused:
        return ""
    return "; its replay is paused: read its log, then run SELECT pg_wal_replay_resume() on it"
