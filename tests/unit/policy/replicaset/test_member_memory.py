"""What a row of passes tells of one member: readings, silences and refusals."""

import copy
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headroom.policy.replicaset.facts import Answer, Reading, Silence
from headroom.policy.replicaset.member_memory import Inherited, ReadingHistory
from headroom.policy.replicaset.replay_lag import NotEligible, ReplayLag, is_bounded
from headroom.reasons import Reason
from tests.unit.policy.replicaset.make import BOUNDS, answer, make_mark
from tests.unit.policy.replicaset.passes import Passes, late

MIB = 1024**2


def test_answers_within_the_bounds_are_counted_in_a_row() -> None:
    readings = Passes().answer(count=3).readings
    assert (readings.within, readings.beyond, readings.unanswered, readings.counted) == (3, 0, 0, 3)
    assert isinstance(readings.lag, ReplayLag)


def test_a_lag_beyond_the_bounds_is_counted_and_ends_the_row_within() -> None:
    passes = Passes()
    passes.answer(count=2)
    for _ in range(15):
        far = make_mark(passes.at, 200 * MIB)
        passes.known = passes.known.observe(answer(passes.at), (far,), BOUNDS, passes.at)
        passes.at += 1
    readings = passes.known.readings
    assert readings.within == 0
    assert isinstance(readings.lag, ReplayLag)
    assert readings.lag.seconds > 10
    assert 0 < readings.beyond < 15
    assert passes.answer(lsn=200 * MIB).readings.beyond == 0


def test_each_verdict_builds_on_the_one_before() -> None:
    passes = Passes()
    first = passes.answer(step=0.4).readings.lag
    assert isinstance(first, ReplayLag)
    mark = make_mark(100.0, 500)
    later = passes.known.observe(answer(100.4), (mark,), BOUNDS, 100.4).readings.lag
    assert isinstance(later, ReplayLag)
    assert later.seconds == first.seconds, "the mark was seen replayed before"


def test_silence_takes_the_lag_away_and_ends_the_row_within() -> None:
    passes = Passes()
    passes.answer(count=3)
    readings = passes.make(Silence("connection refused")).readings
    assert (readings.lag, readings.within, readings.beyond, readings.unanswered) == (None, 0, 0, 1)
    assert readings.silence == "connection refused"
    assert readings.chain is not None
    assert readings.probe is not None


def test_at_most_one_silence_a_second_is_counted() -> None:
    passes = Passes()
    for _ in range(10):
        passes.make(Silence(), step=0.25)
    assert passes.known.readings.unanswered == 3
    assert passes.known.readings.counted == 3


def test_a_late_loop_is_no_witness() -> None:
    passes = Passes()
    passes.answer()
    readings = passes.make(Silence(is_excused=True)).readings
    assert (readings.unanswered, readings.lag, readings.within, readings.counted) == (0, None, 0, 1)


def fall_behind(passes: Passes, seconds: int) -> ReadingHistory:
    """Its replay stands still, from a position that was known to be the primary's."""
    passes.answer()
    marks = [make_mark(passes.at - 1, 500)]
    for _ in range(seconds):
        marks.append(make_mark(passes.at, 500 + len(marks)))
        passes.known = passes.known.observe(answer(passes.at), tuple(marks[-5:]), BOUNDS, passes.at)
        passes.at += 1
    return passes.known.readings


def test_each_reading_beyond_the_bound_counts_once() -> None:
    passes = Passes()
    assert fall_behind(passes, 11).beyond == 0, "as old as the bound is not beyond it"
    counts = []
    for _ in range(3):
        far = make_mark(passes.at, 600)
        counts.append(passes.known.observe(answer(passes.at), (far,), BOUNDS, passes.at).readings.beyond)
        passes.known = passes.known.observe(answer(passes.at), (far,), BOUNDS, passes.at)
        passes.at += 1
    assert counts == [1, 2, 3]


@pytest.mark.parametrize(
    "none",
    [
        Silence(is_excused=True),
        Silence("connection refused"),
        Silence("sorry, too many clients already", reason=Reason.NO_CONNECTION_LEFT),
    ],
    ids=["our loop was late", "silence", "full"],
)
def test_what_is_no_reading_refutes_none(none: Silence) -> None:
    passes = Passes()
    before = fall_behind(passes, 13)
    assert before.beyond == 2
    after = passes.make(none).readings
    assert (after.beyond, after.stale) == (2, before.stale)
    assert passes.known.stale_seconds(passes.at) == 2
    readings = passes.known.observe(answer(passes.at), (make_mark(passes.at, 700),), BOUNDS, passes.at).readings
    assert readings.beyond == 3
    assert passes.answer(lsn=700).readings.beyond == 0
    assert passes.known.readings.stale is None
    assert passes.known.stale_seconds(passes.at) == 0


def test_neither_a_moment_without_a_stream_nor_one_without_the_primary_makes_the_data_younger() -> None:
    passes = Passes()
    before = fall_behind(passes, 13)
    assert isinstance(before.lag, ReplayLag)
    passes.answer(is_streaming=False)
    passes.answer(is_blind=True)
    young = make_mark(passes.at, 900)
    readings = passes.known.observe(answer(passes.at), (young,), BOUNDS, passes.at).readings
    assert isinstance(readings.lag, ReplayLag)
    assert readings.lag.seconds == before.lag.seconds + 3
    assert readings.beyond == 3


