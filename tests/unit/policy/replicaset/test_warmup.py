"""Whose cache is filled, from whom, and when that is stopped."""

from dataclasses import replace
from typing import Any

import pytest

from headroom.model.replica import Role
from headroom.policy.replicaset.members import EvaluatedMember, Member
from headroom.policy.replicaset.replay_lag import LagVerdict, NotEligible
from headroom.policy.replicaset.warmup import (
    REFRESH_SECONDS,
    RETRY_SECONDS,
    WarmupPlan,
    WarmupStart,
    WarmupState,
    plan_warmup,
)
from headroom.reasons import Reason
from tests.unit.policy.replicaset.make import BETWEEN, BEYOND, BOUNDS, judge, make_claim, make_member, make_probe

NOW = 1000.0
RUNNING = WarmupState(is_running=True)
RETIRED = make_claim(name="store-5-a", retire=Reason.RETIRED)
FRESH = WarmupState(ended_at=NOW - 1, is_done=True)


def serving(ordinal: int = 0, *, active: int = 0, sessions: int = 0, **changes: Any) -> Member:
    probe = make_probe(active_sessions=active, sessions=sessions)
    return make_member(Role.SERVING, ordinal, probe=probe, **changes)


def standby(ordinal: int = 5, **changes: Any) -> Member:
    return make_member(Role.STANDBY, ordinal, **changes)


def plan(
    *members: Member, states: dict[str, WarmupState] | None = None, taken: tuple[str, ...] = (), now: float = NOW
) -> WarmupPlan:
    evaluated: list[EvaluatedMember] = judge(*members)
    return plan_warmup(evaluated, states or {}, BOUNDS, taken, now)


def test_a_standby_is_warmed_from_the_member_that_serves_with_the_least_to_do() -> None:
    found = plan(serving(0, active=5), serving(1, active=1, sessions=9), serving(2, active=1, sessions=3), standby())
    assert found == WarmupPlan(WarmupStart("store-5-a", "store-2-a"))


@pytest.mark.parametrize(
    "source",
    [
        standby(0),
        serving(0, is_listed=False),
        serving(0, is_full=True),
        serving(0, lag=None, unanswered=1),
        serving(0, lag=NotEligible(Reason.NOT_STREAMING, "")),
    ],
)
def test_nobody_is_warmed_from_one_that_does_not_serve_well(source: Member) -> None:
    assert plan(source, standby(5)).start is None


@pytest.mark.parametrize("lag", [None, BETWEEN, BEYOND, NotEligible(Reason.NOT_STREAMING, "")])
def test_no_run_begins_on_a_standby_that_is_not_within_the_bounds_to_enter(lag: LagVerdict | None) -> None:
    assert plan(serving(), standby(lag=lag)).start is None


def test_one_that_comes_into_the_service_in_this_pass_is_left_alone() -> None:
    assert plan(serving(), standby(), taken=("store-5-a",)).start is None
    found = plan(serving(), standby(), states={"store-5-a": RUNNING}, taken=("store-5-a",))
    assert dict(found.stop) == {"store-5-a": "it is needed in the Service"}


@pytest.mark.parametrize(
    ("state", "pause"),
    [
        (WarmupState(), 0.0),
        (WarmupState(ended_at=0.0, is_done=True), REFRESH_SECONDS),
        (WarmupState(ended_at=0.0), RETRY_SECONDS),
    ],
)
def test_a_run_is_due_again_after_its_pause_and_not_sooner(state: WarmupState, pause: float) -> None:
    members = serving(), standby()
    assert plan(*members, states={"store-5-a": state}, now=pause).start is not None
    if pause:
        assert plan(*members, states={"store-5-a": state}, now=pause - 0.1).start is None


def test_one_at_a_time_and_the_coldest_first() -> None:
    members = serving(), standby(5), standby(6)
    assert plan(*members, states={"store-5-a": RUNNING}) == WarmupPlan()
    assert plan(*members, states={"store-5-a": FRESH}).start == WarmupStart("store-6-a", "store-0-a")
    old = replace(FRESH, ended_at=NOW - REFRESH_SECONDS - 5)
    found = plan(*members, states={"store-5-a": old, "store-6-a": replace(old, ended_at=NOW - REFRESH_SECONDS - 9)})
    assert found.start == WarmupStart("store-6-a", "store-0-a")


@pytest.mark.parametrize("lag", [BETWEEN, BEYOND])
def test_a_run_ends_when_replay_falls_behind_the_bounds_to_enter(lag: LagVerdict) -> None:
    found = plan(serving(), standby(lag=lag), states={"store-5-a": RUNNING})
    assert found.stop["store-5-a"].startswith("its replay fell behind: replay lag")


def test_a_run_ends_when_its_member_has_no_stream() -> None:
    member = standby(5, lag=NotEligible(Reason.NOT_STREAMING, "it has no stream"))
    found = plan(serving(), member, states={"store-5-a": RUNNING})
    assert dict(found.stop) == {"store-5-a": "it may not serve: it has no stream"}


@pytest.mark.parametrize("member", [serving(5), make_member(Role.DRAINING, 5), standby(5, claim=RETIRED)])
def test_a_run_ends_when_its_member_is_no_standby_any_more(member: Member) -> None:
    found = plan(serving(), member, states={"store-5-a": RUNNING})
    assert dict(found.stop) == {"store-5-a": "it is not a standby any more"}


def test_a_reading_that_is_missing_ends_nothing() -> None:
    assert plan(serving(), standby(lag=None, unanswered=1), states={"store-5-a": RUNNING}) == WarmupPlan()
