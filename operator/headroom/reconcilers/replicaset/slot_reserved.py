"""SlotReserved: the primary keeps the WAL that a member needs, from before its copy begins."""

from headroom.model.replica import MemberFacts
from headroom.reasons import ConditionType
from headroom.reconcilers.replicaset.run import Run

CONDITION = ConditionType.SLOT_RESERVED


async def ensure_slot(run: Run, member: MemberFacts) -> None:
    """Reserve the member's slot unless it is there; a slot that vanished under a live member comes back."""
    primary = run.facts.primary
    if primary is None or primary.slots is None or member.slot is not None:
        return
    run.facts.memory.slot_names.add(member.slot_name)
    await primary.slots.ensure_slot(member.slot_name)


async def ensure_slots(run: Run) -> None:
    """Do so for every member that stays."""
    for member in run.staying:
        if member.slot is None and not run.decision.evaluated(member.name).verdict.is_failed:
            await run.attempt(ensure_slot(run, member))
