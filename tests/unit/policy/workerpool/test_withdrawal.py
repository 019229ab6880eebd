"""What a verdict of the effectiveness gate must not be: time instead of workers, untrue, or for good."""

from dataclasses import replace

import pytest

from headroom.model.waits import WaitSample
from headroom.policy.workerpool.freeze import follow_freeze
from headroom.policy.workerpool.gain import has_fallen, measure_gain, measure_recovery
from headroom.policy.workerpool.gain_memory import Freeze, GainFacts, GainMemory, GainRules, Lift, Phase
from headroom.policy.workerpool.gain_window import NOWHERE, GainWindow, Piece
from headroom.policy.workerpool.growth import find_growth_limit
from headroom.policy.workerpool.wait_tally import IDLE, WaitTally
from tests.unit.policy.workerpool.gains import BLOCKER, Workers, is_frozen
from tests.unit.policy.workerpool.test_effectiveness import freeze_of, frozen, held, limit_of


def window(workers: int, rate: float, *, at: float = 100.0, pieces: int = 20) -> GainWindow:
    made = GainWindow(workers, NOWHERE, 0.0)
    for index in range(pieces):
        made = made.add(at + 5 * (index + 1 - pieces), Piece(5.0, round(rate * 5), 0, 5.0 * workers))
    return made


def test_windows_far_apart_say_less_about_a_step() -> None:
    near, far = (measure_gain(window(11, 10.0, at=at), window(14, 9.2, at=1000.0)) for at in (900.0, 400.0))
    assert near is not None
    assert far is not None
    assert far.high - far.low > 1.5 * (near.high - near.low)
    assert far.below_linear < 4 < near.below_linear


def test_of_an_earlier_window_only_its_newest_part_is_compared() -> None:
    long = window(10, 20.0, pieces=60)
    assert (len(long.newest().pieces), long.newest().pieces[-1]) == (24, long.pieces[-1])
    assert len(window(10, 0.4, pieces=60).newest().pieces) == 60, "120 jobs are few"


@pytest.mark.parametrize(("middle", "recovers"), [(16.0, True), (11.7, False)], ids=["capped", "each worker helps"])
def test_slots_that_hold_each_other_up_do_more_beside_fewer(middle: float, *, recovers: bool) -> None:
    found = measure_recovery(window(22, middle, at=300.0), window(30, 16.0, at=200.0))
    assert found is not None
    assert (found > 2) is recovers
    assert (found < -2) is not recovers


def test_workers_that_do_less_than_fewer_did_have_become_slower() -> None:
    assert has_fallen(window(11, 10.0), window(12, 7.9))
    assert not has_fallen(window(11, 10.0), window(12, 9.8))


def test_a_verdict_that_time_explains_is_withdrawn_and_the_next_one_waits() -> None:
    """15 did 16 a second, then all became slower: 30 do as much, and 22 do less than the 15 did."""
    workers = frozen()
    workers.most, workers.slot_rate = 1000.0, 16 / 30
    workers.run(22, 60, until=lambda memory: memory.freeze is None)
    memory = workers.memory
    assert (memory.freeze, memory.lifted) == (None, Lift.SERVICE_SLOWED)
    assert memory.free_rate == pytest.approx(16 / 30, rel=0.15), "a free slot is slower now"
    assert (limit_of(memory, 22, arrivals=20.0) or 0) >= 30, "what was taken away comes back"
    workers.most = 16.0
    workers.run(30, 120)
    workers.run(60, 170)
    assert not is_frozen(workers.memory), "the next verdict waits for half an hour"


def test_sessions_that_wait_for_a_lock_are_believed_all_the_same() -> None:
    workers = frozen(probe=1.0)
    workers.most, workers.slot_rate = 1000.0, 16 / 30
    workers.run(22, 60, until=lambda memory: memory.freeze is None)
    workers.most, workers.has_lock_waits = 12.0, True
    workers.run(24, 60, until=is_frozen)
    workers.run(60, 120, until=is_frozen)
    assert is_frozen(workers.memory)


def tried(recovered: float) -> GainMemory:
    """26 did 10 a second and were tried with 17; the 17 now do so much a second, and the trial is over."""
    more, now = window(26, 10.0, at=100.0, pieces=8), 240.0
    trial = Freeze(17, 17, 10.0, 26, 10.0, 120.0, 400.0, 60.0, Phase.CONFIRMING, 120.0, is_trial=True, more=more)
    fewer = window(17, recovered, at=now, pieces=20)
    memory = GainMemory(freeze=trial, reach=13, gained=22, free_rate=1.0, free_jobs=1000.0, window=fewer)
    return follow_freeze(memory, GainFacts(at=now, ready=17), GainRules())


def test_a_trial_that_is_not_clear_is_no_reason_to_be_wary() -> None:
    """17 that do hardly less than 26 are held up by the others, or a little slower: that disproves nothing."""
    unclear, more = window(17, 9.2, at=240.0), window(26, 10.0, at=100.0, pieces=8)
    assert 0 < (measure_recovery(unclear, more) or 0.0) < 2
    memory = tried(9.2)
    assert (memory.freeze, memory.lifted, memory.mistakes) == (None, Lift.NOT_MEASURED, 0)
    assert memory.wary_until < 240, "the next verdict counts"
    disproved = tried(10.0 * 17 / 26)
    assert (disproved.freeze, disproved.lifted, disproved.mistakes) == (None, Lift.FEWER_DO_LESS, 1)


