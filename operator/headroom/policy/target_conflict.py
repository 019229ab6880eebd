"""Who else scales a target: the claims of HorizontalPodAutoscalers. KEDA creates one for each of its objects."""

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class TargetId:
    """A scale target within a namespace; the version of its API does not make it another object."""

    group: str
    kind: str
    name: str

    def __str__(self) -> str:
        return f"{self.kind.lower()}/{self.name}"


@dataclass(frozen=True, slots=True)
class AutoscalerClaim:
    """A HorizontalPodAutoscaler's claim on a target; `made_by` is the kind and name of its controller, if any."""

    name: str
    target: TargetId
    made_by: str | None = None

    @property
    def owner(self) -> str:
        """The name of what must be deleted before we may scale the target."""
        return self.made_by or f"the HorizontalPodAutoscaler {self.name}"


def find_autoscaler(target: TargetId, claims: Iterable[AutoscalerClaim]) -> AutoscalerClaim | None:
    """The first autoscaler that claims the target."""
    return next((claim for claim in claims if claim.target == target), None)
