"""Admitted: the primary has room for one more; then a member begins, with its slot."""

from dataclasses import replace

from headroom.model.replica import MemberFacts, MemberId, format_incarnation
from headroom.reasons import ConditionType
from headroom.reconcilers.replicaset.run import Run
from headroom.reconcilers.replicaset.slot_reserved import ensure_slot

CONDITION = ConditionType.ADMITTED


async def ensure_begun(run: Run) -> None:
    """Begin as many members as planned; the slot is first, so that no copy outlives the WAL it needs."""
    facts = run.facts
    primary = facts.primary
    if not run.decision.plan.provision or primary is None or primary.slots is None:
        return
    if "systemIdentifier" not in (facts.body.get("status") or {}):
        # This pass's status names the primary, and the next one begins: from then on a teardown knows where to look.
        run.has_moved = True
        return
    await primary.slots.check_replication()
    taken = {member.id for member in facts.members}
    for _ in range(run.decision.plan.provision):
        member = next_member(taken, format_incarnation(facts.now))
        taken.add(member)
        await ensure_slot(run, _blank(run, member))
        run.has_moved = True


def next_member(taken: set[MemberId], incarnation: str) -> MemberId:
    """The lowest ordinal that nobody has, in a new incarnation."""
    ordinals = {member.ordinal for member in taken}
    ordinal = next(number for number in range(len(ordinals) + 1) if number not in ordinals)
    return MemberId(ordinal, incarnation)


def _blank(run: Run, member: MemberId) -> MemberFacts:
    owner = run.facts.owner
    slot = member.slot_name(run.facts.services.install_id, owner.uid)
    return replace(MemberFacts(member, member.object_name(owner.name), slot))