def test_the_marks_of_another_timeline_say_nothing_of_the_age_but_a_lag_that_may_be_more_refutes_nothing() -> None:
    passes = Passes()
    assert fall_behind(passes, 13).beyond == 2
    young = make_mark(passes.at, 900, timeline=2)
    readings = passes.known.observe(answer(passes.at, timeline=2), (young,), BOUNDS, passes.at).readings
    assert isinstance(readings.lag, ReplayLag)
    assert (readings.lag.seconds, readings.lag.is_bounded) == (0, False)
    assert readings.beyond == 2
    readings = passes.known.observe(answer(passes.at, 900, timeline=2), (young,), BOUNDS, passes.at).readings
    assert readings.beyond == 0


def test_a_lag_that_may_be_more_is_not_known() -> None:
    passes = Passes()
    for _ in range(8):
        passes.known = passes.known.observe(answer(passes.at), (make_mark(passes.at, 900),), BOUNDS, passes.at)
        passes.at += 1
    assert passes.known.readings.judged is None
    assert passes.known.judged_seconds(passes.at) == 8
    assert isinstance(passes.answer(lsn=900).readings.judged, ReplayLag)


def test_what_another_process_knew_is_the_beginning() -> None:
    mark = make_mark(40.0, 700)
    passes = Passes()
    begun = passes.known.readings.inherit(Inherited(ReplayLag(50.0, 9, pending=mark, is_bounded=False)), 100.0)
    assert begun.judged is None
    lag = begun.observe(answer(100.0), (make_mark(100.0, 900),), BOUNDS, 100.0).lag
    assert isinstance(lag, ReplayLag)
    assert (lag.seconds, lag.is_bounded) == (60, False)
    replayed = begun.observe(answer(100.0, 700), (make_mark(100.0, 900),), BOUNDS, 100.0).lag
    assert isinstance(replayed, ReplayLag)
    assert replayed.seconds == 0
    within = passes.known.readings.inherit(Inherited(ReplayLag(0.0, 0)), 100.0)
    assert within.judged == ReplayLag(0.0, 0)


NO_STREAM = NotEligible(Reason.NOT_STREAMING, "its WAL receiver is not connected")


@pytest.mark.parametrize(
    ("left", "lag", "age"),
    [
        (Inherited(ReplayLag(50.0, 9, pending=make_mark(40.0, 700), is_bounded=False)), 50.0, 60.0),
        (Inherited(ReplayLag(0.0, 9, pending=make_mark(40.0, 700), is_bounded=False), NO_STREAM, 95.0), 55.0, 60.0),
        (Inherited(ReplayLag(0.4, 9), NO_STREAM, 95.0), 0.4, 5.4),
        (Inherited(None, NO_STREAM, 70.0), 0.0, 30.0),
        (Inherited(None, replace(NO_STREAM, reason=Reason.TIMELINE_DIVERGED), 70.0), 0.0, 30.0),
    ],
    ids=[
        "lagged",
        "lagged and lost its stream",
        "lost it",
        "nothing is known of before",
        "old timeline",
    ],
)
def test_data_that_aged_under_another_process_are_as_old_for_this_one(left: Inherited, lag: float, age: float) -> None:
    passes = Passes()
    passes.known = replace(passes.known, readings=passes.known.readings.inherit(left, 100.0))
    readings = passes.make(answer(100.0, lsn=400, is_streaming=False, timeline=None), step=0.0).readings
    assert readings.chain is not None
    assert (readings.chain.seconds, readings.age.seconds(100.0)) == (lag, pytest.approx(age))
    assert lag + passes.known.unmeasured_seconds(100.0) == pytest.approx(age)
    passes.at = 103.0
    passes.make(answer(103.0, is_streaming=False, timeline=None))
    assert passes.known.readings.age.seconds(103.0) == pytest.approx(age + 3)


def test_what_another_process_dated_is_the_loss_of_the_stream_and_no_other_reason() -> None:
    for reason, seconds in ((Reason.NOT_STREAMING, 30.0), (Reason.TIMELINE_DIVERGED, 0.0)):
        passes = Passes()
        left = Inherited(None, replace(NO_STREAM, reason=reason), 70.0)
        passes.known = replace(passes.known, readings=passes.known.readings.inherit(left, 100.0))
        changes = {"timeline": 2} if reason is Reason.TIMELINE_DIVERGED else {"is_streaming": False, "timeline": None}
        passes.answer(step=0.0, **changes)
        assert passes.known.refused_seconds(100.0) == seconds


def test_a_member_that_is_late_each_time_is_alive_and_its_lag_unknown() -> None:
    passes = Passes()
    passes.answer(count=2)
    passes.make(Silence())
    for _ in range(20):
        readings = passes.make(late(passes.at - 0.8)).readings
        assert (readings.unanswered, readings.lag, readings.within) == (1, None, 0)
    assert passes.known.silent_seconds(passes.at) < 2
    assert passes.known.judged_seconds(passes.at) == 22
    assert passes.known.readings.silence == "its answer took 0.9 s"


