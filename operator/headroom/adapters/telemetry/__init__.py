"""Metrics for Prometheus, events for Kubernetes, logs, and the lag of the event loop."""

from headroom.adapters.telemetry.logs import configure_logs
from headroom.adapters.telemetry.loop import LoopMonitor
from headroom.adapters.telemetry.prometheus import PrometheusTelemetry

__all__ = ["LoopMonitor", "PrometheusTelemetry", "configure_logs"]
