"""What leaves the operator for people and monitoring: metrics and events. Neither may ever block or fail a pass."""

from collections.abc import Mapping
from typing import Any, Literal, Protocol

from headroom.model.metrics import Metric
from headroom.reasons import Reason


class Telemetry(Protocol):
    """Records numbers and announces events; both return at once."""

    def record(self, metric: Metric, value: float, **labels: str) -> None:
        """Set a gauge, add to a counter, or observe into a histogram, by the metric's type."""
        ...

    def forget(self, *metrics: Metric, **labels: str) -> None:
        """Drop every series that carries all of these labels, of these metrics or of all: nobody measures it now.

        Without labels none is dropped: a label forgotten by the caller must not cost everybody's.
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
