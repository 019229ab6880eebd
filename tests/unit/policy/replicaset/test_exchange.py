"""Who leaves for one whose lag is known, and who leaves when none is wanted."""

from dataclasses import replace
from datetime import timedelta

from headroom.model.replica import Role
from headroom.policy.replicaset.members import Member
from headroom.policy.replicaset.plan import Plan, decide_plan
from headroom.policy.replicaset.replay_lag import ReplayLag
from headroom.policy.replicaset.timeouts import AUTHORITY_AGE_LIMIT
from headroom.reasons import Reason
from tests.unit.policy.replicaset.make import BEYOND, NOW, judge, make_member, make_pod, make_targets


def plan(*found: Member, desired: int = 1) -> Plan:
    return decide_plan(judge(*found), make_targets(desired=desired), NOW)


def serving(ordinal: int = 0, **changes: object) -> Member:
    return make_member(Role.SERVING, ordinal, **changes)


def blind(ordinal: int = 0, seconds: float = 12.0) -> Member:
    lag = ReplayLag(seconds, 9, is_bounded=False)
    return serving(ordinal, lag=lag, within=0, judged_seconds=seconds)


def test_a_fit_standby_joins_for_a_member_whose_lag_stays_open() -> None:
    found = plan(blind(), make_member(Role.STANDBY, 1))
    assert (found.needed, found.activate) == (1, ("store-1-a",))
    assert found.good == 1, "nobody knows that it is beyond its bound"
    assert found.drain == found.eject == ()


def test_it_waits_ten_seconds_and_for_a_standby_whose_lag_is_known() -> None:
    assert plan(blind(seconds=9.0), make_member(Role.STANDBY, 1)).needed == 0
    open_lag = ReplayLag(0.1, 9, is_bounded=False)
    assert plan(blind(), make_member(Role.STANDBY, 1, lag=open_lag)).needed == 0
    assert plan(blind(), make_member(Role.STANDBY, 1, lag=BEYOND)).needed == 0


def test_once_the_other_serves_it_leaves_whoever_else_drains() -> None:
    found = plan(blind(), serving(1), make_member(Role.DRAINING, 2))
    [left] = found.drain
    assert (left.name, left.reason) == ("store-0-a", Reason.REPLAY_LAG_UNKNOWN)
    assert left.message == (
        "replay lag at least 12.0 s, 0.0 MiB to replay; how much its lag is has not been known for 12 s"
    )
    assert plan(blind(), serving(1), desired=2).drain == (), "nobody has joined for it"


def test_of_several_one_leaves_at_a_time_the_worst_first_and_never_the_last_that_is_known() -> None:
    [left] = plan(blind(0), blind(1, 60.0), serving(2), desired=2).drain
    assert left.name == "store-1-a"
    assert plan(blind(0), blind(1), desired=1).drain == ()


def test_if_none_is_wanted_one_that_lags_or_is_silent_leaves_too() -> None:
    late, silent = serving(0, lag=BEYOND, beyond=2, within=0), serving(1, lag=None, unanswered=5)
    found = plan(late, silent, desired=0)
    assert [(entry.name, entry.reason) for entry in found.drain] == [
        ("store-0-a", Reason.REPLICAS_SET),
        ("store-1-a", Reason.REPLICAS_SET),
    ]
    assert plan(late, desired=1).drain == ()


def test_if_none_is_wanted_those_that_serve_well_leave_one_by_one() -> None:
    assert [entry.name for entry in plan(serving(0), serving(1), desired=0).drain] == ["store-1-a"]
    assert plan(serving(0), make_member(Role.DRAINING, 1), desired=0).drain == ()


def test_a_pod_is_exchanged_long_before_its_authority_ends() -> None:
    oldest = NOW - AUTHORITY_AGE_LIMIT
    targets = replace(make_targets(desired=1, standbys=1), authority_made_after=oldest)

    def recreated(**changes: object) -> tuple[str, ...]:
        standby = make_member(Role.STANDBY, 1)
        aged = replace(standby, pod=make_pod(Role.STANDBY, **{"created_at": oldest - timedelta(days=1), **changes}))
        return decide_plan(judge(serving(), aged), targets, NOW).recreate

    assert recreated(authority="PEM") == ("store-1-a",)
    assert recreated(authority="PEM", created_at=NOW) == ()
    assert recreated() == (), "it has none"
