"""The verdicts about a pool, in words a tired person understands."""

from collections.abc import Mapping
from typing import Any

from headroom.api.v1alpha1.common import Mode
from headroom.errors import InvalidSpec
from headroom.model.conditions import Condition, Truth
from headroom.model.numbers import count_of
from headroom.model.queue import QueueSample
from headroom.policy.not_yet import explain_not_yet
from headroom.policy.workerpool import Rule, SignalGap, drain_seconds, is_spare
from headroom.policy.workerpool.wanted import time_left
from headroom.reasons import ConditionType, Reason
from headroom.reconcilers.reporter import round_number
from headroom.reconcilers.workerpool.facts import Pass, Target

CONDITIONS = (
    ConditionType.READY,
    ConditionType.KEEPING_UP,
    ConditionType.SCALING_LIMITED,
    ConditionType.EFFECTIVE,
    ConditionType.SHED,
    ConditionType.SIGNAL_AVAILABLE,
)
BACK_WITHIN = 0.8
"""Once late, a queue counts as within its target again below this share of it, so that the verdict does not flutter."""


def unknown_conditions() -> tuple[Condition, ...]:
    """All conditions before the first look."""
    message = "the pool has not been looked at yet"
    return tuple(Condition(kind, Truth.UNKNOWN, Reason.NOT_YET_OBSERVED, message) for kind in CONDITIONS)


def invalid_conditions(error: InvalidSpec) -> tuple[Condition, ...]:
    """All conditions of a spec that cannot be acted on."""
    others = tuple(condition for condition in unknown_conditions() if condition.type is not ConditionType.READY)
    return (Condition(ConditionType.READY, Truth.FALSE, error.reason, str(error)), *others)


def pool_conditions(seen: Pass, queue: Mapping[str, Any] | None) -> tuple[Condition, ...]:
    """All conditions of the pool; `queue` is what its status shows of the queue from now on."""
    return (
        _ready(seen),
        _keeping_up(seen, (queue or {}).get("arrivalsPerSecond")),
        _scaling_limited(seen),
        Condition(ConditionType.EFFECTIVE, Truth.UNKNOWN, Reason.NOT_YET_OBSERVED, "this version measures no steps"),
        Condition(ConditionType.SHED, Truth.FALSE, Reason.AS_EXPECTED, "this version sheds nothing"),
        _signal_available(seen),
    )


def _ready(seen: Pass) -> Condition:
    kind, gap, outcome = ConditionType.READY, seen.signal.gap, seen.outcome
    if seen.trouble is not None:
        return Condition(kind, Truth.FALSE, seen.trouble.reason, seen.trouble.message)
    if outcome is not None and outcome.decision.limit is Rule.TARGET_CONFLICT:
        return Condition(kind, Truth.FALSE, Reason.TARGET_CONFLICT, outcome.decision.message)
    if gap is not None and not seen.signal.is_brief:
        return Condition(kind, Truth.FALSE, gap.reason, _hold(seen, gap))
    reason, message = _at_work(seen) if gap is None else (Reason.STALE_SIGNAL, _hold(seen, gap))
    return Condition(kind, Truth.TRUE, reason, "; ".join(filter(None, (message, explain_not_yet(seen.spec)))))


def _at_work(seen: Pass) -> tuple[Reason, str]:
    if seen.spec.mode is not Mode.ACTIVE:
        reason = Reason.PAUSED if seen.spec.mode is Mode.PAUSED else Reason.DRY_RUN
        return reason, f"spec.mode is {seen.spec.mode}: nothing is scaled"
    if seen.target is None:
        return Reason.AS_EXPECTED, "a CronJob is never scaled"
    return Reason.AS_EXPECTED, f"{seen.target} is scaled by this pool"


def _hold(seen: Pass, gap: SignalGap) -> str:
    what = "and nothing is scaled until it can" if seen.is_active else f"and spec.mode is {seen.spec.mode}"
    return f"the queue cannot be read now, {what}: {gap.message}"


def _keeping_up(seen: Pass, arrivals_shown: float | None) -> Condition:
    kind, sample, outcome = ConditionType.KEEPING_UP, seen.signal.sample, seen.outcome
    if sample is None:
        reason = seen.signal.gap.reason if seen.signal.gap else Reason.NOT_YET_OBSERVED
        return Condition(kind, Truth.UNKNOWN, reason, "the lag of the queue is not known")
    if _is_within(seen, sample):
        return _within(seen, sample, arrivals_shown)
    if outcome is None or outcome.demand is None or outcome.wanted is None:
        return Condition(kind, Truth.FALSE, Reason.LAG_ABOVE_TARGET, _late(seen, sample))
    if seen.target is not None and seen.target.pods.stuck is not None:
        return Condition(kind, Truth.FALSE, Reason.WORKERS_NOT_STARTING, seen.target.pods.stuck)
    if outcome.estimates.service_rate is None:
        return Condition(kind, Truth.UNKNOWN, Reason.LEARNING_RATE, f"{_late(seen, sample)}; {outcome.wanted.message}")
    eta = drain_seconds(outcome, outcome.decision.allowed, seen.limits.concurrency)
    is_in_time = eta is not None and eta <= time_left(outcome.demand)
    said = "it would never be gone" if eta is None else f"it will be gone in about {eta:.0f} s"
    if is_in_time or outcome.decision.allowed >= outcome.wanted.workers:
        return Condition(kind, Truth.TRUE, Reason.LAG_ABOVE_TARGET, f"{_late(seen, sample)}; {said}")
    message = f"{_late(seen, sample)}; with {count_of(outcome.decision.allowed, 'worker')} {said}; see ScalingLimited"
    return Condition(kind, Truth.FALSE, Reason.CANNOT_MEET_DEADLINE, message)


