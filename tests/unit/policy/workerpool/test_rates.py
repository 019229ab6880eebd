"""From samples to rates: exact on plain input, honest on gaps, bulk inserts, restarts and missing counts."""

import random
from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headroom.model.queue import QueueSample
from headroom.policy.workerpool.rates import Estimates, estimate
from headroom.policy.workerpool.window import MOST_OBSERVATIONS, Observation, intervals, observe


def window(
    *,
    length: int = 13,
    every: float = 5.0,
    rate: float | Callable[[float], float] = 10.0,
    busy: int = 5,
    backlog: int = 0,
    **change: object,
) -> list[Observation]:
    """Samples of a queue with steady or changing arrivals, `busy` of 10 slots busy, done as fast as they come."""
    observations, arrived = [], 0.0
    for index in range(length):
        at = index * every
        arrived += (rate(at) if callable(rate) else rate) * every
        sample = QueueSample(
            taken_at=at,
            lag_seconds=0.0,
            backlog=backlog,
            in_flight=busy,
            arrived=round(arrived),
            ended=round(arrived),
            failed=0,
        )
        observations.append(Observation(replace(sample, **change), 10))  # type: ignore[arg-type]
    return observations


def rates_of(observations: list[Observation], **limits: float) -> Estimates:
    return estimate(intervals(observations), **limits)


def test_plain_input_gives_plain_rates() -> None:
    found = rates_of(window())
    assert found.arrivals_per_second == pytest.approx(10.0)
    assert found.completions_per_second == pytest.approx(10.0)
    assert found.service_rate == pytest.approx(2.0)
    assert found.measured_rate == found.service_rate
    assert found.arrivals_growth == 0.0


def test_one_sample_tells_no_rate() -> None:
    assert rates_of(window(length=1)) == Estimates()
    assert rates_of(window(length=1), last_good_rate=3.0).service_rate == 3.0


def test_what_the_spec_expects_yields_to_what_was_measured() -> None:
    assert rates_of(window(length=1), expected_job_seconds=0.25).service_rate == 4.0
    assert rates_of(window(length=1), expected_job_seconds=0.25, last_good_rate=2.0).service_rate == 2.0
    assert rates_of(window(), expected_job_seconds=10.0).service_rate == pytest.approx((600 + 5) / (300 + 50))


def test_a_quiet_pool_keeps_its_last_good_rate() -> None:
    quiet = window(rate=0.1, busy=0)
    assert rates_of(quiet, last_good_rate=2.0).service_rate == 2.0
    assert rates_of(quiet, last_good_rate=2.0).measured_rate is None


def test_busy_slots_are_at_most_the_slots_there_are() -> None:
    assert rates_of(window(busy=1000)).service_rate == pytest.approx(1.0)


def test_a_full_pool_is_known_after_twenty_jobs() -> None:
    full = window(length=3, rate=3.0, busy=10, backlog=100)
    assert rates_of(full).service_rate == pytest.approx(0.3)
    assert rates_of(window(length=2, rate=3.0, busy=10, backlog=100)).service_rate is None


def test_without_a_count_in_flight_a_backlog_means_that_all_slots_are_busy() -> None:
    assert rates_of(window(in_flight=None, backlog=50)).service_rate == pytest.approx(1.0)
    assert rates_of(window(in_flight=None)).service_rate is None


def test_arrivals_follow_from_the_backlog_and_what_left_it() -> None:
    observations = [
        Observation(replace(one.sample, arrived=None, backlog=10 * index), one.slots)
        for index, one in enumerate(window(rate=6.0))
    ]
    assert rates_of(observations).arrivals_per_second == pytest.approx(6.0 + 2.0)
    blind = [Observation(replace(one.sample, ended=None), one.slots) for one in observations]
    assert rates_of(blind).arrivals_per_second is None
    assert rates_of(blind, last_good_rate=1.0).arrivals_per_second == pytest.approx(5.0 + 2.0)


def test_what_came_during_a_gap_is_no_rate() -> None:
    steady = window(length=20)
    late = [
        Observation(replace(one.sample, taken_at=one.sample.taken_at + 40, arrived=one.sample.arrived + 300), one.slots)
        for one in steady[15:]
    ]
    assert rates_of([*steady[:15], *late]).arrivals_per_second == pytest.approx(10.0)


def test_a_bulk_insert_is_no_rate_and_a_lasting_step_is() -> None:
    def bulk(at: float) -> float:
        return 10.0 + (1000.0 if at == 55 else 0.0)

    def step(at: float) -> float:
        return 10.0 + (200.0 if at >= 50 else 0.0)

    assert rates_of(window(rate=bulk)).arrivals_per_second == pytest.approx(10.0)
    assert rates_of(window(rate=step)).arrivals_per_second == pytest.approx(210.0)


