"""Specs and facts for the worker policy, built from what a test cares about."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from headroom.api.v1alpha1 import parse_spec
from headroom.api.v1alpha1.workerpool import WorkerPoolSpec
from headroom.model.conditions import Finding
from headroom.model.database import Allocation, DatabaseView
from headroom.model.moments import Moment
from headroom.model.queue import QueueSample
from headroom.policy.target_conflict import TargetId
from headroom.policy.workerpool import (
    PodCounts,
    PoolClaim,
    PoolDecision,
    PoolFacts,
    PoolMemory,
    ScalingDecision,
    Sizing,
    Target,
    decide,
)
from headroom.reasons import Reason

NOW = 10_000.0
WALL = datetime(2026, 5, 4, 12, 0, tzinfo=UTC)
DEPLOYMENT = TargetId("apps", "Deployment", "mailer")
OWN = PoolClaim("mail", "uid-pool", datetime(2026, 1, 1, tzinfo=UTC), DEPLOYMENT)
GAP = Finding(Reason.QUEUE_NOT_FOUND, "the table procrastinate_jobs does not exist")
KNOWN = PoolMemory(last_good_rate=1.0)
GUARDED: dict[str, Any] = {"databaseRef": {"name": "store"}}
GUARD_GAP = Finding(Reason.GUARD_NOT_READY, "dbg/store has not been observed yet")


def moment(at: float) -> Moment:
    """A monotonic second, with the wall time that belongs to it."""
    return Moment(at, WALL + timedelta(seconds=at))


def seconds(value: float) -> str:
    return f"{round(value * 1000)}ms"


def make_spec(
    *,
    min_workers: int = 1,
    max_workers: int = 40,
    concurrency: int = 1,
    target_lag: float = 30.0,
    drain_within: float = 300.0,
    expected_job: float | None = None,
    max_step: int | None = None,
    max_step_percent: int = 100,
    down_window: float = 300.0,
    down_step_percent: int = 20,
    **parts: Any,
) -> WorkerPoolSpec:
    """A spec with a queue of its own login, so that it needs no guard unless `databaseRef` is among the parts."""
    objective = {"targetLag": seconds(target_lag), "drainWithin": seconds(drain_within)}
    up: dict[str, Any] = {"maxStepPercent": max_step_percent}
    if expected_job is not None:
        objective["expectedJobDuration"] = seconds(expected_job)
    if max_step is not None:
        up["maxStep"] = max_step
    down = {"stabilizationWindow": seconds(down_window), "maxStepPercent": down_step_percent}
    login = {"host": "jobs", "database": "jobs", "credentialsSecretRef": {"name": "jobs"}}
    postgres = {"preset": "procrastinate", "connection": login}
    spec = {
        "workers": {"targetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "mailer"}},
        "minWorkers": min_workers,
        "maxWorkers": max_workers,
        "concurrency": concurrency,
        "queue": {"type": "Postgres", "postgres": postgres},
        "objective": objective,
        "behavior": {"scaleUp": up, "scaleDown": down},
        "priority": "Standard",
        **parts,
    }
    return parse_spec(WorkerPoolSpec, {"spec": spec})


def make_target(present: int = 5, lead: float | None = 10.0, **counts: Any) -> Target:
    """A settled Deployment of so many ready pods, but for the counts that are given."""
    pods = {"running": present, "ready": present, "in_time": present, "lead_seconds": lead, **counts}
    existing = pods.pop("existing", present)
    return Target(DEPLOYMENT, "uid-target", present, existing, PodCounts(**pods))


def make_sample(at: float = NOW, **numbers: Any) -> QueueSample:
    calm = QueueSample(taken_at=at, lag_seconds=0.0, backlog=0, in_flight=2, arrived=500, ended=500, failed=0)
    return replace(calm, **numbers)


def make_facts(present: int = 5, **parts: Any) -> PoolFacts:
    return PoolFacts(**{"own": OWN, "signal": make_sample(), "target": make_target(present), **parts})


def make_view(
    *, at: float = NOW, allocation: Allocation | None = None, is_ready: bool = True, message: str = ""
) -> DatabaseView:
    """What a guard knows of its server, with an allocation to the pool of `OWN`."""
    reason = Reason.CONNECTED if is_ready else Reason.PASSWORD_REJECTED
    allocations = {} if allocation is None else {OWN.uid: allocation}
    return DatabaseView(
        "uid-guard", is_ready=is_ready, finding=Finding(reason, message), observed_at=at, allocations=allocations
    )


def sizing_of(decision: PoolDecision) -> Sizing:
    assert decision.sizing is not None
    return decision.sizing


def scaling_of(decision: PoolDecision) -> ScalingDecision:
    return sizing_of(decision).decision


def arriving(present: int, rate: float, **numbers: Any) -> tuple[PoolFacts, PoolMemory]:
    """A pool that has been watched for a while, with so many arrivals a second that take one second each."""
    memory, spec = replace(KNOWN, target_uid="uid-target"), make_spec()
    for index in range(12):
        at = NOW - 5.0 * (12 - index)
        count = round(rate * (at - NOW + 100))
        sample = make_sample(at, arrived=count, ended=count, in_flight=0)
        memory = decide(spec, make_facts(present, signal=sample), memory, moment(at)).memory
    count = round(rate * 100)
    return make_facts(present, signal=make_sample(arrived=count, ended=count, **numbers)), memory
