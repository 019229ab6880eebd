"""The text about a guard's state: since when, by what, how it is now, and when it goes down again."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

from headroom.api.v1alpha1.thresholds import Thresholds
from headroom.policy.databaseguard.signals import (
    Level,
    Verdict,
    bound_of,
    describe_signal,
    describe_value,
    judge,
    value_of,
)
from headroom.policy.databaseguard.state import LEAVE_AFTER_SECONDS, LEAVE_FACTOR, StateMemory

RULE = f"{LEAVE_AFTER_SECONDS:.0f} s with every signal below {LEAVE_FACTOR:g} of its bound"


@dataclass(frozen=True, slots=True)
class StateTimes:
    """Moments of a state by the wall clock, in UTC: its beginning, its last sample, and since when all are calm."""

    since: datetime | None = None
    sampled_at: datetime | None = None
    calm_since: datetime | None = None


def describe_state(memory: StateMemory, thresholds: Thresholds, times: StateTimes) -> str:
    """Why the state is above Healthy and how it is left; every time is absolute, so that it stays true."""
    level = memory.level
    if level is None or level is Level.HEALTHY:
        return ""
    return "; ".join((_describe_cause(memory, level, times), *_describe_way_out(memory, level, thresholds, times)))


def describe_change(before: StateMemory, after: StateMemory, thresholds: Thresholds) -> str:
    """One move of the state and the measurement behind it."""
    return ": ".join(filter(None, (f"{before.state} -> {after.state}", _describe_why(before, after, thresholds))))


def is_worse(before: StateMemory, after: StateMemory) -> bool:
    """True when the move is upwards; from Unknown, when it ends above Healthy."""
    return after.level is not None and after.level > (before.level or Level.HEALTHY)


def _describe_why(before: StateMemory, after: StateMemory, thresholds: Thresholds) -> str:
    if after.level is None:
        return "nothing can be measured"
    if after.entered is not None:
        return after.entered.description
    if before.level is None or after.level >= before.level:
        return ""
    calm = _describe_calm(before.signal, before.level, after, thresholds)
    return f"{RULE}{calm}"


def _describe_calm(signal: str, level: Level, memory: StateMemory, thresholds: Thresholds) -> str:
    value, bound = value_of(memory.sample, signal), bound_of(signal, level, thresholds)
    if value is None or bound is None:
        return ""
    return (
        f"; {describe_signal(signal)} {describe_value(signal, value)} < {describe_value(signal, bound * LEAVE_FACTOR)}"
    )


def _describe_cause(memory: StateMemory, level: Level, times: StateTimes) -> str:
    since = f" since {_clock(times.since)}" if times.since is not None else ""
    return f"{level.state}{since}{_describe_entry(memory)}"


def _describe_entry(memory: StateMemory) -> str:
    entered = memory.entered
    if memory.came_down_from is not None:
        return f", down from {memory.came_down_from.state}"
    if entered is None or entered.value is None or entered.bound is None:
        return f" by {describe_signal(memory.signal)}" if memory.signal else ""
    value, bound = describe_value(entered.signal, entered.value), describe_value(entered.signal, entered.bound)
    return f" by {describe_signal(entered.signal)} {value} (bound {bound})"


def _describe_way_out(memory: StateMemory, level: Level, thresholds: Thresholds, times: StateTimes) -> Iterator[str]:
    lower = Level(level - 1).state
    if times.calm_since is not None:
        yield from _describe_sample(_below(memory, level, thresholds), times)
        earliest = times.calm_since + timedelta(seconds=LEAVE_AFTER_SECONDS)
        yield f"{lower} at {_clock(earliest)} at the earliest, after {RULE}"
        return
    if memory.missing:
        yield f"{describe_signal(memory.missing)} is not measured now, and the state stays until it is{_last(memory)}"
        yield f"{lower} after {RULE}"
        return
    holds = judge(memory.sample, thresholds, factor=LEAVE_FACTOR, baseline=memory.baseline)
    yield from _describe_sample(_above(holds, level, thresholds) if holds.level >= level else "", times)
    yield f"{lower} after {RULE}"


def _last(memory: StateMemory) -> str:
    value = value_of(memory.known, memory.missing)
    return "" if value is None else f"; its last value was {describe_value(memory.missing, value)}"


def _describe_sample(text: str, times: StateTimes) -> Iterator[str]:
    if text and times.sampled_at is not None:
        yield f"at {_clock(times.sampled_at)} {text}"


def _below(memory: StateMemory, level: Level, thresholds: Thresholds) -> str:
    value, bound = value_of(memory.sample, memory.signal), bound_of(memory.signal, level, thresholds)
    if value is None or bound is None:
        return ""
    limit = describe_value(memory.signal, bound * LEAVE_FACTOR)
    return f"{describe_signal(memory.signal)} {describe_value(memory.signal, value)}, below {limit}"


def _above(holds: Verdict, level: Level, thresholds: Thresholds) -> str:
    """What keeps the state; the bound is of the level that is to be left, though more may be reached."""
    bound = bound_of(holds.signal, level, thresholds)
    if holds.value is None or bound is None:
        return holds.description
    value, limit = describe_value(holds.signal, holds.value), describe_value(holds.signal, bound * LEAVE_FACTOR)
    return f"{describe_signal(holds.signal)} {value}, not below {limit}"


def _clock(moment: datetime) -> str:
    return f"{moment:%H:%M:%S} UTC"
