"""The capacity formula: what must hold for any numbers, and a few sums done by hand."""

import math
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from headroom.policy.workerpool.demand import Demand, VerifiedCount
from headroom.policy.workerpool.wanted import decide_wanted, most_useful, time_left
from headroom.reasons import Reason
from tests.unit.policy.workerpool.strategies import demands

QUIET = Demand(
    lag_seconds=0.0,
    backlog=0,
    late=0,
    in_flight=None,
    due_soon=0,
    arrivals=30.0,
    arrivals_age_seconds=30.0,
    arrivals_growth=0.0,
    service_rate=4.0,
    late_for_seconds=0.0,
    capacity_workers=100,
    lead_time_seconds=10.0,
    target_lag_seconds=30.0,
    drain_within_seconds=300.0,
    concurrency=1,
    present=5,
)


@given(demands(), st.floats(0, 5000), st.integers(0, 10_000), st.floats(0, 5000))
def test_more_lag_never_wants_fewer(demand: Demand, lag: float, late: int, late_for: float) -> None:
    worse = replace(
        demand,
        lag_seconds=demand.lag_seconds + lag,
        backlog=demand.backlog + late,
        late=demand.late + late,
        late_for_seconds=demand.late_for_seconds + late_for,
    )
    assert decide_wanted(worse).workers >= decide_wanted(demand).workers


@given(demands(), st.floats(0, 500), st.integers(0, 500), st.floats(0, 5))
def test_more_load_never_wants_fewer(demand: Demand, arrivals: float, due: int, growth: float) -> None:
    more = replace(
        demand,
        backlog=demand.backlog + int(arrivals * demand.target_lag_seconds * 8),
        late=demand.late,
        arrivals=(demand.arrivals or 0.0) + arrivals,
        due_soon=demand.due_soon + due,
        arrivals_growth=demand.arrivals_growth + growth,
    )
    assert decide_wanted(more).forecast >= decide_wanted(demand).forecast
    if demand.lag_seconds <= demand.target_lag_seconds and demand.backlog == 0:
        assert decide_wanted(more).workers >= decide_wanted(demand).workers


@given(demands(), st.integers(0, 10_000), st.floats(0, 1000))
def test_wanted_does_not_depend_on_the_present_count(demand: Demand, present: int, since: float) -> None:
    other = replace(demand, present=present, since_start_seconds=since)
    assert decide_wanted(other) == decide_wanted(demand)


@given(demands(), st.integers(0, 200))
def test_capacity_that_is_there_only_lowers_what_its_lack_asked_for(demand: Demand, more: int) -> None:
    helped = replace(demand, capacity_workers=demand.capacity_workers + more)
    plenty = replace(demand, capacity_workers=10**9)
    assert decide_wanted(plenty).workers <= decide_wanted(helped).workers <= decide_wanted(demand).workers


@given(demands())
def test_the_wanted_workers_cover_steady_arrivals(demand: Demand) -> None:
    steady = replace(demand, in_flight=None, arrivals_long=None)
    wanted = decide_wanted(steady)
    assert demand.service_rate is not None
    assert wanted.forecast >= (demand.arrivals or 0.0)
    assert wanted.workers * demand.concurrency * demand.service_rate >= wanted.forecast * (1 - 1e-6)


@given(demands(), st.floats(1, 10))
def test_a_longer_target_never_wants_more(demand: Demand, factor: float) -> None:
    """The lag stays within the target in both; what waits and is due counts the same."""
    calm = replace(demand, lag_seconds=0.0, late=0, late_for_seconds=0.0)
    patient = replace(calm, target_lag_seconds=calm.target_lag_seconds * factor)
    assert decide_wanted(patient).workers <= decide_wanted(calm).workers


