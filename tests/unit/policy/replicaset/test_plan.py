"""Plans: what holds for any set of members, and what is chosen in the cases that matter."""

from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given

from headroom.model.conditions import Finding
from headroom.model.replica import ContainerFacts, PodFacts, Role
from headroom.policy.replicaset.members import Member
from headroom.policy.replicaset.plan import Plan, decide_plan
from headroom.policy.replicaset.replay_lag import NotEligible, ReplayLag
from headroom.policy.replicaset.targets import Targets
from headroom.reasons import Reason
from tests.unit.policy.replicaset.make import (
    BETWEEN,
    BEYOND,
    NOW,
    judge,
    make_claim,
    make_member,
    make_pod,
    make_probe,
    make_targets,
    worlds,
)


def plan_of(*found: Member, has_primary: bool = True, **changes: object) -> Plan:
    targets = make_targets(has_primary=has_primary, **changes)
    return decide_plan(judge(*found, has_primary=has_primary), targets, NOW)


def held_up(template: str) -> PodFacts:
    """A pod whose image cannot be pulled."""
    waiting = ContainerFacts(waiting="ImagePullBackOff")
    return make_pod(
        Role.PROVISIONING, is_ready=False, phase="Pending", template=template, seed=waiting, server=ContainerFacts()
    )


def taken_out(plan: Plan) -> set[str]:
    return {entry.name for entry in (*plan.eject, *plan.drain)}


@given(worlds())
def test_the_serving_set_never_empties_because_of_us(world: tuple[list[Member], Targets]) -> None:
    found, targets = world
    plan = decide_plan(judge(*found, has_primary=targets.has_primary), targets, NOW)
    serving = {m.name for m in found if m.role is Role.SERVING and m.is_alive}
    disowned = {
        m.name
        for m in judge(*found, has_primary=targets.has_primary)
        if m.verdict.is_failed and m.facts.role is Role.SERVING
    }
    if targets.desired and serving - disowned:
        assert serving - disowned - taken_out(plan)


@given(worlds())
def test_nobody_who_serves_is_retired_or_recreated_while_alive(world: tuple[list[Member], Targets]) -> None:
    found, targets = world
    plan = decide_plan(judge(*found, has_primary=targets.has_primary), targets, NOW)
    alive = {m.name for m in found if m.role is Role.SERVING and m.is_alive}
    assert alive.isdisjoint({entry.name for entry in plan.retire})
    assert alive.isdisjoint(plan.recreate)


@given(worlds())
def test_each_member_is_asked_for_one_thing(world: tuple[list[Member], Targets]) -> None:
    found, targets = world
    plan = decide_plan(judge(*found, has_primary=targets.has_primary), targets, NOW)
    asked = [
        *taken_out(plan),
        *plan.accept,
        *plan.pool,
        *(entry.name for entry in plan.retire),
        *plan.recreate,
        *plan.stop,
        *plan.put_back,
        *plan.remove,
        *plan.seed,
        *(plan.activate if plan.needed else ()),
    ]
    assert len(asked) == len(set(asked))


@pytest.mark.parametrize("standbys", [0, 1])
def test_a_new_member_that_is_caught_up_is_accepted_if_it_is_still_wanted(standbys: int) -> None:
    plan = plan_of(make_member(Role.PROVISIONING), desired=0, standbys=standbys)
    assert plan.accept == ("store-0-a",) * standbys
    assert [entry.name for entry in plan.retire] == ["store-0-a"] * (1 - standbys)


@given(worlds())
def test_only_members_within_the_bounds_may_serve(world: tuple[list[Member], Targets]) -> None:
    found, targets = world
    plan = decide_plan(judge(*found, has_primary=targets.has_primary), targets, NOW)
    by_name = {member.name: member for member in found}
    for name in plan.activate:
        lag = by_name[name].lag
        assert lag is not None
        assert lag.seconds is not None
        assert lag.seconds <= targets.bounds.max_replay_lag.total_seconds()


