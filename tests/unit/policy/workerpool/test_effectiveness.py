"""The effectiveness gate: growth is measured, stopped where it gains nothing, and resumed when the cause is gone."""

import random
from dataclasses import replace
from itertools import pairwise

import pytest

from headroom.model.waits import WaitSample
from headroom.policy.workerpool.gain_memory import Freeze, GainMemory, GainRules, Lift, Phase
from headroom.policy.workerpool.gain_window import NOWHERE, DatabaseLoad
from headroom.policy.workerpool.growth import find_growth_limit
from tests.unit.policy.workerpool.gains import Workers, is_decided, is_frozen

NAMED_WITHIN = 180.0
"""Three minutes."""


def limit_of(memory: GainMemory, present: int, *, arrivals: float = 20.0) -> int | None:
    limit = find_growth_limit(memory, present=present, arrivals_per_second=arrivals, steady_workers=0, concurrency=1)
    return None if limit is None else limit.workers


def freeze_of(memory: GainMemory) -> Freeze:
    assert memory.freeze is not None
    return memory.freeze


def frozen(seed: int = 1, **fields: object) -> Workers:
    """A lock lets 16 jobs a second pass, whatever the workers: 15 were measured, then 30."""
    workers = Workers(seed=seed, slot_rate=2.0, most=16.0, **fields)  # type: ignore[arg-type]
    workers.run(15, 60)
    workers.run(30, NAMED_WITHIN, until=is_frozen)
    return workers


def held(seed: int = 1, **fields: object) -> Workers:
    """The same once the freeze is confirmed."""
    workers = frozen(seed, **fields)
    workers.run(freeze_of(workers.memory).workers, 90, until=lambda memory: freeze_of(memory).phase is Phase.HOLDING)
    return workers


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(("most", "slot_rate"), [(5.0, 5.0), (16.0, 16.0), (100.0, 100.0)])
def test_a_race_is_named_in_time_and_its_growth_stops(most: float, slot_rate: float, seed: int) -> None:
    """One worker does all that a lock lets pass; arrivals are a quarter more."""
    workers = Workers(seed=seed, slot_rate=slot_rate, most=most)
    count, highest, began = 1, 1, workers.now
    while not is_frozen(workers.memory) and workers.now - began < NAMED_WITHIN:
        workers.run(count, 10, until=is_frozen)
        limit = limit_of(workers.memory, count, arrivals=1.25 * most)
        # It wants as many as there may be.
        count = 2 * count if limit is None else max(count, limit)
        highest = max(highest, count)
    assert is_frozen(workers.memory)
    assert workers.memory.verdicts <= 3
    assert highest <= 2
    assert (freeze_of(workers.memory).fewer_workers, freeze_of(workers.memory).more_workers) == (1, 2)


def test_half_of_the_last_step_is_taken_back_and_confirms_the_freeze() -> None:
    workers = frozen()
    freeze = freeze_of(workers.memory)
    assert (freeze.phase, freeze.fewer_workers, freeze.more_workers) == (Phase.CONFIRMING, 15, 30)
    assert freeze.workers == 22
    assert freeze.fewer_rate == pytest.approx(16, rel=0.1)
    assert limit_of(workers.memory, 30) == 22
    seconds = workers.run(22, 90, until=lambda memory: freeze_of(memory).phase is Phase.HOLDING)
    assert 15 <= seconds <= 60
    assert limit_of(workers.memory, 22) == 22


def test_fewer_workers_that_do_less_lift_a_freeze_that_was_wrong() -> None:
    workers = frozen()
    workers.most = 1000.0
    workers.memory = replace(
        workers.memory, freeze=replace(freeze_of(workers.memory), more=None), waits=workers.memory.waits
    )
    # What the thirty did in truth: twice the work of the fifteen.
    truth = Workers(slot_rate=2.0)
    truth.run(30, 60)
    workers.memory = replace(workers.memory, freeze=replace(freeze_of(workers.memory), more=truth.memory.window))
    workers.run(22, 60, until=lambda memory: memory.freeze is None)
    assert (workers.memory.freeze, workers.memory.lifted) == (None, Lift.FEWER_DO_LESS)


