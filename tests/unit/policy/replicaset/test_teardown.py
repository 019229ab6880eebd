"""How a deletion ends: with nothing left, or with what is left reported."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from headroom.model.conditions import Finding
from headroom.model.moments import Moment
from headroom.model.replica import ABANDON_AFTER
from headroom.policy.replicaset.facts import Deletion, MemberFacts
from headroom.policy.replicaset.memory import SetMemory
from headroom.policy.replicaset.teardown import TeardownDecision, decide_teardown, may_have_slots
from headroom.reasons import Reason
from tests.unit.policy.replicaset.make import NOW, make_facts, make_found, make_pod, make_primary
from tests.unit.policy.replicaset.test_decide import make_spec

OUTAGE = Finding(Reason.PRIMARY_UNREACHABLE, "nothing answers")
KNOWN = SetMemory(system_identifier="1", slot_names=frozenset({"hr_a_b_0_a"}))


def decide(
    *found: MemberFacts, after: timedelta = timedelta(), memory: SetMemory = KNOWN, **changes: Any
) -> TeardownDecision:
    facts = make_facts(*found, deletion=Deletion(NOW), **changes)
    return decide_teardown(make_spec(), facts, memory, Moment(after.total_seconds(), NOW + after))


def test_it_is_over_when_nothing_is_left_on_a_primary_that_answers() -> None:
    assert decide().is_over
    assert not decide(make_found()).is_over


def test_without_a_primary_it_is_over_only_where_there_never_was_a_slot() -> None:
    assert not decide(primary=None, outage=OUTAGE).is_over
    assert decide(primary=None, outage=OUTAGE, memory=SetMemory()).is_over
    assert may_have_slots(replace(SetMemory(), system_identifier="1"))
    assert may_have_slots(SetMemory().record_slot("hr_a_b_0_a"))


def test_a_primary_that_does_not_come_back_is_waited_for_ten_minutes() -> None:
    before = decide(primary=None, outage=OUTAGE, after=ABANDON_AFTER - timedelta(seconds=1))
    assert (before.is_over, before.gives_up) == (False, "")
    after = decide(primary=None, outage=OUTAGE, after=ABANDON_AFTER)
    assert after.gives_up == "for 10 minutes no slot could be dropped on the primary: nothing answers"


@pytest.mark.parametrize("reason", [Reason.SECRET_NOT_FOUND, Reason.SECRET_KEY_MISSING, Reason.GUARD_NOT_FOUND])
def test_what_never_comes_back_by_itself_is_not_waited_for(reason: Reason) -> None:
    assert decide(primary=None, outage=Finding(reason, "it is gone")).gives_up == "it is gone"


def test_a_primary_that_ends_with_its_namespace_is_not_waited_for() -> None:
    deletion = Deletion(NOW, is_namespace_ending=True)
    facts = make_facts(make_found(), primary=None, outage=OUTAGE, deletion=deletion)
    found = [
        decide_teardown(make_spec(), facts, KNOWN, Moment(seconds, NOW + timedelta(seconds=seconds))).gives_up
        for seconds in (29.0, 30.0)
    ]
    assert found == ["", "its namespace is being deleted: nothing answers"]


def test_a_guard_that_is_gone_is_not_waited_for() -> None:
    assert decide(primary=None, outage=OUTAGE, has_guard=False).gives_up == "its DatabaseGuard is gone"
    assert decide(has_guard=False).gives_up == ""


def abandon(*found: MemberFacts, seconds: float = 60.0, **changes: Any) -> TeardownDecision:
    facts = make_facts(*found, deletion=Deletion(NOW, is_abandoned=True), **changes)
    return decide_teardown(make_spec(), facts, KNOWN, Moment(seconds, NOW + timedelta(seconds=seconds)))


def test_a_person_may_end_it_at_once_if_something_is_in_the_way() -> None:
    decision = abandon(make_found(), primary=None, outage=OUTAGE, seconds=0.0)
    assert decision.gives_up == "headroom.dev/abandon asks for it"
    assert not decision.is_over


def test_a_slot_that_can_be_dropped_is_not_given_up_by_who_asks_not_to_wait() -> None:
    assert abandon(make_found()).gives_up == ""
    assert not abandon(make_found()).is_over
    late = abandon(make_found(), seconds=ABANDON_AFTER.total_seconds())
    assert late.gives_up == "headroom.dev/abandon asks for it, and slots are still in use"


def test_nor_before_a_new_process_could_ask_its_guard() -> None:
    young = Finding(Reason.GUARD_NOT_READY, "the DatabaseGuard has not observed its server yet")
    assert [abandon(primary=None, outage=young, seconds=each).gives_up != "" for each in (9.0, 10.0)] == [False, True]


def test_who_asks_not_to_wait_leaves_pods_without_slots_to_kubernetes() -> None:
    assert abandon(make_found(slot=None, pod=make_pod(is_deleting=True)), seconds=1.0).is_over
    assert not abandon(make_found(slot=None), seconds=1.0).is_over, "nobody asked the pod to go yet"


def test_a_login_that_drops_slots_is_missed_only_while_there_are_slots() -> None:
    without = make_primary(has_slot_link=False)
    assert decide(make_found(), primary=without, after=ABANDON_AFTER).gives_up
    assert not decide(make_found(slot=None), primary=without, after=ABANDON_AFTER).gives_up


def test_pods_that_outlive_their_grace_period_are_left_to_kubernetes() -> None:
    stuck = make_found(slot=None, pod=make_pod(is_deleting=True))
    assert not decide(stuck, after=timedelta(minutes=2)).is_over
    assert decide(stuck, after=timedelta(minutes=4)).is_over
    assert not decide(make_found(slot=None), after=timedelta(minutes=4)).is_over, "nobody asked the pod to go yet"
    assert not decide(replace(stuck, slot=make_found().slot), after=timedelta(minutes=4)).is_over
    assert not decide(stuck, primary=None, outage=OUTAGE, after=timedelta(minutes=4)).is_over


@pytest.mark.parametrize(
    ("found", "changes", "words"),
    [
        ((make_found(), make_found(1)), {}, "it is being deleted; 2 replicas are on the way out"),
        ((make_found(pod=None),), {}, "it is being deleted; the primary still uses slot hr_a_b_0_a"),
        ((), {"primary": None, "outage": OUTAGE}, "its slots cannot be dropped: nothing answers; annotate it with"),
        ((), {"primary": None}, "the primary does not answer"),
    ],
)
def test_it_says_what_it_waits_for(found: tuple[MemberFacts, ...], changes: dict[str, Any], words: str) -> None:
    assert words in decide(*found, **changes).message