@given(worlds())
def test_no_more_is_begun_than_is_missing_and_may_be_made_at_once(world: tuple[list[Member], Targets]) -> None:
    found, targets = world
    plan = decide_plan(judge(*found, has_primary=targets.has_primary), targets, NOW)
    staying = [member for member in found if not member.is_going]
    assert 0 <= plan.reserve <= targets.max_concurrent
    left = len(staying) - len(plan.retire)
    is_last_cut_off = not plan.good and any(member.broken_seconds and member.role is Role.SERVING for member in staying)
    assert left + plan.reserve <= max(targets.desired + targets.standbys + is_last_cut_off, left)


@given(worlds())
def test_without_a_primary_nothing_is_begun_moved_or_thrown_away(world: tuple[list[Member], Targets]) -> None:
    found, targets = world
    unseeing = replace(targets, has_primary=False, may_reserve=False)
    without_lag = [replace(m, lag=None, within=0, beyond=0, silent_seconds=0.0) for m in found]
    plan = decide_plan(judge(*without_lag, has_primary=False), unseeing, NOW)
    moves = (*plan.eject, *plan.drain, *plan.activate, *plan.accept)
    assert moves == ()
    assert plan.reserve == 0
    assert not [entry for entry in plan.retire if entry.reason is Reason.RETIRED and entry.name in _warm(found)]


def _warm(found: list[Member]) -> set[str]:
    return {member.name for member in found if member.role in (Role.SERVING, Role.STANDBY)}


@given(worlds())
def test_a_set_that_is_paused_only_ejects_and_labels(world: tuple[list[Member], Targets]) -> None:
    found, targets = world
    plan = decide_plan(judge(*found, has_primary=targets.has_primary), replace(targets, is_acting=False), NOW)
    moves = (*plan.drain, *plan.retire, *plan.recreate, *plan.pool)
    assert moves == ()
    assert plan.needed == plan.reserve == 0


def test_the_least_lagged_standby_comes_first() -> None:
    slow = make_member(Role.STANDBY, 0, lag=ReplayLag(0.9, 0))
    fast = make_member(Role.STANDBY, 1, lag=ReplayLag(0.1, 0))
    plan = plan_of(slow, fast, desired=1)
    assert plan.activate == (fast.name, slow.name)
    assert plan.needed == 1


def test_a_step_takes_all_warm_ones_and_begins_the_rest_at_once() -> None:
    found = [make_member(Role.SERVING, 0), make_member(Role.STANDBY, 1), make_member(Role.STANDBY, 2)]
    plan = plan_of(*found, desired=4, standbys=2, max_concurrent=3)
    assert plan.needed == 3
    assert len(plan.activate) == 2
    assert plan.reserve == 3


def test_a_member_that_drains_by_choice_is_taken_back_when_it_is_needed() -> None:
    found = [make_member(Role.SERVING, 0), make_member(Role.DRAINING, 1, is_listed=True)]
    assert plan_of(*found, desired=2, standbys=0).activate == (found[1].name,)


def test_one_leaves_at_a_time_and_none_while_another_drains() -> None:
    found = [make_member(Role.SERVING, number) for number in range(4)]
    assert len(plan_of(*found, desired=1).drain) == 1
    assert not plan_of(*found, make_member(Role.DRAINING, 9, is_listed=True), desired=1).drain


def test_the_one_of_an_older_template_leaves_first_then_the_least_busy() -> None:
    busy = make_member(Role.SERVING, 0, probe=make_probe(sessions=5, active_sessions=5))
    idle = make_member(Role.SERVING, 1)
    old = make_member(Role.SERVING, 2, probe=make_probe(sessions=9, active_sessions=9))
    assert old.pod is not None
    old = replace(old, pod=replace(old.pod, template="old"))
    assert plan_of(busy, idle, desired=1).drain[0].name == idle.name
    assert plan_of(busy, idle, old, desired=2).drain[0].name == old.name


def test_a_drained_member_returns_while_the_pool_is_short_and_outranks_one_in_the_making() -> None:
    drained = make_member(Role.DRAINING, 1)
    serving, making = make_member(Role.SERVING, 0), make_member(Role.PROVISIONING, 2, within=0)
    assert plan_of(serving, drained).pool == (drained.name,)
    assert plan_of(serving, drained, making).pool == (drained.name,)
    after = plan_of(serving, make_member(Role.STANDBY, 1), making)
    assert [entry.name for entry in after.retire] == [making.name]


