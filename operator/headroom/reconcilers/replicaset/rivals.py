"""Who else scales a set that scales itself: said, and never fought, since nobody else's count is followed then."""

from dataclasses import dataclass, field

from headroom.api.v1alpha1.common import GROUP
from headroom.errors import KubeUnavailable
from headroom.policy.workerpool.conflict import AutoscalerClaim, TargetId
from headroom.ports.clock import Clock
from headroom.ports.kube import KubeReader
from headroom.reasons import Reason
from headroom.reconcilers.autoscalers import list_autoscalers
from headroom.reconcilers.replicaset.facts import Problem
from headroom.reconcilers.replicaset.run import Run

LOOK_EVERY_SECONDS = 10.0


@dataclass(slots=True)
class Rivals:
    """Remembers the last look at each namespace's autoscalers."""

    reader: KubeReader
    clock: Clock
    _looks: dict[str, tuple[float, tuple[AutoscalerClaim, ...]]] = field(default_factory=dict)

    async def ensure_said(self, run: Run) -> None:
        """Add a problem for an autoscaler on a set with `autoscaling`; without it an autoscaler is welcome."""
        owner = run.facts.owner
        if run.facts.spec.autoscaling is None:
            return
        own = TargetId(GROUP, "ReplicaSet", owner.name)
        for claim in await self._read(owner.namespace):
            if claim.target == own:
                run.problems.append(Problem(Reason.TARGET_CONFLICT, _explain(claim, owner.name)))
                return

    async def _read(self, namespace: str) -> tuple[AutoscalerClaim, ...]:
        read_at, known = self._looks.get(namespace, (None, ()))
        now = self.clock.monotonic()
        if read_at is not None and now - read_at < LOOK_EVERY_SECONDS:
            return known
        try:
            self._looks[namespace] = now, await list_autoscalers(self.reader, namespace)
        except KubeUnavailable:
            return known
        return self._looks[namespace][1]


def _explain(claim: AutoscalerClaim, name: str) -> str:
    owner = claim.made_by or f"the HorizontalPodAutoscaler {claim.name}"
    return (
        f"{owner} scales dbrs/{name}, which follows spec.autoscaling: what it writes to spec.replicas is not followed; "
        "delete it, or remove spec.autoscaling"
    )
