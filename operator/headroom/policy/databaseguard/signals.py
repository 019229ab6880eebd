"""The measurements of a database, the level that each reaches, and the text for both."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum

from headroom.api.v1alpha1.common import GuardState
from headroom.api.v1alpha1.thresholds import ActiveLevels, CountLevels, ShareLevels, Thresholds
from headroom.model.frozen import FrozenMap

DROWNING = "drowning"
COMMIT_LATENCY, ACTIVE_PER_CORE = "commitLatency", "activePerCorePercent"
BASED_SIGNALS = (COMMIT_LATENCY, "lockWaiters", ACTIVE_PER_CORE, "oldestTransaction")
"""The measurements that have a baseline. Connections have none: the server's own limit says how many are too many."""
BASELINE_FACTOR = 2.0
"""A bound below so many times the baseline is ignored: the server reaches that on a normal day."""
Baseline = FrozenMap[str, float]
"""What the Healthy server measures, by signal; a signal of which it is not known is missing."""
NO_BASELINE = Baseline()


class Level(IntEnum):
    """The states that a measurement can stand for, in order."""

    HEALTHY = 0
    BROWNOUT = 1
    OVERLOADED = 2
    EMERGENCY = 3

    @property
    def state(self) -> GuardState:
        """The state of this level."""
        return _STATES[self]


_STATES = (GuardState.HEALTHY, GuardState.BROWNOUT, GuardState.OVERLOADED, GuardState.EMERGENCY)


@dataclass(frozen=True, slots=True)
class Measurements:
    """One sample of a database; None is what could not be measured, and counts as nothing.

    `is_drowning` stands for a database that answered a moment ago and now runs into deadlines.
    """

    commit_seconds: float | None = None
    lock_waiters: float | None = None
    active_per_core_percent: float | None = None
    connections_percent: float | None = None
    oldest_transaction_seconds: float | None = None
    is_drowning: bool = False

    @property
    def has_values(self) -> bool:
        """True when the server answered anything."""
        return any(
            value is not None
            for value in (
                self.commit_seconds,
                self.lock_waiters,
                self.active_per_core_percent,
                self.connections_percent,
                self.oldest_transaction_seconds,
            )
        )

    @property
    def is_blind(self) -> bool:
        """True when nothing at all was measured."""
        return not self.is_drowning and not self.has_values


def worst_of(one: Measurements, other: Measurements) -> Measurements:
    """The worse of each measurement; what only one has is taken from it."""
    return Measurements(
        commit_seconds=_larger(one.commit_seconds, other.commit_seconds),
        lock_waiters=_larger(one.lock_waiters, other.lock_waiters),
        active_per_core_percent=_larger(one.active_per_core_percent, other.active_per_core_percent),
        connections_percent=_larger(one.connections_percent, other.connections_percent),
        oldest_transaction_seconds=_larger(one.oldest_transaction_seconds, other.oldest_transaction_seconds),
        is_drowning=one.is_drowning or other.is_drowning,
    )


def fill_missing(sample: Measurements, known: Measurements) -> Measurements:
    """The sample, with what it lacks taken from `known`; missed deadlines are those of the sample alone."""
    return Measurements(
        commit_seconds=_either(sample.commit_seconds, known.commit_seconds),
        lock_waiters=_either(sample.lock_waiters, known.lock_waiters),
        active_per_core_percent=_either(sample.active_per_core_percent, known.active_per_core_percent),
        connections_percent=_either(sample.connections_percent, known.connections_percent),
        oldest_transaction_seconds=_either(sample.oldest_transaction_seconds, known.oldest_transaction_seconds),
        is_drowning=sample.is_drowning,
    )


def _either(one: float | None, other: float | None) -> float | None:
    return other if one is None else one


def _larger(one: float | None, other: float | None) -> float | None:
    return max((value for value in (one, other) if value is not None), default=None)


@dataclass(frozen=True, slots=True)
class Verdict:
    """A level and the measurement it follows from (the threshold's field), with value and bound in its own unit."""

    level: Level
    signal: str
    value: float | None = None
    bound: float | None = None

    @property
    def description(self) -> str:
        """The measurement as a person reads it, such as `active per core 410 % >= 300 %`."""
        if self.signal == DROWNING:
            return _SIGNALS[DROWNING][0]
        if self.value is None or self.bound is None:
            return ""
        value, bound = describe_value(self.signal, self.value), describe_value(self.signal, self.bound)
        return f"{describe_signal(self.signal)} {value} >= {bound}"


