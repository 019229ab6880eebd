"""One pass over a ReplicaSet: gather, decide, then the stages in the order of what users feel first."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from headroom.api.v1alpha1.replicaset import ReplicaSetSpec
from headroom.api.v1alpha1.resources import parse_spec
from headroom.errors import InvalidSpec
from headroom.model.conditions import Condition, Truth
from headroom.ports.kube import REPLICA_SET, Manifest, ObjectRef
from headroom.reasons import ConditionType
from headroom.reconcilers.not_yet import NotYetEvents
from headroom.reconcilers.replicaset.admitted import ensure_begun
from headroom.reconcilers.replicaset.caught_up import ensure_accepted
from headroom.reconcilers.replicaset.conditions import deleting_conditions, unknown_conditions
from headroom.reconcilers.replicaset.decide import decide
from headroom.reconcilers.replicaset.draining import ensure_ejected, ensure_scaled_in, ensure_sessions_ended
from headroom.reconcilers.replicaset.gather import gather_facts
from headroom.reconcilers.replicaset.memory import SetMemory
from headroom.reconcilers.replicaset.orphaned_slots import remember_slots
from headroom.reconcilers.replicaset.prober import close_member
from headroom.reconcilers.replicaset.retired import ensure_marked, ensure_removed
from headroom.reconcilers.replicaset.rivals import Rivals
from headroom.reconcilers.replicaset.routing import ensure_routing
from headroom.reconcilers.replicaset.run import Run
from headroom.reconcilers.replicaset.said import say_decision, say_readiness
from headroom.reconcilers.replicaset.seeded import ensure_members, ensure_remade
from headroom.reconcilers.replicaset.services import Services
from headroom.reconcilers.replicaset.serving import ensure_serving
from headroom.reconcilers.replicaset.slot_reserved import ensure_slots
from headroom.reconcilers.replicaset.standby import ensure_pooled
from headroom.reconcilers.replicaset.status import build_status, next_pass, record_metrics, restore
from headroom.reconcilers.replicaset.teardown import describe_teardown, teardown_pass
from headroom.reconcilers.replicaset.teardown_spec import read_for_teardown
from headroom.reconcilers.reporter import DesiredStatus

INVALID_PAUSE = timedelta(seconds=30)

ReadSpec = Callable[[Manifest], ReplicaSetSpec]


def read_spec(body: Manifest) -> ReplicaSetSpec:
    """The whole spec; raises InvalidSpec."""
    return parse_spec(ReplicaSetSpec, body)


@dataclass(slots=True)
class ReplicaSetReconciler:
    """Implements `Reconciler` for ReplicaSets."""

    services: Services
    _memories: dict[str, SetMemory] = field(default_factory=dict)
    _rivals: Rivals = field(init=False)
    _not_yet: NotYetEvents = field(init=False)

    def __post_init__(self) -> None:
        self._rivals = Rivals(self.services.kube, self.services.clock)
        self._not_yet = NotYetEvents(self.services.telemetry)

    async def reconcile(self, body: dict[str, Any]) -> timedelta:
        """One pass; the object is read live, so that a decision never rests on an old spec or status."""
        live = await self._read(body)
        if live is None or "deletionTimestamp" in live["metadata"]:
            return INVALID_PAUSE
        if not live.get("status"):
            live = await self.services.reporter.report(live, DesiredStatus(unknown_conditions()))
        try:
            run = await self._begin(live, read_spec)
        except InvalidSpec as error:
            await self._say_invalid(live, error)
            return INVALID_PAUSE
        self._not_yet.tell(live, run.facts.spec)
        await _act(run)
        await run.attempt(self._rivals.ensure_said(run))
        record_metrics(run)
        draft = build_status(run)
        await self.services.reporter.report(live, draft)
        say_readiness(run, draft.conditions)
        say_decision(run, draft.facts["lastDecision"])
        return next_pass(run)

    async def teardown(self, body: dict[str, Any]) -> timedelta | None:
        """Work towards nothing; None when the finalizer may go."""
        run = await self._begin(body, read_for_teardown)
        again = await teardown_pass(run)
        if again is None:
            self.services.telemetry.forget(**run.labels)
        else:
            await self._say(body, *deleting_conditions(describe_teardown(run)))
        return again

    async def forget(self, uid: str) -> None:
        """Close the links to the members and drop what was remembered."""
        memory = self._memories.pop(uid, None)
        self.services.reporter.forget(uid)
        self._not_yet.forget(uid)
        if memory is not None:
            for member in memory.members.values():
                await close_member(member)

    async def _read(self, body: Mapping[str, Any]) -> Manifest | None:
        metadata = body["metadata"]
        live = await self.services.kube.get(ObjectRef(REPLICA_SET, metadata["namespace"], metadata["name"]))
        return live if live is not None and live["metadata"]["uid"] == metadata["uid"] else None

    async def _begin(self, live: Manifest, read: ReadSpec) -> Run:
        metadata = live["metadata"]
        memory = self._memories.setdefault(metadata["uid"], SetMemory())
        if memory.spec is None or memory.generation != metadata["generation"]:
            memory.spec = read(live)
        restore(memory, live.get("status") or {}, self.services.clock.monotonic())
        if memory.generation not in (None, metadata["generation"]):
            memory.succeed()
        memory.generation = metadata["generation"]
        facts = await gather_facts(self.services, memory, live, memory.spec)
        remember_slots(facts)
        decision = decide(facts)
        memory.desired = decision.goal.desired
        memory.recommend(facts.gathered_at, decision.goal.wanted)
        return Run(facts, decision, self.services.clock.monotonic())

    async def _say_invalid(self, live: Manifest, error: InvalidSpec) -> None:
        await self._say(live, Condition(ConditionType.READY, Truth.FALSE, error.reason, str(error)))

    async def _say(self, live: Manifest, *conditions: Condition) -> None:
        """These conditions; all else in status stays as it was last seen."""
        kept = {key: value for key, value in (live.get("status") or {}).items() if key not in _WRITTEN_BY_REPORTER}
        await self.services.reporter.report(live, DesiredStatus(conditions, facts=kept))


_WRITTEN_BY_REPORTER = ("conditions", "observedGeneration")


async def _act(run: Run) -> None:
    """Carry out the plan: what readers feel first, what costs the primary last.

    A conflict in a step that moves members ends the pass there: the next one gathers again.
    """
    await ensure_ejected(run)
    await ensure_serving(run)
    await ensure_accepted(run)
    await ensure_pooled(run)
    await ensure_scaled_in(run)
    await ensure_sessions_ended(run)
    await ensure_marked(run)
    await ensure_removed(run)
    await ensure_remade(run)
    await run.attempt(ensure_routing(run))
    await ensure_slots(run)
    await ensure_members(run)
    await run.attempt(ensure_begun(run))
