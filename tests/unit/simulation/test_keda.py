"""KEDA and the HPA decide as their documentation says."""

import pytest

from headroom.simulation.keda import Keda
from headroom.simulation.run import keda_for
from headroom.simulation.world import World
from tests.unit.simulation.make import make_batch, make_case, make_shape, make_world

WORK = {"is_constant": True, "job_seconds": 1e6}


def play(keda: Keda, world: World, until: float) -> list[tuple[float, int]]:
    """The counts that were set, by their time."""
    keda.start(world)
    world.advance(until)
    return [(at, after) for at, _, after in world.deployment.bill.changes]


def test_the_count_is_the_metric_divided_by_the_target_average() -> None:
    world = make_world(make_shape(batches=make_batch(70), **WORK), workers=5)
    assert play(Keda(10, 1, 100), world, 40) == [(22.5, 7)]


def test_within_a_tenth_nothing_changes() -> None:
    world = make_world(make_shape(batches=make_batch(54), **WORK), workers=5)
    assert play(Keda(10, 1, 100), world, 40) == []


def test_it_grows_by_the_larger_of_100_percent_and_4_pods_in_15_seconds() -> None:
    world = make_world(make_shape(batches=make_batch(1000), **WORK), workers=1)
    assert [after for _, after in play(Keda(10, 1, 50), world, 90)] == [5, 10, 20, 40, 50]


def test_it_shrinks_to_the_highest_recommendation_of_300_seconds() -> None:
    shape = make_shape(batches=make_batch(60), is_constant=True, job_seconds=20)
    world = make_world(shape, workers=1, start_delay=0)
    changes = play(Keda(10, 1, 100), world, 600)
    assert [after for _, after in changes] == [5, 6, 5, 4, 3, 2, 1]
    # 6 are recommended until 52.5, so that they go after 300 s.
    assert changes[2][0] == 352.5


def test_a_poll_wakes_a_pool_of_zero_and_the_cooldown_ends_it() -> None:
    shape = make_shape(batches=make_batch(1, at=100), is_constant=True, job_seconds=1, duration=900)
    world = make_world(shape, workers=0)
    changes = play(Keda(10, 0, 100), world, 900)
    assert changes[0][1] == 1
    assert 100 <= changes[0][0] <= 105
    assert changes[-1][1] == 0
    assert changes[-1][0] == pytest.approx(410, abs=10)


def test_it_is_told_what_a_replica_ends_within_the_target() -> None:
    assert keda_for(make_case(make_shape(concurrency=2, job_seconds=0.5))).per_replica == 120
    assert keda_for(make_case(make_shape()), 1 / 3).per_replica == 10
    # Jobs longer than the target: one for each slot.
    assert keda_for(make_case(make_shape(concurrency=2, job_seconds=3600))).per_replica == 2
