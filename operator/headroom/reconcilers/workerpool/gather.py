"""Observes a pool: its queue's numbers, its target, its guard, and who else claims the same target.

Every failure to read the queue becomes a finding that names the remedy.
"""

import asyncio
from dataclasses import dataclass, replace

from headroom.api.v1alpha1.common import GuardState
from headroom.api.v1alpha1.queue import PostgresQueue
from headroom.api.v1alpha1.workerpool import WorkerPoolSpec
from headroom.errors import InvalidSpec, KubeUnavailable, Refused, SignalUnavailable, Unavailable
from headroom.model.conditions import Finding
from headroom.model.database import ConnectionTarget
from headroom.model.moments import Moment
from headroom.model.queue import QueueQuestion, QueueSample
from headroom.model.waits import WaitSample
from headroom.policy.workerpool import PoolFacts, PoolMemory, Target, lead_time
from headroom.policy.workerpool.constants import PROBE_SECONDS, URGENT_PROBE_SECONDS
from headroom.ports.kube import DATABASE_GUARD, Manifest, ObjectRef
from headroom.ports.postgres import QueueLink
from headroom.ports.signals import QueueProbe
from headroom.reasons import Reason
from headroom.reconcilers.context import Services
from headroom.reconcilers.logins import LOGIN_REASONS, SecretReader
from headroom.reconcilers.namespace_view import pool_claim, read_autoscalers, read_pools
from headroom.reconcilers.servers import GuardKey
from headroom.reconcilers.workerpool import metrics
from headroom.reconcilers.workerpool.memory import PoolHandles, QueueHandles
from headroom.reconcilers.workerpool.target import TargetReader

