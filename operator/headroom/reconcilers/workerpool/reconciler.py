"""One pass of a WorkerPool: sample the queue and look at the target at once, decide, write `/scale`, say why."""

import asyncio
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any

from headroom.api.v1alpha1.common import Mode
from headroom.api.v1alpha1.resources import parse_spec
from headroom.api.v1alpha1.workerpool import WorkerPoolSpec
from headroom.errors import Conflict, InvalidSpec, Refused
from headroom.model.queue import QueueQuestion
from headroom.policy.schedules import find_active
from headroom.policy.workerpool import Facts, ForeignWrites, Move, Outcome, ScalingLimits, decide_workers, limits_of
from headroom.policy.workerpool.budget import ConnectionFacts, high_quantile
from headroom.policy.workerpool.conflict import find_conflict, watch_writes
from headroom.policy.workerpool.constants import DEFAULT_LEAD_SECONDS, PROBE_SECONDS, URGENT_PROBE_SECONDS
from headroom.ports.clock import Clock
from headroom.ports.kube import WORKER_POOL, Kube, Manifest, ObjectRef
from headroom.ports.postgres import Postgres
from headroom.ports.signals import QueueProbes
from headroom.ports.telemetry import Telemetry
from headroom.reconcilers.board import GuardBoard
from headroom.reconcilers.not_yet import NotYetEvents
from headroom.reconcilers.reporter import StatusReporter
from headroom.reconcilers.workerpool import metrics
from headroom.reconcilers.workerpool.announce import announce, announce_scaling
from headroom.reconcilers.workerpool.draft import build_status, invalid_status, unknown_status
from headroom.reconcilers.workerpool.facts import Pass, Problem, Signal, Target
from headroom.reconcilers.workerpool.memory import PoolMemory
from headroom.reconcilers.workerpool.neighbours import Neighbourhood, Neighbours, claim_of
from headroom.reconcilers.workerpool.sampling import SignalGatherer
from headroom.reconcilers.workerpool.target import TargetGatherer

INVALID_EVERY = timedelta(seconds=30)
"""A spec that cannot be acted on changes by an edit, and an edit wakes the loop."""


