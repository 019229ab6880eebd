"""The conditions of a pool. A tired person must understand them."""

from headroom.api.v1alpha1.common import Mode
from headroom.errors import InvalidSpec
from headroom.model.conditions import Condition, Finding, Truth, unknown_conditions
from headroom.model.numbers import count_of, round_number
from headroom.model.queue import QueueSample
from headroom.policy.not_yet import describe_not_yet
from headroom.policy.workerpool import Rule, Target, is_spare
from headroom.reasons import ConditionType, Reason
from headroom.reconcilers.workerpool.effectiveness import effective_condition
from headroom.reconcilers.workerpool.memory import PoolContext
from headroom.reconcilers.workerpool.readiness import describe_start_trouble, describe_work

CONDITIONS = (
    ConditionType.READY,
    ConditionType.KEEPING_UP,
    ConditionType.SCALING_LIMITED,
    ConditionType.EFFECTIVE,
    ConditionType.SHED,
    ConditionType.SIGNAL_AVAILABLE,
)
END_TRANSACTION = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_xid = '{}'"
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
        _signal_available(context),
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
    effect = "and nothing is scaled until it can" if mode is Mode.ACTIVE else f"and spec.mode is {mode}"
    return f"the queue cannot be read now, {effect}: {gap.message}"


def _keeping_up(context: PoolContext, arrivals_shown: float | None) -> Condition:
    verdict, sample = context.decision.keeping_up, context.facts.sample
    truth = Truth.of(verdict.holds)
    if sample is None:
        message = "the lag of the queue is not known"
    elif verdict.reason is Reason.BACKLOG_BLOCKED:
        message = _describe_block(sample)
    elif verdict.reason is Reason.HEAD_OF_LINE_STUCK:
        message = _describe_stuck(sample)
    elif verdict.reason is Reason.LAG_WITHIN_TARGET:
        message = _describe_calm(context, sample, arrivals_shown)
    else:
        message = _describe_delay(context, sample, verdict.reason)
    return Condition(ConditionType.KEEPING_UP, truth, verdict.reason, message)


def _describe_block(sample: QueueSample) -> str:
    return (
        f"{count_of(sample.blocked, 'item')} held up by a key or a lock, the oldest for "
        f"{sample.blocked_seconds:.0f} s: more workers cannot help; look at what holds the key"
    )


