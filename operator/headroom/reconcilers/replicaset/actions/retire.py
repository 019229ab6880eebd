"""The end of a member: the mark, then pod, slot and claim in that order; a later process finds each step again."""

from collections.abc import Iterable, Mapping
from datetime import timedelta

from headroom.api.v1alpha1.serving import VolumeRetention
from headroom.errors import Conflict
from headroom.model.conditions import Finding
from headroom.model.replica import (
    RETAINED_LABEL,
    RETIRE_ANNOTATION,
    SEEDED_ANNOTATION,
    SET_LABEL,
    ClaimFacts,
    PodFacts,
    Role,
)
from headroom.policy.replicaset.members import Member
from headroom.policy.replicaset.restores import NOT_OF_SNAPSHOT
from headroom.policy.replicaset.retirement import Retirement
from headroom.policy.replicaset.timeouts import NODE_LOST_AFTER
from headroom.ports.kube import CLAIM, POD, JsonOp, Manifest, ObjectRef
from headroom.reasons import Reason
from headroom.reconcilers.replicaset import metrics
from headroom.reconcilers.replicaset.memory import SetContext
from headroom.reconcilers.replicaset.roles import escape

FAST_STOP = timedelta(seconds=5)
"""Time that a server needs to stop once its grace for sessions is over."""


async def retire(context: SetContext) -> None:
    """Mark who goes: from then on no pass treats the member as one that stays."""
    for retirement in context.decision.plan.retire:
        await context.attempt(_retire(context, retirement))


async def record_seeded(context: SetContext) -> None:
    """Record on its claim that a member has been caught up, if volumes are retained: its pod may be gone by the end."""
    if context.spec.retention.volumes is not VolumeRetention.RETAIN:
        return
    for member in (each.facts for each in context.decision.members):
        is_new = member.role in (None, Role.PROVISIONING)
        if member.claim is not None and not (is_new or member.claim.is_seeded or member.claim.is_deleting):
            await context.attempt(annotate(context, member.claim, {SEEDED_ANNOTATION: "true"}))


async def remove(context: SetContext) -> None:
    """Bring every marked member one step closer to its end."""
    for name in context.decision.plan.remove:
        await context.attempt(remove_member(context, context.member(name)))


async def recreate(context: SetContext) -> None:
    """Delete pods that ended or have an older template; the next pass creates them again on their claim."""
    for name in context.decision.plan.recreate:
        pod = context.member(name).pod
        assert pod is not None
        await context.attempt(delete_pod(context, pod, is_same_version=True))


async def stop(context: SetContext) -> None:
    """Delete the pods of drained members that do not answer: clients may still read there, and the data gets older."""
    for name in context.decision.plan.stop:
        await context.attempt(_stop(context, context.member(name)))


async def _stop(context: SetContext, member: Member) -> None:
    assert member.pod is not None
    await delete_pod(context, member.pod, is_same_version=True, grace_seconds=int(FAST_STOP.total_seconds()))
    cause = f": {member.silence}" if member.silence else ""
    message = f"{member.name} is restarted: its sessions are to end, and it cannot be asked to end them{cause}"
    context.emit(Reason.SESSIONS_TERMINATED, message, "Warning")


async def _retire(context: SetContext, retirement: Retirement) -> None:
    """Counted and reported only once it is written: a refused write is not a failed attempt."""
    member = context.member(retirement.name)
    if member.claim is not None:
        # A failed attempt is not kept, however far its copy came: there would be one more every few minutes.
        await mark_claim(context, member, retirement.reason, is_kept=has_copy(member) and not retirement.is_failure)
    elif not await _drop_unclaimed_slot(context, member):
        return
    context.has_moved = True
    if retirement.is_failure:
        _record_failure(context, retirement)
    elif retirement.reason is not Reason.RETIRED:
        context.emit(retirement.reason, f"{retirement.name} is recreated: {retirement.message}", "Warning")


async def mark_claim(context: SetContext, member: Member, reason: Reason, *, is_kept: bool) -> None:
    """Write on the claim that its member goes; `is_kept` if its volume is worth to be retained."""
    assert member.claim is not None
    seeded = {SEEDED_ANNOTATION: "true"} if is_kept and not member.claim.is_seeded else {}
    await annotate(context, member.claim, {RETIRE_ANNOTATION: str(reason), **seeded})


