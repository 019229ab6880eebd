"""The guard's state machine: two of three to enter, 0.7 for two minutes to leave, one level at a time."""

import itertools
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headroom.api.v1alpha1.common import GuardState
from headroom.api.v1alpha1.thresholds import LatencyLevels, Thresholds
from headroom.policy.databaseguard.signals import Level, Measurements, judge, worst_of
from headroom.policy.databaseguard.state import LEAVE_AFTER_SECONDS, StateMemory, advance_state

THRESHOLDS = Thresholds()
SPAN = 5.0


def commits(*seconds: float | None, start: StateMemory | None = None) -> list[StateMemory]:
    """The states after each sample, five seconds apart."""
    memory, states = start or StateMemory(), []
    for number, value in enumerate(seconds):
        sample = Measurements(commit_seconds=value)
        memory = advance_state(memory, sample, THRESHOLDS, number * SPAN)
        states.append(memory)
    return states


def levels(states: list[StateMemory]) -> list[Level | None]:
    return [memory.level for memory in states]


def test_one_slow_sample_changes_nothing() -> None:
    assert levels(commits(0.01, 2.0, 0.01, 0.01)) == [Level.HEALTHY] * 4


def test_two_of_three_enter_at_once_at_the_level_both_reach() -> None:
    states = commits(0.01, 0.3, 6.0)
    assert levels(states) == [Level.HEALTHY, Level.HEALTHY, Level.BROWNOUT]
    assert states[-1].signal == "commitLatency"
    assert levels(commits(0.01, 6.0, 0.01, 6.0))[-1] is Level.EMERGENCY
    assert levels(commits(0.01, 6.0, 0.01, 0.01, 6.0))[-1] is Level.HEALTHY


ENTRIES = [
    (Measurements(commit_seconds=6.0), "commit latency 6000 ms >= 5000 ms"),
    (Measurements(lock_waiters=12), "lock waiters 12 >= 5"),
    (Measurements(active_per_core_percent=410), "active per core 410 % >= 300 %"),
    (Measurements(connections_percent=93), "connections in use 93 % >= 85 %"),
    (Measurements(oldest_transaction_seconds=4000), "oldest transaction 4000 s >= 600 s"),
    (Measurements(is_drowning=True), "missed deadlines"),
]


@pytest.mark.parametrize(("sample", "text"), ENTRIES)
def test_a_level_is_entered_with_the_value_and_the_bound_it_reached(sample: Measurements, text: str) -> None:
    memory = StateMemory()
    for number in range(2):
        memory = advance_state(memory, sample, THRESHOLDS, number * SPAN)
    assert memory.level is not Level.HEALTHY
    assert memory.entered is not None
    assert memory.entered.description == text


def test_a_lower_level_is_not_explained_by_what_the_higher_one_was_entered_by() -> None:
    states = commits(6.0, 6.0, *[0.01] * 100)
    assert states[1].entered is not None
    lower = [memory for memory in states if memory.level in (Level.OVERLOADED, Level.BROWNOUT)]
    assert {(memory.entered, memory.came_down_from) for memory in lower} == {
        (None, Level.EMERGENCY),
        (None, Level.OVERLOADED),
    }
    assert (states[-1].level, states[-1].came_down_from) == (Level.HEALTHY, None)


def test_a_state_began_when_it_was_entered_and_a_calm_sample_does_not_move_that() -> None:
    states = commits(0.01, 2.0, 2.0, 0.01, 0.01)
    assert [memory.since for memory in states] == [0, 0, 2 * SPAN, 2 * SPAN, 2 * SPAN]
    assert [memory.sampled_at for memory in states] == [number * SPAN for number in range(5)]


def test_from_unknown_one_calm_sample_is_healthy_and_one_bad_one_is_not_enough() -> None:
    assert levels(commits(0.01)) == [Level.HEALTHY]
    assert levels(commits(2.0, 2.0)) == [None, Level.OVERLOADED]


