"""What a decision about a pool is made from: the limits of its spec in plain numbers, and what was observed."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from headroom.api.v1alpha1.workerpool import Direction, Priority, WorkerPoolSpec, WorkerSchedule
from headroom.model.conditions import Finding
from headroom.model.database import DatabaseView
from headroom.model.queue import QueueSample
from headroom.model.waits import WaitSample
from headroom.policy.target_conflict import AutoscalerClaim, TargetId

RANKS = {Priority.CRITICAL: 0, Priority.STANDARD: 1, Priority.BACKGROUND: 2}
"""Who gets connections first when there are too few."""
CHOOSING_KINDS = frozenset({("apps", "Deployment"), ("apps", "ReplicaSet"), ("argoproj.io", "Rollout")})
"""Kinds whose pods a ReplicaSet of Kubernetes manages; a StatefulSet always ends its last pod."""


@dataclass(frozen=True, slots=True)
class ScalingLimits:
    """A WorkerPool's wishes and limits; names follow the spec, times are seconds.

    `role` is that of the workers on the server. `max_step` None is "only the percentage limits"; `expected_job_seconds`
    None is "not known"; `schedule` names the schedule that `min_workers` comes from, None for the spec's own.
    """

    min_workers: int
    max_workers: int
    concurrency: int = 1
    target_lag_seconds: float = 30.0
    drain_within_seconds: float = 300.0
    expected_job_seconds: float | None = None
    max_step: int | None = None
    max_step_percent: int = 100
    down_window_seconds: float = 300.0
    down_step_percent: int = 20
    connections_per_worker: int = 1
    role: str | None = None
    rank: int = RANKS[Priority.STANDARD]
    schedule: str | None = None
    paused: Direction | None = None
    is_gain_measured: bool = True
    least_gain: float = 0.1
    retry_after_seconds: float = 900.0


def limits_of(spec: WorkerPoolSpec, active: Sequence[WorkerSchedule] = ()) -> ScalingLimits:
    """Read the limits from a spec; of the active schedules the one that asks for most raises the minimum."""
    objective, behavior = spec.objective, spec.behavior
    expected = objective.expected_job_duration
    most = max(active, key=lambda schedule: schedule.min_workers, default=None)
    is_raised = most is not None and most.min_workers > spec.min_workers
    return ScalingLimits(
        min_workers=min(most.min_workers, spec.max_workers) if most is not None and is_raised else spec.min_workers,
        max_workers=spec.max_workers,
        schedule=most.name if most is not None and is_raised else None,
        concurrency=spec.concurrency,
        target_lag_seconds=objective.target_lag.total_seconds(),
        drain_within_seconds=objective.drain_within.total_seconds(),
        expected_job_seconds=None if expected is None else expected.total_seconds(),
        max_step=behavior.scale_up.max_step,
        max_step_percent=behavior.scale_up.max_step_percent,
        down_window_seconds=behavior.scale_down.stabilization_window.total_seconds(),
        down_step_percent=behavior.scale_down.max_step_percent,
        connections_per_worker=spec.connections_per_worker,
        role=spec.database_role,
        rank=RANKS[spec.priority],
        paused=spec.paused,
        is_gain_measured=spec.effectiveness.enabled,
        least_gain=spec.effectiveness.min_gain_percent / 100,
        retry_after_seconds=spec.effectiveness.retry_after.total_seconds(),
    )


@dataclass(frozen=True, slots=True)
class PodCounts:
    """The pods of a target.

    `running` could hold jobs, `ready` are Ready, `in_time` are ready or will be soon. `lead_seconds` is how long a
    start takes (None: none was seen), `stuck` why new pods do not come up. `waiting` do not run yet. `terminating` are
    in none of these: they take no job any more, and hold their connections until they are gone. While not `is_counted`,
    nobody has listed the pods in this process: the workload's own numbers do not show those that terminate.
    `grace_seconds` is the shortest time that a pod may take to end (None: not known).
    """

    running: int
    ready: int
    in_time: int
    lead_seconds: float | None = None
    stuck: str | None = None
    waiting: int = 0
    terminating: int = 0
    is_counted: bool = True
    grace_seconds: float | None = None


@dataclass(frozen=True, slots=True)
class Target:
    """The workload that is scaled; `present` is the count that is asked for now, `existing` the pods there are.

    `labels` are those of its pods; None if its selector needs more than equal labels. `template` is a digest of its pod
    template, None where it is not told; `is_updating` is true while not all pods are of it.
    """

    id: TargetId
    uid: str
    present: int
    existing: int
    pods: PodCounts
    labels: tuple[tuple[str, str], ...] | None = None
    template: str | None = None
    is_updating: bool = False

    @property
    def chooses_victims(self) -> bool:
        """Whether its controller ends the pods of the lowest deletion cost first."""
        return (self.id.group, self.id.kind) in CHOOSING_KINDS

    @property
    def running(self) -> int:
        """Workers that hold connections now or soon, without those that terminate.

        Those asked for connect before anybody counts again.
        """
        going = self.pods.terminating
        # A Deployment's own count is without pods that terminate, that of other kinds may be with them.
        there = max(self.existing, self.pods.running + self.pods.waiting + going, self.present + going)
        return there - going

    def __str__(self) -> str:
        return str(self.id)


@dataclass(frozen=True, slots=True)
class PoolClaim:
    """A WorkerPool's claim on a target; None where the pool scales nothing."""

    name: str
    uid: str
    created: datetime
    target: TargetId | None


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolFacts:
    """What one pass observed; a Finding stands for what could not be read, and says why.

    `signal` is None for a pool without a queue, `target` for one that scales nothing. `pools` and `autoscalers` are
    the claims of the namespace that may be on the same target. `database` is what the pool's guard last found out,
    `has_guard` whether that object exists. `waits` is what the workers' sessions wait for, None where nobody asked.
    """

    own: PoolClaim
    signal: QueueSample | Finding | None = None
    target: Target | Finding | None = None
    pools: tuple[PoolClaim, ...] = ()
    autoscalers: tuple[AutoscalerClaim, ...] = ()
    database: DatabaseView | None = None
    has_guard: bool = False
    waits: WaitSample | None = None

    @property
    def sample(self) -> QueueSample | None:
        """The sample of this pass, if there is one."""
        return self.signal if isinstance(self.signal, QueueSample) else None

    @property
    def gap(self) -> Finding | None:
        """Why there is no sample."""
        return self.signal if isinstance(self.signal, Finding) else None

    @property
    def workload(self) -> Target | None:
        """The target, if it was found."""
        return self.target if isinstance(self.target, Target) else None
