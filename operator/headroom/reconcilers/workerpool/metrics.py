"""The metrics of WorkerPools, and what one pass records."""

from headroom.policy.workerpool.growth import is_frozen
from headroom.ports.telemetry import Metric, MetricType
from headroom.reconcilers.workerpool.memory import PoolContext

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
FAILED = Metric(
    "headroom_workerpool_failed_total", MetricType.COUNTER, "Attempts that failed, as the probe counted them.", OBJECT
)
SERVICE_RATE = Metric(
    "headroom_workerpool_slot_completions_per_second",
    MetricType.GAUGE,
    "Attempts that end per second for each busy slot.",
    OBJECT,
)
OF_QUEUE = (LAG, BACKLOG, BLOCKED, IN_FLIGHT, PHANTOMS, ARRIVALS, COMPLETIONS, SERVICE_RATE)
"""What a sample shows, and what is computed from samples."""
GAIN = Metric(
    "headroom_workerpool_marginal_gain",
    MetricType.GAUGE,
    "Marginal gain of the last measured step: 1 is linear, 0 is none.",
    OBJECT,
)
FROZEN = Metric(
    "headroom_workerpool_frozen", MetricType.GAUGE, "1 while growth is stopped since it gains nothing.", OBJECT
)
FREEZES = Metric(
    "headroom_workerpool_freezes_total",
    MetricType.COUNTER,
    "Times that growth was stopped since it gained nothing.",
    OBJECT,
)
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
    "Time from a pod's creation to Ready, p95 of the existing pods.",
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

ALL = (
    *OF_QUEUE,
    FAILED,
    GAIN,
    FROZEN,
    FREEZES,
    WORKERS,
    LIMITED,
    SIGNAL,
    LEAD_SECONDS,
    PROBE_SECONDS,
    PROBE_FAILURES,
    DECISION_SECONDS,
    SCALED,
)


def record_pass(context: PoolContext) -> None:
    """Record what a pass observed and decided."""
    telemetry, labels = context.services.telemetry, context.labels
    telemetry.record(SIGNAL, float(context.facts.sample is not None), **labels)
    measured = _measured(context)
    for metric in OF_QUEUE:
        number = measured.get(metric)
        if number is None:
            # A number that is not known now has no series: an old one would look like a measurement.
            telemetry.forget(metric, **labels)
        else:
            telemetry.record(metric, number, **labels)
    _record_gain(context)
    if context.memory.lead_seconds is not None:
        telemetry.record(LEAD_SECONDS, context.memory.lead_seconds, **labels)
    for state, count in _worker_counts(context).items():
        telemetry.record(WORKERS, count, state=state, **labels)
    if context.decision.sizing is not None:
        telemetry.record(LIMITED, float(context.decision.sizing.decision.is_held_back), **labels)


def record_failures(context: PoolContext) -> None:
    """Count the attempts that failed since the sample before; once for each sample that the memory keeps."""
    failed = context.decision.failures.newest
    if failed:
        context.services.telemetry.record(FAILED, failed, **context.labels)


def record_freeze(context: PoolContext) -> None:
    """Count that growth was stopped."""
    context.services.telemetry.record(FREEZES, 1, **context.labels)


def _record_gain(context: PoolContext) -> None:
    telemetry, gain = context.services.telemetry, context.memory.gain
    telemetry.record(FROZEN, float(is_frozen(gain)), **context.labels)
    last = gain.pending or (None if gain.verified is None else gain.verified.gain)
    if last is None:
        telemetry.forget(GAIN, **context.labels)
    else:
        telemetry.record(GAIN, last.value, **context.labels)


def record_scaled(context: PoolContext, *, due_seconds: float) -> None:
    """Record that a count was written; `due_seconds` is how long ago the sample was due."""
    target, sizing = context.facts.workload, context.decision.sizing
    if target is None or sizing is None:
        return
    direction = "up" if sizing.decision.allowed > target.present else "down"
    context.services.telemetry.record(DECISION_SECONDS, due_seconds, **context.labels)
    context.services.telemetry.record(SCALED, 1, direction=direction, **context.labels)


def _measured(context: PoolContext) -> dict[Metric, float | None]:
    """What this pass measured; rates from earlier samples only are left out."""
    sample, sizing = context.facts.sample, context.decision.sizing
    if sample is None:
        return {}
    numbers: dict[Metric, float | None] = {
        LAG: sample.lag_seconds,
        BACKLOG: sample.backlog,
        BLOCKED: sample.blocked,
        PHANTOMS: sample.phantoms,
        IN_FLIGHT: sample.in_flight,
    }
    if sizing is not None:
        numbers[ARRIVALS] = sizing.estimates.arrivals_per_second
        numbers[COMPLETIONS] = sizing.estimates.completions_per_second
        numbers[SERVICE_RATE] = sizing.estimates.service_rate
    return numbers


def _worker_counts(context: PoolContext) -> dict[str, int]:
    target, sizing = context.facts.workload, context.decision.sizing
    if target is None or sizing is None:
        return {}
    return {
        "running": target.pods.running,
        "ready": target.pods.ready,
        "present": target.present,
        "wanted": sizing.decision.wanted,
        "allowed": sizing.decision.allowed,
    }
