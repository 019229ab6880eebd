"""Gathers the queue's numbers: finds the link, keeps the probe, and turns every failure into a gap with its remedy."""

from collections.abc import Container
from dataclasses import dataclass

from headroom.api.v1alpha1.queue import PostgresQueue
from headroom.api.v1alpha1.workerpool import WorkerPoolSpec
from headroom.errors import InvalidSpec, KubeUnavailable, Refused, SignalUnavailable, Unavailable
from headroom.model.database import ConnectionTarget
from headroom.model.queue import QueueQuestion, QueueSample
from headroom.policy.workerpool import SignalGap
from headroom.ports.clock import Clock
from headroom.ports.kube import KubeReader
from headroom.ports.postgres import Postgres
from headroom.ports.signals import QueueProbe, QueueProbes, SqlRunner
from headroom.reasons import Reason
from headroom.reconcilers.board import GuardBoard
from headroom.reconcilers.logins import SecretReader
from headroom.reconcilers.workerpool.facts import Signal
from headroom.reconcilers.workerpool.memory import PoolMemory, QueueMemory

CONNECTION_FIELD = "spec.queue.postgres.connection"
READ_AGAIN_SECONDS = 60.0
LOGIN_RETRY_SECONDS = 10.0
"""A login that was refused is tried again this often while its Secret stays as it is: servers count failures."""
LOGIN_REASONS = frozenset({Reason.PASSWORD_REJECTED, Reason.TLS_FAILED, Reason.TLS_WEAK, Reason.DATABASE_NOT_FOUND})
BRIEF_SECONDS = 10.0
"""A pool that could read its queue stays Ready for so long: two probes may fail."""
GUARD_PATIENCE_SECONDS = 10.0
"""A guard that was made with its pool, or is taken up after a restart, gets so long before it is said aloud."""
PASSING_REASONS = frozenset(
    {
        Reason.GUARD_NOT_READY,
        Reason.NO_CONNECTION_LEFT,
        Reason.NOT_A_PRIMARY,
        Reason.PRIMARY_TIMEOUT,
        Reason.PRIMARY_UNREACHABLE,
        Reason.QUERY_TIMEOUT,
    }
)
"""What goes by without a change to the spec; all else needs a person."""


@dataclass(slots=True)
class SignalGatherer:
    """Samples queues."""

    kube: KubeReader
    postgres: Postgres
    probes: QueueProbes
    clock: Clock
    board: GuardBoard

    async def gather(
        self, memory: PoolMemory, spec: WorkerPoolSpec, question: QueueQuestion, guards: Container[str]
    ) -> Signal:
        """A sample or a gap; `guards` are the names of the namespace's guards. Raises KubeUnavailable only."""
        try:
            sample = await self._sample(memory, spec, question, guards)
        except KubeUnavailable:
            raise
        except InvalidSpec as error:
            return self._gap(memory, Reason.UNSUPPORTED_VALUE, str(error))
        except (Refused, Unavailable) as error:
            memory.queue.must_read_target = error.reason in LOGIN_REASONS
            return self._gap(memory, error.reason, str(error))
        memory.queue.has_answered, memory.queue.blind_since = True, None
        return Signal(sample)

    def _gap(self, memory: PoolMemory, reason: Reason, message: str) -> Signal:
        kept, now = memory.queue, self.clock.monotonic()
        kept.blind_since = now if kept.blind_since is None else kept.blind_since
        is_new = kept.has_answered and now - kept.blind_since < BRIEF_SECONDS
        return Signal(
            gap=SignalGap(reason, message),
            is_brief=is_new and reason in PASSING_REASONS,
            is_early=reason is Reason.GUARD_NOT_READY and now - memory.seen_at < GUARD_PATIENCE_SECONDS,
        )

    async def _sample(
        self, memory: PoolMemory, spec: WorkerPoolSpec, question: QueueQuestion, guards: Container[str]
    ) -> QueueSample:
        queue = _postgres_of(spec)
        runner = await self._runner(memory, spec, queue, guards)
        probe = self._probe(memory.queue, queue, runner)
        return await probe.sample(question)

    def _probe(self, memory: QueueMemory, queue: PostgresQueue, runner: SqlRunner) -> QueueProbe:
        """The probe made for this very queue and link; what it counted belongs to them."""
        if memory.probe is None or memory.runner is not runner or memory.source != queue:
            memory.probe, memory.runner, memory.source = self.probes.open(queue, runner), runner, queue
        return memory.probe

    async def _runner(
        self, memory: PoolMemory, spec: WorkerPoolSpec, queue: PostgresQueue, guards: Container[str]
    ) -> SqlRunner:
        if queue.connection is not None:
            return await self._own_link(memory, queue)
        assert spec.database_ref is not None
        return self._link_of_guard(memory.namespace, spec.database_ref.name, guards)

    def _link_of_guard(self, namespace: str, name: str, guards: Container[str]) -> SqlRunner:
        view = self.board.read(namespace, name)
        if name not in guards:
            message = f"there is no DatabaseGuard {name} in this namespace: create it or correct spec.databaseRef"
            raise SignalUnavailable(message, reason=Reason.GUARD_NOT_FOUND)
        if view is None:
            message = f"dbg/{name} has not been looked at yet"
            raise SignalUnavailable(message, reason=Reason.GUARD_NOT_READY)
        if view.primary is None:
            message = f"dbg/{name} cannot use its server: {view.message or view.reason}"
            raise SignalUnavailable(message, reason=Reason.GUARD_NOT_READY)
        return view.primary

    async def _own_link(self, memory: PoolMemory, queue: PostgresQueue) -> SqlRunner:
        kept = memory.queue
        target = await self._target(memory, queue)
        if kept.link is not None and kept.target == target:
            return kept.link
        if kept.target != target:
            await kept.close()
            kept.target, kept.refusal = target, None
        now = self.clock.monotonic()
        if kept.refusal is not None and now - kept.refused_at < LOGIN_RETRY_SECONDS:
            raise kept.refusal
        try:
            kept.link = await self.postgres.open_queue(target)
        except Unavailable as error:
            kept.refusal, kept.refused_at = (error, now) if error.reason in LOGIN_REASONS else (None, 0.0)
            raise
        return kept.link

    async def _target(self, memory: PoolMemory, queue: PostgresQueue) -> ConnectionTarget:
        """The login as its Secret has it, read again every minute, when the spec changed, and after a refusal."""
        kept, now = memory.queue, self.clock.monotonic()
        assert queue.connection is not None
        is_fresh = kept.connection == queue.connection and now - kept.target_read_at < READ_AGAIN_SECONDS
        if kept.target is not None and is_fresh and not kept.must_read_target:
            return kept.target
        reader = SecretReader(self.kube, memory.namespace)
        target = await reader.target(queue.connection, CONNECTION_FIELD)
        kept.connection, kept.target_read_at, kept.must_read_target = queue.connection, now, False
        return target


def _postgres_of(spec: WorkerPoolSpec) -> PostgresQueue:
    assert spec.queue is not None
    if spec.queue.postgres is None:
        remedy = "use type Postgres, with a preset or SQL of your own"
        raise InvalidSpec("spec.queue.type", f"{spec.queue.type} is not supported by this version", remedy)
    return spec.queue.postgres