def test_while_commits_are_slow_no_worker_is_taken_from_its_job() -> None:
    workers = frozen(are_commits_slow=True)
    freeze = freeze_of(workers.memory)
    assert (freeze.phase, freeze.workers) == (Phase.HOLDING, 30)


def test_a_new_pod_template_lifts_it_at_once() -> None:
    workers = held()
    workers.template = "two"
    workers.step(22)
    assert (workers.memory.freeze, workers.memory.lifted) == (None, Lift.TEMPLATE)
    assert (workers.memory.verdicts, workers.memory.free_workers) == (0, 0), "what was measured is of the old template"
    workers.run(22, 60)
    assert (limit_of(workers.memory, 22, arrivals=0.0) or 0) <= 22, "the race may be there still: it is measured again"


def test_nothing_is_measured_while_pods_of_two_templates_run() -> None:
    workers = Workers(slot_rate=2.0, most=16.0)
    workers.run(15, 60)
    workers.is_updating = True
    workers.run(30, 300)
    assert (workers.memory.window, workers.memory.base, workers.memory.freeze) == (None, None, None)


def test_waits_that_halve_lift_it() -> None:
    workers = held(has_lock_waits=True, wanted=22, probe=1.0)
    assert freeze_of(workers.memory).wait == "Lock:transactionid"
    workers.run(22, 300)
    assert freeze_of(workers.memory).wait_share == pytest.approx(21 / 22, abs=0.05)
    workers.has_lock_waits = False
    workers.run(22, 60)
    assert is_frozen(workers.memory), "without samples nothing is known"
    workers._waits = lambda count: WaitSample((("CPU", count),))  # type: ignore[method-assign]
    seconds = workers.run(22, 300, until=lambda memory: memory.freeze is None)
    assert workers.memory.lifted is Lift.WAITS
    assert seconds <= 60


def test_the_same_workers_that_do_more_lift_it() -> None:
    workers = held(wanted=22)
    workers.run(22, 60)
    workers.most = 30.0
    seconds = workers.run(22, 120, until=lambda memory: memory.freeze is None)
    assert workers.memory.lifted is Lift.THROUGHPUT
    assert seconds <= 45


def test_more_are_tried_after_one_two_and_four_minutes_up_to_retry_after() -> None:
    workers = held(rules=GainRules(retry_after_seconds=240.0))
    tries: list[float] = []
    count = 22
    while len(tries) < 5:
        workers.run(count, 5)
        freeze = freeze_of(workers.memory)
        if freeze.allowed != count:
            if freeze.allowed == 30:
                tries.append(workers.now - freeze.began_at)
            count = freeze.allowed
    pauses = [after - before for before, after in pairwise(tries)]
    assert tries[0] == pytest.approx(60, abs=10)
    assert pauses == pytest.approx([145, 265, 265, 265], abs=45), "two, four, four and four minutes, and a look at 30"
    assert count == 30, "a try is no more than what was there before"


def test_a_try_that_gains_something_lifts_it() -> None:
    workers = held()
    workers.run(22, 120, until=lambda memory: freeze_of(memory).phase is Phase.RETRYING)
    workers.most = 1000.0
    workers.memory = replace(workers.memory, freeze=replace(freeze_of(workers.memory), held_rate=None))
    workers.run(30, 120, until=lambda memory: memory.freeze is None)
    assert workers.memory.lifted is Lift.RETRIED


def test_a_freeze_ends_once_it_has_held_nobody_back_for_a_while() -> None:
    workers = held(wanted=10)
    workers.is_saturated = False
    workers.run(10, 250)
    assert is_frozen(workers.memory)
    workers.run(10, 60, until=lambda memory: memory.freeze is None)
    assert (workers.memory.freeze, workers.memory.lifted, workers.memory.reach) == (None, Lift.NOT_NEEDED, 15)
    assert limit_of(workers.memory, 10, arrivals=0.0) == 30, "what was verified is the limit still"