@dataclass(slots=True)
class WorkerPoolReconciler:
    """Implements `Reconciler` for WorkerPools."""

    kube: Kube
    reporter: StatusReporter
    postgres: Postgres
    probes: QueueProbes
    clock: Clock
    telemetry: Telemetry
    board: GuardBoard
    _memories: dict[str, PoolMemory] = field(default_factory=dict)
    _neighbourhood: Neighbourhood = field(init=False)
    _signals: SignalGatherer = field(init=False)
    _targets: TargetGatherer = field(init=False)
    _not_yet: NotYetEvents = field(init=False)

    def __post_init__(self) -> None:
        self._neighbourhood = Neighbourhood(self.kube, self.clock)
        self._signals = SignalGatherer(self.kube, self.postgres, self.probes, self.clock, self.board)
        self._targets = TargetGatherer(self.kube, self.clock)
        self._not_yet = NotYetEvents(self.telemetry)

    async def reconcile(self, body: dict[str, Any]) -> timedelta:
        """See `Reconciler.reconcile`."""
        status = body.get("status") or {}
        if not status.get("conditions"):
            body = await self.reporter.report(body, unknown_status(status))
        memory, began = self._remember(body), self.clock.monotonic()
        due = min(memory.next_due or began, began)
        try:
            spec = parse_spec(WorkerPoolSpec, body)
        except InvalidSpec as error:
            await self.reporter.report(body, invalid_status(status, error))
            return INVALID_EVERY
        self._not_yet.tell(body, spec)
        seen = await self._apply(memory, await self._look(memory, spec, body, began))
        announce_scaling(self.telemetry, seen, due_seconds=self.clock.monotonic() - due)
        draft = build_status(seen, self.clock.now())
        announce(self.telemetry, seen, draft.conditions)
        await self.reporter.report(body, draft)
        return self._pause(memory, seen, began)

    async def teardown(self, body: dict[str, Any]) -> timedelta | None:
        """The target stays as it is; nothing else was made."""
        await self.forget(body["metadata"]["uid"])
        return None

    async def forget(self, uid: str) -> None:
        """See `Reconciler.forget`."""
        self.reporter.forget(uid)
        self._not_yet.forget(uid)
        memory = self._memories.pop(uid, None)
        if memory is not None:
            self.telemetry.forget(namespace=memory.namespace, name=memory.name)
            await memory.queue.close()

    def _remember(self, body: Manifest) -> PoolMemory:
        metadata = body["metadata"]
        memory = self._memories.setdefault(metadata["uid"], PoolMemory(metadata["namespace"], metadata["name"]))
        memory.restore(body, self.clock.monotonic(), self.clock.now())
        return memory

    async def _look(self, memory: PoolMemory, spec: WorkerPoolSpec, body: Manifest, began: float) -> Pass:
        limits = limits_of(spec, find_active(spec.schedules, self.clock.now()))
        try:
            neighbours = await self._neighbourhood.read(memory.namespace)
        except Refused as error:
            problem = Problem(error.reason, str(error))
            return Pass(body, spec, limits, Signal(), memory.history, began, problem=problem)
        signal, target = await asyncio.gather(
            self._sample(memory, spec, limits, neighbours, began), self._find_target(memory, spec)
        )
        seen = Pass(body, spec, limits, signal, memory.history, began)
        if isinstance(target, Problem):
            return replace(seen, problem=target)
        if target is None:
            return seen
        outcome = self._decide(memory, replace(seen, target=target), neighbours)
        memory.history = outcome.history
        return replace(seen, target=target, outcome=outcome, history=outcome.history, lead_seconds=memory.lead_seconds)

    async def _sample(
        self, memory: PoolMemory, spec: WorkerPoolSpec, limits: ScalingLimits, neighbours: Neighbours, began: float
    ) -> Signal:
        if spec.queue is None:
            return Signal()
        lead = memory.lead_seconds or DEFAULT_LEAD_SECONDS
        question = QueueQuestion(began, limits.target_lag_seconds, lead)
        signal = await self._signals.gather(memory, spec, question, neighbours.guards)
        labels = {"namespace": memory.namespace, "name": memory.name}
        self.telemetry.record(metrics.PROBE_SECONDS, self.clock.monotonic() - began, **labels)
        if signal.gap is not None:
            self.telemetry.record(metrics.PROBE_FAILURES, 1, reason=str(signal.gap.reason), **labels)
        return signal

    async def _find_target(self, memory: PoolMemory, spec: WorkerPoolSpec) -> Target | Problem | None:
        ref = spec.workers.target_ref
        if ref is None:
            return None
        target = await self._targets.gather(ref, memory.namespace, memory.lead_seconds)
        if isinstance(target, Target):
            memory.follow_target(target.scale.uid)
            memory.lead_seconds = target.pods.lead_seconds or memory.lead_seconds
        return target

    def _decide(self, memory: PoolMemory, seen: Pass, neighbours: Neighbours) -> Outcome:
        target, history = seen.target, memory.history
        assert target is not None
        present = target.scale.spec_replicas
        # Only what we wrote can be overwritten: in the other modes every write is somebody else's by right.
        foreign = watch_writes(history.foreign, present, seen.now) if seen.is_active else ForeignWrites()
        history = replace(history, foreign=foreign)
        own, wall = claim_of(seen.body), self.clock.now() - timedelta(seconds=self.clock.monotonic() - seen.now)
        facts = Facts(
            now=seen.now,
            present=present,
            existing=target.pods.running,
            capacity_workers=target.pods.in_time,
            lead_time_seconds=memory.lead_seconds or DEFAULT_LEAD_SECONDS,
            sample=seen.signal.sample,
            gap=seen.signal.gap,
            conflict=find_conflict(own, neighbours.claims(), neighbours.autoscalers, foreign, seen.now, wall=wall),
            connections=self._connections(memory, seen, target, neighbours),
        )
        return decide_workers(seen.limits, facts, history)

    def _connections(
        self, memory: PoolMemory, seen: Pass, target: Target, neighbours: Neighbours
    ) -> ConnectionFacts | None:
        """Connections of the guard's server; None while they are not known."""
        ref = seen.spec.database_ref
        view = None if ref is None else self.board.read(memory.namespace, ref.name)
        if ref is None or view is None or view.connections is None:
            return None
        counts, spec = view.connections, neighbours.guards.get(ref.name, {})
        other_pools = neighbours.connections_of_others(seen.body["metadata"]["uid"], ref.name)
        own = target.pods.running * seen.limits.connections_per_worker
        memory.see_others(seen.now, max(0, counts.used - own - other_pools))
        facts = ConnectionFacts(
            limit=counts.limit, others=high_quantile([count for _, count in memory.others]), other_pools=other_pools
        )
        shares, via = spec.get("connections") or {}, (spec.get("connection") or {}).get("via") or {}
        return replace(
            facts,
            share_percent=shares.get("workerSharePercent", facts.share_percent),
            reserve=shares.get("reserve", facts.reserve),
            pooler_size=via.get("poolSize"),
        )

    async def _apply(self, memory: PoolMemory, seen: Pass) -> Pass:
        """Write the count if it is to change; Conflict ends the pass, and the next one looks again."""
        target, outcome = seen.target, seen.outcome
        if target is None or outcome is None or seen.spec.mode is not Mode.ACTIVE:
            return seen
        before, allowed = target.scale.spec_replicas, outcome.decision.allowed
        if allowed == before:
            return seen
        await self._check_current(seen.body)
        known = memory.history
        # A write whose answer is lost may have happened: then nobody's count is a foreign one.
        memory.history = replace(known, foreign=replace(known.foreign, written=None))
        try:
            await self.kube.set_scale(target.scale, allowed)
        except Conflict:
            memory.history = known
            raise
        except Refused as error:
            memory.history = known
            return replace(seen, refusal=Problem(error.reason, str(error)))
        memory.history = memory.history.moved(Move(self.clock.monotonic(), before, allowed))
        return replace(seen, written=allowed, history=memory.history)

    async def _check_current(self, body: Manifest) -> None:
        """Raise Conflict unless the pool is still the one that was decided for: the watch may be behind an edit.

        Its generation is compared and not its resourceVersion, which each status write moves.
        """
        metadata = body["metadata"]
        live = await self.kube.get(ObjectRef(WORKER_POOL, metadata["namespace"], metadata["name"]))
        facts = ("uid", "generation", "deletionTimestamp")
        if live is None or any(live["metadata"].get(fact) != metadata.get(fact) for fact in facts):
            raise Conflict(f"WorkerPool {metadata['namespace']}/{metadata['name']} was edited meanwhile")

    def _pause(self, memory: PoolMemory, seen: Pass, began: float) -> timedelta:
        """Until the next sample is due, counted from the beginning of this one."""
        lag = seen.lag_seconds
        is_late = lag is not None and lag > seen.limits.target_lag_seconds
        memory.next_due = began + (URGENT_PROBE_SECONDS if is_late else PROBE_SECONDS)
        return timedelta(seconds=max(0.0, memory.next_due - self.clock.monotonic()))