@settings(max_examples=300)
@example(
    Demand(
        lag_seconds=0.0, backlog=1, late=0, in_flight=None, due_soon=0, arrivals=0.0, service_rate=1.0,
        arrivals_age_seconds=0.0, arrivals_growth=0.0, present=0, late_for_seconds=0.0, capacity_workers=0,
        lead_time_seconds=1.0, target_lag_seconds=2.0, drain_within_seconds=5.0, concurrency=1, batch=1,
        has_idle_slots=True,
    ),
    4.0, 0.0, 0.0,
)  # fmt: skip
@example(
    Demand(
        lag_seconds=0.0, backlog=0, late=0, in_flight=None, due_soon=2, arrivals=0.0, service_rate=1.0,
        arrivals_age_seconds=0.0, arrivals_growth=0.0, present=0, late_for_seconds=0.0, capacity_workers=0,
        lead_time_seconds=28.0, target_lag_seconds=25.0, drain_within_seconds=5.0, concurrency=1, batch=0,
    ),
    1.375, 0.0, 0.0,
)  # fmt: skip
@given(demands(), st.floats(1, 10), st.floats(0, 1), st.floats(0, 1))
def test_a_longer_target_never_wants_more_of_a_late_queue_either(
    demand: Demand, factor: float, late_share: float, time_share: float
) -> None:
    """The same queue: no more of its items are older than a longer target, and it is late for no longer time."""
    patient = replace(
        demand,
        target_lag_seconds=demand.target_lag_seconds * factor,
        late=int(demand.late * late_share),
        late_for_seconds=demand.late_for_seconds * time_share,
    )
    if patient.lag_seconds <= patient.target_lag_seconds:
        patient = replace(patient, late=0, late_for_seconds=0.0)
    assert decide_wanted(patient).workers <= decide_wanted(demand).workers


@given(demands(), st.integers(0, 500))
def test_no_more_than_one_worker_for_each_job(demand: Demand, in_flight: int) -> None:
    known = replace(demand, in_flight=in_flight)
    arriving = 3 + 4 * decide_wanted(known).forecast * demand.lead_time_seconds
    jobs = in_flight + demand.backlog + demand.due_soon + arriving
    assert decide_wanted(known).workers <= jobs / demand.concurrency + 1


@given(demands(), st.integers(1, 200))
def test_a_verified_count_of_full_gain_changes_nothing(demand: Demand, count: int) -> None:
    assert decide_wanted(replace(demand, verified=VerifiedCount(count))).workers == decide_wanted(demand).workers


def test_a_trickle_gets_its_worker_beside_a_large_verified_count() -> None:
    trickle = replace(QUIET, arrivals=1.1e-6, arrivals_long=0.0, service_rate=91.0)
    assert decide_wanted(trickle).workers == 1
    assert decide_wanted(replace(trickle, verified=VerifiedCount(200))).workers == 1


def test_a_steady_load_gets_the_slots_that_keep_waits_within_the_target() -> None:
    assert decide_wanted(QUIET).workers == 8  # 7.5 busy, 7.5 / 0.95 = 7.9; nobody waits for 30 s
    assert decide_wanted(replace(QUIET, target_lag_seconds=0.5)).workers == 10
    assert decide_wanted(replace(QUIET, target_lag_seconds=0.5, arrivals_cv_squared=9.0)).workers == 13
    assert decide_wanted(replace(QUIET, concurrency=4)).workers == 2
    assert decide_wanted(QUIET).reason is Reason.ARRIVALS_COVERED


def test_what_is_late_is_spread_over_the_deadline() -> None:
    late = replace(QUIET, lag_seconds=100.0, backlog=30 * 30 + 3000, late_for_seconds=50.0)
    wanted = decide_wanted(late)
    assert wanted.excess == 3000
    assert time_left(late) == 250.0
    assert wanted.throughput == pytest.approx(30 + 3000 / 250)
    assert wanted.workers == 11  # 42 / 4 = 10.5
    assert decide_wanted(replace(late, late_for_seconds=10_000.0)).workers == 18  # (30 + 3000 / 75) / 4


def test_a_batch_is_done_within_the_target_by_workers_that_run() -> None:
    """900 jobs at one moment, target 30 s: 900 / 30 a second, not 900 / 300; with starts of 3 min within a minute."""
    batch = replace(QUIET, arrivals=0.0, backlog=900, batch=900, service_rate=1.0)
    assert decide_wanted(batch).throughput == pytest.approx(30.0)
    assert decide_wanted(replace(batch, lead_time_seconds=180.0)).throughput == pytest.approx(15.0)
    assert decide_wanted(replace(batch, batch=0)).throughput == pytest.approx(3.0)
    assert decide_wanted(replace(batch, batch=0, lag_seconds=31.0, late=900)).throughput == pytest.approx(3.0)


def test_what_falls_due_at_one_moment_is_a_batch_and_no_rate() -> None:
    due = replace(QUIET, arrivals=2.0, backlog=50, due_soon=420, service_rate=1.0)
    wanted = decide_wanted(due)
    assert wanted.forecast == 2.0
    assert wanted.throughput == pytest.approx(2 + (50 + 420 - 2 * 10 - 2 * 30) / 30)
    assert decide_wanted(replace(due, due_soon=20)).throughput == pytest.approx(2.0), "these are the arrivals"


