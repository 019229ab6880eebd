"""Writes the count that was decided into the target's `/scale`."""

from headroom.api.v1alpha1.common import Mode
from headroom.errors import Conflict, Refused
from headroom.model.conditions import Finding
from headroom.policy.workerpool import Move, Sizing, Target
from headroom.ports.kube import WORKER_POOL, ObjectRef, Scale
from headroom.reconcilers.workerpool.marking import clear_marks, mark_victims
from headroom.reconcilers.workerpool.memory import PoolContext
from headroom.reconcilers.workerpool.target import resolve_kind


async def scale_target(context: PoolContext) -> bool:
    """Write the count if it is to change; True when it was written. Raises Conflict: gather again.

    What the API server refuses becomes a finding. In a pass that lowers nothing, no pod keeps the mark of a victim.
    """
    target, sizing = context.facts.workload, context.decision.sizing
    if target is None or sizing is None or context.spec.mode is not Mode.ACTIVE:
        await clear_marks(context)
        return False
    has_scaled = sizing.decision.allowed != target.present and await _write_count(context, target, sizing)
    if sizing.decision.allowed >= target.present:
        await clear_marks(context)
    return has_scaled


async def _write_count(context: PoolContext, target: Target, sizing: Sizing) -> bool:
    allowed, known = sizing.decision.allowed, context.memory
    await _check_pool(context)
    try:
        scale = await _read_scale(context, target)
        if allowed < target.present:
            allowed = await mark_victims(context, target, allowed, sizing.jobs)
        if allowed == target.present:
            return False
        # The answer to the write may be lost although it took effect: until it arrives, no count counts as foreign.
        context.memory = known.writing()
        await context.services.kube.set_scale(scale, allowed)
    except Conflict:
        context.memory = known
        raise
    except Refused as error:
        context.memory = known
        context.record(Finding(error.reason, str(error)))
        return False
    context.memory = known.wrote(Move(context.services.clock.monotonic(), target.present, allowed))
    return True


async def _check_pool(context: PoolContext) -> None:
    """Raise Conflict unless the pool is unchanged since the decision: the watch may be behind an edit.

    Its generation is compared and not its resourceVersion, which each status write moves.
    """
    metadata = context.body["metadata"]
    live = await context.services.kube.get(ObjectRef(WORKER_POOL, context.namespace, context.name))
    fields = ("uid", "generation", "deletionTimestamp")
    if live is None or any(live["metadata"].get(field) != metadata.get(field) for field in fields):
        raise Conflict(f"WorkerPool {context.namespace}/{context.name} has been edited since the decision")


async def _read_scale(context: PoolContext, target: Target) -> Scale:
    """The live scale of the target; Conflict unless it is unchanged since the decision: the watch may be behind."""
    ref = context.spec.workers.target_ref
    assert ref is not None
    kube = context.services.kube
    kind = await resolve_kind(kube, ref)
    scale = None if kind is None else await kube.get_scale(ObjectRef(kind, context.namespace, ref.name))
    if scale is None or (scale.uid, scale.spec_replicas) != (target.uid, target.present):
        raise Conflict(f"{target} has changed since the decision")
    return scale
