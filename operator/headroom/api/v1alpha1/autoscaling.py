"""How many replicas serve, by what is measured on them."""

from datetime import timedelta
from enum import StrEnum
from typing import Annotated

from pydantic import Field

from headroom.api.base import SpecModel, rule
from headroom.api.lists import MapBy
from headroom.api.v1alpha1.common import EntryName, PrometheusEndpoint, Query
from headroom.api.v1alpha1.limits import MAX_SERVING
from headroom.api.values import DurationRange, Quantity

Percent = Annotated[int, Field(ge=1, le=100)]
Window = Annotated[timedelta, DurationRange("0s", "1h")]
Step = Annotated[int, Field(ge=1, le=MAX_SERVING)]


class SignalType(StrEnum):
    """What is measured."""

    CONNECTIONS = "Connections"
    CPU = "CPU"
    PROMETHEUS = "Prometheus"


class Utilization(SpecModel):
    """A share of what there is."""

    utilization_percent: Percent
    """Target in percent, on average over the serving replicas."""


class PrometheusTarget(PrometheusEndpoint):
    """A number that Prometheus has."""

    query: Query
    """PromQL that returns one sample: the sum over all serving replicas."""
    average_value: Quantity
    """Target for one replica, such as "250" or "500m"."""
    max_age: Annotated[timedelta, DurationRange("1s", "1h")] = timedelta(seconds=60)
    """A sample older than this counts as missing: the size is held."""


class ReplicaSignal(SpecModel):
    """One measurement, and what it should be."""

    name: EntryName
    """Name of the entry, shown in decisions."""
    type: SignalType
    """What is measured; the member of the same name holds the rest."""
    connections: Utilization | None = None
    """With type Connections: sessions, active and idle, relative to what the serving replicas allow; every second."""
    cpu: Utilization | None = None
    """With type CPU: from metrics.k8s.io, relative to the CPU request, less what replay itself uses."""
    prometheus: PrometheusTarget | None = None
    """With type Prometheus: any number."""

    @rule(
        "(self.type == 'Connections') == has(self.connections) && (self.type == 'CPU') == has(self.cpu)"
        " && (self.type == 'Prometheus') == has(self.prometheus)",
        "set the one member that is named after type: connections, cpu or prometheus",
        field=".type",
    )
    def _member_matches_type(self) -> bool:
        members = {
            SignalType.CONNECTIONS: self.connections,
            SignalType.CPU: self.cpu,
            SignalType.PROMETHEUS: self.prometheus,
        }
        return [kind for kind, member in members.items() if member is not None] == [self.type]


class StepUp(SpecModel):
    """Growth."""

    stabilization_window: Window = timedelta(0)
    """The set grows to the smallest count that was wanted within this time."""
    max_step: Step = 4
    """Replicas added at most at once."""


class StepDown(SpecModel):
    """Shrinkage."""

    stabilization_window: Window = timedelta(seconds=300)
    """The set shrinks to the largest count that was wanted within this time."""
    max_step: Step = 1
    """Replicas taken out at most at once."""


class ReplicaBehavior(SpecModel):
    """How fast the number of serving replicas moves."""

    tolerance_percent: Annotated[int, Field(ge=0, le=50)] = 10
    """Distance from the target that is left alone."""
    scale_up: StepUp = StepUp()
    """Growth."""
    scale_down: StepDown = StepDown()
    """Shrinkage."""


class Horizon(StrEnum):
    """How far growth is looked ahead."""

    LEAD_TIME = "LeadTime"
    OFF = "Off"


class Forecast(SpecModel):
    """Whether growth is anticipated."""

    horizon: Horizon = Horizon.LEAD_TIME
    """`LeadTime` looks ahead by the measured time that a new replica takes; `Off` acts on what is measured now."""


class Autoscaling(SpecModel):
    """Follow the load between two bounds: the signal that wants most wins, and a missing signal never shrinks."""

    min_replicas: Annotated[int, Field(ge=1, le=MAX_SERVING)] = 1
    """Serving replicas at least."""
    max_replicas: Annotated[int, Field(ge=1, le=MAX_SERVING)]
    """Serving replicas at most."""
    signals: Annotated[tuple[ReplicaSignal, ...], Field(min_length=1, max_length=8), MapBy("name")]
    """What is measured."""
    behavior: ReplicaBehavior = ReplicaBehavior()
    """How fast the number of serving replicas moves."""
    forecast: Forecast = Forecast()
    """Whether growth is anticipated."""

    @rule(
        "self.minReplicas <= self.maxReplicas",
        "minReplicas is above maxReplicas: lower it or raise maxReplicas",
        field=".minReplicas",
    )
    def _minimum_fits(self) -> bool:
        return self.min_replicas <= self.max_replicas
