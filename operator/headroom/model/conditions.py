"""What was found out about a resource: findings, the conditions that show them, and how new conditions replace old
ones.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from headroom.model.condition_types import ConditionType
from headroom.model.moments import format_time
from headroom.reasons import Reason

MAX_MESSAGE = 1024
MOST_CONDITIONS = 32
"""As the schema allows."""
OURS = frozenset(map(str, ConditionType))


class Truth(StrEnum):
    """A condition's status, in the words of Kubernetes."""

    TRUE = "True"
    FALSE = "False"
    UNKNOWN = "Unknown"

    @classmethod
    def of(cls, value: bool | None) -> "Truth":  # noqa: FBT001  a truth value is what this is about
        """True, False, or Unknown for None."""
        return cls.UNKNOWN if value is None else cls.TRUE if value else cls.FALSE


@dataclass(frozen=True, slots=True)
class Finding:
    """Something a person should know: a reason for programs, and a message that says what to do."""

    reason: Reason
    message: str


@dataclass(frozen=True, slots=True)
class Condition:
    """One verdict about a resource, with a reason for programs and a message for people."""

    type: ConditionType
    status: Truth
    reason: Reason
    message: str = ""


def unknown_conditions(
    kinds: Iterable[ConditionType], message: str, *, reason: Reason = Reason.NOT_YET_OBSERVED
) -> tuple[Condition, ...]:
    """Conditions of which nothing is known, as at first sight."""
    return tuple(Condition(kind, Truth.UNKNOWN, reason, message) for kind in kinds)


def merge_conditions(
    old: Sequence[Mapping[str, Any]], new: Iterable[Condition], *, generation: int, now: datetime
) -> list[dict[str, Any]]:
    """Return the conditions as status JSON; `lastTransitionTime` moves only with `status`.

    A type that `new` does not mention keeps its old entry: silence is not a verdict. Types of others go where there
    would be too many: the API server refuses the whole status then.
    """
    kept = {entry["type"]: dict(entry) for entry in old}
    for condition in new:
        before = kept.get(condition.type, {})
        moved = before.get("status") != condition.status
        kept[condition.type] = {
            "type": str(condition.type),
            "status": str(condition.status),
            "reason": str(condition.reason),
            "message": condition.message[:MAX_MESSAGE],
            "observedGeneration": generation,
            "lastTransitionTime": format_time(now) if moved else before["lastTransitionTime"],
        }
    most = {name: entry for name, entry in kept.items() if name in OURS or len(kept) <= MOST_CONDITIONS}
    return list(most.values())
