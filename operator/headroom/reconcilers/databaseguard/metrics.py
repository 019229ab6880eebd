"""The metrics of DatabaseGuards, and what one pass records."""

from headroom.model.conditions import Truth
from headroom.policy.databaseguard.decide import GuardDecision
from headroom.policy.databaseguard.facts import GuardFacts
from headroom.ports.telemetry import Metric, MetricType, Telemetry

OBJECT = ("namespace", "name")
SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)

READY = Metric("headroom_guard_ready", MetricType.GAUGE, "1 while the guard can use its server.", OBJECT)
STATE = Metric(
    "headroom_guard_state",
    MetricType.GAUGE,
    "State of the database: 0 Healthy, 1 Brownout, 2 Overloaded, 3 Emergency, -1 Unknown.",
    OBJECT,
)
COMMIT_SECONDS = Metric(
    "headroom_guard_commit_seconds", MetricType.HISTOGRAM, "How long the canary's COMMIT took.", OBJECT, SECONDS
)
CANARY_FAILURES = Metric(
    "headroom_guard_canary_failures_total",
    MetricType.COUNTER,
    "Canary rounds without an answer, by reason; void counts rounds in which this process itself was late.",
    (*OBJECT, "reason"),
)
CONNECTIONS = Metric(
    "headroom_guard_connections",
    MetricType.GAUGE,
    "Client connections: used, active, idle_in_transaction; usable is the limit without what is reserved, budget what "
    "all WorkerPools together may hold.",
    (*OBJECT, "what"),
)
LOCK_WAITERS = Metric("headroom_guard_lock_waiters", MetricType.GAUGE, "Sessions that wait for a lock.", OBJECT)
OLDEST_TRANSACTION = Metric(
    "headroom_guard_oldest_transaction_seconds", MetricType.GAUGE, "Age of the oldest transaction.", OBJECT
)
MISSING_RIGHT = Metric(
    "headroom_guard_missing_rights", MetricType.GAUGE, "Rights that the monitor login lacks.", OBJECT
)
OBSERVATION_SECONDS = Metric(
    "headroom_guard_observation_seconds",
    MetricType.HISTOGRAM,
    "How long one observation of the server took, Secrets and canary apart.",
    OBJECT,
    SECONDS,
)
SLOTS_SWEPT = Metric(
    "headroom_guard_slots_swept_total",
    MetricType.COUNTER,
    "Replication slots of ReplicaSets that are gone, dropped from the guard's server.",
    OBJECT,
)

ALL = (
    READY,
    STATE,
    COMMIT_SECONDS,
    CANARY_FAILURES,
    CONNECTIONS,
    LOCK_WAITERS,
    OLDEST_TRANSACTION,
    MISSING_RIGHT,
    OBSERVATION_SECONDS,
    SLOTS_SWEPT,
)


def record_pass(
    telemetry: Telemetry, labels: dict[str, str], facts: GuardFacts, decision: GuardDecision, *, seconds: float
) -> None:
    """Record what one pass found; what it could not count keeps its last value."""
    telemetry.record(OBSERVATION_SECONDS, seconds, **labels)
    telemetry.record(READY, float(decision.ready is Truth.TRUE), **labels)
    telemetry.record(STATE, -1.0 if decision.level is None else float(decision.level), **labels)
    counts, budget = decision.counts, decision.budget
    if counts is None or facts.server is None or budget is None:
        return
    telemetry.record(MISSING_RIGHT, float(len(facts.server.missing_rights)), **labels)
    numbers = {"used": budget.used, "usable": budget.usable, "budget": budget.budget}
    if decision.sees_sessions:
        numbers |= {"active": counts.active, "idle_in_transaction": counts.idle_in_transaction}
        telemetry.record(LOCK_WAITERS, float(counts.lock_waiters), **labels)
        telemetry.record(OLDEST_TRANSACTION, counts.oldest_transaction_seconds, **labels)
    for what, number in numbers.items():
        telemetry.record(CONNECTIONS, float(number), what=what, **labels)
