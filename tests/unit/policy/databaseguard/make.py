"""Facts of a guard's server, and a small world that passes them to the decision second by second."""

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from headroom.api.v1alpha1.databaseguard import DatabaseGuardSpec
from headroom.model.canary import CanaryWindow
from headroom.model.conditions import Finding
from headroom.model.database import ConnectionCounts, Lsn, Mark, PoolDemand, ServerFacts, SlotFacts
from headroom.model.moments import Moment
from headroom.policy.databaseguard.decide import GuardDecision, decide
from headroom.policy.databaseguard.facts import GuardFacts, GuardMemory, Observation
from headroom.reasons import Reason

SYSTEM, NOON = "7300000000000000001", datetime(2026, 3, 1, 12, tzinfo=UTC)
SERVER = ServerFacts(
    system_identifier=SYSTEM,
    version=170_002,
    is_in_recovery=False,
    timeline=3,
    flush_lsn=Lsn(100),
    settings={"reserved_connections": "5"},
    wal_senders_used=0,
    slots_used=0,
    is_direct=True,
    started_at=NOON - timedelta(days=3),
    address="10.0.0.7:5432",
)
UNREACHABLE = Finding(Reason.PRIMARY_UNREACHABLE, "10.0.0.7:5432: connection refused")
TIMEOUT = Finding(Reason.PRIMARY_TIMEOUT, "10.0.0.7:5432 did not answer within 1.5 s")


def make_spec(**spec: Any) -> DatabaseGuardSpec:
    connection = {"host": "store", "database": "store", "credentialsSecretRef": {"name": "monitor"}}
    connection |= spec.pop("connection", {})
    return DatabaseGuardSpec.model_validate({"connection": connection, **spec})


def make_counts(used: int = 10, limit: int = 97, **counts: Any) -> ConnectionCounts:
    values = {"active": 0, "idle_in_transaction": 0, "lock_waiters": 0, "oldest_transaction_seconds": 0.0}
    return ConnectionCounts(used=used, limit=limit, **{**values, **counts})


def make_demand(uid: str = "a", rank: int = 1, size: int = 1, **values: Any) -> PoolDemand:
    """The demand of a pool whose workers are all ready, but for the values that are given."""
    counts = {"minimum": 0, "running": 0, "busy": 0, "wanted": 0, "maximum": 10_000, "terminating": 0}
    rest = {"guard": "store", "ready": values.get("running", 0), "workload": f"apps/Deployment/{uid}"}
    rest["started"] = values.get("running", 0)
    return PoolDemand(uid, rank, size, **{**counts, **rest, **values})


def make_mark(at: float, seconds: float | None = 0.002, *, timeline: int = 3, system: str = SYSTEM) -> Mark:
    return Mark(at, Lsn(int(at * 100)), seconds, timeline, system)


def make_slot(name: str, *, is_active: bool = False, inactive_seconds: float | None = None) -> SlotFacts:
    return SlotFacts(name, is_active, Lsn(1), "reserved", has_xmin=False, inactive_seconds=inactive_seconds)


@dataclass
class GuardPolicyWorld:
    """The decision alone, a pass each second; change the fields to make things happen.

    `commit_seconds` None means that the canary is not answered, `problem` that nothing is. A canary that is silent
    sends nothing.
    """

    spec: DatabaseGuardSpec | None = field(default_factory=make_spec)
    memory: GuardMemory = field(default_factory=GuardMemory)
    server: ServerFacts = SERVER
    counts: ConnectionCounts = field(default_factory=make_counts)
    commit_seconds: float | None = 0.002
    is_canary_silent: bool = False
    problem: Finding | None = None
    replication_problem: Finding | None = None
    shared: Observation | None = None
    demands: tuple[PoolDemand, ...] = ()
    extra: dict[str, Any] = field(default_factory=dict)
    now: float = 1.0
    window: CanaryWindow = field(default_factory=CanaryWindow)
    decisions: list[GuardDecision] = field(default_factory=list)

    @property
    def moment(self) -> Moment:
        return Moment(self.now, NOON + timedelta(seconds=self.now))

    @property
    def decision(self) -> GuardDecision:
        return self.decisions[-1]

    def facts(self) -> GuardFacts:
        if self.problem is not None:
            return GuardFacts("store", problem=self.problem, **self.extra)
        facts = GuardFacts(
            "store",
            server=self.server,
            observation=self.observe(),
            window=self.window,
            role="headroom_monitor",
            replication_problem=self.replication_problem,
            demands=self.demands,
            **self.extra,
        )
        if self.shared is not None:
            return replace(facts, observation=self.shared, is_follower=True, window=self.shared.window)
        return facts

    def step(self, seconds: float = 1.0) -> GuardDecision:
        """Let the canary make a round, decide, and move the clock."""
        if self.is_canary_silent:
            self.window = self.window.drop()
        elif self.commit_seconds is not None and self.problem is None:
            server = self.server
            mark = make_mark(self.now, self.commit_seconds, timeline=server.timeline, system=server.system_identifier)
            self.window = self.window.begin(self.now).answer(mark, is_void=False)
        elif self.window.pending_since is None:
            self.window = self.window.begin(self.now)
        outcome = decide(self.spec, self.facts(), self.memory, self.moment)
        self.memory = outcome.memory
        self.decisions.append(outcome.decision)
        self.now += seconds
        return outcome.decision

    def run(self, seconds: float) -> GuardDecision:
        end = self.now + seconds
        while self.now < end:
            self.step()
        return self.decision

    def observe(self) -> Observation:
        """What this guard measures now, for itself and the others of its server."""
        return Observation(self.now, self.server, self.counts, self.window)