@pytest.mark.parametrize("every", [1.0, 5.0])
def test_a_new_rate_counts_after_two_spans_and_a_lower_one_after_the_window(every: float) -> None:
    def told_after(seconds: float, *, before: float, after: float) -> float | None:
        length = round((100 + seconds) / every) + 1
        return rates_of(
            window(length=length, every=every, rate=lambda at: after if at > 100 else before)
        ).arrivals_per_second

    assert told_after(5.0, before=10.0, after=30.0) == pytest.approx(10 + 20 * 5 / 60, abs=0.5)
    assert told_after(10.0, before=10.0, after=30.0) == pytest.approx(30.0)
    assert told_after(10.0, before=30.0, after=10.0) == pytest.approx(30 - 20 * 10 / 60, abs=0.5)
    assert told_after(60.0, before=30.0, after=10.0) == pytest.approx(10.0, abs=0.5)


def test_batches_are_no_change_of_the_rate() -> None:
    batches = window(length=25, rate=lambda at: 100.0 if at % 20 == 0 else 0.0)
    assert rates_of(batches).arrivals_per_second == pytest.approx(25.0)


def test_chance_alone_is_seldom_a_change_of_the_rate() -> None:
    chance = random.Random(11)
    for mean in (1.0, 10.0, 100.0):
        seen = [
            rates_of(window(rate=lambda _, mean=mean: max(0.0, chance.gauss(mean, (mean / 5) ** 0.5))))
            for _ in range(200)
        ]
        high = [found for found in seen if (found.arrivals_per_second or 0) > mean + 4 * (mean / 60) ** 0.5]
        assert len(high) <= 2


def test_a_steady_trend_is_seen_and_noise_is_not() -> None:
    assert rates_of(window(length=24, rate=lambda at: 10 + 0.2 * at)).arrivals_growth == pytest.approx(0.2, rel=0.05)
    noisy = window(length=24, rate=lambda at: 10 + 4 * (-1) ** round(at / 5))
    assert rates_of(noisy).arrivals_growth == 0.0
    assert rates_of(window(length=24, rate=lambda at: 40 - 0.2 * at)).arrivals_growth == 0.0


def test_chance_alone_seldom_looks_like_growth() -> None:
    chance = random.Random(7)
    seen = [rates_of(window(length=24, rate=lambda _: chance.gauss(10, 1.4))).arrivals_growth for _ in range(300)]
    assert sum(growth > 0 for growth in seen) <= 5


def test_a_count_that_begins_anew_tells_nothing_of_that_interval() -> None:
    observations = window()
    reset = [
        Observation(replace(one.sample, arrived=one.sample.arrived - 300, ended=one.sample.ended - 300), one.slots)
        for one in observations[6:]
    ]
    found = rates_of([*observations[:6], *reset])
    assert found.arrivals_per_second == pytest.approx(10.0)
    assert found.service_rate == pytest.approx(2.0)


def test_a_long_row_of_samples_is_thinned_and_tells_the_same() -> None:
    kept: tuple[Observation, ...] = ()
    for one in window(length=900, every=1.0, rate=3.0, busy=6, backlog=5):
        kept = observe(kept, one)
        assert len(kept) <= MOST_OBSERVATIONS + 1
    found = rates_of(list(kept))
    assert found.arrivals_per_second == pytest.approx(3.0)
    assert found.service_rate == pytest.approx(0.5)
    assert kept[-1].sample.taken_at - kept[0].sample.taken_at > 400


def test_failures_are_counted_over_two_minutes() -> None:
    observations = [
        Observation(replace(one.sample, failed=(one.sample.ended or 0) // 2), one.slots) for one in window(length=40)
    ]
    found = rates_of(observations)
    assert (found.ended, found.failed) == (1200, 600)


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(0, 50), st.integers(0, 200)), min_size=2, max_size=40))
def test_no_input_makes_a_negative_or_endless_rate(steps: list[tuple[int, int, int]]) -> None:
    arrived = ended = 0
    observations = []
    for index, (more, done, backlog) in enumerate(steps):
        arrived, ended = arrived + more, ended + done
        sample = QueueSample(5.0 * index, 0.0, backlog, in_flight=done, arrived=arrived, ended=ended, failed=0)
        observations.append(Observation(sample, 10))
    found = rates_of(observations, last_good_rate=1.0)
    assert found.arrivals_per_second is None or 0 <= found.arrivals_per_second <= 10
    assert found.service_rate is not None
    assert 0 < found.service_rate < 1000
    assert found.arrivals_growth >= 0
