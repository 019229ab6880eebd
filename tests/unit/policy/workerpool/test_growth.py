"""The effectiveness gate in a whole decision: its link of the chain, its text, and what the pool asks the guard for."""

from dataclasses import replace

import pytest

from headroom.model.database import Allocation
from headroom.model.queue import QueueSample
from headroom.policy.workerpool import PoolDecision, PoolMemory, Rule, decide
from headroom.policy.workerpool.gain import Gain
from headroom.policy.workerpool.gain_memory import Freeze, GainMemory, Verified
from headroom.policy.workerpool.gain_window import NOWHERE, GainWindow, Piece
from headroom.policy.workerpool.growth import describe_freeze, find_verified
from headroom.policy.workerpool.window import Observation
from headroom.reasons import Reason
from tests.unit.policy.workerpool.make import (
    GUARDED,
    KNOWN,
    NOW,
    arriving,
    make_facts,
    make_sample,
    make_spec,
    make_view,
    moment,
    scaling_of,
)

LATE = {"lag_seconds": 100.0, "backlog": 6000, "late": 6000, "in_flight": 5}
FREEZE = Freeze(
    workers=5,
    fewer_workers=3,
    fewer_rate=16.0,
    more_workers=6,
    more_rate=16.0,
    began_at=NOW - 30,
    retry_at=NOW + 30,
    pause_seconds=60,
)
MEASURED = GainMemory(jobs=100, first_ready=5, reach=5, free_rate=1.0, free_jobs=100, free_workers=5, ready=5)


def decide_with(gain: GainMemory, present: int = 5, **parts: object) -> PoolDecision:
    memory = replace(KNOWN, target_uid="uid-target", gain=replace(gain, ready=present))
    facts = make_facts(present, signal=make_sample(**LATE), **parts)
    return decide(make_spec(**(GUARDED if parts else {})), facts, memory, moment(NOW)).decision


def test_a_freeze_holds_a_pool_that_wants_more() -> None:
    decision = scaling_of(decide_with(replace(MEASURED, freeze=FREEZE)))
    assert decision.wanted > 5
    assert (decision.allowed, decision.limit) == (5, Rule.NO_GAIN)
    assert decision.reason is Reason.NO_GAIN_FROM_MORE_WORKERS
    assert "6 workers do as much as 3 did (16/s)" in decision.message


def test_half_of_the_step_is_taken_back_although_the_queue_is_late() -> None:
    decision = scaling_of(decide_with(replace(MEASURED, freeze=FREEZE), present=6))
    assert (decision.allowed, decision.limit) == (5, Rule.NO_GAIN)


def test_a_freeze_never_goes_below_the_minimum() -> None:
    spec = make_spec(min_workers=8)
    memory = replace(KNOWN, target_uid="uid-target", gain=replace(MEASURED, freeze=FREEZE, ready=8))
    outcome = decide(spec, make_facts(8, signal=make_sample(**LATE)), memory, moment(NOW))
    assert scaling_of(outcome.decision).allowed == 8


def test_a_step_is_measured_before_the_next_one() -> None:
    decision = scaling_of(decide_with(MEASURED, present=10))
    assert (decision.allowed, decision.reason) == (10, Reason.MEASURING_GAIN)
    assert "10 workers are measured before more are added" in decision.message


def test_arrivals_are_covered_at_the_rate_that_was_known_before_anything_was_measured() -> None:
    """A pool that has just begun: forty arrive each second, and a job takes one."""
    facts, memory = arriving(5, 40.0, **LATE)
    memory = replace(memory, gain=GainMemory(jobs=100, first_ready=1, reach=1, ready=5))
    decision = scaling_of(decide(make_spec(), facts, memory, moment(NOW)).decision)
    assert decision.allowed > 5


def test_without_a_gate_nothing_is_held() -> None:
    spec = make_spec(effectiveness={"enabled": False})
    memory = replace(KNOWN, target_uid="uid-target", gain=replace(MEASURED, freeze=FREEZE))
    outcome = decide(spec, make_facts(5, signal=make_sample(**LATE)), memory, moment(NOW))
    assert scaling_of(outcome.decision).allowed > 5
    assert outcome.memory.gain == GainMemory()


def test_a_frozen_pool_leaves_the_connections_it_cannot_use_to_others() -> None:
    view = make_view(allocation=Allocation(workers=40, budget=40, held_by_others=0))
    frozen, free = (
        decide_with(gain, database=view, has_guard=True) for gain in (replace(MEASURED, freeze=FREEZE), MEASURED)
    )
    assert frozen.claim is not None
    assert free.claim is not None
    assert frozen.claim.wanted == 5 < free.claim.wanted


def verified(gain: float, high: float, *, pieces: int = 20) -> PoolMemory:
    window = GainWindow(10, NOWHERE, NOW, (Piece(5.0, 50, 0, 50.0),) * pieces)
    found = Verified(5, 8.0, 10, 10.0, Gain(gain, gain - 0.1, high, 1 + gain, 5.0))
    return replace(KNOWN, is_late=True, gain=replace(MEASURED, window=window, verified=found))


def test_a_gain_that_is_clearly_less_than_linear_says_how_many_more_are_needed() -> None:
    found = find_verified(verified(0.5, 0.7))
    assert found is not None
    assert (found.workers, found.throughput, found.gain) == (10, 10.0, 0.5)
    tiny = find_verified(verified(0.12, 0.3))
    assert tiny is not None
    assert tiny.gain == 0.25, "a smaller one would ask for any number of workers"


@pytest.mark.parametrize(
    "memory",
    [verified(0.9, 1.1), verified(0.5, 0.7, pieces=2), replace(verified(0.5, 0.7), is_late=False), KNOWN],
    ids=["linear", "few", "calm", "none"],
)
def test_else_the_rate_of_a_slot_is_all_that_counts(memory: PoolMemory) -> None:
    assert find_verified(memory) is None


def test_a_gain_that_only_lag_and_backlog_tell_is_in_no_formula() -> None:
    memory = verified(0.5, 0.7)
    silent = Observation(QueueSample(NOW, 100.0, 6000), 5)
    assert find_verified(replace(memory, window=(silent,))) is None
    counted = replace(silent, sample=replace(silent.sample, ended=500))
    assert find_verified(replace(memory, window=(counted,))) is not None


@pytest.mark.parametrize(
    ("after", "text"),
    [
        (16.3, "6 workers do as much as 3 did (16/s)"),
        (18.0, "6 workers do hardly more than 3 did (18/s, 16/s)"),
        (12.0, "6 workers do less than 3 did (12/s, 16/s)"),
    ],
)
def test_the_verdict_in_words(after: float, text: str) -> None:
    assert describe_freeze(replace(FREEZE, more_rate=after)) == text
