"""What a server measures while it is Healthy: bounds too near to that would call its normal day trouble.

Once a minute a sample of a Healthy server is kept, for an hour; the median of them is its baseline. Only samples below
all bounds as they are written count: a bound is ignored if the baseline is more than half of it, never because the
server became slower than it. The baseline that bounds are compared with follows the median in steps, so that a bound is
not ignored one minute and obeyed the next.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from statistics import median

from headroom.api.v1alpha1.thresholds import Thresholds
from headroom.model.conditions import Finding
from headroom.policy.databaseguard.signals import (
    BASED_SIGNALS,
    BASELINE_FACTOR,
    Baseline,
    Level,
    Measurements,
    bounds_of,
    describe_signal,
    describe_value,
    is_below_baseline,
    value_of,
)
from headroom.policy.databaseguard.state import StateMemory
from headroom.reasons import Reason

KEPT_EVERY_SECONDS = 60.0
KEPT_SAMPLES = 60
LEAST_SAMPLES = 10
"""Ten minutes of a Healthy server: their median is not that of one batch."""
MOVED_SHARE = 0.2
"""The baseline follows the median once they differ by more than a fifth."""
CONSTANT_SECONDS = 1800.0
"""A server that was never seen Healthy for so long may have a bound below what it always does."""


@dataclass(frozen=True, slots=True)
class CalmSamples:
    """Samples of the Healthy server, oldest first; `kept_at` is the moment of the last one, in monotonic seconds."""

    samples: tuple[Measurements, ...] = ()
    kept_at: float | None = None
    baseline: Baseline = field(default_factory=Baseline)

    def observe(self, sample: Measurements, level: Level | None, now: float) -> "CalmSamples":
        """Take one sample into account, after which the server was at `level`."""
        is_due = self.kept_at is None or now - self.kept_at >= KEPT_EVERY_SECONDS
        if level is not Level.HEALTHY or not is_due or not sample.has_values:
            return self
        samples = (*self.samples, sample)[-KEPT_SAMPLES:]
        found = {name: self._follow(name, samples) for name in BASED_SIGNALS}
        return CalmSamples(samples, now, Baseline((name, value) for name, value in found.items() if value is not None))

    def _follow(self, name: str, samples: tuple[Measurements, ...]) -> float | None:
        before = self.baseline.get(name)
        values = [value for value in (value_of(sample, name) for sample in samples) if value is not None]
        if len(values) < LEAST_SAMPLES:
            return before
        found = float(median(values))
        return before if before is not None and abs(found - before) <= MOVED_SHARE * before else found


def find_low_bounds(thresholds: Thresholds, baseline: Baseline) -> Iterator[Finding]:
    """The bounds that are ignored because they are below twice the baseline, each with one that would count."""
    for name, normal in sorted(baseline.items()):
        low = [
            (level, bound) for level, bound in bounds_of(name, thresholds).items() if is_below_baseline(bound, normal)
        ]
        if not low:
            continue
        bounds = " and ".join(f"{level.state.lower()} ({describe_value(name, bound)})" for level, bound in low)
        verb, thing = ("is", "it") if len(low) == 1 else ("are", "them")
        message = (
            f"thresholds.{name}: {bounds} {verb} ignored, because {describe_signal(name)} is "
            f"{describe_value(name, normal)} while the server is Healthy; "
            f"set {thing} to {describe_value(name, BASELINE_FACTOR * normal)} or more"
        )
        yield Finding(Reason.THRESHOLD_BELOW_BASELINE, message)


def find_constant_bound(calm: CalmSamples, state: StateMemory, thresholds: Thresholds, now: float) -> Iterator[Finding]:
    """The bound that keeps a server from ever being Healthy: nobody knows yet whether that is trouble or its nature."""
    name, value = state.signal, value_of(state.sample, state.signal)
    bound = bounds_of(name, thresholds).get(Level.BROWNOUT)
    if calm.samples or name not in BASED_SIGNALS or name in calm.baseline or not state.level:
        return
    if value is None or bound is None or state.since is None or now - state.since < CONSTANT_SECONDS:
        return
    message = (
        f"thresholds.{name}: the server was never Healthy while this operator watched it; if "
        f"{describe_signal(name)} of {describe_value(name, value)} is normal there, set brownout to "
        f"{describe_value(name, BASELINE_FACTOR * value)} or more"
    )
    yield Finding(Reason.THRESHOLD_BELOW_BASELINE, message)
