"""What a pass says of itself: status, metrics, and what a new process needs to go on."""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

from headroom.manifests.routing import build_serving_labels
from headroom.model.conditions import Truth, merge_conditions
from headroom.model.moments import format_moment, format_time
from headroom.model.replica import Role, Stage
from headroom.policy.replicaset.ejection import EvaluatedMember
from headroom.policy.replicaset.timeouts import ATTEMPTS_BEFORE_STALLED
from headroom.reasons import ConditionType, Reason
from headroom.reconcilers.replicaset import metrics
from headroom.reconcilers.replicaset.conditions import count_warm, set_conditions
from headroom.reconcilers.replicaset.member_conditions import member_conditions
from headroom.reconcilers.replicaset.memory import SetMemory
from headroom.reconcilers.replicaset.run import Run
from headroom.reconcilers.reporter import NUMBER, DesiredStatus, has_moved, round_number

LAG_STEP_SECONDS = 0.5
"""Lag below it is noise of the probe; in status it counts as none, so that a calm set is not written all the time."""
KEPT_WAL_STEP_BYTES = 64.0 * 1024**2
BACKLOG_STEP_BYTES = 16 * 1024**2
MOVING = {
    "replayLagSeconds": LAG_STEP_SECONDS,
    "replayBacklogBytes": BACKLOG_STEP_BYTES,
    "sessions": 0,
    "progressPercent": 0,
}
"""Numbers of a member that are written only when they move, with the step below which they count as none."""
METHOD = "BaseBackup"
STARTS_WITHIN = timedelta(seconds=10)
"""A server that has a copy is there by then, unless it has much to replay."""


def restore(memory: SetMemory, status: Mapping[str, Any], now: float) -> None:
    """Take up what an earlier process left in status; `now` is monotonic."""
    if memory.is_restored:
        return
    memory.is_restored = True
    memory.desired = status.get("desiredReplicas")
    lead = status.get("leadTime", {})
    for times, key in ((memory.warm, "warmSeconds"), (memory.base_backup, "baseBackupSeconds")):
        if key in lead:
            times.add(float(lead[key]))
    memory.attempts = max((member.get("attempts", 0) for member in status.get("members", ())), default=0)
    for entry in status.get("conditions", ()):
        is_stalled = entry["type"] == ConditionType.STALLED and entry["status"] == Truth.TRUE
        if is_stalled and entry["reason"] == Reason.SEED_ATTEMPTS_EXHAUSTED:
            memory.attempts = max(memory.attempts, ATTEMPTS_BEFORE_STALLED)
            memory.failed_at, memory.failure = now, (Reason.SEED_FAILED, entry.get("message", ""))


def build_status(run: Run) -> DesiredStatus:
    """The whole status of this pass."""
    facts, decision, old = run.facts, run.decision, run.facts.body.get("status") or {}
    members = decision.members
    labels = build_serving_labels(facts.owner)
    lead = {"warmSeconds": facts.memory.warm.p90, "baseBackupSeconds": facts.memory.base_backup.p90}
    return DesiredStatus(
        conditions=set_conditions(run),
        facts={
            "replicas": sum(member.facts.role is Role.SERVING and member.facts.is_alive for member in members),
            "selector": ",".join(f"{name}={value}" for name, value in labels.items()),
            "desiredReplicas": decision.goal.desired,
            "standbys": count_warm(run),
            "provisioning": sum(member.facts.role in (None, Role.PROVISIONING) for member in members),
            "members": build_members(run, old.get("members", ())),
            "lastDecision": build_last_decision(run, old.get("lastDecision")),
            "serviceName": facts.service_name,
            "systemIdentifier": _system_identifier(run, old),
            "timeline": _timeline(run, old),
        },
        numbers={
            "leadTime": lead if any(value is not None for value in lead.values()) else None,
            "maxReplayLagSeconds": _max_lag(members, old.get("maxReplayLagSeconds")),
            "slots": _slots(run),
        },
    )


