"""A slot for each member, from before its copy begins: the primary keeps the WAL that the member needs."""

from headroom.errors import PrimaryUnavailable, Refused, Unavailable
from headroom.model.replica import MemberId, format_incarnation
from headroom.ports.postgres import SlotLink
from headroom.reasons import Reason
from headroom.reconcilers.replicaset.memory import SetContext

LATE_SECONDS = 15.0
"""A statement that got no answer takes effect within this time or not at all: then its connection is dead."""
NO_ANSWER = frozenset({Reason.PRIMARY_TIMEOUT, Reason.PRIMARY_UNREACHABLE})
"""Errors after which the statement may still take effect; all others are the answer that it did not."""


async def reserve(context: SetContext) -> None:
    """Begin as many members as planned; the slot is first, so that no copy outlives the WAL it needs."""
    count, link = context.decision.plan.reserve, context.slot_link
    if count and link is not None:
        await context.attempt(_begin_members(context, link, count))


async def restore_slots(context: SetContext) -> None:
    """Recreate slots that vanished under live members, and create those that an earlier process did not get to."""
    link = context.slot_link
    if link is None:
        return
    for name in context.decision.plan.restore_slots:
        await context.attempt(ensure_slot(context, link, context.member(name).slot_name))


async def _begin_members(context: SetContext, link: SlotLink, count: int) -> None:
    if "systemIdentifier" not in context.status:
        # First the status names the primary, so that a teardown knows where to look; the next pass begins the members.
        context.has_moved = True
        return
    await link.check_replication()
    taken = {member.facts.id for member in context.decision.members}
    for _ in range(count):
        member = next_member(taken, format_incarnation(context.now.wall))
        taken.add(member)
        await _begin_member(context, link, member.slot_name(context.services.install_id, context.uid))
        context.has_moved = True


async def _begin_member(context: SetContext, link: SlotLink, slot_name: str) -> None:
    """Create its slot: that of a member from a snapshot keeps what the anchor keeps."""
    snapshot, anchor = context.decision.copies.begin.snapshot, context.decision.copies.begin.anchor
    try:
        await ensure_slot(context, link, slot_name, copied_from=anchor)
    except PrimaryUnavailable as error:
        if snapshot is None or error.reason is not Reason.SLOT_LOST:
            raise
        # Since the anchor was read. The next pass chooses again, and does not try this one without end.
        present = [each.name for each in context.facts.snapshots or ()]
        now = context.now.monotonic
        context.memory = context.memory.record_restore_failure(snapshot.name, present, now)
        context.emit(Reason.SLOT_LOST, f"snapshot {snapshot.name} is of no use: {error}", "Warning")


def next_member(taken: set[MemberId], incarnation: str) -> MemberId:
    """The lowest free ordinal, in a new incarnation."""
    ordinals = {member.ordinal for member in taken}
    ordinal = next(number for number in range(len(ordinals) + 1) if number not in ordinals)
    return MemberId(ordinal, incarnation)


async def ensure_slot(context: SetContext, link: SlotLink, name: str, *, copied_from: str = "") -> None:
    """Create a slot unless it exists, as a copy of another one if that is named; raises what the link raises."""
    # Remembered first: the answer may be lost although the slot was created.
    context.memory = context.memory.record_slot(name)
    now, before = context.services.clock.monotonic(), context.handles.unanswered
    unanswered = context.handles.unanswered = {each: at for each, at in before.items() if now - at < LATE_SECONDS}
    unanswered[name] = now
    try:
        await link.ensure_slot(name, copied_from=copied_from)
        del unanswered[name]
    except (Refused, Unavailable) as error:
        if error.reason not in NO_ANSWER:
            del unanswered[name]
        raise
    finally:
        context.services.servers.invalidate_slots(context.guard_key)
