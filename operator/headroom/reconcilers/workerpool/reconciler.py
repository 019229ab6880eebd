"""The passes over WorkerPools: gather, decide, write `/scale`, report; and the events of a pool."""

from collections.abc import Set
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any, Literal

from headroom.api.v1alpha1 import parse_spec
from headroom.api.v1alpha1.common import Mode
from headroom.api.v1alpha1.workerpool import WorkerPoolSpec
from headroom.errors import InvalidSpec
from headroom.model.condition_types import ConditionType
from headroom.model.conditions import Condition, Truth
from headroom.model.moments import Moment
from headroom.model.numbers import count_of
from headroom.policy.workerpool import PoolMemory, decide
from headroom.ports.kube import WORKER_POOL, Manifest, ObjectRef
from headroom.reasons import Reason
from headroom.reconcilers.context import INVALID_PAUSE, Services, restore_memory
from headroom.reconcilers.notifications import QueueNotifications
from headroom.reconcilers.reporter import NotYetEvents
from headroom.reconcilers.workerpool import metrics
from headroom.reconcilers.workerpool.apply import scale_target
from headroom.reconcilers.workerpool.checkpoint import restore
from headroom.reconcilers.workerpool.effectiveness import emit_growth
from headroom.reconcilers.workerpool.gather import Gatherer, guard_key
from headroom.reconcilers.workerpool.marking import clear_all_marks
from headroom.reconcilers.workerpool.memory import PoolContext, PoolHandles
from headroom.reconcilers.workerpool.status import build_status, first_status, invalid_status

REPORTED = (ConditionType.READY, ConditionType.KEEPING_UP, ConditionType.SIGNAL_AVAILABLE)
QUIET = frozenset({Reason.AS_EXPECTED, Reason.NOT_YET_OBSERVED, Reason.LAG_WITHIN_TARGET, Reason.STALE_SIGNAL})
"""Reasons without an event; SignalAvailable says why a signal is stale."""
WARNINGS = frozenset({Reason.JOBS_FAILING, Reason.GRACE_TOO_SHORT, Reason.CONCURRENCY_MISMATCH})
"""Reasons of True conditions that a person should act on."""
PINNED = frozenset({"conditions", "target"})
"""What a pool remembers even from a status that is damaged elsewhere."""
EARLY = (str(Truth.UNKNOWN), str(Reason.GUARD_NOT_READY))
"""SignalAvailable while a guard has hardly had the time to observe its server: no event either."""


@dataclass(slots=True)
class WorkerPoolReconciler:
    """Implements `Reconciler` for WorkerPools."""

    services: Services
    _memories: dict[str, PoolMemory] = field(default_factory=dict)
    _handles: dict[str, PoolHandles] = field(default_factory=dict)
    _not_yet: NotYetEvents = field(init=False)
    _notifications: QueueNotifications = field(init=False)

    def __post_init__(self) -> None:
        self._notifications = QueueNotifications(self.services.clock, self._wake)
        self._not_yet = NotYetEvents(self.services.telemetry)

    async def reconcile(self, body: dict[str, Any]) -> timedelta:
        """See `Reconciler.reconcile`."""
        status, reporter = body.get("status") or {}, self.services.reporter
        if not status.get("conditions"):
            body = await reporter.report(body, first_status(status))
        now = self._now()
        handles = self._handles_of(body, now)
        due = now.monotonic if handles.next_due is None else min(handles.next_due, now.monotonic)
        try:
            spec = parse_spec(WorkerPoolSpec, body)
        except InvalidSpec as error:
            await reporter.report(body, invalid_status(status, error))
            return INVALID_PAUSE
        self._not_yet.emit(body, spec)
        context = await self._decide(body, spec, handles, now)
        self._share(context)
        await self._follow(context)
        has_scaled = await self._scale(context, due)
        metrics.record_pass(context)
        desired = build_status(context, has_scaled=has_scaled)
        if await reporter.report(body, desired) is not body:
            # Compared with the last status: while it waits for its turn, the same change would be new in each pass.
            emit_changes(context, desired.conditions)
            emit_dry_run(context)
        handles.next_due = now.monotonic + context.decision.pause_seconds
        return timedelta(seconds=max(0.0, handles.next_due - self.services.clock.monotonic()))

    async def teardown(self, body: dict[str, Any]) -> timedelta | None:
        """Leave the target as it is, without our marks on its pods: a pool creates nothing else."""
        await self._clear_marks(body)
        await self.forget(body["metadata"]["uid"])
        return None

    async def _clear_marks(self, body: dict[str, Any]) -> None:
        try:
            ref = parse_spec(WorkerPoolSpec, body).workers.target_ref
        except InvalidSpec:
            return
        if ref is not None:
            handles = self._handles.get(body["metadata"]["uid"])
            known = None if handles is None else handles.census.marked
            await clear_all_marks(self.services, body["metadata"]["namespace"], ref, known)

    async def forget(self, uid: str) -> None:
        """See `Reconciler.forget`."""
        self.services.reporter.forget(uid)
        self._not_yet.forget(uid)
        self._memories.pop(uid, None)
        handles = self._handles.pop(uid, None)
        if handles is not None:
            ref = ObjectRef(WORKER_POOL, handles.namespace, handles.name)
            self.services.servers.forget(ref, uid)
            await self._notifications.forget(ref)
            # By metric: a guard or a set of this name has series with the same labels.
            self.services.telemetry.forget(*metrics.ALL, namespace=handles.namespace, name=handles.name)
            await handles.close()

    def _now(self) -> Moment:
        return Moment(self.services.clock.monotonic(), self.services.clock.now())

    def _handles_of(self, body: Manifest, now: Moment) -> PoolHandles:
        """The handles of a pool; at first sight its memory is restored from status."""
        metadata = body["metadata"]
        uid = metadata["uid"]
        if uid not in self._handles:
            self._handles[uid] = PoolHandles.create(metadata["namespace"], metadata["name"], uid, self.services.clock)
            self._memories[uid] = restore_memory(
                lambda status: restore(status, now), body.get("status") or {}, PINNED.__contains__
            )
        return self._handles[uid]

    async def _decide(self, body: Manifest, spec: WorkerPoolSpec, handles: PoolHandles, now: Moment) -> PoolContext:
        uid = body["metadata"]["uid"]
        before = self._memories[uid]
        facts = await Gatherer(self.services, spec, handles, before, now).gather(body)
        outcome = decide(spec, facts, before, now)
        # Before anything is written: a sample counts even if the rest of the pass fails.
        self._memories[uid] = outcome.memory
        if outcome.decision.sample is not None:
            # What is shown is what was decided on: without the items that workers pass over.
            facts = replace(facts, signal=outcome.decision.sample)
        context = PoolContext(
            services=self.services,
            body=body,
            spec=spec,
            facts=facts,
            decision=outcome.decision,
            memory=outcome.memory,
            handles=handles,
            now=now,
        )
        metrics.record_failures(context)
        emit_growth(context, before.gain)
        return context

    def _share(self, context: PoolContext) -> None:
        """Let the guard's news wake this pool, and post what the pool needs; the guard allocates in its next pass."""
        servers, ref = self.services.servers, ObjectRef(WORKER_POOL, context.namespace, context.name)
        key, claim = guard_key(context.namespace, context.spec), context.decision.claim
        if key is None or claim is None:
            servers.forget(ref, context.uid)
        if key is not None:
            servers.depend(ref, key)
        if key is not None and claim is not None:
            servers.post_demand(ref, key, claim)

    def _wake(self, ref: ObjectRef) -> None:
        # The loops set `servers.wake` after the reconcilers are made.
        self.services.servers.wake(ref)

    async def _follow(self, context: PoolContext) -> None:
        """Let the notifications of the queue's library wake this pool."""
        kept, ref = context.handles.queue, ObjectRef(WORKER_POOL, context.namespace, context.name)
        if context.facts.sample is None or kept.probe is None or kept.runner is None:
            return
        asked_at = context.now.monotonic
        await self._notifications.follow(
            ref, kept.runner, kept.probe.channels, sampled_at=asked_at, seconds=kept.sample_seconds
        )
        kept.deafness = self._notifications.find_refusal(ref)

    async def _scale(self, context: PoolContext, due: float) -> bool:
        """Write the count; the memory changes even if the write fails."""
        try:
            has_scaled = await scale_target(context)
        finally:
            self._memories[context.uid] = context.memory
        if has_scaled:
            metrics.record_scaled(context, due_seconds=self.services.clock.monotonic() - due)
            emit_scaled(context)
        return has_scaled


