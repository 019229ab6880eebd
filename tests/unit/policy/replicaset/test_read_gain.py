"""Replicas that share a limit add no reads: growth for the average stops, and is named; chance alone stops nothing."""

import random
from collections.abc import Callable
from dataclasses import replace

import pytest

from headroom.policy.replicaset.autoscaling import Goal, Past, Recommendation, Sizes, decide_by_signals
from headroom.policy.replicaset.growth import RETRY_SECONDS, Connections
from headroom.policy.replicaset.read_gain import COMPARED_SECONDS, MOST_PAUSE_SECONDS, Hold, ReadGain
from headroom.policy.replicaset.read_rate import LEAST_RATE, Counter, measure_reads
from headroom.reasons import Reason
from tests.unit.policy.replicaset.test_autoscaling import scaling

TARGET = 0.7
SCALING = scaling(maxReplicas=32)
BUSY, IDLE = 0.74, 0.3
"""Shares of the connections: above the target, but within the tolerance of 10 %; and far below it."""
ABOVE = 0.8


def shares(limit: float) -> Callable[[int], float]:
    """All replicas together do no more than this, and hardly more with each other one."""
    return lambda count: limit + 5 * (count - 2)


def level(rate: float) -> Callable[[int], float]:
    """All replicas together do just so much."""
    return lambda _count: rate


def alone(rate: float) -> Callable[[int], float]:
    """Each replica does so much, whoever is beside it."""
    return lambda count: rate * count


class Readers:
    """Replicas of 100 connections each, and one pass after another; `reads` is the rate of so many replicas."""

    def __init__(
        self, count: int, reads: Callable[[int], float], *, seed: int | None = None, step: float = 2.0
    ) -> None:
        self.reads, self.step, self.now = reads, step, 100_000.0
        self.dispersion = 1.0
        self.random = random.Random(seed) if seed is not None else None
        self.used, self.active = BUSY, 0.9
        self.spread: tuple[float, ...] = ()
        self.counters = dict.fromkeys(range(count), 1_000_000.0)
        self.made = self.desired = count
        self.gain = ReadGain()
        self.is_read = True
        self.verdicts: list[bool | None] = []
        self.goal = Goal(count, count, "", Reason.WITHIN_TOLERANCE, "")

    def grow(self, count: int = 1) -> "Readers":
        for _ in range(count):
            self.counters[self.made] = 0.0
            self.made += 1
        self.desired = len(self.counters)
        return self

    def shrink(self) -> "Readers":
        del self.counters[max(self.counters)]
        self.desired = len(self.counters)
        return self

    def run(self, seconds: float) -> "Readers":
        for _ in range(round(seconds / self.step)):
            self.one_pass()
        return self

    def one_pass(self) -> None:
        self.now += self.step
        mean = self.reads(len(self.counters)) * self.step / len(self.counters)
        for name in self.counters:
            chance = self.random.gauss(0, (self.dispersion * mean) ** 0.5) if self.random is not None else 0.0
            self.counters[name] += max(mean + chance, 0.0)
        readings = [self._read(index, name) for index, name in enumerate(self.counters)]
        names = [f"store-{name}" for name in self.counters]
        self.gain = self.gain.observe(readings, names, TARGET, self.now, desired=self.desired)
        sizes = Sizes(self.desired, len(self.counters), 0)
        past = Past((Recommendation(0.0, 1),), reads=self.gain)
        self.goal = decide_by_signals(SCALING, sizes, readings, past, self.now)
        self.verdicts.append(self.gain.has_gained)

    def _read(self, index: int, name: int) -> Connections | None:
        if not self.is_read and index == 0:
            return None
        used = self.spread[index] if self.spread else self.used
        sessions = round(100 * used)
        counter = Counter(int(self.counters[name]), self.now)
        return Connections(sessions, round(self.active * sessions), 100, f"store-{name}", counter=counter)


def stop(reads: Callable[[int], float] | None = None) -> Readers:
    """Two, three and four replicas that share a limit, each for 80 s under load."""
    return Readers(2, reads or shares(500)).run(80).grow().run(80).grow().run(80)


def test_two_steps_without_a_gain_stop_growth_and_are_named_with_their_numbers() -> None:
    readers = stop()
    readers.used = ABOVE
    goal = readers.run(2).goal
    assert goal.desired == 4
    assert goal.reason is Reason.NO_GAIN_FROM_MORE_REPLICAS
    said = (
        "reads stay at 510/s: 500/s on 2, 505/s on 3, 510/s on 4; the replicas share a limit: look at their disk, the "
        "CPU of their nodes and the network"
    )
    assert goal.no_gain == said
    assert goal.message == f"{said}; 320 sessions on 4 replicas, 80% of 400, target 70%"


def test_one_step_without_a_gain_stops_nothing() -> None:
    readers = Readers(2, shares(500)).run(80).grow().run(80)
    assert readers.gain.has_gained is False
    readers.used = ABOVE
    assert readers.run(2).goal.desired == 4
    assert not readers.goal.no_gain


