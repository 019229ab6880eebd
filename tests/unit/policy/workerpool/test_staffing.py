"""Slots for a steady load, compared with Erlang's formulas summed term by term."""

import math
import time

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from headroom.policy.workerpool.constants import LATE_PROBABILITY, MOST_UTILIZATION
from headroom.policy.workerpool.staffing import LARGE_LOAD, most_arrivals, slots_for


def erlang_c(slots: int, load: float) -> float:
    """P(wait) by the sum of the textbook, in logarithms so that nothing overflows."""
    logs = [count * math.log(load) - math.lgamma(count + 1) for count in range(slots)]
    last = slots * math.log(load) - math.lgamma(slots + 1) - math.log(1 - load / slots)
    highest = max(*logs, last)
    return math.exp(last - highest) / (sum(math.exp(value - highest) for value in logs) + math.exp(last - highest))


def late_share(slots: int, load: float, service_rate: float, target: float, cv_squared: float = 1.0) -> float:
    """P(wait > target)."""
    return erlang_c(slots, load) * math.exp(-(slots - load) * service_rate * target * 2 / (cv_squared + 1))


@pytest.mark.parametrize(
    ("arrivals", "service_rate", "target", "slots"),
    [
        (0.0, 1.0, 30.0, 0),
        (0.1, 1.0, 30.0, 1),
        (1e-308, 1.0, 30.0, 1),
        (8.0, 1.0, 30.0, 9),  # 8 / 0.95
        (8.0, 1.0, 3600.0, 9),
        (8.0, 1.0, 0.0, 16),  # nobody waits: Erlang C alone
        (8 / 3600, 1 / 3600, 300.0, 16),  # jobs of an hour do not end in time
        (0.1, 1 / 180, 30.0, 27),
        (19.0, 1.0, 30.0, 20),  # exactly 0.95
        (9500.0, 1.0, 30.0, 10_000),
    ],
)
def test_the_slots_of_known_loads(arrivals: float, service_rate: float, target: float, slots: int) -> None:
    assert slots_for(arrivals, service_rate, target) == slots


@given(st.floats(0.01, 2000), st.floats(0.0001, 100), st.floats(0, 3600), st.floats(1, 100))
@example(load=255.9, service_rate=0.001, target=1.0, cv_squared=1.0)
@example(load=2000.0, service_rate=0.0001, target=0.0, cv_squared=1.0)
def test_they_are_the_fewest_that_are_enough(
    load: float, service_rate: float, target: float, cv_squared: float
) -> None:
    slots = slots_for(load * service_rate, service_rate, target, cv_squared)
    assert load / slots <= MOST_UTILIZATION * (1 + 1e-6)
    assert late_share(slots, load, service_rate, target, cv_squared) <= LATE_PROBABILITY * (1 + 1e-6)
    fewer = slots - 1
    is_too_few = fewer == 0 or load / fewer > MOST_UTILIZATION * (1 - 1e-6)
    assert is_too_few or late_share(fewer, load, service_rate, target, cv_squared) > LATE_PROBABILITY * (1 - 1e-6)


@pytest.mark.parametrize("load", [LARGE_LOAD, 3333.3, 5000.0, 20_000.0])
def test_of_a_large_load_nothing_is_late_whatever_the_target(load: float) -> None:
    slots = slots_for(load * 0.001, 0.001, 0.0, 100.0)
    assert slots == math.ceil(load / MOST_UTILIZATION - 1e-6)
    assert late_share(slots, load, 0.001, 0.0, 100.0) <= LATE_PROBABILITY


@pytest.mark.parametrize(
    ("arrivals", "service_rate", "target"),
    [(4400, 1 / 600, 1.0), (1000, 1 / 3600, 1.0), (1e6, 1e-4, 0.0), (1e12, 1e-6, 0.0), (2.999, 0.001, 0.0)],
)
def test_no_load_takes_long_to_count(arrivals: float, service_rate: float, target: float) -> None:
    def measure() -> float:
        began = time.process_time()
        assert slots_for(arrivals, service_rate, target, 100.0) >= arrivals / service_rate
        return time.process_time() - began

    assert min(measure() for _ in range(5)) < 0.003


@given(st.floats(0.01, 9500), st.floats(0, 10), st.floats(0.001, 10), st.floats(0, 600))
def test_more_load_never_needs_fewer(load: float, more: float, service_rate: float, target: float) -> None:
    few, many = (slots_for(rate * service_rate, service_rate, target) for rate in (load, load + more))
    assert few <= many


@given(st.floats(0, 200))
def test_so_many_arrivals_come_in_one_of_a_hundred_times(mean: float) -> None:
    most = most_arrivals(mean)
    terms = [math.exp(count * math.log(mean) - mean - math.lgamma(count + 1)) if mean else 0.0 for count in range(most)]
    up_to = sum(terms) + (math.exp(most * math.log(mean) - mean - math.lgamma(most + 1)) if mean else 1.0)
    assert up_to >= 0.985
    assert most == 0 or sum(terms) < 0.995