NO_CONNECTION = Silence("sorry, too many clients already", reason=Reason.NO_CONNECTION_LEFT)


def test_a_server_without_a_connection_left_lives_and_is_full() -> None:
    passes = Passes()
    for _ in range(5):
        passes.make(Silence("it did not answer in time", reason=Reason.PRIMARY_TIMEOUT))
    assert not passes.known.readings.is_full
    for _ in range(20):
        readings = passes.make(NO_CONNECTION).readings
        assert (readings.unanswered, readings.lag, readings.is_full) == (1, None, True)
    assert passes.known.silent_seconds(passes.at) < 2
    assert passes.known.judged_seconds(passes.at) == 25


def test_one_that_was_full_is_so_until_it_says_something_else() -> None:
    passes = Passes()
    passes.make(NO_CONNECTION)
    assert passes.make(Silence()).readings.is_full, "this probe still waits"
    assert passes.make(Silence(is_excused=True)).readings.is_full
    assert not passes.make(Silence("connection refused")).readings.is_full
    passes.make(NO_CONNECTION)
    assert not passes.make(late(passes.at - 0.8)).readings.is_full
    passes.make(NO_CONNECTION)
    assert not passes.answer().readings.is_full


def test_a_late_answer_ends_a_row_of_silences() -> None:
    passes = Passes()
    for _ in range(5):
        passes.make(Silence())
    assert passes.known.readings.unanswered == 5
    assert passes.make(late(passes.at - 0.8)).readings.unanswered == 1


def test_what_can_never_change_back_counts_however_late_it_comes() -> None:
    passes = Passes()
    passes.answer()
    readings = passes.make(late(passes.at - 0.8, is_in_recovery=False)).readings
    assert isinstance(readings.lag, NotEligible)
    assert readings.lag.reason is Reason.MEMBER_PROMOTED
    unsteady = passes.make(late(passes.at - 0.8, is_streaming=False)).readings
    assert unsteady.lag is None, "a stream may be back by now"


def test_the_last_verdict_stays_known_while_the_primary_is_away() -> None:
    passes = Passes()
    measured = passes.answer(count=2).readings.lag
    passes.answer(count=3, is_blind=True)
    assert passes.known.readings.judged == measured
    assert passes.known.judged_seconds(passes.at) == 4


def test_a_missing_stream_is_timed_whether_or_not_the_primary_answers() -> None:
    passes = Passes()
    passes.answer()
    assert passes.known.cut_seconds(passes.at) == 0
    passes.answer(count=6, is_blind=True, is_streaming=False)
    assert passes.known.cut_seconds(passes.at) == 6
    passes.answer(is_blind=True)
    assert passes.known.cut_seconds(passes.at) == 0


def test_what_a_probe_met_is_kept_until_one_is_answered() -> None:
    passes = Passes()
    passes.make(Silence("connection refused"))
    assert passes.make(Silence()).readings.silence == "connection refused"
    assert passes.make(Silence("no route to host")).readings.silence == "no route to host"
    assert passes.answer().readings.silence == ""


def test_silent_seconds_count_from_the_last_answer_or_else_from_first_sight() -> None:
    passes = Passes()
    passes.make(Silence())
    assert passes.known.silent_seconds(130.0) == 30
    passes = Passes()
    passes.answer(count=5)
    assert passes.known.silent_seconds(130.0) == 0
    passes.make(Silence())
    assert passes.known.silent_seconds(130.0) == 26


def test_a_pod_that_is_not_asked_keeps_what_is_known() -> None:
    passes = Passes()
    before = passes.answer(count=2).readings
    assert passes.make(None).readings == before


READINGS = st.lists(
    st.one_of(
        st.none(),
        st.builds(Silence, message=st.sampled_from(["", "refused"]), is_excused=st.booleans()),
        st.builds(
            lambda lsn, streams: answer(0.0, lsn=lsn, is_streaming=streams),
            st.integers(0, 600),
            st.booleans(),
        ),
    ),
    max_size=20,
)


@given(READINGS, st.floats(0.05, 20.0))
def test_whatever_is_read_counters_agree_with_each_other(readings: list[Reading | None], step: float) -> None:
    passes = Passes()
    for drawn in readings:
        at = passes.at
        is_answer = isinstance(drawn, Answer)
        reading = Answer(replace(drawn.probe, probed_at=at, answered_at=at)) if is_answer else drawn
        before = copy.deepcopy(passes.known)
        known = passes.make(reading, step=step)
        assert before.observe(reading, (make_mark(at, 500),), BOUNDS, at) == known, "the same facts, the same memory"
        counts = known.readings
        assert not (counts.within and counts.beyond)
        assert not (counts.unanswered and (counts.within or counts.lag is not None))
        assert (counts.stale is not None) == (counts.beyond > 0)
        assert counts.beyond >= before.readings.beyond or is_bounded(counts.lag), "only a known lag refutes"
        assert 0 <= known.stream.broken_seconds <= at - 100.0 + step
