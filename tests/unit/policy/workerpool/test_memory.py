"""What a pool's memory keeps: the row of wants, since when it is late, its own writes, its target."""

import math

from hypothesis import given
from hypothesis import strategies as st

from headroom.model.queue import QueueSample
from headroom.policy.workerpool import ForeignWrites, Move, PoolMemory
from headroom.policy.workerpool.conflict import watch_writes
from headroom.policy.workerpool.constants import BACK_WITHIN
from headroom.policy.workerpool.memory import Wants
from headroom.policy.workerpool.window import Observation


@given(st.lists(st.tuples(st.floats(0, 30), st.integers(0, 50)), min_size=1, max_size=60))
def test_the_peak_of_the_wants_is_that_of_the_window(steps: list[tuple[float, int]]) -> None:
    wants, now, seen = Wants(), 0.0, []
    for pause, workers in steps:
        now += pause
        wants = wants.add(now, workers, 60.0)
        seen.append((now, workers))
        assert wants.peak() == max(count for at, count in seen if at >= now - 60.0)
    assert len(wants.peaks) <= len(steps)


def test_lateness_begins_with_the_first_late_sample_and_ends_with_the_first_other() -> None:
    memory = PoolMemory()
    lags = [(0.0, 10.0), (5.0, 31.0), (6.0, 40.0), (7.0, 29.0), (12.0, 31.0)]
    late_for = []
    for at, lag in lags:
        memory = memory.observe(Observation(QueueSample(at, lag, 5), 1), 30.0)
        late_for.append(memory.late_for_seconds(at))
    assert late_for == [0.0, 0.0, 1.0, 0.0, 0.0]


def test_a_hole_begins_a_new_row_of_wants() -> None:
    wants = Wants().add(0.0, 9, 300.0).add(59.0, 5, 300.0)
    assert wants.covers(300.0, 300.0)
    broken = wants.add(120.0, 5, 300.0)
    assert not broken.covers(300.0, 300.0)
    assert broken.peak() == 5


def test_wants_of_one_moment_keep_the_larger_one() -> None:
    wants = Wants().add(0.0, 5, 60.0).add(0.0, 3, 60.0)
    assert wants.peak() == 5
    assert Wants().peak() == 0
    assert not Wants().covers(1e9, 0.0), "nothing was ever wanted"


def test_a_peak_leaves_with_its_window() -> None:
    wants = Wants().add(0.0, 9, 60.0)
    for at in range(10, 61, 10):
        wants = wants.add(float(at), 2, 60.0)
        assert wants.peak() == 9
    assert wants.add(60.1, 2, 60.0).peak() == 2


def test_a_lower_bound_lowers_nothing_later() -> None:
    memory = PoolMemory().want(8, 0.0, 300.0, is_lower_bound=False)
    unknown = memory.want(2, 5.0, 300.0, is_lower_bound=True)
    assert unknown.wants == memory.wants
    assert unknown.wanted == 8
    assert memory.want(12, 5.0, 300.0, is_lower_bound=True).wanted == 12
    assert memory.want(2, 5.0, 300.0, is_lower_bound=False).wanted == 2


def test_a_rate_is_learned_again_only_from_other_samples() -> None:
    memory = PoolMemory().learn(2.0, 100.0)
    assert (memory.last_good_rate, memory.learned_at) == (2.0, 100.0)
    assert memory.learn(4.0, 129.0) == memory
    assert memory.learn(None, 200.0) == memory
    assert memory.learn(4.0, 130.0).last_good_rate == 4.0


def test_what_was_written_is_ours_until_somebody_writes_something_else() -> None:
    memory = PoolMemory(foreign=ForeignWrites(written=5, written_at=10.0, seen_at=(8.0,)))
    wrote = memory.wrote(Move(20.0, 5, 9))
    assert wrote.foreign == ForeignWrites(written=9, written_at=20.0, seen_at=(8.0,))
    assert wrote.moves == (Move(20.0, 5, 9),)
    assert memory.moves == (), "a memory is a value"


