"""Activations: confirmed by a later pass, late ones give up their place, and each failure rests longer."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headroom.model.replica import Role
from headroom.policy.replicaset.activation import Activations, Confirmation, decide_places
from headroom.policy.replicaset.facts import MemberFacts, Reading, Silence
from headroom.policy.replicaset.members import Member
from headroom.policy.replicaset.plan import Plan, decide_plan
from headroom.reasons import Reason
from tests.unit.policy.replicaset.make import (
    NOW,
    answer,
    judge,
    make_found,
    make_member,
    make_pod,
    make_probe,
    make_targets,
)

STANDBY_POD = make_pod(Role.STANDBY, uid="u0")


def serving(reading: Reading | None = None, **changes: Any) -> MemberFacts:
    pod = make_pod(Role.SERVING, uid="u0", is_ready=changes.pop("is_ready", True))
    return make_found(0, pod=pod, reading=reading or answer(0.0), **changes)


def begun(at: float = 0.0) -> Activations:
    return Activations().begin(STANDBY_POD, at)


def plan_of(*found: Member, **changes: Any) -> Plan:
    return decide_plan(judge(*found), make_targets(**changes), NOW)


def test_listed_and_answering_is_in_the_service_and_the_time_is_from_the_decision() -> None:
    after = begun(10.0).observe([serving(is_listed=True)], 10.2)
    assert after.confirmed == (Confirmation("store-0-a", pytest.approx(0.2)),)
    assert after.seconds(serving().pod, 10.2) is None
    assert after.observe([serving(is_listed=True)], 10.4).confirmed == ()


@pytest.mark.parametrize(
    "found", [serving(), serving(Silence("no answer"), is_listed=True)], ids=["not listed", "does not answer"]
)
def test_until_both_are_seen_it_is_on_its_way(found: MemberFacts) -> None:
    after = begun(10.0).observe([found], 12.0)
    assert after.confirmed == ()
    assert after.seconds(found.pod, 12.0) == 2.0


def test_what_served_once_stays_confirmed_while_its_pod_serves() -> None:
    served = begun().observe([serving(is_listed=True)], 1.0)
    assert served.observe([serving()], 99.0).seconds(serving().pod, 99.0) is None
    standby = make_found(0, pod=STANDBY_POD)
    assert served.observe([standby], 2.0).served == frozenset()


def test_a_new_process_confirms_what_it_finds_listed_and_times_nothing() -> None:
    after = Activations().observe([serving(Silence("not asked yet"), is_listed=True)], 5.0)
    assert (after.served, after.confirmed) == (frozenset({"u0"}), ())


def test_a_new_process_gives_what_is_not_listed_its_time_again() -> None:
    after = Activations().observe([serving()], 5.0)
    assert after.seconds(serving().pod, 9.0) == 4.0
    unready = serving(is_ready=False)
    assert Activations().observe([unready], 5.0).seconds(unready.pod, 9.0) is None, "that is why it is not listed"


def test_an_answer_to_the_patch_may_be_lost_while_the_watch_is_behind() -> None:
    standby = make_found(0, pod=STANDBY_POD)
    seen = begun(10.0).observe([standby], 11.0)
    assert seen.observe([serving(is_listed=True)], 12.0).confirmed == (Confirmation("store-0-a", 2.0),)
    assert begun(10.0).observe([standby], 16.0).pending == {}


def test_each_failure_rests_longer_until_it_serves() -> None:
    once = begun().fail(STANDBY_POD, 100.0)
    assert once.is_resting(STANDBY_POD, 109.9)
    assert not once.is_resting(STANDBY_POD, 110.0)
    twice = once.begin(STANDBY_POD, 111.0).fail(STANDBY_POD, 116.0)
    assert twice.is_resting(STANDBY_POD, 135.0)
    served = twice.begin(STANDBY_POD, 140.0).observe([serving(is_listed=True)], 141.0)
    assert served.resting == {}


def coming(ordinal: int, seconds: float) -> Member:
    return make_member(Role.SERVING, ordinal, is_listed=False, activating_seconds=seconds)


def test_who_is_on_its_way_has_its_place_and_is_not_counted_as_serving() -> None:
    plan = plan_of(coming(0, 1.0), make_member(Role.STANDBY, 1))
    assert (plan.needed, plan.good, plan.put_back, plan.late) == (0, 0, (), ())


def test_a_late_one_gives_its_place_to_the_next() -> None:
    plan = plan_of(coming(0, 5.0), make_member(Role.STANDBY, 1))
    assert (plan.needed, plan.activate, plan.put_back) == (1, ("store-1-a",), ("store-0-a",))


def test_without_another_a_late_one_keeps_its_label() -> None:
    plan = plan_of(coming(0, 60.0), make_member(Role.STANDBY, 1, is_resting=True))
    assert (plan.activate, plan.put_back, plan.late) == ((), (), ("store-0-a",))


def test_while_the_primary_is_away_a_late_one_stays_where_it_is() -> None:
    found = [make_member(Role.SERVING, 0), coming(1, 60.0), make_member(Role.STANDBY, 2)]
    assert plan_of(*found, desired=1).put_back == ("store-1-a",)
    assert plan_of(*found, desired=1, has_primary=False, outage_seconds=1.0).put_back == ()


def test_nobody_leaves_for_one_that_is_not_confirmed() -> None:
    lagging = make_member(Role.SERVING, 0, beyond=2)
    plan = plan_of(lagging, coming(1, 1.0), standbys=0)
    assert plan.eject == ()
    assert not plan.lag_panic, "one is on its way"
    after = plan_of(lagging, make_member(Role.SERVING, 1), standbys=0)
    assert [entry.name for entry in after.eject] == ["store-0-a"]


def test_nothing_is_swapped_or_made_anew_while_one_is_on_its_way() -> None:
    old = replace(make_member(Role.STANDBY, 1), pod=make_pod(name="store-1-a", uid="u1", template="old"))
    assert plan_of(make_member(Role.SERVING, 0), old, make_member(Role.STANDBY, 2), standbys=2).recreate
    found = [coming(0, 1.0), old, make_member(Role.STANDBY, 2)]
    assert plan_of(*found, standbys=2).recreate == ()


@given(st.lists(st.floats(0, 20), max_size=5), st.integers(0, 5), st.integers(0, 5), st.integers(0, 6))
def test_as_many_as_are_wanted_have_a_place_at_most(
    seconds: list[float], good: int, candidates: int, desired: int
) -> None:
    on_their_way = judge(*(coming(number, value) for number, value in enumerate(seconds)))
    places = decide_places(on_their_way, good=good, candidates=candidates, desired=desired)
    late = sum(value >= 5.0 for value in seconds)
    after = good + len(seconds) + min(places.needed, candidates) - len(places.put_back)
    assert after <= max(desired, good + len(seconds) - late)
    assert after >= min(desired, good + len(seconds))
    assert len(places.put_back) <= late


@pytest.mark.parametrize("why", [Reason.REPLICAS_SET, Reason.UTILIZATION_BELOW_TARGET])
def test_one_that_is_recalled_keeps_its_sessions_even_when_its_drain_is_over(why: Reason) -> None:
    pod = make_pod(Role.DRAINING, name="store-1-a", uid="u1", why=why, draining_since=NOW - timedelta(seconds=61))
    overdue = make_member(Role.DRAINING, 1, pod=pod, probe=make_probe(sessions=5, active_sessions=5))
    quiet = plan_of(make_member(Role.SERVING, 0), overdue, desired=1, standbys=1)
    assert [end.name for end in quiet.end_sessions] == ["store-1-a"]
    recalled = plan_of(make_member(Role.SERVING, 0), overdue, desired=2, standbys=0)
    assert (recalled.activate, recalled.end_sessions) == (("store-1-a",), ())
