"""A lag that may be more than what is known of it: it lets no member in, and grows until the member leaves."""

from dataclasses import replace

from headroom.model.database import Lsn, Mark
from headroom.model.replica import Role
from headroom.policy.replicaset.replay_lag import (
    LagVerdict,
    ReplayLag,
    describe_lag,
    is_beyond,
    is_within,
    measure_replay_lag,
)
from headroom.policy.replicaset.scale_in import choose_drained
from tests.unit.policy.replicaset.make import BOUNDS, UNKNOWN, WITHIN, judge, make_member, make_probe, make_targets


def mark(at: float, lsn: int, timeline: int = 1) -> Mark:
    return Mark(at, Lsn(lsn), commit_seconds=None, timeline=timeline, system_identifier="1")


def measure(
    marks: list[Mark], at: float, replayed: int, previous: LagVerdict | None = None, timeline: int = 1
) -> ReplayLag:
    probe = make_probe(probed_at=at, answered_at=at, replay_lsn=Lsn(replayed), timeline=timeline)
    lag = measure_replay_lag(marks, probe, at, previous=previous)
    assert isinstance(lag, ReplayLag)
    return lag


def test_the_first_readings_of_a_process_do_not_let_in_a_member_that_stands_still() -> None:
    """Its marks are milliseconds old; what the member lacks may be hours old."""
    first = measure([mark(100.0, 500)], 100.0, 400)
    second = measure([mark(100.0, 500), mark(100.2, 510)], 100.2, 400, first)
    assert not is_within(first, BOUNDS)
    assert not is_within(second, BOUNDS)
    assert describe_lag(second).startswith("replay lag at least 0.2 s")


def test_it_grows_until_the_member_is_known_to_be_beyond() -> None:
    lag = measure([mark(100.0, 500)], 100.0, 400)
    for second in range(1, 12):
        lag = measure([mark(100.0 + second, 500 + second)], 100.0 + second, 400, lag)
    assert is_beyond(lag, BOUNDS)
    assert not lag.is_bounded


def test_a_mark_that_was_replayed_bounds_it() -> None:
    assert is_within(measure([mark(100.0, 500)], 100.0, 500), BOUNDS)
    assert is_within(measure([mark(100.0, 500), mark(100.2, 510)], 100.2, 500), BOUNDS)


def test_what_was_bounded_stays_so_while_the_member_stands_still() -> None:
    known = measure([mark(99.0, 490), mark(100.0, 500)], 100.0, 490)
    later = measure([mark(108.0, 580)], 108.0, 490, known)
    assert later.is_bounded
    assert later.seconds == 8.0


def test_a_new_timeline_bounds_nothing_by_the_marks_of_the_old_one() -> None:
    """A member that stands still receives the new timeline too; its first mark on it is young."""
    known = measure([mark(99.0, 490), mark(100.0, 500)], 100.0, 490)
    after = measure([mark(101.0, 600, timeline=2)], 101.0, 490, known, timeline=2)
    assert not is_within(after, BOUNDS)


def test_nobody_is_taken_out_before_one_that_stays_is_known_to_be_up_to_date() -> None:
    unbounded = replace(WITHIN, is_bounded=False)
    targets = make_targets(desired=1)
    for lag in (unbounded, UNKNOWN):
        both = judge(*(make_member(Role.SERVING, number, lag=lag) for number in range(2)))
        assert choose_drained(both, both, targets) == ()
    pair = judge(make_member(Role.SERVING, 0, lag=unbounded), make_member(Role.SERVING, 1, lag=WITHIN))
    [drained] = choose_drained(pair, pair, targets)
    assert drained.name == pair[0].name
