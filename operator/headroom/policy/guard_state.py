"""The state of a database from its measurements: entered on two of three samples, left slowly, one level at a time."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import IntEnum

from headroom.api.v1alpha1.databaseguard_status import GuardState
from headroom.api.v1alpha1.thresholds import ActiveLevels, CountLevels, ShareLevels, Thresholds

SAMPLES_LOOKED_AT = 3
SAMPLES_TO_ENTER = 2
LEAVE_FACTOR = 0.7
LEAVE_AFTER_SECONDS = 120.0


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
    def is_blind(self) -> bool:
        """True when nothing at all was measured."""
        return not self.is_drowning and all(
            value is None
            for value in (
                self.commit_seconds,
                self.lock_waiters,
                self.active_per_core_percent,
                self.connections_percent,
                self.oldest_transaction_seconds,
            )
        )


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


def _larger(one: float | None, other: float | None) -> float | None:
    return max((value for value in (one, other) if value is not None), default=None)


@dataclass(frozen=True, slots=True)
class Verdict:
    """A level and the measurement it follows from (the threshold's field), in `said` with value and bound."""

    level: Level
    signal: str
    said: str = ""


@dataclass(frozen=True, slots=True)
class StateMemory:
    """What is remembered between samples: the level (None is Unknown), the last verdicts, since when it is calm.

    `said` is the measurement that the level was entered by; empty where it was not entered by one of this process.
    """

    level: Level | None = None
    signal: str = ""
    verdicts: tuple[Verdict, ...] = ()
    calm_since: float | None = None
    said: str = ""

    @property
    def state(self) -> GuardState:
        """The state to publish."""
        return GuardState.UNKNOWN if self.level is None else self.level.state


def advance_state(memory: StateMemory, sample: Measurements, thresholds: Thresholds, now: float) -> StateMemory:
    """Take one sample into account; `now` is monotonic seconds.

    A sample without any measurement makes the state Unknown and empties the memory: what comes after a gap is judged
    anew.
    """
    if sample.is_blind:
        return StateMemory()
    verdicts = (*memory.verdicts, judge(sample, thresholds))[-SAMPLES_LOOKED_AT:]
    entered = _second_worst(verdicts)
    if memory.level is None:
        return _leave_unknown(verdicts, entered)
    if entered is not None and entered.level > memory.level:
        return StateMemory(entered.level, entered.signal, verdicts, said=entered.said)
    return _relax(replace(memory, verdicts=verdicts), sample, thresholds, now)


def judge(sample: Measurements, thresholds: Thresholds, *, factor: float = 1.0) -> Verdict:
    """The worst level any measurement reaches, with every threshold multiplied by `factor`."""
    worst = Verdict(Level.OVERLOADED, "drowning") if sample.is_drowning else Verdict(Level.HEALTHY, "")
    for name, value, levels in _ladders(sample, thresholds):
        reached = max((level for level, bound in levels.items() if value >= bound * factor), default=Level.HEALTHY)
        if reached > worst.level:
            worst = Verdict(reached, name, _say(name, value, levels[reached] * factor))
    return worst


def _ladders(sample: Measurements, thresholds: Thresholds) -> list[tuple[str, float, Mapping[Level, float]]]:
    latency = thresholds.commit_latency
    rungs: list[tuple[str, float | None, Mapping[Level, float]]] = [
        (
            "commitLatency",
            sample.commit_seconds,
            _levels(
                latency.brownout.total_seconds(),
                latency.overloaded.total_seconds(),
                latency.emergency.total_seconds(),
            ),
        ),
        ("lockWaiters", sample.lock_waiters, _levels(*_bounds(thresholds.lock_waiters))),
        (
            "activePerCorePercent",
            sample.active_per_core_percent,
            _levels(*_bounds(thresholds.active_per_core_percent)),
        ),
        ("connectionsPercent", sample.connections_percent, _levels(*_bounds(thresholds.connections_percent))),
        (
            "oldestTransaction",
            sample.oldest_transaction_seconds,
            _levels(thresholds.oldest_transaction.brownout.total_seconds()),
        ),
    ]
    return [(name, float(value), levels) for name, value, levels in rungs if value is not None]


def _say(name: str, value: float, bound: float) -> str:
    """The measurement as a person reads it, such as `active per core 410 % >= 300 %`."""
    words, scale, unit = _UNITS[name]
    return f"{words} {value * scale:.0f}{unit} >= {bound * scale:.0f}{unit}"


_UNITS: Mapping[str, tuple[str, float, str]] = {
    "commitLatency": ("commit latency", 1000.0, " ms"),
    "lockWaiters": ("lock waiters", 1.0, ""),
    "activePerCorePercent": ("active per core", 1.0, " %"),
    "connectionsPercent": ("connections in use", 1.0, " %"),
    "oldestTransaction": ("oldest transaction", 1.0, " s"),
}
"""Of each measurement: its words, the factor from its own unit, and the unit shown."""


def _levels(*bounds: float) -> dict[Level, float]:
    """Bounds of Brownout, Overloaded, Emergency; what is not given is never reached."""
    return dict(zip((Level.BROWNOUT, Level.OVERLOADED, Level.EMERGENCY), bounds, strict=False))


def _bounds(levels: CountLevels | ActiveLevels | ShareLevels) -> tuple[float, float, float]:
    return float(levels.brownout), float(levels.overloaded), float(levels.emergency)


def _second_worst(verdicts: Sequence[Verdict]) -> Verdict | None:
    """The level that two of the last three samples reach at least."""
    ranked = sorted(verdicts, key=lambda verdict: verdict.level, reverse=True)
    return ranked[SAMPLES_TO_ENTER - 1] if len(ranked) >= SAMPLES_TO_ENTER else None


def _leave_unknown(verdicts: tuple[Verdict, ...], entered: Verdict | None) -> StateMemory:
    """One calm sample is enough to call a database healthy, two alike to call it anything else."""
    if entered is not None:
        return StateMemory(entered.level, entered.signal, verdicts, said=entered.said)
    first = verdicts[-1]
    return StateMemory(first.level if first.level is Level.HEALTHY else None, "", verdicts)


def _relax(memory: StateMemory, sample: Measurements, thresholds: Thresholds, now: float) -> StateMemory:
    """Step one level down once every measurement has stayed below the level's lowered bounds for long enough."""
    level = memory.level
    if level is None or level is Level.HEALTHY:
        return replace(memory, calm_since=None, signal="", said="")
    if judge(sample, thresholds, factor=LEAVE_FACTOR).level >= level:
        return replace(memory, calm_since=None)
    since = now if memory.calm_since is None else memory.calm_since
    if now - since < LEAVE_AFTER_SECONDS:
        return replace(memory, calm_since=since)
    lower = Level(level - 1)
    return replace(memory, level=lower, calm_since=now, signal=memory.signal if lower else "", said="")
