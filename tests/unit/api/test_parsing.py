"""A stored object is read with its defaults; what cannot be acted on names the field and the remedy."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from headroom.api.v1alpha1 import (
    DatabaseGuardStatus,
    WorkerPoolStatus,
    parse_database_guard,
    parse_metadata,
    parse_replica_set,
    parse_status,
    parse_worker_pool,
    read_service_name,
)
from headroom.errors import InvalidSpec, UnsupportedValue
from tests.admission.cases import BadSpec, load_bad_specs, load_good

PARSERS = {
    "WorkerPool": parse_worker_pool,
    "ReplicaSet": parse_replica_set,
    "DatabaseGuard": parse_database_guard,
}
GOOD = {(body["kind"], body["metadata"]["name"]): body for body in load_good()}


@pytest.mark.parametrize(
    "row", [row for row in load_bad_specs() if not row.only_server], ids=lambda row: f"{row.kind}: {row.why}"
)
def test_what_admission_refuses_the_parser_refuses_too(row: BadSpec) -> None:
    with pytest.raises(InvalidSpec) as caught:
        PARSERS[row.kind](row.body)

    assert caught.value.field.startswith("spec")
    assert caught.value.remedy
    is_about_it = caught.value.field.startswith(row.field) or row.field.startswith(caught.value.field)
    assert is_about_it, f"{caught.value.field} instead of {row.field}"


@pytest.mark.parametrize("key", GOOD, ids=" ".join)
def test_what_admission_accepts_the_parser_accepts(key: tuple[str, str]) -> None:
    assert PARSERS[key[0]](GOOD[key]).metadata.name == key[1]


def test_a_replica_set_gets_its_defaults() -> None:
    spec = parse_replica_set(GOOD["ReplicaSet", "smallest"]).spec

    assert (spec.replicas, spec.standbys, spec.mode.value) == (1, 1, "Active")
    assert spec.storage.size == 20 * 2**30
    assert spec.readiness.max_replay_lag == timedelta(seconds=1)
    assert spec.readiness.eject_replay_backlog == 64 * 2**20
    assert spec.drain.timeout == timedelta(seconds=60)
    assert spec.provisioning.snapshots is None
    assert spec.autoscaling is None


def test_a_worker_pool_gets_its_defaults() -> None:
    spec = parse_worker_pool(GOOD["WorkerPool", "smallest"]).spec

    assert (spec.min_workers, spec.max_workers, spec.concurrency) == (1, 40, 1)
    assert spec.objective.target_lag == timedelta(seconds=30)
    assert spec.objective.drain_within == timedelta(minutes=5)
    assert spec.behavior.scale_up.max_step is None
    assert spec.queue is not None
    assert spec.queue.is_exclusive


def test_a_guard_gets_its_defaults() -> None:
    spec = parse_database_guard(GOOD["DatabaseGuard", "smallest"]).spec

    assert (spec.mode.value, spec.connection.port, spec.connection.tls.mode.value) == ("Observe", 5432, "verify-full")
    assert spec.thresholds.commit_latency.brownout == timedelta(milliseconds=250)
    assert spec.locks.mode.value == "Observe"
    assert spec.cores is None


def test_a_part_that_is_given_keeps_the_defaults_of_the_rest() -> None:
    body = _with(GOOD["ReplicaSet", "smallest"], readiness={"maxReplayLag": "2s"})

    readiness = parse_replica_set(body).spec.readiness

    assert (readiness.max_replay_lag, readiness.eject_replay_lag) == (timedelta(seconds=2), timedelta(seconds=10))


def test_the_read_service_is_named_after_the_set_unless_said_otherwise() -> None:
    names = [read_service_name(parse_replica_set(GOOD["ReplicaSet", name])) for name in ("smallest", "fullest")]

    assert names == ["smallest-read", "store-read"]


def test_a_value_of_a_newer_schema_is_told_from_nonsense() -> None:
    with pytest.raises(UnsupportedValue) as caught:
        parse_worker_pool(_with(GOOD["WorkerPool", "smallest"], mode="Rehearse"))

    assert caught.value.field == "spec.mode"
    assert "upgrade" in caught.value.remedy


def test_metadata_is_read_even_when_the_spec_is_nonsense() -> None:
    body = {
        "metadata": {
            "name": "store",
            "namespace": "shop",
            "uid": "u-1",
            "generation": 4,
            "resourceVersion": "77",
            "annotations": {"headroom.dev/abandon": "true"},
            "finalizers": ["headroom.dev/teardown"],
            "creationTimestamp": "2024-01-01T00:00:00Z",
            "deletionTimestamp": "2024-01-02T00:00:00Z",
        },
        "spec": {"storage": 7},
    }

    metadata = parse_metadata(body)

    assert (metadata.name, metadata.namespace, metadata.uid, metadata.generation) == ("store", "shop", "u-1", 4)
    assert metadata.is_deleting
    assert metadata.deleted_at == datetime(2024, 1, 2, tzinfo=UTC)
    assert metadata.annotations["headroom.dev/abandon"] == "true"


@pytest.mark.parametrize("body", [{}, {"metadata": None}, {"metadata": {}, "spec": None}], ids=str)
def test_metadata_that_is_not_there_is_read_as_empty(body: dict[str, Any]) -> None:
    assert not parse_metadata(body).is_deleting


def test_a_status_keeps_what_it_knows_and_drops_what_it_does_not() -> None:
    body = {"status": {"workers": 7, "queue": {"lagSeconds": 41.5, "of": "a newer version"}, "phase": "Good"}}

    status = parse_status(WorkerPoolStatus, body)

    assert status.workers == 7
    assert status.queue is not None
    assert status.queue.lag_seconds == 41.5


@pytest.mark.parametrize("status", [None, {}, {"kills": "many"}], ids=str)
def test_a_status_that_cannot_be_read_is_empty(status: Any) -> None:
    assert parse_status(DatabaseGuardStatus, {"status": status}) == DatabaseGuardStatus()


def test_models_cannot_be_changed() -> None:
    spec = parse_replica_set(GOOD["ReplicaSet", "smallest"]).spec

    with pytest.raises(ValueError, match="frozen"):
        setattr(spec, "replicas", 9)  # noqa: B010


def _with(body: dict[str, Any], **spec: Any) -> dict[str, Any]:
    return {**body, "spec": {**body["spec"], **spec}}