def _describe_stuck(sample: QueueSample) -> str:
    first, more = sample.stuck[0], sample.blocked - 1
    others = f" ({count_of(more, 'other item is', 'other items are')} held up too)" if more > 0 else ""
    if first.holder is not None:
        return (
            f"no worker can take item {first.id}{others}: transaction {first.holder} has locked its row; end it with "
            f"{END_TRANSACTION.format(first.holder)}"
        )
    return (
        f"the workers pass over item {first.id}, the next of its queue{others}, and take others, so it is left out of "
        "the lag: see whether a transaction has locked its row, or no worker knows its task"
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
    late = _describe_lateness(context, sample)
    if sizing is None or sizing.wanted is None:
        return late
    if reason is Reason.LEARNING_RATE:
        return f"{late}; {sizing.wanted.message}"
    if reason in (Reason.DEADLINE_MISSED, Reason.LAG_NOT_FALLING):
        return f"{late}; {_describe_disproof(context, reason)}"
    eta, within = sizing.drain_seconds, context.decision.limits.drain_within_seconds
    end = "it would never be gone" if eta is None else f"it will be gone in about {eta:.0f} s"
    if reason is not Reason.CANNOT_MEET_DEADLINE:
        return f"{late}; {end}"
    if eta is not None and context.memory.not_falling_seconds > within / 2:
        # What time has disproved is not promised.
        return f"{late}; {_describe_disproof(context, Reason.LAG_NOT_FALLING)}; see ScalingLimited"
    return f"{late}; with {count_of(sizing.decision.allowed, 'worker')} {end}; see ScalingLimited"


def _describe_disproof(context: PoolContext, reason: Reason) -> str:
    """What time has shown, whatever the formula promises, and what the workers do meanwhile."""
    within, memory = context.decision.limits.drain_within_seconds, context.memory
    late_for = 0.0 if memory.lateness is None else context.now.monotonic - memory.lateness.since
    fact = f"it has been late for {late_for:.0f} s, and drainWithin is {within:.0f} s"
    if reason is Reason.LAG_NOT_FALLING:
        fact = f"the lag has not fallen for {memory.not_falling_seconds:.0f} s"
    sample, target = context.facts.sample, context.facts.workload
    if sample is None or target is None or sample.in_flight is None:
        return fact
    slots = target.pods.ready * context.decision.limits.concurrency
    return f"{fact}; {count_of(sample.in_flight, 'job')} in flight of {slots} that the ready workers can have"


def _describe_lateness(context: PoolContext, sample: QueueSample) -> str:
    more = " or more" if sample.is_truncated else ""
    verb = "waits" if sample.backlog == 1 and not more else "wait"
    return (
        f"{sample.lag_seconds:.0f} s behind, {context.decision.limits.target_lag_seconds:.0f} s are the target; "
        f"{count_of(sample.backlog, 'item')}{more} {verb}"
    )


def _scaling_limited(context: PoolContext) -> Condition:
    kind, sizing, target = ConditionType.SCALING_LIMITED, context.decision.sizing, context.facts.target
    if sizing is None:
        if isinstance(target, Finding):
            return Condition(kind, Truth.UNKNOWN, target.reason, target.message)
        return Condition(kind, Truth.FALSE, Reason.AS_EXPECTED, "nothing is scaled")
    decision = sizing.decision
    if decision.limit is Rule.STALE_SIGNAL:
        return Condition(kind, Truth.UNKNOWN, Reason.STALE_SIGNAL, decision.message)
    if decision.is_held_back:
        hint = _describe_seen(context) if decision.limit is Rule.CONNECTION_BUDGET else ""
        return Condition(kind, Truth.TRUE, decision.reason, "; ".join(filter(None, (decision.message, hint))))
    message = "as many workers as are wanted are allowed"
    if decision.limit is not None and is_spare(decision.wanted, decision.allowed):
        message = f"no limit keeps workers back; {decision.reason} keeps more than are wanted"
    return Condition(kind, Truth.FALSE, Reason.AS_EXPECTED, message)


def _describe_seen(context: PoolContext) -> str:
    """That the workers hold fewer connections than their spec says, if that was measured: more of them would fit."""
    view, declared = context.facts.database, context.spec.connections_per_worker
    allocation = None if view is None else view.allocations.get(context.facts.own.uid)
    if allocation is None or not allocation.seen:
        return ""
    return f"workers were seen to hold {allocation.seen:.2g} each, and connectionsPerWorker is {declared}"


def _signal_available(context: PoolContext) -> Condition:
    verdict, gap = context.decision.signal.verdict, context.facts.gap
    message = gap.message if gap is not None else _describe_signal(context, verdict.reason)
    return Condition(ConditionType.SIGNAL_AVAILABLE, Truth.of(verdict.holds), verdict.reason, message)


def _is_idle(sample: QueueSample, target: Target, context: PoolContext) -> bool:
    return (sample.in_flight or 0) <= target.pods.running * context.spec.concurrency


def _describe_items(sample: QueueSample, reason: Reason) -> str:
    if reason is Reason.HEAD_OF_LINE_STUCK:
        return _describe_stuck(sample)
    if reason is Reason.NEGATIVE_AGE:
        return (
            f"lagQuery returned an age of -{round_number(sample.early_seconds):g} s, which counts as 0: let the "
            "database's clock write when an item is made (DEFAULT now()), and leave out items that are due later"
        )
    return (
        f"{count_of(sample.phantoms, 'item')} marked as running without a live worker: requeue with the queue "
        "library's own tool"
    )


def _describe_signal(context: PoolContext, reason: Reason) -> str:
    sample, target = context.facts.sample, context.facts.workload
    if sample is None:
        return "there is no queue to sample"
    if reason is Reason.LEARNING_RATE:
        return (
            "finished jobs are deleted, so that nobody can count them: set objective.expectedJobDuration, or let the "
            "worker keep its jobs (delete_jobs)"
        )
    if reason in (Reason.HEAD_OF_LINE_STUCK, Reason.PHANTOM_IN_FLIGHT, Reason.NEGATIVE_AGE):
        return _describe_items(sample, reason)
    taken = context.memory.occupancy.taken
    if reason is Reason.CONCURRENCY_MISMATCH and taken is not None:
        return (
            f"each worker has {count_of(taken, 'item')} in flight while others wait, and spec.concurrency is "
            f"{context.spec.concurrency}: set it to {taken}, or let the workers take more; until then workers are "
            f"counted with {taken}"
        )
    if reason is Reason.CONCURRENCY_MISMATCH and target is not None and _is_idle(sample, target, context):
        return (
            f"{count_of(sample.backlog, 'item')} wait beside idle workers: {sample.in_flight} in flight of "
            f"{count_of(target.pods.running, 'worker')} with spec.concurrency {context.spec.concurrency}; lower it to "
            "what a worker takes, or see why the workers do not take these items"
        )
    if reason is Reason.CONCURRENCY_MISMATCH and target is not None:
        return (
            f"{count_of(sample.in_flight or 0, 'item')} in flight of {count_of(target.pods.running, 'worker')}: "
            f"spec.concurrency {context.spec.concurrency} is too small, or others drain the same queue"
        )
    deafness = context.handles.queue.deafness
    return f"the queue can be read, by polling alone: {deafness}" if deafness else "the queue can be read"