def test_replicas_that_share_nothing_grow_on() -> None:
    readers = Readers(2, alone(250)).run(80)
    for _ in range(4):
        readers.grow().run(80)
        assert readers.gain.has_gained is True
    readers.used = ABOVE
    assert readers.run(2).goal.desired == 7


def test_a_step_with_a_gain_between_two_without_begins_the_count_again() -> None:
    rates = {2: 500.0, 3: 505.0, 4: 650.0, 5: 655.0}
    readers = Readers(2, lambda count: rates[count]).run(80)
    for _ in range(3):
        readers.grow().run(80)
    assert readers.gain.hold is None
    assert readers.gain.has_gained is False


def test_reads_that_fall_with_more_replicas_are_no_gain() -> None:
    hold = stop(lambda count: 700 - 50 * count).gain.hold
    assert hold is not None
    assert hold.measured == ((2, 600), (3, 550), (4, 500))


@pytest.mark.parametrize(("count", "stopped"), [(5, 7), (7, 9), (10, 13)])
def test_of_many_replicas_several_steps_together_are_judged(count: int, stopped: int) -> None:
    readers = Readers(count, shares(3000)).run(80)
    while readers.gain.hold is None:
        readers.grow().run(80)
    assert readers.gain.hold.count == stopped


def test_a_step_that_connections_ask_for_meanwhile_moves_no_try() -> None:
    readers = stop()
    before = readers.gain.hold
    after = readers.grow().run(80).gain.hold
    assert before is not None
    assert after == Hold(((3, 505), (4, 510), (5, 515)), before.retry_at, RETRY_SECONDS)


@pytest.mark.parametrize(
    ("used", "active"), [(IDLE, 0.9), (BUSY, 0.2)], ids=["sessions below the target", "sessions that idle"]
)
def test_an_idle_load_is_no_verdict(used: float, active: float) -> None:
    readers = Readers(2, shares(500))
    readers.used, readers.active = used, active
    readers.run(80).grow().run(80).grow().run(80)
    assert set(readers.verdicts) == {None}


def test_a_load_that_falls_when_a_replica_comes_is_no_verdict() -> None:
    readers = Readers(2, shares(500)).run(80).grow()
    readers.used = IDLE
    assert set(readers.run(80).grow().run(80).verdicts) == {None}


def test_as_many_sessions_at_work_as_before_ask_for_no_more_reads() -> None:
    """Sessions that idle were added: what was asked for is answered, and by replicas with less to do."""
    readers = Readers(2, lambda _count: 500.0).run(80).grow()
    readers.active = 0.9 * 2 / 3
    assert set(readers.run(80).verdicts) == {None}


def test_a_replica_without_its_share_of_the_sessions_is_no_verdict() -> None:
    readers = Readers(2, shares(500)).run(80).grow()
    readers.spread = (0.99, 0.99, 0.3)
    assert set(readers.run(80).verdicts) == {None}


def test_reads_too_rare_to_be_told_from_our_probes_are_no_verdict() -> None:
    readers = Readers(2, lambda _count: 2 * LEAST_RATE * 0.9).run(80).grow().run(80).grow().run(80)
    assert set(readers.verdicts) == {None}


def test_a_replica_that_reads_its_caches_first_is_not_judged_by_that() -> None:
    readers = Readers(2, alone(250)).run(80)
    readers.reads = level(480)
    readers.grow().run(28)
    readers.reads = alone(250)
    assert False not in readers.run(80).verdicts


def test_after_ten_minutes_without_a_measured_load_nothing_is_compared() -> None:
    readers = Readers(2, shares(500)).run(80).grow()
    readers.is_read = False
    readers.run(COMPARED_SECONDS)
    readers.is_read = True
    assert set(readers.run(80).verdicts) == {None}


def test_reads_that_change_long_after_a_step_say_nothing_of_it() -> None:
    readers = Readers(2, alone(250)).run(80).grow().run(COMPARED_SECONDS + 100)
    readers.reads = shares(500)
    assert False not in readers.run(COMPARED_SECONDS).verdicts


def test_a_reading_that_is_missing_measures_nothing_and_forgets_nothing() -> None:
    readers = stop()
    before = readers.gain
    readers.is_read = False
    readers.used = ABOVE
    readers.run(30)
    assert readers.gain == replace(before, rate=None)
    assert readers.goal.desired == 4
    assert readers.goal.no_gain


def test_a_counter_that_goes_back_is_no_rate() -> None:
    readers = Readers(2, alone(250)).run(20)
    assert readers.gain.rate == pytest.approx(500)
    readers.counters[0] = 0.0
    readers.run(2)
    assert readers.gain.rate is None
    assert readers.run(2).gain.rate == pytest.approx(500)


