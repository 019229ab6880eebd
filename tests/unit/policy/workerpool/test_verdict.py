"""What people read of a pool: whether the signal is there, whether the queue keeps up, and how long it will take."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headroom.model.conditions import Finding
from headroom.model.moments import FIRST_SIGHT_SECONDS
from headroom.model.queue import StuckItem
from headroom.policy.workerpool import PoolMemory, ScalingDecision, Sizing, Verdict, decide
from headroom.policy.workerpool.chain_input import Rule, is_spare
from headroom.policy.workerpool.constants import BRIEF_SECONDS
from headroom.policy.workerpool.demand import Demand
from headroom.policy.workerpool.facts import ScalingLimits
from headroom.policy.workerpool.memory import Lateness
from headroom.policy.workerpool.rates import Estimates
from headroom.policy.workerpool.verdict import (
    PASSING_REASONS,
    SignalVerdict,
    drain_seconds,
    evaluate_lag,
    evaluate_signal,
)
from headroom.policy.workerpool.wanted import decide_wanted
from headroom.policy.workerpool.window import Observation
from headroom.reasons import Reason
from tests.unit.policy.workerpool.make import (
    GAP,
    GUARD_GAP,
    NOW,
    make_facts,
    make_sample,
    make_spec,
    make_target,
    moment,
    scaling_of,
)

LIMITS = ScalingLimits(min_workers=1, max_workers=40)
TIMEOUT = Finding(Reason.QUERY_TIMEOUT, "the query took longer than 500 ms")
BUSY = Demand(
    lag_seconds=100.0,
    backlog=1000,
    late=1000,
    in_flight=5,
    due_soon=0,
    arrivals=2.0,
    arrivals_age_seconds=30.0,
    arrivals_growth=0.0,
    service_rate=1.0,
    late_for_seconds=0.0,
    capacity_workers=5,
    lead_time_seconds=10.0,
    target_lag_seconds=30.0,
    drain_within_seconds=300.0,
    concurrency=1,
    present=5,
)


def sized(allowed: int, *, rate: float | None = 1.0, **demand: Any) -> Sizing:
    """A late pool of which so many workers are allowed; 1,000 jobs wait, 2 a second arrive."""
    asked = replace(BUSY, service_rate=rate, **demand)
    wanted, estimates = decide_wanted(asked), Estimates(arrivals_per_second=asked.arrivals, service_rate=rate)
    decision = ScalingDecision(wanted.workers, allowed, Rule.QUEUE, None, wanted.reason, wanted.message)
    return Sizing(estimates, decision, asked, wanted, drain_seconds(asked, estimates, allowed, 1))


def late_verdict(sizing: Sizing | None, **parts: Any) -> Verdict:
    seen = make_facts(signal=make_sample(lag_seconds=100.0, backlog=1000), **parts)
    return evaluate_lag(seen, LIMITS, PoolMemory(is_late=True), sizing)


def test_a_queue_that_cannot_be_read_has_no_lag() -> None:
    assert evaluate_lag(make_facts(signal=GAP), LIMITS, PoolMemory(is_late=True), None) == Verdict(None, GAP.reason)
    nothing = evaluate_lag(make_facts(signal=None), LIMITS, PoolMemory(), None)
    assert nothing == Verdict(None, Reason.NOT_YET_OBSERVED)


@pytest.mark.parametrize(
    ("numbers", "reason"),
    [
        ({}, Reason.LAG_WITHIN_TARGET),
        ({"blocked": 3, "blocked_seconds": 31.0}, Reason.BACKLOG_BLOCKED),
        ({"blocked": 3, "blocked_seconds": 30.0}, Reason.LAG_WITHIN_TARGET),
        ({"blocked": 0, "blocked_seconds": 31.0}, Reason.LAG_WITHIN_TARGET),
    ],
)
def test_within_the_target_it_keeps_up_and_a_block_is_named(numbers: dict[str, Any], reason: Reason) -> None:
    verdict = evaluate_lag(make_facts(signal=make_sample(**numbers)), LIMITS, PoolMemory(), sized(5))
    assert verdict == Verdict(holds=True, reason=reason)


def test_late_without_a_target_is_not_kept_up() -> None:
    assert late_verdict(None) == Verdict(holds=False, reason=Reason.LAG_ABOVE_TARGET)


def test_workers_that_do_not_start_are_the_first_thing_to_know() -> None:
    target = make_target(5, stuck="pod mailer-3: ImagePullBackOff")
    verdict = late_verdict(sized(5, rate=None), target=target)
    assert verdict == Verdict(holds=False, reason=Reason.WORKERS_NOT_STARTING)


def test_without_a_service_rate_nobody_knows() -> None:
    assert late_verdict(sized(5, rate=None)) == Verdict(None, Reason.LEARNING_RATE)


@pytest.mark.parametrize(
    ("allowed", "holds", "reason"),
    [
        (6, True, Reason.LAG_ABOVE_TARGET),  # 1000 / (6 - 2) = 250 s of 300
        (5, False, Reason.CANNOT_MEET_DEADLINE),  # 333 s
        (2, False, Reason.CANNOT_MEET_DEADLINE),  # it grows for ever
    ],
)
def test_the_deadline_decides_while_it_is_late(allowed: int, holds: bool, reason: Reason) -> None:
    assert late_verdict(sized(allowed)) == Verdict(holds=holds, reason=reason)


@pytest.mark.parametrize(
    ("late_for", "not_falling", "rate", "verdict"),
    [
        (300.0, 150.0, 1.0, Verdict(holds=True, reason=Reason.LAG_ABOVE_TARGET)),
        (301.0, 0.0, 1.0, Verdict(holds=False, reason=Reason.DEADLINE_MISSED)),
        (301.0, 0.0, None, Verdict(holds=False, reason=Reason.DEADLINE_MISSED)),
        (160.0, 151.0, 1.0, Verdict(holds=False, reason=Reason.LAG_NOT_FALLING)),
        (160.0, 151.0, None, Verdict(holds=False, reason=Reason.LAG_NOT_FALLING)),
        (160.0, 149.0, None, Verdict(None, Reason.LEARNING_RATE)),
    ],
)
def test_what_time_has_disproved_no_formula_promises(
    late_for: float, not_falling: float, rate: float | None, verdict: Verdict
) -> None:
    """All wanted workers are allowed and would drain the backlog in a moment; the clock says otherwise."""
    sizing = sized(1000, rate=rate, late_for_seconds=late_for)
    window = (Observation(make_sample(NOW, lag_seconds=100.0), 5),)
    memory = PoolMemory(window, lateness=Lateness(NOW - late_for, 100.0, NOW - not_falling), is_late=True)
    seen = make_facts(signal=make_sample(lag_seconds=100.0, backlog=1000))
    assert evaluate_lag(seen, LIMITS, memory, sizing) == verdict


def test_a_limit_is_named_before_the_time_that_it_cost() -> None:
    assert late_verdict(sized(5, late_for_seconds=1000.0)) == Verdict(holds=False, reason=Reason.CANNOT_MEET_DEADLINE)


@pytest.mark.parametrize(
    ("demand", "workers", "expected"),
    [
        (BUSY, 12, 100.0),
        (replace(BUSY, backlog=0), 0, 0.0),
        (BUSY, 2, None),
        (replace(BUSY, arrivals=None), 10, 100.0),
    ],
)
def test_the_time_until_it_is_gone(demand: Demand, workers: int, expected: float | None) -> None:
    assert drain_seconds(demand, Estimates(service_rate=1.0), workers, 1) == expected
    assert drain_seconds(demand, Estimates(), workers, 1) is None


@given(st.integers(0, 100), st.integers(0, 100), st.integers(1, 20))
def test_more_workers_never_take_longer(workers: int, more: int, concurrency: int) -> None:
    few, many = (
        drain_seconds(BUSY, Estimates(service_rate=1.0), count, concurrency) for count in (workers, workers + more)
    )
    assert few is None or (many is not None and many <= few)


@pytest.mark.parametrize(
    ("lags", "expected"),
    [
        ((31.0, 29.0, 25.0, 24.0, 29.0, 31.0), (True, True, True, False, False, True)),
        ((30.0, 30.1, 24.1), (False, True, True)),
    ],
)
def test_late_ends_clearly_below_the_target(lags: tuple[float, ...], expected: tuple[bool, ...]) -> None:
    memory, seen = PoolMemory(), []
    for index, lag in enumerate(lags):
        at = NOW + index
        sample = make_sample(at, lag_seconds=lag, backlog=1)
        memory = decide(make_spec(), make_facts(signal=sample), memory, moment(at)).memory
        seen.append(memory.is_late)
    assert tuple(seen) == expected


def test_a_blind_time_keeps_the_verdict_on_the_lag() -> None:
    for is_late in (True, False):
        blind = decide(make_spec(), make_facts(signal=GAP), PoolMemory(is_late=is_late), moment(NOW))
        assert blind.memory.is_late is is_late
        sample = make_sample(NOW + 5, lag_seconds=28.0, backlog=1)
        again = decide(make_spec(), make_facts(signal=sample), blind.memory, moment(NOW + 5))
        assert again.memory.is_late is is_late, "28 s are no news for either"


def signal(gap: Finding, memory: PoolMemory, at: float = NOW) -> SignalVerdict:
    return evaluate_signal(make_facts(signal=gap), memory, at)


@pytest.mark.parametrize("reason", sorted(PASSING_REASONS))
def test_a_passing_fault_after_an_answer_is_brief_for_a_while(reason: Reason) -> None:
    gap = Finding(reason, "it will pass")
    memory = PoolMemory(has_answered=True, blind_since=NOW)
    assert signal(gap, memory, NOW + BRIEF_SECONDS - 0.1).is_brief
    assert not signal(gap, memory, NOW + BRIEF_SECONDS).is_brief
    assert not signal(gap, replace(memory, has_answered=False)).is_brief


def test_a_fault_that_needs_a_person_is_never_brief() -> None:
    assert not signal(GAP, PoolMemory(has_answered=True, blind_since=NOW)).is_brief


def test_the_blind_time_begins_with_the_first_failure_and_ends_with_an_answer() -> None:
    memory = PoolMemory()
    for at in (NOW, NOW + 5):
        memory = decide(make_spec(), make_facts(signal=TIMEOUT), memory, moment(at)).memory
        assert (memory.blind_since, memory.has_answered) == (NOW, False)
    memory = decide(make_spec(), make_facts(signal=make_sample(NOW + 10)), memory, moment(NOW + 10)).memory
    assert (memory.blind_since, memory.has_answered) == (None, True)
    memory = decide(make_spec(), make_facts(signal=TIMEOUT), memory, moment(NOW + 15)).memory
    assert (memory.blind_since, memory.has_answered) == (NOW + 15, True)


def test_a_guard_gets_time_at_first_sight_and_nothing_else_does() -> None:
    memory = PoolMemory(seen_at=NOW - FIRST_SIGHT_SECONDS + 1)
    early = signal(GUARD_GAP, memory)
    assert (early.verdict, early.is_early) == (Verdict(None, Reason.GUARD_NOT_READY), True)
    late = signal(GUARD_GAP, memory, NOW + 1)
    assert (late.verdict, late.is_early) == (Verdict(holds=False, reason=Reason.GUARD_NOT_READY), False)
    assert signal(TIMEOUT, memory).verdict == Verdict(holds=False, reason=Reason.QUERY_TIMEOUT)


@pytest.mark.parametrize(
    ("numbers", "reason"),
    [
        ({}, Reason.AS_EXPECTED),
        ({"hides_completions": True, "phantoms": 3, "in_flight": 50}, Reason.LEARNING_RATE),
        ({"phantoms": 3, "in_flight": 50}, Reason.PHANTOM_IN_FLIGHT),
        ({"phantoms": 3, "stuck": (StuckItem(7),)}, Reason.PHANTOM_IN_FLIGHT),
        ({"stuck": (StuckItem(7),), "in_flight": 50}, Reason.HEAD_OF_LINE_STUCK),
        ({"in_flight": 6}, Reason.AS_EXPECTED),
        ({"in_flight": None}, Reason.AS_EXPECTED),
    ],
)
def test_what_is_odd_about_a_queue_is_named_most_important_first(numbers: dict[str, Any], reason: Reason) -> None:
    found = evaluate_signal(make_facts(signal=make_sample(**numbers)), PoolMemory(), NOW)
    assert found == SignalVerdict(Verdict(holds=True, reason=reason))


@pytest.mark.parametrize(
    ("seconds", "in_flight", "is_settled", "reason"),
    [
        (60, 6, True, Reason.CONCURRENCY_MISMATCH),
        (60, 5, True, Reason.AS_EXPECTED),
        (55, 6, True, Reason.AS_EXPECTED),
        (60, 6, False, Reason.AS_EXPECTED),
    ],
)
def test_more_in_flight_than_slots_is_a_mismatch_after_a_minute_without_a_pod_that_came_or_went(
    seconds: int, in_flight: int, is_settled: bool, reason: Reason
) -> None:
    samples = [make_sample(NOW - seconds + at, in_flight=in_flight) for at in range(0, seconds + 1, 5)]
    memory = PoolMemory(window=tuple(Observation(sample, 5, is_settled) for sample in samples))
    assert evaluate_signal(make_facts(signal=samples[-1]), memory, NOW).verdict.reason is reason


def test_a_pool_without_a_queue_has_nothing_to_read() -> None:
    found = evaluate_signal(make_facts(signal=None), PoolMemory(), NOW)
    assert found == SignalVerdict(Verdict(None, Reason.AS_EXPECTED))


@pytest.mark.parametrize(
    ("wanted", "allowed", "spare"), [(10, 11, False), (10, 12, True), (90, 100, False), (0, 1, False)]
)
def test_a_worker_or_a_tenth_more_is_not_spare(wanted: int, allowed: int, spare: bool) -> None:
    assert is_spare(wanted, allowed) is spare


def test_a_blind_pool_is_held_back_whatever_it_wanted() -> None:
    decision = scaling_of(decide(make_spec(), make_facts(5, signal=GAP), PoolMemory(), moment(NOW)).decision)
    assert decision.is_held_back
    assert (decision.wanted, decision.rule) == (5, Rule.HOLD)
