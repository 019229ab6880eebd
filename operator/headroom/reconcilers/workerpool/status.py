"""The status of a pool, composed from one pass; numbers that moved little keep their old value."""

import math
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any

from headroom.api.v1alpha1.common import Mode
from headroom.errors import InvalidSpec
from headroom.model.condition_types import ConditionType
from headroom.model.conditions import Condition
from headroom.model.moments import format_moment, format_time, keep_time
from headroom.model.numbers import settle
from headroom.model.queue import QueueSample
from headroom.policy.workerpool import ScalingDecision, Sizing, is_spare
from headroom.policy.workerpool.constants import RATE_WINDOW_SECONDS
from headroom.reasons import Reason
from headroom.reconcilers.reporter import DesiredStatus
from headroom.reconcilers.workerpool.checkpoint import checkpoint
from headroom.reconcilers.workerpool.conditions import first_conditions, invalid_conditions, pool_conditions
from headroom.reconcilers.workerpool.effectiveness import build_effectiveness
from headroom.reconcilers.workerpool.memory import PoolContext
from headroom.reconcilers.workerpool.signal_words import describe_paused, find_foremost

LAG_FLOOR_SHARE = 0.1
BACKLOG_FLOOR = 10.0
DRAIN_FLOOR_SECONDS = 5.0
RATE_FLOOR_SIGMAS = 3.0
SERVICE_RATE_FLOOR_SHARE = 0.25
"""Below these a number of the queue is noise: a calm pool's status is not written for it."""
NEXT_TO_NOTHING = 2.0
KEPT_FACTS = (
    "reason",
    "paused",
    "desiredWorkers",
    "lastDecision",
    "target",
    "activeSchedules",
    "nextSchedule",
    "effectiveness",
)
KEPT_NUMBERS = ("queue", "scaling")
KEPT_COUNTS = ("workers", "readyWorkers")
QUEUE_NUMBERS = (
    "lagSeconds",
    "backlog",
    "lateBacklog",
    "blockedBacklog",
    "inFlight",
    "failed",
    "drainSeconds",
    "arrivalsPerSecond",
    "completionsPerSecond",
    "completionsPerWorkerPerSecond",
)
Numbers = dict[str, float | None]


def first_status(status: Mapping[str, Any]) -> DesiredStatus:
    """The status at first sight."""
    return _keep(status, first_conditions())


def invalid_status(status: Mapping[str, Any], error: InvalidSpec) -> DesiredStatus:
    """The status of a spec that cannot be acted on."""
    return _keep(status, invalid_conditions(error))


def build_status(context: PoolContext, *, has_scaled: bool) -> DesiredStatus:
    """The whole status of this pass."""
    if context.decision.is_settling and not has_scaled:
        return _keep(context.status, ())
    sizing, queue = context.decision.sizing, _queue(context)
    conditions = pool_conditions(context, None if queue is None else queue.get("arrivalsPerSecond"))
    now = {"reason": find_foremost(conditions), "paused": describe_paused(context.spec)}
    if sizing is None:
        kept = _keep(context.status, conditions)
        return replace(kept, facts={**kept.facts, **now}, numbers={**kept.numbers, "queue": queue})
    numbers = {"queue": queue, "scaling": _scaling(context)}
    return DesiredStatus(conditions, {**_facts(context, sizing), **now}, numbers, _counts(context))


def build_last_decision(decision: ScalingDecision, status: Mapping[str, Any], wall: datetime) -> Mapping[str, Any]:
    """The decision, or the old one while nothing important changed: the numbers in its message move all the time."""
    old = status.get("lastDecision")
    new = {
        "at": format_moment(wall),
        "wanted": decision.wanted,
        "allowed": decision.allowed,
        "rule": str(decision.rule),
        "reason": str(decision.reason),
        "message": decision.message,
    }
    if decision.is_held_back:
        new["limit"] = str(decision.reason)
    return dict(old) if old is not None and _gist(old) == _gist(new) else new


def _gist(decision: Mapping[str, Any]) -> tuple[Any, ...]:
    """What makes a decision different: the count, and why it is not higher, or that it is higher than needed. A want
    that moves by a worker or a tenth around the count is the same decision.
    """
    wanted, allowed, reason = decision["wanted"], decision["allowed"], decision["reason"]
    if "limit" in decision or allowed < wanted:
        return allowed, decision.get("limit"), reason
    if reason in (Reason.PAUSED, Reason.GRACE_TOO_SHORT):
        return allowed, reason
    return allowed, "spare" if is_spare(wanted, allowed) else "covered"


def _facts(context: PoolContext, sizing: Sizing) -> Mapping[str, Any]:
    target, ref, status = context.facts.workload, context.spec.workers.target_ref, context.status
    assert target is not None
    assert ref is not None
    is_paused, schedules = context.spec.mode is Mode.PAUSED, context.decision.schedules
    following = context.decision.next_schedule
    # A moment without an answer decides nothing.
    is_kept = is_paused or (context.decision.signal.is_brief and "lastDecision" in status)
    wall, old = context.services.clock.now(), status.get("lastDecision")
    effectiveness = build_effectiveness(context.memory.gain, context.now, status.get("effectiveness") or {})
    return {
        **({"effectiveness": effectiveness} if effectiveness else {}),
        **({"activeSchedules": list(schedules)} if schedules else {}),
        **({"nextSchedule": {"name": following.name, "at": format_time(following.at)}} if following else {}),
        "desiredWorkers": target.present if is_paused else sizing.decision.allowed,
        "lastDecision": old if is_kept else build_last_decision(sizing.decision, status, wall),
        "target": {"apiVersion": ref.api_version, "kind": ref.kind, "name": ref.name, "uid": target.uid},
    }


