"""The decision of a guard's pass, driven without any shell: readiness, state, grace, sharing, sweeping."""

import copy
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headroom.api.v1alpha1.common import GuardState
from headroom.model.conditions import Finding, Truth
from headroom.model.database import SlotFacts
from headroom.model.moments import FIRST_SIGHT_SECONDS
from headroom.model.replica import hash8
from headroom.policy.databaseguard.decide import GuardDecision, decide
from headroom.policy.databaseguard.facts import GuardFacts, GuardMemory, Observation, ServerMemory
from headroom.policy.databaseguard.signals import Level
from headroom.policy.databaseguard.state import StateMemory
from headroom.reasons import Reason
from tests.unit.policy.databaseguard.make import (
    SERVER,
    SYSTEM,
    TIMEOUT,
    UNREACHABLE,
    GuardPolicyWorld,
    make_counts,
    make_demand,
    make_mark,
    make_slot,
    make_spec,
)
from tests.unit.policy.purity import find_impure


def test_facts_memory_and_decision_hold_values_only() -> None:
    assert find_impure(GuardFacts, GuardMemory, GuardDecision, Observation) == []


def test_each_survives_a_deep_copy() -> None:
    world = GuardPolicyWorld(demands=(make_demand("a", wanted=3),))
    world.run(20)
    for value in (world.facts(), world.memory, world.decision, world.observe()):
        assert copy.deepcopy(value) == value


def test_the_same_facts_give_the_same_decision_and_change_nothing() -> None:
    world = GuardPolicyWorld()
    world.run(20)
    facts, before = world.facts(), copy.deepcopy(world.memory)
    first = decide(world.spec, facts, world.memory, world.moment)
    assert decide(world.spec, facts, world.memory, world.moment) == first
    assert world.memory == before


class TestReadiness:
    def test_ready_comes_with_the_first_state(self) -> None:
        world = GuardPolicyWorld(commit_seconds=None)
        assert (world.step().ready, world.decision.ready_finding.reason) == (Truth.UNKNOWN, Reason.IN_PROGRESS)
        assert world.decision.is_usable, "others may use the server meanwhile"
        world.commit_seconds, world.window = 0.002, world.window.drop()
        assert (world.step().ready, world.decision.ready_finding.reason) == (Truth.TRUE, Reason.CONNECTED)
        assert world.decision.state is GuardState.HEALTHY

    def test_what_the_observation_met_is_the_reason(self) -> None:
        world = GuardPolicyWorld()
        world.run(10)
        world.problem = UNREACHABLE
        decision = world.step()
        assert (decision.finding, decision.ready, decision.ready_finding) == (UNREACHABLE, Truth.FALSE, UNREACHABLE)
        assert (decision.state, decision.level) == (GuardState.UNKNOWN, None)
        assert not decision.must_disconnect, "the links come back by themselves"

    def test_a_replication_login_that_fails_is_reported_and_the_rest_goes_on(self) -> None:
        world = GuardPolicyWorld(replication_problem=Finding(Reason.PASSWORD_REJECTED, "refused (Secret x)"))
        decision = world.run(3)
        assert (decision.ready, decision.ready_finding.reason) == (Truth.FALSE, Reason.PASSWORD_REJECTED)
        assert decision.ready_finding.message == "replicas cannot be made, the rest works: refused (Secret x)"
        assert decision.is_usable
        assert decision.state is GuardState.HEALTHY

    def test_a_missing_right_is_a_reason_and_other_notes_are_not(self) -> None:
        world = GuardPolicyWorld(spec=make_spec(connection={"tls": {"mode": "require"}}))
        assert world.run(3).ready_finding.reason is Reason.CONNECTED
        assert "not verified" in world.decision.ready_finding.message
        world.server = replace(SERVER, missing_rights=("pg_signal_backend",))
        assert world.run(3).ready_finding.reason is Reason.MISSING_RIGHT

    def test_an_invalid_spec_is_judged_too(self) -> None:
        problem = Finding(Reason.INVALID_SPEC, "spec.cores: too small")
        decision = decide(None, GuardFacts("store", problem=problem), GuardMemory(), GuardPolicyWorld().moment).decision
        assert decision.ready_finding == problem
        assert decision.notes == ()

    def test_a_lock_of_another_process_is_waited_for(self) -> None:
        world = GuardPolicyWorld(server=replace(SERVER, has_installation_lock=False))
        decision = world.step()
        assert decision.finding is not None
        assert decision.finding.reason is Reason.IN_PROGRESS
        assert not decision.must_disconnect
        assert world.memory.system_identifier is None, "nothing is pinned before it can be used"

    def test_nothing_asked_yet_is_no_verdict_about_the_server(self) -> None:
        decision = decide(make_spec(), GuardFacts("store"), GuardMemory(), GuardPolicyWorld().moment).decision
        assert decision.finding is not None
        assert decision.finding.reason is Reason.IN_PROGRESS


