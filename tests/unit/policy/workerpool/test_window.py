"""Samples in a row: what is kept of them, and what happened between two."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headroom.model.queue import QueueSample
from headroom.policy.workerpool.window import (
    KEEP_SECONDS,
    MOST_OBSERVATIONS,
    Interval,
    Observation,
    intervals,
    observe,
    recent,
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


def test_thinning_takes_every_second_of_the_older_half() -> None:
    kept: tuple[Observation, ...] = ()
    for index in range(MOST_OBSERVATIONS + 1):
        kept = observe(kept, seen(float(index)))
    times = [one.sample.taken_at for one in kept]
    half = MOST_OBSERVATIONS // 2
    assert times[: half // 2] == [float(2 * index) for index in range(half // 2)]
    assert times[half // 2 :] == [float(half + index) for index in range(half + 1)]


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
