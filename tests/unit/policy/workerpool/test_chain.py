"""The chain of limits: what must hold for any facts, then each limit by itself."""

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headroom.model.queue import QueueSample
from headroom.policy.workerpool.budget import ConnectionFacts
from headroom.policy.workerpool.chain_input import Decision, Rule, SignalGap
from headroom.policy.workerpool.conflict import Conflict
from headroom.policy.workerpool.constants import DOWN_STEP_SECONDS
from headroom.policy.workerpool.decide import Facts, decide_workers
from headroom.policy.workerpool.history import Move, PoolHistory, Wants
from headroom.policy.workerpool.limits import ScalingLimits
from headroom.policy.workerpool.window import Observation
from headroom.reasons import Reason
from tests.unit.policy.workerpool.strategies import NOW, facts, limits, tracks

GAP = SignalGap(Reason.QUEUE_NOT_FOUND, "the table procrastinate_jobs does not exist")


@given(limits(), facts(), tracks())
def test_the_result_is_within_the_bounds(limits: ScalingLimits, seen: Facts, history: PoolHistory) -> None:
    allowed = decide_workers(limits, seen, history).decision.allowed
    assert limits.min_workers <= allowed <= limits.max_workers


@given(limits(), facts(), tracks())
def test_deciding_again_changes_nothing(limits: ScalingLimits, seen: Facts, history: PoolHistory) -> None:
    allowed = decide_workers(limits, seen, history).decision.allowed
    after = history if allowed == seen.present else history.moved(Move(NOW, seen.present, allowed))
    again = decide_workers(limits, replace(seen, present=allowed), after)
    assert again.decision.allowed == allowed


@given(limits(), facts(), tracks())
def test_unknown_holds(limits: ScalingLimits, seen: Facts, history: PoolHistory) -> None:
    blind = decide_workers(limits, replace(seen, sample=None, gap=GAP), history)
    assert blind.decision.allowed == seen.present
    assert blind.decision.limit is Rule.STALE_SIGNAL
    assert blind.history.wants == history.wants


@given(limits(), facts(), tracks())
def test_a_conflict_holds_whatever_the_queue_says(limits: ScalingLimits, seen: Facts, history: PoolHistory) -> None:
    decision = decide_workers(limits, replace(seen, conflict=Conflict("an HPA")), history).decision
    assert (decision.allowed, decision.limit, decision.reason) == (
        seen.present,
        Rule.TARGET_CONFLICT,
        Reason.TARGET_CONFLICT,
    )


@given(limits(), facts(), tracks())
def test_a_step_up_is_bounded_per_lead_time(limits: ScalingLimits, seen: Facts, history: PoolHistory) -> None:
    allowed = decide_workers(limits, seen, history).decision.allowed
    base = min(max(seen.present, limits.min_workers), limits.max_workers)
    lead = seen.lead_time_seconds
    began = min([base, *(m.before for m in history.moves if m.after > m.before and NOW - m.at < lead)])
    largest = max(1, math.ceil(max(began, 1) * limits.max_step_percent / 100))
    if limits.max_step is not None:
        largest = min(largest, limits.max_step)
    assert allowed <= max(base, began + largest)


