"""The chain of limits: what must hold for any facts, then each limit by itself."""

import math
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headroom.api.v1alpha1.workerpool import WorkerPoolSpec
from headroom.model.database import Allocation
from headroom.model.queue import QueueSample
from headroom.policy.workerpool import (
    Move,
    PoolClaim,
    PoolDecision,
    PoolFacts,
    PoolMemory,
    Rule,
    ScalingDecision,
    Target,
    decide,
    lead_time,
)
from headroom.policy.workerpool.constants import (
    DOWN_STEP_SECONDS,
    STEP_SECONDS,
    STEP_SLACK_SECONDS,
    STEP_WORKERS_LEAST,
)
from headroom.policy.workerpool.memory import Wants
from headroom.policy.workerpool.window import Observation
from headroom.reasons import Reason
from tests.unit.policy.workerpool.make import (
    GAP,
    NOW,
    OWN,
    arriving,
    make_facts,
    make_sample,
    make_spec,
    make_view,
    moment,
    scaling_of,
    sizing_of,
)
from tests.unit.policy.workerpool.strategies import facts, memories, specs

OLDER = PoolClaim("elder", "uid-older", OWN.created - timedelta(days=1), OWN.target)
CONFLICT = (
    "the older WorkerPool elder scales deployment/mailer already: delete one of the two, or give this one another "
    "targetRef"
)


def decide_now(spec: WorkerPoolSpec, seen: PoolFacts, memory: PoolMemory, at: float = NOW) -> PoolDecision:
    return decide(spec, seen, memory, moment(at)).decision


def allowed_by(spec: WorkerPoolSpec, seen: PoolFacts, memory: PoolMemory) -> int:
    return scaling_of(decide_now(spec, seen, memory)).allowed


def target_of(seen: PoolFacts) -> Target:
    assert seen.workload is not None
    return seen.workload


@given(specs(), facts(), memories())
def test_the_result_is_within_the_bounds(spec: WorkerPoolSpec, seen: PoolFacts, memory: PoolMemory) -> None:
    """Above the maximum only workers stay that would lose a job if they went."""
    kept = target_of(seen).present if seen.sample is not None and seen.sample.in_flight else 0
    assert spec.min_workers <= allowed_by(spec, seen, memory) <= max(spec.max_workers, kept)


@given(specs(), facts(), memories(), st.integers(0, 250))
def test_what_is_wanted_does_not_depend_on_the_count_that_is_asked_for(
    spec: WorkerPoolSpec, seen: PoolFacts, memory: PoolMemory, present: int
) -> None:
    """The same pods, samples and past; only `spec.replicas` is another one, as a person or a step of before left it."""
    known = replace(memory, last_good_rate=memory.last_good_rate or 1.0)
    # Where all pods are there and ready, the same samples prove more.
    starting = replace(target_of(seen), existing=target_of(seen).pods.running + 1)
    found, other = (
        sizing_of(decide_now(spec, replace(seen, target=replace(starting, present=count)), known)).wanted
        for count in (starting.present, present)
    )
    assert found == other


@pytest.mark.parametrize("lag", [0.0, 45.0])
def test_what_is_wanted_is_the_same_for_any_number_of_ready_workers_that_suffice(lag: float) -> None:
    """Six a second of one second each: six or sixty workers, who watched the same queue, are asked for as many."""
    wanted = set()
    for present in (10, 13, 20, 40):
        late = {"lag_seconds": lag, "backlog": 250, "late": 100} if lag else {}
        seen, memory = arriving(present, 6.0, in_flight=6, **late)
        sizing = sizing_of(decide_now(make_spec(), seen, memory))
        assert sizing.wanted is not None
        wanted.add(sizing.wanted.workers)
    assert len(wanted) == 1, wanted


@given(specs(), facts(), memories())
def test_deciding_again_changes_nothing(spec: WorkerPoolSpec, seen: PoolFacts, memory: PoolMemory) -> None:
    target = target_of(seen)
    allowed = allowed_by(spec, seen, memory)
    after = memory if allowed == target.present else memory.wrote(Move(NOW, target.present, allowed))
    again = replace(seen, target=replace(target, present=allowed))
    assert allowed_by(spec, again, after) == allowed


@given(specs(), facts(), memories())
def test_unknown_holds(spec: WorkerPoolSpec, seen: PoolFacts, memory: PoolMemory) -> None:
    blind = decide(spec, replace(seen, signal=GAP), memory, moment(NOW))
    decision = scaling_of(blind.decision)
    assert (decision.allowed, decision.limit) == (target_of(seen).present, Rule.STALE_SIGNAL)
    assert blind.memory.wants == memory.wants


