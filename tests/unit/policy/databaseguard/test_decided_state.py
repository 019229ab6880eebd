"""The state that a guard decides pass by pass, driven without any shell."""

from dataclasses import replace
from datetime import timedelta

from hypothesis import given
from hypothesis import strategies as st

from headroom.api.v1alpha1.common import GuardState
from headroom.model.canary import CanaryWindow
from headroom.policy.databaseguard.signals import Level
from headroom.policy.databaseguard.state import GAP_SECONDS
from tests.unit.policy.databaseguard.make import (
    SERVER,
    TIMEOUT,
    UNREACHABLE,
    GuardPolicyWorld,
    make_counts,
    make_spec,
)


class TestState:
    def test_slow_commits_raise_it_and_fast_ones_lower_it_one_level_at_a_time(self) -> None:
        world = GuardPolicyWorld()
        world.run(10)
        world.commit_seconds = 2.0
        assert world.run(15).state is GuardState.OVERLOADED
        world.commit_seconds = 0.002
        assert world.run(60).state is GuardState.OVERLOADED
        assert world.run(80).state is GuardState.BROWNOUT
        assert world.run(130).state is GuardState.HEALTHY

    def test_a_commit_that_is_not_answered_counts_at_its_age(self) -> None:
        world = GuardPolicyWorld()
        world.run(10)
        world.commit_seconds = None
        assert world.run(15).level is Level.EMERGENCY
        assert world.decision.commit_seconds is not None
        assert world.decision.commit_seconds > 10

    def test_connections_are_measured_against_what_is_usable(self) -> None:
        world = GuardPolicyWorld(counts=make_counts(80))
        assert world.run(14).state is GuardState.OVERLOADED
        assert world.memory.server.state.signal == "connectionsPercent"

    def test_active_sessions_need_cores(self) -> None:
        counts = make_counts(10, active=14)
        assert GuardPolicyWorld(counts=counts).run(14).state is GuardState.HEALTHY
        decision = GuardPolicyWorld(counts=counts, spec=make_spec(cores=4)).run(14)
        assert decision.state is GuardState.OVERLOADED

    def test_without_the_right_to_see_sessions_only_connections_count(self) -> None:
        server = replace(SERVER, missing_rights=("pg_monitor",))
        world = GuardPolicyWorld(counts=make_counts(10, lock_waiters=100), server=server)
        assert world.run(14).state is GuardState.HEALTHY
        assert not world.decision.sees_sessions
        world.server = replace(server, is_superuser=True)
        assert world.run(14).state is GuardState.EMERGENCY

    def test_a_server_that_misses_deadlines_after_it_answered_is_overloaded(self) -> None:
        world = GuardPolicyWorld()
        world.run(10)
        world.problem = TIMEOUT
        assert world.step().state is GuardState.UNKNOWN, "a moment is nothing yet"
        assert world.run(15).state is GuardState.OVERLOADED
        assert world.memory.server.state.signal == "drowning"

    def test_a_server_that_never_answered_is_unknown(self) -> None:
        world = GuardPolicyWorld(problem=TIMEOUT)
        assert world.run(60).state is GuardState.UNKNOWN

    def test_deadlines_missed_long_after_the_last_answer_are_no_load(self) -> None:
        world = GuardPolicyWorld()
        world.run(10)
        world.problem = TIMEOUT
        assert world.run(200).state is GuardState.OVERLOADED
        assert world.run(300).state is GuardState.UNKNOWN

    def test_a_server_that_is_down_is_unknown_and_a_short_gap_forgets_nothing(self) -> None:
        world = GuardPolicyWorld(commit_seconds=2.0)
        world.run(15)
        since = world.memory.server.state.since
        world.problem = UNREACHABLE
        assert world.step().state is GuardState.UNKNOWN
        world.problem = None
        assert world.step().state is GuardState.OVERLOADED
        assert world.memory.server.state.since == since

    def test_a_long_gap_starts_from_nothing(self) -> None:
        world = GuardPolicyWorld(commit_seconds=2.0)
        world.run(15)
        world.problem = UNREACHABLE
        assert world.run(GAP_SECONDS - 20).state is GuardState.UNKNOWN
        assert world.memory.server.state.level is Level.OVERLOADED
        world.run(40)
        assert world.memory.server.state.level is None
        world.problem, world.commit_seconds = None, 0.002
        world.window = replace(world.window, commits=())
        assert world.run(6).state is GuardState.HEALTHY

    def test_another_system_that_was_accepted_starts_from_nothing(self) -> None:
        world = GuardPolicyWorld(commit_seconds=2.0)
        world.run(15)
        world.server, world.commit_seconds = replace(SERVER, system_identifier="8"), 0.002
        world.extra["accepted"] = "8"
        world.window = CanaryWindow()
        assert world.run(6).state is GuardState.HEALTHY

    def test_without_a_canary_no_commit_is_shown(self) -> None:
        world = GuardPolicyWorld(spec=make_spec(canary={"enabled": False}))
        assert world.run(10).commit_seconds is None

    def test_thresholds_are_those_of_the_spec(self) -> None:
        latency = {"brownout": "1ms", "overloaded": "2ms", "emergency": "3ms"}
        spec = make_spec(thresholds={"commitLatency": latency})
        world = GuardPolicyWorld(spec=spec)
        assert world.run(14).state is GuardState.OVERLOADED
        assert world.decision.thresholds.commit_latency.overloaded == timedelta(milliseconds=2)

    @given(st.lists(st.sampled_from(["ok", "slow", "down", "hung", "blind"]), max_size=40), st.integers(1, 9))
    def test_whatever_happens_the_shown_state_is_the_remembered_one_or_unknown(
        self, events: list[str], every: int
    ) -> None:
        world = GuardPolicyWorld()
        for event in events:
            world.problem = {"down": UNREACHABLE, "hung": TIMEOUT}.get(event)
            world.commit_seconds = {"slow": 3.0, "blind": None}.get(event, 0.002)
            decision = world.run(every)
            assert decision.state in (GuardState.UNKNOWN, world.memory.server.state.state)
            assert decision.level is None or decision.state is decision.level.state
            assert (decision.finding is None) == (world.problem is None)
