"""Telemetry that is kept in lists, for tests and simulation."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from headroom.ports.telemetry import Metric, MetricType
from headroom.reasons import Reason

LabelSet = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class RecordedEvent:
    """One event, before any merging or rate limit."""

    kind: str
    namespace: str
    name: str
    reason: Reason
    message: str
    type_: str


@dataclass(slots=True)
class MemoryTelemetry:
    """Gauges hold the last value, counters the sum, histograms every observation."""

    values: dict[tuple[str, LabelSet], float] = field(default_factory=dict)
    observations: dict[tuple[str, LabelSet], list[float]] = field(default_factory=dict)
    events: list[RecordedEvent] = field(default_factory=list)

    def record(self, metric: Metric, value: float, **labels: str) -> None:
        """Keep a value; labels that the metric does not declare are a mistake of the caller."""
        if set(labels) != set(metric.labels):
            raise ValueError(f"{metric.name} takes labels {metric.labels}, not {tuple(labels)}")
        key = (metric.name, tuple(sorted(labels.items())))
        if metric.type is MetricType.HISTOGRAM:
            self.observations.setdefault(key, []).append(value)
        elif metric.type is MetricType.COUNTER:
            self.values[key] = self.values.get(key, 0.0) + value
        else:
            self.values[key] = value

    def forget(self, *metrics: Metric, **labels: str) -> None:
        """Drop every series that carries all of these labels, of these metrics or of all; without labels none."""
        names = {metric.name for metric in metrics}

        def is_gone(name: str, carried: LabelSet) -> bool:
            return bool(labels) and labels.items() <= dict(carried).items() and (not names or name in names)

        self.values = {key: kept for key, kept in self.values.items() if not is_gone(*key)}
        self.observations = {key: kept for key, kept in self.observations.items() if not is_gone(*key)}

    def event(
        self, about: Mapping[str, Any], reason: Reason, message: str, *, type_: Literal["Normal", "Warning"] = "Normal"
    ) -> None:
        """Keep the event."""
        metadata = about["metadata"]
        self.events.append(
            RecordedEvent(
                str(about.get("kind", "")), metadata.get("namespace", ""), metadata["name"], reason, message, type_
            )
        )

    def value(self, metric: Metric, **labels: str) -> float | None:
        """Last value of a gauge or sum of a counter, None when there is no such series."""
        return self.values.get((metric.name, tuple(sorted(labels.items()))))

    def reasons(self, name: str) -> list[Reason]:
        """Reasons of all events about objects of this name, oldest first."""
        return [event.reason for event in self.events if event.name == name]
