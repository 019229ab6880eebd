"""Measures how late the event loop wakes its tasks, and whether it still wakes them at all."""

from collections import deque
from dataclasses import dataclass, field

from headroom.ports.clock import Clock
from headroom.ports.telemetry import Metric, MetricType, Telemetry

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
TICK_SECONDS = 0.1
WINDOW = 600
"""Samples of one minute."""
PUBLISH_EVERY = 50
"""Samples between two computations of the percentile."""


@dataclass(slots=True)
class LoopMonitor:
    """Sleeps for 100 ms in a loop and measures how much longer each sleep took."""

    clock: Clock
    telemetry: Telemetry
    _last_tick: float | None = None
    _lags: "deque[float]" = field(default_factory=lambda: deque(maxlen=WINDOW))
    _samples: int = 0

    async def run(self) -> None:
        """Measure until cancelled."""
        self._last_tick = self.clock.monotonic()
        while True:
            before = self.clock.monotonic()
            await self.clock.sleep(TICK_SECONDS)
            now = self.clock.monotonic()
            self._last_tick = now
            self._observe(max(0.0, now - before - TICK_SECONDS))

    def age_seconds(self) -> float:
        """Seconds since the loop last woke the monitor; 0 before the start."""
        return 0.0 if self._last_tick is None else self.clock.monotonic() - self._last_tick

    def percentile(self, percent: int) -> float:
        """A percentile of the lag in seconds over the last minute; 0 without samples."""
        if not self._lags:
            return 0.0
        return sorted(self._lags)[min(len(self._lags) - 1, len(self._lags) * percent // 100)]

    def _observe(self, lag_seconds: float) -> None:
        self._lags.append(lag_seconds)
        self._samples += 1
        self.telemetry.record(LOOP_LAG, lag_seconds)
        if self._samples % PUBLISH_EVERY == 0:
            self.telemetry.record(LOOP_LAG_P99, self.percentile(99))
