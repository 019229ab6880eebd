"""Which workers go, and that none goes with a job it could not finish."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headroom.policy.target_conflict import TargetId
from headroom.policy.workerpool import PoolMemory, Rule, ScalingDecision, decide
from headroom.policy.workerpool.jobs import JobsInHand
from headroom.policy.workerpool.memory import Wants
from headroom.policy.workerpool.victims import IDLE_COST, WorkerPod, choose_victims
from headroom.reasons import Reason
from tests.unit.policy.workerpool.make import (
    GAP,
    KNOWN,
    NOW,
    make_facts,
    make_sample,
    make_spec,
    make_target,
    moment,
    scaling_of,
)

BUSY = frozenset({"ip-p0", "ip-p1", "ip-p2"})
"""Three of ten workers hold a job."""


def make_pod(name: str, *, cost: str | None = None, is_ready: bool = True) -> WorkerPod:
    return WorkerPod(name, f"uid-{name}", frozenset({name, f"ip-{name}"}), is_ready, cost)


def names(pods: tuple[WorkerPod, ...]) -> list[str]:
    return [pod.name for pod in pods]


def test_only_workers_that_hold_nothing_are_marked() -> None:
    pods = [make_pod(f"p{number}") for number in range(10)]
    marks = choose_victims(pods, BUSY, 4)
    assert names(marks.marked) == ["p3", "p4", "p5", "p6"]
    assert (marks.idle, marks.unmarked) == (7, ())
    assert len(choose_victims(pods, BUSY, 9).marked) == 7


def test_a_busy_worker_that_is_none_of_the_pods_may_be_any_of_them() -> None:
    """As where the queue knows its workers by names that are not those of pods."""
    pods = [make_pod("p1", cost=IDLE_COST), make_pod("p2")]
    marks = choose_victims(pods, frozenset({"mailer:17"}), 2)
    assert (marks.idle, marks.marked, names(marks.unmarked)) == (0, (), ["p1"])
    assert choose_victims(pods, frozenset(), 2).idle == 2


def test_pods_that_are_not_ready_go_first_and_need_no_mark() -> None:
    pods = [make_pod("p8", is_ready=False), make_pod("p9")]
    assert choose_victims(pods, frozenset(), 1).marked == ()
    assert names(choose_victims(pods, frozenset(), 2).marked) == ["p9"]


def test_a_mark_of_before_is_used_again_or_removed_and_a_cost_of_others_stays() -> None:
    pods = [make_pod("p1", cost=IDLE_COST), make_pod("p8", cost=IDLE_COST), make_pod("p7", cost="50"), make_pod("p6")]
    marks = choose_victims(pods, frozenset({"ip-p1"}), 1)
    assert (names(marks.marked), names(marks.unmarked)) == ([], ["p1"])
    marks = choose_victims(pods, frozenset({"p1"}), 3)
    assert (names(marks.marked), names(marks.unmarked)) == (["p6"], ["p1"])


@given(busy=st.sets(st.integers(0, 32)), ours=st.sets(st.integers(0, 30)), count=st.integers(0, 30))
def test_no_busy_worker_ends_up_with_a_mark(busy: set[int], ours: set[int], count: int) -> None:
    pods = [make_pod(f"p{number}", cost=IDLE_COST if number in ours else None) for number in range(31)]
    marks = choose_victims(pods, frozenset(f"ip-p{number}" for number in busy), count)
    marked = ({f"p{number}" for number in ours} | set(names(marks.marked))) - set(names(marks.unmarked))
    assert marked.isdisjoint(f"p{number}" for number in busy)
    assert len(marked) <= count


def decide_down(present: int = 10, *, spec: Any = None, target: Any = None, **numbers: Any) -> ScalingDecision:
    """A pool that has wanted one worker for a whole window."""
    wants = Wants(since=NOW - 1000, latest=NOW - 5).add(NOW - 5, 1, 300.0)
    memory = replace(KNOWN, wants=wants, target_uid="uid-target", has_answered=True)
    before = make_sample(NOW - 60, in_flight=0)
    spec = spec or make_spec(max_workers=40, down_window=0.0, down_step_percent=100)
    pods = target or make_target(present, grace_seconds=30.0)
    memory = decide(spec, make_facts(present, signal=before, target=pods), memory, moment(NOW - 60)).memory
    memory = replace(memory, wants=wants, moves=())
    facts = make_facts(present, signal=make_sample(**numbers), target=pods)
    return scaling_of(decide(spec, facts, memory, moment(NOW)).decision)


def test_jobs_that_outlast_the_grace_period_are_not_cut_and_the_remedy_is_named() -> None:
    decision = decide_down(in_flight=3, job_seconds=60.0)
    assert (decision.allowed, decision.limit, decision.reason) == (10, Rule.GRACE_TOO_SHORT, Reason.GRACE_TOO_SHORT)
    assert "jobs take up to 60 s (99 of 100), and the pods' terminationGracePeriodSeconds is 30" in decision.message
    assert "set spec.template.spec.terminationGracePeriodSeconds of the workers to 70 or more" in decision.message
    assert "which workers are idle is not known" in decision.message


def test_known_idle_workers_go_whatever_the_grace_period() -> None:
    decision = decide_down(in_flight=3, job_seconds=60.0, busy_hosts=BUSY)
    assert decision.allowed == 3
    decision = decide_down(in_flight=3, job_seconds=60.0, busy_hosts=BUSY | {"p3", "p4", "p5", "p6"})
    assert (decision.allowed, decision.limit) == (7, Rule.GRACE_TOO_SHORT)
    assert "only idle workers may go" in decision.message


def test_a_stateful_set_does_not_choose_who_goes() -> None:
    target = replace(make_target(10, grace_seconds=30.0), id=TargetId("apps", "StatefulSet", "mailer"))
    decision = decide_down(target=target, in_flight=3, job_seconds=60.0, busy_hosts=BUSY)
    assert (decision.allowed, decision.limit) == (10, Rule.GRACE_TOO_SHORT)


def test_nothing_in_hand_can_be_cut() -> None:
    assert decide_down(in_flight=0, job_seconds=3600.0).allowed == 1


def test_workers_that_may_finish_go_at_once_when_the_maximum_is_lowered() -> None:
    spec = make_spec(max_workers=3)
    assert (
        decide_down(20, spec=spec, in_flight=9, job_seconds=20.0, target=make_target(20, grace_seconds=30.0)).allowed
        == 3
    )


@pytest.mark.parametrize(
    ("numbers", "pods", "allowed", "reason"),
    [
        ({"job_seconds": 60.0}, {"grace_seconds": 30.0}, 20, Reason.GRACE_TOO_SHORT),
        ({"job_seconds": 60.0, "busy_hosts": BUSY | set("abcdef")}, {"grace_seconds": 30.0}, 9, Reason.GRACE_TOO_SHORT),
        ({"job_seconds": 60.0}, {"grace_seconds": None}, 9, Reason.WORK_IN_FLIGHT),
        ({"job_seconds": 60.0}, {"grace_seconds": None, "is_counted": False}, 20, Reason.WORK_IN_FLIGHT),
        ({"job_seconds": 10.0, "in_hand_seconds": 20.0}, {"grace_seconds": 30.0}, 20, Reason.WORK_IN_FLIGHT),
        ({"job_seconds": 10.0, "in_hand_seconds": 31.0}, {"grace_seconds": 30.0}, 20, Reason.GRACE_TOO_SHORT),
        ({"in_hand_seconds": 20.0}, {"grace_seconds": 30.0}, 20, Reason.WORK_IN_FLIGHT),
    ],
    ids=[
        "too short",
        "idle ones known",
        "grace not known",
        "not counted yet",
        "jobs in hand are longer than those before",
        "one has outlasted it",
        "jobs in hand are longer than was estimated",
    ],
)
def test_a_lowered_maximum_cuts_no_job_in_hand(
    numbers: dict[str, Any], pods: dict[str, Any], allowed: int, reason: Reason
) -> None:
    """Nine jobs in hand of twenty workers, and the maximum goes from 20 to 5."""
    decision = decide_down(20, spec=make_spec(max_workers=5), in_flight=9, target=make_target(20, **pods), **numbers)
    assert (decision.allowed, decision.reason) == (allowed, reason)


def test_until_jobs_are_measured_their_length_is_estimated_from_the_service_rate() -> None:
    """One worker does a job a second, so that 99 of 100 take less than 4.6 s."""
    short = make_target(10, grace_seconds=4.0)
    decision = decide_down(target=short, in_flight=3)
    assert (decision.allowed, decision.limit) == (10, Rule.GRACE_TOO_SHORT)
    assert "jobs take up to about 5 s" in decision.message
    assert decide_down(target=make_target(10, grace_seconds=5.0), in_flight=3).allowed == 3


def test_a_queue_that_cannot_be_read_still_holds() -> None:
    facts = make_facts(10, signal=GAP, target=make_target(10, grace_seconds=30.0))
    decision = scaling_of(decide(make_spec(), facts, PoolMemory(), moment(NOW)).decision)
    assert (decision.allowed, decision.limit) == (10, Rule.STALE_SIGNAL)


def test_a_grace_period_of_the_same_length_is_enough() -> None:
    assert JobsInHand(3, None, 30.0, is_estimated=False, grace_seconds=30.0).is_grace_enough
    assert JobsInHand(3, None, 30.1, is_estimated=False, grace_seconds=30.0).is_grace_too_short
    assert not JobsInHand(3, None, None).is_grace_enough


@pytest.mark.parametrize(
    ("paused", "numbers", "allowed", "is_stopped"),
    [
        (None, {"in_flight": 0}, 1, False),
        ("Down", {"in_flight": 0}, 10, True),
        ("Up", {"in_flight": 0}, 1, False),
        ("Down", {"lag_seconds": 100.0, "backlog": 6000, "late": 6000, "in_flight": 10}, 20, False),
        ("Up", {"lag_seconds": 100.0, "backlog": 6000, "late": 6000, "in_flight": 10}, 10, True),
    ],
)
def test_one_direction_may_be_paused(
    paused: str | None, numbers: dict[str, Any], allowed: int, is_stopped: bool
) -> None:
    parts = {} if paused is None else {"paused": paused}
    spec = make_spec(max_workers=40, down_window=0.0, down_step_percent=100, **parts)
    decision = decide_down(spec=spec, job_seconds=1.0, **numbers)
    assert (decision.allowed, decision.limit is Rule.PAUSED) == (allowed, is_stopped)
    if is_stopped:
        assert decision.reason is Reason.PAUSED
        assert decision.is_held_back is (paused == "Up")
        assert f"spec.paused is {paused}" in decision.message


def test_a_paused_direction_is_above_the_bounds_of_the_spec() -> None:
    lowered = make_spec(max_workers=5, paused="Down")
    assert decide_down(20, spec=lowered, in_flight=0, target=make_target(20)).allowed == 20
    raised = make_spec(min_workers=30, max_workers=40, paused="Up")
    assert decide_down(20, spec=raised, in_flight=0, target=make_target(20)).allowed == 20


def test_more_pods_than_are_asked_for_keep_no_more_workers_than_that() -> None:
    """Three pods still run of which two are wanted, all with a job, and the maximum goes to one."""
    target = make_target(2, running=3, grace_seconds=None)
    assert decide_down(2, spec=make_spec(max_workers=1), in_flight=3, target=target).allowed == 2
