"""Metrics of the calls to the API server and of the lease."""

from headroom.model.metrics import Metric, MetricType

API_CALLS = Metric(
    "headroom_kube_calls_total",
    MetricType.COUNTER,
    "Calls to the Kubernetes API by verb, kind and HTTP status; code 0 is no answer.",
    ("verb", "kind", "code"),
)
API_SECONDS = Metric(
    "headroom_kube_call_seconds",
    MetricType.HISTOGRAM,
    "Duration of calls to the Kubernetes API in seconds, waiting for a place not included.",
    ("verb",),
    (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0),
)
API_WAIT_SECONDS = Metric(
    "headroom_kube_wait_seconds",
    MetricType.HISTOGRAM,
    "Seconds that calls to the Kubernetes API waited for the client's own limits.",
    (),
    (0.001, 0.01, 0.1, 0.5, 1.0, 5.0, 30.0),
)
LEADER = Metric("headroom_leader", MetricType.GAUGE, "1 while this process holds the lease and may write, else 0.")
LEASE_RENEWALS = Metric(
    "headroom_lease_renewals_total",
    MetricType.COUNTER,
    "Attempts to renew the lease by outcome: Renewed, Taken, or the class of the error.",
    ("outcome",),
)