@given(specs(), facts(), memories())
def test_a_conflict_holds_whatever_the_queue_says(spec: WorkerPoolSpec, seen: PoolFacts, memory: PoolMemory) -> None:
    decision = scaling_of(decide_now(spec, replace(seen, pools=(OLDER,)), memory))
    assert (decision.allowed, decision.limit, decision.reason) == (
        target_of(seen).present,
        Rule.TARGET_CONFLICT,
        Reason.TARGET_CONFLICT,
    )


@given(specs(), facts(), memories())
def test_a_step_up_is_bounded_per_lead_time(spec: WorkerPoolSpec, seen: PoolFacts, memory: PoolMemory) -> None:
    """Above the maximum only workers stay that would lose a job if they went."""
    outcome = decide(spec, seen, memory, moment(NOW))
    present = target_of(seen).present
    base = min(max(present, spec.min_workers), spec.max_workers)
    seconds = min(lead_time(outcome.memory), STEP_SECONDS) - STEP_SLACK_SECONDS
    began = min([base, *(m.before for m in memory.moves if m.after > m.before and NOW - m.at <= seconds)])
    up = spec.behavior.scale_up
    largest = max(STEP_WORKERS_LEAST, math.ceil(began * up.max_step_percent / 100))
    if up.max_step is not None:
        largest = min(largest, up.max_step)
    kept = present if seen.sample is not None and seen.sample.in_flight else 0
    assert scaling_of(outcome.decision).allowed <= max(base, began + largest, kept)


