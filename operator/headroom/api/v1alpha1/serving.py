"""When a replica may serve, how reads reach it, and how it stops serving."""

from datetime import timedelta
from enum import StrEnum
from typing import Annotated, ClassVar

from pydantic import Field

from headroom.api.base import CelRule, SpecModel, Unique, rule
from headroom.api.v1alpha1.common import MAX_SERVING, RoleName, ServiceName, SqlName
from headroom.api.values import ByteRange, DurationRange

ReplayLag = Annotated[timedelta, DurationRange("100ms", "1h")]
ReplayBacklog = Annotated[int, ByteRange("1Mi", "1Ti")]


class OnLagPanic(StrEnum):
    """What happens when so many replicas lag that they cannot all leave the Service."""

    SERVE_STALE = "ServeStale"
    EJECT = "Eject"


class VolumeRetention(StrEnum):
    """What happens to volumes."""

    DELETE = "Delete"
    RETAIN = "Retain"


class Readiness(SpecModel):
    """Bounds on replay lag: a replica enters the Service below `max…` and leaves it above `ejectReplayLag`."""

    max_replay_lag: ReplayLag = timedelta(seconds=1)
    """To enter: replay lag is at most this, and so is `maxReplayBacklog`."""
    eject_replay_lag: ReplayLag = timedelta(seconds=10)
    """To leave: replay lag is over this, however few bytes that is: on a quiet primary little WAL is missing."""
    max_replay_backlog: ReplayBacklog = 16 * 1024**2
    """To enter: WAL still to replay is at most this."""
    min_serving: Annotated[int, Field(ge=0, le=MAX_SERVING)] = 1
    """Replicas that keep serving in spite of lag, if enough of them may serve at all."""
    on_lag_panic: OnLagPanic = OnLagPanic.SERVE_STALE
    """When so many lag that they cannot all leave: `ServeStale` keeps them and reports it, `Eject` takes them out."""
    ignore_libraries: Annotated[tuple[SqlName, ...], Field(max_length=64), Unique()] = ()
    """Extensions and preloaded libraries of the primary that replicas may lack, such as pg_cron. Reads that need one
    fail there. Replicas do not preload them."""

    @rule(
        "duration(self.ejectReplayLag) > duration(self.maxReplayLag)",
        "ejectReplayLag must be above maxReplayLag, or replicas would flap",
        field=".ejectReplayLag",
    )
    def _lag_bounds_are_apart(self) -> bool:
        return self.eject_replay_lag > self.max_replay_lag


class Rebalance(SpecModel):
    """Whether idle sessions are ended so that clients reconnect and find new replicas."""

    enabled: bool = False
    """Turn it on only for clients that check their connections or retry."""
    roles: Annotated[tuple[RoleName, ...], Field(max_length=64), Unique()] = ()
    """Roles whose idle sessions may be ended."""
    sessions_per_second: Annotated[int, Field(ge=1, le=1000)] = 20
    """Sessions ended per second at most."""

    @rule(
        "!self.enabled || (has(self.roles) && size(self.roles) > 0)",
        "name the roles whose clients check or retry: rebalance ends only their sessions",
        field=".roles",
    )
    def _names_roles(self) -> bool:
        return not self.enabled or bool(self.roles)


class Routing(SpecModel):
    """The read Service."""

    service_name: ServiceName | None = None
    """Name of the read Service. Absent: the name of the ReplicaSet with -read. Cannot be changed."""
    eject_grace: Annotated[timedelta, DurationRange("0s", "10m")] = timedelta(seconds=10)
    """How long active sessions may continue after a lagging replica has left the Service."""
    rebalance: Rebalance = Rebalance()
    """Whether idle sessions are moved to new replicas."""

    transitions: ClassVar[tuple[CelRule, ...]] = (
        CelRule(
            "has(self.serviceName) == has(oldSelf.serviceName)"
            " && (!has(self.serviceName) || self.serviceName == oldSelf.serviceName)",
            "the read Service cannot be renamed, since clients use it: make a new ReplicaSet",
            ".serviceName",
        ),
    )


class Warmup(SpecModel):
    """How the cache of a standby is filled with what the serving replicas have cached."""

    prewarm: bool = True
    """Whether the cache is filled."""
    budget: Annotated[timedelta, DurationRange("1s", "10m")] = timedelta(seconds=30)
    """The longest time for it. It never delays a replica that is needed."""


class Drain(SpecModel):
    """How a replica stops serving."""

    timeout: Annotated[timedelta, DurationRange("0s", "1h")] = timedelta(seconds=60)
    """How long queries may run before their sessions are ended."""


class Retention(SpecModel):
    """What outlives the ReplicaSet."""

    volumes: VolumeRetention = VolumeRetention.DELETE
    """`Delete` removes volumes and snapshots with their replica; `Retain` keeps them, labelled."""
