"""What a look means for the status: conditions, state, numbers; pure."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from headroom.model.conditions import Condition, Truth
from headroom.model.moments import format_time
from headroom.policy.guard_budget import ConnectionBudget, decide_connection_budget
from headroom.policy.guard_rights import Note
from headroom.policy.guard_state import StateMemory
from headroom.policy.not_yet import explain_not_yet
from headroom.ports.kube import Manifest
from headroom.reasons import ConditionType, Reason
from headroom.reconcilers.databaseguard.holding import Problem
from headroom.reconcilers.databaseguard.look import SECRET_REASONS, Look
from headroom.reconcilers.status import StatusDraft

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
    """A look together with what memory adds: the canary's age and worst commit, the state, others on this server."""

    look: Look
    state: StateMemory
    mark_age_seconds: float | None
    commit_seconds: float | None
    system_identifier: str | None
    shared_with: tuple[str, ...] = ()


def unknown_draft() -> StatusDraft:
    """Every condition as it is before the first look."""
    message = "the server has not been looked at yet"
    return StatusDraft(tuple(Condition(kind, Truth.UNKNOWN, Reason.NOT_YET_OBSERVED, message) for kind in CONDITIONS))


def build_draft(reading: Reading, body: Manifest, now: datetime) -> StatusDraft:
    """The status that says what was read; what could not be measured is absent."""
    old = body.get("status") or {}
    look = reading.look
    state = str(reading.state.state)
    facts: dict[str, Any] = {
        "state": state,
        "stateSince": old.get("stateSince") if old.get("state") == state else format_time(now),
        "stateSignal": reading.state.signal or None,
        "systemIdentifier": reading.system_identifier or old.get("systemIdentifier"),
        "serverVersion": _version(look) or old.get("serverVersion"),
    }
    conditions = (build_ready(reading), _signal_available(reading), _stalled(look))
    return StatusDraft(conditions, facts, _numbers(reading))


def build_ready(reading: Reading) -> Condition:
    """Ready: the server is usable; a login for replication that does not work is said here, the rest goes on."""
    look = reading.look
    if look.problem is not None:
        return Condition(ConditionType.READY, Truth.FALSE, look.problem.reason, look.problem.message)
    if look.replication_problem is not None:
        message = f"replicas cannot be made, the rest works: {look.replication_problem.message}"
        return Condition(ConditionType.READY, Truth.FALSE, look.replication_problem.reason, message)
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


def _signal_available(reading: Reading) -> Condition:
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
    said = f"; {reading.state.state}: {reading.state.said}" if reading.state.said else ""
    return Condition(kind, Truth.TRUE, reason, f"{message}{said}")


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
