"""What a pass shows of a set: counts, members, the last decision; and numbers, which the reporter writes seldom."""

from collections.abc import Iterable, Mapping
from typing import Any

from headroom.api.v1alpha1.provisioning import Method
from headroom.manifests.children import build_serving_labels
from headroom.model.conditions import merge_conditions
from headroom.model.copies import NONE, PRIMARY
from headroom.model.moments import format_moment, format_time, keep_time
from headroom.model.numbers import settle_above
from headroom.model.replica import PodFacts, Role
from headroom.model.snapshot import SnapshotFacts
from headroom.policy.replicaset.copy_progress import estimate_seconds
from headroom.policy.replicaset.members import EvaluatedMember, Member
from headroom.policy.replicaset.restores import ANY_COPY
from headroom.policy.replicaset.snapshot_state import measure_behind
from headroom.reasons import Reason
from headroom.reconcilers.replicaset.checkpoint import checkpoint, format_position
from headroom.reconcilers.replicaset.conditions import (
    count_warm,
    describe_conditions,
)
from headroom.reconcilers.replicaset.foremost import find_foremost
from headroom.reconcilers.replicaset.member_conditions import describe_member_conditions
from headroom.reconcilers.replicaset.memory import SetContext
from headroom.reconcilers.replicaset.metrics import count_kept_wal, role_of
from headroom.reconcilers.reporter import DesiredStatus

LAG_FLOOR_SECONDS = 1.5
"""Lag below this counts as none in status, so that a calm set is not written all the time. If the newest mark is not
replayed at the moment of a probe, the lag is that of the mark before: the canary's interval, by default one second."""
BRIEF_SILENCE_SECONDS = 10.0
"""A member that misses a probe keeps its last numbers for so long."""
BACKLOG_FLOOR_BYTES = 16 * 1024**2
KEPT_WAL_FLOOR_BYTES = 64.0 * 1024**2
"""One segment is always kept: below this the number only shows where the primary's segments end."""
MOST_SNAPSHOTS = 16
MIXED = "Mixed"
PROVISIONING = Role.PROVISIONING.value.capitalize()
MEMBER_NUMBERS = (
    "progressPercent",
    "copiedBytes",
    "totalBytes",
    "remainingSeconds",
    "replayLagSeconds",
    "replayBacklogBytes",
    "unreplayedSince",
    "unreplayedPosition",
    "sessions",
)


def describe_status(context: SetContext) -> DesiredStatus:
    """The whole status of this pass."""
    members = context.decision.members
    kept = checkpoint(context.memory)
    lead_time = kept.pop("leadTime")
    labels = build_serving_labels(context.owner)
    before = {entry["name"]: entry for entry in context.status.get("members", ())}
    entries = [_describe_member(context, member, before.get(member.name, {})) for member in members]
    conditions = describe_conditions(context)
    return DesiredStatus(
        conditions=conditions,
        facts={
            **kept,
            "reason": find_foremost(conditions),
            "method": _describe_method(entries),
            "selector": ",".join(f"{name}={value}" for name, value in labels.items()),
            "members": [_pick(entry, numbers=False) for entry in entries],
            "snapshots": [_describe_snapshot(each) for each in _list_snapshots(context)] or None,
            "lastDecision": _describe_last_decision(context),
            "readLimit": _describe_read_limit(context),
            "serviceName": context.service_name,
        },
        numbers={
            "leadTime": lead_time,
            "maxReplayLagSeconds": _max_lag(context),
            "slots": _describe_slots(context),
            "members": [_pick(entry, numbers=True) for entry in entries],
            "snapshots": [_measure_snapshot(context, each) for each in _list_snapshots(context)] or None,
        },
        counts={
            "replicas": sum(member.facts.role is Role.SERVING and member.facts.is_alive for member in members),
            "standbys": _count_standbys(context),
            "provisioning": sum(map(_is_new, members)),
        },
    )


def _pick(entry: Mapping[str, Any], *, numbers: bool) -> dict[str, Any]:
    """The numbers of a member's entry, unknown ones included, or all the rest; both with its name."""
    if numbers:
        return {"name": entry["name"], **{key: entry.get(key) for key in MEMBER_NUMBERS}}
    return {key: value for key, value in entry.items() if key not in MEMBER_NUMBERS and value is not None}


