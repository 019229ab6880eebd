"""One decision from facts, memory and spec: pure, repeatable, and everything that is shown comes from it."""

import copy
from dataclasses import fields, replace
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headroom.api.v1alpha1.replicaset import ReplicaSetSpec
from headroom.model.conditions import Finding
from headroom.model.moments import Moment
from headroom.model.replica import Role
from headroom.policy.replicaset.decide import SetDecision, decide
from headroom.policy.replicaset.facts import MemberFacts, Reading, SetFacts, Silence
from headroom.policy.replicaset.member_memory import Inherited
from headroom.policy.replicaset.memory import SetMemory
from headroom.policy.target_conflict import AutoscalerClaim, TargetId
from headroom.reasons import Reason
from tests.unit.policy.purity import find_impure
from tests.unit.policy.replicaset.make import (
    NOW,
    SERVER,
    answer,
    make_claim,
    make_facts,
    make_found,
    make_pod,
    make_primary,
)

OUTAGE = Finding(Reason.PRIMARY_UNREACHABLE, "nothing answers")


def make_spec(**changes: Any) -> ReplicaSetSpec:
    spec = {"databaseRef": {"name": "store"}, "image": "postgres:17", "storage": {"size": "1Gi"}}
    return ReplicaSetSpec.model_validate({**spec, **changes})


def scaling(**changes: Any) -> dict[str, Any]:
    signal = {"name": "conns", "type": "Connections", "connections": {"utilizationPercent": 70}}
    return {"minReplicas": 1, "maxReplicas": 3, "signals": [signal], **changes}


def member(role: Role, ordinal: int = 0, reading: Reading | None = None, **changes: Any) -> MemberFacts:
    found = make_found(ordinal, is_listed=role is Role.SERVING, reading=reading)
    return replace(found, pod=make_pod(role, name=found.name, uid=f"u{ordinal}", **changes))


class Passes:
    """Passes over one set, a second apart unless told."""

    def __init__(self, memory: SetMemory | None = None, **spec: Any) -> None:
        self.spec, self.at = make_spec(**spec), 0.0
        self.memory = memory or SetMemory()

    def make(self, *found: MemberFacts, step: float = 1.0, **changes: Any) -> SetDecision:
        facts = make_facts(*found, at=self.at, **changes)
        outcome = decide(self.spec, facts, self.memory, Moment(self.at, NOW + timedelta(seconds=self.at)))
        self.memory, self.at = outcome.memory, self.at + step
        return outcome.decision

    def answered(self, *roles: Role, count: int = 1, **changes: Any) -> SetDecision:
        for _ in range(count):
            at = self.at
            found = [member(role, number, answer(at, **changes)) for number, role in enumerate(roles)]
            decision = self.make(*found)
        return decision


def test_facts_memory_and_decision_hold_values_only() -> None:
    assert find_impure(SetFacts, SetMemory, SetDecision) == []


def test_a_decision_survives_a_deep_copy_and_is_the_same_from_the_same_facts() -> None:
    passes = Passes(replicas=2, standbys=1)
    decision = passes.answered(Role.SERVING, Role.STANDBY, Role.PROVISIONING, count=3)
    assert copy.deepcopy(decision) == decision
    assert copy.deepcopy(passes.memory) == passes.memory
    facts = make_facts(member(Role.SERVING, 0, answer(9.0)), at=9.0)
    assert copy.deepcopy(facts) == facts
    moment = Moment(9.0, NOW)
    first = decide(passes.spec, facts, passes.memory, moment)
    assert decide(passes.spec, copy.deepcopy(facts), copy.deepcopy(passes.memory), moment) == first


@st.composite
def found_members(draw: st.DrawFn) -> list[MemberFacts]:
    """Members of every kind, each with any reading."""
    roles = draw(st.lists(st.sampled_from([*Role]), max_size=4))
    readings = st.sampled_from(
        [None, Silence("refused"), Silence(is_excused=True), answer(0.0), answer(0.0, timeline=2)]
    )
    return [
        replace(
            member(role, number, draw(readings), is_ready=draw(st.booleans())),
            claim=make_claim(name=f"store-{number}-a", retire=draw(st.sampled_from([None, None, Reason.RETIRED]))),
        )
        for number, role in enumerate(roles)
    ]