def test_a_moving_rate_may_use_most_of_the_target() -> None:
    """8/s rose to 40/s: while the lag stays below 0.8 x 3600 s less 15 s to react, only what the backlog asks for."""
    risen = replace(QUIET, arrivals=40.0, arrivals_long=8.0, service_rate=1.0, target_lag_seconds=3600.0)
    least = 40 - 40 * (0.8 * 3600 - 15) / 3600
    assert decide_wanted(replace(risen, ready_workers=40)).throughput == pytest.approx(least)
    waiting = replace(risen, ready_workers=40, backlog=60_000)
    assert decide_wanted(waiting).throughput == pytest.approx(least + 60_000 / 3600)
    assert decide_wanted(replace(risen, target_lag_seconds=5.0)).throughput == pytest.approx(40.0), "no time to wait"
    assert decide_wanted(replace(risen, arrivals_long=40.0)).workers == 43, "a level that lasts gets its workers"


@pytest.mark.parametrize(
    ("parts", "most"),
    [
        ({"in_flight": 8}, 8),  # 8 jobs an hour: the mean of what arrives within 10 s is no job
        ({"in_flight": 8, "backlog": 3, "due_soon": 2}, 13),
        ({"in_flight": 8, "concurrency": 4, "backlog": 3}, 3),
        ({"in_flight": 8, "target_lag_seconds": 10.0, "lead_time_seconds": 90.0}, 10),  # 0.2 expected, 2 in 99 of 100
        ({"in_flight": 8, "arrivals": 0.35}, 11),
        ({"in_flight": None}, math.inf),
    ],
)
def test_rare_long_jobs_get_a_worker_each_and_no_spare_ones(parts: dict[str, Any], most: float) -> None:
    rare = replace(QUIET, arrivals=8 / 3600, service_rate=1 / 3600, target_lag_seconds=300.0)
    demand = replace(rare, **parts)
    assert most_useful(demand, demand.arrivals or 0.0) == most
    assert decide_wanted(demand).workers <= most


def test_idle_slots_beside_a_backlog_are_not_answered_with_more() -> None:
    late = replace(QUIET, lag_seconds=300.0, backlog=5000, late=4000)
    assert decide_wanted(late).workers > 10
    idle = decide_wanted(replace(late, has_idle_slots=True))
    assert idle.workers == 8
    assert "more of them would not either" in idle.message


def test_missing_capacity_is_made_good_for_the_lead_time() -> None:
    short = replace(QUIET, capacity_workers=0, lead_time_seconds=30.0)
    assert decide_wanted(short).throughput == pytest.approx(30 + 30 * 30 / 300)


def test_half_the_gain_asks_for_twice_the_step() -> None:
    verified = VerifiedCount(workers=10, throughput=40.0, gain=0.5)
    demand = replace(QUIET, arrivals=48.0, verified=verified, capacity_workers=1000, ready_workers=1000)
    busy = replace(demand, backlog=48 * 24)
    assert decide_wanted(busy).workers == 14  # 10 + (48 - 40) x 10 / (0.5 x 40)
    assert decide_wanted(replace(busy, verified=None)).workers == 13  # 12 / 0.95


def test_a_trend_reaches_at_most_twice_the_rate() -> None:
    assert decide_wanted(replace(QUIET, arrivals_growth=0.1)).forecast == pytest.approx(34.0)
    assert decide_wanted(replace(QUIET, arrivals_growth=100.0)).forecast == 60.0


def test_a_trend_reaches_from_when_the_rate_was_true_to_the_end_of_the_lead_time() -> None:
    growing = replace(QUIET, arrivals_growth=0.1)
    assert decide_wanted(replace(growing, arrivals_age_seconds=5.0)).forecast == pytest.approx(31.5)
    assert decide_wanted(replace(growing, lead_time_seconds=60.0)).forecast == pytest.approx(39.0)


def test_a_forecast_is_not_called_an_arrival_rate() -> None:
    assert decide_wanted(QUIET).message == "30 jobs/s arrive; one worker does 4/s"
    growing = decide_wanted(replace(QUIET, arrivals=24.0, arrivals_growth=0.25)).message
    assert growing == "24 jobs/s arrive, 34/s expected in 10 s; one worker does 4/s"
    unseen = "it is not known yet how many jobs arrive"
    assert decide_wanted(replace(QUIET, arrivals=None)).message == f"{unseen}; one worker does 4/s"


def test_one_late_job_is_one_job() -> None:
    late = decide_wanted(replace(QUIET, lag_seconds=31.0, backlog=1, late=1))
    assert late.message.endswith("; 1 job beyond what the target lag allows must be done within 300 s")
    many = decide_wanted(replace(QUIET, lag_seconds=31.0, backlog=3900, late=0))
    assert "; 3,000 jobs beyond" in many.message