def test_leaving_takes_two_calm_minutes_a_level() -> None:
    calm = [0.01] * 60
    states = levels(commits(6.0, 6.0, *calm))
    assert states[1] is Level.EMERGENCY
    changes = [number for number in range(2, len(states)) if states[number] is not states[number - 1]]
    assert [states[number] for number in changes] == [Level.OVERLOADED, Level.BROWNOUT]
    assert all(later - earlier >= LEAVE_AFTER_SECONDS / SPAN for earlier, later in itertools.pairwise(changes))


def test_one_sample_above_the_lowered_threshold_starts_the_wait_again() -> None:
    calm = [0.01] * 23
    states = levels(commits(2.0, 2.0, *calm, 0.8, *calm))
    assert set(states[1:]) == {Level.OVERLOADED}, "0.8 s is above 0.7 of 1 s"
    assert levels(commits(2.0, 2.0, *calm, 0.6, *calm))[-1] is Level.BROWNOUT


def test_blindness_is_no_calm_and_healthy_does_not_outlast_it() -> None:
    assert levels(commits(2.0, 2.0, None, 0.01)) == [None, *[Level.OVERLOADED] * 3]
    states = commits(0.01, None, 0.01)
    assert levels(states) == [Level.HEALTHY, None, Level.HEALTHY]
    assert states[1].state is GuardState.UNKNOWN


@pytest.mark.parametrize(
    ("sample", "level", "signal"),
    [
        (Measurements(lock_waiters=20), Level.OVERLOADED, "lockWaiters"),
        (Measurements(connections_percent=96), Level.EMERGENCY, "connectionsPercent"),
        (Measurements(active_per_core_percent=150), Level.BROWNOUT, "activePerCorePercent"),
        (Measurements(oldest_transaction_seconds=86_400), Level.BROWNOUT, "oldestTransaction"),
        (Measurements(is_drowning=True), Level.OVERLOADED, "drowning"),
        (Measurements(is_drowning=True, commit_seconds=9), Level.EMERGENCY, "commitLatency"),
        (Measurements(commit_seconds=0.2499), Level.HEALTHY, ""),
        (Measurements(commit_seconds=0.25), Level.BROWNOUT, "commitLatency"),
    ],
)
def test_each_measurement_has_its_levels(sample: Measurements, level: Level, signal: str) -> None:
    verdict = judge(sample, THRESHOLDS)
    assert (verdict.level, verdict.signal) == (level, signal)


def test_thresholds_are_the_specs() -> None:
    levels_ = LatencyLevels(
        brownout=timedelta(milliseconds=1), overloaded=timedelta(milliseconds=2), emergency=timedelta(milliseconds=3)
    )
    assert judge(Measurements(commit_seconds=0.0025), Thresholds(commit_latency=levels_)).level is Level.OVERLOADED


numbers = st.none() | st.floats(0, 1e6)
samples = st.builds(
    Measurements,
    commit_seconds=numbers,
    lock_waiters=numbers,
    active_per_core_percent=numbers,
    connections_percent=numbers,
    oldest_transaction_seconds=numbers,
    is_drowning=st.booleans(),
)


@given(samples, samples)
def test_the_worse_of_two_is_at_least_as_bad_as_each(one: Measurements, other: Measurements) -> None:
    both = judge(worst_of(one, other), THRESHOLDS).level
    assert both == max(judge(one, THRESHOLDS).level, judge(other, THRESHOLDS).level)


@given(st.lists(samples, min_size=1, max_size=60))
def test_the_state_never_falls_by_more_than_one_level_nor_rises_on_one_sample(history: list[Measurements]) -> None:
    memory = StateMemory()
    for number, sample in enumerate(history):
        before = memory
        memory = advance_state(memory, sample, THRESHOLDS, number * SPAN)
        if sample.is_blind:
            assert memory.level in (None, before.level)
            assert memory.level is not Level.HEALTHY
        if before.level is not None and memory.level is not None:
            assert memory.level >= before.level - 1
            reaching = [verdict for verdict in memory.verdicts if verdict.level >= memory.level]
            assert memory.level <= before.level or len(reaching) >= 2


@given(samples, st.floats(1, 10))
def test_a_higher_bound_is_never_a_higher_level(sample: Measurements, factor: float) -> None:
    assert judge(sample, THRESHOLDS, factor=factor).level <= judge(sample, THRESHOLDS).level
