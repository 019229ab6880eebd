"""Observes a pool: its queue's numbers, its target, its guard, and who else claims the same target.

Every failure to read the queue becomes a finding that names the remedy.
"""

import asyncio
from dataclasses import dataclass

from headroom.api.v1alpha1.queue import PostgresQueue
from headroom.api.v1alpha1.workerpool import WorkerPoolSpec
from headroom.errors import InvalidSpec, KubeUnavailable, Refused, SignalUnavailable, Unavailable
from headroom.model.conditions import Finding
from headroom.model.moments import Moment
from headroom.model.queue import QueueQuestion, QueueSample
from headroom.policy.workerpool import PoolFacts, PoolMemory, Target, lead_time
from headroom.ports.kube import DATABASE_GUARD, Manifest, ObjectRef
from headroom.ports.signals import QueueProbe, SqlRunner
from headroom.reasons import Reason
from headroom.reconcilers.context import Services
from headroom.reconcilers.logins import LOGIN_REASONS, SecretReader
from headroom.reconcilers.namespace_view import pool_claim, read_autoscalers, read_pools
from headroom.reconcilers.servers import GuardKey
from headroom.reconcilers.workerpool import metrics
from headroom.reconcilers.workerpool.memory import PoolHandles, QueueHandles
from headroom.reconcilers.workerpool.target import TargetReader

CONNECTION_FIELD = "spec.queue.postgres.connection"


def guard_key(namespace: str, spec: WorkerPoolSpec) -> GuardKey | None:
    """The guard that a pool refers to, if it refers to one."""
    return None if spec.database_ref is None else (namespace, spec.database_ref.name)


@dataclass(frozen=True, slots=True)
class Gatherer:
    """Gathers the facts of one pass; `memory` is that of the pass before."""

    services: Services
    spec: WorkerPoolSpec
    handles: PoolHandles
    memory: PoolMemory
    now: Moment

    async def gather(self, body: Manifest) -> PoolFacts:
        """All facts at once; raises KubeUnavailable."""
        namespace, cache = self.handles.namespace, self.services.cache
        own, key = pool_claim(body), guard_key(namespace, self.spec)
        signal, target = await self._observe()
        return PoolFacts(
            own=own,
            signal=signal,
            target=target,
            pools=() if own.target is None else read_pools(cache, namespace, own.target),
            autoscalers=() if own.target is None else read_autoscalers(cache, namespace, own.target.name),
            database=None if key is None else self.services.servers.view(key),
            has_guard=self._has_guard(),
        )

    async def _observe(self) -> tuple[QueueSample | Finding | None, Target | Finding | None]:
        """The queue and the target at the same time; the sample ends before the pass does, even if the target fails."""
        # Else a target that fails would end the pass while the sample still runs on its connection.
        signal, target = await asyncio.gather(self._signal(), self._target(), return_exceptions=True)
        if isinstance(signal, BaseException):
            raise signal
        if isinstance(target, BaseException):
            raise target
        return signal, target

    async def _target(self) -> Target | Finding | None:
        ref = self.spec.workers.target_ref
        if ref is None:
            return None
        is_sharing = self.spec.database_ref is not None
        reader = TargetReader(self.services.kube, self.services.cache, self.handles.namespace, is_sharing)
        return await reader.read(ref, self.memory, self.handles.census, self.now)

    async def _signal(self) -> QueueSample | Finding | None:
        """A sample, or why there is none; raises KubeUnavailable only."""
        if self.spec.queue is None:
            return None
        began = self.services.clock.monotonic()
        try:
            signal: QueueSample | Finding = await self._sample()
        except KubeUnavailable:
            raise
        except InvalidSpec as error:
            signal = Finding(Reason.UNSUPPORTED_VALUE, str(error))
        except (Refused, Unavailable) as error:
            self.handles.queue.login.read_again(is_due=error.reason in LOGIN_REASONS)
            signal = Finding(error.reason, str(error))
        labels = {"namespace": self.handles.namespace, "name": self.handles.name}
        telemetry = self.services.telemetry
        telemetry.record(metrics.PROBE_SECONDS, self.services.clock.monotonic() - began, **labels)
        if isinstance(signal, Finding):
            telemetry.record(metrics.PROBE_FAILURES, 1, reason=str(signal.reason), **labels)
        return signal

    async def _sample(self) -> QueueSample:
        queue = _postgres_of(self.spec)
        runner = await self._runner(queue)
        target_lag = self.spec.objective.target_lag.total_seconds()
        question = QueueQuestion(self.now.monotonic, target_lag, lead_time(self.memory))
        return await self._probe(self.handles.queue, queue, runner).sample(question)

    def _probe(self, kept: QueueHandles, queue: PostgresQueue, runner: SqlRunner) -> QueueProbe:
        """The probe that was opened for this queue and this link: its counts belong to both."""
        if kept.probe is None or kept.runner is not runner or kept.source != queue:
            kept.probe, kept.runner, kept.source = self.services.probes.open(queue, runner), runner, queue
        return kept.probe

    async def _runner(self, queue: PostgresQueue) -> SqlRunner:
        if queue.connection is not None:
            return await self._own_link(self.handles.queue, queue)
        key = guard_key(self.handles.namespace, self.spec)
        assert key is not None
        return self._link_of_guard(key)

    def _link_of_guard(self, key: GuardKey) -> SqlRunner:
        view, links, name = self.services.servers.view(key), self.services.servers.links(key), key[1]
        if not self._has_guard():
            message = f"there is no DatabaseGuard {name} in this namespace: create it or correct spec.databaseRef"
            raise SignalUnavailable(message, reason=Reason.GUARD_NOT_FOUND)
        if view is None:
            raise SignalUnavailable(f"dbg/{name} has not been observed yet", reason=Reason.GUARD_NOT_READY)
        if not view.is_ready or links is None:
            why = view.finding.message or view.finding.reason
            raise SignalUnavailable(f"dbg/{name} cannot use its server: {why}", reason=Reason.GUARD_NOT_READY)
        return links.primary

    def _has_guard(self) -> bool:
        key = guard_key(self.handles.namespace, self.spec)
        return key is not None and self.services.cache.get(ObjectRef(DATABASE_GUARD, *key)) is not None

    async def _own_link(self, kept: QueueHandles, queue: PostgresQueue) -> SqlRunner:
        connection = queue.connection
        assert connection is not None
        reader = SecretReader(self.services.kube, self.handles.namespace)
        target = await kept.login.get(connection, lambda: reader.target(connection, CONNECTION_FIELD))
        if kept.link is not None and kept.target == target:
            return kept.link
        # A new password or host: counts that the old link began mean nothing on the new one.
        if kept.target != target:
            await kept.close()
            kept.target = target
        kept.backoff.check(target)
        try:
            kept.link = await self.services.postgres.open_queue(target)
        except Unavailable as error:
            kept.backoff.record(target, error)
            raise
        kept.backoff.clear()
        return kept.link


def _postgres_of(spec: WorkerPoolSpec) -> PostgresQueue:
    assert spec.queue is not None
    if spec.queue.postgres is None:
        remedy = "use type Postgres, with a preset or SQL of your own"
        raise InvalidSpec("spec.queue.type", f"{spec.queue.type} is not supported by this version", remedy)
    return spec.queue.postgres
