"""Metrics and events of one pass."""

from headroom.model.conditions import Condition, Truth
from headroom.policy.guard_state import Level
from headroom.ports.kube import Manifest
from headroom.ports.telemetry import Telemetry
from headroom.reasons import Reason
from headroom.reconcilers.databaseguard import metrics
from headroom.reconcilers.databaseguard.draft import Reading, budget_of, sees_sessions
from headroom.reconcilers.databaseguard.holding import Holding


def announce(
    telemetry: Telemetry, holding: Holding, body: Manifest, reading: Reading, ready: Condition, *, seconds: float
) -> None:
    """Record what was read and say what has changed since the last pass."""
    labels = {"namespace": holding.namespace, "name": holding.name}
    level = reading.state.level
    telemetry.record(metrics.LOOK_SECONDS, seconds, **labels)
    telemetry.record(metrics.READY, float(ready.status is Truth.TRUE), **labels)
    telemetry.record(metrics.STATE, -1.0 if level is None else float(level), **labels)
    _record_counts(telemetry, reading, labels)
    _say_readiness(telemetry, holding, body, ready)
    _say_state(telemetry, body, reading)


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
    if ready.reason is not holding.last_reason:
        is_good = ready.status is Truth.TRUE
        telemetry.event(body, ready.reason, ready.message, type_="Normal" if is_good else "Warning")
    holding.last_reason = ready.reason


def _say_state(telemetry: Telemetry, body: Manifest, reading: Reading) -> None:
    old, new = (body.get("status") or {}).get("state"), str(reading.state.state)
    if old is None or old == new:
        return
    is_worse = reading.state.level is not None and reading.state.level > Level.HEALTHY
    signal = f" by {reading.state.said or reading.state.signal}" if reading.state.signal else ""
    telemetry.event(body, Reason.STATE_CHANGED, f"{old} -> {new}{signal}", type_="Warning" if is_worse else "Normal")
