"""How a member that takes no new connections gets rid of those it has."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headroom.model.replica import Role
from headroom.policy.replicaset.drain import BY_CHOICE, DrainLimits, DrainStep, decide_drain
from headroom.policy.replicaset.members import Member
from headroom.reasons import Reason
from tests.unit.policy.replicaset.make import LIMITS, NOW, make_member, make_pod, make_probe

ORDER = [DrainStep.WAIT, DrainStep.END_IDLE, DrainStep.END_ALL, DrainStep.DONE]
REASONS = [*sorted(BY_CHOICE), Reason.REPLAY_LAG_ABOVE_LIMIT, Reason.NOT_STREAMING, Reason.MEMBER_PROMOTED, None]


def draining(seconds: float, why: Reason | None, sessions: int = 4, **changes: Any) -> Member:
    pod = make_pod(Role.DRAINING, draining_since=NOW - timedelta(seconds=seconds), why=why)
    return make_member(Role.DRAINING, pod=pod, probe=make_probe(sessions=sessions), **changes)


EJECTED = [reason for reason in REASONS if reason not in BY_CHOICE]


@pytest.mark.parametrize("why", sorted(BY_CHOICE))
def test_by_choice_nothing_is_ended_while_the_service_lists_it(why: Reason) -> None:
    assert decide_drain(draining(3600, why, is_listed=True), LIMITS, NOW) is DrainStep.WAIT


@pytest.mark.parametrize("why", EJECTED)
def test_of_an_ejected_one_idle_sessions_end_at_once_and_none_outlives_the_grace(why: Reason | None) -> None:
    assert decide_drain(draining(0.1, why), LIMITS, NOW) is DrainStep.END_IDLE
    assert decide_drain(draining(0.1, why, is_listed=True), LIMITS, NOW) is DrainStep.WAIT
    assert decide_drain(draining(10, why, is_listed=True), LIMITS, NOW) is DrainStep.END_ALL
    no_grace = DrainLimits(LIMITS.timeout, timedelta())
    assert decide_drain(draining(0.1, why), no_grace, NOW) is DrainStep.END_ALL


@pytest.mark.parametrize("why", REASONS)
def test_a_connection_may_still_be_on_its_way_for_a_moment(why: Reason | None) -> None:
    assert decide_drain(draining(1.9, why, sessions=0), LIMITS, NOW) is DrainStep.WAIT
    assert decide_drain(draining(2.0, why, sessions=0), LIMITS, NOW) is DrainStep.DONE


@pytest.mark.parametrize("why", REASONS)
def test_a_pod_that_is_gone_or_going_has_no_sessions_to_end(why: Reason | None) -> None:
    member = draining(0, why)
    assert member.pod is not None
    for pod in (None, replace(member.pod, phase="Failed"), replace(member.pod, is_deleting=True)):
        assert decide_drain(replace(member, pod=pod), LIMITS, NOW) is DrainStep.DONE


def test_who_does_not_answer_is_not_believed_to_be_empty() -> None:
    silent = draining(30, Reason.REPLICAS_SET, sessions=0, unanswered=1)
    assert decide_drain(silent, LIMITS, NOW) is DrainStep.WAIT
    assert decide_drain(replace(silent, unanswered=0, probe=None), LIMITS, NOW) is DrainStep.WAIT


@pytest.mark.parametrize("why", REASONS)
@pytest.mark.parametrize("is_listed", [True, False])
@pytest.mark.parametrize("changes", [{"unanswered": 3}, {"unanswered": 1, "is_full": True}])
def test_one_that_nobody_can_ask_is_stopped_once_its_time_is_over(
    why: Reason | None, is_listed: bool, changes: dict[str, Any]
) -> None:
    limit = LIMITS.timeout if why in BY_CHOICE else LIMITS.eject_grace
    over = limit.total_seconds() + 10
    for probe in (None, make_probe(sessions=0), make_probe(sessions=4)):
        member = replace(draining(over, why, is_listed=is_listed, **changes), probe=probe)
        assert decide_drain(member, LIMITS, NOW) not in (DrainStep.STOP, DrainStep.DONE)
        member = replace(draining(over + 1, why, is_listed=is_listed, **changes), probe=probe)
        assert decide_drain(member, LIMITS, NOW) is DrainStep.STOP


def test_a_probe_that_is_missed_stops_nothing_and_is_no_sign_of_an_end() -> None:
    for changes in ({"unanswered": 1}, {"unanswered": 2}, {"probe": None}):
        member = replace(draining(600, Reason.NOT_STREAMING), **changes)
        assert decide_drain(member, LIMITS, NOW) is DrainStep.END_ALL


def test_without_a_time_of_its_own_a_drain_begins_now() -> None:
    member = draining(0, Reason.REPLICAS_SET)
    assert member.pod is not None
    undated = replace(member, pod=replace(member.pod, draining_since=None))
    assert decide_drain(undated, LIMITS, NOW) is DrainStep.WAIT


@pytest.mark.parametrize("why", REASONS)
@pytest.mark.parametrize("saw_begin", [True, False])
def test_a_wall_clock_that_steps_back_keeps_no_session(why: Reason | None, saw_begin: bool) -> None:
    limit = (LIMITS.timeout if why in BY_CHOICE else LIMITS.eject_grace).total_seconds()
    before = draining(-3600, why, drain_seconds=limit - 0.1, saw_drain_begin=saw_begin)
    assert decide_drain(before, LIMITS, NOW) is not DrainStep.END_ALL
    assert decide_drain(replace(before, drain_seconds=limit), LIMITS, NOW) is DrainStep.END_ALL


def test_one_that_steps_forward_cuts_no_statement_whose_drain_was_seen_to_begin() -> None:
    seen = draining(3600, Reason.REPLICAS_SET, drain_seconds=5.0, saw_drain_begin=True)
    assert decide_drain(seen, LIMITS, NOW) is DrainStep.WAIT
    assert decide_drain(replace(seen, saw_drain_begin=False), LIMITS, NOW) is DrainStep.DONE


@given(st.sampled_from(REASONS), st.integers(0, 100), st.floats(0, 200), st.floats(0, 200))
def test_time_only_ever_moves_a_drain_on(why: Reason | None, sessions: int, one: float, other: float) -> None:
    early, late = sorted((one, other))
    before = decide_drain(draining(early, why, sessions), LIMITS, NOW)
    after = decide_drain(draining(late, why, sessions), LIMITS, NOW)
    assert ORDER.index(before) <= ORDER.index(after)


@given(st.sampled_from(REASONS), st.integers(0, 3600), st.integers(0, 3600), st.integers(1, 100))
def test_every_drain_ends(why: Reason | None, timeout: int, grace: int, sessions: int) -> None:
    limits = DrainLimits(timedelta(seconds=timeout), timedelta(seconds=grace))
    assert decide_drain(draining(max(timeout, grace) + 13, why, sessions), limits, NOW) is DrainStep.DONE


@given(st.sampled_from(sorted(BY_CHOICE)), st.floats(0, 59.9), st.integers(1, 100))
def test_by_choice_no_running_statement_is_cut_within_the_timeout(why: Reason, seconds: float, sessions: int) -> None:
    assert decide_drain(draining(seconds, why, sessions), LIMITS, NOW) is DrainStep.WAIT