def _describe_member(context: SetContext, member: EvaluatedMember, old: Mapping[str, Any]) -> dict[str, Any]:
    facts, role, position = member.facts, role_of(member).capitalize(), context.memory.positions.get(member.name)
    if member.name in context.decision.unsettled and old.get("role") == role:
        # A process that has not measured it yet knows less than the earlier one that wrote it.
        return dict(old)
    generation = context.body["metadata"]["generation"]
    return {
        "name": member.name,
        "role": role,
        "stage": str(member.verdict.stage),
        **_describe_origin(facts, old),
        "since": old["since"] if old.get("role") == role and "since" in old else format_time(context.now.wall),
        "slot": facts.slot_name,
        "node": facts.pod.node or None if facts.pod else None,
        "timeline": position.timeline if position is not None else None,
        "attempts": context.memory.attempts.count or None if role == PROVISIONING else None,
        "fullAt": _format_asked(context, member.name, old.get("fullAt")),
        "conditions": merge_conditions(
            old.get("conditions", []), describe_member_conditions(member), generation=generation, now=context.now.wall
        ),
        **_describe_progress(member),
        **_describe_lag(context, member, old),
        **_describe_unreplayed(context, member, old),
        "sessions": facts.known_sessions if facts.role in (Role.SERVING, Role.DRAINING) else None,
    }


def _describe_origin(member: Member, old: Mapping[str, Any]) -> dict[str, str | None]:
    """What its data were made from and why, by its claim and pod; before it has a claim, what is planned."""
    claim = member.claim
    if claim is None:
        choice = member.choice or ANY_COPY
        source = choice.snapshot.name if choice.snapshot is not None else None
        return {"method": str(choice.method), "source": source, "sourceWhy": choice.why or None if source else None}
    if claim.restored_from:
        method = str(Method.VOLUME_SNAPSHOT)
        return {"method": method, "source": claim.restored_from, "sourceWhy": claim.why or None}
    return {"method": str(Method.BASE_BACKUP), **_describe_source(member.pod, old)}


def _describe_source(pod: PodFacts | None, old: Mapping[str, Any]) -> dict[str, str | None]:
    """The server that a member was copied from; a pod that is recreated on a filled volume copies nothing."""
    if pod is None or pod.copy_source in ("", NONE):
        known = PRIMARY if pod is not None and not pod.copy_source else None
        return {"source": old.get("source", known), "sourceWhy": old.get("sourceWhy")}
    return {"source": pod.copy_source, "sourceWhy": pod.copy_why or None}


def _describe_progress(member: EvaluatedMember) -> dict[str, float | None]:
    backup = member.facts.backup if member.verdict.progress_percent is not None else None
    if backup is None:
        return {"progressPercent": member.verdict.progress_percent}
    return {
        "progressPercent": member.verdict.progress_percent,
        "copiedBytes": float(backup.streamed_bytes),
        "totalBytes": float(backup.total_bytes),
        "remainingSeconds": estimate_seconds(member.facts.copy, backup),
    }


def _describe_method(entries: Iterable[Mapping[str, Any]]) -> str | None:
    """That of all members, if they have the same."""
    methods = {entry["method"] for entry in entries}
    return MIXED if len(methods) > 1 else next(iter(methods), None)


def _format_asked(context: SetContext, name: str, old: str | None) -> str | None:
    addition = context.memory.growth.asked.get(name)
    return keep_time(context.now.to_wall(addition.at), old) if addition is not None else None


def _describe_read_limit(context: SetContext) -> dict[str, Any] | None:
    hold = context.memory.reads.hold
    if hold is None:
        return None
    old = (context.status.get("readLimit") or {}).get("retryAt")
    return {
        "measured": [{"replicas": count, "readsPerSecond": rate} for count, rate in hold.measured],
        "retryAt": keep_time(context.now.to_wall(hold.retry_at), old),
        "pauseSeconds": round(hold.pause_seconds),
    }


def _describe_lag(context: SetContext, member: EvaluatedMember, old: Mapping[str, Any]) -> dict[str, float | None]:
    """While the primary is silent the last lag stays: another process must know who could replace a dead member."""
    lag, seconds, size = member.facts.measured, old.get("replayLagSeconds"), old.get("replayBacklogBytes")
    is_unasked = context.facts.primary is None and not member.facts.unanswered
    if lag is not None:
        seconds = settle_above(seconds, lag.seconds, _lag_floor(context))
        size = settle_above(size, float(lag.bytes), BACKLOG_FLOOR_BYTES)
    elif not (is_unasked or _is_briefly_silent(member)):
        seconds = size = None
    return {"replayLagSeconds": seconds, "replayBacklogBytes": size}


