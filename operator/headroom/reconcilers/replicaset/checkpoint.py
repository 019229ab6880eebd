"""The part of a set's memory that outlives its process: status keeps it, and the next process restores it."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from headroom.model.condition_types import ConditionType
from headroom.model.conditions import Finding, Truth
from headroom.model.database import Lsn, Mark
from headroom.model.frozen import FrozenMap
from headroom.model.moments import Moment
from headroom.model.replica import MemberId
from headroom.model.timelines import WalPosition
from headroom.policy.replicaset.growth import Addition, Growth
from headroom.policy.replicaset.libraries import LibraryFault
from headroom.policy.replicaset.member_memory import Inherited
from headroom.policy.replicaset.members import LIBRARY_REASONS
from headroom.policy.replicaset.memory import Attempts, LeadTimes, SetMemory
from headroom.policy.replicaset.read_gain import MOST_PAUSE_SECONDS, Hold, ReadGain
from headroom.policy.replicaset.replay_lag import NotEligible, ReplayLag
from headroom.policy.replicaset.timeouts import ATTEMPTS_BEFORE_STALLED
from headroom.reasons import Reason

STREAM_LOSSES = (Reason.NOT_STREAMING, Reason.TIMELINE_DIVERGED, Reason.SLOT_LOST)
"""Reasons of a member's condition Streaming with which its data age."""


def checkpoint(memory: SetMemory) -> dict[str, Any]:
    """The part of status that `restore` reads back.

    Lost on purpose:

    * readings, streams, restarts, idle slots and the progress of copies: a new process counts again, and gives nothing
      up sooner; but a replica that lagged beyond its bound is not made younger by that
    * which volumes have no copy yet, and from which standbys a copy failed: pods and their seed steps tell it again
    * how fast copies are and how much WAL the primary writes: both are measured again
    * wanted counts: a stabilization window begins again
    * the moment of a failed attempt: it is waited out again
    * snapshots that failed, and when anchors were touched: the next snapshot is not waited for, nor is the next touch
    * single lead times: their 90th percentile stays
    * whether the primary was seen
    * which snapshots failed: they may fail twice more
    * how far each member got, and where the primary's timeline forked off: both are asked again
    * since when the primary has been on its timeline: whoever does not follow it gets its time again
    * activations: what a new process finds in the Service is confirmed, and the rest gets its time again
    * since when the number of sessions has not changed, and since when one is full that no other was added for
    * whether the replica that was added for a full member serves, and has sessions: both are looked at again
    * reads per second: a step is measured again, but what stopped growth is in `readLimit`

    Members in provisioning keep the failed attempts, and so does the condition Stalled once there are three. Each
    member names its slot. A full member says when another was decided on for it, and a member's conditions since when
    it has had no stream, and what was found of its libraries. Its entry also has its sessions and its last lag.
    It has the position that it lacked if it was more than it may lack to serve, and the timeline of which it had WAL:
    without a receiver, not every login can read that again.
    """
    lead_time = {
        "warmSeconds": memory.warm.p90,
        "volumeSnapshotSeconds": memory.volume_snapshot.p90,
        "baseBackupSeconds": memory.base_backup.p90,
    }
    return {
        "desiredReplicas": memory.desired,
        "startReplicas": memory.start_replicas,
        "systemIdentifier": memory.system_identifier,
        "timeline": memory.timeline or None,
        "leadTime": lead_time if any(value is not None for value in lead_time.values()) else None,
    }


def restore(status: Mapping[str, Any], now: Moment, *, name: str, uid: str, install_id: str) -> SetMemory:
    """The memory that a process begins with; `name` and `uid` are the set's, from which the names of slots derive."""
    lead_time = status.get("leadTime") or {}
    system = str(status.get("systemIdentifier") or "")
    inherited = {str(entry["name"]): _restore_readings(entry, system, now) for entry in status.get("members") or ()}
    return SetMemory(
        began_at=now.monotonic,
        inherited=FrozenMap(inherited),
        desired=status.get("desiredReplicas"),
        start_replicas=status.get("startReplicas"),
        system_identifier=status.get("systemIdentifier"),
        timeline=status.get("timeline") or 0,
        timeline_since=now.monotonic,
        positions=FrozenMap(_restore_positions(status)),
        warm=_restore_times(lead_time.get("warmSeconds")),
        volume_snapshot=_restore_times(lead_time.get("volumeSnapshotSeconds")),
        base_backup=_restore_times(lead_time.get("baseBackupSeconds")),
        attempts=_restore_attempts(status, now.monotonic),
        library_faults=_restore_library_faults(status),
        growth=_restore_growth(status, now),
        reads=_restore_reads(status, now),
        slot_names=_restore_slots(status, name, uid, install_id),
    )


def _restore_slots(status: Mapping[str, Any], name: str, uid: str, install_id: str) -> frozenset[str]:
    """Each member's slot as it was written: an installation with another id may have created it. Else the name that
    this one would give it.
    """
    found = set()
    for entry in status.get("members") or ():
        member = MemberId.parse_object(name, str(entry["name"]))
        derived = None if member is None else member.slot_name(install_id, uid)
        found.add(entry.get("slot") or derived)
    return frozenset(str(slot) for slot in found if slot is not None)


