"""The policy in a closed loop with a small world: it converges, keeps the deadline, does not flap, and goes down."""

from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headroom.model.queue import QueueSample
from headroom.policy.workerpool import PoolMemory, Rule
from tests.unit.policy.workerpool.make import make_spec, scaling_of, sizing_of
from tests.unit.policy.workerpool.world import World

SPEC = make_spec(max_workers=60, max_step=8, effectiveness={"enabled": False})
"""The formulas and the steps alone: whether more workers do more is measured in loops of its own."""
TARGET_LAG, DOWN_WINDOW = 30.0, 300.0


def changes(counts: list[int]) -> list[int]:
    return [after - before for before, after in pairwise(counts) if after != before]


def test_a_steady_load_is_met_and_stays_met() -> None:
    world = World(lambda _: 20.0, 0.25, SPEC, seed=3)
    world.run(900)
    assert world.worst_lag(since=120) < 5
    assert 6 <= world.present <= 12  # 20/s at 4/s a slot is 5 busy slots; with room for variance 7.2


def test_a_step_of_load_never_passes_the_target_for_long_and_workers_go_again() -> None:
    world = World(lambda at: 60.0 if 300 <= at < 900 else 5.0, 0.25, SPEC, seed=4)
    world.run(300)
    before = world.present
    world.run(600)
    assert world.worst_lag(since=310) < TARGET_LAG
    assert world.worst_lag(since=750) < 5, "a level that lasts for five minutes gets the workers of a steady load"
    world.run(900)
    assert world.present <= before + 2


def test_a_backlog_is_gone_by_its_deadline() -> None:
    world = World(lambda _: 5.0, 0.25, SPEC, seed=5)
    world.run(200)
    world.arrive(4000)
    world.run(300 + 60)
    assert world.lag() < TARGET_LAG
    assert world.worst_lag(since=200) > TARGET_LAG


def test_the_ceiling_is_respected_and_named() -> None:
    world = World(lambda _: 60.0, 0.25, make_spec(max_workers=6), seed=6)
    world.run(120)
    _, _, present, _, decision = world.timeline[-1]
    assert (present, scaling_of(decision).limit) == (6, Rule.MAX_WORKERS)


@settings(max_examples=8)
@given(st.floats(0.5, 40), st.integers(1, 10**6))
def test_no_flapping_a_rise_is_not_taken_back_within_a_window(rate: float, seed: int) -> None:
    world = World(lambda _: rate, 0.25, SPEC, seed=seed)
    world.run(600)
    rises = [at for (_, _, a, _, _), (at, _, b, _, _) in pairwise(world.timeline) if b > a]
    falls = [at for (_, _, a, _, _), (at, _, b, _, _) in pairwise(world.timeline) if b < a]
    assert not [fall for fall in falls if any(0 < fall - rise < DOWN_WINDOW for rise in rises)]


def test_a_blind_time_changes_nothing_and_it_goes_on_afterwards() -> None:
    world = World(lambda _: 20.0, 0.25, SPEC, seed=8, is_blind=lambda at: 200 <= at < 500)
    world.run(200)
    before = world.present
    world.run(300)
    assert world.present == before
    world.run(60)
    assert scaling_of(world.timeline[-1][4]).limit is not Rule.STALE_SIGNAL


def test_failing_jobs_stop_growth() -> None:
    world = World(lambda _: 40.0, 0.25, SPEC, seed=9, can_fail=True)
    world.run(300)
    assert world.present < 10
    assert scaling_of(world.timeline[-1][4]).limit is Rule.JOBS_FAILING


def test_a_scaled_to_zero_pool_comes_back() -> None:
    spec = make_spec(min_workers=0, max_workers=10)
    world = World(lambda at: 0.0 if 60 <= at < 800 else 2.0, 0.25, spec, seed=10)
    world.run(790)
    assert world.present == 0
    world.run(200)
    assert world.present >= 1
    assert world.worst_lag(since=900) < 10


@pytest.mark.parametrize("lead", [3.0, 30.0])
def test_unknown_service_times_are_learned(lead: float) -> None:
    world = World(lambda _: 3.0, 2.0, SPEC, seed=11, lead_seconds=lead)
    world.run(900)
    assert world.worst_lag(since=600) < TARGET_LAG
    _, _, _, _, decision = world.timeline[-1]
    assert sizing_of(decision).estimates.service_rate == pytest.approx(0.5, rel=0.3)


def test_growth_comes_in_bounded_steps() -> None:
    world = World(lambda _: 60.0, 0.25, SPEC, seed=12)
    world.run(120)
    assert max(changes(world.counts())) <= 8


def test_long_jobs_of_which_nothing_is_known_get_their_workers() -> None:
    """Jobs of 3 min, one in 10 s: 18 are in work at a time, and the first 20 have ended after a quarter of an hour."""
    world = World(lambda _: 0.1, 180.0, SPEC, seed=13, lead_seconds=5.0)
    world.run(1500)
    assert max(world.counts()) <= 40
    assert world.worst_lag() < 150
    assert world.worst_lag(since=600) < TARGET_LAG + 10


@pytest.mark.parametrize("has_ends", [True, False])
def test_a_queue_that_tells_only_its_lag_and_its_backlog_is_followed_up_and_down(has_ends: bool) -> None:
    """Jobs of a second; without anything to tell what is in work, and with or without a count of ends."""

    class Terse(World):
        def sample(self) -> QueueSample:
            told = super().sample()
            return replace(
                told, late=0, in_flight=None, arrived=None, failed=None, ended=told.ended if has_ends else None
            )

    world = Terse(lambda at: 20.0 if 100 <= at < 700 else 2.0, 1.0, SPEC, seed=14)
    world.run(700)
    assert world.present >= 20
    assert world.worst_lag(since=400) < TARGET_LAG
    world.run(2400)
    assert 2 <= world.present <= 8
    assert world.worst_lag(since=800) < TARGET_LAG + 10, "one worker too few is a try, and it is taken back at once"


@pytest.mark.parametrize("rate", [1 / 3600, 0.002, 50.0])
def test_a_wrong_rate_is_replaced_by_the_first_jobs(rate: float) -> None:
    """Twelve jobs a second of one second each; an hour was expected, or a stall remembered, or hardly any time."""
    world = World(lambda _: 12.0, 1.0, SPEC, seed=15, memory=PoolMemory(last_good_rate=rate))
    world.run(600)
    assert max(world.counts()) <= 20
    assert world.worst_lag() < TARGET_LAG + 10
    assert sizing_of(world.timeline[-1][4]).estimates.service_rate == pytest.approx(1.0, rel=0.2)
