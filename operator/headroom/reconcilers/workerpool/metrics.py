"""The metrics of WorkerPools."""

from headroom.model.metrics import Metric, MetricType

OBJECT = ("namespace", "name")
SECONDS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10)

LAG = Metric(
    "headroom_workerpool_lag_seconds", MetricType.GAUGE, "Age of the oldest item that a worker could take.", OBJECT
)
BACKLOG = Metric("headroom_workerpool_backlog", MetricType.GAUGE, "Items that are ready and wait.", OBJECT)
BLOCKED = Metric(
    "headroom_workerpool_blocked_backlog",
    MetricType.GAUGE,
    "Items that wait for something workers cannot give.",
    OBJECT,
)
IN_FLIGHT = Metric("headroom_workerpool_in_flight", MetricType.GAUGE, "Items that live workers handle.", OBJECT)
PHANTOMS = Metric(
    "headroom_workerpool_phantom_in_flight",
    MetricType.GAUGE,
    "Items marked as running that no live worker holds.",
    OBJECT,
)
ARRIVALS = Metric(
    "headroom_workerpool_arrivals_per_second", MetricType.GAUGE, "Items that become ready, per second.", OBJECT
)
COMPLETIONS = Metric(
    "headroom_workerpool_completions_per_second",
    MetricType.GAUGE,
    "Attempts that end, done or failed, per second.",
    OBJECT,
)
SERVICE_RATE = Metric(
    "headroom_workerpool_slot_completions_per_second",
    MetricType.GAUGE,
    "Attempts that end per second for each busy slot.",
    OBJECT,
)
OF_QUEUE = (LAG, BACKLOG, BLOCKED, IN_FLIGHT, PHANTOMS, ARRIVALS, COMPLETIONS, SERVICE_RATE)
"""What a sample tells, and what is worked out from samples."""
WORKERS = Metric("headroom_workerpool_workers", MetricType.GAUGE, "Workers by state.", (*OBJECT, "state"))
"""States: `running`, `ready`, `present` (asked for now), `wanted` (by the queue), `allowed` (by the limits)."""
LIMITED = Metric(
    "headroom_workerpool_limited", MetricType.GAUGE, "1 while a limit keeps the count below what is wanted.", OBJECT
)
SIGNAL = Metric(
    "headroom_workerpool_signal_available", MetricType.GAUGE, "1 while the queue could be sampled, else 0.", OBJECT
)
LEAD_SECONDS = Metric(
    "headroom_workerpool_lead_seconds",
    MetricType.GAUGE,
    "Time from a pod's creation to Ready, p95 of those there are.",
    OBJECT,
)
PROBE_SECONDS = Metric(
    "headroom_workerpool_probe_seconds", MetricType.HISTOGRAM, "Time one sample of the queue took.", OBJECT, SECONDS
)
PROBE_FAILURES = Metric(
    "headroom_workerpool_probe_failures_total",
    MetricType.COUNTER,
    "Samples that failed, by reason.",
    (*OBJECT, "reason"),
)
DECISION_SECONDS = Metric(
    "headroom_workerpool_due_to_scaled_seconds",
    MetricType.HISTOGRAM,
    "From the moment a sample was due to the written count, in passes that wrote one.",
    OBJECT,
    SECONDS,
)
SCALED = Metric(
    "headroom_workerpool_scaled_total",
    MetricType.COUNTER,
    "Counts written to /scale, by direction.",
    (*OBJECT, "direction"),
)