def test_a_drained_member_goes_when_the_pool_is_full() -> None:
    drained = make_member(Role.DRAINING, 2)
    plan = plan_of(make_member(Role.SERVING, 0), make_member(Role.STANDBY, 1), drained)
    assert [entry.name for entry in plan.retire] == [drained.name]


def test_lag_ejects_only_where_the_rest_can_carry_the_load() -> None:
    late = make_member(Role.SERVING, 0, lag=BEYOND, beyond=2, probe=make_probe(sessions=50))
    light = make_member(Role.SERVING, 1, probe=make_probe(sessions=30))
    full = make_member(Role.SERVING, 1, probe=make_probe(sessions=60))
    assert taken_out(plan_of(late, light, desired=2, standbys=0)) == {late.name}
    panic = plan_of(late, full, desired=2, standbys=0)
    assert not taken_out(panic)
    assert panic.lag_panic


def test_a_standby_takes_the_place_before_a_lagging_member_leaves() -> None:
    late = make_member(Role.SERVING, 0, lag=BEYOND, beyond=2)
    standby = make_member(Role.STANDBY, 1)
    first = plan_of(late, standby)
    assert first.needed == 1
    assert not taken_out(first)
    assert not first.lag_panic
    assert taken_out(plan_of(late, make_member(Role.SERVING, 1))) == {late.name}


def test_the_last_one_is_never_removed_by_lag() -> None:
    late = make_member(Role.SERVING, 0, lag=BEYOND, beyond=9)
    plan = plan_of(late, standbys=0)
    assert not taken_out(plan)
    assert plan.lag_panic


def test_between_the_bounds_nothing_moves() -> None:
    found = make_member(Role.SERVING, 0, lag=BETWEEN, within=0), make_member(Role.STANDBY, 1, lag=BETWEEN, within=0)
    assert plan_of(*found).is_empty


def test_a_promoted_member_outranks_min_serving() -> None:
    lost = make_member(Role.SERVING, 0, lag=NotEligible(Reason.MEMBER_PROMOTED, "it was promoted"))
    plan = plan_of(lost, standbys=0)
    assert plan.eject[0].name == lost.name


def test_all_streams_down_keeps_all_and_one_down_leaves() -> None:
    down = NotEligible(Reason.NOT_STREAMING, "its receiver is down")
    a = make_member(Role.SERVING, 0, lag=down, refused_seconds=30, counted_age=30)
    b = make_member(Role.SERVING, 1, lag=down, refused_seconds=30, counted_age=30)
    assert not taken_out(plan_of(a, b, desired=2, standbys=0))
    assert taken_out(plan_of(a, make_member(Role.SERVING, 1), desired=2, standbys=0)) == {a.name}


def test_a_lag_before_the_stream_broke_counts_towards_the_bound() -> None:
    down = NotEligible(Reason.NOT_STREAMING, "its receiver is down")
    other = make_member(Role.SERVING, 1)
    for age, gone in ((9.0, set()), (10.0, {"store-0-a"})):
        member = make_member(Role.SERVING, 0, lag=down, refused_seconds=4, counted_age=age)
        assert taken_out(plan_of(member, other, desired=2, standbys=0)) == gone


def test_members_of_an_older_template_are_swapped_one_by_one() -> None:
    old = make_member(Role.SERVING, 0)
    assert old.pod is not None
    old = replace(old, pod=replace(old.pod, template="old"))
    old_standby = replace(make_member(Role.STANDBY, 1), pod=make_pod(name="store-1-a", template="old"))
    assert plan_of(old, old_standby).recreate == (old_standby.name,)
    swap = plan_of(old, make_member(Role.STANDBY, 1))
    assert swap.needed == 1
    after = plan_of(old, make_member(Role.SERVING, 1))
    assert after.drain[0].name == old.name


def test_serving_members_whose_claims_are_deleted_stay_until_others_are_there() -> None:
    going = make_claim(is_deleting=True)
    found = [make_member(Role.SERVING, number, claim=going) for number in range(2)]
    warm = make_member(Role.STANDBY, 2, claim=going)
    plan = plan_of(*found, warm, desired=2, standbys=1)
    assert not taken_out(plan)
    assert [entry.name for entry in plan.retire] == [warm.name]
    healthy = make_member(Role.SERVING, 3)
    assert taken_out(plan_of(found[0], healthy, desired=2, standbys=0)) == {found[0].name}


