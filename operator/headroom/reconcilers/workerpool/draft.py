"""The status of a pool, composed from one pass; numbers that moved little keep their old value."""

import math
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from headroom.api.v1alpha1.common import Mode
from headroom.errors import InvalidSpec
from headroom.model.moments import format_moment, format_time, keep_time
from headroom.policy.schedules import find_active
from headroom.policy.workerpool import Decision, Rule, drain_seconds, is_spare
from headroom.policy.workerpool.constants import RATE_WINDOW_SECONDS
from headroom.reconcilers.reporter import SMALLEST_MOVE, DesiredStatus
from headroom.reconcilers.workerpool.conditions import invalid_conditions, pool_conditions, unknown_conditions
from headroom.reconcilers.workerpool.facts import Pass

LAG_FLOOR_SHARE = 0.1
BACKLOG_FLOOR = 10.0
DRAIN_FLOOR_SECONDS = 5.0
RATE_FLOOR_SIGMAS = 3.0
SERVICE_RATE_FLOOR_SHARE = 0.25
"""Below these a number of the queue is noise: a calm pool's status is not written for it."""
NEXT_TO_NOTHING = 2.0
KEPT_FACTS = ("workers", "readyWorkers", "desiredWorkers", "lastDecision", "target", "activeSchedules")
KEPT_NUMBERS = ("queue", "scaling")


def unknown_status(status: Mapping[str, Any]) -> DesiredStatus:
    """The status at first sight."""
    return _kept(status, DesiredStatus(unknown_conditions()))


def invalid_status(status: Mapping[str, Any], error: InvalidSpec) -> DesiredStatus:
    """The status of a spec that cannot be acted on."""
    return _kept(status, DesiredStatus(invalid_conditions(error)))


def build_status(seen: Pass, wall: datetime) -> DesiredStatus:
    """The whole status of this pass; `wall` is wall time."""
    target, outcome, status = seen.target, seen.outcome, seen.status
    queue = _queue(seen, wall)
    draft = DesiredStatus(pool_conditions(seen, queue))
    if target is None or outcome is None:
        draft = _kept(status, draft)
        return DesiredStatus(draft.conditions, draft.facts, {**draft.numbers, "queue": queue})
    decision = outcome.decision
    is_paused = seen.spec.mode is Mode.PAUSED
    ref = target.scale.ref
    active = [schedule.name for schedule in find_active(seen.spec.schedules, wall)]
    facts = {
        **({"activeSchedules": active} if active else {}),
        "workers": target.scale.status_replicas,
        "readyWorkers": target.pods.ready,
        "desiredWorkers": target.scale.spec_replicas if is_paused else decision.allowed,
        "lastDecision": status.get("lastDecision") if is_paused else build_last_decision(decision, status, wall),
        "target": {
            "apiVersion": ref.kind.api_version,
            "kind": ref.kind.name,
            "name": ref.name,
            "uid": target.scale.uid,
        },
    }
    return DesiredStatus(draft.conditions, facts, {"queue": queue, "scaling": _scaling(seen, wall)})


def build_last_decision(decision: Decision, status: Mapping[str, Any], wall: datetime) -> Mapping[str, Any]:
    """The decision, or the old one while nothing of it is news: its numbers in words move all the time."""
    old = status.get("lastDecision")
    new = {
        "at": format_moment(wall),
        "wanted": decision.wanted,
        "allowed": decision.allowed,
        "rule": str(decision.rule),
        "reason": str(decision.reason),
        "message": decision.message,
    }
    if decision.limit is not None:
        new["limit"] = str(decision.limit)
    return dict(old) if old is not None and _gist(old) == _gist(new) else new


def _gist(decision: Mapping[str, Any]) -> tuple[Any, ...]:
    """What makes a decision news: the count, and why it is not higher, or that it is higher than it need be.

    A want that moves by a worker or a tenth around the count is the same decision.
    """
    wanted, allowed, limit = decision["wanted"], decision["allowed"], decision.get("limit")
    if limit in (Rule.TARGET_CONFLICT, Rule.STALE_SIGNAL) or allowed < wanted:
        return allowed, limit, decision["reason"]
    return allowed, "spare" if is_spare(wanted, allowed) else "covered"


