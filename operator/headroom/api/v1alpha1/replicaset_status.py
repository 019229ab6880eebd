"""Status of a ReplicaSet."""

from datetime import datetime
from enum import StrEnum
from typing import Annotated

from pydantic import Field

from headroom.api.base import StatusModel
from headroom.api.lists import MapBy, Unique
from headroom.api.v1alpha1.common import CommonStatus, Conditions
from headroom.api.v1alpha1.decisions import Count, Name, Number, Override, ReplicaDecision, Word
from headroom.api.v1alpha1.limits import MAX_MEMBERS


class MemberRole(StrEnum):
    """What a member is doing."""

    PROVISIONING = "Provisioning"
    STANDBY = "Standby"
    SERVING = "Serving"
    DRAINING = "Draining"
    RETIRING = "Retiring"


class MemberStatus(StatusModel):
    """One replica."""

    name: Name
    """Name of its pod."""
    role: MemberRole
    """Provisioning: does not stream yet. Standby: warm. Serving: in the read Service. Draining, Retiring: on its way
    out."""
    stage: Word | None = None
    """The stage of provisioning it is in."""
    method: Word | None = None
    """What it was made from."""
    source: Name | None = None
    """Whom or what it was copied from."""
    since: datetime | None = None
    """When it took its role."""
    node: Name | None = None
    """Node of its pod."""
    timeline: Count | None = None
    """Timeline it streams on."""
    progress_percent: Annotated[int, Field(ge=0, le=100)] | None = None
    """How far the copy is."""
    replay_lag_seconds: Number | None = None
    """How long ago the primary was where it is now."""
    replay_backlog_bytes: Number | None = None
    """WAL it has still to replay."""
    sessions: Count | None = None
    """Client sessions on it."""
    attempts: Count | None = None
    """Copies that failed."""
    conditions: Conditions = ()
    """Verdicts about the stages it has passed."""


class LeadTime(StatusModel):
    """Measured times from decision to the first read, the 90th percentile of the last 20."""

    warm_seconds: Number | None = None
    """From a standby."""
    volume_snapshot_seconds: Number | None = None
    """From a snapshot."""
    base_backup_seconds: Number | None = None
    """From a base backup."""


class SnapshotStatus(StatusModel):
    """A snapshot that new replicas can start from."""

    name: Name
    """Name of the VolumeSnapshot."""
    taken_at: datetime
    """When it was taken."""
    is_usable: bool
    """Whether a new replica may start from it now."""
    timeline: Count | None = None
    """Timeline it is on."""
    wal_behind_bytes: Number | None = None
    """WAL written since."""
    reason: Word | None = None
    """Why it is not usable."""


class SlotStatus(StatusModel):
    """Our replication slots on the primary."""

    count: Count
    """How many there are."""
    kept_wal_bytes: Number | None = None
    """WAL they keep."""


class ScalingTimes(StatusModel):
    """When sizes last moved; kept here so that stabilization survives a restart."""

    last_scale_up: datetime | None = None
    """When replicas were last added."""
    last_scale_down: datetime | None = None
    """When replicas were last taken out."""


class ReplicaSetStatus(CommonStatus):
    """What there is, what was measured and what was decided."""

    replicas: Count | None = None
    """Replicas that serve: pods that match `selector`."""
    selector: Annotated[str, Field(max_length=512)] | None = None
    """Label selector of the serving pods, for the scale subresource."""
    desired_replicas: Count | None = None
    """Replicas that are to serve."""
    standbys: Count | None = None
    """Warm replicas."""
    recommended_standbys: Count | None = None
    """Warm replicas that the steepest growth seen would need."""
    provisioning: Count | None = None
    """Replicas that are being made."""
    max_replay_lag_seconds: Number | None = None
    """Replay lag of the worst serving replica."""
    members: Annotated[tuple[MemberStatus, ...], Field(max_length=2 * MAX_MEMBERS), MapBy("name")] = ()
    """Each replica."""
    lead_time: LeadTime | None = None
    """How long it takes to add a replica, by method."""
    last_decision: ReplicaDecision | None = None
    """The last decision that changed something, and why."""
    snapshots: Annotated[tuple[SnapshotStatus, ...], Field(max_length=16), MapBy("name")] = ()
    """Snapshots that are kept ready."""
    slots: SlotStatus | None = None
    """Our replication slots on the primary."""
    scaling: ScalingTimes | None = None
    """When sizes last moved."""
    override: Override | None = None
    """A person's annotation that is obeyed now."""
    system_identifier: Word | None = None
    """The primary's system identifier that the replicas are copies of."""
    timeline: Count | None = None
    """The highest timeline of the primary seen so far."""
    service_name: Name | None = None
    """The read Service."""
    active_schedules: Annotated[tuple[Name, ...], Field(max_length=16), Unique()] = ()
    """Schedules that hold now."""
