"""How measurements decide how many replicas serve."""

from datetime import timedelta
from enum import StrEnum
from typing import Annotated

from pydantic import Field

from headroom.api.base import MapBy, SpecModel, rule
from headroom.api.v1alpha1.common import MAX_SERVING, EntryName, PrometheusEndpoint, Query
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
    """A share of the capacity."""

    utilization_percent: Percent
    """Target in percent, on average over the serving replicas."""


class PrometheusTarget(PrometheusEndpoint):
    """A number from Prometheus."""

    query: Query
    """PromQL that returns one sample: the sum over all serving replicas."""
    average_value: Quantity
    """Target for one replica, such as "250" or "500m"."""
    max_age: Annotated[timedelta, DurationRange("1s", "1h")] = timedelta(seconds=60)
    """A sample older than this counts as missing: the size is held."""


class ReplicaSignal(SpecModel):
    """One measurement and its target."""

    name: EntryName
    """Name of the entry, shown in decisions."""
    type: SignalType
    """What is measured; its settings are in the member of the same name."""
    connections: Utilization | None = None
    """With type Connections: active and idle sessions, relative to what the serving replicas allow, every second."""
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
    """The set grows to the smallest count that was wanted within this window."""
    max_step: Step = 4
    """Replicas added at most in one step."""


class StepDown(SpecModel):
    """Shrinkage."""

    stabilization_window: Window = timedelta(seconds=300)
    """The set shrinks to the largest count that was wanted within this window."""
    max_step: Step = 1
    """Replicas taken out at most in one step."""


class ReplicaBehavior(SpecModel):
    """How fast the number of serving replicas changes."""

    tolerance_percent: Annotated[int, Field(ge=0, le=50)] = 10
    """Distance from the target, in percent, within which nothing is done."""
    scale_up: StepUp = StepUp()
    """Growth."""
    scale_down: StepDown = StepDown()
    """Shrinkage."""


class Horizon(StrEnum):
    """How far growth is forecast."""

    LEAD_TIME = "LeadTime"
    OFF = "Off"


class Forecast(SpecModel):
    """Whether growth is anticipated."""

    horizon: Horizon = Horizon.LEAD_TIME
    """`LeadTime` forecasts as far ahead as a new replica takes; `Off` acts on current measurements only."""


class Autoscaling(SpecModel):
    """Follow the load between two bounds: the signal that wants most wins, and a missing signal never shrinks."""

    min_replicas: Annotated[int, Field(ge=1, le=MAX_SERVING)] = 1
    """Serving replicas at least."""
    max_replicas: Annotated[int, Field(ge=1, le=MAX_SERVING)]
    """Serving replicas at most."""
    signals: Annotated[tuple[ReplicaSignal, ...], Field(min_length=1, max_length=8), MapBy("name")]
    """What is measured."""
    behavior: ReplicaBehavior = ReplicaBehavior()
    """How fast the number of serving replicas changes."""
    forecast: Forecast = Forecast()
    """Whether growth is anticipated."""

    @rule(
        "self.minReplicas <= self.maxReplicas",
        "minReplicas is above maxReplicas: lower it or raise maxReplicas",
        field=".minReplicas",
    )
    def _minimum_fits(self) -> bool:
        return self.min_replicas <= self.max_replicas