def has_copy(member: Member) -> bool:
    """Whether the volume is known to have a complete copy that did not belong to a failed attempt."""
    claim, pod = member.claim, member.pod
    if claim is not None and (claim.is_seeded or claim.retire is not None):
        return claim.is_seeded
    return pod is not None and (pod.seed.is_done or pod.role is not Role.PROVISIONING)


async def annotate(
    context: SetContext, claim: ClaimFacts, annotations: Mapping[str, str], *, without: Iterable[str] = ()
) -> None:
    """Add annotations to this claim, and remove those that it is to be `without`, unless it has changed since it was
    evaluated.
    """
    operations: list[JsonOp] = [
        {"op": "test", "path": "/metadata/uid", "value": claim.uid},
        {"op": "test", "path": "/metadata/resourceVersion", "value": claim.resource_version},
        *(
            {"op": "add", "path": f"/metadata/annotations/{escape(name)}", "value": value}
            for name, value in annotations.items()
        ),
        *({"op": "remove", "path": f"/metadata/annotations/{escape(name)}"} for name in without),
    ]
    await context.services.kube.patch(ObjectRef(CLAIM, context.namespace, claim.name), operations)


async def remove_member(context: SetContext, member: Member, *, must_drop_slot: bool = True) -> None:
    """Delete pod, then slot, then claim, as far as each may go now."""
    if member.pod is not None:
        if member.name in context.decision.over_cap:
            await _release_wal(context, member, member.pod)
        elif not member.pod.is_deleting:
            await delete_pod(context, member.pod)
        elif _is_stuck(context, member.pod) or _is_abandoned(context):
            await _drop_slot(context, member)
        return
    # The claim goes last: it carries the name of the slot, and a later process finds the member by it.
    is_slot_gone = await _drop_slot(context, member)
    if not is_slot_gone and _may_end_sender(context, member):
        is_slot_gone = await _end_orphaned_sender(context, member)
    if not is_slot_gone and must_drop_slot:
        return
    if member.claim is not None and not member.claim.is_deleting:
        await release_claim(context, member.claim, is_kept=member.claim.is_seeded)
        what = "slot and claim" if is_slot_gone else f"claim; slot {member.slot_name} could not be dropped"
        context.emit(Reason.RETIRED, f"{member.name} is gone, with its {what}")
        context.has_moved = True


async def release_claim(context: SetContext, claim: ClaimFacts, *, is_kept: bool) -> None:
    """Delete the claim, or remove its owner if the spec retains volumes and this one is worth it."""
    ref = ObjectRef(CLAIM, context.namespace, claim.name)
    live = await read_live(context, ref, claim.uid)
    if live is None:
        return
    version = live["metadata"]["resourceVersion"]
    if context.spec.retention.volumes is VolumeRetention.DELETE or not is_kept:
        await context.services.kube.delete(ref, uid=claim.uid, resource_version=version)
        return
    await context.services.kube.patch(ref, disown(context, claim.uid, version))


def disown(context: SetContext, uid: str, version: str) -> list[JsonOp]:
    """What makes a child one that is retained, if it is still the same."""
    return [
        {"op": "test", "path": "/metadata/uid", "value": uid},
        {"op": "test", "path": "/metadata/resourceVersion", "value": version},
        # Without an owner the garbage collector leaves it, and without the label no watch of ours sees it.
        {"op": "remove", "path": "/metadata/ownerReferences"},
        {"op": "remove", "path": f"/metadata/labels/{escape(SET_LABEL)}"},
        {"op": "add", "path": f"/metadata/labels/{escape(RETAINED_LABEL)}", "value": context.name},
    ]


async def _release_wal(context: SetContext, member: Member, pod: PodFacts) -> None:
    """The primary's disk does not wait for a drain: the pod gets as long as an ejected one, also if it is being deleted
    with more, and the slot goes as soon as nobody uses it. A sender that outlives its pod is ended.
    """
    grace = context.spec.routing.eject_grace + FAST_STOP
    if not pod.is_deleting or (pod.ends_at is not None and pod.ends_at - context.now.wall > grace):
        await delete_pod(context, pod, grace_seconds=int(grace.total_seconds()))
    is_overdue = pod.ends_at is not None and context.now.wall - pod.ends_at > FAST_STOP
    if member.slot is not None and (is_overdue or not member.slot.is_active):
        await _drop_slot(context, member, ends_sender=is_overdue)