@given(limits(), facts(), tracks())
def test_a_step_down_is_small_rare_and_leaves_work_in_hand_alone(
    limits: ScalingLimits, seen: Facts, history: PoolHistory
) -> None:
    outcome = decide_workers(limits, seen, history)
    base = min(max(seen.present, limits.min_workers), limits.max_workers)
    if outcome.decision.allowed >= base:
        return
    assert outcome.demand is not None
    assert outcome.wanted is not None
    assert outcome.wanted.excess == 0
    assert outcome.decision.allowed >= math.ceil(outcome.demand.in_flight / limits.concurrency)
    assert outcome.decision.allowed >= min(base, outcome.history.wants.peak())
    assert base - outcome.decision.allowed <= max(1, base * limits.down_step_percent // 100)
    assert all(NOW - move.at >= DOWN_STEP_SECONDS for move in history.moves)
    assert history.wants.since is not None or limits.down_window_seconds == 0


@given(limits(), facts(), tracks(), st.integers(0, 500), st.integers(0, 500))
def test_more_lag_is_never_allowed_fewer(
    limits: ScalingLimits, seen: Facts, history: PoolHistory, more: int, lag: int
) -> None:
    sample = seen.sample
    assert sample is not None
    worse = replace(
        sample,
        lag_seconds=sample.lag_seconds + lag if sample.backlog else sample.lag_seconds,
        late=min(sample.backlog, sample.late + more),
    )
    before, after = (decide_workers(limits, replace(seen, sample=one), history) for one in (sample, worse))
    assert after.wanted is not None
    assert before.wanted is not None
    if after.demand and before.demand and after.demand.service_rate is not None:
        assert after.wanted.workers >= before.wanted.workers
        assert after.decision.allowed >= before.decision.allowed


BUSY = QueueSample(taken_at=NOW, lag_seconds=0.0, backlog=0, in_flight=2, arrived=500, ended=500, failed=0)
LIMITS = ScalingLimits(min_workers=1, max_workers=40, max_step=8)


def pool(
    *,
    present: int,
    rate: float,
    sample: QueueSample = BUSY,
    moves: tuple[Move, ...] = (),
    peak: int = 0,
    age: float = 400.0,
) -> tuple[Facts, PoolHistory]:
    """A pool that has been watched for `age` seconds at `rate` arrivals and a service rate of 1 per slot."""
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
            present,
        )
        for at in times
    )
    wants = Wants(since=NOW - age, latest=NOW - 5).add(NOW - 5, peak, 300.0)
    seen = Facts(NOW, present, present, present, 10.0, sample=sample)
    return seen, PoolHistory(window=window, wants=wants, moves=moves, last_good_rate=1.0)


def decide(limits: ScalingLimits, state: tuple[Facts, PoolHistory]) -> Decision:
    return decide_workers(limits, *state).decision


def test_nothing_limits_a_want_that_fits() -> None:
    decision = decide(LIMITS, pool(present=12, rate=16.0))
    assert decision == Decision(20, 20, Rule.QUEUE, None, Reason.ARRIVALS_COVERED, decision.message)
    assert decision.message == "20 workers wanted: 16 jobs/s arrive; one worker does 1/s"


def test_the_largest_count_is_named() -> None:
    decision = decide(replace(LIMITS, max_workers=10), pool(present=9, rate=16.0))
    assert (decision.wanted, decision.allowed, decision.limit) == (20, 10, Rule.MAX_WORKERS)
    assert decision.reason is Reason.AT_MAXIMUM
    assert decision.message.endswith("10 allowed: maxWorkers is 10")


def test_a_large_step_waits_for_the_last_one_to_start() -> None:
    assert decide(LIMITS, pool(present=4, rate=30.0)).allowed == 8
    just_grown = pool(present=8, rate=30.0, moves=(Move(NOW - 3, 4, 8),))
    assert decide(LIMITS, just_grown).allowed == 8
    assert decide(LIMITS, just_grown).reason is Reason.STEP_LIMITED
    assert decide(LIMITS, pool(present=8, rate=30.0, moves=(Move(NOW - 11, 4, 8),))).allowed == 16


def test_the_way_back_into_the_bounds_is_not_stepped() -> None:
    assert decide(replace(LIMITS, min_workers=20), pool(present=1, rate=0.0)).allowed == 20
    assert decide(replace(LIMITS, max_workers=3), pool(present=40, rate=30.0)).allowed == 3


def test_a_small_difference_is_not_worth_it_unless_the_queue_is_late() -> None:
    decision = decide(LIMITS, pool(present=19, rate=16.0))
    assert (decision.wanted, decision.allowed, decision.reason) == (20, 19, Reason.WITHIN_TOLERANCE)
    assert decision.limit is Rule.TOLERANCE
    assert decision.message.endswith("; 19 stay: the difference to 19 is too small to act on")
    late = replace(BUSY, lag_seconds=31.0, backlog=100, late=1)
    assert decide(LIMITS, pool(present=19, rate=16.0, sample=late)).allowed == 20


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
    decision = decide(LIMITS, pool(present=30, rate=1.0, **change))  # type: ignore[arg-type]
    assert (decision.allowed, decision.reason) == (30, reason)
    assert decision.limit == reason.value, "the limit that is shown is the reason that is given"
    assert decision.wanted < 5


def test_else_a_fifth_of_them_goes() -> None:
    decision = decide(LIMITS, pool(present=30, rate=1.0))
    assert (decision.allowed, decision.limit, decision.reason) == (24, Rule.STEP, Reason.STEP_LIMITED)


