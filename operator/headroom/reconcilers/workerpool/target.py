"""Gathers the workload of a pool: its kind by discovery, its scale, its pods."""

from dataclasses import dataclass

from headroom.api.v1alpha1.workers import TargetRef
from headroom.errors import Refused
from headroom.ports.clock import Clock
from headroom.ports.kube import POD, Kube, ObjectRef, Scale
from headroom.reasons import Reason
from headroom.reconcilers.workerpool.facts import Pods, Problem, Target
from headroom.reconcilers.workerpool.pods import count_pods, parse_selector


@dataclass(slots=True)
class TargetGatherer:
    """Reads targets live."""

    kube: Kube
    clock: Clock

    async def gather(self, ref: TargetRef, namespace: str, known_lead_seconds: float | None) -> Target | Problem:
        """The target, or the problem with it and its remedy; raises KubeUnavailable."""
        said = f"{ref.kind.lower()}/{ref.name}"
        kind = await self.kube.resolve(ref.api_version, ref.kind)
        if kind is None:
            message = f"the API server knows no kind {ref.kind} in {ref.api_version}: correct spec.workers.targetRef"
            return Problem(Reason.TARGET_NOT_FOUND, message)
        try:
            scale = await self.kube.get_scale(ObjectRef(kind, namespace, ref.name))
            if scale is None:
                message = f"there is no {said} in namespace {namespace}: create it or correct spec.workers.targetRef"
                return Problem(Reason.TARGET_NOT_FOUND, message)
            return Target(scale, await self._count(scale, namespace, known_lead_seconds))
        except Refused as error:
            return Problem(error.reason, str(error))

    async def _count(self, scale: Scale, namespace: str, known_lead_seconds: float | None) -> Pods:
        labels = parse_selector(scale.selector)
        if labels is None:
            # Without a selector we can read, what the workload says of itself has to do.
            there = scale.status_replicas
            return Pods(there, there, max(there, scale.spec_replicas), known_lead_seconds)
        pods = await self.kube.list(POD, namespace, labels=labels)
        return count_pods(pods, now=self.clock.now(), known_lead_seconds=known_lead_seconds)
