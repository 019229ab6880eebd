"""The events of one pass: a count that was written, and verdicts that changed."""

from collections.abc import Set
from typing import Literal

from headroom.model.conditions import Condition, Truth
from headroom.model.numbers import count_of
from headroom.reasons import ConditionType, Reason
from headroom.reconcilers.workerpool.memory import PoolContext

REPORTED = (ConditionType.READY, ConditionType.KEEPING_UP, ConditionType.SIGNAL_AVAILABLE)
QUIET = frozenset({Reason.AS_EXPECTED, Reason.NOT_YET_OBSERVED, Reason.LAG_WITHIN_TARGET, Reason.STALE_SIGNAL})
"""No news by themselves; SignalAvailable tells why a signal is stale."""
EARLY = (str(Truth.UNKNOWN), str(Reason.GUARD_NOT_READY))
"""SignalAvailable while a guard has hardly had the time to observe its server: no news either."""


def emit_scaled(context: PoolContext) -> None:
    """Report the count that was written."""
    target, sizing = context.facts.workload, context.decision.sizing
    if target is None or sizing is None:
        return
    written = count_of(sizing.decision.allowed, "worker")
    message = f"{target} from {target.present} to {written}; {sizing.decision.message}"
    context.emit(sizing.decision.reason, message)


def emit_changes(context: PoolContext, conditions: tuple[Condition, ...]) -> None:
    """Report the verdicts that differ from those of the last status."""
    known = _known_gaps(context, conditions)
    for condition in conditions:
        if condition.type in REPORTED:
            _emit_change(context, condition, known)


def _known_gaps(context: PoolContext, conditions: tuple[Condition, ...]) -> Set[object]:
    """The reasons for a gap that SignalAvailable gives, and gave in the last status: once is enough."""
    kind = ConditionType.SIGNAL_AVAILABLE
    before = context.condition(kind)
    now: set[object] = {entry.reason for entry in conditions if entry.type is kind and entry.status is not Truth.TRUE}
    return now if before.get("status") == Truth.TRUE else now | {before.get("reason")}


def _emit_change(context: PoolContext, condition: Condition, known: Set[object]) -> None:
    """One event for a verdict that changed; `known` are reasons that SignalAvailable gives, now or before."""
    before = context.condition(condition.type)
    old, new = (before.get("status"), before.get("reason")), (str(condition.status), str(condition.reason))
    if old == new:
        return
    quiet = QUIET | known if condition.type is not ConditionType.SIGNAL_AVAILABLE else QUIET
    was_quiet = not before or old[1] in quiet or old == EARLY
    if condition.reason in quiet - QUIET or new == EARLY or (was_quiet and condition.reason in QUIET):
        return
    type_: Literal["Normal", "Warning"] = "Normal" if condition.status is Truth.TRUE else "Warning"
    context.emit(condition.reason, f"{condition.type}: {condition.message}", type_)
