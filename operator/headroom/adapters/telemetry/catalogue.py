"""Metrics of the telemetry itself and of the process."""

from headroom.model.metrics import Metric, MetricType

BUILD_INFO = Metric(
    "headroom_build_info", MetricType.GAUGE, "Always 1; the labels say what runs.", ("version", "python")
)
TELEMETRY_ERRORS = Metric(
    "headroom_telemetry_errors_total",
    MetricType.COUNTER,
    "Values that could not be recorded because of a mistake in the program, by metric.",
    ("metric",),
)
EVENTS = Metric(
    "headroom_events_total",
    MetricType.COUNTER,
    "Announced events by reason and outcome: posted, merged into a series, or why they were dropped.",
    ("reason", "outcome"),
)
LOOP_LAG = Metric(
    "headroom_loop_lag_seconds",
    MetricType.HISTOGRAM,
    "How much later than asked the event loop woke a task, measured ten times a second.",
    (),
    (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0),
)
LOOP_LAG_P99 = Metric(
    "headroom_loop_lag_p99_seconds", MetricType.GAUGE, "99th percentile of the event loop's lag over the last minute."
)
