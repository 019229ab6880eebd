"""ReplicaSet: the read replicas of one primary, with warm standbys."""

from typing import Annotated, ClassVar

from pydantic import Field

from headroom.api.base import CelRule, MapBy, SpecModel, rule
from headroom.api.v1alpha1.autoscaling import Autoscaling
from headroom.api.v1alpha1.common import MAX_SERVING, MAX_STANDBYS, ImageName, LocalRef, Mode, ObjectName
from headroom.api.v1alpha1.postgresql import PostgresSettings
from headroom.api.v1alpha1.provisioning import Provisioning
from headroom.api.v1alpha1.schedules import Schedule
from headroom.api.v1alpha1.serving import Drain, Readiness, Retention, Routing, Warmup
from headroom.api.v1alpha1.template import PodTemplate, Resources
from headroom.api.values import ByteRange

ServingCount = Annotated[int, Field(ge=0, le=MAX_SERVING)]
StandbyCount = Annotated[int, Field(ge=0, le=MAX_STANDBYS)]


class Storage(SpecModel):
    """The volume of each replica."""

    size: Annotated[
        int,
        ByteRange("256Mi", "64Ti"),
        CelRule(
            "quantity(self).compareTo(quantity(oldSelf)) >= 0",
            "volumes cannot shrink: keep the size, or make a new ReplicaSet",
        ),
    ]
    """Size of each volume: the database, plus what it writes while a copy runs. May grow, never shrink."""
    storage_class_name: ObjectName | None = None
    """StorageClass of the volumes; absent: the cluster's default. Cannot be changed."""

    transitions: ClassVar[tuple[CelRule, ...]] = (
        CelRule(
            "has(self.storageClassName) == has(oldSelf.storageClassName)"
            " && (!has(self.storageClassName) || self.storageClassName == oldSelf.storageClassName)",
            "the storage class cannot be changed: make a new ReplicaSet and delete this one",
            ".storageClassName",
        ),
    )


class ServerTls(SpecModel):
    """TLS of the replicas' own servers."""

    certificate_secret_ref: LocalRef | None = None
    """A Secret of type kubernetes.io/tls with the certificate that clients of the read Service see; its key ca.crt, if
    it has one, holds the certificates that verify it. Absent: each replica makes its own certificate."""
    allow_plaintext: bool = False
    """Whether clients without TLS are let in. It only matters while `postgresql.hba` is empty."""


class ReplicaSchedule(Schedule):
    """A recurring span of time with more replicas."""

    min_replicas: Annotated[int, Field(ge=1, le=MAX_SERVING)] | None = None
    """Serving replicas at least during the span."""
    standbys: StandbyCount | None = None
    """Standbys during the span."""

    @rule("has(self.minReplicas) || has(self.standbys)", "set minReplicas, standbys or both")
    def _asks_for_something(self) -> bool:
        return self.min_replicas is not None or self.standbys is not None


class ReplicaSetSpec(SpecModel):
    """The read replicas of one primary: how many serve, how many stand by warm, and how each is created."""

    database_ref: Annotated[
        LocalRef,
        CelRule("self == oldSelf", "the primary cannot be changed: make a new ReplicaSet and delete this one"),
    ]
    """The DatabaseGuard of the primary. Cannot be changed."""
    mode: Mode = Mode.ACTIVE
    """`Active` acts; `DryRun` and `Paused` stop scaling, provisioning, rebalancing and snapshots, and never the removal
    of lagging replicas from the Service, the limit on kept WAL, or the teardown. `DryRun` reports what it would do."""
    replicas: ServingCount = 1
    """Replicas that serve reads; `kubectl scale` sets it. With `autoscaling` it is only the initial count."""
    standbys: StandbyCount = 1
    """Additional warm replicas: they stream and are caught up, so one can serve about a second after it is needed."""
    image: ImageName
    """PostgreSQL image of the primary's major version, such as postgres:17, with the primary's extensions."""
    storage: Storage
    """The volume of each replica."""
    resources: Resources = Resources()
    """CPU and memory of each replica."""
    tls: ServerTls = ServerTls()
    """TLS of the replicas' own servers. The ConfigMap `<name>-ca` has the certificates to verify them by."""
    postgresql: PostgresSettings = PostgresSettings()
    """Settings of the replicas' servers."""
    template: PodTemplate = PodTemplate()
    """Labels, placement and user of the pods."""
    autoscaling: Autoscaling | None = None
    """Follow the load between two bounds. Absent: `replicas` sets the count."""
    schedules: Annotated[tuple[ReplicaSchedule, ...], Field(max_length=16), MapBy("name")] = ()
    """Spans of time with more replicas. Replicas are created early enough to be ready at the start."""
    provisioning: Provisioning = Provisioning()
    """How a new replica gets its data."""
    readiness: Readiness = Readiness()
    """Bounds on replay lag for serving."""
    routing: Routing = Routing()
    """The read Service."""
    warmup: Warmup = Warmup()
    """How the cache of a standby is filled."""
    drain: Drain = Drain()
    """How a replica stops serving."""
    retention: Retention = Retention()
    """What happens to volumes and snapshots when the ReplicaSet is deleted."""

    @rule(
        "!has(self.autoscaling) || !has(self.schedules)"
        " || self.schedules.all(s, !has(s.minReplicas) || s.minReplicas <= self.autoscaling.maxReplicas)",
        "a schedule's minReplicas is above autoscaling.maxReplicas: lower it or raise maxReplicas",
        field=".schedules",
        ratcheting=True,
    )
    def _schedules_fit(self) -> bool:
        if self.autoscaling is None:
            return True
        most = self.autoscaling.max_replicas
        return all((schedule.min_replicas or 0) <= most for schedule in self.schedules)

    @rule(
        "!has(self.autoscaling) || !self.autoscaling.signals.exists(s, has(s.cpu))"
        " || (has(self.resources) && has(self.resources.requests) && 'cpu' in self.resources.requests)",
        "the CPU signal is relative to the CPU request: set resources.requests.cpu",
        field=".resources",
        ratcheting=True,
    )
    def _cpu_signal_has_a_request(self) -> bool:
        signals = self.autoscaling.signals if self.autoscaling else ()
        return all(signal.cpu is None for signal in signals) or "cpu" in self.resources.requests
