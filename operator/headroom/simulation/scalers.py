"""Who decides on the count of workers: the operator's own policy. KEDA is in `keda`."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Protocol

from headroom.api.v1alpha1 import parse_spec
from headroom.api.v1alpha1.workerpool import WorkerPoolSpec
from headroom.model.conditions import Finding
from headroom.model.database import Allocation, DatabaseView
from headroom.model.frozen import FrozenMap
from headroom.model.moments import Moment
from headroom.policy.workerpool import Move, PoolClaim, PoolDecision, PoolFacts, PoolMemory, decide, lead_time
from headroom.reasons import Reason
from headroom.simulation.deployment import TARGET
from headroom.simulation.sampling import Sampler, observe_waits
from headroom.simulation.shapes import Shape
from headroom.simulation.world import World

ROUND_TRIP_SECONDS = 0.05
"""From the question to the queue until the count is written: about 10 ms for the statement, and two calls to the API
server."""
NOTIFIED_PAUSE_SECONDS = 0.5
"""A notification makes the next sample due at once, at most two a second."""
EPOCH = datetime(2026, 5, 4, 12, 0, tzinfo=UTC)
OWN = PoolClaim("workers", "uid-pool", datetime(2026, 1, 1, tzinfo=UTC), TARGET)


class Scaler(Protocol):
    """Decides on the count of workers, as often as it wants to."""

    def start(self, world: World) -> None:
        """Take over the workers of a world that is about to begin."""
        ...


@dataclass(slots=True)
class Step:
    """One pass: what was seen, what was decided, and the count that was written."""

    at: float
    facts: PoolFacts
    decision: PoolDecision
    replicas: int


@dataclass(slots=True)
class Headroom:
    """The operator: a sample, the real `decide`, and the write of its count, with the pauses that it asks for.

    `change_facts` and `change_memory` let a test say what else a pass sees, and what the process has forgotten. With
    `is_notified` each arrival makes the next pass due, as where the library of the queue notifies.
    """

    spec: WorkerPoolSpec
    sampler: Sampler
    memory: PoolMemory = field(default_factory=PoolMemory)
    change_facts: Callable[[World, PoolFacts], PoolFacts] | None = None
    change_memory: Callable[[World, PoolMemory], PoolMemory] | None = None
    connections: int | None = None
    is_notified: bool = False
    steps: list[Step] = field(default_factory=list)
    _due_at: float = 0.0
    _passed_at: float = -NOTIFIED_PAUSE_SECONDS

    def start(self, world: World) -> None:
        """See `Scaler.start`."""
        if self.is_notified:
            world.on_ready = lambda: self._plan(world, max(world.now, self._passed_at + NOTIFIED_PAUSE_SECONDS))
        self._due_at = math.inf
        self._plan(world, 0.0)

    def _plan(self, world: World, at: float) -> None:
        """Make the next pass due, unless it is due earlier."""
        if at < self._due_at:
            self._due_at = at
            world.call_at(at, lambda: self._pass(world) if self._due_at == at else None)

    def _pass(self, world: World) -> None:
        self._passed_at, self._due_at = world.now, math.inf
        now = world.now
        memory = self.memory if self.change_memory is None else self.change_memory(world, self.memory)
        facts = self._gather(world, memory)
        outcome = decide(self.spec, facts, memory, Moment(now, EPOCH + timedelta(seconds=now)))
        self.memory = outcome.memory
        self.steps.append(Step(now, facts, outcome.decision, world.deployment.replicas))
        sizing = outcome.decision.sizing
        if sizing is not None and sizing.decision.allowed != world.deployment.replicas:
            world.call_at(now + ROUND_TRIP_SECONDS, lambda: self._write(world, sizing.decision.allowed))
        self._plan(world, now + outcome.decision.pause_seconds)

    def _gather(self, world: World, memory: PoolMemory) -> PoolFacts:
        facts = PoolFacts(
            own=OWN,
            signal=self.sampler.sample(world, lead_time(memory)),
            target=world.deployment.observe(),
            database=None if self.connections is None else _view(world.now, self.connections),
            has_guard=self.spec.database_ref is not None,
            waits=observe_waits(world),
        )
        return facts if self.change_facts is None else self.change_facts(world, facts)

    def _write(self, world: World, count: int) -> None:
        self.memory = self.memory.wrote(Move(world.now, world.deployment.replicas, count))
        world.deployment.scale(count, idle_first=True)


def make_spec(shape: Shape, target_lag_seconds: float) -> WorkerPoolSpec:
    """The WorkerPool of a shape, in the form that a user writes."""
    objective = {
        "targetLag": _describe_duration(target_lag_seconds),
        "drainWithin": _describe_duration(shape.drain_within),
    }
    if shape.expected_job_seconds is not None:
        objective["expectedJobDuration"] = _describe_duration(shape.expected_job_seconds)
    login = {"host": "jobs", "database": "jobs", "credentialsSecretRef": {"name": "jobs"}}
    guarded = {} if shape.connections is None else {"databaseRef": {"name": "store"}}
    spec = {
        "workers": {"targetRef": {"apiVersion": "apps/v1", "kind": TARGET.kind, "name": TARGET.name}},
        "minWorkers": shape.min_workers,
        "maxWorkers": shape.max_workers,
        "concurrency": shape.declared_concurrency or shape.concurrency,
        "queue": {"type": "Postgres", "postgres": {"preset": "procrastinate", "connection": login}},
        "objective": objective,
        "priority": "Standard",
        **guarded,
        **shape.options,
    }
    return parse_spec(WorkerPoolSpec, {"spec": spec})


def make_headroom(shape: Shape, *, start_delay_seconds: float, target_lag_seconds: float) -> Headroom:
    """The operator for a shape, with what it remembers of a pool that it has known for long."""
    memory = PoolMemory(target_uid="uid-target")
    if shape.is_known:
        rate = 1 / (shape.remembered_seconds or shape.slot_seconds)
        memory = replace(memory, last_good_rate=rate, lead_seconds=max(start_delay_seconds, 1.0))
    sampler = Sampler(shape.counting, target_lag_seconds)
    return Headroom(make_spec(shape, target_lag_seconds), sampler, memory, connections=shape.connections)


def _describe_duration(seconds: float) -> str:
    return f"{round(seconds * 1000)}ms"


def _view(now: float, connections: int) -> DatabaseView:
    """A guard that allocates the same connections in each pass."""
    allocation = Allocation(workers=connections, budget=connections, held_by_others=0)
    return DatabaseView(
        "uid-guard",
        is_ready=True,
        finding=Finding(Reason.CONNECTED, ""),
        observed_at=now,
        allocations=FrozenMap({OWN.uid: allocation}),
    )
