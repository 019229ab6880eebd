"""Guards of one server: what was measured is shared, each concludes for itself, and a namespace has one plan."""

from dataclasses import replace
from typing import Any

import pytest

from headroom.api.v1alpha1.common import GuardState
from headroom.model.conditions import Finding
from headroom.policy.databaseguard.facts import Observation, ServerMemory
from headroom.policy.databaseguard.limits import ConnectionLimits
from headroom.policy.databaseguard.signals import Level
from headroom.reasons import Reason
from tests.unit.policy.databaseguard.make import SERVER, GuardPolicyWorld, make_counts, make_spec


class TestSharing:
    """Guards of one server: one measures, and each concludes for itself."""

    def pair(self, **other: Any) -> tuple[GuardPolicyWorld, GuardPolicyWorld]:
        return GuardPolicyWorld(), GuardPolicyWorld(spec=make_spec(**other))

    def step(self, holder: GuardPolicyWorld, other: GuardPolicyWorld, passes: int = 1) -> None:
        for _ in range(passes):
            at = holder.now
            holder.step()
            other.shared = replace(holder.facts().observation, observed_at=at)
            other.now = at + 0.4
            other.step(0)

    def test_equal_specs_give_equal_states(self) -> None:
        holder, other = self.pair()
        holder.commit_seconds = 2.0
        self.step(holder, other, 30)
        assert other.decision.state is holder.decision.state is GuardState.OVERLOADED
        assert other.memory.server.state == holder.memory.server.state
        assert other.decision.counts == holder.decision.counts
        assert other.decision.marks == holder.decision.marks

    def test_each_follows_its_own_thresholds(self) -> None:
        holder, other = self.pair(thresholds={"lockWaiters": {"brownout": 2, "overloaded": 4, "emergency": 50}})
        holder.counts = make_counts(lock_waiters=6)
        self.step(holder, other, 30)
        assert holder.decision.state is GuardState.BROWNOUT
        assert other.decision.state is GuardState.OVERLOADED

    def test_a_guard_whose_canary_is_off_takes_no_commits_from_another_one(self) -> None:
        holder, other = self.pair(canary={"enabled": False})
        holder.commit_seconds = 2.0
        self.step(holder, other, 30)
        assert holder.decision.state is GuardState.OVERLOADED
        assert (other.decision.state, other.decision.commit_seconds) == (GuardState.HEALTHY, None)

    def test_guards_that_began_at_different_times_take_the_same_samples(self) -> None:
        """Two short waits: in one sample for whoever has the one phase, in two for whoever has the other."""
        holder, other = self.pair()
        for second in range(60):
            if second == 8:
                other.memory = replace(other.memory, server=ServerMemory())
            holder.counts = make_counts(lock_waiters=30 if second in (23, 26) else 0)
            self.step(holder, other)
            if second > 20:
                assert other.decision.level is holder.decision.level
                assert other.memory.server.sampled_at == holder.memory.server.sampled_at
        assert holder.decision.level is Level.OVERLOADED

    def test_an_observation_that_a_late_pass_has_missed_counts(self) -> None:
        holder, other = self.pair()
        self.step(holder, other, 20)
        missed = []
        for _ in range(12):
            holder.counts = make_counts(lock_waiters=30 if holder.now % 5 == 2 else 0)
            missed.append(replace(holder.facts().observation, observed_at=holder.now))
            holder.step()
        assert holder.decision.level is Level.OVERLOADED
        other.shared, other.now = missed[-1], holder.now
        other.extra = {"earlier": tuple(missed[:-1])}
        other.step()
        assert other.memory.server.state.level is Level.OVERLOADED

    def test_no_observation_counts_twice(self) -> None:
        holder, other = self.pair()
        holder.counts = make_counts(lock_waiters=30)
        other.shared = replace(holder.facts().observation, observed_at=1.0)
        other.run(30)
        assert other.memory.server.sampled_at == 0.0
        assert other.decision.level is None, "the span of the sample is not over: nothing was observed after it"

    def test_a_takeover_needs_nothing_handed_over(self) -> None:
        holder, other = self.pair()
        holder.commit_seconds = 2.0
        self.step(holder, other, 30)
        since = holder.memory.server.state.since
        other.shared, other.window, other.commit_seconds = None, holder.window, 2.0
        other.run(30)
        assert other.memory.server.state.since == since
        assert {decision.state for decision in other.decisions[-30:]} == {GuardState.OVERLOADED}

    def test_a_guard_that_cannot_log_in_takes_nothing_over(self) -> None:
        holder, other = self.pair()
        self.step(holder, other, 10)
        other.problem = Finding(Reason.PASSWORD_REJECTED, "refused")
        assert other.step().state is GuardState.UNKNOWN
        assert not other.decision.is_usable

    def test_sessions_are_seen_if_the_one_that_measures_sees_them(self) -> None:
        holder, other = self.pair()
        other.server = replace(SERVER, missing_rights=("pg_monitor",))
        self.step(holder, other, 10)
        assert other.decision.sees_sessions
        assert other.decision.ready_finding.reason is Reason.MISSING_RIGHT

    def test_each_reports_a_change_of_its_own(self) -> None:
        holder, other = self.pair()
        holder.commit_seconds = 2.0
        self.step(holder, other, 30)
        for world in (holder, other):
            assert len([decision for decision in world.decisions if decision.change is not None]) == 1

    def test_a_round_that_was_open_in_the_observation_does_not_grow_old_with_it(self) -> None:
        holder, other = self.pair()
        self.step(holder, other, 10)
        window = holder.window.begin(holder.now)
        other.shared, other.now = Observation(holder.now + 0.2, SERVER, make_counts(), window), holder.now + 7
        other.step()
        assert other.decision.commit_seconds == pytest.approx(0.2)


class TestPlan:
    """The guards of a namespace continue one plan for their pools."""

    def test_limits_of_the_others_count(self) -> None:
        world = GuardPolicyWorld()
        world.run(3)
        assert world.decision.budget is not None
        before = world.decision.budget.budget
        world.extra = {"limits": {"b": ConnectionLimits(10, 0), "c": ConnectionLimits(90, 47)}}
        budget = world.step().budget
        assert budget is not None
        assert (before, budget.usable, budget.budget) == (55, 50, 5)

    def test_its_own_limits_are_those_of_its_spec_now(self) -> None:
        world = GuardPolicyWorld(extra={"limits": {"store": ConnectionLimits(1, 90)}})
        budget = world.step().budget
        assert budget is not None
        assert budget.budget == 55

    def test_a_guard_that_comes_later_continues_the_history_of_the_others(self) -> None:
        first = GuardPolicyWorld(counts=make_counts(80))
        first.run(300)
        first.counts = make_counts(10)
        first.run(20)
        late = GuardPolicyWorld(now=first.now, window=first.window)
        late.extra = {"planned": first.memory.server.planned}
        assert late.step().budget == first.step().budget
        assert first.decision.budget is not None
        assert first.decision.budget.budget == 12

    def test_a_guard_whose_pass_was_late_does_not_put_an_old_plan_in_place_of_a_newer_one(self) -> None:
        quick = GuardPolicyWorld()
        quick.run(30)
        old = quick.memory
        quick.counts = make_counts(80)
        quick.run(300)
        late = GuardPolicyWorld(memory=old, now=quick.now, window=quick.window)
        late.extra = {"planned": quick.memory.server.planned}
        assert late.step().budget is not None
        assert late.decision.budget.budget == 12
        late.extra = {"planned": old.server.planned}
        assert late.step().budget.budget == 12, "its own is the newer one now"
