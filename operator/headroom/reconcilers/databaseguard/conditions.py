"""Ready, SignalAvailable and Stalled of a guard."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from headroom.model.condition_types import ConditionType
from headroom.model.conditions import Condition, Truth, unknown_conditions
from headroom.model.database import VIEW_FRESH_SECONDS
from headroom.policy.databaseguard.describe import StateTimes, describe_state
from headroom.reasons import Reason
from headroom.reconcilers.databaseguard.apply import GuardContext
from headroom.reconcilers.databaseguard.checkpoint import read_time
from headroom.reconcilers.logins import SECRET_REASONS

KINDS = (ConditionType.READY, ConditionType.SIGNAL_AVAILABLE, ConditionType.STALLED)
ONLY_A_PERSON_HELPS = SECRET_REASONS | {
    Reason.INVALID_SPEC,
    Reason.FORBIDDEN,
    Reason.UNSUPPORTED_VALUE,
    Reason.PASSWORD_REJECTED,
    Reason.DATABASE_NOT_FOUND,
    Reason.TLS_FAILED,
    Reason.NOT_A_DIRECT_CONNECTION,
    Reason.UNSUPPORTED_VERSION,
    Reason.PRIMARY_REPLACED,
    Reason.PRIMARY_STALE,
    Reason.HOST_NOT_FOUND,
    Reason.HOST_NOT_ALLOWED,
    Reason.PASSWORD_METHOD_WEAK,
}
NO_COMMIT = "the canary's COMMIT is not answered: see what loads the server and its disk, and what COMMIT waits for"
UNKNOWN = unknown_conditions(KINDS, "the server has not been observed yet")


def build_conditions(context: GuardContext, kept: Mapping[str, Any]) -> tuple[Condition, ...]:
    """The verdicts of this pass; one that cannot be evaluated yet is left out, and status keeps what it says.

    `kept` is the checkpoint that status gets, whose times the message repeats.
    """
    if context.decision.is_settling:
        return ()
    signal = _describe_signal(context, kept)
    return tuple(condition for condition in (build_ready(context), signal, _build_stalled(context)) if condition)


def build_ready(context: GuardContext) -> Condition:
    """Whether the guard can do its work."""
    decision = context.decision
    finding = decision.ready_finding
    return Condition(ConditionType.READY, decision.ready, finding.reason, finding.message)


def _describe_signal(context: GuardContext, kept: Mapping[str, Any]) -> Condition | None:
    """Whether the server can be measured, and what the measurements made of its state."""
    found = next(_build_signal(context), None)
    if found is None:
        return None
    state = _describe_state(context, kept)
    return replace(found, message="; ".join(filter(None, (found.message, state))))


def _build_signal(context: GuardContext) -> Iterator[Condition]:
    """The first of these that holds; nothing while a new process has to wait for its first canary."""
    decision, kind = context.decision, ConditionType.SIGNAL_AVAILABLE
    suspicion = next((note for note in decision.notes if note.reason is Reason.SUSPECT_OPERATOR), None)
    if suspicion is not None:
        yield Condition(kind, Truth.FALSE, suspicion.reason, suspicion.message)
    if decision.finding is not None:
        yield Condition(kind, Truth.FALSE, decision.finding.reason, decision.finding.message)
    right = next((note for note in decision.notes if note.reason is Reason.MISSING_RIGHT), None)
    if right is not None and not decision.sees_sessions:
        yield Condition(kind, Truth.FALSE, right.reason, right.message)
    age = decision.mark_age_seconds
    if age is None:
        if not decision.is_early:
            yield Condition(kind, Truth.UNKNOWN, Reason.IN_PROGRESS, "the first canary is under way")
        return
    if age > max(VIEW_FRESH_SECONDS, 3 * _interval_of(context)):
        yield Condition(kind, Truth.FALSE, Reason.PRIMARY_TIMEOUT, NO_COMMIT)
    off = next((note for note in decision.notes if note.reason is Reason.CANARY_DISABLED), None)
    if off is not None:
        yield Condition(kind, Truth.TRUE, off.reason, off.message)
    yield Condition(kind, Truth.TRUE, Reason.AS_EXPECTED, "the server is measured every second")


def _describe_state(context: GuardContext, kept: Mapping[str, Any]) -> str:
    """The state in words, with the very times that status shows."""
    state = context.memory.server.state
    if context.decision.state is not state.state:
        return ""
    times = StateTimes(
        since=read_time(kept["stateSince"]),
        sampled_at=None if state.sampled_at is None else context.now.to_wall(state.sampled_at),
        calm_since=read_time((kept["memory"] or {}).get("cleanSince")),
    )
    return describe_state(state, context.decision.thresholds, times)


def _build_stalled(context: GuardContext) -> Condition:
    problem = context.decision.finding or context.facts.replication_problem
    if problem is not None and problem.reason in ONLY_A_PERSON_HELPS:
        return Condition(ConditionType.STALLED, Truth.TRUE, problem.reason, problem.message)
    return Condition(ConditionType.STALLED, Truth.FALSE, Reason.AS_EXPECTED, "nothing waits for a person")


def _interval_of(context: GuardContext) -> float:
    return context.spec.canary.interval.total_seconds() if context.spec is not None else 0.0
