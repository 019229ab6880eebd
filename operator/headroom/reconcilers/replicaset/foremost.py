"""What a person should know first of a set, in one word: the column REASON."""

from collections.abc import Iterable, Mapping

from headroom.model.condition_types import ConditionType
from headroom.model.conditions import Condition, Truth
from headroom.reasons import Reason

URGENT = ((ConditionType.STALLED, Truth.TRUE), (ConditionType.READS_MAY_BE_STALE, Truth.TRUE))
WRONG_WHEN = {
    **dict(URGENT),
    ConditionType.SIGNAL_AVAILABLE: Truth.FALSE,
    ConditionType.SCALING_LIMITED: Truth.TRUE,
    ConditionType.WARM_POOL_READY: Truth.FALSE,
}
"""The status of each condition that a person should hear of, the worst first. Snapshots are an offer, not a fault."""


def find_foremost(conditions: Iterable[Condition]) -> str:
    """What a person should know first of a set, in one word: why it is not Ready, else what else is wrong with it.

    The reason of Ready while that is not True, or while fewer serve than should; else `Type:Reason` of the first other
    condition that is not as it should be. That too few serve has its cause after it.
    """
    found = {condition.type: condition for condition in conditions}
    ready = found[ConditionType.READY]
    if ready.status is Truth.TRUE:
        for kind, wrong in WRONG_WHEN.items():
            one = found.get(kind)
            if one is not None and one.status is wrong and _is_above(one, ready.reason):
                return f"{kind}:{one.reason}"
    cause = _find_cause(found) if ready.reason is Reason.SERVING_BELOW_MINIMUM else None
    return str(ready.reason) if cause is None else f"{ready.reason}:{cause}"


def _find_cause(found: Mapping[ConditionType, Condition]) -> Reason | None:
    """What keeps new replicas from coming: what waits for a person, else the trouble of the one that is created."""
    stalled, warm = found[ConditionType.STALLED], found[ConditionType.WARM_POOL_READY]
    if stalled.status is Truth.TRUE:
        return stalled.reason
    is_trouble = warm.status is Truth.FALSE and warm.reason is not Reason.WARM_POOL_REFILLING
    return warm.reason if is_trouble else None


def _is_above(condition: Condition, ready: Reason) -> bool:
    """Whether a condition that is not as it should be matters more than the reason of a Ready that is True."""
    if (condition.type, condition.status) in URGENT or ready is Reason.AS_EXPECTED:
        return True
    # Fewer serve than should: what keeps a new one from coming tells more, that the pool is refilled afterwards does
    # not. A paused set is not refilled: then that is not news.
    is_trouble = condition.type is ConditionType.WARM_POOL_READY and condition.reason is not Reason.WARM_POOL_REFILLING
    return ready is Reason.IN_PROGRESS and is_trouble
