"""Snapshots of members' volumes: each step that was planned, if what it was planned for is still there.

The condition of snapshots says what goes wrong here, and nothing else of the set waits for it.
"""

import logging
from collections.abc import Awaitable
from functools import partial

from headroom.errors import Conflict, KubeUnavailable, NotLeading, Refused, Unavailable
from headroom.manifests.snapshot import build_snapshot
from headroom.model.conditions import Finding
from headroom.model.replica import RETIRE_ANNOTATION, SEEDED_ANNOTATION, format_incarnation
from headroom.model.snapshot import SNAPSHOT_ANNOTATION, TO_LSN, SnapshotFacts, anchor_name
from headroom.policy.replicaset.snapshot_anchors import Removal
from headroom.policy.replicaset.snapshots import Release, SnapshotPlan, Taking
from headroom.ports.kube import POD, VOLUME_SNAPSHOT, JsonOp, ObjectRef
from headroom.ports.postgres import SlotLink
from headroom.reasons import Reason
from headroom.reconcilers.replicaset import metrics
from headroom.reconcilers.replicaset.actions.reserve import ensure_slot
from headroom.reconcilers.replicaset.actions.retire import annotate, delete_pod, disown, read_live
from headroom.reconcilers.replicaset.actions.seed import create_child
from headroom.reconcilers.replicaset.memory import SetContext
from headroom.reconcilers.replicaset.roles import escape

logger = logging.getLogger(__name__)


async def keep_anchors(context: SetContext) -> None:
    """Drop anchors that no snapshot needs, or that keep too much; touch slots that are not to be given up as idle."""
    link = context.slot_link
    if link is None:
        return
    for removal in context.decision.snapshots.drop:
        await _try(context, drop_anchor(context, link, removal))
    for name in context.decision.snapshots.touch:
        await _try(context, _touch(link, name))


async def snapshot(context: SetContext) -> None:
    """Take the planned steps; a spec from a late watch must stop nobody and delete nothing."""
    plan = context.decision.snapshots
    if not _has_steps(plan):
        return
    if context.memory.timeline > (context.status.get("timeline") or 0):
        # First the status names the timeline: else a process that follows this one could believe an old primary.
        context.has_moved = True
        return
    await context.confirm_spec()
    if plan.failure is not None:
        _record_failure(context, plan.failure)
    steps = [
        *(partial(_release, context, release) for release in plan.release),
        *(partial(_delete, context, removal) for removal in plan.delete),
        *(partial(_stamp, context, name, str(lsn)) for name, lsn in plan.stamp),
        *(partial(_create, context, taking) for taking in plan.create),
        *(partial(_stop, context, name) for name in plan.stop),
        *([partial(_choose, context, plan.choose)] if plan.choose is not None else []),
        *([partial(_reserve, context)] if plan.reserves else []),
    ]
    for step in steps:
        await _try(context, step())


def _has_steps(plan: SnapshotPlan) -> bool:
    steps = (plan.release, plan.delete, plan.stamp, plan.create, plan.stop, plan.choose, plan.reserves, plan.failure)
    return any(steps)


async def _try(context: SetContext, step: Awaitable[None]) -> None:
    """A step that is refused counts as a failed snapshot; one that gets no answer is taken again in the next pass."""
    try:
        await step
    except NotLeading:
        raise
    except KubeUnavailable as error:
        logger.info("%s/%s: %s", context.namespace, context.name, error)
    except (Refused, Unavailable) as error:
        _record_failure(context, Finding(error.reason, str(error)))


async def drop_anchor(context: SetContext, link: SlotLink, removal: Removal) -> None:
    """Drop the slot of a snapshot that is gone, or that must not keep its WAL any longer."""
    try:
        is_gone = await link.drop_slot(removal.name)
    finally:
        # Also after an error: the answer may be lost although the slot is gone.
        context.services.servers.invalidate_slots(context.guard_key)
    if is_gone and removal.why.reason is Reason.WAL_CAP_REACHED:
        context.emit(removal.why.reason, removal.why.message, "Warning")


async def release_snapshot(context: SetContext, snapshot: SnapshotFacts, *, is_kept: bool) -> None:
    """Delete it, or leave it without an owner if it is kept; the WAL that it needs is not kept any longer."""
    ref = ObjectRef(VOLUME_SNAPSHOT, context.namespace, snapshot.name)
    live = await read_live(context, ref, snapshot.uid)
    if live is None:
        return
    version = live["metadata"]["resourceVersion"]
    if is_kept:
        await context.services.kube.patch(ref, disown(context, snapshot.uid, version))
    else:
        await context.services.kube.delete(ref, uid=snapshot.uid, resource_version=version)


async def _touch(link: SlotLink, name: str) -> None:
    await link.touch_slot(name)


async def _reserve(context: SetContext) -> None:
    """The anchor comes first: what is streamed to a clone begins with what it keeps."""
    link = context.slot_link
    if link is None:
        return
    name = anchor_name(context.services.install_id, context.uid, format_incarnation(context.now.wall))
    await ensure_slot(context, link, name)
    context.has_moved = True


