"""One pass over a ReplicaSet: gather, decide, then the actions in the order of what users feel first; and the events of
a set.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from headroom.api.v1alpha1 import parse_spec
from headroom.api.v1alpha1.replicaset import ReplicaSetSpec
from headroom.errors import InvalidSpec
from headroom.model.condition_types import ConditionType
from headroom.model.conditions import Condition, Truth, unknown_conditions
from headroom.model.moments import Moment
from headroom.model.numbers import count_of
from headroom.model.replica import Role, Stage
from headroom.policy.replicaset.activation import is_late
from headroom.policy.replicaset.decide import decide
from headroom.policy.replicaset.members import EvaluatedMember
from headroom.policy.replicaset.memory import SetMemory
from headroom.policy.replicaset.timeouts import READINGS_TO_LEAVE
from headroom.ports.kube import REPLICA_SET, Manifest, ObjectRef
from headroom.reasons import Reason
from headroom.reconcilers.context import INVALID_PAUSE, Services, carry_out, restore_memory
from headroom.reconcilers.replicaset import actions, metrics
from headroom.reconcilers.replicaset.checkpoint import restore
from headroom.reconcilers.replicaset.conditions import (
    SET_CONDITIONS,
    describe_deletion,
    describe_invalid,
)
from headroom.reconcilers.replicaset.foremost import find_foremost
from headroom.reconcilers.replicaset.gather import Gatherer
from headroom.reconcilers.replicaset.memory import SetContext, SetHandles
from headroom.reconcilers.replicaset.routing import ensure_bundle, ensure_routing
from headroom.reconcilers.replicaset.status import describe_status
from headroom.reconcilers.replicaset.teardown import read_for_teardown, teardown_pass
from headroom.reconcilers.replicaset.warmer import Warmer
from headroom.reconcilers.reporter import DesiredStatus, NotYetEvents

STARTS_WITHIN = timedelta(seconds=10)
"""A server with a copy accepts connections by then, unless it has much to replay."""
LEAVES_WITHIN = timedelta(seconds=3)
"""A member that may be beyond its bound is asked more often for so long; its next reading may never come."""
WRITTEN_BY_REPORTER = ("conditions", "observedGeneration")
PINNED = frozenset({"desiredReplicas", "systemIdentifier", "timeline"})
"""What a set remembers even from a status that is damaged elsewhere; the members themselves are found by their pods."""
VERDICTS = (Truth.TRUE, Truth.FALSE)
WARN_WHILE_TRUE = (ConditionType.STALLED, ConditionType.READS_MAY_BE_STALE)
"""These do not turn Ready, and a person must hear of them all the same."""


@dataclass(slots=True)
class _SetState:
    """What a process keeps of one set between passes."""

    ref: ObjectRef
    memory: SetMemory
    handles: SetHandles = field(default_factory=SetHandles)


@dataclass(slots=True)
class ReplicaSetReconciler:
    """Implements `Reconciler` for ReplicaSets."""

    services: Services
    _states: dict[str, _SetState] = field(default_factory=dict)
    _not_yet: NotYetEvents = field(init=False)
    _warmer: Warmer = field(default_factory=Warmer)

    def __post_init__(self) -> None:
        self._not_yet = NotYetEvents(self.services.telemetry)

    async def reconcile(self, body: dict[str, Any]) -> timedelta:
        """One pass over the set as the watches last saw it."""
        if "deletionTimestamp" in body["metadata"]:
            return INVALID_PAUSE
        if not body.get("status"):
            unknown = unknown_conditions(SET_CONDITIONS, "the set has not been observed yet")
            body = await self.services.reporter.report(body, DesiredStatus(unknown))
        state = self._state_of(body)
        try:
            spec = _read_spec(body, state.handles)
        except InvalidSpec as error:
            await self._report(body, *describe_invalid(error))
            return INVALID_PAUSE
        self._not_yet.emit(body, spec)
        context = await self._begin(body, spec, state)
        try:
            self._warmer.follow(context)
            await _act(context)
        finally:
            # Also after an error: an action that took effect must be remembered.
            state.memory = context.memory
        metrics.record_metrics(context)
        desired = describe_status(context)
        if await self.services.reporter.report(body, desired) is not body:
            # Compared with the last status: while it waits for its turn, the same change would be new in each pass.
            emit_changes(context, desired)
        return _pause(context)

    async def teardown(self, body: dict[str, Any]) -> timedelta | None:
        """Work towards an empty desired state; None when the finalizer may go."""
        state = self._state_of(body)
        context = await self._begin(body, read_for_teardown(body), state, is_live=True)
        try:
            again, decision = await teardown_pass(context)
        finally:
            state.memory = context.memory
        if again is not None:
            await self._report(body, *describe_deletion(decision.message))
        return again

    async def forget(self, uid: str) -> None:
        """Close the links to the members and drop what was remembered."""
        self.services.reporter.forget(uid)
        self._not_yet.forget(uid)
        state = self._states.pop(uid, None)
        if state is not None:
            self.services.servers.forget(state.ref, uid)
            self.services.telemetry.forget(*metrics.ALL, namespace=state.ref.namespace, name=state.ref.name)
            await state.handles.close()

    def _state_of(self, body: Manifest) -> _SetState:
        metadata = body["metadata"]
        state = self._states.get(metadata["uid"])
        if state is None:
            ref = ObjectRef(REPLICA_SET, metadata["namespace"], metadata["name"])
            install_id, status = self.services.install_id, body.get("status") or {}
            uid, now = metadata["uid"], self._now()

            def read(found: Mapping[str, Any]) -> SetMemory:
                return restore(found, now, name=ref.name, uid=uid, install_id=install_id)

            memory = restore_memory(read, status, PINNED.__contains__)
            state = self._states[metadata["uid"]] = _SetState(ref, memory)
        return state

    async def _begin(
        self, body: Manifest, spec: ReplicaSetSpec, state: _SetState, *, is_live: bool = False
    ) -> SetContext:
        self.services.servers.depend(state.ref, (state.ref.namespace, spec.database_ref.name))
        facts = await Gatherer(self.services, body, spec, state.memory, state.handles, is_live=is_live).gather()
        now = self._now()
        outcome = decide(spec, facts, state.memory, now)
        return SetContext(
            services=self.services,
            body=body,
            spec=spec,
            facts=facts,
            decision=outcome.decision,
            memory=outcome.memory,
            handles=state.handles,
            now=now,
        )

    def _now(self) -> Moment:
        return Moment(self.services.clock.monotonic(), self.services.clock.now())

    async def _report(self, body: Manifest, *conditions: Condition) -> None:
        """These conditions; all else in status stays as it was last seen."""
        kept: Mapping[str, Any] = {
            key: value for key, value in (body.get("status") or {}).items() if key not in WRITTEN_BY_REPORTER
        }
        facts = {**kept, "reason": find_foremost(conditions)}
        await self.services.reporter.report(body, DesiredStatus(conditions, facts=facts))


def _read_spec(body: Manifest, handles: SetHandles) -> ReplicaSetSpec:
    """The whole spec, parsed once for each generation; raises InvalidSpec."""
    generation = body["metadata"]["generation"]
    if handles.spec is None or handles.spec[0] != generation:
        handles.spec = generation, parse_spec(ReplicaSetSpec, body)
    return handles.spec[1]


async def _act(context: SetContext) -> None:
    """Carry out the plan: what readers feel first, what costs the primary last.

    A conflict in a step that moves members ends the pass there: the next one gathers again.
    """
    await actions.confirm(context)
    # Slots at the same time: a new primary recycles the WAL that no slot keeps, and does not wait for the API server.
    await carry_out([actions.eject(context), actions.restore_slots(context)])
    await actions.activate(context, kept=await actions.put_back(context))
    await actions.accept(context)
    await actions.pool(context)
    await actions.record_seeded(context)
    await context.attempt(_take_away(context))
    await actions.end_sessions(context)
    await actions.remove(context)
    await actions.keep_anchors(context)
    await context.attempt(ensure_bundle(context))
    await context.attempt(ensure_routing(context))
    await context.attempt(actions.snapshot(context))
    await actions.seed(context)
    await actions.reserve(context)


async def _take_away(context: SetContext) -> None:
    """Remove what the spec no longer asks for; a spec from a late watch must not decide that."""
    plan = context.decision.plan
    if not (plan.drain or plan.retire or plan.recreate or plan.stop):
        return
    if context.memory.timeline > (context.status.get("timeline") or 0):
        # First the status names the timeline: else a process that follows this one could believe an old primary.
        context.has_moved = True
        return
    await context.confirm_spec()
    await actions.drain(context)
    await actions.retire(context)
    await actions.recreate(context)
    await actions.stop(context)


def _pause(context: SetContext) -> timedelta:
    """How long until the next pass: at once while something moves, a second under autoscaling, else two."""
    if context.has_moved:
        return timedelta(milliseconds=50)
    if any(map(_is_activating, context.decision.members)):
        return timedelta(milliseconds=200)
    if any(map(_is_about_to_leave, context.decision.members)):
        return timedelta(milliseconds=200)
    if any(_is_about_to_stand_by(context, member) for member in context.decision.members):
        return timedelta(milliseconds=200)
    stages = [member.verdict.stage for member in context.decision.members]
    is_calm = all(stage in (Stage.STANDBY, Stage.SERVING) for stage in stages)
    return timedelta(seconds=2 if is_calm and context.spec.autoscaling is None else 1)


def _is_activating(member: EvaluatedMember) -> bool:
    """The watch reports that the Service lists it; only a read that was not answered needs another pass soon."""
    return member.facts.activating_seconds is not None and not is_late(member)


def _is_about_to_leave(member: EvaluatedMember) -> bool:
    """One more reading like the last takes it out of the Service; two calm passes would be later than is promised."""
    facts = member.facts
    is_one_short = 0 < facts.beyond < READINGS_TO_LEAVE and facts.stale_seconds < LEAVES_WITHIN.total_seconds()
    return facts.role is Role.SERVING and is_one_short


def _is_about_to_stand_by(context: SetContext, member: EvaluatedMember) -> bool:
    """No watch reports that a server accepts its first connections, so the pass comes back soon."""
    pod = member.facts.pod
    if pod is None or member.facts.role is not Role.PROVISIONING:
        return False
    started, fault = pod.server.started_at, member.facts.library_fault
    is_held = fault is not None and fault.reason is not Reason.IN_PROGRESS
    is_starting = started is not None and context.now.wall - started < STARTS_WITHIN
    return is_starting or (member.facts.within > 0 and not is_held)


def emit_changes(context: SetContext, desired: DesiredStatus) -> None:
    """Emit the events about a set as a whole; an action itself emits what it did to a member."""
    _emit_readiness(context, desired.conditions)
    for condition in desired.conditions:
        if condition.type in WARN_WHILE_TRUE:
            _emit_trouble(context, condition)
    _emit_decision(context, desired.facts["lastDecision"])


def _emit_readiness(context: SetContext, conditions: Iterable[Condition]) -> None:
    """If Ready is True now and was False, or the other way round."""
    ready = next(condition for condition in conditions if condition.type is ConditionType.READY)
    before = context.condition(ConditionType.READY).get("status")
    if before not in VERDICTS or ready.status not in VERDICTS or before == ready.status:
        return
    context.emit(ready.reason, f"Ready: {ready.message}", "Normal" if ready.status is Truth.TRUE else "Warning")


def _emit_trouble(context: SetContext, condition: Condition) -> None:
    """If it has begun, has another cause now, or is over."""
    before = context.condition(condition.type)
    was_true = before.get("status") == Truth.TRUE
    if condition.status is Truth.TRUE and not (was_true and before.get("reason") == condition.reason):
        context.emit(condition.reason, f"{condition.type}: {condition.message}", "Warning")
    elif condition.status is Truth.FALSE and was_true:
        context.emit(condition.reason, f"no longer {condition.type}: {condition.message}")


def _emit_decision(context: SetContext, decision: Mapping[str, Any]) -> None:
    """If another count was decided."""
    before = context.status.get("lastDecision")
    if before is None or before["to"] == decision["to"]:
        return
    reason = Reason(decision["reason"])
    rule = "" if reason is Reason.REPLICAS_SET else f" by {decision['rule']}"
    message = f"from {decision['from']} to {count_of(decision['to'], 'replica')}{rule}: {decision['message']}"
    context.emit(reason, message)
