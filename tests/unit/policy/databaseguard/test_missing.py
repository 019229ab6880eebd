"""What is not measured is not calm: a level stays while a signal that would hold it is missing."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headroom.api.v1alpha1.common import GuardState
from headroom.api.v1alpha1.thresholds import Thresholds
from headroom.policy.databaseguard.describe import StateTimes, describe_state
from headroom.policy.databaseguard.signals import Level, Measurements
from headroom.policy.databaseguard.state import GAP_SECONDS, StateMemory, advance_state
from tests.unit.policy.databaseguard.make import UNREACHABLE, GuardPolicyWorld, make_counts, make_spec

THRESHOLDS, SPAN = Thresholds(), 5.0
CALM = Measurements(0.002, 0, 10, 10, 0)
BAD = {
    "commit_seconds": 1.2,
    "lock_waiters": 20,
    "active_per_core_percent": 400,
    "connections_percent": 90,
}
"""Each reaches Overloaded, and is calm at the value of `CALM`."""


def advance(memory: StateMemory, *samples: Measurements, start: float = 0.0, **more: Any) -> StateMemory:
    for number, sample in enumerate(samples):
        memory = advance_state(memory, sample, THRESHOLDS, start + number * SPAN, **more)
    return memory


def overloaded_by(name: str) -> StateMemory:
    return advance(StateMemory(), *[replace(CALM, **{name: BAD[name]})] * 2)


@pytest.mark.parametrize("name", BAD)
def test_a_signal_that_is_not_measured_any_more_holds_its_level(name: str) -> None:
    memory = overloaded_by(name)
    assert memory.level is Level.OVERLOADED
    held = advance(memory, *[replace(CALM, **{name: None})] * 200, start=10.0)
    assert (held.level, held.missing) == (Level.OVERLOADED, held.signal)
    left = advance(held, *[CALM] * 60, start=1010.0)
    assert (left.level, left.missing) == (Level.HEALTHY, "")


@pytest.mark.parametrize("name", BAD)
def test_a_signal_that_was_calm_when_it_was_measured_last_holds_nothing(name: str) -> None:
    other = next(each for each in BAD if each != name)
    memory = overloaded_by(other)
    assert advance(memory, *[replace(CALM, **{name: None})] * 60, start=10.0).level is Level.HEALTHY


def test_the_second_of_two_bad_signals_holds_too() -> None:
    """The level was entered by lock waiters; commits were as slow, and are not measured now."""
    memory = advance(StateMemory(), *[replace(CALM, lock_waiters=20, commit_seconds=1.2)] * 2)
    held = advance(memory, *[replace(CALM, commit_seconds=None)] * 100, start=10.0)
    assert (held.level, held.missing) == (Level.OVERLOADED, "commitLatency")


def test_a_new_process_waits_for_the_signal_that_the_level_was_entered_by() -> None:
    restored = StateMemory(Level.OVERLOADED, "commitLatency")
    held = advance(restored, *[replace(CALM, commit_seconds=None)] * 100)
    assert held.level is Level.OVERLOADED
    assert advance(held, *[CALM] * 60, start=500.0).level is Level.HEALTHY


def test_a_signal_that_nobody_asks_for_any_more_holds_nothing() -> None:
    unmeasured = [replace(CALM, commit_seconds=None)] * 60
    memory = advance(overloaded_by("commit_seconds"), *unmeasured, start=10.0, ignored=("commitLatency",))
    assert memory.level is Level.HEALTHY


def test_the_message_names_what_is_missing_and_its_last_value() -> None:
    held = advance(overloaded_by("commit_seconds"), replace(CALM, commit_seconds=None), start=10.0)
    text = describe_state(held, THRESHOLDS, StateTimes())
    assert "commit latency is not measured now, and the state stays until it is; its last value was 1200 ms" in text


def test_a_level_outlasts_a_short_gap_and_not_a_long_one() -> None:
    memory = advance(overloaded_by("commit_seconds"), *[Measurements()] * 20, start=10.0)
    assert advance(memory, CALM, start=110.0).level is Level.OVERLOADED
    gap = round(GAP_SECONDS / SPAN)
    memory = advance(overloaded_by("commit_seconds"), *[Measurements()] * (gap + 1), start=10.0)
    assert advance(memory, CALM, start=GAP_SECONDS + 20).level is Level.HEALTHY


def test_no_gap_counts_as_calm() -> None:
    memory = advance(overloaded_by("commit_seconds"), *[CALM] * 20, start=10.0)
    memory = advance(memory, *[Measurements()] * 20, start=110.0)
    assert advance(memory, *[CALM] * 20, start=210.0).level is Level.OVERLOADED


@given(st.lists(st.sampled_from([CALM, Measurements(), replace(CALM, commit_seconds=None)]), max_size=60))
def test_a_level_is_left_only_after_two_calm_minutes_that_were_measured(history: list[Measurements]) -> None:
    memory, calm = overloaded_by("commit_seconds"), 0
    for number, sample in enumerate(history):
        memory = advance(memory, sample, start=10.0 + number * SPAN)
        calm = calm + 1 if sample is CALM else 0
        if memory.level is not Level.OVERLOADED:
            return
        assert calm <= 25
    has_calm = any(all(one is CALM for one in history[at : at + 25]) for at in range(len(history) - 24))
    assert not has_calm


def test_an_overload_by_commits_stays_while_no_commit_is_measured() -> None:
    """The canary can end for reasons that say nothing of the server; its silence must not say that all is well."""
    world = GuardPolicyWorld(commit_seconds=1.4)
    assert world.run(30).state is GuardState.OVERLOADED
    world.is_canary_silent = True
    assert world.run(1000).state is GuardState.OVERLOADED
    world.is_canary_silent, world.commit_seconds = False, 0.002
    assert world.run(300).state is GuardState.HEALTHY


def test_a_gap_shows_no_level_and_forgets_none() -> None:
    world = GuardPolicyWorld(commit_seconds=1.4)
    world.run(30)
    world.problem, world.commit_seconds = UNREACHABLE, 0.002
    assert world.run(60).state is GuardState.UNKNOWN
    world.problem = None
    assert world.run(30).state is GuardState.OVERLOADED
    assert world.run(300).state is GuardState.HEALTHY


def test_a_canary_that_is_switched_off_releases_its_level() -> None:
    world = GuardPolicyWorld(commit_seconds=1.4)
    world.run(30)
    world.spec = make_spec(canary={"enabled": False})
    assert world.run(timedelta(minutes=5).total_seconds()).state is GuardState.HEALTHY


def test_counts_that_may_not_be_read_any_more_hold_their_level() -> None:
    world = GuardPolicyWorld(counts=make_counts(lock_waiters=20))
    assert world.run(30).state is GuardState.OVERLOADED
    world.counts = make_counts()
    world.server = replace(world.server, missing_rights=("pg_monitor",))
    assert world.run(600).state is GuardState.OVERLOADED
    world.server = replace(world.server, missing_rights=())
    assert world.run(300).state is GuardState.HEALTHY
