"""What a look means for the status: conditions, state, numbers; pure."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from headroom.api.v1alpha1.databaseguard_status import GuardState
from headroom.api.v1alpha1.thresholds import Thresholds
from headroom.model.conditions import Condition, Truth
from headroom.model.moments import format_time, keep_time
from headroom.policy.databaseguard.budget import ConnectionBudget, decide_connection_budget
from headroom.policy.databaseguard.describe import StateTimes, explain_state
from headroom.policy.databaseguard.rights import Note
from headroom.policy.databaseguard.signals import Level
from headroom.policy.databaseguard.state import StateMemory
from headroom.policy.not_yet import explain_not_yet
from headroom.ports.kube import Manifest
from headroom.reasons import ConditionType, Reason
from headroom.reconcilers.databaseguard.holding import Problem
from headroom.reconcilers.databaseguard.look import SECRET_REASONS, Look
from headroom.reconcilers.reporter import DesiredStatus

CONDITIONS = (ConditionType.READY, ConditionType.SIGNAL_AVAILABLE, ConditionType.STALLED)
ONLY_A_PERSON_HELPS = SECRET_REASONS | {
    Reason.INVALID_SPEC,
    Reason.UNSUPPORTED_VALUE,
    Reason.PASSWORD_REJECTED,
    Reason.DATABASE_NOT_FOUND,
    Reason.TLS_FAILED,
    Reason.NOT_A_DIRECT_CONNECTION,
    Reason.UNSUPPORTED_VERSION,
    Reason.PRIMARY_REPLACED,
    Reason.PRIMARY_STALE,
    Reason.HOST_NOT_FOUND,
}
STALE_CANARY_SECONDS = 10.0
MAX_WORD = 128


@dataclass(frozen=True, slots=True)
class Reading:
    """A look together with what memory adds: the canary's age and worst commit, the state, others on this server.

    `shown` is the state to publish, `now` the look's monotonic time; until `has_had_state` the guard is not Ready.
    """

    look: Look
    state: StateMemory
    shown: GuardState
    now: float
    has_had_state: bool
    mark_age_seconds: float | None
    commit_seconds: float | None
    system_identifier: str | None
    shared_with: tuple[str, ...] = ()


def unknown_status() -> DesiredStatus:
    """Every condition as it is before the first look."""
    message = "the server has not been looked at yet"
    return DesiredStatus(tuple(Condition(kind, Truth.UNKNOWN, Reason.NOT_YET_OBSERVED, message) for kind in CONDITIONS))


def build_status(reading: Reading, body: Manifest, now: datetime) -> DesiredStatus:
    """The status that says what was read; what could not be measured is absent."""
    old = body.get("status") or {}
    look = reading.look
    since, memory = _since(reading, old, now), _memory(reading, old, now)
    facts: dict[str, Any] = {
        "state": str(reading.shown),
        "stateSince": since,
        "stateSignal": reading.state.signal or None if is_shown(reading) else None,
        "systemIdentifier": reading.system_identifier or old.get("systemIdentifier"),
        "serverVersion": _version(look) or old.get("serverVersion"),
    }
    said = _explain(reading, since, memory, now)
    conditions = (build_ready(reading), _signal_available(reading, said), _stalled(look))
    return DesiredStatus(conditions, facts, {**_numbers(reading), "memory": memory})


def is_shown(reading: Reading) -> bool:
    """True when the state that is published is the one that is remembered."""
    return reading.shown is reading.state.state


def level_shown(reading: Reading) -> Level | None:
    """The level that is published; None for Unknown."""
    return reading.state.level if is_shown(reading) else None


def thresholds_of(reading: Reading) -> Thresholds:
    """The spec's thresholds, or the defaults for a spec that cannot be acted on."""
    return reading.look.spec.thresholds if reading.look.spec is not None else Thresholds()


def _since(reading: Reading, old: Mapping[str, Any], wall: datetime) -> str:
    before = old.get("stateSince") if old.get("state") == str(reading.shown) else None
    began = reading.state.since
    if is_shown(reading) and began is not None:
        return keep_time(_to_wall(reading, began, wall), before)
    return before or format_time(wall)


def _memory(reading: Reading, old: Mapping[str, Any], wall: datetime) -> dict[str, Any] | None:
    calm_since = reading.state.calm_since
    if calm_since is None:
        return None
    before = (old.get("memory") or {}).get("cleanSince")
    return {"cleanSince": keep_time(_to_wall(reading, calm_since, wall), before)}


def _to_wall(reading: Reading, at: float, wall: datetime) -> datetime:
    return wall + timedelta(seconds=at - reading.now)


def _explain(reading: Reading, since: str, memory: Mapping[str, Any] | None, wall: datetime) -> str:
    """The state in words, with the very times that status shows."""
    if not is_shown(reading):
        return ""
    sampled_at = reading.state.sampled_at
    times = StateTimes(
        since=datetime.fromisoformat(since),
        sampled_at=None if sampled_at is None else _to_wall(reading, sampled_at, wall),
        calm_since=None if memory is None else datetime.fromisoformat(memory["cleanSince"]),
    )
    return explain_state(reading.state, thresholds_of(reading), times)


