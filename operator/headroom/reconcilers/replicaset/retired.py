"""Retired: marked first, then pod, slot and claim in that order; a process that comes later finds each step again."""

from headroom.api.v1alpha1.serving import VolumeRetention
from headroom.model.replica import RETAINED_LABEL, RETIRE_ANNOTATION, SET_LABEL, ClaimFacts, MemberFacts, PodFacts
from headroom.policy.replicaset.plan import Retirement
from headroom.policy.replicaset.timeouts import NODE_LOST_AFTER
from headroom.ports.kube import CLAIM, POD, JsonOp, ObjectRef
from headroom.reasons import Reason
from headroom.reconcilers.replicaset import metrics
from headroom.reconcilers.replicaset.roles import escape
from headroom.reconcilers.replicaset.run import Run


async def ensure_marked(run: Run) -> None:
    """Write down who goes: from then on no pass takes the member for one that stays."""
    for retirement in run.decision.plan.retire:
        await run.attempt(_mark(run, retirement))


async def ensure_removed(run: Run) -> None:
    """Bring every marked member one step nearer to its end."""
    for member in run.facts.members:
        if member.is_going:
            await run.attempt(_remove(run, member))


async def _remove(run: Run, member: MemberFacts) -> None:
    await remove_member(run, member)


async def _mark(run: Run, retirement: Retirement) -> None:
    """Counted and told only once it is written: what was refused has not happened, and is no attempt that failed."""
    member = run.facts.member(retirement.name)
    if member.claim is not None:
        await mark_claim(run, member.claim, retirement.reason)
    elif not await _drop_slot(run, member):
        return
    run.has_moved = True
    if retirement.is_failure:
        _count_failure(run, retirement)
    elif retirement.reason is not Reason.RETIRED:
        run.announce(retirement.reason, f"{retirement.name} is made anew: {retirement.message}", "Warning")


async def mark_claim(run: Run, claim: ClaimFacts, reason: Reason) -> None:
    """Note on the claim that its member goes."""
    path = f"/metadata/annotations/{escape(RETIRE_ANNOTATION)}"
    operations: list[JsonOp] = [
        {"op": "test", "path": "/metadata/uid", "value": claim.uid},
        {"op": "test", "path": "/metadata/resourceVersion", "value": claim.resource_version},
        {"op": "add", "path": path, "value": str(reason)},
    ]
    await run.writer.patch(ObjectRef(CLAIM, run.facts.owner.namespace, claim.name), operations)


async def remove_member(run: Run, member: MemberFacts, *, must_drop_slot: bool = True) -> bool:
    """Delete pod, then slot, then claim; True once nothing is left to be asked for."""
    namespace = run.facts.owner.namespace
    if member.pod is not None:
        if not member.pod.is_deleting:
            await run.writer.delete(ObjectRef(POD, namespace, member.pod.name), uid=member.pod.uid)
            run.has_moved = True
        elif _is_stuck(run, member.pod):
            await _drop_slot(run, member)
        return False
    is_slot_gone = await _drop_slot(run, member)
    if not is_slot_gone and must_drop_slot:
        return False
    if member.claim is not None and not member.claim.is_deleting:
        await release_claim(run, member.claim)
        with_what = "slot and claim" if is_slot_gone else f"claim; slot {member.slot_name} could not be dropped"
        run.announce(Reason.RETIRED, f"{member.name} is gone, with its {with_what}")
        run.has_moved = True
    return True


def _is_stuck(run: Run, pod: PodFacts) -> bool:
    """Its node does not answer: the pod stays until it does, and the WAL must not. No other pod ever has this slot."""
    return pod.ends_at is not None and run.facts.now - pod.ends_at > NODE_LOST_AFTER


async def _drop_slot(run: Run, member: MemberFacts) -> bool:
    """True when the slot is known to be gone."""
    primary = run.facts.primary
    if primary is None:
        return False
    if member.slot is None:
        return True
    return primary.slots is not None and await primary.slots.drop_slot(member.slot_name)


async def release_claim(run: Run, claim: ClaimFacts) -> None:
    """Delete the claim, or let it go without an owner where the spec retains volumes."""
    ref = ObjectRef(CLAIM, run.facts.owner.namespace, claim.name)
    if run.facts.spec.retention.volumes is VolumeRetention.DELETE:
        await run.writer.delete(ref, uid=claim.uid)
        return
    operations: list[JsonOp] = [
        {"op": "test", "path": "/metadata/uid", "value": claim.uid},
        {"op": "remove", "path": "/metadata/ownerReferences"},
        {"op": "remove", "path": f"/metadata/labels/{escape(SET_LABEL)}"},
        {"op": "add", "path": f"/metadata/labels/{escape(RETAINED_LABEL)}", "value": run.facts.owner.name},
    ]
    await run.writer.patch(ref, operations)


def _count_failure(run: Run, retirement: Retirement) -> None:
    memory = run.facts.memory
    memory.fail(run.facts.gathered_at, retirement.reason, retirement.message)
    run.telemetry.record(metrics.ATTEMPTS_FAILED, 1, **run.labels, reason=str(retirement.reason))
    message = f"attempt {memory.attempts} to make {retirement.name} was given up: {retirement.message}"
    run.announce(retirement.reason, message, "Warning")
