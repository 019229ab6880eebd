"""The capacity formula: what must hold for any numbers, and a few sums done by hand."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headroom.policy.workerpool.wanted import Demand, VerifiedCount, decide_wanted, slots_for, time_left
from headroom.reasons import Reason
from tests.unit.policy.workerpool.strategies import demands

QUIET = Demand(
    lag_seconds=0.0,
    backlog=0,
    late=0,
    in_flight=0,
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
def test_the_wanted_workers_cover_arrivals(demand: Demand) -> None:
    wanted = decide_wanted(demand)
    assert demand.service_rate is not None
    assert wanted.workers * demand.concurrency * demand.service_rate >= wanted.forecast * (1 - 1e-6)
    assert wanted.forecast >= (demand.arrivals or 0.0)


@given(demands(), st.integers(1, 200))
def test_a_verified_count_of_full_gain_changes_nothing(demand: Demand, count: int) -> None:
    assert decide_wanted(replace(demand, verified=VerifiedCount(count))).workers == decide_wanted(demand).workers


def test_steady_load_gets_room_for_variance() -> None:
    assert slots_for(7.5) == pytest.approx(7.5 + 7.5**0.5)
    assert decide_wanted(QUIET).workers == 11  # 7.5 + sqrt(7.5) = 10.24
    assert decide_wanted(QUIET).reason is Reason.ARRIVALS_COVERED


def test_a_backlog_beyond_the_target_is_spread_over_the_deadline() -> None:
    late = replace(QUIET, lag_seconds=100.0, backlog=30 * 30 + 3000, late_for_seconds=50.0)
    wanted = decide_wanted(late)
    assert wanted.excess == 3000
    assert time_left(late) == 250.0
    assert wanted.throughput == pytest.approx(30 + 3000 / 250)
    assert wanted.workers == 11  # 42 / 4 = 10.5; the steady part asks for 11 as well
    assert decide_wanted(replace(late, late_for_seconds=10_000.0)).workers == 18  # (30 + 3000 / 75) / 4


def test_missing_capacity_is_made_good_for_the_lead_time() -> None:
    short = replace(QUIET, capacity_workers=0, lead_time_seconds=30.0)
    assert decide_wanted(short).throughput == pytest.approx(30 + 30 * 30 / 300)


def test_half_the_gain_asks_for_twice_the_step() -> None:
    verified = VerifiedCount(workers=10, throughput=40.0, gain=0.5)
    demand = replace(QUIET, arrivals=48.0, verified=verified, capacity_workers=1000)
    assert decide_wanted(demand).workers == 16  # variance room: 12 + sqrt(12) = 15.5; the verified count asks for 14
    assert decide_wanted(replace(demand, concurrency=4, service_rate=1.0)).workers == 14  # (48 + 6.9) / 4 = 13.8


def test_items_about_to_be_due_count_as_arrivals() -> None:
    assert decide_wanted(replace(QUIET, due_soon=800)).forecast == 80.0


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
    due = decide_wanted(replace(QUIET, arrivals=None, due_soon=800)).message
    assert due == f"{unseen}, 80/s expected in 10 s; one worker does 4/s"


def test_one_late_job_is_one_job() -> None:
    late = decide_wanted(replace(QUIET, lag_seconds=31.0, backlog=1, late=1))
    assert late.message.endswith("; 1 job beyond what the target lag allows must be done within 300 s")
    many = decide_wanted(replace(QUIET, lag_seconds=31.0, backlog=3900, late=0))
    assert "; 3,000 jobs beyond" in many.message


UNKNOWN = replace(QUIET, service_rate=None, lag_seconds=40.0, backlog=100, late=10, present=1)


def test_with_nothing_known_the_pool_doubles_up_to_four() -> None:
    assert decide_wanted(UNKNOWN).workers == 2
    assert decide_wanted(replace(UNKNOWN, present=0)).workers == 1
    assert decide_wanted(replace(UNKNOWN, present=3)).workers == 4
    assert decide_wanted(replace(UNKNOWN, present=9)).workers == 9
    assert decide_wanted(UNKNOWN).reason is Reason.LEARNING_RATE


@pytest.mark.parametrize(
    ("lead", "since", "wanted"), [(10.0, 29.0, 1), (10.0, 31.0, 2), (60.0, 59.0, 1), (60.0, 61.0, 2)]
)
def test_it_doubles_once_per_lead_time(lead: float, since: float, wanted: int) -> None:
    demand = replace(UNKNOWN, lead_time_seconds=lead, since_start_seconds=since)
    assert decide_wanted(demand).workers == wanted


def test_an_idle_queue_of_unknown_rate_wants_nobody_and_a_busy_one_keeps_its_workers() -> None:
    idle = replace(UNKNOWN, lag_seconds=0.0, backlog=0, late=0, arrivals=0.0, present=3)
    assert decide_wanted(idle).workers == 0
    assert decide_wanted(replace(idle, in_flight=1)).workers == 3
    assert decide_wanted(replace(idle, backlog=2, lag_seconds=1.0, present=0)).workers == 1


def test_without_arrivals_the_answer_is_a_lower_bound() -> None:
    assert decide_wanted(replace(QUIET, arrivals=None)).is_lower_bound
    assert not decide_wanted(QUIET).is_lower_bound
