"""Every serving member that may answer with old data is named, whatever is done about it."""

from headroom.model.replica import Role
from headroom.policy.replicaset.members import Member
from headroom.policy.replicaset.replay_lag import NotEligible, ReplayLag
from headroom.policy.replicaset.staleness import find_stale_reads
from headroom.reasons import Reason
from tests.unit.policy.replicaset.make import BETWEEN, BEYOND, BOUNDS, judge, make_member, make_probe


def serving(ordinal: int = 0, **changes: object) -> Member:
    return make_member(Role.SERVING, ordinal, **changes)


def test_while_all_are_known_and_within_their_bound_nothing_is_stale() -> None:
    assert find_stale_reads(judge(serving(0), serving(1, lag=BETWEEN)), BOUNDS, "") is None
    assert find_stale_reads([], BOUNDS, "") is None


def test_all_beyond_the_bound_are_named_with_their_seconds_and_the_cause_of_a_pause() -> None:
    paused = serving(1, lag=ReplayLag(820.0, 16), probe=make_probe(is_replay_paused=True))
    found = find_stale_reads(judge(serving(0, lag=BEYOND), paused, serving(2)), BOUNDS, "")
    assert found is not None
    assert found.reason is Reason.REPLAY_LAG_ABOVE_LIMIT
    assert found.message.startswith("store-1-a serves data 820 s old; its replay is paused")
    assert "store-0-a serves data 60 s old" in found.message
    assert "store-2-a" not in found.message


def test_a_single_reading_is_told_although_it_moves_nobody() -> None:
    assert find_stale_reads(judge(serving(0, lag=BEYOND, beyond=1)), BOUNDS, "") is not None


def test_standbys_and_members_that_drain_answer_no_reads() -> None:
    others = [make_member(role, 1, lag=BEYOND, judged_seconds=60.0) for role in (Role.STANDBY, Role.DRAINING)]
    assert find_stale_reads(judge(*others), BOUNDS, "") is None


def test_a_lag_that_is_not_known_is_told_after_ten_seconds_with_its_cause() -> None:
    brief = serving(0, lag=None, judged_seconds=9.9)
    assert find_stale_reads(judge(brief), BOUNDS, "") is None
    late = serving(0, lag=None, unanswered=1, judged_seconds=12.0, silence="its answer took 0.9 s")
    found = find_stale_reads(judge(late, serving(1)), BOUNDS, "")
    assert found is not None
    assert found.reason is Reason.REPLAY_LAG_UNKNOWN
    assert found.message == "the replay lag of store-0-a has not been known for 12 s: its answer took 0.9 s"


def test_data_that_may_have_passed_the_bound_since_the_last_reading_are_told() -> None:
    down = NotEligible(Reason.NOT_STREAMING, "its WAL receiver is not connected")
    lagged = {"last_lag": ReplayLag(9.0, 16), "lag": None}
    assert find_stale_reads(judge(serving(0, **lagged, unmeasured_seconds=2.9)), BOUNDS, "") is None
    assert find_stale_reads(judge(serving(0, **lagged, unmeasured_seconds=3.0)), BOUNDS, "") is not None
    current = serving(0, last_lag=ReplayLag(0.5, 16), lag=None, unmeasured_seconds=60.0)
    assert find_stale_reads(judge(current), BOUNDS, "") is None
    cut_off = {"last_lag": ReplayLag(0.5, 16), "lag": down}
    assert find_stale_reads(judge(serving(0, **cut_off, unmeasured_seconds=9.4)), BOUNDS, "") is None
    assert find_stale_reads(judge(serving(0, **cut_off, unmeasured_seconds=9.5)), BOUNDS, "") is not None
    found = find_stale_reads(judge(serving(0, **{**lagged, "lag": down}, unmeasured_seconds=3.0)), BOUNDS, "")
    assert found is not None
    assert found.reason is Reason.REPLAY_LAG_UNKNOWN
    assert found.message == (
        "store-0-a may serve data 12 s old: its replay lag was 9 s when last measured, 3 s ago; "
        "its WAL receiver is not connected"
    )


def test_a_panic_names_its_members_itself_and_hides_no_unknown_lag() -> None:
    unknown = serving(1, lag=None, judged_seconds=12.0)
    kept = serving(0, lag=BEYOND, beyond=2)
    found = find_stale_reads(judge(kept, unknown), BOUNDS, "store-0-a is kept", ["store-0-a"])
    assert found is not None
    assert found.reason is Reason.LAG_PANIC
    assert found.message == "store-0-a is kept; the replay lag of store-1-a has not been known for 12 s"


def test_a_panic_hides_no_other_lag() -> None:
    """As that of a member with other libraries, about which the panic does not decide."""
    other = serving(1, lag=ReplayLag(120.0, 16), beyond=9)
    found = find_stale_reads(judge(serving(0, lag=BEYOND, beyond=2), other), BOUNDS, "store-0-a is kept", ["store-0-a"])
    assert found is not None
    assert (found.reason, found.message) == (
        Reason.LAG_PANIC,
        "store-0-a is kept; store-1-a serves data 120 s old",
    )


def test_what_was_seen_beyond_the_bound_stays_said_through_a_silence() -> None:
    silent = serving(0, lag=None, unanswered=1, beyond=1, stale=ReplayLag(31.0, 9), stale_seconds=2.0)
    found = find_stale_reads(judge(silent), BOUNDS, "")
    assert found is not None
    assert found.reason is Reason.REPLAY_LAG_ABOVE_LIMIT
    assert found.message == "store-0-a served data 31 s old when that was last known, 2 s ago"


def test_a_lag_that_may_be_more_is_said_so() -> None:
    beyond = serving(0, lag=ReplayLag(31.0, 9, is_bounded=False), beyond=1)
    found = find_stale_reads(judge(beyond), BOUNDS, "")
    assert found is not None
    assert found.message == "store-0-a serves data at least 31 s old"
    near = serving(0, lag=ReplayLag(6.0, 9, is_bounded=False), judged_seconds=11.0)
    found = find_stale_reads(judge(near), BOUNDS, "")
    assert found is not None
    assert (found.reason, found.message) == (
        Reason.REPLAY_LAG_UNKNOWN,
        "the replay lag of store-0-a is at least 6 s, and how much it is has not been known for 11 s",
    )


def test_of_many_only_five_are_named() -> None:
    found = find_stale_reads(judge(*(serving(number, lag=BEYOND) for number in range(8))), BOUNDS, "")
    assert found is not None
    assert found.message.endswith(", 3 more")
