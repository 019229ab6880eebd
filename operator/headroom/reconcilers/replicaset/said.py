"""The event about a set whose readiness has turned."""

from collections.abc import Iterable, Mapping
from typing import Any

from headroom.model.conditions import Condition, Truth
from headroom.reasons import ConditionType
from headroom.reconcilers.replicaset.run import Run

TOLD = (Truth.TRUE, Truth.FALSE)


def say_readiness(run: Run, conditions: Iterable[Condition]) -> None:
    """Say it where Ready is True now and was False in the status that the pass began with, or the other way round."""
    ready = next(condition for condition in conditions if condition.type is ConditionType.READY)
    before = _status_of_ready(run.facts.body.get("status") or {})
    if before not in TOLD or ready.status not in TOLD or before == ready.status:
        return
    run.announce(ready.reason, f"Ready: {ready.message}", "Normal" if ready.status is Truth.TRUE else "Warning")


def _status_of_ready(status: Mapping[str, Any]) -> str | None:
    entries = status.get("conditions", ())
    return next((entry["status"] for entry in entries if entry["type"] == ConditionType.READY), None)
