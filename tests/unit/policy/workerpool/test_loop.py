"""The policy in a closed loop with a small world: it converges, keeps the deadline, does not flap, and goes down."""

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headroom.policy.workerpool import Rule
from tests.unit.policy.workerpool.make import make_spec, scaling_of, sizing_of
from tests.unit.policy.workerpool.world import World

SPEC = make_spec(max_workers=60, max_step=8)
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
    assert world.worst_lag(since=310) < 45
    assert world.worst_lag(since=450) < 5
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
