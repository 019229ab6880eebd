"""From samples to rates: exact on plain input, honest on gaps, bulk inserts, restarts and missing counts."""

import random
from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headroom.model.queue import QueueSample
from headroom.policy.workerpool.rates import Estimates, estimate
from headroom.policy.workerpool.window import (
    MOST_HISTORY,
    MOST_OBSERVATIONS,
    Interval,
    Observation,
    intervals,
    observe,
    remember,
)


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
    """The rates of a pool whose every sample is there; the history is what a memory would have of them."""
    return estimate(intervals(observations), history_of(observations), **limits)


def history_of(observations: list[Observation]) -> tuple[Interval, ...]:
    history: tuple[Interval, ...] = ()
    for end in range(2, len(observations) + 1):
        history = remember(history, observations[:end])
    return history


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
    assert rates_of(window(), expected_job_seconds=10.0).service_rate == pytest.approx(2.0)
    assert rates_of(window(), last_good_rate=0.001).service_rate == pytest.approx(2.0)


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

    assert told_after(5.0, before=10.0, after=30.0) == pytest.approx(10 + 20 * 5 / 60, abs=1.0)
    assert told_after(10.0, before=10.0, after=30.0) == pytest.approx(30.0)
    assert told_after(10.0, before=30.0, after=10.0) == pytest.approx(30 - 20 * 10 / 60, abs=2.0)
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


def test_failures_are_counted_over_the_newest_attempts_that_are_enough() -> None:
    """Failures that ended a quarter of a minute ago stop no growth; 20 rare attempts are looked for in two minutes."""

    def counted(rate: float, failing_until: float) -> tuple[int, int]:
        failed, before, observations = 0, 0, []
        for one in window(length=40, rate=rate):
            ended = one.sample.ended or 0
            failed, before = failed + (ended - before if one.sample.taken_at <= failing_until else 0), ended
            observations.append(Observation(replace(one.sample, failed=failed), one.slots))
        found = rates_of(observations)
        return found.ended, found.failed

    assert counted(10.0, 195.0) == (150, 150)
    assert counted(10.0, 180.0) == (150, 0)
    assert counted(0.2, 195.0) == (20, 20)
    assert counted(0.1, 195.0) == (12, 12)


def test_a_stall_is_forgotten_as_soon_as_jobs_end_again() -> None:
    """Ten minutes without an end and then 1/s of each slot: no rate of the stall, and none of both."""

    def ended(at: float) -> float:
        return 10.0 if at > 600 else 0.02

    stall = window(length=127, rate=ended, busy=10, backlog=500)
    assert rates_of(stall, last_good_rate=1.0).service_rate == pytest.approx(1.0)
    assert rates_of(stall, last_good_rate=0.002).service_rate == pytest.approx(1.0)


def test_jobs_in_hand_bound_the_rate_from_above_at_once() -> None:
    """A second was expected; ten slots have been busy for two minutes without an end, and may end now."""
    hanging = window(length=25, rate=0.0, busy=10, backlog=50)
    assert rates_of(hanging, last_good_rate=1.0).service_rate == pytest.approx(15 / (1200 + 5))
    idle = window(length=25, rate=0.0, busy=5)
    assert rates_of(idle, last_good_rate=1.0).service_rate == 1.0, "an idle slot says that nothing is missing"


def test_jobs_that_are_no_older_than_expected_say_nothing_against_it() -> None:
    """Thirty jobs of half a minute began together and run for 25 s: none of them can have ended."""
    young = window(length=6, rate=0.0, busy=30, backlog=50)
    assert rates_of(young, last_good_rate=1 / 30).service_rate == 1 / 30


def test_the_end_of_a_batch_does_not_tell_how_long_its_jobs_took() -> None:
    """Twenty jobs of 5 min end at 300 s; ten minutes later the window has their ends, and the last of their work."""
    kept: tuple[Observation, ...] = ()
    history: tuple[Interval, ...] = ()
    for at in range(0, 900, 5):
        ended = 20 if at >= 300 else 0
        sample = QueueSample(float(at), 0.0, 0, in_flight=20 - ended, arrived=20, ended=ended, failed=0)
        kept = observe(kept, Observation(sample, 20))
        history = remember(history, kept)
        found = estimate(intervals(kept), history, last_good_rate=1 / 300).service_rate
        assert found == pytest.approx(1 / 300, rel=0.05)


@pytest.mark.parametrize("prior", [None, 1.0, 1 / 600])
def test_long_jobs_are_measured_over_as_long_as_they_take(prior: float | None) -> None:
    """Jobs of 10 min, 6 an hour: 20 have ended after 3.3 h, and the window of ten minutes has none or one."""
    rare = window(length=2700, rate=1 / 600, busy=1)
    kept: tuple[Observation, ...] = ()
    history: tuple[Interval, ...] = ()
    for one in rare:
        kept = observe(kept, one)
        history = remember(history, kept)
    assert len(history) <= MOST_HISTORY
    found = estimate(intervals(kept), history, last_good_rate=prior)
    assert found.service_rate == pytest.approx(1 / 600, rel=0.05)
    assert found.arrivals_per_second == pytest.approx(1 / 600, rel=0.05)


def test_jobs_that_began_together_are_not_taken_for_short_ones() -> None:
    """A hundred jobs of 3 min end within five seconds: that is no job per second and slot."""

    def ended(at: float) -> float:
        return 20.0 if at % 180 == 175 else 0.0

    together = window(length=181, rate=ended, busy=10, backlog=500)
    crowd = [Observation(replace(one.sample, in_flight=100), 100) for one in together]
    for prior in (None, 1 / 180):
        assert rates_of(crowd, last_good_rate=prior).service_rate == pytest.approx(1 / 180, rel=0.3)  # type: ignore[arg-type]


def test_without_a_count_of_ends_the_arrivals_and_what_is_left_of_them_tell_it() -> None:
    deleted = window(rate=6.0, busy=3, ended=None, failed=None)
    found = rates_of(deleted)
    assert found.service_rate == pytest.approx(2.0)
    assert found.completions_per_second == pytest.approx(6.0)


def test_a_steady_rate_is_counted_over_five_minutes() -> None:
    chance = random.Random(3)
    seen = [
        rates_of(window(length=80, rate=lambda _: max(0.0, chance.gauss(8, (8 / 5) ** 0.5)))).arrivals_per_second or 0
        for _ in range(60)
    ]
    assert max(seen) < 8.7, "the last minute alone would say 9 now and then"
    assert sum(seen) / len(seen) == pytest.approx(8.0, rel=0.01)


def test_a_slow_move_is_seen_before_five_minutes_are_over() -> None:
    sine = window(length=100, rate=lambda at: 20.0 if at < 430 else 24.0)
    assert rates_of(sine).arrivals_per_second == pytest.approx(24.0, rel=0.03)
    assert rates_of(sine).arrivals_long_run == pytest.approx(21.0, rel=0.05)


def test_clumps_of_arrivals_are_variance_and_growth_is_not() -> None:
    chance = random.Random(5)
    clumps = window(length=60, rate=lambda _: chance.choice([0.0, 0.0, 0.0, 40.0]))
    assert rates_of(clumps).arrivals_cv_squared > 50
    assert rates_of(window(length=60, rate=lambda at: 10 + 0.2 * at)).arrivals_cv_squared == 1.0
    assert rates_of(window(length=10, rate=lambda _: chance.choice([0.0, 40.0]))).arrivals_cv_squared == 1.0


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