def test_it_ends_later_where_other_rules_allow_less_than_it_does() -> None:
    """maxWorkers was lowered, the queue is late, and no more can be tried."""
    workers = held(most_workers=12, rules=GainRules(retry_after_seconds=600.0))
    workers.run(12, 590)
    assert is_frozen(workers.memory)
    workers.run(12, 30)
    assert workers.memory.lifted is Lift.NOT_NEEDED


def test_a_freeze_that_holds_somebody_back_stays() -> None:
    workers = held(wanted=60)
    for _ in range(360):
        workers.run(freeze_of(workers.memory).allowed, 10)
    assert is_frozen(workers.memory)


@pytest.mark.parametrize(
    "change",
    [
        {"database_load": DatabaseLoad("Brownout", 20)},
        {"database_load": DatabaseLoad("Healthy", 26)},
        {"failing": 0.5},
    ],
    ids=["guard", "other pool", "failures"],
)
def test_a_step_beside_which_something_else_changed_is_not_judged(change: dict[str, object]) -> None:
    workers = Workers(slot_rate=2.0, most=16.0, database_load=DatabaseLoad("Healthy", 20))
    workers.run(15, 60)
    for name, value in change.items():
        setattr(workers, name, value)
    workers.run(30, 120)
    assert workers.memory.verdicts == 0
    # Fewer workers are tried instead, under the new conditions.
    assert workers.memory.freeze is None or workers.memory.freeze.is_trial


def test_slower_jobs_are_not_the_workers_fault() -> None:
    """The database becomes five times slower at a steady count; the workers that are added then are no race."""
    workers = Workers(slot_rate=2.0)
    workers.run(8, 600)
    workers.slot_rate = 0.4
    workers.run(8, 60)
    workers.run(16, 120, until=is_decided)
    assert not is_frozen(workers.memory)
    assert (limit_of(workers.memory, 16) or 0) >= 32


def test_a_slot_that_became_slower_before_growth_is_no_reason_to_try_fewer() -> None:
    """Too little ended at the slower rate for a window to compare with, but the workers were the same."""
    workers = Workers(slot_rate=2.0)
    workers.run(8, 600)
    workers.slot_rate = 0.2
    workers.run(8, 10)
    workers.run(16, 120, until=lambda memory: is_frozen(memory) or memory.reach >= 16)
    assert (workers.memory.freeze, workers.memory.reach) == (None, 16)


def test_what_changes_after_a_step_is_not_compared_with_the_time_before_it() -> None:
    workers = Workers(slot_rate=0.5)
    workers.run(8, 120)
    workers.run(16, 15)
    workers.slot_rate = 0.05
    workers.run(16, 240, until=is_frozen)
    assert workers.memory.freeze is None or workers.memory.freeze.is_trial


def test_the_count_that_the_first_jobs_were_done_by_is_the_verified_one() -> None:
    workers = Workers(slot_rate=1.0, most=1.0)
    workers.run(1, 10)
    workers.run(2, 30)
    assert (workers.memory.reach, limit_of(workers.memory, 2, arrivals=1.25)) == (1, 2)


def test_without_a_verdict_five_minutes_count_as_a_gain() -> None:
    """Jobs are too rare for a verdict."""
    workers = Workers(slot_rate=0.01)
    workers.memory = GainMemory(template="one", jobs=100, first_ready=2, reach=2, free_rate=0.01, free_jobs=100)
    workers.run(4, 290)
    assert limit_of(workers.memory, 4, arrivals=0.0) == 4
    workers.run(4, 30)
    assert limit_of(workers.memory, 4, arrivals=0.0) == 8


def test_sessions_that_wait_for_locks_are_measured_at_fewer_workers_instead() -> None:
    """Growth was too quick for a window before it: nothing is there to compare with."""
    workers = Workers(slot_rate=2.0, most=16.0, has_lock_waits=True, probe=1.0)
    workers.run(1, 60)
    workers.memory = replace(workers.memory, window=None)
    workers.run(30, 60, until=is_frozen)
    trial = freeze_of(workers.memory)
    assert (trial.is_trial, trial.workers, limit_of(workers.memory, 30)) == (True, 20, 20)
    workers.run(20, 120, until=lambda memory: memory.freeze is None or not memory.freeze.is_trial)
    proven = freeze_of(workers.memory)
    assert (proven.fewer_workers, proven.more_workers, proven.is_trial) == (20, 30, False)


