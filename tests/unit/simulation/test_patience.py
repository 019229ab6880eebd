"""Whole runs: whoever allows the queue to wait for longer pays for no more workers."""

from itertools import pairwise

import pytest

from headroom.simulation.run import Case, play_headroom
from headroom.simulation.shapes import Batch, Shape
from tests.unit.simulation.make import make_shape

POOL = {"duration": 1800.0, "measured_from": 300.0, "max_workers": 60}
LOADS = {
    "many short jobs": make_shape(8.0, start_workers=8, **POOL),
    "few long jobs": make_shape(0.5, job_seconds=20.0, start_workers=10, **POOL),
    "batches": make_shape(2.0, batches=(Batch(400.0, 300), Batch(1000.0, 300)), start_workers=3, **POOL),
}
TARGETS = (5.0, 30.0, 120.0, 600.0, 3600.0)


@pytest.mark.long
@pytest.mark.parametrize("shape", LOADS.values(), ids=LOADS)
def test_a_longer_target_never_costs_more_worker_seconds(shape: Shape) -> None:
    costs = [
        play_headroom(Case(shape=shape, seed=1, target_lag_seconds=target))[0].worker_seconds for target in TARGETS
    ]
    print([round(cost) for cost in costs])
    assert all(patient <= hasty for hasty, patient in pairwise(costs)), costs
    assert costs[-1] < costs[0]