def build_members(run: Run, old: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Each member; numbers that moved little keep their old value, so that they alone cause no write."""
    before = {entry["name"]: entry for entry in old}
    return [_build_member(run, member, before.get(member.name, {})) for member in run.decision.members]


def _build_member(run: Run, member: EvaluatedMember, old: Mapping[str, Any]) -> dict[str, Any]:
    facts = member.facts
    role = _role_word(member)
    generation = run.facts.body["metadata"]["generation"]
    lag = facts.lag
    entry = {
        "name": member.name,
        "role": role,
        "stage": str(member.verdict.stage),
        "method": METHOD,
        "source": "primary",
        "since": old["since"] if old.get("role") == role and "since" in old else format_time(run.facts.now),
        "node": facts.pod.node or None if facts.pod else None,
        "timeline": facts.probe.timeline if facts.probe else None,
        "progressPercent": member.verdict.progress_percent,
        "replayLagSeconds": _above_step(lag.seconds, LAG_STEP_SECONDS) if lag else None,
        "replayBacklogBytes": _above_step(lag.backlog_bytes, BACKLOG_STEP_BYTES) if lag else None,
        "sessions": facts.probe.sessions if facts.probe and facts.role in (Role.SERVING, Role.DRAINING) else None,
        "attempts": run.facts.memory.attempts or None if role == "Provisioning" else None,
        "conditions": merge_conditions(
            old.get("conditions", []), member_conditions(member), generation=generation, now=run.facts.now
        ),
    }
    return _settled({key: value for key, value in entry.items() if value is not None}, old)


def _settled(entry: dict[str, Any], old: Mapping[str, Any]) -> dict[str, Any]:
    entry.update({key: _settle(old.get(key), entry[key], step) for key, step in MOVING.items() if key in entry})
    for before, after in zip(old.get("conditions", ()), entry["conditions"], strict=False):
        is_same = before["type"] == after["type"] and before["status"] == after["status"]
        is_said = NUMBER.sub("#", before["message"]) == NUMBER.sub("#", after["message"])
        if is_same and is_said and before["reason"] == after["reason"]:
            # A message with a moving number is no news; it follows with the next write.
            after["message"] = before["message"]
            after["observedGeneration"] = before.get("observedGeneration", after["observedGeneration"])
    return entry


def build_last_decision(run: Run, old: Mapping[str, Any] | None) -> Mapping[str, Any]:
    """Changes when the count does, or a signal is lost or found: to stay within the tolerance decides nothing."""
    goal = run.decision.goal
    if old is not None and old.get("to") == goal.desired:
        was_blind = old.get("reason") == Reason.STALE_SIGNAL
        if was_blind == (goal.reason is Reason.STALE_SIGNAL):
            return old
    serving = sum(member.facts.role is Role.SERVING for member in run.decision.members)
    return {
        "at": format_moment(run.facts.now),
        "from": old["to"] if old is not None else serving,
        "to": goal.desired,
        "rule": goal.rule,
        "reason": str(goal.reason),
        "message": goal.message[:1024],
    }


def record_metrics(run: Run) -> None:
    """Publish the numbers of this pass."""
    labels, members = run.labels, run.decision.members
    roles = [_role_word(member) for member in members]
    for role in ("Provisioning", "Standby", "Serving", "Draining", "Retiring"):
        run.telemetry.record(metrics.MEMBERS, roles.count(role), **labels, role=role.lower())
    run.telemetry.record(metrics.DESIRED, run.decision.goal.desired, **labels)
    kept = count_kept_wal(run)
    if kept is not None:
        run.telemetry.record(metrics.KEPT_WAL, kept, **labels)
    _forget_gone(run)
    for member in members:
        lag, probe = member.facts.lag, member.facts.probe
        if lag is not None and lag.seconds is not None and lag.backlog_bytes is not None:
            run.telemetry.record(metrics.REPLAY_LAG, lag.seconds, **labels, member=member.name)
            run.telemetry.record(metrics.REPLAY_BACKLOG, lag.backlog_bytes, **labels, member=member.name)
        if probe is not None:
            run.telemetry.record(metrics.SESSIONS, probe.sessions, **labels, member=member.name)


def count_kept_wal(run: Run) -> int | None:
    """WAL that the set's slots hold back: from the oldest restart_lsn to where the primary is; None: not known."""
    primary = run.facts.primary
    if primary is None or not primary.marks:
        return None
    kept = [member.slot.restart_lsn for member in run.facts.members if member.slot and member.slot.restart_lsn]
    return max(int(primary.marks[-1].lsn) - int(min(kept)), 0) if kept else 0


def _slots(run: Run) -> dict[str, Any] | None:
    kept = count_kept_wal(run)
    if kept is None:
        return None
    count = sum(member.slot is not None for member in run.facts.members)
    # One segment is always kept: below it the number only tells how the primary's segments fall.
    return {"count": count, "keptWALBytes": max(float(kept), KEPT_WAL_STEP_BYTES)}


def _forget_gone(run: Run) -> None:
    """A member that is gone must not stay in the metrics with its last lag."""
    names = {member.name for member in run.decision.members}
    for name in run.facts.memory.measured - names:
        run.telemetry.forget(**run.labels, member=name)
    run.facts.memory.measured = names


def next_pass(run: Run) -> timedelta:
    """How long until the next look: at once while something moves, a second under autoscaling, else two."""
    verdicts = [member.verdict.stage for member in run.decision.members]
    if run.has_moved:
        return timedelta(milliseconds=50)
    if any(_is_about_to_stand_by(member, run) for member in run.decision.members):
        return timedelta(milliseconds=200)
    is_calm = all(stage in (Stage.STANDBY, Stage.SERVING) for stage in verdicts)
    return timedelta(seconds=2 if is_calm and run.facts.spec.autoscaling is None else 1)


def _is_about_to_stand_by(member: EvaluatedMember, run: Run) -> bool:
    """A server that accepts its first connections wakes nobody."""
    pod = member.facts.pod
    if pod is None or member.facts.role is not Role.PROVISIONING:
        return False
    started = pod.server.started_at
    return member.facts.within > 0 or (started is not None and run.facts.now - started < STARTS_WITHIN)


def _role_word(member: EvaluatedMember) -> str:
    if member.facts.is_going:
        return "Retiring"
    return (member.facts.role or Role.PROVISIONING).value.capitalize()


def _above_step(value: float | None, step: float) -> float | None:
    if value is None:
        return None
    return round_number(float(value)) if value >= step else 0.0


def _settle(old: float | None, new: float, step: float) -> float:
    """The old number while the new one is close to it; one at rest has to pass the step by more than a little."""
    if old is None or (old and not new):
        return new
    return new if has_moved(max(old, step), max(new, step)) else old


def _max_lag(members: Sequence[EvaluatedMember], old: float | None) -> float | None:
    lags = [member.facts.lag for member in members if member.facts.role is Role.SERVING]
    known = [lag.seconds for lag in lags if lag is not None and lag.seconds is not None]
    lag = _above_step(max(known), LAG_STEP_SECONDS) if known else None
    return None if lag is None else _settle(old, lag, LAG_STEP_SECONDS)


def _system_identifier(run: Run, old: Mapping[str, Any]) -> str | None:
    primary = run.facts.primary
    known: str | None = old.get("systemIdentifier")
    return known or (primary.marks[-1].system_identifier if primary and primary.marks else None)


def _timeline(run: Run, old: Mapping[str, Any]) -> int | None:
    primary = run.facts.primary
    seen = [old.get("timeline"), primary.marks[-1].timeline if primary and primary.marks else None]
    return max((timeline for timeline in seen if timeline is not None), default=None)
