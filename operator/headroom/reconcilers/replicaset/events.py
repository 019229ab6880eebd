"""The events about a set as a whole: its readiness has turned, or another count was decided.

What an action did to a member is emitted by the action itself.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from headroom.model.conditions import Condition, Truth
from headroom.reasons import ConditionType, Reason
from headroom.reconcilers.replicaset.memory import SetContext
from headroom.reconcilers.reporter import DesiredStatus

VERDICTS = (Truth.TRUE, Truth.FALSE)


def emit_changes(context: SetContext, desired: DesiredStatus) -> None:
    """Compare what is to be written with the status that the pass began with."""
    _emit_readiness(context, desired.conditions)
    _emit_decision(context, desired.facts["lastDecision"])


def _emit_readiness(context: SetContext, conditions: Iterable[Condition]) -> None:
    """Where Ready is True now and was False, or the other way round."""
    ready = next(condition for condition in conditions if condition.type is ConditionType.READY)
    before = context.condition(ConditionType.READY).get("status")
    if before not in VERDICTS or ready.status not in VERDICTS or before == ready.status:
        return
    context.emit(ready.reason, f"Ready: {ready.message}", "Normal" if ready.status is Truth.TRUE else "Warning")


def _emit_decision(context: SetContext, decision: Mapping[str, Any]) -> None:
    """Where another count was decided."""
    before = context.status.get("lastDecision")
    if before is None or before["to"] == decision["to"]:
        return
    message = f"{decision['from']} → {decision['to']} by {decision['rule']}: {decision['message']}"
    context.emit(Reason(decision["reason"]), message)