def test_a_race_is_confirmed_although_fewer_workers_were_better() -> None:
    """15 do 16/s, 30 do 8, and 22 do 11: less than the base did, but each more than beside 30."""
    base, more = window(15, 16.0, at=100.0), window(30, 8.0, at=200.0)
    recovery = measure_recovery(window(22, 11.0, at=300.0), more)
    assert has_fallen(base, window(22, 11.0, at=300.0))
    assert recovery is not None
    assert recovery > 2


@pytest.mark.parametrize("seed", [*range(3), *(pytest.param(seed, marks=pytest.mark.long) for seed in range(3, 20))])
def test_a_service_that_becomes_slower_by_itself_is_no_verdict(seed: int) -> None:
    """7 % slower each minute, 12 to 40 workers that are never enough: fewer may be looked at once, and it shows."""
    workers = Workers(seed=seed, slot_rate=1.0, fading=0.07, probe=1.0)
    workers.run(12, 120)
    assert look_at_steps(workers, (14, 17, 21, 26, 33, 40), 120) <= 1


def look_at_steps(workers: Workers, counts: tuple[int, ...], seconds: float) -> int:
    """How many of the steps were looked at again; each look must end."""
    begun = 0
    for count in counts:
        workers.run(count, seconds, until=is_frozen)
        if is_frozen(workers.memory):
            begun += 1
            workers.run(freeze_of(workers.memory).workers, 130, until=lambda memory: not is_frozen(memory))
        assert not is_frozen(workers.memory)
    return begun


@pytest.mark.parametrize("seed", [*range(3), *(pytest.param(seed, marks=pytest.mark.long) for seed in range(3, 20))])
def test_tenants_with_longer_jobs_are_no_freeze_that_stays(seed: int) -> None:
    workers = Workers(seed=seed, slot_rate=3.0, has_blocks=True, probe=1.0)
    assert look_at_steps(workers, (8, 10, 14, 20, 28, 40), 150) <= 1


def test_slots_of_a_verified_count_that_are_far_slower_are_the_new_free_ones() -> None:
    workers = Workers(slot_rate=3.0, probe=1.0)
    workers.run(20, 60)
    workers.slot_rate = 0.4
    workers.run(20, 30)
    assert workers.memory.free_rate == pytest.approx(0.4, rel=0.2)


def test_an_old_free_rate_limits_less_but_not_beside_a_lock() -> None:
    memory = GainMemory(free_rate=1.0, free_at=0.0)
    assert memory.believe_rate(150.0) == 1.0
    assert memory.believe_rate(180.0 + 600.0) == pytest.approx(0.45, abs=0.01), "8 % a minute"
    assert replace(memory, locked_at=9_500.0).believe_rate(10_000.0) == 1.0


def test_a_freeze_is_judged_at_the_count_that_is_really_there() -> None:
    """paused: Down keeps 30 although 22 are allowed; then the lock is gone."""
    workers = frozen(wanted=60)
    workers.run(30, 200)
    assert (freeze_of(workers.memory).phase, freeze_of(workers.memory).reference_workers) == (Phase.HOLDING, 30)
    workers.most = 60.0
    seconds = workers.run(30, 120, until=lambda memory: memory.freeze is None)
    assert workers.memory.lifted is Lift.THROUGHPUT
    assert seconds <= 60


def test_nothing_is_tried_while_the_workers_of_the_verdict_are_still_there() -> None:
    workers = frozen(wanted=60)
    workers.run(30, 900)
    assert freeze_of(workers.memory).phase is Phase.HOLDING
    assert freeze_of(workers.memory).pause_seconds == 60, "no try has failed"


def test_a_try_is_counted_when_it_begins() -> None:
    """Another leader would else try at once again."""
    workers = held()
    workers.run(22, 120, until=lambda memory: freeze_of(memory).phase is Phase.RETRYING)
    freeze = freeze_of(workers.memory)
    assert (freeze.pause_seconds, freeze.retry_at) == (120, workers.now + 120)
    assert (freeze.tried_from, freeze.tried, freeze.allowed) == (22, 30, 30)


def trial() -> Workers:
    workers = Workers(slot_rate=2.0, most=16.0, has_lock_waits=True, probe=1.0)
    workers.run(1, 60)
    workers.memory = replace(workers.memory, window=None)
    workers.run(30, 60, until=is_frozen)
    assert freeze_of(workers.memory).is_trial
    return workers


def test_a_trial_that_cannot_take_workers_away_shows_nothing_and_comes_again_later() -> None:
    workers = trial()
    began = workers.now
    workers.run(30, 130, until=lambda memory: memory.freeze is None)
    memory = workers.memory
    assert (memory.lifted, memory.gained) == (Lift.NOT_MEASURED, 0)
    assert (limit_of(memory, 30, arrivals=1.0) or 0) <= 30, "no growth"
    workers.run(30, 300, until=is_frozen)
    assert is_frozen(workers.memory)
    workers.run(30, 130, until=lambda memory: memory.freeze is None)
    again = workers.now
    assert workers.run(30, 600, until=is_frozen) > 60, "the pause doubles"
    assert again - began < 400


