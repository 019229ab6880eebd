"""The conditions of a pool. A tired person must understand them."""

from collections.abc import Mapping

from headroom.api.v1alpha1.common import Mode
from headroom.errors import InvalidSpec
from headroom.model.condition_types import ConditionType
from headroom.model.conditions import Condition, Finding, Truth, unknown_conditions
from headroom.model.numbers import count_of, describe_seconds, round_number
from headroom.model.queue import QueueSample
from headroom.policy.not_yet import describe_not_yet
from headroom.policy.workerpool import Rule, is_spare
from headroom.reasons import Reason
from headroom.reconcilers.workerpool.effectiveness import effective_condition
from headroom.reconcilers.workerpool.memory import PoolContext
from headroom.reconcilers.workerpool.readiness import describe_hang, describe_start_trouble, describe_work
from headroom.reconcilers.workerpool.signal_words import describe_stuck, signal_condition

CONDITIONS = (
    ConditionType.READY,
    ConditionType.KEEPING_UP,
    ConditionType.SCALING_LIMITED,
    ConditionType.EFFECTIVE,
    ConditionType.SHED,
    ConditionType.SIGNAL_AVAILABLE,
)
KEPT: Mapping[Reason, str] = {
    Reason.STABILIZING: "workers stay for a while before they go",
    Reason.LAG_ABOVE_TARGET: "no worker goes while the queue is late",
    Reason.WORK_IN_FLIGHT: "workers that may be busy stay",
    Reason.GRACE_TOO_SHORT: "no worker goes whose job could be cut",
    Reason.STEP_LIMITED: "workers go step by step",
    Reason.WITHIN_TOLERANCE: "the difference is too small to act on",
    Reason.SCHEDULED: "a schedule keeps more",
    Reason.AT_MINIMUM: "minWorkers keeps more",
    Reason.PAUSED: "spec.paused keeps more",
}
"""Why more workers stay than are wanted; without numbers, which would move all the time."""
NEW_WORKERS_SECONDS = 60.0
"""Workers that were added no longer ago may not have taken their first job yet."""
NOT_OBSERVED = "the pool has not been observed yet"


def first_conditions() -> tuple[Condition, ...]:
    """All conditions before the first observation."""
    return unknown_conditions(CONDITIONS, NOT_OBSERVED)


def invalid_conditions(error: InvalidSpec) -> tuple[Condition, ...]:
    """All conditions of a spec that cannot be acted on."""
    others = (kind for kind in CONDITIONS if kind is not ConditionType.READY)
    ready = Condition(ConditionType.READY, Truth.FALSE, error.reason, str(error))
    return (ready, *unknown_conditions(others, NOT_OBSERVED))


def pool_conditions(context: PoolContext, arrivals_shown: float | None) -> tuple[Condition, ...]:
    """All conditions of the pool; `arrivals_shown` is the arrival rate that its status shows from now on."""
    return (
        _ready(context),
        _keeping_up(context, arrivals_shown),
        _scaling_limited(context),
        effective_condition(context),
        Condition(ConditionType.SHED, Truth.FALSE, Reason.AS_EXPECTED, "this version sheds nothing"),
        signal_condition(context),
    )


def _ready(context: PoolContext) -> Condition:
    kind, gap, sizing = ConditionType.READY, context.facts.gap, context.decision.sizing
    trouble = _find_trouble(context)
    if trouble is not None:
        return Condition(kind, Truth.FALSE, trouble.reason, trouble.message)
    if sizing is not None and sizing.decision.limit is Rule.TARGET_CONFLICT:
        return Condition(kind, Truth.FALSE, Reason.TARGET_CONFLICT, sizing.decision.message)
    if gap is not None and not context.decision.signal.is_brief:
        return Condition(kind, Truth.FALSE, gap.reason, _describe_gap(context, gap))
    reason, message = describe_work(context)
    return Condition(kind, Truth.TRUE, reason, "; ".join(filter(None, (message, describe_not_yet(context.spec)))))


def _find_trouble(context: PoolContext) -> Finding | None:
    """Why the target cannot be scaled: it could not be read, or not written."""
    target = context.facts.target
    return target if isinstance(target, Finding) else next(iter(context.findings), None)


def _describe_gap(context: PoolContext, gap: Finding) -> str:
    mode = context.spec.mode
    effect = "and nothing is scaled until it can be" if mode is Mode.ACTIVE else f"and spec.mode is {mode}"
    return f"the queue cannot be read now, {effect}: {gap.message}"


def _keeping_up(context: PoolContext, arrivals_shown: float | None) -> Condition:
    verdict, sample = context.decision.keeping_up, context.facts.sample
    truth = Truth.of(verdict.holds)
    if sample is None:
        message = "the lag of the queue is not known"
    elif verdict.reason is Reason.BACKLOG_BLOCKED:
        message = _describe_block(sample)
    elif verdict.reason is Reason.HEAD_OF_LINE_STUCK:
        message = describe_stuck(sample)
    elif verdict.reason is Reason.LAG_WITHIN_TARGET:
        message = _describe_calm(context, sample, arrivals_shown)
    else:
        message = _describe_delay(context, sample, verdict.reason)
    return Condition(ConditionType.KEEPING_UP, truth, verdict.reason, message)


def _describe_block(sample: QueueSample) -> str:
    return (
        f"{count_of(sample.blocked, 'item')} held up by a key or a lock, the oldest for "
        f"{describe_seconds(sample.blocked_seconds)}: more workers cannot help; look at what holds the key"
    )


