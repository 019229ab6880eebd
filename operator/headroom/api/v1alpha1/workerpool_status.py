"""Status of a WorkerPool: what was measured and decided, and what must survive a restart of the operator."""

from datetime import datetime
from typing import Annotated

from pydantic import Field

from headroom.api.base import StatusModel, Unique
from headroom.api.v1alpha1.common import CommonStatus
from headroom.api.v1alpha1.decisions import Count, Name, Number, Word, WorkerDecision


class QueueStatus(StatusModel):
    """What was measured on the queue."""

    lag_seconds: Number | None = None
    """Age of the oldest item that a worker could take."""
    backlog: Count | None = None
    """Items that are ready and wait."""
    late_backlog: Count | None = None
    """Ready items that have waited longer than the target lag."""
    blocked_backlog: Count | None = None
    """Items that wait for something workers cannot give: a key, a pause, a missing kind."""
    in_flight: Count | None = None
    """Items that live workers handle."""
    arrivals_per_second: Number | None = None
    """Items that become ready."""
    completions_per_second: Number | None = None
    """Attempts that end."""
    completions_per_worker_per_second: Number | None = None
    """Attempts that end per busy slot."""
    drain_seconds: Number | None = None
    """Estimated time until the backlog is gone. Absent if the backlog grows or is empty."""
    measured_at: datetime | None = None
    """When this was measured."""


class ScalingMemory(StatusModel):
    """What the scaler has learned and promised; stored here so that it survives a restart."""

    completions_per_slot_per_second: Number | None = None
    """The last good service rate of one busy slot."""
    held_until: datetime | None = None
    """Until when the size is held."""
    held_reason: Word | None = None
    """Why it is held."""
    started_at: datetime | None = None
    """When workers were last added."""


class TargetStatus(StatusModel):
    """The workload that is scaled."""

    api_version: Name
    """API version."""
    kind: Word
    """Kind."""
    name: Name
    """Name."""
    uid: Word
    """Uid."""


class WorkerPoolStatus(CommonStatus):
    """What was measured and decided."""

    workers: Count | None = None
    """Workers that exist."""
    ready_workers: Count | None = None
    """Workers that are ready."""
    desired_workers: Count | None = None
    """Workers that are wanted and allowed."""
    queue: QueueStatus | None = None
    """What was measured on the queue."""
    last_decision: WorkerDecision | None = None
    """The last decision that changed something, and why."""
    scaling: ScalingMemory | None = None
    """What the scaler has learned and promised."""
    target: TargetStatus | None = None
    """The workload that is scaled."""
    active_schedules: Annotated[tuple[Name, ...], Field(max_length=16), Unique()] = ()
    """Schedules that apply now."""