async def delete_pod(
    context: SetContext, pod: PodFacts, *, is_same_version: bool = False, grace_seconds: int | None = None
) -> None:
    """Delete this pod and no other; with `is_same_version` only if it has not changed since it was evaluated."""
    ref = ObjectRef(POD, context.namespace, pod.name)
    live = await read_live(context, ref, pod.uid)
    if live is None:
        return
    version = live["metadata"]["resourceVersion"]
    if is_same_version and version != pod.resource_version:
        raise Conflict(f"{ref} has changed since it was evaluated")
    await context.services.kube.delete(ref, uid=pod.uid, resource_version=version, grace_seconds=grace_seconds)
    context.has_moved = True


async def read_live(context: SetContext, ref: ObjectRef, uid: str) -> Manifest | None:
    """Read live: the watches may be late, and nothing is destroyed by what they show."""
    live = await context.services.kube.get(ref)
    if live is not None and live["metadata"]["uid"] != uid:
        raise Conflict(f"{ref} is another object now")
    return live


def _may_end_sender(context: SetContext, member: Member) -> bool:
    """Whether the slot of a member without a pod does not wait until the primary ends a connection that is dead: it
    keeps too much WAL, or a person asked not to wait.
    """
    return member.name in context.decision.over_cap or _is_abandoned(context)


def _is_abandoned(context: SetContext) -> bool:
    """Whether a person asked not to wait: a slot goes as soon as nobody uses it, whatever becomes of its pod."""
    return context.facts.deletion is not None and context.facts.deletion.is_abandoned


async def _end_orphaned_sender(context: SetContext, member: Member) -> bool:
    """With its node lost, the connection of a server may outlive its pod until wal_sender_timeout, which may be off."""
    if await context.services.kube.get(ObjectRef(POD, context.namespace, member.name)) is not None:
        raise Conflict(f"{member.name} has a pod by now")
    is_gone = await _drop_slot(context, member, ends_sender=True)
    if is_gone:
        reason = Reason.WAL_CAP_REACHED if member.name in context.decision.over_cap else Reason.DELETING
        message = f"the pod of {member.name} is gone, and the primary still sent WAL to it: that was ended for its slot"
        context.emit(reason, message, "Warning")
    return is_gone


def _is_stuck(context: SetContext, pod: PodFacts) -> bool:
    """Its node does not answer: the pod stays until it does, but the WAL must not. No other pod ever gets this slot."""
    return pod.ends_at is not None and context.now.wall - pod.ends_at > NODE_LOST_AFTER


async def _drop_unclaimed_slot(context: SetContext, member: Member) -> bool:
    """Drop the slot of a member that has nothing else, according to the API server."""
    # The watch may be behind the claim of a member that was begun a moment ago: its slot is in use.
    live = await context.services.kube.get(ObjectRef(CLAIM, context.namespace, member.name))
    if live is not None:
        raise Conflict(f"{member.name} has a claim by now")
    return await _drop_slot(context, member)


async def _drop_slot(context: SetContext, member: Member, *, ends_sender: bool = False) -> bool:
    """True when the slot is known to be gone; `ends_sender` takes it from a WAL sender whose receiver is gone."""
    if context.facts.primary is None:
        return False
    if member.slot is None:
        return True
    link = context.slot_link
    if link is None:
        return False
    try:
        return await link.drop_slot(member.slot_name, ends_sender=ends_sender)
    finally:
        # Also after an error: the answer may be lost although the slot is gone.
        context.services.servers.invalidate_slots(context.guard_key)


def _record_failure(context: SetContext, retirement: Retirement) -> None:
    failure = Finding(retirement.reason, retirement.message)
    context.memory = context.memory.record_failure(failure, context.now.monotonic)
    claim = context.member(retirement.name).claim
    if claim is not None and claim.restored_from and retirement.reason not in NOT_OF_SNAPSHOT:
        present = [snapshot.name for snapshot in context.facts.snapshots or ()]
        now = context.now.monotonic
        context.memory = context.memory.record_restore_failure(claim.restored_from, present, now)
    labels = {**context.labels, "reason": str(retirement.reason)}
    context.services.telemetry.record(metrics.ATTEMPTS_FAILED, 1, **labels)
    count = context.memory.attempts.count
    message = f"attempt {count} to create {retirement.name} was given up: {retirement.message}"
    context.emit(retirement.reason, message, "Warning")
