"""Status of a ReplicaSet."""

from datetime import datetime
from enum import StrEnum
from typing import Annotated

from pydantic import Field

from headroom.api.base import MapBy, StatusModel, Unique
from headroom.api.v1alpha1.common import MAX_MEMBERS, CommonStatus, Conditions
from headroom.api.v1alpha1.decisions import Count, Name, Number, ReplicaDecision, Word


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
    """How its data came: `VolumeSnapshot` or `BaseBackup`."""
    source: Name | None = None
    """Where from: the VolumeSnapshot that was restored, or the server that was copied: `primary`, or the name of a
    standby."""
    source_why: Annotated[str, Field(max_length=1024)] | None = None
    """Why from there."""
    since: datetime | None = None
    """When it took its role."""
    slot: Name | None = None
    """Its replication slot on the primary."""
    node: Name | None = None
    """Node of its pod."""
    timeline: Count | None = None
    """The newest timeline of which it has WAL."""
    progress_percent: Annotated[int, Field(ge=0, le=100)] | None = None
    """How far the copy is, of `totalBytes`."""
    copied_bytes: Number | None = None
    """Bytes of the copy that have come."""
    total_bytes: Number | None = None
    """Bytes that the copy will have, as the server estimated."""
    remaining_seconds: Number | None = None
    """How long the copy still takes at the rate of the last minute, without the sync to disk."""
    replay_lag_seconds: Number | None = None
    """How long ago the primary was at the position of this replica; while the primary is silent, the last that was
    known."""
    replay_backlog_bytes: Number | None = None
    """WAL it has still to replay."""
    unreplayed_since: datetime | None = None
    """Only with a replay lag above `maxReplayLag`: when the primary was at the oldest position that is not replayed
    here."""
    unreplayed_position: Word | None = None
    """That position, as timeline:LSN."""
    sessions: Count | None = None
    """Client sessions on it."""
    attempts: Count | None = None
    """Copies that failed."""
    full_at: datetime | None = None
    """When it was full of sessions and another replica was decided on for it; unset once that one took sessions."""
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


class MeasuredReads(StatusModel):
    """What so many replicas did while the load pressed."""

    replicas: Count
    """Replicas that served."""
    reads_per_second: Count
    """Transactions per second of all of them together."""


class ReadLimit(StatusModel):
    """More replicas were found to add no reads, so the average of the sessions adds no more."""

    measured: Annotated[tuple[MeasuredReads, ...], Field(max_length=8)]
    """The reads by count of replicas, the fewest first."""
    retry_at: datetime
    """When one more is tried, if the load still presses then."""
    pause_seconds: Count
    """The pause before that try; it doubles after each one that adds no reads."""


class SnapshotStatus(StatusModel):
    """A snapshot of a replica's volume."""

    name: Name
    """Name of the VolumeSnapshot."""
    created_at: datetime | None = None
    """When it was created."""
    ready: bool = False
    """Whether it has all that a new replica needs of it."""
    timeline: Count | None = None
    """The timeline of the primary that it was taken on."""
    wal_behind_bytes: Number | None = None
    """WAL that was written since."""


class SlotStatus(StatusModel):
    """Our replication slots on the primary."""

    count: Count
    """Number of slots."""
    kept_wal_bytes: Number | None = None
    """WAL that the slots keep."""


class ReplicaSetStatus(CommonStatus):
    """The members, what was measured, and what was decided."""

    reason: Annotated[str, Field(max_length=128)] | None = None
    """What a person should know first: the reason of Ready while it is not True, else the condition that is not as it
    should be and its reason, such as `Stalled:WALSendersExhausted`; `AsExpected` if all are. If too few serve, the
    cause follows: `ServingBelowMinimum:ImageNotPulled`."""
    method: Word | None = None
    """What the replicas were created from; `Mixed` if not all from the same."""
    replicas: Count | None = None
    """Replicas that serve: pods that match `selector`."""
    selector: Annotated[str, Field(max_length=512)] | None = None
    """Label selector of the serving pods, for the scale subresource."""
    desired_replicas: Count | None = None
    """Replicas that should serve."""
    start_replicas: Count | None = None
    """The spec's `replicas` while `autoscaling` sets the count; it does not count until it is changed."""
    standbys: Count | None = None
    """Warm replicas."""
    provisioning: Count | None = None
    """Replicas that are being created."""
    max_replay_lag_seconds: Number | None = None
    """Replay lag of the worst serving replica."""
    members: Annotated[tuple[MemberStatus, ...], Field(max_length=2 * MAX_MEMBERS), MapBy("name")] = ()
    """Each replica."""
    snapshots: Annotated[tuple[SnapshotStatus, ...], Field(max_length=16), MapBy("name")] = ()
    """Snapshots of the volumes of replicas, the newest first."""
    lead_time: LeadTime | None = None
    """How long it takes to add a replica, by method."""
    last_decision: ReplicaDecision | None = None
    """The last decision that changed something, and why."""
    read_limit: ReadLimit | None = None
    """What stopped growth; absent while nothing did."""
    slots: SlotStatus | None = None
    """Our replication slots on the primary."""
    system_identifier: Word | None = None
    """The system identifier of the primary that the replicas are copies of."""
    timeline: Count | None = None
    """The highest timeline of the primary seen so far."""
    service_name: Name | None = None
    """The read Service."""
    active_schedules: Annotated[tuple[Name, ...], Field(max_length=16), Unique()] = ()
    """Schedules that apply now."""
