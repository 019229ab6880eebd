"""What lag and backlog tell of a queue that counts nothing, and the growth that is stopped by it."""

import random
from collections.abc import Callable

import pytest

from headroom.model.queue import QueueSample
from headroom.policy.workerpool.gain_memory import Freeze, GainMemory, Phase
from headroom.policy.workerpool.passing import estimate_passing
from headroom.policy.workerpool.window import Observation
from tests.unit.policy.workerpool.gains import is_decided, is_frozen
from tests.unit.policy.workerpool.lines import TwoNumbers

Numbers = Callable[[float], tuple[float, float]]


def observe(tell: Numbers, *, seconds: int = 60, every: float = 1.0) -> list[Observation]:
    """Samples of lag and backlog at each second of a minute; `tell` gives them by the seconds since its begin."""
    samples = []
    for index in range(int(seconds / every) + 1):
        lag, backlog = tell(index * every)
        samples.append(Observation(QueueSample(1000 + index * every, lag, round(backlog)), 10))
    return samples


def grow(arrivals: float, taken: float, lag: float = 20.0) -> Numbers:
    """A queue in order: its lag grows by the share of the arrivals that is not taken."""
    return lambda at: (lag + at * (1 - taken / arrivals), arrivals * lag + at * (arrivals - taken))


@pytest.mark.parametrize(("arrivals", "taken"), [(20.0, 16.0), (25.0, 5.0), (20.0, 30.0), (200.0, 100.0)])
@pytest.mark.parametrize("every", [1.0, 5.0])
def test_lag_and_backlog_tell_what_arrives_and_what_is_taken(arrivals: float, taken: float, every: float) -> None:
    found = estimate_passing(observe(grow(arrivals, taken, lag=60.0), every=every))
    assert found is not None
    assert found.arrivals_per_second == pytest.approx(arrivals, rel=0.01)
    assert found.taken == pytest.approx(taken * every, abs=1)


@pytest.mark.parametrize(
    "tell",
    [
        lambda at: (20.0 + at * 0.5, 90 + at * 0.1),
        lambda at: (4.0, 400.0),
        lambda at: (20.0 + at, 500 + 10 * at),
        lambda at: (20.0 + at * 0.5, 500 + at * 12.5 + (3000 if at > 30 else 0)),
        lambda at: (400.0 - 5 * at, 4000 + 10 * at),
    ],
    ids=["a small backlog", "a short lag", "last in, first out", "a bulk", "an old item is passed over"],
)
def test_a_queue_that_they_do_not_fit_tells_nothing(tell: Numbers) -> None:
    assert estimate_passing(observe(tell)) is None


def test_one_sample_tells_nothing() -> None:
    assert estimate_passing(observe(grow(20.0, 10.0), seconds=0)) is None
    assert estimate_passing([]) is None


def freeze_of(memory: GainMemory) -> Freeze:
    assert memory.freeze is not None
    return memory.freeze


def is_judged(memory: GainMemory) -> bool:
    return memory.freeze is None or memory.freeze.phase is not Phase.CONFIRMING


@pytest.mark.parametrize("seed", range(5))
def test_growth_without_gain_is_stopped_and_half_a_step_back_confirms_it(seed: int) -> None:
    """A lock caps the throughput at 80/s, 100/s arrive."""
    queue = TwoNumbers(seed=seed, slot_rate=1.0, most=80.0, arrivals=100.0)
    queue.run(100, 60)
    queue.run(200, 180, until=is_frozen)
    stopped = freeze_of(queue.gain)
    assert (stopped.is_trial, stopped.fewer_workers, stopped.more_workers, stopped.allowed) == (False, 100, 200, 150)
    assert (stopped.fewer_rate, stopped.more_rate) == (pytest.approx(80, rel=0.1), pytest.approx(80, rel=0.1))
    queue.run(150, 300, until=is_judged)
    assert freeze_of(queue.gain).phase is Phase.HOLDING


def test_most_races_of_few_jobs_are_stopped_at_the_first_step() -> None:
    """16/s of 20/s: the arrivals of a minute are known to a tenth, so that some steps look like a small gain."""
    stopped = 0
    for seed in range(10):
        queue = TwoNumbers(seed=seed, slot_rate=1.0, most=16.0, arrivals=20.0)
        queue.run(20, 120)
        queue.run(40, 300, until=is_decided)
        stopped += is_frozen(queue.gain)
    assert stopped >= 6


def test_workers_that_help_are_a_gain() -> None:
    queue = TwoNumbers(slot_rate=1.0, arrivals=40.0)
    queue.run(10, 60)
    queue.run(20, 180, until=is_decided)
    assert (queue.gain.freeze, queue.gain.gained) == (None, 20)


def test_a_queue_with_another_order_is_not_judged() -> None:
    """The newest are taken first, and what is urgent is all that is taken: no word of a gain, and none of a race."""
    queue = TwoNumbers(slot_rate=1.0, most=10.0, arrivals=30.0, urgent=0.5)
    queue.run(10, 60)
    queue.run(20, 300)
    assert queue.gain.counts_nothing
    assert (queue.gain.freeze, queue.gain.verdicts) == (None, 0)


def false_stops(seeds: range, **fields: float) -> list[int]:
    """Seeds of steps that were stopped: of 1 to 40 workers by 25 % to 300 %, that all do as much as each other."""
    found = []
    for seed in seeds:
        chance = random.Random(7 * seed + 1)
        fewer, factor = chance.choice([1, 2, 3, 5, 8, 12, 20, 40]), chance.choice([1.25, 1.5, 2, 2, 2, 3, 4])
        rate, probe = chance.choice([0.1, 0.3, 1, 1, 3, 10]), chance.choice([1.0, 1.0, 1.0, 5.0])
        arrivals = max(1.1 * fewer * rate, min(fewer * rate * chance.choice([1.2, 1.5, 2, 3, 5, 10]), 150.0))
        queue = TwoNumbers(seed=seed, slot_rate=rate, probe=probe, arrivals=arrivals, **fields)
        queue.run(fewer, chance.uniform(20, 200))
        queue.run(max(fewer + 1, round(fewer * factor)), 300, until=is_decided)
        freeze = queue.gain.freeze
        # Fewer workers are tried where nothing was measured before: that is no verdict.
        if freeze is not None and not freeze.is_trial:
            found.append(seed)
    return found


KINDS: dict[str, dict[str, float]] = {
    "poisson": {},
    "clumps": {"clump": 5.0},
    "large clumps": {"clump": 20.0},
    "drift": {"drift": 0.1},
    "arrivals rise": {"trend": 0.1},
    "arrivals fall": {"trend": -0.1},
    "half is urgent": {"urgent": 0.5},
}


@pytest.mark.parametrize("kind", KINDS)
def test_workers_that_help_are_hardly_ever_stopped(kind: str) -> None:
    assert false_stops(range(5), **KINDS[kind]) == []


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_one_false_stop_in_a_thousand_steps_at_most() -> None:
    """150 of each kind."""
    assert sum(len(false_stops(range(150), **fields)) for fields in KINDS.values()) <= 1
