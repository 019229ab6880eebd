"""Metrics and events of one pass."""

from collections.abc import Set
from typing import Literal

from headroom.model.conditions import Condition, Truth
from headroom.model.metrics import Metric
from headroom.model.numbers import count_of
from headroom.ports.telemetry import Telemetry
from headroom.reasons import ConditionType, Reason
from headroom.reconcilers.workerpool import metrics
from headroom.reconcilers.workerpool.facts import Pass

SAID_ALOUD = (ConditionType.READY, ConditionType.KEEPING_UP, ConditionType.SIGNAL_AVAILABLE)
QUIET = frozenset({Reason.AS_EXPECTED, Reason.NOT_YET_OBSERVED, Reason.LAG_WITHIN_TARGET, Reason.STALE_SIGNAL})
"""Not news by themselves; of a signal that is stale SignalAvailable says why."""
EARLY = (str(Truth.UNKNOWN), str(Reason.GUARD_NOT_READY))
"""What SignalAvailable says of a guard that has hardly had the time to look: not news either."""


def announce(telemetry: Telemetry, seen: Pass, conditions: tuple[Condition, ...]) -> None:
    """Record what was read and decided, and say what has changed since the last status."""
    labels = _labels(seen)
    telemetry.record(metrics.SIGNAL, float(seen.signal.sample is not None), **labels)
    _record_queue(telemetry, seen, labels)
    _record_workers(telemetry, seen, labels)
    told = _told(seen, conditions)
    for condition in conditions:
        if condition.type in SAID_ALOUD:
            _say_change(telemetry, seen, condition, told)


def announce_scaling(telemetry: Telemetry, seen: Pass, *, due_seconds: float) -> None:
    """Say that a count was written; `due_seconds` is how long ago the sample was due."""
    target, outcome, labels = seen.target, seen.outcome, _labels(seen)
    if target is None or outcome is None or seen.written is None:
        return
    before = target.scale.spec_replicas
    direction = "up" if seen.written > before else "down"
    telemetry.record(metrics.DECISION_SECONDS, due_seconds, **labels)
    telemetry.record(metrics.SCALED, 1, direction=direction, **labels)
    message = f"{target} from {before} to {count_of(seen.written, 'worker')}; {outcome.decision.message}"
    telemetry.event(seen.body, outcome.decision.reason, message)


def _record_queue(telemetry: Telemetry, seen: Pass, labels: dict[str, str]) -> None:
    """What nobody knows now has no series: an old number would look like a measured one."""
    measured = _measured(seen)
    for metric in metrics.OF_QUEUE:
        number = measured.get(metric)
        if number is None:
            telemetry.forget(metric, **labels)
        else:
            telemetry.record(metric, number, **labels)
    if seen.lead_seconds is not None:
        telemetry.record(metrics.LEAD_SECONDS, seen.lead_seconds, **labels)


def _measured(seen: Pass) -> dict[Metric, float | None]:
    """What this pass measured; rates from earlier samples alone are not of now."""
    sample = seen.signal.sample
    if sample is None:
        return {}
    numbers: dict[Metric, float | None] = {
        metrics.LAG: sample.lag_seconds,
        metrics.BACKLOG: sample.backlog,
        metrics.BLOCKED: sample.blocked,
        metrics.PHANTOMS: sample.phantoms,
        metrics.IN_FLIGHT: sample.in_flight,
    }
    if seen.outcome is not None:
        found = seen.outcome.estimates
        numbers[metrics.ARRIVALS] = found.arrivals_per_second
        numbers[metrics.COMPLETIONS] = found.completions_per_second
        numbers[metrics.SERVICE_RATE] = found.service_rate
    return numbers


def _record_workers(telemetry: Telemetry, seen: Pass, labels: dict[str, str]) -> None:
    target, outcome = seen.target, seen.outcome
    if target is None or outcome is None:
        return
    decision = outcome.decision
    counts = {
        "running": target.pods.running,
        "ready": target.pods.ready,
        "present": target.scale.spec_replicas,
        "wanted": decision.wanted,
        "allowed": decision.allowed,
    }
    for state, count in counts.items():
        telemetry.record(metrics.WORKERS, count, state=state, **labels)
    telemetry.record(metrics.LIMITED, float(decision.is_held_back), **labels)


def _told(seen: Pass, conditions: tuple[Condition, ...]) -> set[object]:
    """The reasons that SignalAvailable gives for a gap, and gave in the last status: once is enough."""
    kind = ConditionType.SIGNAL_AVAILABLE
    before = seen.condition(kind)
    told: set[object] = {entry.reason for entry in conditions if entry.type is kind and entry.status is not Truth.TRUE}
    return told if before.get("status") == Truth.TRUE else told | {before.get("reason")}


def _say_change(telemetry: Telemetry, seen: Pass, condition: Condition, told: Set[object]) -> None:
    """One event for a verdict that changed; `told` are reasons that SignalAvailable gives, now or before."""
    before = seen.condition(condition.type)
    old, new = (before.get("status"), before.get("reason")), (str(condition.status), str(condition.reason))
    if old == new:
        return
    hushed = QUIET | told if condition.type is not ConditionType.SIGNAL_AVAILABLE else QUIET
    was_quiet = not before or old[1] in hushed or old == EARLY
    if condition.reason in hushed - QUIET or new == EARLY or (was_quiet and condition.reason in QUIET):
        return
    type_: Literal["Normal", "Warning"] = "Normal" if condition.status is Truth.TRUE else "Warning"
    telemetry.event(seen.body, condition.reason, f"{condition.type}: {condition.message}", type_=type_)


def _labels(seen: Pass) -> dict[str, str]:
    metadata = seen.body["metadata"]
    return {"namespace": metadata["namespace"], "name": metadata["name"]}