def test_while_a_write_is_under_way_no_count_is_a_foreign_one() -> None:
    memory = PoolMemory(foreign=ForeignWrites(written=5, written_at=10.0)).writing()
    for found in (5, 9):
        seen = watch_writes(memory.foreign, found, 12.0)
        assert (seen.written, seen.seen_at) == (found, ())


def test_moves_are_kept_for_an_hour() -> None:
    memory = PoolMemory()
    for index in range(5):
        memory = memory.wrote(Move(1000.0 * index, index, index + 1))
    assert [move.at for move in memory.moves] == [1000.0, 2000.0, 3000.0, 4000.0]
    assert memory.wrote(Move(5000.0, 5, 6)).moves[0].at == 2000.0


def test_the_last_start_is_the_last_move_up() -> None:
    memory = PoolMemory().wrote(Move(10.0, 1, 4)).wrote(Move(50.0, 4, 2))
    assert memory.since_start_seconds(60.0) == 50.0
    assert PoolMemory().since_start_seconds(60.0) == math.inf
    assert PoolMemory().wrote(Move(50.0, 4, 2)).since_start_seconds(60.0) == math.inf


@given(st.lists(st.floats(0, 100), min_size=1, max_size=30), st.floats(1, 60))
def test_a_queue_is_late_since_the_first_of_its_late_samples(lags: list[float], target: float) -> None:
    memory, began = PoolMemory(), None
    for index, lag in enumerate(lags):
        at = 5.0 * index
        memory = memory.observe(Observation(QueueSample(at, lag, 5), 1), target)
        began = (began if began is not None else at) if lag > target else None
        assert (memory.lateness.since if memory.lateness else None) == began


@given(st.lists(st.floats(0, 100), min_size=1, max_size=30), st.floats(1, 60))
def test_a_verdict_turns_at_two_bounds(lags: list[float], target: float) -> None:
    memory = PoolMemory()
    for index, lag in enumerate(lags):
        before = memory.is_late
        memory = memory.answered(QueueSample(5.0 * index, lag, 5), target, 5.0 * index)
        if lag > target:
            assert memory.is_late
        elif lag <= BACK_WITHIN * target:
            assert not memory.is_late
        else:
            assert memory.is_late is before


def test_a_pool_without_a_queue_answers_nothing() -> None:
    memory = PoolMemory(is_late=True, blind_since=3.0)
    assert memory.answered(None, 30.0, 9.0) == memory


def test_a_lag_falls_when_it_is_clearly_below_its_height() -> None:
    memory = PoolMemory()
    lags = [(0.0, 40.0), (10.0, 90.0), (20.0, 89.0), (30.0, 85.0), (40.0, 100.0), (50.0, 94.0), (60.0, 20.0)]
    not_falling = []
    for at, lag in lags:
        memory = memory.observe(Observation(QueueSample(at, lag, 5), 1), 30.0)
        not_falling.append(memory.not_falling_seconds)
    assert not_falling == [0.0, 10.0, 20.0, 0.0, 10.0, 0.0, 0.0]


def test_a_row_that_was_taken_over_covers_its_window_after_a_minute_of_its_own() -> None:
    wants = Wants.resume(since=-1000.0, now=0.0, workers=16)
    for at in range(5, 60, 5):
        wants = wants.add(float(at), 3, 300.0)
        assert not wants.covers(float(at), 300.0)
    wants = wants.add(60.0, 3, 300.0)
    assert wants.covers(60.0, 300.0)
    assert wants.peak() == 16, "one step of the first window"
    assert wants.add(301.0, 3, 300.0).resumed_at == -math.inf, "a hole ends it"


def test_workers_are_to_spare_from_the_first_clearly_lower_want_to_the_first_full_one() -> None:
    memory = PoolMemory().spare(10.0, 9, 10)
    assert memory.spare_since is None, "one worker is none to speak of"
    memory = memory.spare(15.0, 5, 10).spare(20.0, 9, 10)
    assert memory.spare_since == 15.0
    assert memory.spare(25.0, 10, 10).spare_since is None