class TestIdentity:
    def test_the_first_server_is_pinned_with_its_timeline(self) -> None:
        world = GuardPolicyWorld()
        world.step()
        assert (world.memory.system_identifier, world.memory.highest_timeline) == (SYSTEM, 3)
        world.server = replace(SERVER, timeline=5)
        world.commit_seconds = None
        world.window = world.window.answer(make_mark(world.now, timeline=5), is_void=False)
        world.step()
        assert world.memory.highest_timeline == 5

    def test_another_system_is_held_and_the_pin_stays(self) -> None:
        world = GuardPolicyWorld()
        world.run(3)
        world.server = replace(SERVER, system_identifier="9")
        decision = world.step()
        assert decision.ready_finding.reason is Reason.PRIMARY_REPLACED
        assert decision.must_disconnect
        assert world.memory.system_identifier == SYSTEM

    def test_a_person_accepts_another_system_and_its_timeline_begins_again(self) -> None:
        world = GuardPolicyWorld()
        world.run(3)
        world.server, world.extra = replace(SERVER, system_identifier="9", timeline=1), {"accepted": "9"}
        world.window = replace(world.window, marks=())
        world.commit_seconds = None
        world.step()
        assert world.decision.is_usable
        assert (world.memory.system_identifier, world.memory.highest_timeline) == ("9", 1)

    def test_an_old_primary_is_held(self) -> None:
        world = GuardPolicyWorld()
        world.run(3)
        world.server = replace(SERVER, timeline=2)
        assert world.step().ready_finding.reason is Reason.PRIMARY_STALE

    @pytest.mark.parametrize("change", [{"timeline": 4}, {"system": "9"}])
    def test_a_canary_at_another_server_means_that_the_name_has_moved(self, change: dict[str, Any]) -> None:
        world = GuardPolicyWorld(commit_seconds=None)
        server = replace(SERVER, timeline=change.get("timeline", 3))
        world.window = world.window.answer(
            make_mark(5.0, timeline=3, system=change.get("system", SYSTEM)), is_void=False
        )
        world.server, world.now = server, 6.0
        decision = world.step()
        assert decision.finding is not None
        assert decision.finding.reason is Reason.IN_PROGRESS
        assert decision.must_disconnect

    def test_marks_of_an_earlier_connection_tell_nothing_of_this_one(self) -> None:
        world = GuardPolicyWorld(commit_seconds=None, extra={"link_opened_at": 5.5})
        world.window = world.window.answer(make_mark(5.0, timeline=2), is_void=False)
        world.now = 6.0
        assert world.step().is_usable


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
        world.run(20)
        assert world.memory.server.state.level is None
        world.problem, world.commit_seconds = None, 0.002
        world.window = replace(world.window, commits=())
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


class TestEvents:
    def test_a_change_is_told_once(self) -> None:
        world = GuardPolicyWorld(commit_seconds=2.0)
        world.run(30)
        changes = [decision.change for decision in world.decisions if decision.change is not None]
        assert [(change.before.level, change.after.level) for change in changes] == [(None, Level.OVERLOADED)]

    def test_a_reason_is_told_once_and_what_is_in_progress_is_not(self) -> None:
        world = GuardPolicyWorld(commit_seconds=None)
        world.run(3)
        assert not any(decision.has_new_reason for decision in world.decisions)
        world.commit_seconds, world.window = 0.002, world.window.drop()
        world.run(10)
        world.problem = UNREACHABLE
        world.run(10)
        told = [decision.ready_finding.reason for decision in world.decisions if decision.has_new_reason]
        assert told == [Reason.CONNECTED, Reason.PRIMARY_UNREACHABLE]


