"""The arithmetic of the workers' benchmark."""

import math

import pytest

from e2e.bench.pools import ScaleWatch, pool_of, quantile_of
from headroom.api.v1alpha1 import parse_spec
from headroom.api.v1alpha1.workerpool import WorkerPoolSpec


def test_a_quantile_lies_on_the_line_within_its_bucket() -> None:
    before = {0.1: 100.0, 0.5: 100.0, 1.0: 100.0, math.inf: 100.0}
    after = {0.1: 150.0, 0.5: 190.0, 1.0: 200.0, math.inf: 200.0}
    assert quantile_of(before, after, 0.5) == pytest.approx(0.1)
    assert quantile_of(before, after, 0.7) == pytest.approx(0.3)
    assert quantile_of(before, after, 0.99) == pytest.approx(0.95)
    assert quantile_of({}, {0.1: 1.0, math.inf: 5.0}, 0.99) == 0.1, "above the last bound nothing is known"
    assert quantile_of(after, after, 0.99) == 0.0


def test_only_a_count_that_rises_is_a_rise() -> None:
    scales = ScaleWatch()
    for count in (0, 2, 1, 1):
        scales.take({"type": "MODIFIED", "object": {"metadata": {"name": "a"}, "spec": {"replicas": count}}})
    assert set(scales.raised) == {"a"}
    first = scales.raised["a"]
    scales.take({"metadata": {"name": "a"}, "spec": {"replicas": 1}})
    assert scales.raised["a"] == first
    with pytest.raises(AssertionError, match="1 of 1 Deployments"):
        scales.all_at(0, ["a"])


def test_the_pools_of_the_benchmark_are_valid() -> None:
    assert parse_spec(WorkerPoolSpec, pool_of("queue-001")).max_workers == 2
