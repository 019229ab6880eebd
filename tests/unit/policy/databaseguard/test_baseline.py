"""A bound below twice what the Healthy server measures is ignored, and named with one that would count."""

from typing import Any

import pytest

from headroom.api.v1alpha1.common import GuardState
from headroom.model.conditions import Truth
from headroom.policy.databaseguard.baseline import CONSTANT_SECONDS, LEAST_SAMPLES, CalmSamples
from headroom.policy.databaseguard.describe import StateTimes, describe_state
from headroom.policy.databaseguard.signals import Baseline, Level, Measurements
from headroom.policy.databaseguard.state import advance_state
from headroom.reasons import Reason
from tests.unit.policy.databaseguard.make import GuardPolicyWorld, make_counts, make_spec

LOW = {"commitLatency": {"brownout": "5ms", "overloaded": "7ms", "emergency": "1s"}}


def make_world(thresholds: dict[str, Any], **more: Any) -> GuardPolicyWorld:
    return GuardPolicyWorld(spec=make_spec(thresholds=thresholds, **more), commit_seconds=0.004)


def notes_of(world: GuardPolicyWorld) -> list[str]:
    return [note.message for note in world.decision.notes if note.reason is Reason.THRESHOLD_BELOW_BASELINE]


def test_bounds_below_twice_the_baseline_are_ignored_and_named_and_higher_ones_count() -> None:
    world = make_world(LOW)
    world.run(60 * LEAST_SAMPLES + 10)
    assert notes_of(world) == [
        (
            "thresholds.commitLatency: brownout (5 ms) and overloaded (7 ms) are ignored, because commit latency is "
            "4 ms while the server is Healthy; set them to 8 ms or more"
        )
    ]
    assert (world.decision.ready, world.decision.ready_finding.reason) == (Truth.TRUE, Reason.THRESHOLD_BELOW_BASELINE)
    world.commit_seconds = 0.02
    assert world.run(60).state is GuardState.HEALTHY
    world.commit_seconds = 1.2
    assert world.run(60).state is GuardState.EMERGENCY


@pytest.mark.parametrize("steps", [(0.9, 4.9, 30.0), (0.24, 0.45, 0.9, 1.8, 3.6)], ids=["in leaps", "by and by"])
def test_a_server_that_becomes_slower_and_slower_does_not_have_its_bounds_ignored(steps: tuple[float, ...]) -> None:
    world = make_world({}, cores=None)
    world.commit_seconds = 0.13
    world.run(60 * (LEAST_SAMPLES + 1))
    assert world.decision.state is GuardState.HEALTHY
    for step in steps:
        world.commit_seconds = step
        world.run(40 * 60)
    assert world.decision.state is (GuardState.EMERGENCY if steps[-1] >= 5 else GuardState.OVERLOADED)


def test_a_bound_of_twice_the_baseline_counts() -> None:
    world = make_world({"commitLatency": {"brownout": "8ms", "overloaded": "16ms", "emergency": "1s"}})
    world.run(60 * LEAST_SAMPLES + 10)
    assert notes_of(world) == []
    world.commit_seconds = 0.009
    assert world.run(30).state is GuardState.BROWNOUT


def test_until_ten_minutes_of_a_healthy_server_are_known_every_bound_counts() -> None:
    world = make_world(LOW)
    world.run(60 * (LEAST_SAMPLES - 2))
    assert notes_of(world) == []
    world.commit_seconds = 0.006
    assert world.run(30).state is GuardState.BROWNOUT


def test_a_level_that_was_entered_by_a_bound_that_is_ignored_now_is_left() -> None:
    state = advance_state(
        advance_state(GuardPolicyWorld().memory.server.state, SLOW, THRESHOLDS, 0), SLOW, THRESHOLDS, 5
    )
    assert state.level is Level.BROWNOUT
    for number in range(30):
        state = advance_state(state, SLOW, THRESHOLDS, 10 + 5 * number, baseline=Baseline({"commitLatency": 0.005}))
        if state.level is Level.BROWNOUT:
            assert "not below" not in describe_state(state, THRESHOLDS, StateTimes())
    assert state.level is Level.HEALTHY


SLOW = Measurements(commit_seconds=0.006)
THRESHOLDS = make_spec(thresholds=LOW).thresholds


@pytest.mark.long
def test_a_slow_database_does_not_become_its_own_baseline() -> None:
    world = make_world({})
    world.run(60 * LEAST_SAMPLES + 10)
    world.commit_seconds = 0.4
    world.run(2 * 3600)
    assert world.decision.state is GuardState.BROWNOUT
    assert world.memory.server.calm.baseline["commitLatency"] == pytest.approx(0.004)
    assert notes_of(world) == []


def test_connections_have_no_baseline_since_their_limit_is_the_servers_own() -> None:
    world = make_world({})
    world.counts = make_counts(used=60)
    world.run(60 * LEAST_SAMPLES + 10)
    assert notes_of(world) == []
    world.counts = make_counts(used=91)
    assert world.run(30).state is not GuardState.HEALTHY


def test_active_sessions_are_compared_with_their_baseline() -> None:
    world = make_world({}, cores=10)
    world.counts = make_counts(active=9)
    world.run(60 * LEAST_SAMPLES + 10)
    assert notes_of(world) == [
        (
            "thresholds.activePerCorePercent: brownout (150 %) is ignored, because active per core is 90 % while the "
            "server is Healthy; set it to 180 % or more"
        )
    ]


def test_a_server_that_was_never_healthy_is_named_after_half_an_hour_and_its_state_stays() -> None:
    world = make_world({"commitLatency": {"brownout": "3ms", "overloaded": "1s", "emergency": "5s"}})
    world.run(CONSTANT_SECONDS - 60)
    assert (world.decision.state, notes_of(world)) == (GuardState.BROWNOUT, [])
    world.run(120)
    assert world.decision.state is GuardState.BROWNOUT
    assert notes_of(world) == [
        (
            "thresholds.commitLatency: the server was never Healthy while this operator watched it; if commit latency "
            "of 4 ms is normal there, set brownout to 8 ms or more"
        )
    ]


def test_the_baseline_follows_in_steps() -> None:
    calm = CalmSamples()
    for minute in range(200):
        seconds = 0.004 if minute < 100 else 0.0045
        calm = calm.observe(Measurements(commit_seconds=seconds), Level.HEALTHY, 60.0 * minute)
    assert calm.baseline["commitLatency"] == 0.004, "less than a fifth"
    for minute in range(200, 300):
        calm = calm.observe(Measurements(commit_seconds=0.01), Level.HEALTHY, 60.0 * minute)
    assert calm.baseline["commitLatency"] == 0.01
    assert len(calm.samples) == 60