class TestAtAChangeOfLeader:
    """A new process resumes from status; until it has an observation of its own nothing flips."""

    def resumed(self, level: Level = Level.OVERLOADED, **world: Any) -> GuardPolicyWorld:
        state = StateMemory(level, "commitLatency", since=-100.0)
        memory = GuardMemory(
            seen_at=1.0,
            is_resumed=True,
            system_identifier=SYSTEM,
            server=ServerMemory(state=state, has_had_state=True),
            shown=level.state,
            shown_since=-100.0,
            reported_state=state,
        )
        return GuardPolicyWorld(memory=memory, **world)

    def test_the_first_pass_is_ready_and_keeps_the_state(self) -> None:
        decision = self.resumed().step()
        assert (decision.ready, decision.state) == (Truth.TRUE, GuardState.OVERLOADED)
        assert decision.change is None

    @pytest.mark.parametrize(
        "reason", [Reason.IN_PROGRESS, Reason.PRIMARY_TIMEOUT, Reason.PRIMARY_UNREACHABLE, Reason.NO_CONNECTION_LEFT]
    )
    def test_what_may_pass_by_itself_is_waited_for(self, reason: Reason) -> None:
        world = self.resumed(problem=Finding(reason, "not now"))
        decision = world.run(FIRST_SIGHT_SECONDS - 1)
        assert decision.is_settling
        assert decision.state is GuardState.OVERLOADED
        assert not any(made.has_new_reason or made.change for made in world.decisions)
        world.problem = None
        assert world.step().ready is Truth.TRUE
        assert world.decision.state is GuardState.OVERLOADED

    def test_but_not_for_longer(self) -> None:
        world = self.resumed(problem=UNREACHABLE)
        decision = world.run(FIRST_SIGHT_SECONDS + 1)
        assert (decision.is_settling, decision.ready, decision.state) == (False, Truth.FALSE, GuardState.UNKNOWN)

    def test_a_definite_answer_counts_at_once(self) -> None:
        decision = self.resumed(problem=Finding(Reason.PASSWORD_REJECTED, "refused")).step()
        assert (decision.is_settling, decision.ready) == (False, Truth.FALSE)

    def test_after_an_observation_of_its_own_it_judges_as_ever(self) -> None:
        world = self.resumed()
        world.run(2)
        world.problem = UNREACHABLE
        assert not world.step().is_settling

    def test_a_guard_that_had_no_state_has_nothing_to_keep(self) -> None:
        assert not GuardPolicyWorld(problem=UNREACHABLE).step().is_settling

    def test_a_replication_login_that_is_late_is_waited_for_too(self) -> None:
        world = self.resumed(replication_problem=Finding(Reason.NO_CONNECTION_LEFT, "too many clients"))
        assert world.step().is_settling
        assert world.run(FIRST_SIGHT_SECONDS).ready is Truth.FALSE

    def test_another_guard_of_the_server_is_waited_for(self) -> None:
        world = self.resumed()
        world.memory = replace(world.memory, reported_reason=Reason.SHARED_INSTANCE)
        decision = world.run(FIRST_SIGHT_SECONDS - 3)
        assert decision.is_settling
        assert decision.state is GuardState.OVERLOADED
        world.extra = {"local_guards": ("second",)}
        decision = world.step()
        assert (decision.is_settling, decision.ready_finding.reason) == (False, Reason.SHARED_INSTANCE)
        assert not any(made.has_new_reason for made in world.decisions)

    def test_one_that_does_not_come_is_not_waited_for_longer(self) -> None:
        world = self.resumed()
        world.memory = replace(world.memory, reported_reason=Reason.SHARED_INSTANCE)
        decision = world.run(FIRST_SIGHT_SECONDS + 1)
        assert (decision.is_settling, decision.ready_finding.reason) == (False, Reason.CONNECTED)
        assert [made.ready_finding.reason for made in world.decisions if made.has_new_reason] == [Reason.CONNECTED]

    def test_dependents_learn_of_a_new_state_meanwhile(self) -> None:
        world = self.resumed(Level.HEALTHY, commit_seconds=6.0)
        world.memory = replace(world.memory, reported_reason=Reason.SHARED_INSTANCE)
        decision = world.run(10)
        assert decision.is_settling
        assert decision.state is GuardState.EMERGENCY

    def test_a_reason_that_status_has_already_is_no_event(self) -> None:
        world = self.resumed()
        world.memory = replace(world.memory, reported_reason=Reason.CONNECTED)
        world.run(20)
        assert not any(made.has_new_reason for made in world.decisions)

    def test_the_calm_of_a_state_is_not_restarted_by_the_wait(self) -> None:
        world = self.resumed(problem=UNREACHABLE)
        world.run(8)
        assert world.memory.server.state.level is Level.OVERLOADED


