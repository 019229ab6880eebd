"""What holds for every load over time: bounds, no flapping within a window, Unknown holds, steps are limited."""

from dataclasses import replace
from itertools import pairwise
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headroom.model.conditions import Finding
from headroom.policy.workerpool import PoolFacts
from headroom.reasons import Reason
from headroom.simulation.run import headroom_for, make_world, play
from headroom.simulation.scalers import Headroom
from headroom.simulation.shapes import Batch, Counting, Shape
from headroom.simulation.world import World
from tests.unit.simulation.make import make_case, make_shape

WINDOW = 300.0
GAP = Finding(Reason.QUERY_TIMEOUT, "the probe timed out")

shapes = st.builds(
    make_shape,
    rate=st.sampled_from([0.02, 0.5, 3.0, 15.0]),
    job_seconds=st.sampled_from([0.2, 1.0, 20.0]),
    batches=st.lists(
        st.builds(
            Batch, st.sampled_from([200.0, 450.0, 900.0]), st.sampled_from([5, 300]), st.sampled_from([None, 0.0])
        ),
        max_size=2,
    ).map(tuple),
    counting=st.sampled_from(Counting),
    is_known=st.booleans(),
    concurrency=st.sampled_from([1, 4]),
    min_workers=st.sampled_from([0, 2]),
    max_workers=st.just(40),
    start_workers=st.just(2),
    duration=st.just(1500.0),
    failing=st.sampled_from([None, (300.0, 500.0, 0.9)]),
)


def run(shape: Shape, *, seed: int, start_delay: float = 5.0, gaps: bool = False) -> tuple[Headroom, World]:
    """A run; with gaps, each sixth or so of the samples is missing, and all of them for a minute."""
    case = make_case(shape, seed=seed, start_delay_seconds=start_delay)
    scaler, world, chance = headroom_for(case), make_world(case), Random(seed)

    def hide(world: World, facts: PoolFacts) -> PoolFacts:
        is_hidden = chance.random() < 0.15 or 700 <= world.now < 760
        return replace(facts, signal=GAP) if is_hidden else facts

    scaler.change_facts = hide if gaps else None
    play(case, scaler, world)
    return scaler, world


@settings(max_examples=8)
@given(shapes, st.integers(1, 1000), st.sampled_from([5.0, 60.0]), st.booleans())
def test_the_count_stays_within_its_bounds(shape: Shape, seed: int, start_delay: float, gaps: bool) -> None:
    _, world = run(shape, seed=seed, start_delay=start_delay, gaps=gaps)
    counts = [after for _, _, after in world.deployment.bill.changes]
    assert all(shape.min_workers <= count <= shape.max_workers for count in counts)


@settings(max_examples=8)
@given(shapes, st.integers(1, 1000), st.booleans())
def test_workers_that_were_started_are_not_taken_back_within_a_window(shape: Shape, seed: int, gaps: bool) -> None:
    _, world = run(shape, seed=seed, gaps=gaps)
    changes = world.deployment.bill.changes
    rises = [at for at, before, after in changes if after > before]
    falls = [at for at, before, after in changes if after < before]
    assert not [(rise, fall) for rise in rises for fall in falls if 0 < fall - rise < WINDOW - 1]


@settings(max_examples=8)
@given(shapes, st.integers(1, 1000))
def test_a_pass_without_a_sample_changes_nothing(shape: Shape, seed: int) -> None:
    scaler, _ = run(shape, seed=seed, gaps=True)
    decided = [(step, following) for step, following in pairwise(scaler.steps) if step.facts.sample is None]
    assert decided
    for step, following in decided:
        assert step.decision.sizing is not None
        assert step.decision.sizing.decision.allowed == step.replicas == following.replicas


@settings(max_examples=6)
@given(shapes, st.integers(1, 1000))
def test_no_step_is_larger_than_the_spec_allows(shape: Shape, seed: int) -> None:
    limited = replace(shape, options={"behavior": {"scaleUp": {"maxStep": 3}, "scaleDown": {"maxStepPercent": 20}}})
    _, world = run(limited, seed=seed)
    for _, before, after in world.deployment.bill.changes:
        assert after - before <= 3
        assert before - after <= max(1, before * 20 // 100) or after == 0


@pytest.mark.parametrize("seed", range(1, 4))
def test_hidden_samples_do_not_make_jobs_late(seed: int) -> None:
    shape = make_shape(rate=10, duration=1800, start_workers=13)
    _, world = run(shape, seed=seed, gaps=True)
    assert world.tally.highest_lag < 30