def _is_within(seen: Pass, sample: QueueSample) -> bool:
    target = seen.limits.target_lag_seconds
    was_late = seen.condition(ConditionType.KEEPING_UP).get("reason") not in (
        None,
        Reason.NOT_YET_OBSERVED,
        Reason.LAG_WITHIN_TARGET,
        Reason.BACKLOG_BLOCKED,
    )
    return sample.lag_seconds <= (BACK_WITHIN * target if was_late else target)


def _within(seen: Pass, sample: QueueSample, arrivals_shown: float | None) -> Condition:
    kind, target = ConditionType.KEEPING_UP, seen.limits.target_lag_seconds
    if sample.blocked > 0 and sample.blocked_seconds > target:
        message = (
            f"{count_of(sample.blocked, 'item')} held up by a key or a lock, the oldest for "
            f"{sample.blocked_seconds:.0f} s: more "
            "workers cannot help; look at what holds the key"
        )
        return Condition(kind, Truth.TRUE, Reason.BACKLOG_BLOCKED, message)
    message = f"the oldest item has waited {sample.lag_seconds:.1f} s of {target:.0f} s"
    if arrivals_shown is not None:
        # The number of status: both are written together, and `lastDecision` may tell of a busier time.
        message += f"; {round_number(arrivals_shown):g} jobs/s arrive now"
    return Condition(kind, Truth.TRUE, Reason.LAG_WITHIN_TARGET, message)


def _late(seen: Pass, sample: QueueSample) -> str:
    more = " or more" if sample.is_truncated else ""
    waiting = f"{count_of(sample.backlog, 'item')}{more}"
    return (
        f"{sample.lag_seconds:.0f} s behind, {seen.limits.target_lag_seconds:.0f} s are the target; "
        f"{waiting} {'waits' if sample.backlog == 1 and not more else 'wait'}"
    )


def _scaling_limited(seen: Pass) -> Condition:
    kind, outcome = ConditionType.SCALING_LIMITED, seen.outcome
    if outcome is None:
        if seen.problem is not None:
            return Condition(kind, Truth.UNKNOWN, seen.problem.reason, seen.problem.message)
        return Condition(kind, Truth.FALSE, Reason.AS_EXPECTED, "nothing is scaled")
    decision = outcome.decision
    if decision.limit is Rule.STALE_SIGNAL:
        return Condition(kind, Truth.UNKNOWN, Reason.STALE_SIGNAL, decision.message)
    if decision.is_held_back:
        return Condition(kind, Truth.TRUE, decision.reason, decision.message)
    message = "as many workers as are wanted are allowed"
    if decision.limit is not None and is_spare(decision.wanted, decision.allowed):
        message = f"no limit keeps workers back; {decision.limit} keeps more than are wanted"
    return Condition(kind, Truth.FALSE, Reason.AS_EXPECTED, message)


def _signal_available(seen: Pass) -> Condition:
    kind, gap, sample = ConditionType.SIGNAL_AVAILABLE, seen.signal.gap, seen.signal.sample
    if gap is not None:
        return Condition(kind, Truth.of(None if seen.signal.is_early else False), gap.reason, gap.message)
    if sample is None:
        return Condition(kind, Truth.UNKNOWN, Reason.AS_EXPECTED, "there is no queue to sample")
    if sample.hides_completions:
        message = (
            "finished jobs are deleted, so that nobody can count them: set objective.expectedJobDuration, or let the "
            "worker keep its jobs (delete_jobs)"
        )
        return Condition(kind, Truth.TRUE, Reason.LEARNING_RATE, message)
    if sample.phantoms > 0:
        message = (
            f"{count_of(sample.phantoms, 'item')} marked as running without a live worker: requeue with the queue "
            "library's own tool"
        )
        return Condition(kind, Truth.TRUE, Reason.PHANTOM_IN_FLIGHT, message)
    if _runs_more_than_declared(seen.target, sample, seen.limits.concurrency):
        message = (
            f"{count_of(sample.in_flight or 0, 'item')} in hand of {count_of(_running(seen.target), 'worker')}: "
            f"spec.concurrency {seen.limits.concurrency} is too small, or others drain the same queue"
        )
        return Condition(kind, Truth.TRUE, Reason.CONCURRENCY_MISMATCH, message)
    return Condition(kind, Truth.TRUE, Reason.AS_EXPECTED, "the queue can be read")


def _runs_more_than_declared(target: Target | None, sample: QueueSample, concurrency: int) -> bool:
    if target is None or sample.in_flight is None or target.pods.ready < target.scale.spec_replicas:
        return False
    return sample.in_flight > target.pods.running * concurrency


def _running(target: Target | None) -> int:
    return 0 if target is None else target.pods.running
