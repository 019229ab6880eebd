"""What a spec sets of the policy, in plain numbers: the same for the operator, the tests and a simulation."""

from collections.abc import Sequence
from dataclasses import dataclass

from headroom.api.v1alpha1.workerpool import WorkerPoolSpec, WorkerSchedule


@dataclass(frozen=True, slots=True)
class ScalingLimits:
    """A WorkerPool's wishes and limits; names follow the spec, times are seconds.

    `max_step` None is "no limit but the percentage"; `expected_job_seconds` None is "not known".
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
    schedule: str | None = None
    """The schedule that `min_workers` comes from; None for the spec's own."""


def limits_of(spec: WorkerPoolSpec, active: Sequence[WorkerSchedule] = ()) -> ScalingLimits:
    """Read the limits from a spec; of the schedules that hold now the one that asks for most raises the minimum."""
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
    )