def _describe_calm(context: PoolContext, sample: QueueSample, arrivals_shown: float | None) -> str:
    target = context.decision.limits.target_lag_seconds
    parts = [f"the oldest item has waited {sample.lag_seconds:.1f} s of {target:.0f} s"]
    if context.decision.failures.are_most:
        parts = ["the queue is empty"] if sample.backlog == 0 else parts
        parts.append(str(context.decision.failures))
    if arrivals_shown is not None:
        # The number that status shows: both are written together, and `lastDecision` may be from a busier time.
        parts.append(f"{round_number(arrivals_shown):g} jobs/s arrive now")
    return "; ".join(parts)


def _describe_delay(context: PoolContext, sample: QueueSample, reason: Reason) -> str:
    sizing, target = context.decision.sizing, context.facts.workload
    if reason is Reason.WORKERS_NOT_STARTING and target is not None:
        return describe_start_trouble(context, target)
    late, hang = _describe_lateness(context, sample), context.decision.hang
    if reason is Reason.JOBS_NOT_ENDING and hang is not None and target is not None:
        return f"{late}; {describe_hang(context, hang, target)}"
    if sizing is None or sizing.wanted is None:
        return late
    if reason is Reason.LEARNING_RATE:
        return f"{late}; {sizing.wanted.message}"
    if reason in (Reason.DEADLINE_MISSED, Reason.LAG_NOT_FALLING):
        return f"{late}; {describe_disproof(context, reason)}"
    eta, within = sizing.drain_seconds, context.decision.limits.drain_within_seconds
    end = "it would never be gone" if eta is None else f"it will be gone in about {describe_seconds(eta)}"
    if reason is not Reason.CANNOT_MEET_DEADLINE:
        return f"{late}; {end}"
    if eta is not None and context.memory.not_falling_seconds > within / 2:
        # What time has disproved is not promised.
        return f"{late}; {describe_disproof(context, Reason.LAG_NOT_FALLING)}{_describe_limit(context)}"
    return f"{late}; with {count_of(sizing.decision.allowed, 'worker')} {end}{_describe_limit(context)}"


def _describe_limit(context: PoolContext) -> str:
    """What keeps more workers back: an event has the same text, without the other conditions."""
    sizing = context.decision.sizing
    if context.spec.mode is Mode.PAUSED:
        return "; spec.mode is Paused"
    if sizing is None or not sizing.decision.is_held_back:
        return ""
    # Its first part: ScalingLimited has the rest.
    return f"; {sizing.decision.ruling.partition('; ')[0]}"


def describe_disproof(context: PoolContext, reason: Reason) -> str:
    """What time has shown, whatever the formula promises, and what the workers do meanwhile."""
    within, memory = context.decision.limits.drain_within_seconds, context.memory
    late_for = 0.0 if memory.lateness is None else context.now.monotonic - memory.lateness.since
    fact = f"it has been late for {describe_seconds(late_for)}, and drainWithin is {describe_seconds(within)}"
    if reason is Reason.LAG_NOT_FALLING:
        fact = f"the lag has not fallen for {describe_seconds(memory.not_falling_seconds)}"
    sample, target = context.facts.sample, context.facts.workload
    if sample is None or target is None or sample.in_flight is None:
        return fact
    slots = target.pods.ready * context.decision.limits.concurrency
    fact = f"{fact}; {count_of(sample.in_flight, 'job')} in flight of {slots} that the ready workers can have"
    added = next((move for move in reversed(memory.moves) if move.after > move.before), None)
    if added is None or sample.in_flight >= slots or context.now.monotonic - added.at > NEW_WORKERS_SECONDS:
        return fact
    return f"{fact}, and workers were added {context.now.monotonic - added.at:.0f} s ago"


def _describe_lateness(context: PoolContext, sample: QueueSample) -> str:
    more = " or more" if sample.is_truncated else ""
    target = context.decision.limits.target_lag_seconds
    verb = "waits" if sample.backlog == 1 and not more else "wait"
    return (
        f"{describe_seconds(sample.lag_seconds)} behind, {describe_seconds(target)} are the target; "
        f"{count_of(sample.backlog, 'item')}{more} {verb}"
    )


def _scaling_limited(context: PoolContext) -> Condition:
    kind, sizing, target = ConditionType.SCALING_LIMITED, context.decision.sizing, context.facts.target
    if sizing is None:
        if isinstance(target, Finding):
            return Condition(kind, Truth.UNKNOWN, target.reason, target.message)
        return Condition(kind, Truth.FALSE, Reason.AS_EXPECTED, "nothing is scaled")
    if context.spec.mode is Mode.PAUSED:
        return Condition(kind, Truth.FALSE, Reason.PAUSED, "spec.mode is Paused: nothing is scaled")
    decision = sizing.decision
    if decision.limit is Rule.STALE_SIGNAL:
        return Condition(kind, Truth.UNKNOWN, Reason.STALE_SIGNAL, decision.message)
    if decision.is_held_back:
        return Condition(kind, Truth.TRUE, decision.reason, decision.message)
    message = "as many workers as are wanted are allowed"
    if decision.limit is not None and is_spare(decision.wanted, decision.allowed):
        why = KEPT.get(decision.reason, "more stay than are wanted")
        message = f"no limit keeps workers back; {why} ({decision.reason})"
    return Condition(kind, Truth.FALSE, Reason.AS_EXPECTED, message)
