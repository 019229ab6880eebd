"""A guard's memory goes to status and comes back; what is lost on the way is lost on purpose."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headroom.api.v1alpha1.common import GuardState
from headroom.model.database import ConnectionCounts
from headroom.model.moments import Moment
from headroom.policy.databaseguard.baseline import CalmSamples
from headroom.policy.databaseguard.budget import plan_connections
from headroom.policy.databaseguard.facts import GuardMemory, ServerMemory, SharedPlan
from headroom.policy.databaseguard.limits import ConnectionLimits
from headroom.policy.databaseguard.signals import Baseline, Level, Measurements, Verdict
from headroom.policy.databaseguard.state import StateMemory
from headroom.reasons import Reason
from headroom.reconcilers.databaseguard.checkpoint import LONGEST_CALM_SECONDS, checkpoint, restore

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
BEFORE, AFTER = Moment(5000.0, NOON), Moment(20.0, NOON + timedelta(seconds=8))
"""The end of one process, and the beginning of the next one eight seconds later, on a clock of its own."""


def memory_of(level: Level | None, **state: Any) -> GuardMemory:
    made = StateMemory(level, **{"since": 4900.0, **state})
    server = ServerMemory(state=made, has_had_state=level is not None, sampled_at=4998.0)
    return GuardMemory(
        seen_at=100.0,
        system_identifier="7300000000000000001",
        highest_timeline=4,
        server=server,
        has_observed=True,
        shown=made.state,
        shown_since=4900.0,
        reported_state=made,
    )


def round_trip(memory: GuardMemory, old: dict[str, Any] | None = None) -> GuardMemory:
    return restore({key: value for key, value in checkpoint(memory, BEFORE, old or {}).items() if value}, AFTER)


@pytest.mark.parametrize("level", [Level.BROWNOUT, Level.OVERLOADED, Level.EMERGENCY])
def test_a_state_comes_back_with_its_beginning_its_signal_and_its_calm(level: Level) -> None:
    memory = memory_of(level, signal="commitLatency", calm_since=4970.0)
    after = round_trip(memory)
    state = after.server.state
    assert (state.level, state.signal) == (level, "commitLatency")
    assert state.since == pytest.approx(20.0 - 108.0)
    assert state.calm_since == pytest.approx(20.0 - 38.0)
    assert (after.system_identifier, after.highest_timeline) == (memory.system_identifier, 4)
    assert (after.shown, after.shown_since) == (level.state, state.since)
    assert after.reported_state == state, "an old state is no news"
    assert after.is_resumed
    assert after.server.has_had_state
    assert (after.seen_at, after.server.sampled_at) == (20.0, 20.0)


def test_healthy_has_no_signal_and_no_calm() -> None:
    state = round_trip(memory_of(Level.HEALTHY)).server.state
    assert (state.level, state.signal, state.calm_since) == (Level.HEALTHY, "", None)


def test_the_baseline_comes_back_and_its_samples_do_not() -> None:
    """Without it, a bound that was ignored would count again, and its state would never be left."""
    baseline = Baseline({"commitLatency": 0.0041, "lockWaiters": 0.0})
    memory = memory_of(Level.HEALTHY)
    calm = CalmSamples((Measurements(commit_seconds=0.004),), 4990.0, baseline)
    after = round_trip(replace(memory, server=replace(memory.server, calm=calm)))
    assert after.server.calm == CalmSamples(baseline=baseline)


def test_a_second_round_changes_nothing() -> None:
    memory = memory_of(Level.OVERLOADED, signal="lockWaiters", calm_since=4990.0)
    calm = CalmSamples(baseline=Baseline({"commitLatency": 0.00412345}))
    status = checkpoint(replace(memory, server=replace(memory.server, calm=calm)), BEFORE, {})
    again = checkpoint(restore(status, AFTER), AFTER, status)
    assert again == status


def test_what_is_lost_on_purpose() -> None:
    memory = memory_of(
        Level.OVERLOADED,
        signal="commitLatency",
        verdicts=(Verdict(Level.OVERLOADED, "commitLatency", 2.0, 1.0),),
        entered=Verdict(Level.OVERLOADED, "commitLatency", 2.0, 1.0),
        came_down_from=Level.EMERGENCY,
        sample=Measurements(commit_seconds=2.0),
        sampled_at=4998.0,
    )
    counts = ConnectionCounts(7, 0, 0, 97, 0, 0.0)
    plan = plan_connections("store", counts, {"store": ConnectionLimits(60, 5)}, (), now=4990.0, previous=None)
    server = replace(
        memory.server,
        worst=Measurements(commit_seconds=2.0),
        observed_at=4999.0,
        answered_at=4999.0,
        counts=counts,
        planned=SharedPlan(4990.0, plan),
    )
    memory = replace(memory, server=server, idle_since={"hr_a": 4000.0}, swept_at=4980.0)
    after = round_trip(memory)
    assert after.server == ServerMemory(
        state=StateMemory(Level.OVERLOADED, "commitLatency", since=after.server.state.since),
        has_had_state=True,
        sampled_at=20.0,
    )
    assert (after.idle_since, after.swept_at) == ({}, None)
    assert (after.has_observed, after.reported_reason) == (False, None)


def test_a_calm_that_nobody_watched_counts_for_a_minute_at_most() -> None:
    after = round_trip(memory_of(Level.BROWNOUT, calm_since=4000.0))
    assert after.server.state.calm_since == 20.0 - LONGEST_CALM_SECONDS


def test_a_level_that_is_not_shown_is_forgotten() -> None:
    memory = replace(memory_of(Level.OVERLOADED), shown=GuardState.UNKNOWN, shown_since=4999.0)
    after = round_trip(memory)
    assert after.server.state == StateMemory()
    assert after.shown is GuardState.UNKNOWN
    assert not after.is_resumed


@pytest.mark.parametrize(
    ("conditions", "reason"),
    [
        ([{"type": "Ready", "reason": "SharedInstance"}], Reason.SHARED_INSTANCE),
        ([{"type": "Stalled", "reason": "AsExpected"}], None),
        ([{"type": "Ready", "reason": "OfALaterVersion"}], None),
    ],
)
def test_the_reason_of_ready_is_read_from_its_condition(
    conditions: list[dict[str, str]], reason: Reason | None
) -> None:
    assert restore({"conditions": conditions}, AFTER).reported_reason is reason


@pytest.mark.parametrize("status", [{}, {"state": "Unknown"}, {"systemIdentifier": "7"}])
def test_an_empty_status_gives_an_empty_memory(status: dict[str, Any]) -> None:
    after = restore(status, AFTER)
    assert after.server.state == StateMemory()
    assert not after.is_resumed
    assert after.system_identifier == status.get("systemIdentifier")


def test_times_keep_their_text_while_they_mean_the_same() -> None:
    memory = memory_of(Level.OVERLOADED, calm_since=4970.0)
    old = checkpoint(memory, BEFORE, {})
    later = Moment(BEFORE.monotonic + 60.0, BEFORE.wall + timedelta(seconds=59.2))
    assert checkpoint(memory, later, old) == old, "the clocks drift, and the moment is the same"
    moved = replace(memory, server=replace(memory.server, state=StateMemory(Level.BROWNOUT, since=5050.0)))
    moved = replace(moved, shown=GuardState.BROWNOUT)
    assert checkpoint(moved, later, old)["stateSince"] != old["stateSince"]


@given(st.sampled_from(list(Level)), st.integers(0, 4000), st.booleans())
def test_any_state_survives(level: Level, age: int, is_calm: bool) -> None:
    calm = BEFORE.monotonic - min(age, 30) if is_calm and level else None
    memory = memory_of(level, since=BEFORE.monotonic - age, calm_since=calm)
    after = round_trip(memory).server.state
    assert after.level is level
    assert after.since == pytest.approx(AFTER.monotonic - 8 - age)
    assert (after.calm_since is None) == (calm is None)