def judge(
    sample: Measurements, thresholds: Thresholds, *, factor: float = 1.0, baseline: Baseline = NO_BASELINE
) -> Verdict:
    """The worst level any measurement reaches, with every threshold multiplied by `factor`."""
    worst = Verdict(Level.OVERLOADED, DROWNING) if sample.is_drowning else Verdict(Level.HEALTHY, "")
    for name, value, levels in _rungs(sample, thresholds, baseline):
        if value is None:
            continue
        reached = max((level for level, bound in levels.items() if value >= bound * factor), default=Level.HEALTHY)
        if reached > worst.level:
            worst = Verdict(reached, name, float(value), levels[reached] * factor)
    return worst


def level_of(
    sample: Measurements,
    signal: str,
    thresholds: Thresholds,
    *,
    factor: float = 1.0,
    baseline: Baseline = NO_BASELINE,
) -> Level:
    """The level that one measurement reaches by itself; Healthy while it is not measured."""
    for name, value, levels in _rungs(sample, thresholds, baseline):
        if name == signal and value is not None:
            return max((level for level, bound in levels.items() if value >= bound * factor), default=Level.HEALTHY)
    return Level.HEALTHY


def value_of(sample: Measurements, signal: str) -> float | None:
    """The measurement of that name, None where there is none."""
    return next((value for name, value, _ in _rungs(sample, Thresholds()) if name == signal), None)


def bound_of(signal: str, level: Level, thresholds: Thresholds) -> float | None:
    """Where that measurement reaches that level; None where it never does."""
    return bounds_of(signal, thresholds).get(level)


def bounds_of(signal: str, thresholds: Thresholds) -> Mapping[Level, float]:
    """The bounds of that measurement, in its own unit, whatever its baseline."""
    return next((levels for name, _, levels in _rungs(Measurements(), thresholds) if name == signal), {})


def is_below_baseline(bound: float, normal: float) -> bool:
    """Whether a bound is too near to what the Healthy server measures."""
    return bound < BASELINE_FACTOR * normal


def describe_signal(signal: str) -> str:
    """The name of a measurement, as a person reads it."""
    return _SIGNALS[signal][0] if signal in _SIGNALS else signal


def describe_value(signal: str, value: float) -> str:
    """A value of that measurement with its unit, such as `4.7 ms`."""
    _, scale, unit = _SIGNALS[signal]
    scaled = value * scale
    return f"{scaled:.0f}{unit}" if scaled >= _SHOWN_WHOLE else f"{scaled:.2g}{unit}"


_SHOWN_WHOLE = 10.0
_SIGNALS: Mapping[str, tuple[str, float, str]] = {
    COMMIT_LATENCY: ("commit latency", 1000.0, " ms"),
    "lockWaiters": ("lock waiters", 1.0, ""),
    ACTIVE_PER_CORE: ("active per core", 1.0, " %"),
    "connectionsPercent": ("connections in use", 1.0, " %"),
    "oldestTransaction": ("oldest transaction", 1.0, " s"),
    DROWNING: ("missed deadlines", 1.0, ""),
}
"""Of each measurement: its text, the factor from its own unit, and the unit shown."""

SIGNALS = tuple(name for name in _SIGNALS if name != DROWNING)
"""The measurements that have a value."""
_Rung = tuple[str, float | None, Mapping[Level, float]]


def _rungs(sample: Measurements, thresholds: Thresholds, baseline: Baseline = NO_BASELINE) -> tuple[_Rung, ...]:
    """Of each measurement: its name, its value, and the bounds of the levels that are not ignored."""
    latency, oldest = thresholds.commit_latency, thresholds.oldest_transaction
    of_latency = [bound.total_seconds() for bound in (latency.brownout, latency.overloaded, latency.emergency)]
    active, shares = thresholds.active_per_core_percent, thresholds.connections_percent
    rungs = (
        (COMMIT_LATENCY, sample.commit_seconds, _levels(*of_latency)),
        ("lockWaiters", sample.lock_waiters, _levels(*_bounds(thresholds.lock_waiters))),
        (ACTIVE_PER_CORE, sample.active_per_core_percent, _levels(*_bounds(active))),
        ("connectionsPercent", sample.connections_percent, _levels(*_bounds(shares))),
        ("oldestTransaction", sample.oldest_transaction_seconds, _levels(oldest.brownout.total_seconds())),
    )
    if not baseline:
        return rungs
    return tuple((name, value, _leave_out(levels, baseline.get(name, 0.0))) for name, value, levels in rungs)


def _leave_out(levels: Mapping[Level, float], normal: float) -> dict[Level, float]:
    return {level: bound for level, bound in levels.items() if not is_below_baseline(bound, normal)}


def _levels(*bounds: float) -> dict[Level, float]:
    """Bounds of Brownout, Overloaded, Emergency; what is not given is never reached."""
    return dict(zip((Level.BROWNOUT, Level.OVERLOADED, Level.EMERGENCY), bounds, strict=False))


def _bounds(levels: CountLevels | ActiveLevels | ShareLevels) -> tuple[float, float, float]:
    return float(levels.brownout), float(levels.overloaded), float(levels.emergency)