def test_without_a_lock_slots_must_have_been_slower_for_a_while() -> None:
    workers = Workers(slot_rate=2.0, most=16.0, probe=1.0)
    workers.run(1, 60)
    workers.memory = replace(workers.memory, window=None)
    seconds = workers.run(30, 200, until=is_frozen)
    assert freeze_of(workers.memory).is_trial
    assert 45 <= seconds <= 120


def test_a_rollout_that_does_not_end_keeps_the_limits_of_the_old_pods() -> None:
    workers = Workers(slot_rate=2.0, most=16.0, probe=1.0)
    workers.run(8, 60)
    before = limit_of(workers.memory, 8)
    workers.template, workers.is_updating = "two", True
    workers.run(16, 300)
    assert limit_of(workers.memory, 16) == before
    assert workers.memory.window is None
    workers.run(16, 400)
    assert workers.memory.window is not None, "after ten minutes it is measured as it is"
    workers.is_updating = False
    workers.step(16)
    assert (workers.memory.reach, workers.memory.free_rate) == (0, None), "the new pods are measured anew"


def test_a_new_template_lifts_a_freeze_although_its_rollout_has_only_begun() -> None:
    workers = held()
    workers.template, workers.is_updating = "two", True
    workers.step(22)
    assert (workers.memory.freeze, workers.memory.lifted) == (None, Lift.TEMPLATE)
    assert limit_of(workers.memory, 15, arrivals=0.0) == 30
    workers.is_updating = False
    workers.step(22)
    assert (workers.memory.reach, workers.memory.lifted) == (15, Lift.TEMPLATE)


@pytest.mark.parametrize(
    ("samples", "cause"),
    [
        ([(("CPU", 1),)] + [()] * 9, None),
        ([(("CPU", 1),), ()] * 20, IDLE),
        ([(("Client:ClientRead", 30), ("CPU", 1))] * 20, IDLE),
        ([(("CPU", 25), ("IO:DataFileRead", 5))] * 20, "CPU"),
        ([(("CPU", 5), ("Lock:transactionid", 25))] * 5, "Lock:transactionid"),
        ([(("CPU", 1), ("Lock:transactionid", 1))] * 2, None),
    ],
    ids=["few", "seldom busy", "open transactions", "processors", "lock", "two sightings"],
)
def test_a_cause_is_named_only_once_it_is_known(samples: list[tuple[tuple[str, int], ...]], cause: str | None) -> None:
    tally = WaitTally()
    for events in samples:
        tally = tally.add(WaitSample(events))
    assert tally.find_cause(30) == cause


def test_a_cause_that_shows_later_is_named_later() -> None:
    workers = held(wanted=22, probe=1.0)
    assert freeze_of(workers.memory).wait is None
    workers.has_lock_waits = True
    workers.run(22, 60)
    freeze = freeze_of(workers.memory)
    assert (freeze.wait, freeze.statement) == ("Lock:transactionid", BLOCKER.statement)


def test_the_held_workers_do_not_show_what_limits_more_of_them() -> None:
    """22 are busy all the time; only beside 30 do they wait for the lock."""
    workers = held(wanted=22, probe=1.0)
    workers._waits = lambda count: WaitSample((("CPU", count),))  # type: ignore[method-assign]
    workers.run(22, 60)
    assert freeze_of(workers.memory).wait is None
    workers._waits = lambda count: WaitSample((("CPU", 15), ("Lock:transactionid", 15)), BLOCKER)  # type: ignore[method-assign]
    workers.run(22, 30)
    assert freeze_of(workers.memory).wait == "Lock:transactionid"


def grow_without_counts(growth: dict[int, float], seconds: float) -> list[int]:
    """Counts of a pool that wants any number of workers, whose backlog grows as said beside each count."""
    workers = Workers(counts=False, probe=1.0)
    counts, count = [12], 12
    began = workers.now
    while workers.now - began < seconds:
        workers.backlog_growth = growth[min(growth, key=lambda known: abs(known - count))]
        workers.step(count)
        limit = find_growth_limit(
            workers.memory, present=count, arrivals_per_second=0.0, steady_workers=0, concurrency=1
        )
        count = max(count, min(100, 100 if limit is None else limit.workers))
        counts.append(count)
    return counts


def test_two_numbers_tell_by_the_backlog_whether_workers_help() -> None:
    """25/s arrive: 12 workers do 12, 24 and more do 20, so that 48 are as late as 24."""
    counts = grow_without_counts({12: 13.0, 24: 5.0, 48: 5.0, 96: 5.0}, 330)
    assert max(counts) == 48
    assert counts[30] == 24


def test_a_queue_that_is_too_slow_to_be_measured_is_not_limited() -> None:
    assert max(grow_without_counts({12: 0.5, 100: 0.5}, 30)) == 100
