"""Status of a WorkerPool: what was measured and decided, and what must survive a restart of the operator."""

from datetime import datetime
from typing import Annotated

from pydantic import Field

from headroom.api.base import StatusModel, Unique
from headroom.api.v1alpha1.common import CommonStatus
from headroom.api.v1alpha1.decisions import Count, Name, Number, Text, Word, WorkerDecision


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
    failed: Count | None = None
    """Attempts that failed within the last ten minutes."""
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
    measured_concurrency: Count | None = None
    """How many items a worker takes at a time. Absent if that is `concurrency`."""
    held_until: datetime | None = None
    """Until when the size is held."""
    held_reason: Word | None = None
    """Why it is held."""
    started_at: datetime | None = None
    """When workers were last added."""
    late_since: datetime | None = None
    """Since when lag is above its target. Absent in the first minute."""
    spare_since: datetime | None = None
    """Since when the queue asks for clearly fewer workers than there are."""


class EffectivenessStatus(StatusModel):
    """What was measured of the last workers that were added; stored here so that it survives a restart."""

    pod_template: Word | None = None
    """Digest of the pod template that all of this belongs to."""
    verified_workers: Count | None = None
    """The largest count that was verified, in workers that nothing holds up."""
    free_completions_per_slot_per_second: Number | None = None
    """The best service rate of a slot under this pod template."""
    workers_before: Count | None = None
    """Workers before the last measured step."""
    per_second_before: Number | None = None
    """Attempts that ended per second with them."""
    workers_after: Count | None = None
    """Workers after that step."""
    per_second_after: Number | None = None
    """Attempts that ended per second with them."""
    gain: Number | None = None
    """The marginal gain of the last step that gained something: 1 is linear, 0 is none."""
    frozen_workers: Count | None = None
    """Workers at most while growth is stopped."""
    frozen_at: datetime | None = None
    """When growth was stopped."""
    retry_at: datetime | None = None
    """From when more workers are tried again."""
    retry_pause_seconds: Number | None = None
    """The present pause between two tries."""
    fewer_tried_at: datetime | None = None
    """From when workers may be taken away again, to measure fewer beside more."""
    fewer_tried_pause_seconds: Number | None = None
    """The pause after the next time."""
    wait_event: Word | None = None
    """What the workers' sessions wait for, such as Lock:transactionid."""
    wait_share: Number | None = None
    """The share of busy sessions that wait for it, from 0 to 1."""
    held_by: Text | None = None
    """The statement that holds what they wait for, without its values."""
    is_holder_idle: bool | None = None
    """Whether the holder has an open transaction and runs nothing."""


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


class NextSchedule(StatusModel):
    """The next start of a schedule."""

    name: Name
    """Name of the schedule."""
    at: datetime
    """When it begins."""


class WorkerPoolStatus(CommonStatus):
    """What was measured and decided."""

    reason: Annotated[str, Field(max_length=128)] | None = None
    """What a person should know first: the reason of Ready while it is not True, else the condition that is not as it
    should be and its reason, such as `SignalAvailable:ConcurrencyMismatch`; `AsExpected` if all are."""
    paused: Word | None = None
    """What does not change now, because the spec says so: `Up`, `Down` or `Both`."""
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
    effectiveness: EffectivenessStatus | None = None
    """What was measured of the last workers that were added."""
    target: TargetStatus | None = None
    """The workload that is scaled."""
    active_schedules: Annotated[tuple[Name, ...], Field(max_length=16), Unique()] = ()
    """Schedules that apply now."""
    next_schedule: NextSchedule | None = None
    """The next start of a schedule that does not apply now."""
