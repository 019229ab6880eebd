"""What leaves the operator for people and monitoring: metrics, events, and the object that log lines name.

Nothing here may ever block or fail a pass.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Literal, Protocol

from headroom.reasons import Reason


class MetricType(StrEnum):
    """Prometheus metric types we use."""

    GAUGE = "gauge"
    COUNTER = "counter"
    HISTOGRAM = "histogram"


@dataclass(frozen=True, slots=True)
class Metric:
    """A metric: name with unit, type, help text, label names in order, histogram buckets."""

    name: str
    type: MetricType
    help: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()


class Telemetry(Protocol):
    """Records numbers and emits events; both return at once."""

    def record(self, metric: Metric, value: float, **labels: str) -> None:
        """Set a gauge, add to a counter, or observe into a histogram, by the metric's type."""
        ...

    def forget(self, *metrics: Metric, **labels: str) -> None:
        """Drop every series that carries all of these labels, of these metrics or of all: nobody measures it now.
        Without labels none is dropped, so that a caller that forgets them does not drop every series.
        """
        ...

    def event(
        self,
        about: Mapping[str, Any],
        reason: Reason,
        message: str,
        *,
        type_: Literal["Normal", "Warning"] = "Normal",
    ) -> None:
        """Queue a Kubernetes event about an object; repeated and excess ones are merged or dropped and counted."""
        ...


@dataclass(frozen=True, slots=True)
class Subject:
    """An object as a log line names it."""

    kind: str
    namespace: str
    name: str
    uid: str


_SUBJECT: ContextVar[Subject | None] = ContextVar("headroom_subject", default=None)


def current_subject() -> Subject | None:
    """The object of the innermost `working_on` of this task, if there is one."""
    return _SUBJECT.get()


@contextmanager
def working_on(kind: str, metadata: Mapping[str, Any]) -> Iterator[None]:
    """Name an object in everything that is logged inside, tasks started there included."""
    subject = Subject(kind, metadata.get("namespace", ""), metadata.get("name", ""), metadata.get("uid", ""))
    token = _SUBJECT.set(subject)
    try:
        yield
    finally:
        _SUBJECT.reset(token)
