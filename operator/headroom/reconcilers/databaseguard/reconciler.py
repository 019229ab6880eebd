"""One pass of a DatabaseGuard: observe the server, decide, tell the dependents, the status and the metrics."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from headroom.api.v1alpha1 import parse_spec
from headroom.api.v1alpha1.databaseguard import DatabaseGuardSpec
from headroom.errors import InvalidSpec, NotServed
from headroom.model.conditions import Finding, Truth
from headroom.model.moments import Moment
from headroom.model.replica import ABANDON_AFTER
from headroom.policy.databaseguard.decide import decide
from headroom.policy.databaseguard.describe import describe_change, is_worse
from headroom.policy.databaseguard.facts import GuardFacts, GuardMemory
from headroom.ports.kube import REPLICA_SET, Manifest
from headroom.reasons import Reason
from headroom.reconcilers.context import INVALID_PAUSE, ReconcileContext, Services, restore_memory
from headroom.reconcilers.databaseguard.apply import GuardContext, apply, sweep
from headroom.reconcilers.databaseguard.checkpoint import restore
from headroom.reconcilers.databaseguard.gather import gather
from headroom.reconcilers.databaseguard.memory import GuardHandles
from headroom.reconcilers.databaseguard.metrics import ALL, record_pass
from headroom.reconcilers.databaseguard.status import build_status, unknown_status, with_deletion
from headroom.reconcilers.reporter import NotYetEvents

PASS_EVERY = timedelta(seconds=1)
HELP_EVERY = timedelta(seconds=2)
TEARDOWN_EVERY = timedelta(seconds=1)
PINNED = frozenset({"systemIdentifier", "timeline"})
"""What a guard remembers of its server even from a status that is damaged elsewhere."""


@dataclass(slots=True)
class _Guard:
    """One guard between passes."""

    handles: GuardHandles
    memory: GuardMemory


@dataclass(slots=True)
class GuardReconciler:
    """Implements `Reconciler` for DatabaseGuards; the only writer of the views in `services.servers`."""

    services: Services
    _guards: dict[str, _Guard] = field(default_factory=dict)
    _not_yet: NotYetEvents = field(init=False)

    def __post_init__(self) -> None:
        self._not_yet = NotYetEvents(self.services.telemetry)

    async def reconcile(self, body: dict[str, Any]) -> timedelta:
        """See `Reconciler.reconcile`."""
        reporter = self.services.reporter
        if not (body.get("status") or {}).get("conditions"):
            body = await reporter.report(body, unknown_status())
        context = await self._pass(body)
        if context.spec is not None:
            self._not_yet.emit(body, context.spec)
        if not context.decision.is_settling:
            context.body = await reporter.report(body, build_status(context))
        await sweep(context)
        return _pause(context)

    async def teardown(self, body: dict[str, Any]) -> timedelta | None:
        """Continue while a ReplicaSet still needs the server to give its slots back; then let go."""
        users = await self._users_left(body)
        if not users:
            await self.forget(body["metadata"]["uid"])
            return None
        context = await self._pass(body)
        message = f"waits for {', '.join(f'dbrs/{name}' for name in users)}, which still use this server"
        await self.services.reporter.report(body, with_deletion(build_status(context), message))
        return TEARDOWN_EVERY

    async def forget(self, uid: str) -> None:
        """See `Reconciler.forget`."""
        self.services.reporter.forget(uid)
        self._not_yet.forget(uid)
        guard = self._guards.pop(uid, None)
        if guard is not None:
            await self._close(guard)

    async def _close(self, guard: _Guard) -> None:
        namespace, name = guard.handles.key
        self.services.servers.remove(guard.handles.key, guard.handles.uid)
        self.services.telemetry.forget(*ALL, namespace=namespace, name=name)
        await guard.handles.close()

    async def _pass(self, body: Manifest) -> GuardContext:
        """Observe, decide, and tell everybody who needs the server; the status comes after that."""
        guard = self._find(body)
        try:
            return await self._decide(guard, body)
        finally:
            if self._guards.get(guard.handles.uid) is not guard:
                # It was removed while this pass waited for its server: what the pass has opened since must go too.
                await self._close(guard)

    async def _decide(self, guard: _Guard, body: Manifest) -> GuardContext:
        spec, facts = await self._gather(guard, body)
        now = self._now()
        outcome = decide(spec, facts, guard.memory, now)
        guard.memory = outcome.memory
        context: GuardContext = ReconcileContext(
            services=self.services,
            body=body,
            spec=spec,
            facts=facts,
            decision=outcome.decision,
            memory=outcome.memory,
            handles=guard.handles,
            now=now,
        )
        await apply(context)
        seconds = guard.handles.observed_seconds
        record_pass(self.services.telemetry, context.labels, facts, context.decision, seconds=seconds)
        _emit_events(context)
        return context

    async def _gather(self, guard: _Guard, body: Manifest) -> tuple[DatabaseGuardSpec | None, GuardFacts]:
        try:
            spec = parse_spec(DatabaseGuardSpec, body)
        except InvalidSpec as error:
            return None, GuardFacts(body["metadata"]["name"], problem=Finding(error.reason, str(error)))
        return spec, await gather(self.services, guard.handles, guard.memory, body, spec)

    def _find(self, body: Manifest) -> _Guard:
        metadata, uid = body["metadata"], body["metadata"]["uid"]
        guard = self._guards.get(uid)
        if guard is None:
            key = metadata["namespace"], metadata["name"]
            handles = GuardHandles.make(key, uid, self.services.clock, self.services.telemetry)
            now = self._now()
            memory = restore_memory(lambda status: restore(status, now), body.get("status") or {}, PINNED.__contains__)
            guard = self._guards[uid] = _Guard(handles, memory)
        return guard

    def _now(self) -> Moment:
        return Moment(self.services.clock.monotonic(), self.services.clock.now())

    async def _users_left(self, body: Manifest) -> list[str]:
        """The users; raises NotServed until that has lasted too long: the kind went, and its sets with it."""
        metadata = body["metadata"]
        try:
            sets = await self.services.kube.list(REPLICA_SET, metadata["namespace"])
        except NotServed:
            began = datetime.fromisoformat(metadata["deletionTimestamp"])
            if self.services.clock.now() - began < ABANDON_AFTER:
                raise
            return []
        return [item["metadata"]["name"] for item in sets if _guard_of(item) == metadata["name"]]


def _guard_of(replica_set: Manifest) -> object:
    """The guard that a set names; its spec may be one that cannot be acted on."""
    spec = replica_set.get("spec")
    reference = spec.get("databaseRef") if isinstance(spec, Mapping) else None
    return reference.get("name") if isinstance(reference, Mapping) else None


def _emit_events(context: GuardContext) -> None:
    """What has changed since the last pass."""
    decision = context.decision
    if decision.has_new_reason:
        finding, is_good = decision.ready_finding, decision.ready is Truth.TRUE
        context.emit(finding.reason, finding.message, "Normal" if is_good else "Warning")
    if decision.change is not None:
        before, after = decision.change.before, decision.change.after
        message = describe_change(before, after, decision.thresholds)
        context.emit(Reason.STATE_CHANGED, message, "Warning" if is_worse(before, after) else "Normal")


def _pause(context: GuardContext) -> timedelta:
    if context.decision.finding is None:
        return PASS_EVERY
    return INVALID_PAUSE if context.spec is None else HELP_EVERY
