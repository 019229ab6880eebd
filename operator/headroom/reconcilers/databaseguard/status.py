"""A guard's status, as it follows from one pass."""

from typing import Any

from headroom.model.condition_types import ConditionType
from headroom.model.conditions import Condition, Truth
from headroom.model.numbers import settle
from headroom.policy.databaseguard.signals import Level
from headroom.reasons import Reason
from headroom.reconcilers.databaseguard.apply import GuardContext
from headroom.reconcilers.databaseguard.checkpoint import checkpoint
from headroom.reconcilers.databaseguard.conditions import UNKNOWN, build_conditions
from headroom.reconcilers.reporter import DesiredStatus

MAX_WORD = 128
COMMIT_FLOOR_SHARE = 0.1
"""Of the first threshold: a commit's noise on a calm server is not written, whatever its size beside the last one."""
USED_FLOOR_SHARE = 0.05
OLDEST_FLOOR_SECONDS = 10.0


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
    old, sees = context.status, decision.sees_sessions
    used = settle((old.get("connections") or {}).get("used"), budget.used, USED_FLOOR_SHARE * budget.usable)
    oldest = settle(old.get("oldestTransactionSeconds"), counts.oldest_transaction_seconds, OLDEST_FLOOR_SECONDS)
    return {
        "commitLatencyMilliseconds": _settle_commit(context),
        "connections": {"used": used, "usable": budget.usable, "budget": budget.budget},
        "lockWaiters": counts.lock_waiters if sees else None,
        "oldestTransactionSeconds": oldest if sees else None,
    }


def _settle_commit(context: GuardContext) -> float | None:
    """Milliseconds: the typical commit while the server is Healthy, the worst of the last seconds while it is not."""
    decision = context.decision
    commit = decision.typical_commit_seconds if decision.level is Level.HEALTHY else decision.commit_seconds
    floor = COMMIT_FLOOR_SHARE * decision.thresholds.commit_latency.brownout.total_seconds()
    before = context.status.get("commitLatencyMilliseconds")
    return settle(before, None if commit is None else commit * 1000, floor * 1000)
