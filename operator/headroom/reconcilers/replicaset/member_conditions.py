"""The verdicts about one member: a condition for each stage of its life."""

from headroom.model.conditions import Condition, Truth
from headroom.model.replica import Role, Stage
from headroom.policy.replicaset.ejection import EvaluatedMember
from headroom.reasons import Reason
from headroom.reconcilers.replicaset import admitted, caught_up, seeded, serving, slot_reserved, streaming

STAGE_CONDITIONS = (
    (Stage.ADMITTED, admitted.CONDITION),
    (Stage.SLOT_RESERVED, slot_reserved.CONDITION),
    (Stage.SEEDED, seeded.CONDITION),
    (Stage.STREAMING, streaming.CONDITION),
    (Stage.CAUGHT_UP, caught_up.CONDITION),
)
ORDER = tuple(Stage)


def member_conditions(member: EvaluatedMember) -> tuple[Condition, ...]:
    """A stage's condition is True once the member is past it, False with the reason while it is in it."""
    stage, reason, message = _find_stage(member)
    reached = ORDER.index(Stage.STANDBY if stage in (Stage.DRAINING, Stage.RETIRED) else stage)
    conditions = []
    for each, kind in STAGE_CONDITIONS:
        number = ORDER.index(each)
        if number < reached:
            conditions.append(Condition(kind, Truth.TRUE, Reason.AS_EXPECTED))
        elif number == reached:
            conditions.append(Condition(kind, Truth.FALSE, reason, message))
        else:
            conditions.append(Condition(kind, Truth.UNKNOWN, Reason.NOT_YET_OBSERVED))
    return (*conditions, _member_serving(member))


def _find_stage(member: EvaluatedMember) -> tuple[Stage, Reason, str]:
    """Where a member is; one that serves on without a stream is back where its stream begins."""
    verdict, lag = member.verdict, member.facts.lag
    if verdict.stage in (Stage.SERVING, Stage.DRAINING) and lag is not None and lag.refusal is not None:
        return Stage.STREAMING, lag.refusal, lag.message
    return verdict.stage, verdict.reason, verdict.message


def _member_serving(member: EvaluatedMember) -> Condition:
    facts = member.facts
    if facts.role is Role.SERVING and facts.is_listed:
        return Condition(serving.CONDITION, Truth.TRUE, Reason.AS_EXPECTED)
    if facts.role is Role.SERVING:
        return Condition(serving.CONDITION, Truth.FALSE, Reason.IN_PROGRESS, "the Service does not list it")
    if facts.role is Role.DRAINING:
        return Condition(serving.CONDITION, Truth.FALSE, member.verdict.reason, "it takes no new connections")
    if facts.role is Role.STANDBY and member.verdict.stage is Stage.STANDBY:
        return Condition(serving.CONDITION, Truth.FALSE, Reason.AS_EXPECTED, "a warm standby, not meant to serve now")
    if facts.role is Role.STANDBY:
        return Condition(serving.CONDITION, Truth.FALSE, member.verdict.reason, "a standby that could not serve now")
    return Condition(serving.CONDITION, Truth.FALSE, Reason.IN_PROGRESS, "it is being made")
