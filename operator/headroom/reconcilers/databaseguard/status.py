"""A guard's status, as it follows from one pass."""

from typing import Any

from headroom.model.conditions import Condition, Truth
from headroom.reasons import ConditionType, Reason
from headroom.reconcilers.databaseguard.apply import GuardContext
from headroom.reconcilers.databaseguard.checkpoint import checkpoint
from headroom.reconcilers.databaseguard.conditions import UNKNOWN, build_conditions
from headroom.reconcilers.reporter import DesiredStatus

MAX_WORD = 128


def unknown_status() -> DesiredStatus:
    """Every condition as it is before the first pass."""
    return DesiredStatus(UNKNOWN)


def build_status(context: GuardContext) -> DesiredStatus:
    """The status that says what was observed; what could not be measured is absent."""
    kept = checkpoint(context.memory, context.now, context.status)
    conditions = build_conditions(context, kept)
    version = _describe_version(context) or context.status.get("serverVersion")
    memory = kept.pop("memory")
    return DesiredStatus(conditions, {**kept, "serverVersion": version}, {**_build_numbers(context), "memory": memory})


def with_deletion(status: DesiredStatus, message: str) -> DesiredStatus:
    """The same for a guard that is being deleted and waits."""
    waiting = Condition(ConditionType.READY, Truth.FALSE, Reason.DELETING, message)
    others = tuple(condition for condition in status.conditions if condition.type is not ConditionType.READY)
    return DesiredStatus((waiting, *others), status.facts, status.numbers)


def _describe_version(context: GuardContext) -> str | None:
    server = context.facts.server
    return server.settings.get("server_version", str(server.major))[:MAX_WORD] if server is not None else None


def _build_numbers(context: GuardContext) -> dict[str, Any]:
    decision = context.decision
    counts, budget = decision.counts, decision.budget
    if counts is None or budget is None:
        return dict.fromkeys(("commitLatencyMilliseconds", "connections", "lockWaiters", "oldestTransactionSeconds"))
    commit, sees = decision.commit_seconds, decision.sees_sessions
    return {
        "commitLatencyMilliseconds": commit * 1000 if commit is not None else None,
        "connections": {"used": budget.used, "usable": budget.usable, "budget": budget.budget},
        "lockWaiters": counts.lock_waiters if sees else None,
        "oldestTransactionSeconds": counts.oldest_transaction_seconds if sees else None,
    }
