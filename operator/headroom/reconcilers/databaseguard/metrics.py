"""The metrics of DatabaseGuards."""

from headroom.model.metrics import Metric, MetricType

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
LOOK_SECONDS = Metric(
    "headroom_guard_look_seconds",
    MetricType.HISTOGRAM,
    "How long one look at the server took, canary apart.",
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
    LOOK_SECONDS,
    SLOTS_SWEPT,
)