STATES_UNDER_LOAD = (GuardState.BROWNOUT, GuardState.OVERLOADED, GuardState.EMERGENCY)
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
        signal, target, waits = await self._observe()
        return PoolFacts(
            own=own,
            signal=signal,
            target=target,
            pools=() if own.target is None else read_pools(cache, namespace, own.target),
            autoscalers=() if own.target is None else read_autoscalers(cache, namespace, own.target.name),
            database=None if key is None else self.services.servers.view(key),
            has_guard=self._has_guard(),
            waits=waits,
        )

    async def _observe(self) -> tuple[QueueSample | Finding | None, Target | Finding | None, WaitSample | None]:
        """All at the same time; the sample ends before the pass does, even if the target fails."""
        # Else a target that fails would end the pass while the sample still runs on its connection.
        signal, target, waits = await asyncio.gather(
            self._signal(), self._target(), self._waits(), return_exceptions=True
        )
        if isinstance(signal, BaseException):
            raise signal
        if isinstance(target, BaseException):
            raise target
        if isinstance(waits, BaseException):
            raise waits
        return signal, target, waits

    async def _waits(self) -> WaitSample | None:
        """What the workers' sessions wait for, while it matters whether more of them would help; None if nobody asks.

        A failure is not a finding: the guard reports why its server does not answer.
        """
        key, is_asked = guard_key(self.handles.namespace, self.spec), self.spec.effectiveness.enabled
        if key is None or not is_asked or not (self.memory.is_late or self.memory.gain.is_measuring):
            return None
        view, links = self.services.servers.view(key), self.services.servers.links(key)
        if view is None or not view.is_ready or links is None:
            return None
        try:
            return await links.primary.waits(self.spec.database_role)
        except (Refused, Unavailable):
            return None

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
            signal = Finding(error.reason, f"{self._describe_load(error.reason)}{error}")
        labels = {"namespace": self.handles.namespace, "name": self.handles.name}
        telemetry, self.handles.queue.sample_seconds = self.services.telemetry, self.services.clock.monotonic() - began
        telemetry.record(metrics.PROBE_SECONDS, self.handles.queue.sample_seconds, **labels)
        if isinstance(signal, Finding):
            telemetry.record(metrics.PROBE_FAILURES, 1, reason=str(signal.reason), **labels)
        return signal

    def _describe_load(self, reason: Reason) -> str:
        """The load of the server, which may be why a query takes too long; it comes before advice about an index."""
        key, queue = guard_key(self.handles.namespace, self.spec), self.spec.queue
        is_of_guard = queue is not None and queue.postgres is not None and queue.postgres.connection is None
        view = None if key is None or not is_of_guard else self.services.servers.view(key)
        if reason is not Reason.QUERY_TIMEOUT or key is None or view is None or view.state not in STATES_UNDER_LOAD:
            return ""
        return f"the server may be overloaded, dbg/{key[1]} is {view.state}; or else: "

    async def _sample(self) -> QueueSample:
        queue = _postgres_of(self.spec)
        runner = await self._runner(queue)
        target_lag = self.spec.objective.target_lag.total_seconds()
        within = URGENT_PROBE_SECONDS if self.memory.is_late else PROBE_SECONDS
        wanted = self.memory.wanted
        is_shrinking = wanted is not None and wanted < self.memory.running
        question = QueueQuestion(self.now.monotonic, target_lag, lead_time(self.memory), within, is_shrinking)
        return await self._probe(self.handles.queue, queue, runner).sample(question)

    def _probe(self, kept: QueueHandles, queue: PostgresQueue, runner: QueueLink) -> QueueProbe:
        """The probe that was opened for this queue and this link: its counts belong to both."""
        if kept.probe is None or kept.runner is not runner or kept.source != queue:
            kept.probe, kept.runner, kept.source = self.services.probes.open(queue, runner), runner, queue
        return kept.probe

    async def _runner(self, queue: PostgresQueue) -> QueueLink:
        """The link of the queue's login; pools with the same login share a connection."""
        kept = self.handles.queue
        target = await self._find_target(queue)
        if kept.lease is not None and kept.lease.target != target:
            # A new password or host: counts that the old link began mean nothing on the new one.
            await kept.close()
        if kept.lease is None:
            kept.lease = await self.services.servers.queue_links.open(self.services.postgres, target)
        return kept.lease.link

    async def _find_target(self, queue: PostgresQueue) -> ConnectionTarget:
        connection = queue.connection
        if connection is not None:
            reader = SecretReader(self.services.kube, self.handles.namespace, self.services.permitted)
            return await self.handles.queue.login.get(connection, lambda: reader.target(connection, CONNECTION_FIELD))
        key = guard_key(self.handles.namespace, self.spec)
        assert key is not None
        return self._target_of_guard(key)

    def _target_of_guard(self, key: GuardKey) -> ConnectionTarget:
        """The guard's database with its login for queues: the guard's own login reads no table."""
        view, name = self.services.servers.view(key), key[1]
        if not self._has_guard():
            message = f"there is no DatabaseGuard {name} in this namespace: create it or correct spec.databaseRef"
            raise SignalUnavailable(message, reason=Reason.GUARD_NOT_FOUND)
        if view is None:
            raise SignalUnavailable(f"dbg/{name} has not been observed yet", reason=Reason.GUARD_NOT_READY)
        if not view.is_ready or view.target is None:
            why = view.finding.message or view.finding.reason
            raise SignalUnavailable(f"dbg/{name} cannot use its server: {why}", reason=Reason.GUARD_NOT_READY)
        if isinstance(view.queue, Finding):
            raise SignalUnavailable(f"dbg/{name}: {view.queue.message}", reason=view.queue.reason)
        if view.queue is None:
            raise SignalUnavailable(
                describe_missing_login(name, self.handles.namespace), reason=Reason.QUEUE_LOGIN_MISSING
            )
        return replace(view.target, credentials=view.queue)

    def _has_guard(self) -> bool:
        key = guard_key(self.handles.namespace, self.spec)
        return key is not None and self.services.cache.get(ObjectRef(DATABASE_GUARD, *key)) is not None


def describe_missing_login(guard: str, namespace: str) -> str:
    """What to run for a guard without a login for queues."""
    patch = '{"spec": {"connection": {"queueSecretRef": {"name": "store-queue"}}}}'
    return (
        f"dbg/{guard} names no login for queues, and its own reads no table. Run headroom-setup.sql and "
        "headroom-queue-procrastinate.sql of the chart. Put the login headroom_queue into a Secret (here store-queue) "
        f"with the keys username and password. Run: "
        f"kubectl patch dbg/{guard} -n {namespace} --type merge --patch '{patch}'"
    )


def _postgres_of(spec: WorkerPoolSpec) -> PostgresQueue:
    assert spec.queue is not None
    if spec.queue.postgres is None:
        remedy = "use type Postgres, with a preset or SQL of your own"
        raise InvalidSpec("spec.queue.type", f"{spec.queue.type} is not supported by this version", remedy)
    return spec.queue.postgres
