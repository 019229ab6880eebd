"""What one pass knows of a guard's server, what is remembered between passes, and what guards of one server share.

Frozen values without links, tasks or locks; times are monotonic seconds. `memory` of a server is one value that moves
from the guard that measures to the others, so that any of them can continue to measure without a gap.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from headroom.api.v1alpha1.databaseguard import DatabaseGuardSpec
from headroom.api.v1alpha1.databaseguard_status import GuardState
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
from headroom.policy.databaseguard.budget import ConnectionLimits, OthersHistory
from headroom.policy.databaseguard.signals import Measurements
from headroom.policy.databaseguard.state import StateMemory
from headroom.reasons import Reason


@dataclass(frozen=True, slots=True)
class ServerMemory:
    """What is remembered of a server. `worst` is of the sample that began at `sampled_at` and is still open.

    `answered_at` is when the server was last of use, `counted_since` when this process first counted its connections.
    `demands` are what `allocations` were made from. Counts, budget and allocations are the last ones there were.
    """

    state: StateMemory = field(default_factory=StateMemory)
    has_had_state: bool = False
    worst: Measurements = field(default_factory=Measurements)
    sampled_at: float = 0.0
    answered_at: float | None = None
    counted_since: float | None = None
    others: OthersHistory = field(default_factory=OthersHistory)
    counts: ConnectionCounts | None = None
    budget: ConnectionBudget | None = None
    demands: tuple[PoolDemand, ...] = ()
    allocations: Mapping[str, Allocation] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class GuardMemory:
    """What one guard remembers.

    `seen_at` is when this process first saw it, `is_resumed` is true if an earlier process had published a state then,
    `has_observed` is true once this process could use the server. `shown` is the state in status and `shown_since` its
    beginning. The `reported` fields are what events have told of.
    `idle_since` tells for each idle slot since when this process has seen it idle, for servers that do not tell.
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
    idle_since: Mapping[str, float] = field(default_factory=dict)
    swept_at: float | None = None

    def observe(self, server: ServerFacts) -> "GuardMemory":
        """Pin the server that was accepted; a new system begins with timeline 0."""
        highest = self.highest_timeline if self.system_identifier == server.system_identifier else 0
        return replace(
            self,
            system_identifier=server.system_identifier,
            highest_timeline=max(highest, server.timeline),
            has_observed=True,
        )


@dataclass(frozen=True, slots=True)
class SharedServer:
    """What the guard that measures a server found at `observed_at`; the server's other guards take it over."""

    observed_at: float
    server: ServerFacts
    sees_sessions: bool
    window: CanaryWindow
    memory: ServerMemory


@dataclass(frozen=True, slots=True)
class GuardFacts:
    """What one pass observed.

    `problem` is what ended the observation early. `shared` is set where another guard measures the same server, and
    `counts` where this one does; `inherited` is what is known of the server when this one takes over. `role` is the
    login's name, `accepted` the system identifier that a person allowed. `local_guards` names the other guards of this
    server in the same namespace, `foreign_guards` counts those of other namespaces, `other_limits` are theirs. With
    `is_sweep_due` this guard looks for slots to sweep: `slots` are ours on the server, None if they could not be read,
    and `live_sets` the parts of slot names of all ReplicaSets.
    """

    name: str
    problem: Finding | None = None
    server: ServerFacts | None = None
    counts: ConnectionCounts | None = None
    shared: SharedServer | None = None
    inherited: ServerMemory | None = None
    window: CanaryWindow = field(default_factory=CanaryWindow)
    link_opened_at: float = 0.0
    role: str = ""
    replication_problem: Finding | None = None
    accepted: str | None = None
    local_guards: tuple[str, ...] = ()
    foreign_guards: int = 0
    other_limits: tuple[ConnectionLimits, ...] = ()
    demands: tuple[PoolDemand, ...] = ()
    is_sweep_due: bool = False
    slots: tuple[SlotFacts, ...] | None = None
    live_sets: frozenset[str] = frozenset()

    @property
    def sees_sessions(self) -> bool:
        """True when whoever measures may read the states of other roles' sessions."""
        if self.shared is not None:
            return self.shared.sees_sessions
        server = self.server
        return server is not None and (server.is_superuser or "pg_monitor" not in server.missing_rights)


def limits_of(spec: DatabaseGuardSpec) -> ConnectionLimits:
    """The part of a spec that the budget follows."""
    via = spec.connection.via
    pool_size = via.pool_size if via is not None else None
    return ConnectionLimits(spec.connections.worker_share_percent, spec.connections.reserve, pool_size)
