"""Into the warm pool: new members that are caught up, and drained ones that are wanted again."""

from headroom.model.replica import Role
from headroom.policy.replicaset.members import Member
from headroom.reconcilers.replicaset import metrics
from headroom.reconcilers.replicaset.memory import SetContext
from headroom.reconcilers.replicaset.roles import ensure_role

FIRST_POD_SECONDS = 60.0
"""A pod that is this much younger than its claim is not the first one on it."""


async def accept(context: SetContext) -> None:
    """Turn members that are caught up into standbys, and record how long each took since its claim."""
    for name in context.decision.plan.accept:
        await context.attempt(_accept(context, context.member(name)))


async def pool(context: SetContext) -> None:
    """Return drained members to the pool."""
    for name in context.decision.plan.pool:
        await context.attempt(_make_standby(context, context.member(name)))


async def _accept(context: SetContext, member: Member) -> None:
    await _make_standby(context, member)
    seconds = _measure_lead_time(context, member)
    restored_from = member.claim.restored_from if member.claim is not None else ""
    context.memory = context.memory.record_acceptance(seconds, restored_from=restored_from)
    if seconds is not None:
        method = "volume_snapshot" if restored_from else "base_backup"
        context.services.telemetry.record(metrics.LEAD_TIME, seconds, **context.labels, method=method)


async def _make_standby(context: SetContext, member: Member) -> None:
    assert member.pod is not None
    await ensure_role(context.services.kube, context.namespace, member.pod, Role.STANDBY)
    context.has_moved = True


def _measure_lead_time(context: SetContext, member: Member) -> float | None:
    """The age of its claim; None if its pod was recreated, since that is not the time that a new member takes."""
    if member.claim is None or member.pod is None:
        return None
    if (member.pod.created_at - member.claim.created_at).total_seconds() > FIRST_POD_SECONDS:
        return None
    return (context.now.wall - member.claim.created_at).total_seconds()
