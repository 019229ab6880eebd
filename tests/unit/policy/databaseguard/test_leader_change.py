"""The first passes of a new process over a guard, driven without any shell."""

from dataclasses import replace
from typing import Any

import pytest

from headroom.api.v1alpha1.common import GuardState
from headroom.model.conditions import Finding, Truth
from headroom.model.moments import FIRST_SIGHT_SECONDS
from headroom.policy.databaseguard.facts import GuardMemory, ServerMemory
from headroom.policy.databaseguard.signals import Level
from headroom.policy.databaseguard.state import StateMemory
from headroom.reasons import Reason
from tests.unit.policy.databaseguard.make import (
    SYSTEM,
    UNREACHABLE,
    GuardPolicyWorld,
)


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