async def _choose(context: SetContext, taking: Taking) -> None:
    """Name the snapshot on the claim of its source: from then on the member is not one that the set has."""
    claim = context.member(taking.member).claim
    assert claim is not None
    await annotate(context, claim, {SNAPSHOT_ANNOTATION: taking.snapshot, **taking.stamps.format()})
    context.emit(Reason.SNAPSHOT_SOURCE, f"{taking.member} is stopped for {taking.snapshot}: it is not asked for")
    context.has_moved = True


async def _stop(context: SetContext, name: str) -> None:
    """With its whole grace period: a server that is killed leaves a volume that was not shut down."""
    pod = context.member(name).pod
    assert pod is not None
    await delete_pod(context, pod, is_same_version=True)


async def _create(context: SetContext, taking: Taking) -> None:
    snapshots, claim = context.spec.provisioning.snapshots, context.member(taking.member).claim
    assert snapshots is not None
    assert claim is not None
    if taking.stamps.to_lsn is not None:
        # The watch may be behind a pod that was created since.
        live = await context.services.kube.get(ObjectRef(POD, context.namespace, taking.member))
        if live is not None:
            raise Conflict(f"{taking.member} has a pod by now")
    manifest = build_snapshot(
        context.owner, taking.snapshot, claim=claim.name, class_name=snapshots.class_name, stamps=taking.stamps
    )
    await create_child(context, VOLUME_SNAPSHOT, manifest)
    context.has_moved = True


async def _stamp(context: SetContext, name: str, position: str) -> None:
    facts = _find(context, name)
    operations: list[JsonOp] = [
        {"op": "test", "path": "/metadata/uid", "value": facts.uid},
        {"op": "test", "path": "/metadata/resourceVersion", "value": facts.resource_version},
        {"op": "add", "path": f"/metadata/annotations/{escape(TO_LSN)}", "value": position},
    ]
    await context.services.kube.patch(ObjectRef(VOLUME_SNAPSHOT, context.namespace, name), operations)
    _record_taken(context, name)


async def _release(context: SetContext, release: Release) -> None:
    """Give a source back: it goes for good, its data being in the snapshot, or it starts again."""
    claim = context.member(release.member).claim
    assert claim is not None
    gone = [SNAPSHOT_ANNOTATION, *claim.stamps]
    if release.goes:
        # Nor is its volume retained: there would be one more with each snapshot.
        gone += [SEEDED_ANNOTATION] if claim.is_seeded else []
        await annotate(context, claim, {RETIRE_ANNOTATION: str(Reason.RETIRED)}, without=gone)
    else:
        await annotate(context, claim, {}, without=gone)
    context.has_moved = True
    if release.is_taken:
        _record_taken(context, claim.snapshot)
    elif release.failure is not None:
        _record_failure(context, release.failure)


async def _delete(context: SetContext, removal: Removal) -> None:
    facts = _find(context, removal.name)
    ref = ObjectRef(VOLUME_SNAPSHOT, context.namespace, removal.name)
    if not removal.is_failure and facts.stamps is not None and not await _is_confirmed(context, facts):
        raise Conflict(f"the anchor of {removal.name} is there by now")
    live = await read_live(context, ref, facts.uid)
    if live is None:
        return
    version = live["metadata"]["resourceVersion"]
    if version != facts.resource_version:
        raise Conflict(f"{ref} has changed since it was evaluated")
    await context.services.kube.delete(ref, uid=facts.uid, resource_version=version)
    context.has_moved = True
    if removal.is_failure:
        _record_failure(context, removal.why)
    else:
        context.emit(removal.why.reason, removal.why.message)


async def _is_confirmed(context: SetContext, facts: SnapshotFacts) -> bool:
    """One that is deleted since its anchor is gone: the list of slots may be older than the anchor."""
    anchor = facts.stamps.anchor if facts.stamps is not None else ""
    if any(slot.name == anchor for slot in context.facts.anchors):
        return True
    context.services.servers.invalidate_slots(context.guard_key)
    return all(slot.name != anchor for slot in await context.services.servers.read_slots(context.guard_key))


def _find(context: SetContext, name: str) -> SnapshotFacts:
    return next(each for each in context.facts.snapshots or () if each.name == name)


def _record_taken(context: SetContext, name: str) -> None:
    context.memory = context.memory.record_snapshot(None, context.now.monotonic)
    context.services.telemetry.record(metrics.SNAPSHOTS, 1, **context.labels, outcome="taken")
    when = "" if _find(context, name).is_ready else " once its driver has it ready"
    context.emit(Reason.SNAPSHOT_TAKEN, f"{name} is taken, and can be restored{when}")
    context.has_moved = True


def _record_failure(context: SetContext, failure: Finding) -> None:
    context.memory = context.memory.record_snapshot(failure, context.now.monotonic)
    context.services.telemetry.record(metrics.SNAPSHOTS, 1, **context.labels, outcome="failed")
    context.emit(failure.reason, failure.message, "Warning")
