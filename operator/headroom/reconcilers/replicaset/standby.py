"""Standby: warm, out of the Service; a drained member comes back here while the pool is short."""

from headroom.model.replica import PodFacts, Role
from headroom.reconcilers.replicaset.roles import ensure_role
from headroom.reconcilers.replicaset.run import Run


async def ensure_pooled(run: Run) -> None:
    """Return drained members to the pool."""
    for name in run.decision.plan.to_pool:
        pod = run.facts.member(name).pod
        if pod is not None:
            await run.attempt(_pool(run, pod))


async def _pool(run: Run, pod: PodFacts) -> None:
    await ensure_role(run.writer, run.facts.owner.namespace, pod, Role.STANDBY)
    run.has_moved = True
