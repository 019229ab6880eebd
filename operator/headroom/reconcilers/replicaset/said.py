"""The events about a set as a whole: its readiness has turned, another count was decided."""

from collections.abc import Iterable, Mapping
from typing import Any

from headroom.model.conditions import Condition, Truth
from headroom.reasons import ConditionType, Reason
from headroom.reconcilers.replicaset.run import Run

TOLD = (Truth.TRUE, Truth.FALSE)


def say_readiness(run: Run, conditions: Iterable[Condition]) -> None:
    """Say it where Ready is True now and was False in the status that the pass began with, or the other way round."""
    ready = next(condition for condition in conditions if condition.type is ConditionType.READY)
    before = _status_of_ready(run.facts.body.get("status") or {})
    if before not in TOLD or ready.status not in TOLD or before == ready.status:
        return
    run.announce(ready.reason, f"Ready: {ready.message}", "Normal" if ready.status is Truth.TRUE else "Warning")


def say_decision(run: Run, decision: Mapping[str, Any]) -> None:
    """Say it where another count was decided than the one in the status that the pass began with."""
    before = (run.facts.body.get("status") or {}).get("lastDecision")
    if before is None or before["to"] == decision["to"]:
        return
    message = f"{decision['from']} → {decision['to']} by {decision['rule']}: {decision['message']}"
    run.announce(Reason(decision["reason"]), message)


def _status_of_ready(status: Mapping[str, Any]) -> str | None:
    entries = status.get("conditions", ())
    return next((entry["status"] for entry in entries if entry["type"] == ConditionType.READY), None)
