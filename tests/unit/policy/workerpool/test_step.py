"""How fast a count moves: each rule on the way up and on the way down, by itself."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headroom.model.conditions import Finding
from headroom.policy.workerpool import Move, PoolMemory, Rule, ScalingLimits
from headroom.policy.workerpool.chain import CHAIN, Check, check_connections, decide_allowed
from headroom.policy.workerpool.chain_input import ChainInput, Ruling
from headroom.policy.workerpool.connections import ConnectionCap
from headroom.policy.workerpool.demand import Demand
from headroom.policy.workerpool.memory import Wants
from headroom.policy.workerpool.rates import Estimates
from headroom.policy.workerpool.step import check_step, largest_step
from headroom.policy.workerpool.wanted import Wanted
from headroom.reasons import Reason
from tests.unit.policy.workerpool.make import GAP, NOW

CALM = Demand(
    lag_seconds=0.0,
    backlog=0,
    late=0,
    in_flight=0,
    due_soon=0,
    arrivals=10.0,
    arrivals_age_seconds=30.0,
    arrivals_growth=0.0,
    service_rate=1.0,
    late_for_seconds=0.0,
    capacity_workers=10,
    lead_time_seconds=10.0,
    target_lag_seconds=30.0,
    drain_within_seconds=300.0,
    concurrency=1,
    present=10,
)
WANTED = Wanted(10, Reason.ARRIVALS_COVERED, "10 jobs/s arrive", excess=0.0, forecast=10.0, throughput=10.0)
FEW = replace(WANTED, workers=2)
LIMITS = ScalingLimits(min_workers=1, max_workers=100)
WATCHED = PoolMemory(wants=Wants(since=NOW - 400, latest=NOW))


def wanted_once(workers: int) -> PoolMemory:
    return replace(WATCHED, wants=WATCHED.wants.add(NOW, workers, 300.0))


def moved(seconds: float) -> PoolMemory:
    return replace(WATCHED, moves=(Move(NOW - seconds, 12, 10),))


def chain_input(present: int = 10, workers: int = 10, **parts: Any) -> ChainInput:
    """A pool that was watched for longer than a window and made no move."""
    known: dict[str, Any] = {
        "now": NOW,
        "present": present,
        "limits": LIMITS,
        "memory": WATCHED,
        "estimates": Estimates(),
        "lead_time_seconds": 10.0,
        "demand": CALM,
        "wanted": replace(WANTED, workers=workers),
    }
    return ChainInput(**{**known, **parts})


def step(wanted: int, present: int = 10, **parts: Any) -> Ruling | None:
    return check_step(chain_input(present, wanted, **parts), wanted)


@pytest.mark.parametrize(
    ("count", "limits", "expected"),
    [
        (10, {}, 10),
        (0, {}, 4),
        (10, {"max_step_percent": 25}, 4),
        (40, {"max_step_percent": 25}, 10),
        (10, {"max_step": 6}, 6),
        (10, {"max_step": 2, "max_step_percent": 1}, 2),
        (3, {"max_step_percent": 1000}, 30),
    ],
)
def test_the_largest_step_is_a_share_or_four_workers_and_at_most_what_the_spec_says(
    count: int, limits: dict[str, Any], expected: int
) -> None:
    assert largest_step(count, chain_input(limits=replace(LIMITS, **limits))) == expected


@pytest.mark.parametrize(
    ("lead", "seconds_ago", "allowed"), [(10.0, 8.9, 8), (10.0, 9.1, 16), (90.0, 13.9, 8), (90.0, 14.1, 16)]
)
def test_a_step_up_counts_from_before_the_starts_of_a_lead_time_or_of_15_s(
    lead: float, seconds_ago: float, allowed: int
) -> None:
    """A start of 90 s must not make the second step wait for 90 s; a probe comes a second early."""
    grown = replace(WATCHED, moves=(Move(NOW - seconds_ago, 4, 8),))
    ruling = step(30, present=8, memory=grown, lead_time_seconds=lead)
    assert ruling is not None
    assert (ruling.allowed, ruling.rule) == (allowed, Rule.STEP)
    assert ruling.message == f"at most {4 if allowed == 8 else 8} more within {min(lead, 15):.0f} s"


def test_a_start_that_was_taken_back_does_not_lower_the_count() -> None:
    back = replace(WATCHED, moves=(Move(NOW - 8, 2, 4), Move(NOW - 3, 4, 12)))
    ruling = step(30, present=12, memory=back)
    assert ruling is not None
    assert ruling.allowed == 12


def test_a_step_that_fits_is_not_limited() -> None:
    assert step(20) is None
    assert step(10) is None


def test_without_a_sample_there_is_no_step() -> None:
    assert check_step(chain_input(demand=None, wanted=None, gap=GAP), 15) is None


@pytest.mark.parametrize(("wanted", "is_held"), [(11, False), (104, True), (105, False)])
def test_up_a_twentieth_is_too_small_to_act_on(wanted: int, is_held: bool) -> None:
    present = 10 if wanted == 11 else 100
    limits = replace(LIMITS, max_workers=1000)
    ruling = step(wanted, present=present, limits=limits)
    assert (ruling is not None and ruling.rule is Rule.TOLERANCE) is is_held
    late = step(wanted, present=present, limits=limits, demand=replace(CALM, lag_seconds=31.0))
    assert late is None, "a late queue takes every worker"


@pytest.mark.parametrize(
    ("parts", "allowed", "rule", "words"),
    [
        ({"wanted": replace(FEW, is_lower_bound=True)}, 10, Rule.STABILIZATION, "too little has been seen"),
        ({"wanted": replace(FEW, excess=1.2)}, 10, Rule.LATE_BACKLOG, "2 jobs beyond"),
        ({"memory": PoolMemory(wants=Wants(since=NOW - 299))}, 10, Rule.STABILIZATION, "for less than 300 s"),
        ({"memory": PoolMemory()}, 10, Rule.STABILIZATION, "for less than 300 s"),
        ({"memory": wanted_once(7)}, 8, Rule.STEP, "at most 2 workers"),
        ({"memory": wanted_once(9)}, 9, Rule.STABILIZATION, "wanted 9 within"),
        ({"demand": replace(CALM, in_flight=9)}, 9, Rule.WORK_IN_FLIGHT, "9 jobs in flight"),
        ({"demand": replace(CALM, in_flight=1)}, 8, Rule.STEP, "at most 2 workers"),
        ({"memory": replace(WATCHED, moves=(Move(NOW - 299, 8, 10),))}, 10, Rule.STABILIZATION, "were added 299 s ago"),
        ({"memory": replace(WATCHED, moves=(Move(NOW - 300, 8, 10),))}, 8, Rule.STEP, "at most 2 workers"),
        ({"memory": moved(29)}, 10, Rule.STABILIZATION, "less than 30 s ago"),
        ({"memory": moved(30)}, 8, Rule.STEP, "at most 2 workers"),
        ({"memory": moved(59), "lead_time_seconds": 60.0}, 10, Rule.STABILIZATION, "less than 60 s ago"),
        ({"limits": replace(LIMITS, down_step_percent=1)}, 9, Rule.STEP, "at most 1 worker"),
    ],
)
def test_what_keeps_workers(parts: dict[str, Any], allowed: int, rule: Rule, words: str) -> None:
    ruling = check_step(chain_input(**{"wanted": FEW, **parts}), 2)
    assert ruling is not None
    assert (ruling.allowed, ruling.rule) == (allowed, rule)
    assert words in ruling.message


def test_down_at_once_when_nothing_speaks_for_them() -> None:
    assert step(8) is None
    assert step(2, limits=replace(LIMITS, down_step_percent=100)) is None


def test_a_worker_with_several_slots_is_busy_with_one_job() -> None:
    ruling = step(2, demand=replace(CALM, in_flight=33), limits=replace(LIMITS, concurrency=4, down_step_percent=100))
    assert ruling is not None
    assert (ruling.allowed, ruling.rule) == (9, Rule.WORK_IN_FLIGHT)


@given(st.integers(0, 120), st.integers(1, 50), st.integers(50, 100))
def test_a_count_within_the_bounds_is_the_nearest(count: int, least: int, most: int) -> None:
    found = chain_input(limits=replace(LIMITS, min_workers=least, max_workers=most)).within_bounds(count)
    assert least <= found <= most
    assert found == count or abs(found - count) == min(abs(least - count), abs(most - count))


LAST = CHAIN[CHAIN.index(check_connections) :]
"""The cap; then what keeps a job from being cut, and what a person has stopped."""
VOLUNTARY = CHAIN[2 : CHAIN.index(check_connections)]


@given(st.integers(0, 100), st.integers(0, 200), st.permutations(VOLUNTARY))
def test_caps_hold_whatever_stands_before_them(present: int, wanted: int, order: list[Check]) -> None:
    """The connection cap is the last word on workers without a job, however the limits before it are ordered."""
    cap = ConnectionCap(7, Finding(Reason.CONNECTION_BUDGET, "7 connections"))
    chain = [*CHAIN[:2], *order, *LAST]
    assert decide_allowed(chain_input(present, wanted, cap=cap), chain).allowed <= 7
    assert decide_allowed(chain_input(present, wanted, cap=cap)).allowed <= 7


def test_the_last_limit_that_moved_the_count_is_named() -> None:
    cap = ConnectionCap(7, Finding(Reason.CONNECTION_BUDGET, "7 connections"))
    both = decide_allowed(chain_input(5, 150, cap=cap))
    assert (both.wanted, both.allowed, both.limit) == (150, 7, Rule.CONNECTION_BUDGET)
    loose = decide_allowed(chain_input(5, 150, cap=replace(cap, workers=50)))
    assert (loose.allowed, loose.limit) == (10, Rule.STEP)
    none = decide_allowed(chain_input(10, 10, cap=cap), chain=())
    assert (none.allowed, none.limit, none.message) == (10, None, "10 workers wanted: 10 jobs/s arrive")


def test_one_more_limit_is_one_more_entry() -> None:
    def check_night(chain_input: ChainInput, allowed: int) -> Ruling | None:
        return Ruling(Rule.STEP, 3, Reason.STEP_LIMITED, "it is night") if allowed > 3 else None

    decision = decide_allowed(chain_input(10, 12), (*CHAIN, check_night))
    assert (decision.allowed, decision.message) == (3, "12 workers wanted: 10 jobs/s arrive; 3 allowed: it is night")
