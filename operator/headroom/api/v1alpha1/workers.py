"""What runs the workers of a pool."""

from typing import Annotated, Literal

from pydantic import ConfigDict

from headroom.api.base import SpecModel, rule
from headroom.api.v1alpha1.common import GROUP, ObjectName
from headroom.api.values import Pattern

ApiVersion = Annotated[
    str,
    Pattern(
        r"^([a-z0-9]([-a-z0-9.]*[a-z0-9])?/)?v[0-9]+((alpha|beta)[0-9]+)?$",
        "write an API version such as apps/v1",
        253,
    ),
]
KindName = Annotated[str, Pattern("^[A-Z][A-Za-z0-9]*$", "write a kind such as Deployment", 63)]


class TargetRef(SpecModel):
    """An object of the same namespace that has a scale subresource."""

    model_config = ConfigDict(json_schema_extra={"x-kubernetes-map-type": "atomic"})

    api_version: ApiVersion
    """API version of the object, such as apps/v1."""
    kind: KindName
    """Kind of the object, such as Deployment or StatefulSet."""
    name: ObjectName
    """Name of the object."""

    @rule(
        f"!self.apiVersion.startsWith('{GROUP}/')",
        "a pool scales workloads, not kinds of headroom.dev: name a Deployment or StatefulSet",
        field=".apiVersion",
    )
    def _is_not_our_own_kind(self) -> bool:
        return not self.api_version.startswith(f"{GROUP}/")


class SuspendRef(SpecModel):
    """A CronJob of the same namespace: never scaled, only suspended while work is shed; the current run finishes."""

    model_config = ConfigDict(json_schema_extra={"x-kubernetes-map-type": "atomic"})

    api_version: Literal["batch/v1"]
    """API version of the object: batch/v1."""
    kind: Literal["CronJob"]
    """Kind of the object: CronJob."""
    name: ObjectName
    """Name of the CronJob."""


class Workers(SpecModel):
    """Exactly one reference to what runs the workers."""

    target_ref: TargetRef | None = None
    """The workload to scale. It keeps its count when the reference changes or the pool is deleted."""
    suspend_ref: SuspendRef | None = None
    """The CronJob to suspend while work is shed."""

    @rule(
        "has(self.targetRef) != has(self.suspendRef)",
        "set exactly one of targetRef (a workload to scale) and suspendRef (a CronJob to suspend)",
    )
    def _has_exactly_one(self) -> bool:
        return (self.target_ref is None) != (self.suspend_ref is None)