@settings(max_examples=60)
@given(st.lists(found_members(), min_size=1, max_size=4), st.booleans(), st.booleans())
def test_whatever_is_found_a_decision_changes_nothing_it_was_given(
    rounds: list[list[MemberFacts]], is_scaling: bool, has_primary: bool
) -> None:
    passes = Passes(**({"autoscaling": scaling()} if is_scaling else {}))
    for found in rounds:
        facts = make_facts(*found, at=passes.at)
        facts = facts if has_primary else replace(facts, primary=None, outage=OUTAGE)
        kept_facts, kept_memory = copy.deepcopy(facts), copy.deepcopy(passes.memory)
        moment = Moment(passes.at, NOW)
        outcome = decide(passes.spec, facts, passes.memory, moment)
        assert (facts, passes.memory) == (kept_facts, kept_memory)
        assert {entry.name for entry in outcome.decision.members} == {entry.name for entry in found}
        if not has_primary:
            assert outcome.decision.plan.reserve == 0
            assert outcome.decision.refusal == OUTAGE
        passes.memory, passes.at = outcome.memory, passes.at + 1


def test_a_member_that_is_caught_up_twice_is_accepted_and_then_called() -> None:
    passes = Passes(replicas=1, standbys=0)
    assert passes.answered(Role.PROVISIONING).plan.accept == ()
    assert passes.answered(Role.PROVISIONING).plan.accept == ("store-0-a",)
    plan = passes.answered(Role.STANDBY).plan
    assert (plan.needed, plan.activate) == (1, ("store-0-a",))
    assert passes.answered(Role.SERVING).plan.is_empty


def test_an_empty_set_begins_as_many_as_may_be_made_at_once() -> None:
    passes = Passes(replicas=2, standbys=1, provisioning={"maxConcurrent": 2})
    assert passes.make().plan.reserve == 2
    assert passes.make(template=None).plan.reserve == 0


def test_a_member_with_a_slot_gets_its_pod_and_one_without_gets_its_slot() -> None:
    passes = Passes(replicas=2, standbys=0)
    with_slot, without = make_found(0, pod=None, claim=None), make_found(1, pod=None, slot=None)
    plan = passes.make(with_slot, without).plan
    assert (plan.seed, plan.restore_slots) == (("store-0-a",), ("store-1-a",))
    unknown = passes.make(with_slot, without, template=None).plan
    assert (unknown.seed, unknown.restore_slots) == ((), ("store-1-a",))
    blind = passes.make(without, primary=None, outage=OUTAGE).plan
    assert (blind.seed, blind.restore_slots) == (("store-1-a",), ())


def test_a_live_member_whose_slot_vanished_gets_it_back_also_when_paused() -> None:
    passes = Passes(replicas=1, standbys=0, mode="Paused")
    serving = replace(member(Role.SERVING, 0, answer(0.0)), slot=None)
    assert passes.make(serving).plan.restore_slots == ("store-0-a",)


def test_a_member_that_is_marked_is_removed_and_nothing_else_is_asked_of_it() -> None:
    going = replace(member(Role.STANDBY, 0), claim=make_claim(name="store-0-a", retire=Reason.RETIRED), slot=None)
    plan = Passes(replicas=0, standbys=0).make(going).plan
    assert plan.remove == ("store-0-a",)
    assert plan.restore_slots == plan.seed == plan.retire == plan.recreate == ()


