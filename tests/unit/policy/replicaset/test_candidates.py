"""Who could serve in this pass and in which order, how many are dead, and what counts as warm."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headroom.model.conditions import Finding
from headroom.model.replica import Role
from headroom.policy.replicaset.candidates import count_dead, count_swapped, rank_candidates, rank_fit
from headroom.policy.replicaset.members import Member
from headroom.policy.replicaset.replay_lag import NotEligible, ReplayLag
from headroom.policy.replicaset.targets import Targets, is_drifted, is_warm
from headroom.reasons import Reason
from tests.unit.policy.replicaset.make import (
    BETWEEN,
    BEYOND,
    UNKNOWN,
    WITHIN,
    judge,
    make_claim,
    make_member,
    make_pod,
    make_probe,
    make_targets,
    worlds,
)

STANDBY = make_member(Role.STANDBY, 1)
FAULT = Finding(Reason.EXTENSION_MISSING, "postgis is not there")
UNSEEN = Finding(Reason.IN_PROGRESS, "they are being compared")


def fit(*found: Member, **targets: Any) -> list[str]:
    return [member.name for member in rank_fit(judge(*found), make_targets(**targets))]


def with_pod(member: Member, **changes: Any) -> Member:
    assert member.pod is not None
    return replace(member, pod=replace(member.pod, **changes))


def lagging(ordinal: int, seconds: float, size: int = 0, template: str = "new") -> Member:
    return with_pod(make_member(Role.STANDBY, ordinal, lag=ReplayLag(seconds, size)), template=template)


def test_less_lag_comes_first_then_fewer_bytes_then_the_lower_ordinal() -> None:
    found = [lagging(4, 0.1, 9), lagging(3, 0.1, 9), lagging(2, 0.1, 5), lagging(1, 0.9)]
    assert fit(*found) == ["store-2-a", "store-3-a", "store-4-a", "store-1-a"]


def test_a_member_of_an_older_template_comes_last_however_small_its_lag() -> None:
    found = [lagging(1, 0.0, template="old"), lagging(2, 0.9)]
    assert fit(*found) == ["store-2-a", "store-1-a"]
    assert fit(*found, template=None) == ["store-1-a", "store-2-a"], "which one is present is not known"


@pytest.mark.parametrize(
    "member",
    [
        replace(STANDBY, lag=BETWEEN),
        replace(STANDBY, lag=BEYOND),
        replace(STANDBY, lag=UNKNOWN),
        replace(STANDBY, lag=None),
        replace(STANDBY, lag=NotEligible(Reason.NOT_STREAMING, "")),
        replace(STANDBY, unanswered=1),
        replace(STANDBY, is_resting=True),
        replace(STANDBY, library_fault=FAULT),
        replace(STANDBY, claim=make_claim(name=STANDBY.name, retire=Reason.RETIRED)),
        with_pod(STANDBY, is_ready=False),
        with_pod(STANDBY, is_deleting=True),
        with_pod(STANDBY, phase="Failed"),
        make_member(Role.PROVISIONING, 1),
        make_member(Role.SERVING, 1),
        make_member(None, 1),
    ],
    ids=[
        "between the bounds",
        "beyond",
        "lag not known",
        "not measured",
        "no stream",
        "missed a probe",
        "resting",
        "other libraries",
        "going",
        "not ready",
        "being deleted",
        "ended",
        "new",
        "serves already",
        "no pod",
    ],
)
def test_a_standby_that_is_in_any_way_not_well_is_no_candidate(member: Member) -> None:
    assert fit(STANDBY) == ["store-1-a"]
    assert fit(member) == []


def test_libraries_that_are_compared_again_keep_a_standby_of_which_nothing_bad_is_known() -> None:
    assert fit(replace(STANDBY, library_fault=UNSEEN)) == ["store-1-a"]


@pytest.mark.parametrize(
    ("why", "may_return"),
    [
        (Reason.REPLICAS_SET, True),
        (Reason.UTILIZATION_BELOW_TARGET, True),
        (Reason.DRAINING, True),
        (Reason.REPLAY_LAG_ABOVE_LIMIT, False),
        (Reason.MEMBER_UNREACHABLE, False),
        (None, False),
    ],
)
def test_one_that_drains_returns_only_if_it_left_by_choice(why: Reason | None, may_return: bool) -> None:
    drains = with_pod(make_member(Role.DRAINING, 1), why=why)
    assert fit(drains) == (["store-1-a"] if may_return else [])
    assert fit(replace(drains, library_fault=FAULT)) == []


def test_an_obstacle_hides_all_candidates_but_not_that_they_are_fit() -> None:
    targets = make_targets(no_activation="spec.mode is Paused")
    assert rank_candidates(judge(STANDBY), targets) == []
    assert [member.name for member in rank_fit(judge(STANDBY), targets)] == ["store-1-a"]


@given(worlds())
def test_candidates_are_those_that_are_fit_and_the_order_does_not_depend_on_the_listing(
    world: tuple[list[Member], Targets],
) -> None:
    found, targets = world
    evaluated = judge(*found, has_primary=targets.has_primary)
    ranked = rank_fit(evaluated, targets)
    assert ranked == rank_fit(list(reversed(evaluated)), targets)
    assert rank_candidates(evaluated, replace(targets, no_activation="")) == ranked
    drifted = [is_drifted(member, targets) for member in ranked]
    assert drifted == sorted(drifted)


def serving(ordinal: int, **changes: Any) -> Member:
    return make_member(Role.SERVING, ordinal, lag=UNKNOWN, **changes)


def dead(*found: Member, desired: int) -> int:
    return count_dead(judge(*found, has_primary=False), make_targets(desired=desired, has_primary=False))


def test_without_the_primary_only_places_of_the_dead_are_free() -> None:
    silent, missed = serving(1, unanswered=3), serving(1, unanswered=2)
    assert dead(serving(0), silent, desired=2) == 1
    assert dead(serving(0), missed, desired=2) == 0
    assert dead(serving(0), with_pod(serving(1), is_ready=False), desired=2) == 1
    assert dead(serving(0), with_pod(serving(1), is_deleting=True), desired=2) == 1
    assert dead(serving(0), desired=5) == 0, "nothing is scaled out in an outage"
    assert dead(serving(0), silent, desired=1) == 0, "one fewer is wanted anyway"


def test_with_nobody_alive_one_place_is_free_even_if_the_pods_are_gone() -> None:
    assert dead(desired=3) == 1
    assert dead(desired=0) == 0
    assert dead(serving(0, unanswered=9), serving(1, unanswered=9), desired=3) == 2


@given(st.integers(0, 4), st.integers(0, 4), st.integers(0, 6))
def test_the_living_and_their_substitutes_are_never_more_than_are_wanted(living: int, gone: int, desired: int) -> None:
    found = [serving(number) for number in range(living)]
    found += [serving(living + number, unanswered=9) for number in range(gone)]
    needed = dead(*found, desired=desired)
    assert 0 <= needed <= max(gone, 0 if living else 1)
    assert needed == 0 or living + needed <= desired


def swapped(good: Member, candidate: Member | None, **targets: Any) -> int:
    candidates = judge(candidate) if candidate is not None else []
    return count_swapped(judge(good), candidates, make_targets(**targets))


def test_one_of_the_present_template_joins_before_an_older_one_leaves() -> None:
    old = with_pod(make_member(Role.SERVING, 0), template="old")
    assert swapped(old, STANDBY) == 1
    assert swapped(old, with_pod(STANDBY, template="old")) == 0
    assert swapped(old, None) == 0
    assert swapped(make_member(Role.SERVING, 0), STANDBY) == 0
    assert swapped(old, STANDBY, desired=2) == 0, "a place is free in any case"
    assert swapped(old, STANDBY, has_primary=False) == 0
    assert swapped(old, STANDBY, template=None) == 0


@pytest.mark.parametrize(
    ("member", "is_counted"),
    [
        (make_member(Role.SERVING), True),
        (make_member(Role.SERVING, lag=BEYOND, beyond=9), True),
        (make_member(Role.SERVING, library_fault=FAULT), False),
        (make_member(Role.SERVING, library_fault=UNSEEN), True),
        (make_member(Role.SERVING, lag=NotEligible(Reason.MEMBER_PROMOTED, "")), False),
        (make_member(Role.SERVING, claim=make_claim(is_deleting=True)), False),
        (make_member(Role.STANDBY), True),
        (make_member(Role.STANDBY, lag=BEYOND, within=0, beyond=9), False),
        (make_member(Role.STANDBY, library_fault=FAULT), False),
        (make_member(Role.DRAINING), False),
        (make_member(Role.PROVISIONING), False),
        (make_member(None), False),
    ],
)
def test_warm_is_who_serves_or_could_at_once(member: Member, is_counted: bool) -> None:
    [evaluated] = judge(member)
    assert is_warm(evaluated) is is_counted


def test_without_a_pod_or_a_template_nobody_is_of_an_older_one() -> None:
    old = make_member(pod=make_pod(template="old"), probe=make_probe(), lag=WITHIN)
    [evaluated] = judge(old)
    assert is_drifted(evaluated, make_targets())
    assert not is_drifted(evaluated, make_targets(template=None))
    [without] = judge(make_member(None))
    assert not is_drifted(without, make_targets())