@given(specs(), facts(), memories())
def test_a_step_down_is_small_rare_and_leaves_work_in_hand_alone(
    spec: WorkerPoolSpec, seen: PoolFacts, memory: PoolMemory
) -> None:
    outcome = decide(spec, seen, memory, moment(NOW))
    sizing = sizing_of(outcome.decision)
    allowed, down = sizing.decision.allowed, spec.behavior.scale_down
    base = min(max(target_of(seen).present, spec.min_workers), spec.max_workers)
    if allowed >= base:
        return
    assert sizing.demand is not None
    assert sizing.wanted is not None
    assert sizing.wanted.excess == 0
    if sizing.demand.in_flight is not None:  # a custom query need not count them
        assert allowed >= math.ceil(sizing.demand.in_flight / spec.concurrency)
    assert allowed >= min(base, outcome.memory.wants.peak())
    assert base - allowed <= max(1, base * down.max_step_percent // 100)
    assert all(NOW - move.at >= DOWN_STEP_SECONDS for move in memory.moves)
    assert memory.wants.since is not None or not down.stabilization_window


@given(specs(), facts(), memories(), st.integers(0, 500), st.integers(0, 500))
def test_more_lag_is_never_allowed_fewer(
    spec: WorkerPoolSpec, seen: PoolFacts, memory: PoolMemory, more: int, lag: int
) -> None:
    sample = seen.sample
    assert sample is not None
    worse = replace(
        sample,
        lag_seconds=sample.lag_seconds + lag if sample.backlog else sample.lag_seconds,
        late=min(sample.backlog, sample.late + more),
    )
    before, after = (sizing_of(decide_now(spec, replace(seen, signal=one), memory)) for one in (sample, worse))
    assert after.wanted is not None
    assert before.wanted is not None
    if after.demand and before.demand and after.demand.service_rate is not None:
        assert after.wanted.workers >= before.wanted.workers
        assert after.decision.allowed >= before.decision.allowed


BUSY = make_sample()
SPEC = make_spec(max_step=8)


def spec_with(**changes: Any) -> WorkerPoolSpec:
    return make_spec(**{"max_step": 8, **changes})


def pool(
    *,
    present: int,
    rate: float,
    sample: QueueSample = BUSY,
    moves: tuple[Move, ...] = (),
    peak: int = 0,
    age: float = 400.0,
) -> tuple[PoolFacts, PoolMemory]:
    """A pool that has been watched for `age` seconds at `rate` arrivals and a service rate of 1 per slot."""
    sample = replace(sample, in_flight=round(rate)) if sample is BUSY else sample
    times = [NOW - 60 + 5 * index for index in range(12)]
    window = tuple(
        Observation(
            replace(
                sample,
                taken_at=at,
                arrived=round(500 + rate * (at - NOW)),
                ended=None,
                backlog=0,
                lag_seconds=0.0,
                late=0,
            ),
            max(present, round(rate)),
        )
        for at in times
    )
    wants = Wants(since=NOW - age, latest=NOW - 5).add(NOW - 5, peak, 300.0)
    seen = make_facts(present, signal=sample)
    return seen, PoolMemory(window=window, wants=wants, moves=moves, last_good_rate=1.0)


def scaling(spec: WorkerPoolSpec, state: tuple[PoolFacts, PoolMemory]) -> ScalingDecision:
    return scaling_of(decide_now(spec, *state))


def test_nothing_limits_a_want_that_fits() -> None:
    decision = scaling(SPEC, pool(present=12, rate=16.0))
    assert decision == ScalingDecision(17, 17, Rule.QUEUE, None, Reason.ARRIVALS_COVERED, decision.message)
    assert decision.message == "17 workers wanted: 16 jobs/s arrive; one worker does 1/s"


def test_the_largest_count_is_named() -> None:
    decision = scaling(spec_with(max_workers=10), pool(present=9, rate=16.0))
    assert (decision.wanted, decision.allowed, decision.limit) == (17, 10, Rule.MAX_WORKERS)
    assert decision.reason is Reason.AT_MAXIMUM
    assert decision.message.endswith("10 allowed: maxWorkers is 10")


def test_a_large_step_waits_for_the_last_one_to_start() -> None:
    assert scaling(SPEC, pool(present=4, rate=30.0)).allowed == 8
    just_grown = pool(present=8, rate=30.0, moves=(Move(NOW - 3, 4, 8),))
    assert scaling(SPEC, just_grown).allowed == 8
    assert scaling(SPEC, just_grown).reason is Reason.STEP_LIMITED
    assert scaling(SPEC, pool(present=8, rate=30.0, moves=(Move(NOW - 11, 4, 8),))).allowed == 16


def test_the_way_back_into_the_bounds_is_not_stepped() -> None:
    assert scaling(spec_with(min_workers=20), pool(present=1, rate=0.0)).allowed == 20
    idle = replace(BUSY, in_flight=0)
    assert scaling(spec_with(max_workers=3), pool(present=40, rate=30.0, sample=idle)).allowed == 3
    busy = scaling(spec_with(max_workers=3), pool(present=40, rate=30.0))
    assert (busy.allowed, busy.limit) == (30, Rule.WORK_IN_FLIGHT)


def test_a_small_difference_is_not_worth_it_unless_the_queue_is_late() -> None:
    decision = scaling(SPEC, pool(present=31, rate=30.0))
    assert (decision.wanted, decision.allowed, decision.reason) == (32, 31, Reason.WITHIN_TOLERANCE)
    assert decision.limit is Rule.TOLERANCE
    assert decision.message.endswith("; 31 stay: the difference to 31 is too small to act on")
    late = replace(BUSY, lag_seconds=31.0, backlog=100, late=1, in_flight=30)
    assert scaling(SPEC, pool(present=31, rate=30.0, sample=late)).allowed > 31


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"age": 299.0}, Reason.STABILIZING),
        ({"peak": 30}, Reason.STABILIZING),
        ({"moves": (Move(NOW - 29, 20, 30),)}, Reason.STABILIZING),
        ({"sample": replace(BUSY, in_flight=30)}, Reason.WORK_IN_FLIGHT),
        ({"sample": replace(BUSY, lag_seconds=31.0, backlog=1)}, Reason.LAG_ABOVE_TARGET),
    ],
)
def test_workers_stay_while_one_thing_speaks_for_them(change: dict[str, object], reason: Reason) -> None:
    decision = scaling(SPEC, pool(present=30, rate=1.0, **change))  # type: ignore[arg-type]
    assert (decision.allowed, decision.reason) == (30, reason)
    assert decision.limit == reason.value, "the limit that is shown is the reason that is given"
    assert decision.wanted < 5


def test_else_a_fifth_of_them_goes() -> None:
    decision = scaling(SPEC, pool(present=30, rate=1.0))
    assert (decision.allowed, decision.limit, decision.reason) == (24, Rule.STEP, Reason.STEP_LIMITED)


def test_the_smallest_count_is_named() -> None:
    seen, memory = pool(present=3, rate=0.0, sample=replace(BUSY, in_flight=0))
    decision = scaling(spec_with(min_workers=3), (seen, memory))
    assert (decision.wanted, decision.allowed, decision.limit) == (0, 3, Rule.MIN_WORKERS)
    assert decision.reason is Reason.AT_MINIMUM
    assert not decision.is_held_back