def test_sessions_of_a_draining_member_end_when_their_time_has_come() -> None:
    passes = Passes(replicas=1, standbys=0, drain={"timeout": "5s"})

    def drained(seconds: float, why: Reason, reading: Reading) -> MemberFacts:
        since = NOW + timedelta(seconds=passes.at - seconds)
        return member(Role.DRAINING, 1, reading, draining_since=since, why=why)

    busy = answer(0.0, sessions=3)
    by_choice = passes.make(member(Role.SERVING), drained(3, Reason.REPLICAS_SET, busy)).plan
    assert by_choice.end_sessions == ()
    ejected = passes.make(member(Role.SERVING), drained(3, Reason.REPLAY_LAG_ABOVE_LIMIT, busy)).plan
    assert [(end.name, end.only_idle) for end in ejected.end_sessions] == [("store-1-a", True)]
    late = passes.make(member(Role.SERVING), drained(6, Reason.REPLICAS_SET, busy)).plan
    assert [(end.name, end.only_idle) for end in late.end_sessions] == [("store-1-a", False)]
    silent = passes.make(member(Role.SERVING), drained(6, Reason.REPLICAS_SET, Silence("refused"))).plan
    assert silent.end_sessions == ()


def test_the_goal_is_remembered_and_the_next_pass_starts_from_it() -> None:
    passes = Passes(standbys=0, autoscaling=scaling(behavior={"scaleDown": {"stabilizationWindow": "20s"}}))
    passes.answered(Role.SERVING, sessions=85)
    assert passes.memory.desired == 2
    passes.answered(Role.SERVING, Role.SERVING)
    assert passes.memory.desired == 2, "the window is not full yet"
    passes.answered(Role.SERVING, Role.SERVING, count=25)
    assert passes.memory.desired == 1


def test_without_a_memory_autoscaling_starts_from_spec_replicas_within_its_bounds() -> None:
    passes = Passes(replicas=9, standbys=0, autoscaling=scaling())
    assert passes.make().goal.desired == 3


def test_a_failed_attempt_is_waited_out() -> None:
    failure = Finding(Reason.SEED_FAILED, "no space left")
    passes = Passes(SetMemory(generation=1).record_failure(failure, 0.0), replicas=1, standbys=0)
    decision = passes.make(step=11.0)
    assert decision.is_waiting
    assert decision.plan.reserve == 0
    later = passes.make()
    assert not later.is_waiting
    assert later.plan.reserve == 1


def test_a_primary_that_admits_nobody_says_why() -> None:
    passes = Passes(replicas=1, standbys=0)
    full = make_primary(server=replace(SERVER, slots_used=10))
    decision = passes.make(primary=full)
    assert decision.refusal is not None
    assert decision.refusal.reason is Reason.SLOTS_EXHAUSTED
    assert decision.plan.reserve == 0
    unread = passes.make(primary=make_primary(server=None)).refusal
    assert unread is not None
    assert unread.reason is Reason.GUARD_NOT_READY
    without_login = passes.make(primary=make_primary(has_slot_link=False)).refusal
    assert without_login is not None
    assert without_login.reason is Reason.REPLICATION_LOGIN_FAILED


@pytest.mark.parametrize(("has_seen_primary", "patience"), [(True, 5), (False, 10)])
def test_an_outage_is_news_once_it_lasts_and_a_young_process_waits_longer(
    has_seen_primary: bool, patience: int
) -> None:
    passes = Passes()
    if has_seen_primary:
        passes.make()
    news = [passes.make(primary=None, outage=OUTAGE).outage for _ in range(12)]
    assert news == [None] * patience + [OUTAGE] * (12 - patience)
    assert passes.make().outage is None


def test_an_autoscaler_on_a_set_that_scales_itself_is_a_conflict() -> None:
    mine = AutoscalerClaim("hpa", TargetId("headroom.dev", "ReplicaSet", "store"))
    other = AutoscalerClaim("hpa", TargetId("apps", "ReplicaSet", "store"))
    assert Passes().make(autoscalers=(mine,)).conflict is None
    passes = Passes(autoscaling=scaling())
    assert passes.make(autoscalers=(other,)).conflict is None
    conflict = passes.make(autoscalers=(other, mine)).conflict
    assert conflict is not None
    assert conflict.reason is Reason.TARGET_CONFLICT
    assert "HorizontalPodAutoscaler hpa scales dbrs/store" in conflict.message