def _describe_unreplayed(context: SetContext, member: EvaluatedMember, old: Mapping[str, Any]) -> dict[str, str | None]:
    """What it lacked when it was last measured, if that is more than it may lack to serve."""
    known = context.memory.members.get(member.name)
    lag = known.readings.chain if known is not None else None
    if lag is None or lag.pending is None or lag.seconds < _lag_floor(context):
        return {"unreplayedSince": None, "unreplayedPosition": None}
    position = format_position(lag.pending)
    is_same = position == old.get("unreplayedPosition") and "unreplayedSince" in old
    since = old["unreplayedSince"] if is_same else format_moment(context.now.to_wall(lag.pending.taken_at))
    return {"unreplayedSince": since, "unreplayedPosition": position}


def _is_briefly_silent(member: EvaluatedMember) -> bool:
    facts = member.facts
    return facts.unanswered > 0 and not facts.is_full and facts.silent_seconds < BRIEF_SILENCE_SECONDS


def _count_standbys(context: SetContext) -> int:
    """The count as written before, while this process has not measured all members yet."""
    written: int | None = context.status.get("standbys")
    return written if context.decision.is_settling and written is not None else count_warm(context.decision.members)


def _describe_last_decision(context: SetContext) -> Mapping[str, Any]:
    """Changes with the count, or when a signal is lost or found, or `autoscaling` is removed; a want within the
    tolerance decides nothing new.
    """
    goal = context.decision.goal
    old: Mapping[str, Any] | None = context.status.get("lastDecision")
    if old is not None and old.get("to") == goal.desired:
        was_blind, was_by_hand = old.get("reason") == Reason.STALE_SIGNAL, old.get("reason") == Reason.REPLICAS_SET
        is_by_hand = goal.reason is Reason.REPLICAS_SET
        if was_blind == (goal.reason is Reason.STALE_SIGNAL) and (was_by_hand or not is_by_hand):
            return old
    serving = sum(member.facts.role is Role.SERVING for member in context.decision.members)
    return {
        "at": format_moment(context.now.wall),
        "from": old["to"] if old is not None else serving,
        "to": goal.desired,
        "rule": goal.rule,
        "reason": str(goal.reason),
        "message": goal.message[:1024],
    }


def _is_new(member: EvaluatedMember) -> bool:
    return member.facts.role in (None, Role.PROVISIONING) and not member.facts.is_source


def _list_snapshots(context: SetContext) -> list[SnapshotFacts]:
    """The newest first."""
    found = sorted(context.facts.snapshots or (), key=lambda each: (each.created_at, each.name), reverse=True)
    return found[:MOST_SNAPSHOTS]


def _describe_snapshot(snapshot: SnapshotFacts) -> dict[str, Any]:
    timeline = {"timeline": snapshot.stamps.timeline} if snapshot.stamps is not None else {}
    created_at = format_time(snapshot.created_at)
    return {"name": snapshot.name, "createdAt": created_at, "ready": snapshot.is_whole, **timeline}


def _measure_snapshot(context: SetContext, snapshot: SnapshotFacts) -> dict[str, Any]:
    """While the primary does not answer, how far it is behind is not known."""
    primary = context.facts.primary
    behind = float(measure_behind(snapshot, primary.position.lsn)) if primary is not None else None
    return {"name": snapshot.name, "walBehindBytes": settle_above(None, behind, BACKLOG_FLOOR_BYTES)}


def _describe_slots(context: SetContext) -> dict[str, Any] | None:
    kept = count_kept_wal(context)
    if kept is None:
        written: dict[str, Any] | None = context.status.get("slots")
        return written if context.decision.is_settling else None
    count = sum(member.slot is not None for member in context.facts.members) + len(context.facts.anchors)
    return {"count": count, "keptWALBytes": max(float(kept), KEPT_WAL_FLOOR_BYTES)}


def _max_lag(context: SetContext) -> float | None:
    old: float | None = context.status.get("maxReplayLagSeconds")
    if context.decision.is_settling:
        return old
    worst = max(_lags_of_serving(context.decision.members), default=None)
    serving = (member for member in context.decision.members if member.facts.role is Role.SERVING)
    if worst is None and any(map(_is_briefly_silent, serving)):
        return old
    return settle_above(old, worst, _lag_floor(context))


def _lag_floor(context: SetContext) -> float:
    """Lag within the bound to serve is as good as none: a busy node adds some of it to every probe."""
    return max(LAG_FLOOR_SECONDS, context.spec.readiness.max_replay_lag.total_seconds())


def _lags_of_serving(members: Iterable[EvaluatedMember]) -> Iterable[float]:
    for member in members:
        lag = member.facts.measured
        if member.facts.role is Role.SERVING and lag is not None:
            yield lag.seconds
