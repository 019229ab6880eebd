"""The Telemetry port over Prometheus and the events API; metrics are created when they are first recorded."""

import asyncio
import logging
import math
import platform
from collections.abc import Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Literal

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    GCCollector,
    Histogram,
    PlatformCollector,
    ProcessCollector,
)
from prometheus_client.exposition import choose_encoder

from headroom import __version__
from headroom.adapters.telemetry.events import EventRecorder
from headroom.model.text import clean_text
from headroom.ports.clock import Clock
from headroom.ports.kube import KubeWriter
from headroom.ports.telemetry import Metric, MetricType
from headroom.reasons import Reason

logger = logging.getLogger(__name__)

BUILD_INFO = Metric(
    "headroom_build_info", MetricType.GAUGE, "Always 1; the labels name the running version.", ("version", "python")
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
    "Emitted events by reason and outcome: posted, merged into a series, or why they were dropped.",
    ("reason", "outcome"),
)

Instrument = Gauge | Counter | Histogram
KEPT_SECONDS = 1.0
MAX_LABEL = 256
"""Characters of a label's value."""


class Registry:
    """The metrics of this process. A mistake in one of them is counted and never raised."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        for collector in (ProcessCollector, PlatformCollector, GCCollector):
            collector(registry=self._registry)
        self._instruments: dict[Metric, Instrument] = {}
        self.record(BUILD_INFO, 1, {"version": __version__, "python": platform.python_version()})

    def record(self, metric: Metric, value: float, labels: dict[str, str]) -> None:
        """Set, add or observe, as the type of the metric asks."""
        try:
            self._record(metric, value, labels)
        except ValueError as mistake:
            # Wrong labels, a second metric of the same name, or a counter that goes down.
            if metric is TELEMETRY_ERRORS:
                raise
            logger.warning("The metric %s cannot take %r: %s", metric.name, labels, mistake)
            self.record(TELEMETRY_ERRORS, 1, {"metric": metric.name})

    def forget(self, labels: dict[str, str], metrics: Collection[Metric] = ()) -> None:
        """Drop every series with all of these labels, of these metrics (none: of all). Without labels: no series."""
        for metric in metrics or self._instruments:
            instrument = self._instruments.get(metric)
            if instrument is not None and labels and labels.keys() <= set(metric.labels):
                _remove(instrument, metric, labels)

    def expose(self, accept: str = "") -> tuple[bytes, str]:
        """The text of all metrics and its content type, for an Accept header."""
        encode, content_type = choose_encoder(accept)
        return encode(self._registry), content_type

    def _record(self, metric: Metric, value: float, labels: dict[str, str]) -> None:
        instrument = self._instruments.get(metric)
        if instrument is None:
            instrument = self._instruments[metric] = _make(metric, self._registry)
        series = instrument.labels(**labels) if labels or metric.labels else instrument
        if isinstance(series, Gauge):
            series.set(value)
        elif isinstance(series, Counter):
            series.inc(value)
        elif isinstance(series, Histogram):
            series.observe(value)


@dataclass(slots=True)
class Exposition:
    """The text of all metrics, written once a second at most, however many ask for it, and by one thread at a time.

    With many series it takes its time, so it is written beside the event loop, in a thread that serves nothing else.
    """

    registry: Registry
    clock: Clock
    _writing: asyncio.Lock = field(default_factory=asyncio.Lock)
    _thread: ThreadPoolExecutor = field(
        default_factory=lambda: ThreadPoolExecutor(max_workers=1, thread_name_prefix="metrics")
    )
    _written: dict[str, tuple[float, bytes]] = field(default_factory=dict)

    async def get(self, accept: str) -> tuple[bytes, str]:
        """The text and its content type, for an Accept header; a second old at most."""
        _, content_type = choose_encoder(accept)
        async with self._writing:
            written_at, body = self._written.get(content_type, (-math.inf, b""))
            if self.clock.monotonic() - written_at > KEPT_SECONDS:
                loop = asyncio.get_running_loop()
                written_at = self.clock.monotonic()
                body, content_type = await loop.run_in_executor(self._thread, self.registry.expose, accept)
                self._written = {**_keep_fresh(self._written, written_at), content_type: (written_at, body)}
        return body, content_type


def _keep_fresh(written: Mapping[str, tuple[float, bytes]], now: float) -> dict[str, tuple[float, bytes]]:
    """The formats that somebody still asks for; a caller chooses among few, but may put many into a header."""
    return {kind: entry for kind, entry in written.items() if now - entry[0] <= KEPT_SECONDS}


class PrometheusTelemetry:
    """Implements `Telemetry`; events wait in a bounded queue until `run_events` has a writer for them.

    `instance` is the name of the pod; each event names it as its reporter.
    """

    def __init__(self, clock: Clock, *, instance: str = "headroom") -> None:
        self.registry = Registry()
        self.exposition = Exposition(self.registry, clock)
        self._events = EventRecorder(clock, self._count_event, instance)

    def record(self, metric: Metric, value: float, **labels: str) -> None:
        """Set, add or observe, as the type of the metric asks."""
        self.registry.record(metric, value, _clean(labels))

    def forget(self, *metrics: Metric, **labels: str) -> None:
        """Drop every series with all of these labels, of these metrics (none: of all). Without labels: no series."""
        self.registry.forget(_clean(labels), metrics)

    def event(
        self, about: Mapping[str, Any], reason: Reason, message: str, *, type_: Literal["Normal", "Warning"] = "Normal"
    ) -> None:
        """Queue an event."""
        self._events.emit(about, reason, message, type_)

    async def run_events(self, writer: KubeWriter) -> None:
        """Post events until cancelled. Run it as a separate task while this process leads."""
        await self._events.run(writer)

    def _count_event(self, reason: str, outcome: str) -> None:
        self.registry.record(EVENTS, 1, {"reason": reason, "outcome": outcome})


def _clean(labels: Mapping[str, str]) -> dict[str, str]:
    """Names of queues and waits come from servers."""
    return {name: clean_text(value, MAX_LABEL) for name, value in labels.items()}


def _make(metric: Metric, registry: CollectorRegistry) -> Instrument:
    if metric.type is MetricType.GAUGE:
        return Gauge(metric.name, metric.help, metric.labels, registry=registry)
    if metric.type is MetricType.COUNTER:
        return Counter(metric.name, metric.help, metric.labels, registry=registry)
    buckets = metric.buckets or Histogram.DEFAULT_BUCKETS
    return Histogram(metric.name, metric.help, metric.labels, buckets=buckets, registry=registry)


def _remove(instrument: Instrument, metric: Metric, labels: dict[str, str]) -> None:
    # One series is removed by its values; only a partial set of labels needs a search through all series.
    if len(labels) == len(metric.labels):
        instrument.remove(*(labels[name] for name in metric.labels))
    else:
        instrument.remove_by_labels(labels)
