"""The state of a database from its measurements: entered on two of three samples, left slowly, one level at a time."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from headroom.api.v1alpha1.common import GuardState
from headroom.api.v1alpha1.thresholds import Thresholds
from headroom.policy.databaseguard.signals import Level, Measurements, Verdict, judge

SAMPLES_LOOKED_AT = 3
SAMPLES_TO_ENTER = 2
LEAVE_FACTOR = 0.7
LEAVE_AFTER_SECONDS = 120.0


@dataclass(frozen=True, slots=True)
class StateMemory:
    """What is remembered between samples: the level (None is Unknown), the last verdicts, since when it is calm.

    `entered` is the measurement that the level was entered by, None where an earlier process entered it;
    `came_down_from` is the level above, where the level was reached by leaving that. Times are monotonic seconds:
    `since` of the level, `sampled_at` of `sample`, the last one.
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

    @property
    def state(self) -> GuardState:
        """The state to publish."""
        return GuardState.UNKNOWN if self.level is None else self.level.state


def advance_state(memory: StateMemory, sample: Measurements, thresholds: Thresholds, now: float) -> StateMemory:
    """Take one sample into account; `now` is monotonic seconds.

    A sample without any measurement makes the state Unknown and empties the memory: what comes after a gap starts from
    nothing.
    """
    after = _advance(memory, sample, thresholds, now)
    since = memory.since if after.level is memory.level else now
    return replace(after, since=since, sample=sample, sampled_at=now)


def _advance(memory: StateMemory, sample: Measurements, thresholds: Thresholds, now: float) -> StateMemory:
    if sample.is_blind:
        return StateMemory()
    verdicts = (*memory.verdicts, judge(sample, thresholds))[-SAMPLES_LOOKED_AT:]
    entered = _second_worst(verdicts)
    if memory.level is None:
        return _leave_unknown(verdicts, entered)
    if entered is not None and entered.level > memory.level:
        return StateMemory(entered.level, entered.signal, verdicts, entered=entered)
    return _relax(replace(memory, verdicts=verdicts), sample, thresholds, now)


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


def _relax(memory: StateMemory, sample: Measurements, thresholds: Thresholds, now: float) -> StateMemory:
    """Step one level down once every measurement has stayed below the level's lowered bounds for long enough."""
    level = memory.level
    if level is None or level is Level.HEALTHY:
        return replace(memory, calm_since=None, signal="", entered=None, came_down_from=None)
    if judge(sample, thresholds, factor=LEAVE_FACTOR).level >= level:
        return replace(memory, calm_since=None)
    since = now if memory.calm_since is None else memory.calm_since
    if now - since < LEAVE_AFTER_SECONDS:
        return replace(memory, calm_since=since)
    lower = Level(level - 1)
    signal = memory.signal if lower else ""
    return replace(memory, level=lower, calm_since=now, signal=signal, entered=None, came_down_from=level)