def emit_scaled(context: PoolContext) -> None:
    """Report the count that was written."""
    target, sizing = context.facts.workload, context.decision.sizing
    if target is None or sizing is None:
        return
    written = count_of(context.memory.moves[-1].after, "worker")
    message = f"{target} from {target.present} to {written}; {sizing.decision.message}"
    context.emit(sizing.decision.reason, message)


def emit_dry_run(context: PoolContext) -> None:
    """Report the count that would have been written, once for each decision."""
    target, sizing = context.facts.workload, context.decision.sizing
    if context.spec.mode is not Mode.DRY_RUN or target is None or sizing is None:
        return
    decision, before = sizing.decision, context.status.get("lastDecision") or {}
    was_reported = before.get("allowed") == decision.allowed and context.condition(ConditionType.READY).get(
        "reason"
    ) == str(Reason.DRY_RUN)
    if decision.allowed != target.present and not was_reported:
        count = count_of(decision.allowed, "worker")
        message = f"{target} would go from {target.present} to {count}; {decision.message}"
        context.emit(Reason.DRY_RUN, message)


def emit_changes(context: PoolContext, conditions: tuple[Condition, ...]) -> None:
    """Report the verdicts that differ from those of the last status."""
    known = _known_gaps(context, conditions)
    for condition in conditions:
        if condition.type in REPORTED:
            _emit_change(context, condition, known)


def _known_gaps(context: PoolContext, conditions: tuple[Condition, ...]) -> Set[object]:
    """The reasons for a gap that SignalAvailable gives, and gave in the last status: once is enough."""
    kind = ConditionType.SIGNAL_AVAILABLE
    before = context.condition(kind)
    now: set[object] = {entry.reason for entry in conditions if entry.type is kind and entry.status is not Truth.TRUE}
    return now if before.get("status") == Truth.TRUE else now | {before.get("reason")}


def _emit_change(context: PoolContext, condition: Condition, known: Set[object]) -> None:
    """One event for a verdict that changed; `known` are reasons that SignalAvailable gives, now or before."""
    before = context.condition(condition.type)
    old, new = (before.get("status"), before.get("reason")), (str(condition.status), str(condition.reason))
    if old == new:
        return
    quiet = QUIET | known if condition.type is not ConditionType.SIGNAL_AVAILABLE else QUIET
    was_quiet = not before or old[1] in quiet or old == EARLY
    if condition.reason in quiet - QUIET or new == EARLY or (was_quiet and condition.reason in QUIET):
        return
    type_: Literal["Normal", "Warning"] = (
        "Normal" if condition.status is Truth.TRUE and condition.reason not in WARNINGS else "Warning"
    )
    context.emit(condition.reason, f"{condition.type}: {condition.message}", type_)
