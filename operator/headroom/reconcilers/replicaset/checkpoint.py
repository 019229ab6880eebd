"""The part of a set's memory that outlives its process: status keeps it, and the next process restores it."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from headroom.model.conditions import Finding, Truth
from headroom.model.moments import Moment
from headroom.model.replica import MemberId
from headroom.policy.replicaset.growth import Growth
from headroom.policy.replicaset.libraries import LibraryFault
from headroom.policy.replicaset.members import LIBRARY_REASONS
from headroom.policy.replicaset.memory import Attempts, LeadTimes, SetMemory
from headroom.policy.replicaset.timeouts import ATTEMPTS_BEFORE_STALLED
from headroom.reasons import ConditionType, Reason


def checkpoint(memory: SetMemory) -> dict[str, Any]:
    """The part of status that `restore` reads back.

    Lost on purpose:

    * readings, streams, restarts, idle slots and the progress of copies: a new process counts again, and gives nothing
      up sooner
    * wanted counts: a stabilization window begins again
    * the moment of a failed attempt: it is waited out again
    * single lead times: their 90th percentile stays
    * whether the primary was seen
    * how far each member got, and where the primary's timeline forked off: both are asked again
    * activations: what a new process finds in the Service is confirmed, and the rest gets its time again
    * since when the number of sessions has not changed

    Members in provisioning keep the failed attempts, and so does the condition Stalled once there are three. The names
    of slots are those of the members. A full member says since when another was added for it, and a member's conditions
    since when it has had no stream, and what was found of its libraries.
    """
    lead_time = {"warmSeconds": memory.warm.p90, "baseBackupSeconds": memory.base_backup.p90}
    return {
        "desiredReplicas": memory.desired,
        "systemIdentifier": memory.system_identifier,
        "timeline": memory.timeline or None,
        "leadTime": lead_time if any(value is not None for value in lead_time.values()) else None,
    }


def restore(status: Mapping[str, Any], now: Moment, *, name: str, uid: str, install_id: str) -> SetMemory:
    """The memory that a process begins with; `name` and `uid` are the set's, from which the names of slots derive."""
    lead_time = status.get("leadTime") or {}
    inherited = {str(entry["name"]): _restore_stream_loss(entry, now) for entry in status.get("members") or ()}
    ids = (MemberId.parse_object(name, member) for member in inherited)
    return SetMemory(
        began_at=now.monotonic,
        inherited=inherited,
        desired=status.get("desiredReplicas"),
        system_identifier=status.get("systemIdentifier"),
        timeline=status.get("timeline") or 0,
        warm=_restore_times(lead_time.get("warmSeconds")),
        base_backup=_restore_times(lead_time.get("baseBackupSeconds")),
        attempts=_restore_attempts(status, now.monotonic),
        library_faults=_restore_library_faults(status),
        growth=Growth(_restore_asked(status, now)),
        slot_names=frozenset(member.slot_name(install_id, uid) for member in ids if member is not None),
    )


def _restore_times(p90: float | None) -> LeadTimes:
    return LeadTimes() if p90 is None else LeadTimes().add(float(p90))


def _restore_stream_loss(member: Mapping[str, Any], now: Moment) -> float | None:
    """The second since which a member has had no stream, by its condition; None if it had one."""
    streaming = _find_condition(member.get("conditions") or (), ConditionType.STREAMING)
    if streaming.get("status") != Truth.FALSE or streaming.get("reason") != Reason.NOT_STREAMING:
        return None
    return now.to_monotonic(streaming["lastTransitionTime"])


def _restore_asked(status: Mapping[str, Any], now: Moment) -> dict[str, float]:
    """Else each new process would add one more replica for a full one."""
    entries = status.get("members") or ()
    return {str(entry["name"]): now.to_monotonic(entry["fullSince"]) for entry in entries if entry.get("fullSince")}


def _restore_library_faults(status: Mapping[str, Any]) -> dict[str, LibraryFault]:
    """Else a new process could put a member into the Service before it has read its libraries again."""
    found = {
        str(entry["name"]): _find_condition(entry.get("conditions") or (), ConditionType.CAUGHT_UP)
        for entry in status.get("members") or ()
    }
    return {
        name: LibraryFault(None, Finding(Reason(condition["reason"]), condition.get("message", "")))
        for name, condition in found.items()
        if condition.get("status") == Truth.FALSE and condition.get("reason") in LIBRARY_REASONS
    }


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
