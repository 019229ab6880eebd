"""Metrics and events of one pass."""

from headroom.model.conditions import Condition, Truth
from headroom.policy.databaseguard.describe import explain_change, is_worse
from headroom.ports.kube import Manifest
from headroom.ports.telemetry import Telemetry
from headroom.reasons import Reason
from headroom.reconcilers.databaseguard import metrics
from headroom.reconcilers.databaseguard.draft import Reading, budget_of, level_shown, sees_sessions, thresholds_of
from headroom.reconcilers.databaseguard.holding import Holding


def announce(
    telemetry: Telemetry, holding: Holding, body: Manifest, reading: Reading, ready: Condition, *, seconds: float
) -> None:
    """Record what was read and say what has changed since the last pass."""
    labels = {"namespace": holding.namespace, "name": holding.name}
    level = level_shown(reading)
    telemetry.record(metrics.LOOK_SECONDS, seconds, **labels)
    telemetry.record(metrics.READY, float(ready.status is Truth.TRUE), **labels)
    telemetry.record(metrics.STATE, -1.0 if level is None else float(level), **labels)
    _record_counts(telemetry, reading, labels)
    _say_readiness(telemetry, holding, body, ready)
    _say_state(telemetry, holding, body, reading)


def _record_counts(telemetry: Telemetry, reading: Reading, labels: dict[str, str]) -> None:
    look, budget = reading.look, budget_of(reading.look)
    if look.counts is None or look.server is None or budget is None:
        return
    telemetry.record(metrics.MISSING_RIGHT, float(len(look.server.missing_rights)), **labels)
    numbers = {"used": budget.used, "usable": budget.usable, "budget": budget.budget}
    if sees_sessions(look):
        numbers |= {"active": look.counts.active, "idle_in_transaction": look.counts.idle_in_transaction}
        telemetry.record(metrics.LOCK_WAITERS, float(look.counts.lock_waiters), **labels)
        telemetry.record(metrics.OLDEST_TRANSACTION, look.counts.oldest_transaction_seconds, **labels)
    for what, number in numbers.items():
        telemetry.record(metrics.CONNECTIONS, float(number), what=what, **labels)


def _say_readiness(telemetry: Telemetry, holding: Holding, body: Manifest, ready: Condition) -> None:
    if ready.reason is not holding.last_reason and ready.status is not Truth.UNKNOWN:
        is_good = ready.status is Truth.TRUE
        telemetry.event(body, ready.reason, ready.message, type_="Normal" if is_good else "Warning")
    holding.last_reason = ready.reason


def _say_state(telemetry: Telemetry, holding: Holding, body: Manifest, reading: Reading) -> None:
    before, after = holding.said_state, reading.state
    if before.level is not after.level:
        message = explain_change(before, after, thresholds_of(reading))
        telemetry.event(body, Reason.STATE_CHANGED, message, type_="Warning" if is_worse(before, after) else "Normal")
    holding.said_state = after