def build_ready(reading: Reading) -> Condition:
    """Ready: the server is usable; a login for replication that does not work is said here, the rest goes on."""
    look = reading.look
    if look.problem is not None:
        return Condition(ConditionType.READY, Truth.FALSE, look.problem.reason, look.problem.message)
    if look.replication_problem is not None:
        message = f"replicas cannot be made, the rest works: {look.replication_problem.message}"
        return Condition(ConditionType.READY, Truth.FALSE, look.replication_problem.reason, message)
    if not reading.has_had_state:
        message = "the server answers; its state is known once the canary was answered and one sample was taken"
        return Condition(ConditionType.READY, Truth.UNKNOWN, Reason.IN_PROGRESS, message)
    notes = [*look.notes, *_shared(reading)]
    reason = next((note.reason for note in notes if note.reason in _WORTH_A_REASON), Reason.CONNECTED)
    ignored = explain_not_yet(look.spec) if look.spec is not None else ""
    message = "; ".join(filter(None, ["the server answers", *(note.message for note in notes), ignored]))
    return Condition(ConditionType.READY, Truth.TRUE, reason, message)


_WORTH_A_REASON = frozenset({Reason.MISSING_RIGHT, Reason.SHARED_INSTANCE})


def budget_of(look: Look) -> ConnectionBudget | None:
    """The connection budget, where connections were counted."""
    if look.spec is None or look.counts is None:
        return None
    via = look.spec.connection.via
    return decide_connection_budget(
        look.counts,
        reserve=look.spec.connections.reserve,
        worker_share_percent=look.spec.connections.worker_share_percent,
        pool_size=via.pool_size if via is not None else None,
    )


def sees_sessions(look: Look) -> bool:
    """True when the states of other roles' sessions can be read."""
    return look.server is not None and (look.server.is_superuser or "pg_monitor" not in look.server.missing_rights)


def _shared(reading: Reading) -> list[Note]:
    if not reading.shared_with:
        return []
    others = ", ".join(f"dbg/{name}" for name in reading.shared_with)
    return [Note(Reason.SHARED_INSTANCE, f"{others} watches the same server; keep one guard, if you can")]


def _signal_available(reading: Reading, state: str) -> Condition:
    """Whether the server can be measured, and what the measurements made of its state."""
    found = _measured(reading)
    return replace(found, message="; ".join(filter(None, (found.message, state))))


def _measured(reading: Reading) -> Condition:
    look, kind = reading.look, ConditionType.SIGNAL_AVAILABLE
    if look.problem is not None:
        return Condition(kind, Truth.FALSE, look.problem.reason, look.problem.message)
    right = next((note for note in look.notes if note.reason is Reason.MISSING_RIGHT), None)
    if right is not None and not sees_sessions(look):
        return Condition(kind, Truth.FALSE, right.reason, right.message)
    age = reading.mark_age_seconds
    if age is None:
        return Condition(kind, Truth.UNKNOWN, Reason.IN_PROGRESS, "the first canary is under way")
    if age > max(STALE_CANARY_SECONDS, _interval(look) * 3):
        return Condition(kind, Truth.FALSE, Reason.PRIMARY_TIMEOUT, "the canary's COMMIT is not answered")
    off = next((note for note in look.notes if note.reason is Reason.CANARY_DISABLED), None)
    reason, message = (off.reason, off.message) if off else (Reason.AS_EXPECTED, "the server is measured every second")
    return Condition(kind, Truth.TRUE, reason, message)


def _stalled(look: Look) -> Condition:
    problem: Problem | None = look.problem or look.replication_problem
    if problem is not None and problem.reason in ONLY_A_PERSON_HELPS:
        return Condition(ConditionType.STALLED, Truth.TRUE, problem.reason, problem.message)
    return Condition(ConditionType.STALLED, Truth.FALSE, Reason.AS_EXPECTED, "nothing waits for a person")


def _interval(look: Look) -> float:
    return look.spec.canary.interval.total_seconds() if look.spec is not None else 0.0


def _version(look: Look) -> str | None:
    return look.server.settings.get("server_version", str(look.server.major))[:MAX_WORD] if look.server else None


def _numbers(reading: Reading) -> dict[str, Any]:
    counts, budget = reading.look.counts, budget_of(reading.look)
    if counts is None or budget is None:
        return {}
    sees = sees_sessions(reading.look)
    commit = reading.commit_seconds
    return {
        "commitLatencyMilliseconds": commit * 1000 if commit is not None else None,
        "connections": {"used": budget.used, "usable": budget.usable, "budget": budget.budget},
        "lockWaiters": counts.lock_waiters if sees else None,
        "oldestTransactionSeconds": counts.oldest_transaction_seconds if sees else None,
    }