def test_growth_beyond_the_verified_count_is_one_step_at_a_time() -> None:
    workers = Workers(slot_rate=1.0)
    workers.run(4, 60)
    assert limit_of(workers.memory, 4, arrivals=0.0) == 8
    workers.step(8)
    assert limit_of(workers.memory, 8, arrivals=0.0) == 8, "the step to eight is under way"
    assert limit_of(workers.memory, 6, arrivals=0.0) == 6, "so is one to six"
    workers.run(8, 30)
    assert limit_of(workers.memory, 8, arrivals=0.0) == 16


def test_arrivals_alone_may_have_a_quarter_more_than_they_need_at_the_free_rate() -> None:
    workers = Workers(slot_rate=2.0)
    workers.run(4, 60)
    free = workers.memory.free_rate
    assert free == pytest.approx(2.0, rel=0.2)
    assert limit_of(workers.memory, 4, arrivals=80.0) == pytest.approx(1.25 * 80 / free, abs=1)


def test_nothing_is_limited_before_twenty_jobs_or_where_nothing_is_counted() -> None:
    few = Workers(slot_rate=0.1)
    few.run(1, 60)
    assert few.memory.jobs < 20
    assert limit_of(few.memory, 1) is None
    silent = Workers(counts=False)
    silent.run(5, 600)
    assert (limit_of(silent.memory, 5), silent.memory.counts_nothing) == (None, True)


def test_an_idle_queue_measures_nothing() -> None:
    workers = Workers(is_saturated=False)
    workers.run(5, 600)
    assert (workers.memory.window, workers.memory.verdicts) == (None, 0)


def false_freezes(seeds: range, **fields: float) -> list[int]:
    """Seeds of steps that were stopped: of 1 to 40 workers by 25 % to 300 %, that all do as much as each other."""
    found = []
    for seed in seeds:
        chance = random.Random(7 * seed + 1)
        fewer, factor = chance.choice([1, 2, 3, 5, 8, 12, 20, 40]), chance.choice([1.25, 1.5, 2, 2, 2, 3, 4])
        rate, probe = chance.choice([0.1, 0.3, 1, 1, 3, 10]), chance.choice([1.0, 1.0, 5.0])
        workers = Workers(seed=seed, slot_rate=rate, probe=probe, **fields)  # type: ignore[arg-type]
        workers.run(fewer, chance.uniform(10, 150))
        workers.run(max(fewer + 1, round(fewer * factor)), 300, until=is_decided)
        # Fewer workers are tried where nothing was measured before: that is no verdict.
        if workers.memory.freeze is not None and not workers.memory.freeze.is_trial:
            found.append(seed)
    return found


KINDS: dict[str, dict[str, object]] = {
    "poisson": {},
    "clumps": {"clump": 5.0},
    "large clumps": {"clump": 20.0},
    "failures": {"clump": 5.0, "failing": 0.3},
    "drift": {"drift": 0.1},
}


@pytest.mark.parametrize("kind", KINDS)
def test_workers_that_help_are_hardly_ever_stopped(kind: str) -> None:
    assert false_freezes(range(100), **KINDS[kind]) == []


@pytest.mark.long
@pytest.mark.timeout(600)
@pytest.mark.parametrize("kind", KINDS)
def test_one_false_freeze_in_a_thousand_steps_at_most(kind: str) -> None:
    assert len(false_freezes(range(1000), **KINDS[kind])) <= 1


def test_the_memory_of_a_new_pool_is_empty() -> None:
    assert GainMemory().waits.share("CPU") is None
    assert GainMemory() == GainMemory(waits=GainMemory().waits)
    assert NOWHERE.is_like(NOWHERE)