def test_the_first_sample_never_takes_workers_away() -> None:
    at_once = spec_with(down_window=0.0, expected_job=1.0)
    seen, _ = pool(present=30, rate=0.0)
    first = decide(at_once, seen, PoolMemory(), moment(NOW))
    assert scaling_of(first.decision).allowed == 30
    assert first.memory.wants == Wants()
    second = replace(seen, signal=replace(BUSY, taken_at=NOW + 5))
    assert scaling_of(decide_now(at_once, second, first.memory, NOW + 5)).allowed < 30
    _, long_watched = pool(present=30, rate=0.0)
    assert allowed_by(at_once, seen, replace(long_watched, window=())) == 30


def test_failing_jobs_get_no_further_workers() -> None:
    seen, memory = pool(present=10, rate=16.0)
    failing = tuple(
        Observation(replace(one.sample, ended=4 * index, failed=3 * index), 10)
        for index, one in enumerate(memory.window)
    )
    memory = replace(memory, window=failing)
    seen = replace(seen, signal=replace(BUSY, ended=48, failed=36))
    decision = scaling(SPEC, (seen, memory))
    assert (decision.allowed, decision.limit) == (10, Rule.JOBS_FAILING)
    assert "15 of the last 20 attempts failed" in decision.message
    assert allowed_by(spec_with(min_workers=12), seen, memory) == 12


def test_the_connection_budget_may_go_below_the_minimum() -> None:
    guarded = {"databaseRef": {"name": "store"}}
    seen, memory = pool(present=12, rate=16.0)

    def with_cap(workers: int) -> tuple[PoolFacts, PoolMemory]:
        view = make_view(allocation=Allocation(workers, budget=24, held_by_others=3, is_short=True))
        return replace(seen, database=view, has_guard=True), memory

    decision = scaling(spec_with(**guarded), with_cap(24))
    assert (decision.wanted, decision.limit, decision.reason) == (17, None, Reason.ARRIVALS_COVERED)
    decision = scaling(spec_with(connectionsPerWorker=2, **guarded), with_cap(12))
    assert (decision.allowed, decision.limit) == (12, Rule.CONNECTION_BUDGET)
    assert decision.message.endswith(
        "12 allowed: the database has 24 connections for workers; other pools hold 3, and one worker takes 2; "
        "what arrives alone needs 16 workers = 32 connections: raise max_connections of the server, or "
        "connections.workerSharePercent of the guard, or use a pooler"
    )
    measured = make_view(allocation=Allocation(12, budget=36, held_by_others=0, per_worker=3.0, is_short=True))
    decision = scaling(spec_with(**guarded), (replace(seen, database=measured, has_guard=True), memory))
    assert "one worker takes 3 as measured (connectionsPerWorker is 1)" in decision.message
    assert "what arrives alone needs 16 workers = 48 connections" in decision.message
    seen = replace(seen, signal=replace(BUSY, in_flight=0))
    decision = scaling(spec_with(min_workers=15, **guarded), with_cap(0))
    assert (decision.allowed, decision.reason) == (0, Reason.BUDGET_BELOW_MINIMUM)


def test_workers_that_are_kept_stay_and_a_cap_allows() -> None:
    kept = scaling(SPEC, pool(present=2, rate=0.0, sample=replace(BUSY, in_flight=0), peak=4))
    assert (kept.wanted, kept.allowed) == (0, 2)
    assert kept.message.endswith("; 2 stay: the queue wanted 4 within the last 300 s")
    lowered = scaling(SPEC, pool(present=9, rate=0.0, sample=replace(BUSY, in_flight=0), peak=9))
    assert lowered.message.endswith("; 9 stay: the queue wanted 9 within the last 300 s")
    one_step = scaling(spec_with(down_step_percent=10), pool(present=10, rate=0.0, peak=2))
    assert one_step.message.endswith("; 9 allowed: at most 1 worker at a time may go")
    capped = scaling(spec_with(max_workers=10), pool(present=10, rate=16.0))
    assert capped.message.endswith("; 10 allowed: maxWorkers is 10")


@pytest.mark.parametrize(
    ("present", "said"),
    [
        (12, f"{CONFLICT}; 12 present (above maxWorkers 8), left alone"),
        (0, f"{CONFLICT}; 0 present (below minWorkers 1), left alone"),
        (5, f"{CONFLICT}; 5 present, left alone"),
    ],
)
def test_what_another_scales_is_present_and_not_allowed(present: int, said: str) -> None:
    seen, memory = pool(present=present, rate=1.0)
    decision = scaling(spec_with(max_workers=8), (replace(seen, pools=(OLDER,)), memory))
    assert decision.message.startswith(f"{said}; ")
    assert " allowed" not in decision.message
    blind = scaling(SPEC, (replace(seen, signal=GAP), memory))
    assert blind.message == f"the workers stay as they are, {present} present: {GAP.message}"