def test_a_lag_that_no_pass_could_know_is_news_after_ten_seconds() -> None:
    """The member lives, but each of its answers comes too late for its pass."""
    passes = Passes(replicas=1, standbys=0)
    passes.answered(Role.SERVING, count=2)
    news = []
    for _ in range(12):
        late = Silence("its answer took 0.9 s", late=answer(passes.at - 0.9).probe)
        news.append(passes.make(member(Role.SERVING, 0, late)).stale_reads)
    assert news[:9] == [None] * 9
    assert news[-1] is not None
    assert news[-1].reason is Reason.REPLAY_LAG_UNKNOWN
    assert passes.answered(Role.SERVING).stale_reads is None


def test_a_member_that_was_promoted_leaves_even_if_its_answers_are_late() -> None:
    passes = Passes(replicas=1, standbys=0)
    passes.answered(Role.SERVING, count=2)
    late = Silence(late=answer(passes.at - 0.9, is_in_recovery=False).probe)
    plan = passes.make(member(Role.SERVING, 0, late)).plan
    assert [entry.reason for entry in plan.eject] == [Reason.MEMBER_PROMOTED]


INHERITED = SetMemory(began_at=0.0, inherited={"store-0-a": Inherited(), "store-1-a": Inherited()})


def test_a_young_process_settles_when_it_has_measured_what_it_inherited_often_enough() -> None:
    passes = Passes(INHERITED, replicas=1)
    blind = passes.make(member(Role.SERVING, 0), member(Role.STANDBY, 1), primary=None, outage=OUTAGE)
    assert blind.is_settling
    assert blind.unsettled == {"store-0-a", "store-1-a"}
    once = passes.answered(Role.SERVING, Role.STANDBY)
    assert once.is_settling
    twice = passes.answered(Role.SERVING, Role.STANDBY)
    assert not twice.is_settling
    assert twice.unsettled == frozenset()


def test_ignorance_is_an_excuse_for_ten_seconds_only() -> None:
    passes = Passes(INHERITED, replicas=1)
    seen = [passes.make(member(Role.SERVING, 0), primary=None, outage=OUTAGE).is_settling for _ in range(12)]
    assert seen == [True] * 10 + [False] * 2


def test_silence_is_a_measurement_too() -> None:
    passes = Passes(INHERITED, replicas=1)
    for _ in range(2):
        decision = passes.make(member(Role.SERVING, 0, Silence("refused")))
    assert decision.unsettled == frozenset()


def test_a_member_that_is_new_or_whose_pod_is_not_ready_is_judged_at_once() -> None:
    passes = Passes(INHERITED, replicas=3)
    young = passes.make(
        member(Role.PROVISIONING, 2), member(Role.STANDBY, 1, is_ready=False), member(Role.SERVING, 0, answer(0.0))
    )
    assert young.unsettled == {"store-0-a"}


def test_every_field_of_a_plan_is_a_step_or_is_left_out_of_emptiness_on_purpose() -> None:
    decision = Passes(replicas=0, standbys=0).make()
    assert decision.plan.is_empty
    plan = decision.plan
    one = {"needed": 1, "reserve": 1, "lag_panic": "late", "good": 1}
    names = [field.name for field in fields(plan)]
    full = {name: replace(plan, **{name: one.get(name, ("store-0-a",))}).is_empty for name in names}
    left_out = ["needed", "activate", "late", "lag_panic", "panicked", "scale_in_wait", "good"]
    assert [name for name, is_empty in full.items() if is_empty] == left_out
    assert not replace(plan, needed=1, activate=("store-0-a",)).is_empty


def test_members_are_found_by_name() -> None:
    decision = Passes().make(member(Role.SERVING, 0), member(Role.STANDBY, 1))
    assert decision.find("store-1-a").facts.role is Role.STANDBY
    with pytest.raises(StopIteration):
        decision.find("store-9-a")
