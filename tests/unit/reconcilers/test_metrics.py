"""The metrics of the three kinds: what is forgotten when an object is gone."""

from types import ModuleType

import pytest

from headroom.ports.telemetry import Metric
from headroom.reconcilers.databaseguard import metrics as of_guards
from headroom.reconcilers.replicaset import metrics as of_sets
from headroom.reconcilers.workerpool import metrics as of_pools

KINDS = {"guard": of_guards, "replicaset": of_sets, "workerpool": of_pools}


@pytest.mark.parametrize("name", KINDS)
def test_all_metrics_of_an_object_are_forgotten_with_it(name: str) -> None:
    module: ModuleType = KINDS[name]
    found = [metric for metric in vars(module).values() if isinstance(metric, Metric)]
    of_an_object = [metric for metric in found if metric.labels[:2] == ("namespace", "name")]
    assert set(module.ALL) == set(of_an_object)
    assert all(metric.name.startswith(f"headroom_{name}_") for metric in found)
