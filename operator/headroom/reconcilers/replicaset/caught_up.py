"""CaughtUp: replay lag within the enter bounds, twice; then a new member joins the warm pool."""

from headroom.manifests.ownership import Owner
from headroom.model.replica import MemberFacts, Role
from headroom.reasons import ConditionType
from headroom.reconcilers.replicaset import metrics
from headroom.reconcilers.replicaset.roles import ensure_role
from headroom.reconcilers.replicaset.run import Run

CONDITION = ConditionType.CAUGHT_UP


async def ensure_accepted(run: Run) -> None:
    """Make standbys of the members that are caught up, and keep how long each took from its claim to here."""
    for name in run.decision.plan.accept:
        member = run.facts.member(name)
        await run.attempt(_accept(run, run.facts.owner, member))


async def _accept(run: Run, owner: Owner, member: MemberFacts) -> None:
    assert member.pod is not None
    await ensure_role(run.writer, owner.namespace, member.pod, Role.STANDBY)
    run.has_moved = True
    run.facts.memory.succeed()
    if member.claim is None or _was_remade(member):
        return
    seconds = (run.facts.now - member.claim.created_at).total_seconds()
    run.facts.memory.base_backup.add(seconds)
    run.telemetry.record(metrics.LEAD_TIME, seconds, **run.labels, method="base_backup")


def _was_remade(member: MemberFacts) -> bool:
    """Its pod is not the first on this claim, so its age says nothing about making a member."""
    if member.claim is None or member.pod is None:
        return True
    return (member.pod.created_at - member.claim.created_at).total_seconds() > 60