def _queue(seen: Pass, wall: datetime) -> Mapping[str, Any] | None:
    sample, outcome = seen.signal.sample, seen.outcome
    old: Mapping[str, Any] | None = seen.status.get("queue")
    if sample is None:
        return old if seen.signal.gap is None else _unread(old)
    before, found = old or {}, outcome.estimates if outcome else None
    workers = outcome.decision.allowed if outcome else 0
    has_excess = outcome is not None and outcome.wanted is not None and outcome.wanted.excess > 0
    eta = drain_seconds(outcome, workers, seen.limits.concurrency) if outcome and has_excess else None
    lag_floor = LAG_FLOOR_SHARE * seen.limits.target_lag_seconds
    lag = sample.lag_seconds if sample.lag_seconds >= min(lag_floor, NEXT_TO_NOTHING) else 0.0
    numbers: dict[str, float | None] = {
        "lagSeconds": _calm_or_none(before.get("lagSeconds"), lag, lag_floor),
        "backlog": _calm_or_none(before.get("backlog"), sample.backlog, BACKLOG_FLOOR),
        "lateBacklog": _calm_or_none(before.get("lateBacklog"), sample.late, BACKLOG_FLOOR),
        "blockedBacklog": _calm_or_none(before.get("blockedBacklog"), sample.blocked, BACKLOG_FLOOR),
        "inFlight": _calm_or_none(before.get("inFlight"), sample.in_flight, BACKLOG_FLOOR),
        "drainSeconds": _calm(before.get("drainSeconds"), eta, DRAIN_FLOOR_SECONDS),
    }
    if found is not None:
        rates = {"arrivalsPerSecond": found.arrivals_per_second, "completionsPerSecond": found.completions_per_second}
        numbers |= {name: _calm(before.get(name), rate, _noise(rate)) for name, rate in rates.items()}
        name, rate = "completionsPerWorkerPerSecond", found.service_rate
        numbers[name] = _calm(before.get(name), rate, SERVICE_RATE_FLOOR_SHARE * (rate or 0.0))
    told = {name: number for name, number in numbers.items() if number is not None}
    is_same = told == {name: value for name, value in before.items() if name != "measuredAt"}
    measured_at = before["measuredAt"] if is_same and "measuredAt" in before else format_time(wall)
    return {**told, "measuredAt": measured_at}


def _unread(old: Mapping[str, Any] | None) -> Mapping[str, Any] | None:
    """Of a queue that cannot be read only the time of the last look is left: old numbers would look like news."""
    return None if old is None else {name: value for name, value in old.items() if name == "measuredAt"}


def _scaling(seen: Pass, wall: datetime) -> Mapping[str, Any] | None:
    """What must outlive the process: the service rate, the last start, a hold."""
    history, old = seen.history, seen.status.get("scaling") or {}
    starts = [move.at for move in history.moves if move.after > move.before]
    rate = history.last_good_rate
    memory: dict[str, Any] = {
        "completionsPerSlotPerSecond": _calm(old.get("completionsPerSlotPerSecond"), rate, 0.0),
        "startedAt": _to_wall(max(starts), seen.now, wall, old.get("startedAt")) if starts else old.get("startedAt"),
    }
    hold = history.foreign.hold_until
    if hold is not None and hold > seen.now:
        memory["heldUntil"] = _to_wall(hold, seen.now, wall, old.get("heldUntil"))
        memory["heldReason"] = str(Rule.TARGET_CONFLICT)
    told = {name: value for name, value in memory.items() if value is not None}
    return told or None


def _noise(rate: float | None) -> float:
    """How far chance moves a rate that is counted over a minute (Poisson)."""
    return RATE_FLOOR_SIGMAS * math.sqrt((rate or 0.0) / RATE_WINDOW_SECONDS)


def _calm(old: float | None, new: float | None, floor: float) -> float | None:
    """The old number unless the new one differs by more than the floor and a tenth, or says that nothing is left."""
    if old is None or new is None or (new == 0 and old > NEXT_TO_NOTHING):
        return new
    return new if abs(new - old) > max(floor, SMALLEST_MOVE * max(abs(old), abs(new))) else old


def _calm_or_none(old: float | None, new: float | None, floor: float) -> float | None:
    """The calm number, but nothing is always said: it takes a move beyond the floor to leave it again."""
    return new if new == 0 else _calm(old, new, floor)


def _to_wall(at: float, now: float, wall: datetime, old: str | None) -> str:
    """A monotonic moment as wall time; the old text while it means the same second or its neighbour."""
    return keep_time(wall + timedelta(seconds=at - now), old)


def _kept(status: Mapping[str, Any], draft: DesiredStatus) -> DesiredStatus:
    """The draft with what status said before, for a pass that has nothing better to say."""
    facts = {name: status[name] for name in KEPT_FACTS if name in status}
    numbers = {name: status[name] for name in KEPT_NUMBERS if name in status}
    return DesiredStatus(draft.conditions, {**facts, **draft.facts}, {**numbers, **draft.numbers})
