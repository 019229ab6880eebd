"""What one pass knows of a guard's server, what is remembered between passes, and what guards of one server share.

Frozen values without links, tasks or locks; times are monotonic seconds. Guards of one server share what was measured,
not what was concluded: each one decides by its own spec and its own memory. Only the connection plan is one for all
guards of a namespace, because their pools take from the same connections.
"""

from dataclasses import dataclass, field, replace

from headroom.api.v1alpha1.common import GuardState
from headroom.api.v1alpha1.databaseguard import DatabaseGuardSpec
from headroom.model.canary import CanaryWindow
from headroom.model.conditions import Finding
from headroom.model.database import (
    Allocation,
    ConnectionBudget,
    ConnectionCounts,
    PoolDemand,
    ServerFacts,
    SlotFacts,
)
from headroom.model.frozen import FrozenMap
from headroom.policy.databaseguard.baseline import CalmSamples
from headroom.policy.databaseguard.budget import ConnectionPlan
from headroom.policy.databaseguard.limits import ConnectionLimits
from headroom.policy.databaseguard.signals import Measurements
from headroom.policy.databaseguard.state import StateMemory
from headroom.policy.databaseguard.suspicion import Turn
from headroom.reasons import Reason


def sees_sessions(server: ServerFacts) -> bool:
    """True if the login that asked may read the states of other roles' sessions."""
    return server.is_superuser or "pg_monitor" not in server.missing_rights


@dataclass(frozen=True, slots=True)
class Observation:
    """What the guard that measures found at `observed_at`, for all guards of the server; rights are of its login."""

    observed_at: float
    server: ServerFacts
    counts: ConnectionCounts
    window: CanaryWindow

    @property
    def sees_sessions(self) -> bool:
        """True if the login that measured may read the states of other roles' sessions."""
        return sees_sessions(self.server)


@dataclass(frozen=True, slots=True)
class SharedPlan:
    """The plan for the pools of a namespace on one server. Each of its guards continues the newest one.

    `made_at` is when it was made.
    """

    made_at: float
    plan: ConnectionPlan


@dataclass(frozen=True, slots=True)
class ServerMemory:
    """What is remembered of a server. `worst` is of the sample that began at `sampled_at` and is still open.

    `observed_at` is the time of the last observation that was taken into account, None before the first. `answered_at`
    is when the server was last of use. Counts and plan are the last ones there were. `calm` is what the server measures
    while it is Healthy, `turn` whether samples above the state are believed.
    """

    state: StateMemory = field(default_factory=StateMemory)
    has_had_state: bool = False
    worst: Measurements = field(default_factory=Measurements)
    sampled_at: float = 0.0
    observed_at: float | None = None
    answered_at: float | None = None
    counts: ConnectionCounts | None = None
    planned: SharedPlan | None = None
    calm: CalmSamples = field(default_factory=CalmSamples)
    turn: Turn = field(default_factory=Turn)

    @property
    def budget(self) -> ConnectionBudget | None:
        """The last budget."""
        return None if self.planned is None else self.planned.plan.budget

    @property
    def allocations(self) -> FrozenMap[str, Allocation]:
        """The last allocations, by uid of the pool."""
        return FrozenMap() if self.planned is None else self.planned.plan.allocations


@dataclass(frozen=True, slots=True)
class GuardMemory:
    """What one guard remembers.

    `seen_at` is when this process first saw it, `is_resumed` is true if an earlier process had published a state then,
    `has_observed` is true once this process could use the server. `shown` is the state in status and `shown_since` its
    beginning. The `reported` fields are what status and events say. `idle_since` is since when this process has seen
    each idle slot idle, for servers that do not count that.
    """

    seen_at: float = 0.0
    is_resumed: bool = False
    system_identifier: str | None = None
    highest_timeline: int = 0
    server: ServerMemory = field(default_factory=ServerMemory)
    has_observed: bool = False
    shown: GuardState = GuardState.UNKNOWN
    shown_since: float | None = None
    reported_state: StateMemory = field(default_factory=StateMemory)
    reported_reason: Reason | None = None
    idle_since: FrozenMap[str, float] = field(default_factory=FrozenMap)
    swept_at: float | None = None

    def observe(self, server: ServerFacts) -> "GuardMemory":
        """Pin the server that was accepted; a new system begins with timeline 0, and nothing was measured there."""
        is_known = self.system_identifier in (None, server.system_identifier)
        highest = self.highest_timeline if is_known else 0
        measured = self.server
        if not is_known:
            measured = replace(measured, state=StateMemory(), worst=Measurements(), calm=CalmSamples(), turn=Turn())
        return replace(
            self,
            server=measured,
            system_identifier=server.system_identifier,
            highest_timeline=max(highest, server.timeline),
            has_observed=True,
        )


@dataclass(frozen=True, slots=True)
class GuardFacts:
    """What one pass observed.

    `problem` is what ended the observation early. `observation` is the newest one of the server, `earlier` are those
    before it that this guard may not have taken into account, oldest first; with `is_follower` another guard made them.
    `server` has the rights and the address of the own login. `role` is the login's name, `accepted` the system
    identifier that a person allowed.

    `local_guards` names the other guards of this server in the same namespace, `foreign_guards` counts those of other
    namespaces. `limits` are those of the namespace's guards by name, `demands` those of its pools on this server, and
    `planned` is the newest plan for them.

    With `is_sweep_due` this guard looks for slots to sweep: `slots` are ours on the server, None if they could not be
    read, and `live_sets` the parts of slot names of all ReplicaSets. `has_sets`: a ReplicaSet names this guard.
    `turns` has an entry for each other server: when its samples went above its state, None if they are not.
    """

    name: str
    problem: Finding | None = None
    server: ServerFacts | None = None
    observation: Observation | None = None
    earlier: tuple[Observation, ...] = ()
    is_follower: bool = False
    window: CanaryWindow = field(default_factory=CanaryWindow)
    link_opened_at: float = 0.0
    role: str = ""
    replication_problem: Finding | None = None
    accepted: str | None = None
    local_guards: tuple[str, ...] = ()
    foreign_guards: int = 0
    limits: FrozenMap[str, ConnectionLimits] = field(default_factory=FrozenMap)
    demands: tuple[PoolDemand, ...] = ()
    planned: SharedPlan | None = None
    is_sweep_due: bool = False
    slots: tuple[SlotFacts, ...] | None = None
    live_sets: frozenset[str] = frozenset()
    has_sets: bool = False
    turns: tuple[float | None, ...] = ()

    @property
    def sees_sessions(self) -> bool:
        """True if whoever measures may read the states of other roles' sessions."""
        return self.observation is not None and self.observation.sees_sessions

    def find_new(self, memory: ServerMemory) -> tuple[Observation, ...]:
        """The observations that are new to `memory`, oldest first; without any memory the newest only."""
        if self.observation is None:
            return ()
        if memory.observed_at is None:
            return (self.observation,)
        known_at = memory.observed_at
        return tuple(one for one in (*self.earlier, self.observation) if one.observed_at > known_at)


def limits_of(spec: DatabaseGuardSpec) -> ConnectionLimits:
    """The part of a spec that the budget follows."""
    via = spec.connection.via
    pool_size = via.pool_size if via is not None else None
    connections = spec.connections
    return ConnectionLimits(connections.worker_share_percent, connections.reserve, pool_size, spec.connection.database)