def test_counters_are_compared_over_the_same_replicas_and_a_short_time() -> None:
    before = {"a": Counter(100, 1.0), "b": Counter(1000, 1.0)}
    piece = measure_reads(before, {"a": Counter(150, 2.0), "b": Counter(1150, 2.0)}, 7)
    assert piece is not None
    assert (piece.rate, piece.active_seconds) == (200.0, 7.0)
    assert measure_reads(before, {"a": Counter(150, 2.0)}, 7) is None
    assert measure_reads(before, {"a": Counter(150, 12.0), "b": Counter(1150, 12.0)}, 7) is None
    assert measure_reads(before, {"a": Counter(150, 2.0), "b": Counter(999, 2.0)}, 7) is None
    assert measure_reads(before, before, 7) is None
    assert measure_reads({}, {}, 7) is None


def test_one_that_runs_out_of_connections_is_given_another_and_the_limit_is_still_named() -> None:
    readers = stop()
    readers.used = 0.9
    goal = readers.run(2).goal
    assert goal.desired == 6
    assert goal.no_gain.startswith("reads stay at 510/s: ")
    assert goal.no_gain.endswith("; one is at 90% of its connections, so more are added for those")


def test_it_is_lifted_when_the_same_replicas_read_a_quarter_more() -> None:
    readers = stop()
    readers.reads = lambda _count: 510 * 1.2
    assert readers.run(90).gain.hold is not None
    readers.reads = lambda _count: 510 * 1.3
    assert readers.run(90).gain.hold is None
    readers.used = ABOVE
    assert readers.run(2).goal.desired == 5


def test_it_is_lifted_when_fewer_are_wanted() -> None:
    readers = stop().shrink().run(2)
    assert readers.gain.hold is None
    assert not readers.goal.no_gain


def test_it_is_lifted_when_the_load_has_not_pressed_for_ten_minutes() -> None:
    readers = stop()
    readers.used = 0.65
    assert readers.run(COMPARED_SECONDS - 10).gain.hold is not None
    assert readers.run(20).gain.hold is None


def test_one_more_is_tried_after_an_hour_and_the_next_after_two() -> None:
    readers = stop(shares(2000))
    began = readers.now
    readers.used = ABOVE
    readers.step = 10.0
    while readers.goal.desired == 4:
        readers.run(10)
    assert readers.now - began == pytest.approx(RETRY_SECONDS, abs=60)
    assert readers.goal.desired == 5, "not as many as the sessions ask for"
    readers.grow().run(90)
    hold = readers.gain.hold
    assert hold is not None
    assert hold.measured == ((3, 2005), (4, 2010), (5, 2015))
    assert hold.pause_seconds == 2 * RETRY_SECONDS
    assert readers.goal.desired == 5
    for pause in (4, 8, 16, 24, 24):
        readers.run(hold.retry_at - readers.now + 10)
        while readers.goal.desired > readers.desired:
            readers.grow(readers.goal.desired - readers.desired).run(90)
        assert readers.gain.hold is not None
        hold = readers.gain.hold
        assert hold.pause_seconds == pause * RETRY_SECONDS
    assert hold.count == 12, "two at a time where one more of many could not be judged"
    assert hold.pause_seconds == MOST_PAUSE_SECONDS


def test_a_try_that_gains_goes_on() -> None:
    readers = stop()
    readers.step = 10.0
    readers.run(RETRY_SECONDS)
    readers.reads = lambda count: 510.0 if count == 4 else 640.0
    assert readers.grow().run(90).gain.hold is None


def test_a_try_without_a_verdict_counts_as_a_gain_after_ten_minutes() -> None:
    readers = stop()
    readers.step = 10.0
    readers.run(RETRY_SECONDS).grow()
    readers.spread = (0.99, 0.99, 0.99, 0.99, 0.3)
    assert readers.run(COMPARED_SECONDS - 20).gain.hold is not None
    assert readers.run(30).gain.hold is None


STEPS_TRIED = 1000


def test_chance_alone_stops_nothing() -> None:
    """Seeded steps of replicas that share nothing, with Poisson-like reads that clump by up to five."""
    false = decided = 0
    for seed in range(STEPS_TRIED):
        chance = random.Random(seed)
        rate = 10 ** chance.uniform(1.75, 3.5)
        readers = Readers(chance.randint(1, 6), alone(rate), seed=seed, step=3.0)
        readers.dispersion = chance.uniform(1, 5)
        verdicts = readers.run(70).grow().run(70).verdicts
        false += False in verdicts
        decided += True in verdicts
    print(f"{false} false verdicts in {STEPS_TRIED} steps, {decided} gains seen")
    assert false <= 1
    assert decided >= 0.9 * STEPS_TRIED


def test_a_shared_limit_is_found_through_the_same_chance() -> None:
    found, tries = 0, 200
    for seed in range(tries):
        chance = random.Random(seed)
        count, rate = chance.randint(1, 4), 10 ** chance.uniform(2.75, 3.5)
        readers = Readers(count, level(rate), seed=seed, step=3.0)
        readers.dispersion = chance.uniform(1, 5)
        found += readers.run(80).grow().run(80).grow().run(80).gain.hold is not None
    print(f"{found} limits found in {tries}")
    assert found >= 0.95 * tries
