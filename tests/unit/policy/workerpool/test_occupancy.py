"""Fewer slots than the spec says are proven by items in flight that follow the workers; all else proves nothing."""

from dataclasses import replace
from typing import Any

import pytest

from headroom.model.queue import QueueSample
from headroom.policy.workerpool.gain_memory import GainMemory
from headroom.policy.workerpool.memory import PoolMemory
from headroom.policy.workerpool.occupancy import Occupancy, follow_occupancy
from headroom.policy.workerpool.verdict import evaluate_signal
from headroom.policy.workerpool.window import Observation
from headroom.reasons import Reason
from headroom.simulation.catalogue import constant
from headroom.simulation.run import Case, headroom_for, play, play_headroom
from headroom.simulation.run import make_world as world_of
from headroom.simulation.traps import BY_NAME
from headroom.simulation.world import World
from tests.unit.policy.workerpool.make import NOW, PoolFacts, make_facts, make_sample

DECLARED = 10
ONE_EACH = Occupancy(taken=1, workers=3)


def seen(index: int, in_flight: int, workers: int = 3, **numbers: Any) -> Observation:
    """A sample every 5 s beside a backlog; two items end a second."""
    told = {"backlog": 50, "in_flight": in_flight, "ended": 10 * index, **numbers}
    return Observation(
        QueueSample(**{"taken_at": 5.0 * index, "lag_seconds": 9.0, **told}), 30, settled_workers=workers
    )


def follow(memory: Occupancy, *in_flight: int, **parts: Any) -> Occupancy:
    window: tuple[Observation, ...] = ()
    for index, count in enumerate(in_flight):
        window = (*window, seen(index, count, **parts))
        memory = follow_occupancy(memory, window, DECLARED)
    return memory


def test_six_samples_with_one_item_for_each_worker_prove_one_slot() -> None:
    assert follow(Occupancy(), 3, 3, 3, 3, 3) == Occupancy()
    assert follow(Occupancy(), 3, 3, 3, 3, 3, 3) == ONE_EACH


def test_a_worker_between_two_items_has_a_slot_all_the_same() -> None:
    assert follow(Occupancy(), 6, 6, 5, 6, 6, 5) == Occupancy(taken=2, workers=3)


@pytest.mark.parametrize(
    "parts",
    [
        {"backlog": 0},
        {"workers": 0},
        {"ended": 7},  # nothing ends: no slot has taken another item
        {"ended": None},  # for less than a minute
    ],
    ids=str,
)
def test_without_a_backlog_settled_workers_or_turnover_nothing_is_proven(parts: dict[str, Any]) -> None:
    assert follow(Occupancy(), *[3] * 8, **parts) == Occupancy()


def test_a_minute_proves_it_where_ends_are_not_counted() -> None:
    assert follow(Occupancy(), *[3] * 13, ended=None) == ONE_EACH


@pytest.mark.parametrize("in_flight", [(2, 3, 1, 4, 3, 2), (0, 0, 0, 0, 0, 0), (30, 30, 30, 30, 30, 30)], ids=str)
def test_items_that_vary_or_fill_all_slots_prove_nothing(in_flight: tuple[int, ...]) -> None:
    assert follow(Occupancy(), *in_flight).taken is None


def test_a_worker_that_takes_more_disproves_it_at_once() -> None:
    assert follow(ONE_EACH, 5) == Occupancy(taken=2, workers=3)
    assert follow(ONE_EACH, 30) == Occupancy()


def test_a_corrected_spec_ends_it() -> None:
    assert follow_occupancy(ONE_EACH, (), 1) == Occupancy()


def test_more_workers_with_as_many_items_more_prove_it_sooner() -> None:
    assert follow(ONE_EACH, 6, 6, workers=6) == ONE_EACH
    assert follow(ONE_EACH, 6, 6, 6, workers=6) == Occupancy(taken=1, workers=6)


def test_more_workers_without_more_items_refute_it_and_the_same_number_proves_nothing_again() -> None:
    refuted = follow(ONE_EACH, *[3] * 6, workers=6)
    assert refuted == Occupancy(ceiling=3)
    assert follow(refuted, *[3] * 12) == refuted
    assert follow(refuted, *[4] * 6, workers=4) == Occupancy(taken=1, workers=4, ceiling=3)


def test_one_worker_that_hangs_refutes_nothing() -> None:
    assert follow(ONE_EACH, *[5] * 8, workers=6) == ONE_EACH


def test_other_slots_make_what_was_measured_of_them_worthless() -> None:
    gain = replace(GainMemory(), free_rate=0.1, free_jobs=100.0, free_workers=3, reach=3, jobs=100)
    kept = PoolMemory(gain=gain).occupy(ONE_EACH).gain
    assert (kept.free_rate, kept.reach, kept.jobs) == (None, 3, 100)
    assert PoolMemory(gain=gain, occupancy=ONE_EACH).occupy(replace(ONE_EACH, workers=6)).gain == gain


def test_it_is_named_as_long_as_it_lasts() -> None:
    facts = make_facts(signal=make_sample())
    memory = PoolMemory(occupancy=ONE_EACH)
    assert evaluate_signal(facts, memory, NOW).verdict.reason is Reason.CONCURRENCY_MISMATCH


@pytest.mark.parametrize(("declared", "true"), [(10, 1), (4, 2), (10, 3), (2, 1)])
def test_a_pool_with_a_wrong_concurrency_keeps_its_target(declared: int, true: int) -> None:
    shape = replace(BY_NAME["wrong-concurrency"], declared_concurrency=declared, concurrency=true, duration=1500.0)
    figures, scaler, _ = play_headroom(Case(shape=shape, seed=2))
    assert scaler.memory.occupancy.taken == true
    assert figures.highest_lag <= 30
    assert figures.highest_workers <= 16 / true


@pytest.mark.long
@pytest.mark.parametrize(("keys", "workers", "concurrency"), [(1, 1, 10), (3, 3, 10), (4, 2, 10), (6, 3, 4)])
def test_items_that_a_lock_holds_up_get_one_worker_to_prove_it_and_no_more(
    keys: int, workers: int, concurrency: int
) -> None:
    """Only so many jobs may run at a time, and those that wait for a key look like any other: SQL of one's own."""
    shape = replace(
        BY_NAME["one-key"],
        keys=keys,
        start_workers=workers,
        concurrency=concurrency,
        rate=constant(2.0 * keys),
        highest_rate=2.0 * keys,
        duration=1200.0,
        measured_from=0.0,
    )
    case = Case(shape=shape, seed=1)
    scaler, world = headroom_for(case), world_of(case)
    scaler.change_facts = _show_barred
    figures = play(case, scaler, world)
    assert figures.highest_workers <= workers + 1
    assert scaler.steps[-1].decision.signal.verdict.reason is Reason.CONCURRENCY_MISMATCH


def _show_barred(world: World, facts: PoolFacts) -> PoolFacts:
    sample = facts.sample
    if sample is None or not world.blocked:
        return facts
    told = replace(sample, backlog=sample.backlog + sample.blocked, blocked=0, lag_seconds=60.0, late=sample.blocked)
    return replace(facts, signal=told)
