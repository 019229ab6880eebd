"""Prometheus metrics made from the catalogue when they are first recorded."""

import logging
import platform
from collections.abc import Collection

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
from headroom.adapters.telemetry.catalogue import BUILD_INFO, TELEMETRY_ERRORS
from headroom.model.metrics import Metric, MetricType

logger = logging.getLogger(__name__)


Instrument = Gauge | Counter | Histogram


class Registry:
    """Holds the metrics of this process; a mistake in one is counted, never raised."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        for collector in (ProcessCollector, PlatformCollector, GCCollector):
            collector(registry=self._registry)
        self._instruments: dict[Metric, Instrument] = {}
        self.record(BUILD_INFO, 1, {"version": __version__, "python": platform.python_version()})

    def record(self, metric: Metric, value: float, labels: dict[str, str]) -> None:
        """Set, add or observe by the metric's type."""
        try:
            self._record(metric, value, labels)
        except ValueError as mistake:
            # Wrong labels, a second metric of the same name, or a counter that goes down.
            if metric is TELEMETRY_ERRORS:
                raise
            logger.warning("The metric %s cannot take %r: %s", metric.name, labels, mistake)
            self.record(TELEMETRY_ERRORS, 1, {"metric": metric.name})

    def forget(self, labels: dict[str, str], metrics: Collection[Metric] = ()) -> None:
        """Drop every series that carries all of these labels, of these metrics or of all; without labels none."""
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


def _make(metric: Metric, registry: CollectorRegistry) -> Instrument:
    if metric.type is MetricType.GAUGE:
        return Gauge(metric.name, metric.help, metric.labels, registry=registry)
    if metric.type is MetricType.COUNTER:
        return Counter(metric.name, metric.help, metric.labels, registry=registry)
    buckets = metric.buckets or Histogram.DEFAULT_BUCKETS
    return Histogram(metric.name, metric.help, metric.labels, buckets=buckets, registry=registry)


def _remove(instrument: Instrument, metric: Metric, labels: dict[str, str]) -> None:
    """Remove one series by its name; only where labels are missing look through all of them."""
    if len(labels) == len(metric.labels):
        instrument.remove(*(labels[name] for name in metric.labels))
    else:
        instrument.remove_by_labels(labels)
