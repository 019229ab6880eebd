"""The state of a database from its measurements: entered on two of three samples, left slowly, one level at a time.

A missing measurement does not mean calm. A signal that is not measured any more counts at its last value. A server that
cannot be measured at all keeps its level for a while, though nobody is shown it.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace

from headroom.api.v1alpha1.common import GuardState
from headroom.api.v1alpha1.thresholds import Thresholds
from headroom.policy.databaseguard.signals import (
    NO_BASELINE,
    SIGNALS,
    Baseline,
    Level,
    Measurements,
    Verdict,
    fill_missing,
    judge,
    level_of,
    value_of,
)

SAMPLES_LOOKED_AT = 3
SAMPLES_TO_ENTER = 2
LEAVE_FACTOR = 0.7
LEAVE_AFTER_SECONDS = 120.0
GAP_SECONDS = 300.0
"""A level outlasts a gap without any measurement of so long. After a longer one the server may be another."""


@dataclass(frozen=True, slots=True)
class StateMemory:
    """What is remembered between samples: the level (None is Unknown), the last verdicts, since when it is calm.

    `entered` is the measurement that the level was entered by, None where an earlier process entered it;
    `came_down_from` is the level above, where the level was reached by leaving that. Times are monotonic seconds:
    `since` of the level, `sampled_at` of `sample`, the last one. `known` has the last value of each measurement,
    `measured_at` is when the server answered last, and `missing` names the signal that keeps the level because it is
    not measured. `baseline` is the one that the last sample was evaluated with.
    """

    level: Level | None = None
    signal: str = ""
    verdicts: tuple[Verdict, ...] = ()
    calm_since: float | None = None
    entered: Verdict | None = None
    came_down_from: Level | None = None
    since: float | None = None
    sample: Measurements = field(default_factory=Measurements)
    sampled_at: float | None = None
    known: Measurements = field(default_factory=Measurements)
    measured_at: float | None = None
    missing: str = ""
    baseline: Baseline = NO_BASELINE

    @property
    def state(self) -> GuardState:
        """The state to publish."""
        return GuardState.UNKNOWN if self.level is None else self.level.state

    def stay(self, before: "StateMemory") -> "StateMemory":
        """With the last sample, but still at the level of `before`; the samples before it are not believed."""
        return replace(
            before,
            verdicts=self.verdicts[-1:],
            calm_since=None,
            sample=self.sample,
            sampled_at=self.sampled_at,
            known=self.known,
            measured_at=self.measured_at,
            baseline=self.baseline,
        )


def advance_state(
    memory: StateMemory,
    sample: Measurements,
    thresholds: Thresholds,
    now: float,
    *,
    ignored: Collection[str] = (),
    baseline: Baseline = NO_BASELINE,
) -> StateMemory:
    """Take one sample into account; `now` is monotonic seconds, `ignored` are signals that nobody asks for any more.

    A sample without any measurement is not a state. What comes after it is not calmer than what was before, unless the
    gap is long.
    """
    memory = replace(memory, baseline=baseline)
    after = _advance(memory, sample, thresholds, now, ignored)
    since = memory.since if after.level is memory.level else now
    known = fill_missing(sample, after.known if sample.is_blind else memory.known)
    # Missed deadlines alone show no server: the gap began with the last answer.
    measured_at = now if sample.has_values else memory.measured_at
    after = replace(after, since=since, sample=sample, sampled_at=now, known=known, measured_at=measured_at)
    return replace(after, baseline=baseline)


def _advance(
    memory: StateMemory, sample: Measurements, thresholds: Thresholds, now: float, ignored: Collection[str]
) -> StateMemory:
    if sample.is_blind:
        return _outlast(memory, now)
    verdicts = (*memory.verdicts, judge(sample, thresholds, baseline=memory.baseline))[-SAMPLES_LOOKED_AT:]
    entered = _second_worst(verdicts)
    if memory.level is None:
        return _leave_unknown(verdicts, entered)
    if entered is not None and entered.level > memory.level:
        return StateMemory(entered.level, entered.signal, verdicts, entered=entered)
    return _relax(replace(memory, verdicts=verdicts), sample, thresholds, now, ignored)


def _outlast(memory: StateMemory, now: float) -> StateMemory:
    """Nothing was measured: a level above Healthy stays for a while, and waits for its calm from the start."""
    if memory.level is None or memory.level is Level.HEALTHY or memory.measured_at is None:
        return StateMemory()
    if now - memory.measured_at >= GAP_SECONDS:
        return StateMemory()
    return replace(memory, verdicts=(), calm_since=None, missing="")


def _second_worst(verdicts: Sequence[Verdict]) -> Verdict | None:
    """The level that two of the last three samples reach at least."""
    ranked = sorted(verdicts, key=lambda verdict: verdict.level, reverse=True)
    return ranked[SAMPLES_TO_ENTER - 1] if len(ranked) >= SAMPLES_TO_ENTER else None


def _leave_unknown(verdicts: tuple[Verdict, ...], entered: Verdict | None) -> StateMemory:
    """One calm sample is enough to call a database healthy, two alike to call it anything else."""
    if entered is not None:
        return StateMemory(entered.level, entered.signal, verdicts, entered=entered)
    first = verdicts[-1]
    return StateMemory(first.level if first.level is Level.HEALTHY else None, "", verdicts)


def _relax(
    memory: StateMemory, sample: Measurements, thresholds: Thresholds, now: float, ignored: Collection[str]
) -> StateMemory:
    """Step one level down once every measurement has stayed below the level's lowered bounds for long enough."""
    level = memory.level
    if level is None or level is Level.HEALTHY:
        return replace(memory, calm_since=None, signal="", entered=None, came_down_from=None, missing="")
    if judge(sample, thresholds, factor=LEAVE_FACTOR, baseline=memory.baseline).level >= level:
        return replace(memory, calm_since=None, missing="")
    missing = _find_missing(memory, sample, thresholds, ignored)
    if missing:
        return replace(memory, calm_since=None, missing=missing)
    since = now if memory.calm_since is None else memory.calm_since
    if now - since < LEAVE_AFTER_SECONDS:
        return replace(memory, calm_since=since, missing="")
    lower = Level(level - 1)
    signal = memory.signal if lower else ""
    return replace(memory, level=lower, calm_since=now, signal=signal, entered=None, came_down_from=level, missing="")


def _find_missing(memory: StateMemory, sample: Measurements, thresholds: Thresholds, ignored: Collection[str]) -> str:
    """The signal that is not measured now and was not calm when it was measured last; empty if there is none.

    A new process has no last values: there the signal that the level was entered by has to be measured first.
    """
    known = fill_missing(sample, memory.known)
    for signal in SIGNALS:
        if signal in ignored or value_of(sample, signal) is not None:
            continue
        reached = level_of(known, signal, thresholds, factor=LEAVE_FACTOR, baseline=memory.baseline)
        if reached >= (memory.level or Level.HEALTHY) or (signal == memory.signal and value_of(known, signal) is None):
            return signal
    return ""