def format_position(mark: Mark) -> str:
    """A position of the primary in status."""
    return f"{mark.timeline}:{mark.lsn}"


def _restore_readings(entry: Mapping[str, Any], system_identifier: str, now: Moment) -> Inherited:
    """What the last readings of a member said, by the wall clocks of two processes."""
    lag, streaming = _restore_lag(entry, system_identifier, now), _find_stream_loss(entry)
    sessions = entry.get("sessions")
    if streaming is None:
        return Inherited(lag, sessions=sessions)
    refusal = NotEligible(Reason(streaming["reason"]), str(streaming.get("message", "")))
    return Inherited(lag, refusal, now.to_past(str(streaming["lastTransitionTime"])), sessions)


def _restore_lag(entry: Mapping[str, Any], system_identifier: str, now: Moment) -> ReplayLag | None:
    """The last lag of a member. One that lacked something may lack more, and lacks it still as far as anybody knows."""
    pending, seconds = _restore_unreplayed(entry, system_identifier, now), entry.get("replayLagSeconds")
    if pending is None and seconds is None:
        return None
    if seconds is None and pending is not None:
        seconds = now.monotonic - pending.taken_at
    size = int(entry.get("replayBacklogBytes", 0))
    return ReplayLag(float(seconds or 0.0), size, pending=pending, is_bounded=pending is None)


def _restore_unreplayed(entry: Mapping[str, Any], system_identifier: str, now: Moment) -> Mark | None:
    position, since = entry.get("unreplayedPosition"), entry.get("unreplayedSince")
    if position is None or since is None:
        return None
    timeline, _, lsn = str(position).partition(":")
    return Mark(now.to_past(str(since)), Lsn.parse(lsn), None, int(timeline), system_identifier)


def _restore_times(p90: float | None) -> LeadTimes:
    return LeadTimes() if p90 is None else LeadTimes().add(float(p90))


def _find_stream_loss(member: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The condition that says since when a member has had no stream of the primary; None if it had one."""
    streaming = _find_condition(member.get("conditions") or (), ConditionType.STREAMING)
    is_lost = streaming.get("status") == Truth.FALSE and streaming.get("reason") in STREAM_LOSSES
    return streaming if is_lost else None


def _restore_growth(status: Mapping[str, Any], now: Moment) -> Growth:
    """Else each new process would add one more replica for a full one."""
    entries = [entry for entry in status.get("members") or () if entry.get("fullAt")]
    full = {str(entry["name"]): now.to_past(entry["fullAt"]) for entry in entries}
    return Growth(FrozenMap((name, Addition(at)) for name, at in full.items()), full=FrozenMap(full))


def _restore_reads(status: Mapping[str, Any], now: Moment) -> ReadGain:
    """Else each new process would add two more replicas before it finds the limit again."""
    limit = status.get("readLimit")
    measured = [(int(entry["replicas"]), int(entry["readsPerSecond"])) for entry in (limit or {}).get("measured") or ()]
    # A status that was edited: growth stops only where somebody served, and read.
    if not limit or not measured or not all(count > 0 and rate > 0 for count, rate in measured):
        return ReadGain()
    # Not later than the longest pause: the clock of another process may have been ahead of ours.
    retry_at = min(now.to_monotonic(limit["retryAt"]), now.monotonic + MOST_PAUSE_SECONDS)
    pause = min(float(limit["pauseSeconds"]), MOST_PAUSE_SECONDS)
    return ReadGain(pressed_at=now.monotonic, hold=Hold(tuple(measured), retry_at, pause))


def _restore_library_faults(status: Mapping[str, Any]) -> FrozenMap[str, LibraryFault]:
    """Else a new process could put a member into the Service before it has read its libraries again."""
    found = {
        str(entry["name"]): _find_condition(entry.get("conditions") or (), ConditionType.CAUGHT_UP)
        for entry in status.get("members") or ()
    }
    return FrozenMap(
        (name, LibraryFault(None, Finding(Reason(condition["reason"]), condition.get("message", ""))))
        for name, condition in found.items()
        if condition.get("status") == Truth.FALSE and condition.get("reason") in LIBRARY_REASONS
    )


def _restore_positions(status: Mapping[str, Any]) -> dict[str, WalPosition]:
    """A lower bound: a member may have followed the primary to a later timeline since that was written."""
    entries = status.get("members") or ()
    return {str(entry["name"]): WalPosition(entry["timeline"]) for entry in entries if entry.get("timeline")}


def _restore_attempts(status: Mapping[str, Any], now: float) -> Attempts:
    attempts = Attempts(max((member.get("attempts", 0) for member in status.get("members") or ()), default=0))
    stalled = _find_condition(status.get("conditions") or (), ConditionType.STALLED)
    is_stalled = stalled.get("status") == Truth.TRUE and stalled.get("reason") == Reason.SEED_ATTEMPTS_EXHAUSTED
    if not is_stalled:
        return attempts
    failure = Finding(Reason.SEED_FAILED, stalled.get("message", ""))
    return replace(attempts, count=max(attempts.count, ATTEMPTS_BEFORE_STALLED), failed_at=now, failure=failure)


def _find_condition(conditions: Iterable[Mapping[str, Any]], kind: ConditionType) -> Mapping[str, Any]:
    return next((entry for entry in conditions if entry["type"] == kind), {})
