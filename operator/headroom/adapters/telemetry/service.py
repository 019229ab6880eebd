"""The Telemetry port over Prometheus and the events API."""

from collections.abc import Mapping
from typing import Any, Literal

from headroom.adapters.telemetry.catalogue import EVENTS
from headroom.adapters.telemetry.events import EventRecorder
from headroom.adapters.telemetry.registry import Registry
from headroom.model.metrics import Metric
from headroom.ports.clock import Clock
from headroom.ports.kube import KubeWriter
from headroom.reasons import Reason


class PrometheusTelemetry:
    """Implements `Telemetry`; events wait in a bounded queue until `run_events` has a writer for them.

    `instance` is the pod's name: it says in each event which process reported it.
    """

    def __init__(self, clock: Clock, *, instance: str = "headroom") -> None:
        self.registry = Registry()
        self._events = EventRecorder(clock, self._count_event, instance)

    def record(self, metric: Metric, value: float, **labels: str) -> None:
        """Set, add or observe by the metric's type."""
        self.registry.record(metric, value, labels)

    def forget(self, *metrics: Metric, **labels: str) -> None:
        """Drop every series that carries all of these labels, of these metrics or of all; without labels none."""
        self.registry.forget(labels, metrics)

    def event(
        self, about: Mapping[str, Any], reason: Reason, message: str, *, type_: Literal["Normal", "Warning"] = "Normal"
    ) -> None:
        """Queue an event."""
        self._events.announce(about, reason, message, type_)

    async def run_events(self, writer: KubeWriter) -> None:
        """Post events until cancelled; to be run as a task of its own while leading."""
        await self._events.run(writer)

    def _count_event(self, reason: str, outcome: str) -> None:
        self.registry.record(EVENTS, 1, {"reason": reason, "outcome": outcome})
