"""A state above Healthy says since when, by what, how it is now, and when it goes down."""

from datetime import UTC, datetime, timedelta

import pytest

from headroom.api.v1alpha1.thresholds import Thresholds
from headroom.policy.databaseguard.describe import StateTimes, describe_change, describe_state, is_worse
from headroom.policy.databaseguard.signals import Level, Measurements
from headroom.policy.databaseguard.state import StateMemory, advance_state

THRESHOLDS, NOON, SPAN = Thresholds(), datetime(2026, 3, 1, 12, tzinfo=UTC), 5.0
RULE = "120 s with every signal below 0.7 of its bound"
CALM = Measurements(commit_seconds=0.0047, lock_waiters=0)


def after(*samples: Measurements, start: StateMemory | None = None) -> StateMemory:
    memory = start or StateMemory()
    for number, sample in enumerate(samples):
        memory = advance_state(memory, sample, THRESHOLDS, number * SPAN)
    return memory


def describe(memory: StateMemory) -> str:
    moments = (memory.since, memory.sampled_at, memory.calm_since)
    since, sampled_at, calm_since = (None if at is None else NOON + timedelta(seconds=at) for at in moments)
    return describe_state(memory, THRESHOLDS, StateTimes(since, sampled_at, calm_since))


SLOW = Measurements(commit_seconds=1.088)
CASES = [
    (
        (SLOW, SLOW),
        (
            "Overloaded since 12:00:05 UTC by commit latency 1088 ms (bound 1000 ms); at 12:00:05 UTC commit latency "
            f"1088 ms, not below 700 ms; Brownout after {RULE}"
        ),
    ),
    (
        (SLOW, SLOW, CALM, CALM),
        (
            "Overloaded since 12:00:05 UTC by commit latency 1088 ms (bound 1000 ms); at 12:00:15 UTC commit latency "
            f"4.7 ms, below 700 ms; Brownout at 12:02:10 UTC at the earliest, after {RULE}"
        ),
    ),
    (
        (SLOW, SLOW, *[CALM] * 25),
        (
            "Brownout since 12:02:10 UTC, down from Overloaded; at 12:02:10 UTC commit latency 4.7 ms, below 175 ms; "
            f"Healthy at 12:04:10 UTC at the earliest, after {RULE}"
        ),
    ),
    (
        (Measurements(lock_waiters=12), Measurements(lock_waiters=12), Measurements(connections_percent=61)),
        (
            "Brownout since 12:00:05 UTC by lock waiters 12 (bound 5); at 12:00:10 UTC connections in use 61 %, "
            f"not below 49 %; Healthy after {RULE}"
        ),
    ),
    (
        (Measurements(is_drowning=True), Measurements(is_drowning=True)),
        f"Overloaded since 12:00:05 UTC by missed deadlines; at 12:00:05 UTC missed deadlines; Brownout after {RULE}",
    ),
    ((CALM,), ""),
    ((), ""),
]


@pytest.mark.parametrize(("samples", "text"), CASES)
def test_a_state_is_explained(samples: tuple[Measurements, ...], text: str) -> None:
    assert describe(after(*samples)) == text


def test_a_state_of_an_earlier_process_is_explained_by_the_signal_alone() -> None:
    found = describe(StateMemory(Level.OVERLOADED, "commitLatency", since=0.0))
    assert found == f"Overloaded since 12:00:00 UTC by commit latency; Brownout after {RULE}"


@pytest.mark.parametrize("level", [Level.BROWNOUT, Level.OVERLOADED, Level.EMERGENCY])
def test_every_state_above_healthy_names_the_way_out_in_every_signal(level: Level) -> None:
    names = ("commitLatency", "lockWaiters", "activePerCorePercent", "connectionsPercent", "oldestTransaction")
    for name in names:
        memory = StateMemory(level, name, calm_since=0.0, since=0.0, sample=CALM, sampled_at=60.0)
        assert f"{Level(level - 1).state} at 12:02:00 UTC at the earliest" in describe(memory)


def test_a_move_upwards_is_worse_and_names_its_signal_and_a_move_down_says_the_rule() -> None:
    calm, bad = after(CALM), after(SLOW, SLOW)
    lower = after(SLOW, SLOW, *[CALM] * 25)
    assert is_worse(calm, bad)
    assert describe_change(calm, bad, THRESHOLDS) == "Healthy -> Overloaded: commit latency 1088 ms >= 1000 ms"
    assert not is_worse(bad, lower)
    text = f"Overloaded -> Brownout: {RULE}; commit latency 4.7 ms < 700 ms"
    assert describe_change(bad, lower, THRESHOLDS) == text
    assert not is_worse(StateMemory(), calm)
    assert describe_change(StateMemory(), calm, THRESHOLDS) == "Unknown -> Healthy"
    assert describe_change(bad, StateMemory(), THRESHOLDS) == "Overloaded -> Unknown: nothing can be measured"