GONE, ALIVE = hash8("gone"), hash8("alive")


class TestSweep:
    """Slots whose set is gone: named once nobody has used them for ten minutes."""

    def world(self, *slots: SlotFacts) -> GuardPolicyWorld:
        world = GuardPolicyWorld()
        world.run(3)
        world.extra = {"is_sweep_due": True, "slots": slots, "live_sets": frozenset({ALIVE})}
        return world

    def sweep(self, *slots: SlotFacts) -> tuple[str, ...]:
        return self.world(*slots).step().sweep

    def test_an_idle_slot_of_a_set_that_is_gone_goes(self) -> None:
        name = f"hr_0123abcd_{GONE}_0_a"
        assert self.sweep(make_slot(name, inactive_seconds=600.0)) == (name,)
        assert self.sweep(make_slot(name, inactive_seconds=599.0)) == ()

    @pytest.mark.parametrize(
        "slot",
        [
            make_slot(f"hr_0123abcd_{GONE}_0_a", is_active=True),
            make_slot(f"hr_0123abcd_{ALIVE}_0_a", inactive_seconds=9000.0),
            make_slot("hr_0123abcd_something_else", inactive_seconds=9000.0),
            make_slot("patroni_1", inactive_seconds=9000.0),
        ],
        ids=["in use", "of a set that is there", "another form", "somebody else's"],
    )
    def test_any_other_slot_is_left(self, slot: SlotFacts) -> None:
        assert self.sweep(slot) == ()

    def test_where_the_server_does_not_tell_we_count_ourselves(self) -> None:
        name = f"hr_0123abcd_{GONE}_0_a"
        world = self.world(make_slot(name))
        assert world.step(599).sweep == ()
        assert world.step(1).sweep == ()
        assert world.step().sweep == (name,)

    def test_use_in_between_begins_the_count_again(self) -> None:
        name = f"hr_0123abcd_{GONE}_0_a"
        world = self.world(make_slot(name))
        world.step(590)
        world.extra["slots"] = (make_slot(name, is_active=True),)
        world.step(60)
        assert world.memory.idle_since == {}
        world.extra["slots"] = (make_slot(name),)
        assert world.step(599).sweep == ()
        assert world.step(1).sweep == ()

    def test_slots_that_could_not_be_read_sweep_nothing_and_forget_nothing(self) -> None:
        world = self.world(make_slot(f"hr_0123abcd_{GONE}_0_a"))
        world.step()
        world.extra["slots"] = None
        assert world.step().sweep == ()
        assert len(world.memory.idle_since) == 1

    def test_a_guard_that_is_not_ready_sweeps_nothing(self) -> None:
        world = self.world(make_slot(f"hr_0123abcd_{GONE}_0_a", inactive_seconds=9000.0))
        world.replication_problem = Finding(Reason.SECRET_NOT_FOUND, "no Secret")
        assert world.step().sweep == ()
        assert world.memory.swept_at is None

    def test_the_next_sweep_is_a_minute_later(self) -> None:
        world = self.world()
        world.step()
        assert world.memory.swept_at == 4.0
