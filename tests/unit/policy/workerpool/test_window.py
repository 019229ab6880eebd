"""Samples in a row: what is kept of them, and what happened between two."""

from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headroom.model.queue import QueueSample
from headroom.policy.workerpool.constants import HISTORY_SECONDS, PROBE_SECONDS
from headroom.policy.workerpool.window import (
    DENSE_OBSERVATIONS,
    HISTORY_SPAN_SECONDS,
    KEEP_SECONDS,
    MOST_HISTORY,
    MOST_OBSERVATIONS,
    Interval,
    Observation,
    backlog_growth,
    covered_seconds,
    has_idle_slots,
    intervals,
    is_calm,
    most_jobs,
    observe,
    recent,
    remember,
)


def seen(at: float, slots: int = 10, **numbers: Any) -> Observation:
    calm = QueueSample(at, 0.0, 0, in_flight=4, arrived=0, ended=0, failed=0)
    return Observation(replace(calm, **numbers), slots)


def between(before: Observation, after: Observation) -> Interval:
    [interval] = intervals((before, after))
    return interval


def test_differences_of_counts_are_what_happened() -> None:
    found = between(
        seen(0.0, arrived=100, ended=90, failed=3, backlog=20), seen(5.0, arrived=130, ended=115, failed=4, backlog=25)
    )
    assert (found.ended_at, found.seconds) == (5.0, 5.0)
    assert (found.arrived, found.ended, found.failed, found.backlog_growth) == (30, 25, 1, 5)
    assert found.busy_seconds == 4 * 5.0


@pytest.mark.parametrize(
    ("name", "before", "after", "expected"),
    [
        ("arrived", 100, 90, None),
        ("arrived", None, 90, None),
        ("ended", 100, None, None),
        ("ended", 7, 7, 0),
        ("failed", 9, 2, None),
    ],
)
def test_a_count_that_is_missing_or_begins_again_tells_nothing(
    name: str, before: int | None, after: int | None, expected: int | None
) -> None:
    assert getattr(between(seen(0.0, **{name: before}), seen(5.0, **{name: after})), name) == expected


@pytest.mark.parametrize(
    ("first", "last", "busy", "is_saturated"),
    [
        ({"in_flight": 4}, {"in_flight": 8}, 6.0, False),
        ({"in_flight": 50}, {"in_flight": 50}, 10.0, False),
        ({"in_flight": 10, "backlog": 1}, {"in_flight": 10, "backlog": 1}, 10.0, True),
        ({"in_flight": 10, "backlog": 1}, {"in_flight": 10, "backlog": 0}, 10.0, False),
        ({"in_flight": None, "backlog": 1}, {"in_flight": None, "backlog": 1}, 10.0, True),
        ({"in_flight": None}, {"in_flight": None, "backlog": 1}, None, False),
        ({"in_flight": None}, {"in_flight": 4}, None, False),
    ],
)
def test_busy_slots_are_at_most_those_there_were(
    first: dict[str, Any], last: dict[str, Any], busy: float | None, is_saturated: bool
) -> None:
    found = between(seen(0.0, **first), seen(5.0, **last))
    assert found.busy_seconds == (None if busy is None else busy * 5.0)
    assert found.is_saturated is is_saturated


def test_without_workers_nothing_is_saturated() -> None:
    found = between(seen(0.0, slots=0, backlog=5), seen(5.0, slots=0, backlog=5))
    assert (found.busy_seconds, found.is_saturated) == (0.0, False)


def test_workers_that_came_count_for_half_of_the_interval() -> None:
    found = between(seen(0.0, slots=2, in_flight=2, backlog=9), seen(5.0, slots=10, in_flight=10, backlog=9))
    assert found.busy_seconds == 6 * 5.0


def test_two_samples_of_one_moment_make_no_interval() -> None:
    assert intervals((seen(5.0), seen(5.0))) == ()
    assert intervals((seen(5.0),)) == ()
    assert intervals((seen(6.0), seen(5.0))) == (), "nor do samples in the wrong order"


def test_recent_intervals_ended_within_the_time() -> None:
    spans = intervals([seen(5.0 * index) for index in range(13)])
    assert [span.ended_at for span in recent(spans, 15.0)] == [50.0, 55.0, 60.0]
    assert recent((), 15.0) == ()


@given(st.lists(st.floats(0.1, 400), min_size=1, max_size=300))
def test_what_is_kept_is_young_in_order_and_bounded(pauses: list[float]) -> None:
    kept: tuple[Observation, ...] = ()
    now = 0.0
    for pause in pauses:
        now += pause
        kept = observe(kept, seen(now))
        times = [one.sample.taken_at for one in kept]
        assert times[-1] == now
        assert times == sorted(times)
        assert times[0] >= now - KEEP_SECONDS
        assert len(kept) <= MOST_OBSERVATIONS + 1


@pytest.mark.parametrize("every", [0.5, 1.0, 2.0])
def test_thinning_keeps_the_newest_and_of_the_others_one_for_each_calm_probe(every: float) -> None:
    """A longer gap would be taken for a silence, and leave its arrivals out of the rate."""
    kept: tuple[Observation, ...] = ()
    for index in range(round(1200 / every)):
        kept = observe(kept, seen(every * index))
        times = [one.sample.taken_at for one in kept]
        assert all(after - before <= PROBE_SECONDS for before, after in pairwise(times))
        newest = times[-DENSE_OBSERVATIONS:]
        assert all(after - before == every for before, after in pairwise(newest))
    assert covered_seconds(kept) >= KEEP_SECONDS - PROBE_SECONDS


