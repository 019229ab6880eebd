"""Who goes for good and in which order, which pods are recreated, and how many members are begun."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headroom.model.conditions import Finding
from headroom.model.replica import ContainerFacts, Role
from headroom.policy.replicaset import timeouts
from headroom.policy.replicaset.members import EvaluatedMember, Member
from headroom.policy.replicaset.replay_lag import NotEligible, ReplayLag
from headroom.policy.replicaset.retirement import (
    choose_replacement,
    count_missing,
    recreate,
    retire_excess,
    retire_failed,
)
from headroom.policy.replicaset.targets import Targets
from headroom.reasons import Reason
from tests.unit.policy.replicaset.make import (
    NOW,
    judge,
    make_claim,
    make_member,
    make_pod,
    make_targets,
    worlds,
)

PROMOTED = NotEligible(Reason.MEMBER_PROMOTED, "it was promoted")
LACKING = Finding(Reason.EXTENSION_MISSING, "postgis is not there")
LONG = timeouts.SILENCE_LIMIT.total_seconds()


def with_pod(member: Member, **changes: Any) -> Member:
    assert member.pod is not None
    return replace(member, pod=replace(member.pod, **changes))


def due(role: Role, ordinal: int) -> Member:
    """Someone deleted its claim: it works until its pod ends, and does not come back."""
    return make_member(role, ordinal, claim=make_claim(is_deleting=True))


def seeding(ordinal: int, **changes: Any) -> Member:
    pod = make_pod(Role.PROVISIONING, name=f"store-{ordinal}-a", uid=f"u{ordinal}", is_ready=False)
    pod = replace(pod, seed=ContainerFacts(is_running=True), server=ContainerFacts())
    return make_member(Role.PROVISIONING, ordinal, pod=pod, probe=None, lag=None, within=0, **changes)


def test_one_that_failed_goes_at_once_unless_it_still_serves() -> None:
    found = [make_member(role, number, lag=PROMOTED) for number, role in enumerate((Role.STANDBY, Role.SERVING))]
    assert [entry.name for entry in retire_failed(judge(*found))] == ["store-0-a"]
    ending = with_pod(found[1], is_deleting=True)
    assert [entry.name for entry in retire_failed(judge(ending))] == ["store-1-a"]


def test_only_one_that_never_joined_the_pool_is_a_failed_attempt() -> None:
    never = make_member(None, claim=make_claim(is_bound=False, created_at=NOW - timedelta(hours=1)))
    [attempt] = retire_failed(judge(never))
    assert (attempt.is_failure, attempt.reason) == (True, Reason.VOLUME_NOT_BOUND)
    [lost] = retire_failed(judge(make_member(Role.STANDBY, lag=PROMOTED)))
    assert (lost.is_failure, lost.reason, lost.message) == (False, Reason.MEMBER_PROMOTED, "it was promoted")


def replaced(*found: Member, has_other: bool = True, **targets: Any) -> str | None:
    chosen = choose_replacement(judge(*found), make_targets(**targets), has_other=has_other)
    return chosen.name if chosen is not None else None


def test_a_standby_is_replaced_before_one_that_serves_and_only_when_the_set_is_whole() -> None:
    found = [due(Role.SERVING, 0), due(Role.STANDBY, 1)]
    assert replaced(*found) == "store-1-a"
    assert replaced(*found, standbys=2) is None
    assert replaced(due(Role.SERVING, 0), make_member(Role.STANDBY, 1)) is None, "another could serve: it is ejected"
    assert replaced(due(Role.SERVING, 0), has_other=False, standbys=0) == "store-0-a"


def test_while_a_new_member_is_there_no_other_is_given_up() -> None:
    found = [due(Role.SERVING, 0), due(Role.STANDBY, 1), seeding(2)]
    assert replaced(*found) is None
    new = seeding(2, claim=make_claim(is_deleting=True))
    assert replaced(due(Role.SERVING, 0), due(Role.STANDBY, 1), new) in (None, "store-2-a")


@pytest.mark.parametrize("targets", [{"may_replace": False}, {"has_primary": False}])
def test_nobody_is_replaced_while_no_other_could_be_created(targets: dict[str, Any]) -> None:
    assert replaced(due(Role.STANDBY, 0), desired=0, **targets) is None
    assert replaced(due(Role.STANDBY, 0), desired=0) == "store-0-a"


def test_one_that_serves_with_the_libraries_of_an_older_image_gets_a_successor() -> None:
    lacking = make_member(Role.SERVING, 0, library_fault=LACKING)
    assert replaced(lacking, standbys=0) is None, "a new one would have the same image"
    assert replaced(with_pod(lacking, template="old"), standbys=0) == "store-0-a"


def excess(*found: Member, good: int = 1, called: tuple[str, ...] = (), **targets: Any) -> list[str]:
    return [entry.name for entry in retire_excess(judge(*found), called, make_targets(**targets), good=good)]


def test_the_least_far_goes_first_then_the_older_template_then_the_larger_lag_then_the_higher_ordinal() -> None:
    warm = [make_member(Role.STANDBY, number) for number in (1, 2)]
    assert excess(*warm, seeding(3), standbys=2) == ["store-3-a"]
    assert excess(with_pod(warm[0], template="old"), warm[1]) == ["store-1-a"]
    assert excess(replace(warm[0], lag=ReplayLag(0.9, 0)), warm[1]) == ["store-1-a"]
    assert excess(*warm) == ["store-2-a"]


def test_those_that_serve_drain_or_are_called_are_no_excess() -> None:
    found = [make_member(Role.SERVING, 0), make_member(Role.SERVING, 1), make_member(Role.DRAINING, 2)]
    assert excess(*found, standbys=0) == []
    standbys = [make_member(Role.STANDBY, number) for number in (3, 4)]
    assert excess(*standbys, called=("store-4-a",)) == ["store-3-a"]
    assert excess(*standbys, good=0) == [], "one of them is to serve"
    assert excess(*standbys, has_primary=False) == [], "it could not be replaced now"


@given(worlds(), st.integers(0, 4))
def test_what_goes_as_excess_is_never_missing_afterwards(world: tuple[list[Member], Targets], good: int) -> None:
    found, targets = world
    staying = [member for member in judge(*found, has_primary=targets.has_primary) if not member.facts.is_going]
    goers = {entry.name for entry in retire_excess(staying, (), targets, good=good)}
    left = [member for member in staying if member.name not in goers]
    movable = [member for member in left if member.facts.role not in (Role.SERVING, Role.DRAINING)]
    assert not goers or len(movable) == targets.standbys + max(targets.desired - good, 0)
    assert all(entry.reason is Reason.RETIRED for entry in retire_excess(staying, (), targets, good=good))


def again(*found: Member, is_calm: bool = True, **targets: Any) -> tuple[str, ...]:
    return recreate(judge(*found), make_targets(**targets), is_calm=is_calm)


def test_a_pod_that_ended_is_recreated_whatever_else_goes_on() -> None:
    ended = with_pod(make_member(Role.STANDBY, 1), phase="Failed")
    assert again(make_member(Role.SERVING, 0), ended, is_calm=False) == ("store-1-a",)
    assert again(make_member(Role.SERVING, 0), ended, has_primary=False) == ("store-1-a",)


def silent(ordinal: int, seconds: float, template: str = "new", role: Role = Role.STANDBY) -> Member:
    member = make_member(role, ordinal, lag=None, within=0, unanswered=3, silent_seconds=seconds)
    return with_pod(member, template=template)


def test_a_standby_that_cannot_be_reached_is_recreated_sooner_if_a_newer_template_may_be_the_mend() -> None:
    serving = make_member(Role.SERVING, 0)
    assert again(serving, silent(1, 3.0, "old")) == ("store-1-a",)
    assert again(serving, silent(1, LONG - 1)) == ()
    assert again(serving, silent(1, LONG)) == ("store-1-a",)
    assert again(serving, silent(1, LONG), has_primary=False) == ()
    assert again(silent(0, LONG, role=Role.SERVING)) == (), "clients may reach it"


def test_of_several_that_cannot_be_reached_one_at_a_time_is_spent() -> None:
    found = [make_member(Role.SERVING, 0), silent(1, LONG, "old"), silent(2, LONG, "old")]
    assert again(*found, standbys=2) == ("store-1-a",)
    assert again(*found, seeding(3), standbys=2) == (), "the present template is not known to be well"


def test_a_standby_of_an_older_template_waits_until_the_set_is_whole_and_calm() -> None:
    old = with_pod(make_member(Role.STANDBY, 1), template="old")
    serving = make_member(Role.SERVING, 0)
    assert again(serving, old) == ("store-1-a",)
    assert again(serving, old, is_calm=False) == ()
    assert again(serving, old, standbys=2) == ()
    assert again(serving, old, has_primary=False) == ()
    assert again(serving, old, template=None) == ()
    assert again(with_pod(serving, template="old"), make_member(Role.STANDBY, 1)) == (), "first another takes its place"


def test_one_that_waits_with_the_wrong_libraries_is_recreated_once_the_image_was_changed() -> None:
    lacking = make_member(Role.STANDBY, 1, library_fault=LACKING)
    serving = make_member(Role.SERVING, 0)
    assert again(serving, lacking) == ()
    assert again(serving, with_pod(lacking, template="old"), is_calm=False) == ("store-1-a",)


@pytest.mark.parametrize(
    ("found", "targets", "begun"),
    [
        ([], {}, 1),
        ([], {"max_concurrent": 3}, 2),
        ([make_member(Role.SERVING, 0), make_member(Role.STANDBY, 1)], {}, 0),
        ([seeding(0)], {}, 0),
        ([seeding(0)], {"max_concurrent": 2}, 1),
        ([make_member(None, 0)], {}, 0),
        ([make_member(Role.SERVING, number) for number in range(5)], {}, 0),
        ([], {"may_reserve": False}, 0),
    ],
)
def test_what_is_missing_is_begun_within_what_may_be_created_at_once(
    found: list[Member], targets: dict[str, Any], begun: int
) -> None:
    assert count_missing(judge(*found), make_targets(**targets), 0) == begun


def test_a_successor_is_one_more_than_wanted() -> None:
    found: list[EvaluatedMember] = judge(make_member(Role.SERVING, 0), make_member(Role.STANDBY, 1))
    assert count_missing(found, make_targets(), 1) == 1
