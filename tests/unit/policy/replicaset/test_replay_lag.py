"""The LSN round trip: small on an idle primary, growing on a frozen replica, never negative, never across histories."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headroom.model.database import Lsn, Mark, ReplicaProbe
from headroom.policy.replicaset.replay_lag import (
    OLDEST_USABLE_MARK_SECONDS,
    LagUnknown,
    NotEligible,
    ReplayLag,
    measure_replay_lag,
)
from headroom.reasons import Reason

SYSTEM = "7291"


def mark(at: float, lsn: int, *, timeline: int = 1, system: str = SYSTEM) -> Mark:
    return Mark(taken_at=at, lsn=Lsn(lsn), commit_seconds=0.001, timeline=timeline, system_identifier=system)


def probe(at: float, replay: int | None, *, took: float = 0.002, timeline: int | None = 1) -> ReplicaProbe:
    lsn = None if replay is None else Lsn(replay)
    return ReplicaProbe(
        probed_at=at - took,
        answered_at=at,
        server_name="store-0-a",
        is_in_recovery=True,
        system_identifier=SYSTEM,
        version=170002,
        replay_lsn=lsn,
        receive_lsn=lsn,
        timeline=timeline,
        is_streaming=True,
        is_replay_paused=False,
        sessions=0,
        active_sessions=0,
        max_connections=100,
    )


def lag_of(verdict: object) -> ReplayLag:
    assert isinstance(verdict, ReplayLag), verdict
    return verdict


def test_an_idle_primary_gives_the_time_to_the_first_sight_of_the_mark() -> None:
    marks = [mark(10.0, 1000), mark(11.0, 1100)]
    first = lag_of(measure_replay_lag(marks, probe(11.03, 1100), 11.03))
    assert first.seconds == pytest.approx(0.03)
    later = lag_of(measure_replay_lag(marks, probe(11.9, 1100), 11.9, previous=first))
    assert later.seconds == pytest.approx(0.03), "the mark was seen replayed before: waiting for the next is not lag"


def test_without_memory_the_bound_is_only_coarser() -> None:
    marks = [mark(10.0, 1000), mark(11.0, 1100)]
    assert lag_of(measure_replay_lag(marks, probe(11.9, 1100), 11.9)).seconds == pytest.approx(0.9)


def test_a_frozen_replica_falls_behind_second_by_second() -> None:
    marks = [mark(float(second), second * 100) for second in range(10, 21)]
    before = measure_replay_lag(marks[:1], probe(10.02, 1000), 10.02)
    lag = lag_of(measure_replay_lag(marks, probe(20.5, 1000), 20.5, previous=before))
    assert lag.seconds == pytest.approx(20.5 - 11.0), "the oldest mark that it lacks is from 11.0"
    assert lag.bytes == 1000
    unremembered = lag_of(measure_replay_lag(marks, probe(20.5, 1000), 20.5))
    assert unremembered.seconds == pytest.approx(20.5 - 10.0), "without memory: the upper bound"


def test_lag_keeps_growing_when_it_is_older_than_the_window() -> None:
    previous = None
    seconds = []
    for now in range(10, 200):
        window = [mark(float(at), at * 100) for at in range(max(0, now - 30), now + 1)]
        previous = measure_replay_lag(window, probe(now + 0.1, 500), now + 0.1, previous=previous)
        seconds.append(lag_of(previous).seconds)
    assert seconds == sorted(seconds)
    assert seconds[-1] == pytest.approx(199.1 - 6.0)


def test_the_lag_is_gone_at_once_when_the_replica_has_caught_up() -> None:
    marks = [mark(float(at), at * 100) for at in range(10, 21)]
    behind = measure_replay_lag(marks, probe(20.1, 1000), 20.1)
    caught_up = measure_replay_lag(marks, probe(20.2, 2000), 20.2, previous=behind)
    assert lag_of(caught_up).seconds == pytest.approx(0.2)
    assert lag_of(caught_up).bytes == 0


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"system_identifier": "1"}, Reason.FOREIGN_MEMBER),
        ({"is_in_recovery": False}, Reason.MEMBER_PROMOTED),
        ({"is_streaming": False}, Reason.NOT_STREAMING),
        ({"timeline": None}, Reason.NOT_STREAMING),
        ({"timeline": 2}, Reason.TIMELINE_DIVERGED),
        ({"replay_lsn": None}, Reason.REPLAYING),
    ],
)
def test_what_is_not_eligible_has_no_lag(changed: dict[str, object], reason: Reason) -> None:
    verdict = measure_replay_lag([mark(10, 1000)], replace(probe(10.1, 5000), **changed), 10.1)
    assert isinstance(verdict, NotEligible)
    assert verdict.reason is reason
    assert verdict.message


def test_a_foreign_or_promoted_replica_is_named_even_while_the_primary_is_silent() -> None:
    verdict = measure_replay_lag([mark(10, 1000)], replace(probe(100, 5000), is_in_recovery=False), 100)
    assert isinstance(verdict, NotEligible)


def test_a_silent_primary_leaves_the_lag_unknown() -> None:
    assert isinstance(measure_replay_lag([], probe(10, 1000), 10), LagUnknown)
    at = 10 + OLDEST_USABLE_MARK_SECONDS + 0.1
    verdict = measure_replay_lag([mark(10, 1000)], probe(at, 1000), at)
    assert isinstance(verdict, LagUnknown)
    assert verdict.reason is Reason.READS_UNBOUNDED


def test_an_answer_from_before_the_position_says_nothing_about_now() -> None:
    """It would give the lag of the mark before, however long ago that was."""
    marks = [mark(10.0, 1000), mark(18.7, 1000)]
    assert isinstance(measure_replay_lag(marks, probe(10.9, 1000), 18.71), LagUnknown)
    promoted = replace(probe(10.9, 1000), is_in_recovery=False)
    assert isinstance(measure_replay_lag(marks, promoted, 18.71), NotEligible)


def test_marks_from_before_a_failover_are_left_out() -> None:
    marks = [mark(10, 9000), mark(11, 9500), mark(12, 5000, timeline=2)]
    lag = lag_of(measure_replay_lag(marks, probe(12.05, 5000, timeline=2), 12.05))
    assert lag.seconds == pytest.approx(0.05)
    assert lag.bytes == 0


def test_a_pending_mark_of_the_old_timeline_is_forgotten() -> None:
    behind = measure_replay_lag([mark(10, 9000)], probe(10.5, 100), 10.5)
    after = measure_replay_lag(
        [mark(10, 9000), mark(12, 5000, timeline=2)], probe(12.05, 5000, timeline=2), 12.05, previous=behind
    )
    assert lag_of(after).seconds == pytest.approx(0.05)


@st.composite
def histories(draw: st.DrawFn) -> tuple[list[Mark], ReplicaProbe]:
    gaps = draw(st.lists(st.floats(0.05, 4.0), min_size=1, max_size=20))
    steps = draw(st.lists(st.integers(0, 10_000), min_size=len(gaps), max_size=len(gaps)))
    marks, at, lsn = [], 100.0, 1000
    for gap, step in zip(gaps, steps, strict=True):
        at, lsn = at + gap, lsn + step
        marks.append(mark(at, lsn))
    replay = draw(st.integers(0, lsn + 5000))
    answered = at + draw(st.floats(0.01, OLDEST_USABLE_MARK_SECONDS - 0.01))
    return marks, probe(answered, replay)


@given(histories())
def test_never_negative_and_never_below_what_is_proven(history: tuple[list[Mark], ReplicaProbe]) -> None:
    marks, seen = history
    lag = lag_of(measure_replay_lag(marks, seen, seen.answered_at))
    assert lag.seconds >= 0
    assert lag.bytes >= 0
    for one in marks:
        if seen.replay_lsn is not None and one.lsn > seen.replay_lsn:
            assert lag.seconds >= seen.answered_at - one.taken_at - 1e-9


@given(histories(), st.integers(0, 50_000))
def test_more_replayed_is_never_more_lag(history: tuple[list[Mark], ReplicaProbe], further: int) -> None:
    marks, seen = history
    assert seen.replay_lsn is not None
    ahead = replace(seen, replay_lsn=Lsn(seen.replay_lsn + further))
    slow = lag_of(measure_replay_lag(marks, seen, seen.answered_at))
    fast = lag_of(measure_replay_lag(marks, ahead, seen.answered_at))
    assert fast.seconds <= slow.seconds + 1e-9
    assert fast.bytes <= slow.bytes


@given(histories(), st.floats(0.0, 3.0))
def test_memory_never_hides_a_mark_that_waits(history: tuple[list[Mark], ReplicaProbe], pause: float) -> None:
    marks, seen = history
    first = measure_replay_lag(marks, seen, seen.answered_at)
    later = replace(seen, answered_at=seen.answered_at + pause, probed_at=seen.probed_at + pause)
    verdict = measure_replay_lag(marks, later, seen.answered_at, previous=first)
    lag = lag_of(verdict)
    if lag.pending is not None:
        assert lag.seconds >= later.answered_at - lag.pending.taken_at - 1e-9