def test_the_smallest_count_is_named() -> None:
    seen, history = pool(present=3, rate=0.0, sample=replace(BUSY, in_flight=0))
    decision = decide(replace(LIMITS, min_workers=3), (seen, history))
    assert (decision.wanted, decision.allowed, decision.limit) == (0, 3, Rule.MIN_WORKERS)
    assert decision.reason is Reason.AT_MINIMUM
    assert not decision.is_held_back


def test_the_first_sample_never_takes_workers_away() -> None:
    at_once = replace(LIMITS, down_window_seconds=0.0, expected_job_seconds=1.0)
    seen, _ = pool(present=30, rate=0.0)
    first = decide_workers(at_once, seen, PoolHistory())
    assert first.decision.allowed == 30
    assert first.history.wants == Wants()
    second = replace(seen, now=NOW + 5, sample=replace(BUSY, taken_at=NOW + 5))
    assert decide_workers(at_once, second, first.history).decision.allowed < 30
    _, long_watched = pool(present=30, rate=0.0)
    begun_anew = decide_workers(at_once, seen, replace(long_watched, window=()))
    assert begun_anew.decision.allowed == 30


def test_failing_jobs_get_no_further_workers() -> None:
    seen, history = pool(present=10, rate=16.0)
    first = history.window[0]
    failing = (Observation(replace(first.sample, ended=0, failed=0), 10), *history.window[1:])
    failing = tuple(
        Observation(replace(one.sample, ended=4 * index, failed=3 * index), 10) for index, one in enumerate(failing)
    )
    history = replace(history, window=failing)
    seen = replace(seen, sample=replace(BUSY, ended=48, failed=36))
    decision = decide(LIMITS, (seen, history))
    assert (decision.allowed, decision.limit) == (10, Rule.JOBS_FAILING)
    assert "36 of the last 48 attempts failed" in decision.message
    assert decide(replace(LIMITS, min_workers=12), (seen, history)).allowed == 12


def test_the_connection_budget_may_go_below_the_minimum() -> None:
    seen, history = pool(present=12, rate=16.0)
    tight = ConnectionFacts(limit=45, others=10, other_pools=0)
    decision = decide(LIMITS, (replace(seen, connections=tight), history))
    assert (decision.wanted, decision.limit, decision.reason) == (20, None, Reason.ARRIVALS_COVERED)
    decision = decide(replace(LIMITS, connections_per_worker=2), (replace(seen, connections=tight), history))
    assert (decision.allowed, decision.limit) == (12, Rule.CONNECTION_BUDGET)
    decision = decide(replace(LIMITS, min_workers=15), (replace(seen, connections=replace(tight, limit=15)), history))
    assert (decision.allowed, decision.reason) == (0, Reason.BUDGET_BELOW_MINIMUM)


def test_workers_that_are_kept_stay_and_a_cap_allows() -> None:
    kept = decide(LIMITS, pool(present=2, rate=0.0, sample=replace(BUSY, in_flight=0), peak=4))
    assert (kept.wanted, kept.allowed) == (0, 2)
    assert kept.message.endswith("; 2 stay: the queue wanted 4 within the last 300 s")
    lowered = decide(LIMITS, pool(present=9, rate=0.0, sample=replace(BUSY, in_flight=0), peak=9))
    assert lowered.message.endswith("; 9 stay: the queue wanted 9 within the last 300 s")
    one_step = decide(replace(LIMITS, down_step_percent=10), pool(present=10, rate=0.0, peak=2))
    assert one_step.message.endswith("; 9 allowed: at most 1 worker at a time may go")
    capped = decide(replace(LIMITS, max_workers=10), pool(present=10, rate=16.0))
    assert capped.message.endswith("; 10 allowed: maxWorkers is 10")


@pytest.mark.parametrize(
    ("present", "said"),
    [
        (12, "12 present (above maxWorkers 8), left alone: an HPA"),
        (0, "0 present (below minWorkers 1), left alone: an HPA"),
        (5, "5 present, left alone: an HPA"),
    ],
)
def test_what_another_scales_is_present_and_not_allowed(present: int, said: str) -> None:
    seen, history = pool(present=present, rate=1.0)
    decision = decide(replace(LIMITS, max_workers=8), (replace(seen, conflict=Conflict("an HPA")), history))
    assert decision.message.endswith(f"; {said}")
    assert "allowed" not in decision.message
    blind = decide(LIMITS, (replace(seen, sample=None, gap=GAP), history))
    assert blind.message == f"{present} present: the workers stay as they are: {GAP.message}"