@given(st.lists(st.integers(0, 40), min_size=3, max_size=40), st.data())
def test_thinning_loses_no_arrivals(steps: list[int], data: st.DataObject) -> None:
    """Counts only grow, so that any subset with the same ends tells the same sum."""
    arrived, observations = 0, []
    for index, step in enumerate(steps):
        arrived += step
        observations.append(seen(5.0 * index, arrived=arrived))
    inner = data.draw(st.sets(st.sampled_from(range(1, len(observations) - 1))))
    thinned = [one for index, one in enumerate(observations) if index not in inner]
    sums = [sum(span.arrived or 0 for span in intervals(row)) for row in (observations, thinned)]
    assert sums[0] == sums[1]


def row(seconds: float, every: float = 5.0, **numbers: Any) -> list[Observation]:
    """The same sample again and again."""
    return [seen(every * index, **numbers) for index in range(round(seconds / every) + 1)]


@pytest.mark.parametrize(
    ("window", "expected"),
    [
        (row(60, backlog=50), True),
        (row(40, backlog=50), False),
        (row(60, backlog=6), False),  # six idle slots are about to take six items
        (row(60, backlog=50, in_flight=9), False),
        (row(60, backlog=50, in_flight=None), False),
        ([*row(60, backlog=50)[:-1], seen(60.0, backlog=50, in_flight=10)], False),
        ([replace(row(60, backlog=50)[0], is_settled=False), *row(60, backlog=50)[1:]], False),
        ([], False),
    ],
)
def test_slots_are_idle_beside_a_backlog_only_if_they_were_for_a_whole_minute(
    window: list[Observation], expected: bool
) -> None:
    assert has_idle_slots(window) is expected


@pytest.mark.parametrize(
    ("window", "expected"),
    [
        (row(300, backlog=5, lag_seconds=15.0), True),
        (row(250, backlog=5), False),
        (row(300, backlog=6), False),
        (row(300, backlog=5, lag_seconds=15.1), False),
        ([*row(300)[:-6], *(seen(275.0 + 5 * index, backlog=50) for index in range(6))], True),
        ([*row(300)[:-7], *(seen(270.0 + 5 * index, backlog=50) for index in range(7))], False),
        ([], False),
    ],
)
def test_calm_is_a_window_in_which_hardly_anything_waited(window: list[Observation], expected: bool) -> None:
    assert is_calm(window, 300.0, 30.0) is expected


def test_the_most_jobs_of_a_minute_are_those_of_one_sample() -> None:
    """A sample in which nothing happens to be in flight must not take the workers of a busy queue away."""
    window = [
        seen(0.0, in_flight=9, backlog=99),
        seen(5.0, in_flight=50, backlog=3),
        seen(60.0, in_flight=4),
        seen(65.0),
    ]
    assert most_jobs(window) == 13, "ten slots and three items that wait"
    assert most_jobs([*window, seen(70.0, in_flight=None)]) == 4
    assert most_jobs([]) == 0


def test_the_growth_of_the_backlog_is_that_of_half_a_minute() -> None:
    window = [seen(5.0 * index, backlog=100 + max(0, index - 6) * 10) for index in range(13)]
    assert backlog_growth(window) == pytest.approx(2.0)
    assert backlog_growth(window[:1]) == 0.0
    assert (covered_seconds(window), covered_seconds([])) == (60.0, 0.0)


@given(st.lists(st.tuples(st.floats(0.5, 300), st.integers(0, 40)), min_size=2, max_size=400))
def test_the_history_is_short_and_loses_no_arrivals_but_those_of_yesterday(steps: list[tuple[float, int]]) -> None:
    history: tuple[Interval, ...] = ()
    now, arrived, window, all_of_it = 0.0, 0, [seen(0.0)], []
    for pause, count in steps:
        now, arrived = now + pause, arrived + count
        window = [window[-1], seen(now, arrived=arrived)]
        history = remember(history, window)
        all_of_it += intervals(window)
        assert len(history) <= MOST_HISTORY
    assert sum(span.samples for span in history) <= len(steps)
    first = history[0].ended_at - history[0].seconds
    assert sum(span.arrived or 0 for span in history) == sum(
        span.arrived or 0 for span in all_of_it if span.ended_at - span.seconds >= first - 1e-6
    )
    assert now - history[0].ended_at <= HISTORY_SECONDS


def test_the_history_is_fine_where_it_is_new() -> None:
    history: tuple[Interval, ...] = ()
    for index in range(1, 4 * 720):
        history = remember(history, [seen(5.0 * (index - 1)), seen(5.0 * index)])
    lengths = [span.seconds for span in history]
    assert max(lengths[-40:-1]) == HISTORY_SPAN_SECONDS
    assert sum(lengths) == pytest.approx(5.0 * (4 * 720 - 1))
    assert max(lengths) <= 3600.0


def test_a_count_that_began_again_makes_a_hole_in_the_history() -> None:
    nothing = [seen(0.0, arrived=9, ended=9), seen(5.0, arrived=0, ended=0)]
    assert remember((), nothing) == ()
    assert remember((), nothing[:1]) == ()
