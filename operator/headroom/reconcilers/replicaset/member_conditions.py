"""The conditions of one member: how far it came through the stages, and whether it serves."""

from headroom.model.condition_types import ConditionType
from headroom.model.conditions import Condition, Truth
from headroom.model.replica import Role, Stage
from headroom.policy.replicaset.members import STAGE_ORDER, EvaluatedMember
from headroom.reasons import Reason

STAGE_CONDITIONS = {
    Stage.ADMITTED: ConditionType.ADMITTED,
    Stage.SLOT_RESERVED: ConditionType.SLOT_RESERVED,
    Stage.SEEDED: ConditionType.SEEDED,
    Stage.STREAMING: ConditionType.STREAMING,
    Stage.CAUGHT_UP: ConditionType.CAUGHT_UP,
}


def describe_member_conditions(member: EvaluatedMember) -> tuple[Condition, ...]:
    """A stage's condition is True once the member is past it, False with the reason while it is in it."""
    stage, reason, message = _find_stage(member)
    reached = STAGE_ORDER[Stage.STANDBY if stage in (Stage.DRAINING, Stage.RETIRED) else stage]
    conditions = []
    for each, kind in STAGE_CONDITIONS.items():
        if STAGE_ORDER[each] < reached:
            conditions.append(Condition(kind, Truth.TRUE, Reason.AS_EXPECTED))
        elif STAGE_ORDER[each] == reached:
            conditions.append(Condition(kind, Truth.FALSE, reason, message))
        else:
            conditions.append(Condition(kind, Truth.UNKNOWN, Reason.NOT_YET_OBSERVED))
    return (*conditions, _member_serving(member))


def _find_stage(member: EvaluatedMember) -> tuple[Stage, Reason, str]:
    """The stage of a member; one that serves without a stream is back at the stage in which its stream begins, and one
    that serves beyond the bound at the one in which it catches up.
    """
    verdict, refusal, fault = member.verdict, member.facts.refusal, member.facts.library_fault
    if verdict.stage in (Stage.SERVING, Stage.DRAINING) and refusal is not None:
        return Stage.STREAMING, refusal.reason, refusal.message
    if verdict.stage in (Stage.SERVING, Stage.DRAINING) and fault is not None and member.facts.has_other_libraries:
        return Stage.CAUGHT_UP, fault.reason, fault.message
    if verdict.stage is Stage.SERVING and verdict.reason is Reason.REPLAY_LAG_ABOVE_LIMIT:
        return Stage.CAUGHT_UP, verdict.reason, verdict.message
    return verdict.stage, verdict.reason, verdict.message


def _member_serving(member: EvaluatedMember) -> Condition:
    facts, kind = member.facts, ConditionType.SERVING
    if facts.role is Role.SERVING and facts.is_listed:
        return Condition(kind, Truth.TRUE, Reason.AS_EXPECTED)
    if facts.role is Role.SERVING:
        return Condition(kind, Truth.FALSE, Reason.IN_PROGRESS, "the Service does not list it")
    if facts.role is Role.DRAINING:
        return Condition(kind, Truth.FALSE, member.verdict.reason, "it takes no new connections")
    if facts.role is Role.STANDBY and member.verdict.stage is Stage.STANDBY:
        return Condition(kind, Truth.FALSE, Reason.AS_EXPECTED, "a warm standby, not meant to serve now")
    if facts.role is Role.STANDBY:
        return Condition(kind, Truth.FALSE, member.verdict.reason, "a standby that could not serve now")
    if facts.is_going:
        is_held = facts.pod is None and facts.slot is not None and facts.slot.is_active
        held = f"; its pod is gone, and the primary still uses slot {facts.slot_name}" if is_held else ""
        return Condition(kind, Truth.FALSE, member.verdict.reason, f"{member.verdict.message}{held}")
    return Condition(kind, Truth.FALSE, Reason.IN_PROGRESS, "it is being created")