def test_no_other_standby_is_spent_on_a_template_that_does_not_come_up() -> None:
    found = [make_member(Role.SERVING, 0), old_standby(1)]
    assert plan_of(*found, old_standby(2), standbys=2).recreate == ("store-1-a",)
    assert plan_of(*found, standbys=2).recreate == ()


def test_a_pod_with_two_reasons_to_be_recreated_is_recreated_once() -> None:
    fault = Finding(Reason.EXTENSION_MISSING, "postgis")
    standby = replace(old_standby(1), library_fault=fault, unanswered=3)
    assert plan_of(make_member(Role.SERVING, 0), standby).recreate == (standby.name,)


def old_standby(ordinal: int) -> Member:
    name = f"store-{ordinal}-a"
    return replace(make_member(Role.STANDBY, ordinal), pod=make_pod(name=name, uid=name, template="old"))


@pytest.mark.parametrize(
    ("pod", "is_recreated"),
    [
        (held_up("old"), True),
        (held_up("new"), False),
        (replace(held_up("old"), seed=ContainerFacts(is_running=True)), False),
        (replace(held_up("old"), server=ContainerFacts(is_running=True, restarts=2)), False),
    ],
    ids=["corrected", "present", "copying", "replaying"],
)
def test_a_pod_that_a_corrected_mistake_holds_up_is_made_again(pod: PodFacts, is_recreated: bool) -> None:
    stuck = make_member(Role.PROVISIONING, 1, pod=pod, probe=None, lag=None, within=0)
    assert plan_of(make_member(Role.SERVING, 0), stuck).recreate == ((stuck.name,) if is_recreated else ())


def test_a_failed_attempt_pauses_before_the_next_one() -> None:
    failed = make_member(Role.PROVISIONING, 0, claim=make_claim(is_bound=False, created_at=NOW - timedelta(minutes=19)))
    plan = plan_of(failed)
    assert plan.retire[0].is_failure
    assert plan.reserve == 0


def test_a_drained_member_that_is_called_to_serve_is_neither_pooled_nor_retired() -> None:
    drained = make_member(Role.DRAINING, 1)
    plan = plan_of(make_member(Role.SERVING, 0), drained, desired=2, standbys=0)
    assert plan.activate == (drained.name,)
    assert plan.pool == ()
    assert plan.retire == ()


def test_a_standby_of_an_older_template_is_not_recreated_while_it_is_called() -> None:
    old = replace(make_member(Role.STANDBY, 1), pod=make_pod(name="store-1-a", uid="u1", template="old"))
    plan = plan_of(make_member(Role.SERVING, 0), old, desired=2, standbys=0)
    assert plan.activate == (old.name,)
    assert plan.recreate == ()


@pytest.mark.parametrize("seconds", [5, 61])
def test_a_recalled_member_keeps_its_sessions_however_long_it_has_drained(seconds: int) -> None:
    pod = make_pod(
        Role.DRAINING,
        name="store-1-a",
        uid="u1",
        draining_since=NOW - timedelta(seconds=seconds),
        why=Reason.REPLICAS_SET,
    )
    drained = make_member(Role.DRAINING, 1, pod=pod, probe=make_probe(sessions=5, active_sessions=5))
    assert plan_of(make_member(Role.SERVING, 0), drained, desired=2, standbys=0).end_sessions == ()
    unwanted = plan_of(make_member(Role.SERVING, 0), drained, standbys=0).end_sessions
    assert len(unwanted) == (seconds > 60)


def test_a_standby_that_may_not_be_activated_is_neither_called_nor_a_substitute() -> None:
    late = make_member(Role.SERVING, 0, lag=BEYOND, beyond=2)
    obstacle = "another object has the name of the read Service"
    plan = plan_of(late, make_member(Role.STANDBY, 1), no_activation=obstacle)
    assert plan.activate == ()
    assert not taken_out(plan)
    assert plan.lag_panic.endswith(f"store-1-a may not take over: {obstacle}")