def _counts(context: PoolContext) -> Mapping[str, int]:
    target = context.facts.workload
    assert target is not None
    return {"workers": target.existing, "readyWorkers": target.pods.ready}


def _queue(context: PoolContext) -> Mapping[str, Any] | None:
    """The numbers of the queue, None where one is not known; None when nothing was ever measured."""
    before: Mapping[str, Any] = context.status.get("queue") or {}
    sample = context.facts.sample
    if sample is None:
        # Only the time of the last measurement stays: old numbers would look new.
        kept = before if context.facts.gap is None else {"measuredAt": before.get("measuredAt")}
        return {**dict.fromkeys(QUEUE_NUMBERS), **kept} if any(kept.values()) else None
    numbers = {**dict.fromkeys(QUEUE_NUMBERS), **_measured(context, sample, before)}
    is_same = all(numbers[name] == before.get(name) for name in QUEUE_NUMBERS)
    measured_at = before["measuredAt"] if is_same and "measuredAt" in before else None
    return {**numbers, "measuredAt": measured_at or format_time(context.services.clock.now())}


def _measured(context: PoolContext, sample: QueueSample, before: Mapping[str, Any]) -> Numbers:
    lag_floor = LAG_FLOOR_SHARE * context.decision.limits.target_lag_seconds
    counts: Numbers = {
        "lagSeconds": sample.lag_seconds if sample.lag_seconds >= min(lag_floor, NEXT_TO_NOTHING) else 0.0,
        "backlog": sample.backlog,
        "lateBacklog": sample.late,
        "blockedBacklog": sample.blocked,
        "inFlight": sample.in_flight,
    }
    numbers: Numbers = {
        name: _settle_count(before.get(name), count, lag_floor if name == "lagSeconds" else BACKLOG_FLOOR)
        for name, count in counts.items()
    }
    failed = context.decision.failures.failed
    # The first failures are shown at once; of many, chance moves the count.
    floor = RATE_FLOOR_SIGMAS * math.sqrt(failed) if before.get("failed") else 0.0
    numbers["failed"] = _settle_count(before.get("failed"), failed, floor)
    return numbers | _rates(context.decision.sizing, before)


def _rates(sizing: Sizing | None, before: Mapping[str, Any]) -> Numbers:
    """The part that only a pool with a target has."""
    if sizing is None:
        return {}
    found = sizing.estimates
    has_excess = sizing.wanted is not None and sizing.wanted.excess > 0
    service_floor = SERVICE_RATE_FLOOR_SHARE * (found.service_rate or 0.0)
    new: dict[str, tuple[float | None, float]] = {
        "drainSeconds": (sizing.drain_seconds if has_excess else None, DRAIN_FLOOR_SECONDS),
        "arrivalsPerSecond": (found.arrivals_per_second, _noise(found.arrivals_per_second)),
        "completionsPerSecond": (found.completions_per_second, _noise(found.completions_per_second)),
        "completionsPerWorkerPerSecond": (found.service_rate, service_floor),
    }
    return {name: _settle(before.get(name), number, floor) for name, (number, floor) in new.items()}


def _scaling(context: PoolContext) -> Mapping[str, Any] | None:
    """What must outlive the process; None when there is nothing yet."""
    old: Mapping[str, Any] = context.status.get("scaling") or {}
    new = checkpoint(context.memory, context.now)
    for name in ("startedAt", "heldUntil", "lateSince", "spareSince"):
        if new[name] is not None:
            new[name] = keep_time(datetime.fromisoformat(new[name]), old.get(name))
    rate = "completionsPerSlotPerSecond"
    new[rate] = _settle(old.get(rate), new[rate], 0.0)
    return new if any(value is not None for value in new.values()) else None


def _noise(rate: float | None) -> float:
    """How much chance moves a rate that is counted over a minute (Poisson)."""
    return RATE_FLOOR_SIGMAS * math.sqrt((rate or 0.0) / RATE_WINDOW_SECONDS)


def _settle(old: float | None, new: float | None, floor: float) -> float | None:
    """The old number unless the new one differs by more than the floor and a tenth, or is 0."""
    return new if new == 0 and (old or 0.0) > NEXT_TO_NOTHING else settle(old, new, floor)


def _settle_count(old: float | None, new: float | None, floor: float) -> float | None:
    """The settled number, but 0 is always shown: it takes a move beyond the floor to leave it again."""
    return new if new == 0 else settle(old, new, floor)


def _keep(status: Mapping[str, Any], conditions: tuple[Condition, ...]) -> DesiredStatus:
    """The status as it is, with these conditions: for a pass that knows nothing else."""
    facts = {name: status[name] for name in KEPT_FACTS if name in status}
    numbers = {name: status[name] for name in KEPT_NUMBERS if name in status}
    counts = {name: status[name] for name in KEPT_COUNTS if name in status}
    found = {condition.type for condition in conditions}
    if ConditionType.READY in found:
        facts["reason"] = find_foremost(conditions)
    return DesiredStatus(conditions, facts, numbers, counts)
