"""What SignalAvailable says of a queue, and what a person should know first of a pool, in one word."""

from collections.abc import Iterable

from headroom.api.v1alpha1.common import Mode
from headroom.api.v1alpha1.workerpool import WorkerPoolSpec
from headroom.model.condition_types import ConditionType
from headroom.model.conditions import Condition, Truth
from headroom.model.numbers import count_of, round_number
from headroom.model.queue import END_PREPARED, QueueSample
from headroom.policy.workerpool import Target
from headroom.reasons import Reason
from headroom.reconcilers.workerpool.memory import PoolContext

END_TRANSACTION = "end it with SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_xid = '{}'"
WRONG_ALTHOUGH_READ = frozenset(
    {
        Reason.CONCURRENCY_MISMATCH,
        Reason.HEAD_OF_LINE_STUCK,
        Reason.PHANTOM_IN_FLIGHT,
        Reason.NEGATIVE_AGE,
    }
)
"""Reasons of a SignalAvailable that is True: the queue can be read, and a person should correct something."""


def find_foremost(conditions: Iterable[Condition]) -> str:
    """What a person should know first of a pool: the reason of Ready while that is not True or says more than that
    all is well; else `Type:Reason` of the first other condition that is not as it should be. LIMIT has ScalingLimited.
    """
    found = {condition.type: condition for condition in conditions}
    ready, signal = found[ConditionType.READY], found[ConditionType.SIGNAL_AVAILABLE]
    if ready.status is not Truth.TRUE or ready.reason is not Reason.AS_EXPECTED:
        return str(ready.reason)
    wrong = (
        (signal, signal.reason in WRONG_ALTHOUGH_READ),
        (found[ConditionType.EFFECTIVE], found[ConditionType.EFFECTIVE].status is Truth.FALSE),
        (found[ConditionType.KEEPING_UP], found[ConditionType.KEEPING_UP].status is Truth.FALSE),
    )
    return next((f"{one.type}:{one.reason}" for one, is_wrong in wrong if is_wrong), str(ready.reason))


def describe_paused(spec: WorkerPoolSpec) -> str | None:
    """What does not change because the spec says so: a direction, or both."""
    if spec.mode is Mode.PAUSED:
        return "Both"
    return None if spec.paused is None else str(spec.paused)


def describe_stuck(sample: QueueSample) -> str:
    """The item that no worker takes or that all pass over, and what to do; the sample has one."""
    first, more = sample.stuck[0], sample.blocked - 1
    others = f" ({count_of(more, 'other item is', 'other items are')} held up too)" if more > 0 else ""
    if first.holder is not None:
        return (
            f"no worker can take item {first.id}{others}: transaction {first.holder} has locked its row; "
            f"{(END_PREPARED if first.is_prepared else END_TRANSACTION).format(first.holder)}"
        )
    return (
        f"the workers pass over item {first.id}, the next of its queue{others}, and take others, so it is left out of "
        "the lag: see whether a transaction has locked its row, or no worker knows its task"
    )


def signal_condition(context: PoolContext) -> Condition:
    """Whether the queue can be read, and what is wrong with what it says."""
    verdict, gap = context.decision.signal.verdict, context.facts.gap
    message = gap.message if gap is not None else _describe_signal(context, verdict.reason)
    return Condition(ConditionType.SIGNAL_AVAILABLE, Truth.of(verdict.holds), verdict.reason, message)


def _is_idle(sample: QueueSample, target: Target, context: PoolContext) -> bool:
    return (sample.in_flight or 0) <= target.pods.running * context.spec.concurrency


def _describe_items(sample: QueueSample, reason: Reason) -> str:
    if reason is Reason.HEAD_OF_LINE_STUCK:
        return describe_stuck(sample)
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
