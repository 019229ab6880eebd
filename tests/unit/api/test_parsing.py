"""A stored object is read with its defaults; what cannot be acted on names the field and the remedy."""

from datetime import timedelta
from typing import Any

import pytest

from headroom.api.v1alpha1 import DatabaseGuardSpec, ReplicaSetSpec, WorkerPoolSpec, parse_spec
from headroom.errors import InvalidSpec, UnsupportedValue
from tests.admission.cases import BadSpec, load_bad_specs, load_good, parse_body

GOOD = {(body["kind"], body["metadata"]["name"]): body for body in load_good()}


@pytest.mark.parametrize(
    "row", [row for row in load_bad_specs() if not row.only_server], ids=lambda row: f"{row.kind}: {row.why}"
)
def test_what_admission_refuses_the_parser_refuses_too(row: BadSpec) -> None:
    with pytest.raises(InvalidSpec) as caught:
        parse_body(row.body)

    assert caught.value.field.startswith("spec")
    assert caught.value.remedy
    is_about_it = caught.value.field.startswith(row.field) or row.field.startswith(caught.value.field)
    assert is_about_it, f"{caught.value.field} instead of {row.field}"


@pytest.mark.parametrize("key", GOOD, ids=" ".join)
def test_what_admission_accepts_the_parser_accepts(key: tuple[str, str]) -> None:
    assert parse_body(GOOD[key])


def test_a_replica_set_gets_its_defaults() -> None:
    spec = parse_spec(ReplicaSetSpec, GOOD["ReplicaSet", "smallest"])

    assert (spec.replicas, spec.standbys, spec.mode.value) == (1, 1, "Active")
    assert spec.storage.size == 20 * 2**30
    assert spec.readiness.max_replay_lag == timedelta(seconds=1)
    assert spec.drain.timeout == timedelta(seconds=60)
    assert spec.provisioning.snapshots is None
    assert spec.autoscaling is None


def test_a_worker_pool_gets_its_defaults() -> None:
    spec = parse_spec(WorkerPoolSpec, GOOD["WorkerPool", "smallest"])

    assert (spec.min_workers, spec.max_workers, spec.concurrency) == (1, 40, 1)
    assert spec.objective.target_lag == timedelta(seconds=30)
    assert spec.objective.drain_within == timedelta(minutes=5)
    assert spec.behavior.scale_up.max_step is None
    assert spec.queue is not None
    assert spec.queue.is_exclusive


def test_a_guard_gets_its_defaults() -> None:
    spec = parse_spec(DatabaseGuardSpec, GOOD["DatabaseGuard", "smallest"])

    assert (spec.mode.value, spec.connection.port, spec.connection.tls.mode.value) == ("Observe", 5432, "verify-full")
    assert spec.thresholds.commit_latency.brownout == timedelta(milliseconds=250)
    assert spec.locks.mode.value == "Observe"
    assert spec.cores is None


def test_a_part_that_is_given_keeps_the_defaults_of_the_rest() -> None:
    body = _with(GOOD["ReplicaSet", "smallest"], readiness={"maxReplayLag": "2s"})

    readiness = parse_spec(ReplicaSetSpec, body).readiness

    assert (readiness.max_replay_lag, readiness.eject_replay_lag) == (timedelta(seconds=2), timedelta(seconds=10))


def test_a_value_of_a_newer_schema_is_told_from_nonsense() -> None:
    with pytest.raises(UnsupportedValue) as caught:
        parse_spec(WorkerPoolSpec, _with(GOOD["WorkerPool", "smallest"], mode="Rehearse"))

    assert caught.value.field == "spec.mode"
    assert "upgrade" in caught.value.remedy


def test_models_cannot_be_changed() -> None:
    spec = parse_spec(ReplicaSetSpec, GOOD["ReplicaSet", "smallest"])

    with pytest.raises(ValueError, match="frozen"):
        setattr(spec, "replicas", 9)  # noqa: B010


def _with(body: dict[str, Any], **spec: Any) -> dict[str, Any]:
    return {**body, "spec": {**body["spec"], **spec}}
