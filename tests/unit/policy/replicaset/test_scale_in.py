"""Who leaves because fewer are wanted, what becomes of it, and whose sessions end when."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headroom.model.replica import Role
from headroom.policy.replicaset.members import Member
from headroom.policy.replicaset.replay_lag import NotEligible
from headroom.policy.replicaset.scale_in import (
    SessionsEnd,
    choose_drained,
    end_sessions,
    settle_drained,
    stop_unreachable,
)
from headroom.reasons import Reason
from tests.unit.policy.replicaset.make import (
    BETWEEN,
    BEYOND,
    NOW,
    UNKNOWN,
    judge,
    make_claim,
    make_member,
    make_pod,
    make_probe,
    make_targets,
)


def serving(ordinal: int, active: int = 0, template: str = "new", **changes: Any) -> Member:
    pod = make_pod(Role.SERVING, name=f"store-{ordinal}-a", uid=f"u{ordinal}", template=template)
    probe = make_probe(sessions=active, active_sessions=active)
    return make_member(Role.SERVING, ordinal, **{"pod": pod, "probe": probe, **changes})


def draining(ordinal: int, seconds: float, sessions: int = 0, **changes: Any) -> Member:
    why, since = changes.pop("why", Reason.REPLICAS_SET), NOW - timedelta(seconds=seconds)
    pod = make_pod(Role.DRAINING, name=f"store-{ordinal}-a", uid=f"u{ordinal}", draining_since=since, why=why)
    probe = make_probe(sessions=sessions, active_sessions=sessions)
    return make_member(Role.DRAINING, ordinal, **{"pod": pod, "probe": probe, **changes})


def victims(*good: Member, others: tuple[Member, ...] = (), **targets: Any) -> list[str]:
    staying, serve = judge(*good, *others), judge(*good)
    return [entry.name for entry in choose_drained(staying, serve, make_targets(**targets))]


def test_the_least_busy_leaves_and_of_equals_the_one_with_the_highest_ordinal() -> None:
    assert victims(serving(0, 9), serving(1, 2), serving(2, 5)) == ["store-1-a"]
    assert victims(serving(0), serving(1), serving(2)) == ["store-2-a"]


def test_one_that_lags_or_is_of_an_older_template_leaves_before_an_idle_one() -> None:
    assert victims(serving(0, 9, lag=BETWEEN), serving(1)) == ["store-0-a"]
    assert victims(serving(0, 9, template="old"), serving(1, lag=BETWEEN), serving(2)) == ["store-0-a"]


def test_one_whose_sessions_nobody_could_count_is_not_taken_for_idle() -> None:
    full = serving(0, is_full=True, lag=None, unanswered=1)
    assert victims(full, serving(1, 5), serving(2, 7)) == ["store-1-a"]


@pytest.mark.parametrize(
    "targets", [{"desired": 2}, {"desired": 3}, {"has_primary": False}], ids=["as many", "more", "outage"]
)
def test_nobody_leaves_unless_fewer_are_wanted_and_the_primary_answers(targets: dict[str, Any]) -> None:
    assert victims(serving(0), serving(1), **targets) == []


def test_nobody_leaves_while_another_drains_or_before_the_lag_of_one_that_stays_is_known() -> None:
    assert victims(serving(0), serving(1), others=(draining(2, 1.0, 3),)) == []
    assert victims(serving(0, lag=UNKNOWN), serving(1, lag=UNKNOWN)) == []
    assert victims(serving(0, lag=UNKNOWN), serving(1)) == ["store-0-a"]
    assert victims(serving(0, lag=UNKNOWN), desired=0) == ["store-0-a"], "nobody is to stay"


def test_if_none_is_wanted_those_that_serve_badly_leave_as_well() -> None:
    lost = serving(1, lag=NotEligible(Reason.NOT_STREAMING, ""))
    assert victims(serving(0), others=(lost,), desired=0) == ["store-1-a", "store-0-a"]
    assert victims(serving(0), others=(lost,), desired=1) == []


def test_the_event_says_how_many_serve_and_why() -> None:
    [entry] = choose_drained(
        judge(serving(0), serving(1)), judge(serving(0), serving(1)), make_targets(why=Reason.UTILIZATION_BELOW_TARGET)
    )
    assert (entry.reason, entry.message) == (Reason.UTILIZATION_BELOW_TARGET, "2 serve, 1 wanted")


@given(st.lists(st.tuples(st.integers(0, 9), st.booleans()), min_size=1, max_size=6), st.integers(1, 6))
def test_never_more_than_one_leaves_and_as_many_as_are_wanted_stay(busy: list[tuple[int, bool]], desired: int) -> None:
    found = [serving(number, active, "old" if old else "new") for number, (active, old) in enumerate(busy)]
    leaving = victims(*found, desired=desired)
    assert len(leaving) == (len(found) > desired)
    assert victims(*reversed(found), desired=desired) == leaving


def settle(*found: Member, called: tuple[str, ...] = (), **targets: Any) -> tuple[tuple[str, ...], tuple[str, ...]]:
    return settle_drained(judge(*found), called, make_targets(**targets), NOW)


def test_a_drained_one_returns_to_the_pool_if_that_is_short_and_else_goes_for_good() -> None:
    done = draining(1, 5.0)
    assert settle(serving(0), done) == (("store-1-a",), ())
    assert settle(serving(0), make_member(Role.STANDBY, 2), done) == ((), ("store-1-a",))
    assert settle(serving(0), done, standbys=0) == ((), ("store-1-a",))


def test_of_several_only_as_many_return_as_are_missing() -> None:
    found = [serving(0), draining(1, 5.0), draining(2, 5.0), draining(3, 5.0)]
    assert settle(*found, standbys=2) == (("store-1-a", "store-2-a"), ("store-3-a",))


@pytest.mark.parametrize(
    "member",
    [
        draining(1, 1.0),
        draining(1, 5.0, sessions=3),
        draining(1, 5.0, is_listed=True),
        draining(1, 5.0, unanswered=1),
        draining(1, 5.0, lag=NotEligible(Reason.MEMBER_PROMOTED, "")),
        make_member(Role.STANDBY, 1),
    ],
    ids=["a connection may be on its way", "sessions", "listed", "silent", "promoted", "not draining"],
)
def test_one_that_is_not_drained_yet_or_has_failed_is_left_alone(member: Member) -> None:
    assert settle(serving(0), member, standbys=2) == ((), ())


def test_one_that_is_called_to_serve_neither_returns_nor_goes_and_counts_as_warm() -> None:
    found = [serving(0), draining(1, 5.0), draining(2, 5.0)]
    assert settle(*found, called=("store-1-a",)) == ((), ("store-2-a",))


def test_one_whose_pod_is_being_deleted_does_not_return_as_it_is() -> None:
    ending = draining(1, 5.0)
    assert ending.pod is not None
    assert settle(serving(0), replace(ending, pod=replace(ending.pod, is_deleting=True))) == ((), ())


@pytest.mark.parametrize(
    ("member", "ends"),
    [
        (draining(1, 59.0, 5), ()),
        (draining(1, 60.0, 5), (SessionsEnd("store-1-a", only_idle=False),)),
        (draining(1, 1.0, 5, why=Reason.REPLAY_LAG_ABOVE_LIMIT), (SessionsEnd("store-1-a", only_idle=True),)),
        (draining(1, 10.0, 5, why=Reason.REPLAY_LAG_ABOVE_LIMIT), (SessionsEnd("store-1-a", only_idle=False),)),
        (draining(1, 99.0, 5, unanswered=1), ()),
        (draining(1, 99.0, 5, claim=make_claim(retire=Reason.RETIRED)), ()),
        (serving(1, 5, lag=BEYOND, beyond=9), ()),
    ],
)
def test_sessions_end_when_their_time_has_come_and_only_where_they_could_be_ended(
    member: Member, ends: tuple[SessionsEnd, ...]
) -> None:
    assert end_sessions(judge(member), (), make_targets(), NOW) == ends
    assert end_sessions(judge(member), ("store-1-a",), make_targets(), NOW) == (), "it serves again"


def test_of_those_that_nobody_can_ask_one_is_stopped_in_each_pass() -> None:
    found = judge(*(draining(number, 600.0, 5, unanswered=9, silent_seconds=600.0) for number in (1, 2)))
    assert stop_unreachable(found, make_targets(), NOW) == ("store-1-a",)
    assert stop_unreachable(found, make_targets(has_primary=False), NOW) == ()
    assert stop_unreachable(judge(draining(1, 600.0, 5)), make_targets(), NOW) == ()