UNKNOWN = replace(
    QUIET,
    service_rate=None,
    lag_seconds=40.0,
    backlog=100,
    late=10,
    present=1,
    in_flight=1,
    slots=1,
    ready_workers=1,
)


@pytest.mark.parametrize(
    ("parts", "workers"),
    [
        ({}, 2),
        ({"present": 0, "in_flight": 0, "slots": 0, "ready_workers": 0}, 1),
        ({"present": 32, "in_flight": 32, "slots": 32, "ready_workers": 32}, 64),
        ({"present": 8, "in_flight": 2, "slots": 2, "ready_workers": 2}, 8),  # six start: four times what runs
        ({"present": 2, "in_flight": 1, "slots": 1, "ready_workers": 1}, 4),
        ({"in_flight": 0}, 1),  # the worker is idle: two idle ones would not help
        ({"in_flight": None}, 2),
        ({"backlog": 3, "late": 3, "present": 4, "in_flight": 4, "slots": 4, "ready_workers": 4, "arrivals": 0.01}, 7),
        ({"backlog_growth": -0.5}, 1),  # gone within 200 s of 300
        ({"backlog_growth": -0.2}, 2),
    ],
)
def test_with_nothing_known_the_pool_doubles_while_it_is_busy_and_late(parts: dict[str, Any], workers: int) -> None:
    wanted = decide_wanted(replace(UNKNOWN, **parts))
    assert wanted.workers == workers
    assert wanted.reason is Reason.LEARNING_RATE


@pytest.mark.parametrize(("lead", "since", "wanted"), [(10.0, 29.0, 1), (10.0, 31.0, 2), (90.0, 31.0, 2)])
def test_it_doubles_once_per_half_minute(lead: float, since: float, wanted: int) -> None:
    demand = replace(UNKNOWN, lead_time_seconds=lead, since_start_seconds=since)
    assert decide_wanted(demand).workers == wanted


def test_an_idle_queue_of_unknown_rate_wants_nobody_and_a_busy_one_keeps_a_worker_for_each_job() -> None:
    idle = replace(UNKNOWN, lag_seconds=0.0, backlog=0, late=0, arrivals=0.0, present=3, in_flight=0)
    assert decide_wanted(idle).workers == 0
    assert decide_wanted(replace(idle, in_flight=1)).workers == 1
    assert decide_wanted(replace(idle, in_flight=None)).workers == 0
    assert decide_wanted(replace(idle, backlog=2, lag_seconds=1.0, present=0)).workers == 1


@pytest.mark.parametrize("service_rate", [None, 1.0])
def test_two_numbers_alone_take_workers_away_while_nothing_waits_for_long(service_rate: float | None) -> None:
    """Only lag and backlog are known, and the backlog counts what is in work: 31 workers for 2/s must not stay."""
    two = replace(
        QUIET, service_rate=service_rate, arrivals=None, in_flight=None, backlog=2, present=31, is_watched=True
    )
    assert decide_wanted(two).workers == 31
    calm = decide_wanted(replace(two, is_calm=True))
    assert (calm.workers, calm.is_lower_bound) == (25, False)
    assert decide_wanted(replace(two, is_calm=True, present=1)).workers == 1
    assert decide_wanted(replace(two, is_watched=False)).is_lower_bound


def test_without_arrivals_the_answer_is_a_lower_bound_until_the_queue_was_watched() -> None:
    assert decide_wanted(replace(QUIET, arrivals=None)).is_lower_bound
    assert not decide_wanted(replace(QUIET, arrivals=None, is_watched=True)).is_lower_bound
    assert not decide_wanted(QUIET).is_lower_bound


@pytest.mark.parametrize(
    ("job_seconds", "workers"),
    [
        (300.0, 20),  # none after the first one: 285 s are left
        (190.0, 15),  # half of a second one fits
        (95.0, 7),  # three fit, which is counted as work
        (10.0, 1),
    ],
)
def test_a_batch_of_jobs_as_long_as_the_target_is_counted_in_whole_jobs(job_seconds: float, workers: int) -> None:
    due = replace(QUIET, arrivals=0.0, in_flight=0, due_soon=20, service_rate=1 / job_seconds, target_lag_seconds=300.0)
    assert decide_wanted(due).workers == workers
    begun = replace(due, due_soon=0, backlog=16, batch=20, in_flight=4)
    if job_seconds > 100:
        assert decide_wanted(begun).workers == workers, "the busy slots are not free for the rest"
