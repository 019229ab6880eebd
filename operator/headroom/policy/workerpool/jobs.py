"""What a step down could cut: the jobs that workers hold, how long jobs take, and how long a pod may take to end."""

import math
from dataclasses import dataclass

from headroom.model.queue import QueueSample
from headroom.policy.workerpool.constants import (
    FAILING_LEAST_ENDED,
    FAILING_SHARE,
    FAILURES_SHOWN_SECONDS,
    JOB_PERCENTILE_FACTOR,
)
from headroom.policy.workerpool.facts import ScalingLimits, Target
from headroom.policy.workerpool.memory import PoolMemory
from headroom.policy.workerpool.rates import Estimates
from headroom.policy.workerpool.window import intervals


@dataclass(frozen=True, slots=True)
class JobsInHand:
    """At least `busy` workers hold jobs, and `idle` hold none; None if nobody knows which ones.

    `job_seconds` is what 99 of 100 jobs end within, `grace_seconds` how long a pod may take to end; None is not known.
    While not `is_counted`, nobody has looked at the pods yet.
    """

    busy: int = 0
    idle: int | None = None
    job_seconds: float | None = None
    is_estimated: bool = False
    grace_seconds: float | None = None
    is_counted: bool = True

    @property
    def is_grace_too_short(self) -> bool:
        """A running job may outlast the grace period of its pod, and would be cut."""
        return self.job_seconds is not None and self.grace_seconds is not None and self.job_seconds > self.grace_seconds

    @property
    def is_grace_enough(self) -> bool:
        """A worker that gets SIGTERM finishes its job first."""
        return self.job_seconds is not None and self.grace_seconds is not None and not self.is_grace_too_short

    def __str__(self) -> str:
        about = "about " if self.is_estimated else ""
        return (
            f"jobs take up to {about}{self.job_seconds or 0:.0f} s (99 of 100), and the pods' "
            f"terminationGracePeriodSeconds is {self.grace_seconds or 0:.0f}"
        )


@dataclass(frozen=True, slots=True)
class Failures:
    """Attempts of the last ten minutes that ended, those of them that failed, and those that failed since the sample
    before.
    """

    ended: int = 0
    failed: int = 0
    newest: int = 0

    @property
    def are_most(self) -> bool:
        """More than half of enough attempts failed."""
        return self.ended >= FAILING_LEAST_ENDED and self.failed > FAILING_SHARE * self.ended

    def __str__(self) -> str:
        return f"{self.failed:,} of the last {self.ended:,} attempts failed"


def count_failures(memory: PoolMemory, sample: QueueSample | None, now: float) -> Failures:
    """The failures to show; those since the sample before only if this pass took one."""
    spans = [span for span in memory.history if now - span.ended_at < FAILURES_SHOWN_SECONDS]
    newest = intervals(memory.window[-2:]) if sample is not None else ()
    return Failures(
        ended=sum(span.ended or 0 for span in spans),
        failed=sum(span.failed or 0 for span in spans),
        newest=sum(span.failed or 0 for span in newest),
    )


def find_jobs(
    sample: QueueSample | None, estimates: Estimates, target: Target | None, limits: ScalingLimits
) -> JobsInHand:
    """The jobs that the workers of a target hold; if the source does not count them, they hold none."""
    if target is None:
        return JobsInHand()
    pods, in_flight = target.pods, (sample.in_flight or 0) if sample is not None else 0
    busy_hosts = None if sample is None else sample.busy_hosts
    seconds, is_estimated = _find_seconds(sample, estimates, pods.grace_seconds)
    return JobsInHand(
        busy=math.ceil(min(in_flight, pods.running * limits.concurrency) / limits.concurrency),
        idle=max(0, pods.running - len(busy_hosts)) if busy_hosts is not None and target.chooses_victims else None,
        job_seconds=seconds,
        is_estimated=is_estimated,
        grace_seconds=pods.grace_seconds,
        is_counted=pods.is_counted,
    )


def _find_seconds(
    sample: QueueSample | None, estimates: Estimates, grace_seconds: float | None
) -> tuple[float | None, bool]:
    """What 99 of 100 jobs end within, and whether that is an estimate.

    A running job that is older disproves it: then it is only known whether that job outlasts the grace period.
    """
    measured, in_hand = (None, 0.0) if sample is None else (sample.job_seconds, sample.in_hand_seconds)
    estimated = JOB_PERCENTILE_FACTOR / estimates.service_rate if estimates.service_rate else None
    seconds = estimated if measured is None else measured
    if seconds is not None and in_hand <= seconds:
        return seconds, measured is None
    is_outlasted = grace_seconds is not None and in_hand > grace_seconds
    return (in_hand if is_outlasted else None), False
