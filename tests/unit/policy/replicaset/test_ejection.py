"""Who leaves the Service against the wanted count, in order of rank, and when that is too dangerous."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headroom.api.v1alpha1.serving import OnLagPanic, Readiness
from headroom.model.replica import Role
from headroom.policy.replicaset.ejection import Ejections, Substitutes, decide_ejections
from headroom.policy.replicaset.members import Member
from headroom.policy.replicaset.replay_lag import NotEligible, ReplayLag
from headroom.reasons import Reason
from tests.unit.policy.replicaset.make import (
    BEYOND,
    BOUNDS,
    UNKNOWN,
    judge,
    make_member,
    make_pod,
    make_probe,
    make_slot,
    members,
)

DOWN = NotEligible(Reason.NOT_STREAMING, "its WAL receiver is not connected")
PROMOTED = NotEligible(Reason.MEMBER_PROMOTED, "it has left recovery")


def serving(ordinal: int = 0, **changes: Any) -> Member:
    return make_member(Role.SERVING, ordinal, **changes)


def late(ordinal: int = 0, sessions: int = 0, seconds: float = 60.0) -> Member:
    lag = ReplayLag(seconds, 1024**3)
    return serving(ordinal, lag=lag, beyond=2, within=0, probe=make_probe(sessions=sessions))


def decide(
    *found: Member,
    desired: int = 2,
    bounds: Readiness = BOUNDS,
    has_primary: bool = True,
    substitutes: int = 0,
    obstacle: str = "",
) -> Ejections:
    return decide_ejections(
        judge(*found, has_primary=has_primary),
        desired=desired,
        bounds=bounds,
        has_primary=has_primary,
        substitutes=Substitutes(substitutes, obstacle),
    )


def gone(ejections: Ejections) -> list[tuple[str, Reason]]:
    return [(entry.name, entry.reason) for entry in ejections.gone]


def good(ejections: Ejections) -> list[str]:
    return [member.name for member in ejections.good]


def test_those_that_serve_well_stay() -> None:
    ejections = decide(serving(0), serving(1), make_member(Role.STANDBY, 2), make_member(Role.DRAINING, 3))
    assert gone(ejections) == []
    assert good(ejections) == ["store-0-a", "store-1-a"]
    assert ejections.lag_panic == ""


@pytest.mark.parametrize("has_primary", [True, False])
def test_one_that_is_no_replica_any_more_goes_even_if_it_is_the_last(has_primary: bool) -> None:
    ejections = decide(serving(0, lag=PROMOTED), has_primary=has_primary)
    assert gone(ejections) == [("store-0-a", Reason.MEMBER_PROMOTED)]
    assert good(ejections) == []


def test_one_that_answers_nothing_goes_after_three_probes_where_another_serves() -> None:
    other = serving(1)
    assert gone(decide(serving(0, unanswered=2, lag=None), other)) == []
    silent = serving(0, unanswered=3, lag=None)
    assert gone(decide(silent, other)) == [("store-0-a", Reason.MEMBER_UNREACHABLE)]
    assert gone(decide(silent)) == []
    assert decide(silent, other).gone[0].message == "it does not answer probes"


def test_a_stream_that_broke_is_given_the_time_that_the_bound_allows() -> None:
    other = serving(1)
    assert gone(decide(serving(0, lag=DOWN, counted_age=9.9), other)) == []
    ejections = decide(serving(0, lag=DOWN, counted_age=10.0), other)
    assert gone(ejections) == [("store-0-a", Reason.NOT_STREAMING)]
    assert ejections.gone[0].message == DOWN.message


def test_without_a_primary_no_broken_stream_and_no_silence_is_held_against_anybody() -> None:
    found = serving(0, lag=DOWN, counted_age=60), serving(1, unanswered=9, lag=None), serving(2)
    assert gone(decide(*found, has_primary=False)) == []


def test_one_that_is_due_for_replacement_goes_once_another_serves() -> None:
    lost = serving(0, slot=make_slot(wal_status="lost"))
    assert gone(decide(lost)) == []
    ejections = decide(lost, serving(1))
    assert gone(ejections) == [("store-0-a", Reason.SLOT_LOST)]
    assert "gave up the WAL" in ejections.gone[0].message


def test_one_whose_pod_is_not_ready_is_no_reason_to_let_another_go() -> None:
    unready = serving(1, pod=make_pod(Role.SERVING, name="store-1-a", is_ready=False))
    ejections = decide(serving(0, lag=DOWN, counted_age=60), unready)
    assert gone(ejections) == []
    assert good(ejections) == []


def test_one_reading_beyond_the_bound_is_not_enough() -> None:
    assert gone(decide(serving(0, lag=BEYOND, beyond=1), serving(1), serving(2))) == []
    assert gone(decide(serving(0, lag=BEYOND, beyond=2), serving(1), serving(2))) == [
        ("store-0-a", Reason.REPLAY_LAG_ABOVE_LIMIT)
    ]


def test_an_unknown_lag_is_no_lag() -> None:
    ejections = decide(serving(0, lag=UNKNOWN, within=0), serving(1))
    assert gone(ejections) == []
    assert good(ejections) == ["store-0-a", "store-1-a"]


def test_the_most_lagged_go_first() -> None:
    found = late(0, seconds=20.0), late(1, seconds=90.0), late(2, seconds=40.0), serving(3)
    assert [name for name, _ in gone(decide(*found, desired=1))] == ["store-1-a", "store-2-a", "store-0-a"]


@pytest.mark.parametrize(
    ("sessions_of_late", "sessions_of_rest", "goes"), [(40, 40, True), (45, 44, True), (45, 45, False), (90, 20, False)]
)
def test_the_rest_may_take_over_below_ninety_percent(sessions_of_late: int, sessions_of_rest: int, goes: bool) -> None:
    rest = serving(1, probe=make_probe(sessions=sessions_of_rest))
    ejections = decide(late(0, sessions_of_late), rest)
    assert bool(ejections.gone) is goes
    assert bool(ejections.lag_panic) is not goes


def test_as_many_as_are_wanted_need_no_room_for_more() -> None:
    full = [serving(number, probe=make_probe(sessions=100)) for number in (1, 2)]
    assert gone(decide(late(0, 100), *full)) == [("store-0-a", Reason.REPLAY_LAG_ABOVE_LIMIT)]


def test_the_minimum_that_is_to_serve_is_kept_in_spite_of_lag() -> None:
    bounds = Readiness(min_serving=2)
    ejections = decide(late(0), serving(1), bounds=bounds, desired=3)
    assert gone(ejections) == []
    assert ejections.lag_panic == (
        "store-0-a serves data 60 s old; kept in the Service, since 1 other replica could not carry the load "
        "and no standby can take over"
    )
    assert gone(decide(late(0), serving(1), desired=3))


def test_a_substitute_is_waited_for_without_panic() -> None:
    ejections = decide(late(0, 90), serving(1, probe=make_probe(sessions=90)), substitutes=1)
    assert gone(ejections) == []
    assert ejections.lag_panic == ""


def test_a_standby_that_may_not_be_activated_is_no_substitute() -> None:
    obstacle = "store-2-a may not take over: spec.mode is Paused"
    ejections = decide(late(0, seconds=110.0), desired=1, obstacle=obstacle)
    assert gone(ejections) == []
    assert ejections.lag_panic == (
        "store-0-a serves data 110 s old; kept in the Service, since no other replica serves well and "
        "store-2-a may not take over: spec.mode is Paused"
    )


def test_one_standby_replaces_one_the_most_lagged_first() -> None:
    lagging = late(0, 90, 20.0), late(1, 90, 50.0), late(2, 90, 40.0)
    waiting = decide(*lagging, desired=3, substitutes=1)
    assert gone(waiting) == []
    assert "store-2-a" in waiting.lag_panic
    assert "store-0-a" in waiting.lag_panic
    assert "store-1-a" not in waiting.lag_panic, "its place is about to be taken"
    after = decide(*lagging, serving(3, probe=make_probe(sessions=0)), desired=3)
    assert gone(after) == [("store-1-a", Reason.REPLAY_LAG_ABOVE_LIMIT)]


def test_one_that_is_not_confirmed_in_the_service_replaces_nobody_yet() -> None:
    coming = serving(1, activating_seconds=0.1, is_listed=False)
    ejections = decide(late(0), coming, desired=1, substitutes=1)
    assert gone(ejections) == []
    assert ejections.lag_panic == ""
    assert good(ejections) == []


def unreachable(ordinal: int, sessions: int) -> Member:
    return serving(ordinal, unanswered=3, lag=None, probe=make_probe(sessions=sessions))


def test_unreachable_ones_leave_only_if_the_rest_can_carry_their_load() -> None:
    rest = serving(3, probe=make_probe(sessions=60))
    silent = [unreachable(number, 60) for number in range(3)]
    kept = decide(*silent, rest, desired=4)
    assert gone(kept) == []
    assert "3 of" not in kept.lag_panic
    assert kept.lag_panic.startswith("store-0-a: it does not answer probes, store-1-a: ")
    idle = [unreachable(number, 5) for number in range(3)]
    assert len(gone(decide(*idle, rest, desired=4))) == 3


def test_one_that_nobody_could_ask_may_have_all_the_sessions_that_it_allows() -> None:
    unknown = serving(0, unanswered=3, lag=None, probe=None, configured_connections=100)
    rest = [serving(number, probe=make_probe(sessions=40)) for number in (1, 2)]
    assert gone(decide(unknown, *rest, desired=3)) == []
    rest[1] = serving(2, probe=make_probe(sessions=39))
    assert gone(decide(unknown, *rest, desired=3))
    assert gone(decide(replace(unknown, configured_connections=0), *rest, desired=3)) == [], "nothing is known of it"


def full(ordinal: int, **changes: Any) -> Member:
    """One whose last count was small, and that has no connection left since."""
    return serving(ordinal, unanswered=1, is_full=True, lag=None, within=0, silence="too many clients", **changes)


def test_one_without_a_connection_left_serves_well_and_takes_no_other_load() -> None:
    ejections = decide(full(0), serving(1))
    assert (gone(ejections), good(ejections), ejections.lag_panic) == ([], ["store-0-a", "store-1-a"], "")
    lagging = serving(1, lag=BEYOND, beyond=2, probe=make_probe(sessions=1))
    assert gone(decide(full(0), lagging)) == []
    assert gone(decide(full(0), lagging, serving(2), desired=3)) == [("store-1-a", Reason.REPLAY_LAG_ABOVE_LIMIT)]


def test_one_without_a_connection_left_leaves_if_nobody_reads_its_slot_and_the_rest_can_carry_all_its_sessions() -> (
    None
):
    silent = full(0, slot_idle_seconds=60.0)
    assert gone(decide(full(0, slot_idle_seconds=5.0), serving(1), serving(2), desired=3)) == []
    assert gone(decide(silent, serving(1))) == []
    assert gone(decide(silent, serving(1), serving(2), desired=3)) == [("store-0-a", Reason.NOT_STREAMING)]


def test_one_that_kubernetes_took_out_already_carries_nothing() -> None:
    pod = make_pod(Role.SERVING, name="store-0-a", is_ready=False)
    dead = replace(unreachable(0, 90), pod=pod)
    full = serving(1, probe=make_probe(sessions=90))
    assert gone(decide(dead, full)) == [("store-0-a", Reason.MEMBER_UNREACHABLE)]


def test_the_cause_of_a_silence_is_told() -> None:
    silent = serving(0, unanswered=3, lag=None, silence="connection refused")
    assert decide(silent, serving(1)).gone[0].message == "it does not answer probes: connection refused"


def test_replay_that_stands_still_on_a_quiet_primary_is_stale_although_few_bytes_are_missing() -> None:
    paused = make_probe(is_replay_paused=True)
    stale = serving(0, lag=ReplayLag(820.0, 16), beyond=2, within=0, probe=paused)
    assert gone(decide(stale, serving(1))) == [("store-0-a", Reason.REPLAY_LAG_ABOVE_LIMIT)]
    alone = decide(stale, desired=1)
    assert gone(alone) == []
    assert "serves data 820 s old; its replay is paused" in alone.lag_panic


def cut_off(ordinal: int, seconds: float = 10.0) -> Member:
    """What the probes show of one whose stream broke, while nobody can ask the primary."""
    return serving(ordinal, lag=UNKNOWN, within=0, cut_seconds=seconds, probe=make_probe(is_streaming=False))


def test_without_a_primary_only_one_that_is_cut_off_while_another_streams_goes() -> None:
    streaming = serving(1, lag=UNKNOWN, within=0)
    assert gone(decide(cut_off(0, 9.9), streaming, has_primary=False)) == []
    ejections = decide(cut_off(0), streaming, has_primary=False)
    assert gone(ejections) == [("store-0-a", Reason.NOT_STREAMING)]
    assert gone(decide(cut_off(0), cut_off(1), has_primary=False)) == []
    full = replace(streaming, probe=make_probe(sessions=90))
    assert gone(decide(cut_off(0), full, has_primary=False)) == []


def test_on_panic_all_but_the_least_lagged_go_where_the_spec_says_so() -> None:
    bounds = Readiness(on_lag_panic=OnLagPanic.EJECT)
    ejections = decide(late(0, 90, 20.0), late(1, 90, 50.0), bounds=bounds)
    assert [name for name, _ in gone(ejections)] == ["store-1-a"]
    assert ejections.lag_panic == (
        "store-1-a serves data 50 s old; out of the Service all the same, since no other replica serves well and no "
        "standby can take over; store-0-a serves data 20 s old; kept in the Service: it is the last one, and no "
        "standby can take over"
    )
    assert "all the same" not in decide(late(0), bounds=bounds).lag_panic, "the only one stays"
    with_rest = decide(late(0, 90), serving(1, probe=make_probe(sessions=90)), bounds=bounds)
    assert [name for name, _ in gone(with_rest)] == ["store-0-a"]
    assert with_rest.lag_panic
    assert "kept" not in with_rest.lag_panic


def test_higher_ranks_leave_before_lag_is_weighed() -> None:
    found = serving(0, lag=PROMOTED), serving(1, lag=DOWN, counted_age=60), late(2), serving(3), serving(4)
    assert gone(decide(*found)) == [
        ("store-0-a", Reason.MEMBER_PROMOTED),
        ("store-1-a", Reason.NOT_STREAMING),
        ("store-2-a", Reason.REPLAY_LAG_ABOVE_LIMIT),
    ]


@st.composite
def sets(draw: st.DrawFn) -> list[Member]:
    return [draw(members(ordinal)) for ordinal in range(draw(st.integers(0, 5)))]


@given(sets(), st.integers(0, 4), st.booleans(), st.integers(0, 2), st.sampled_from(OnLagPanic))
def test_whatever_is_found_none_goes_twice_and_the_good_never_go(
    found: list[Member], desired: int, has_primary: bool, substitutes: int, on_lag_panic: OnLagPanic
) -> None:
    bounds = Readiness(on_lag_panic=on_lag_panic)
    ejections = decide(*found, desired=desired, bounds=bounds, has_primary=has_primary, substitutes=substitutes)
    names = [entry.name for entry in ejections.gone]
    alive = {member.name for member in found if member.role is Role.SERVING and member.is_alive}
    assert len(names) == len(set(names))
    assert set(names) <= alive
    assert not set(names) & set(good(ejections))


@given(sets(), st.integers(0, 4))
def test_by_lag_or_silence_the_service_never_empties(found: list[Member], desired: int) -> None:
    fit = [replace(member, lag=None if isinstance(member.lag, NotEligible) else member.lag) for member in found]
    ejections = decide(*fit, desired=desired, bounds=Readiness(on_lag_panic=OnLagPanic.EJECT))
    own_fault = {member.name for member in judge(*fit) if member.verdict.is_failed}
    alive = {member.name for member in fit if member.role is Role.SERVING and member.is_alive} - own_fault
    if alive:
        assert alive - {entry.name for entry in ejections.gone}


@given(sets(), st.integers(1, 4), st.booleans())
def test_what_leaves_against_the_load_is_disowned_or_not_there(
    found: list[Member], desired: int, has_primary: bool
) -> None:
    """Unless the spec asks for it: those that stay have room for all, or there are as many as are wanted."""
    ejections = decide(*found, desired=desired, has_primary=has_primary)
    own_fault = {member.name for member in judge(*found, has_primary=has_primary) if member.verdict.is_failed}
    serving_now = {m.name: m for m in found if m.role is Role.SERVING and m.is_alive and m.name not in own_fault}
    out = [serving_now[entry.name] for entry in ejections.gone if entry.name in serving_now]
    weighed = [member for member in out if member.pod is not None and member.pod.is_ready]
    if not weighed:
        return
    rest = [member.facts for member in ejections.good]
    probes = [member.probe for member in (*rest, *weighed) if member.probe is not None]
    room = sum(member.probe.max_connections for member in rest if member.probe is not None)
    has_room = sum(probe.sessions for probe in probes) < 0.9 * room
    unready = [m for m in out if m not in weighed]
    assert rest
    assert has_room or len(serving_now) - len(out) + len(unready) >= desired - len(unready)
