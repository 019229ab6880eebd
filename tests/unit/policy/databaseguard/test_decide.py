"""The decision of a guard's pass, driven without any shell: readiness, identity of the server, events."""

import copy
from dataclasses import replace
from typing import Any

import pytest

from headroom.api.v1alpha1.common import GuardState
from headroom.model.conditions import Finding, Truth
from headroom.policy.databaseguard.decide import GuardDecision, decide
from headroom.policy.databaseguard.facts import GuardFacts, GuardMemory, Observation
from headroom.policy.databaseguard.signals import Level
from headroom.reasons import Reason
from tests.unit.policy.databaseguard.make import (
    SERVER,
    SYSTEM,
    UNREACHABLE,
    GuardPolicyWorld,
    make_demand,
    make_mark,
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

    def test_the_worst_note_is_the_reason_of_a_guard_that_is_ready(self) -> None:
        world = GuardPolicyWorld()
        assert world.run(3).ready_finding.reason is Reason.CONNECTED
        world.spec = make_spec(connection={"tls": {"mode": "require"}})
        assert world.run(3).ready_finding.reason is Reason.TLS_WEAK
        assert "not verified" in world.decision.ready_finding.message
        world.server = replace(SERVER, missing_rights=("pg_signal_backend",))
        assert world.run(3).ready_finding.reason is Reason.MISSING_RIGHT
        world.server = replace(SERVER, is_superuser=True)
        assert world.run(3).ready_finding.reason is Reason.LOGIN_TOO_POWERFUL
        assert world.decision.ready is Truth.TRUE
        assert "not verified" in world.decision.ready_finding.message, "the message has all of them"

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
