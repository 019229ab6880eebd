"""What is accepted and not acted on is named, field by field; what is acted on is not."""

import re
from pathlib import Path
from typing import Any

import pytest

from headroom.api.base import SpecModel
from headroom.api.v1alpha1 import parse_spec
from headroom.api.v1alpha1.databaseguard import DatabaseGuardSpec
from headroom.api.v1alpha1.replicaset import ReplicaSetSpec
from headroom.api.v1alpha1.workerpool import WorkerPoolSpec
from headroom.policy.not_yet import TABLES, NotYet, describe_not_yet, find_field, find_not_yet

GUARD: dict[str, Any] = {
    "connection": {"host": "store", "database": "store", "credentialsSecretRef": {"name": "monitor"}}
}
SET: dict[str, Any] = {"databaseRef": {"name": "store"}, "image": "postgres:17", "storage": {"size": "1Gi"}}
POOL: dict[str, Any] = {
    "workers": {"targetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "mailer"}},
    "maxWorkers": 1,
    "queue": {"type": "Postgres", "postgres": {"preset": "procrastinate"}},
    "databaseRef": {"name": "store"},
    "priority": "Standard",
}
CONNECTIONS = {"name": "conns", "type": "Connections", "connections": {"utilizationPercent": 70}}
SCALING = {"maxReplicas": 4, "signals": [CONNECTIONS]}
SPAN = {"name": "sale", "cron": "0 16 * * FRI", "duration": "6h"}
WEBHOOK = {"name": "ops", "type": "Webhook", "webhook": {"urlSecretRef": {"name": "url", "key": "url"}}}
SIGNAL = {"name": "p95", "type": "Prometheus", "prometheus": {"url": "http://p:9090", "query": "x", "brownout": "0.5"}}
MINIMAL: dict[type[SpecModel], dict[str, Any]] = {DatabaseGuardSpec: GUARD, ReplicaSetSpec: SET, WorkerPoolSpec: POOL}
RIVER = {"type": "Postgres", "postgres": {"preset": "river"}}
ASKED: list[tuple[type[SpecModel], str, dict[str, Any]]] = [
    (DatabaseGuardSpec, "mode", {"mode": "Enforce"}),
    (DatabaseGuardSpec, "thresholds.replayLag", {"thresholds": {"replayLag": {"brownout": "1m"}}}),
    (DatabaseGuardSpec, "signals", {"signals": [SIGNAL]}),
    (DatabaseGuardSpec, "locks", {"locks": {"mode": "Cancel"}}),
    (DatabaseGuardSpec, "notify", {"notify": [WEBHOOK]}),
    (ReplicaSetSpec, "schedules", {"schedules": [{**SPAN, "minReplicas": 2}]}),
    (ReplicaSetSpec, "routing.rebalance.enabled", {"routing": {"rebalance": {"enabled": True, "roles": ["app"]}}}),
    (
        WorkerPoolSpec,
        "workers.suspendRef",
        {"workers": {"suspendRef": {"apiVersion": "batch/v1", "kind": "CronJob", "name": "cohorts"}}},
    ),
    (WorkerPoolSpec, "queue.claims", {"queue": {**POOL["queue"], "claims": "Unfenced"}}),
    (WorkerPoolSpec, "queue.pollInterval", {"queue": {**POOL["queue"], "pollInterval": "5s"}}),
    (WorkerPoolSpec, "shedding.pause", {"shedding": {"pause": "Queue"}, "queue": RIVER}),
    (WorkerPoolSpec, "shedding.maxDeferral", {"shedding": {"maxDeferral": "5m"}}),
]
MET: list[tuple[type[SpecModel], dict[str, Any]]] = [
    (DatabaseGuardSpec, {"mode": "Observe", "locks": {"mode": "Observe"}, "cores": 8, "canary": {"interval": "2s"}}),
    (ReplicaSetSpec, {"provisioning": {"method": "BaseBackup", "source": "Primary", "maxRate": "100Mi"}}),
    (ReplicaSetSpec, {"warmup": {"prewarm": False, "budget": "1m"}, "mode": "Paused", "drain": {"timeout": "5m"}}),
    (ReplicaSetSpec, {"autoscaling": {**SCALING, "forecast": {"horizon": "Off"}}}),
    (ReplicaSetSpec, {"autoscaling": SCALING, "retention": {"volumes": "Retain"}}),
    (WorkerPoolSpec, {"effectiveness": {"enabled": False}, "schedules": [{**SPAN, "minWorkers": 1}]}),
    (WorkerPoolSpec, {"queue": {**POOL["queue"], "claims": "Exclusive"}, "concurrency": 4}),
    (WorkerPoolSpec, {"priority": "Background"}),
]


def find(model: type[SpecModel], changes: dict[str, Any]) -> set[str]:
    return set(find_not_yet(parse_spec(model, {"spec": {**MINIMAL[model], **changes}})))


@pytest.mark.parametrize("model", MINIMAL)
def test_a_spec_that_asks_for_nothing_more_is_told_of_nothing(model: type[SpecModel]) -> None:
    assert find(model, {}) == set()


@pytest.mark.parametrize(("model", "path", "changes"), ASKED, ids=[path for _, path, _ in ASKED])
def test_what_is_asked_for_in_vain_is_named(model: type[SpecModel], path: str, changes: dict[str, Any]) -> None:
    assert path in find(model, changes)


@pytest.mark.parametrize(("model", "changes"), MET)
def test_what_is_done_anyway_is_not_named(model: type[SpecModel], changes: dict[str, Any]) -> None:
    assert find(model, changes) == set()


def test_each_field_of_the_tables_is_asked_for_above_or_only_by_its_default() -> None:
    asked = {(model, path) for model, path, _ in ASKED}
    rest = {field.path for model, fields in TABLES.items() for field in fields if (model, field.path) not in asked}
    assert rest == {"autoscaling.forecast.horizon", "priority"}


@pytest.mark.parametrize(
    ("model", "field"), [(model, field) for model, fields in TABLES.items() for field in fields], ids=str
)
def test_each_path_is_one_of_the_api(model: type[SpecModel], field: NotYet) -> None:
    page = (Path(__file__).parents[3] / "docs" / "reference" / "not-yet.md").read_text()
    assert f"| `{field.path}` |" in page
    first = field.path.split(".", maxsplit=1)[0]
    assert find_field(model, first) in model.model_fields


@pytest.mark.parametrize(
    ("model", "field"), [(model, field) for model, fields in TABLES.items() for field in fields], ids=str
)
def test_the_table_knows_which_fields_are_required(model: type[SpecModel], field: NotYet) -> None:
    first, _, deeper = field.path.partition(".")
    assert field.is_required == (not deeper and model.model_fields[find_field(model, first)].is_required())


def test_a_required_field_is_no_news() -> None:
    assert describe_not_yet(parse_spec(WorkerPoolSpec, {"spec": POOL})) == ""
    asked = describe_not_yet(parse_spec(WorkerPoolSpec, {"spec": {**POOL, "shedding": {"maxDeferral": "5m"}}}))
    assert asked == "accepted, but not acted on yet: shedding.maxDeferral"


UNREAD = {
    "max_deferral", "poll_interval", "suspend_ref", "rebalance",
    "may_end", "notify", "forecast", "shedding",
}  # fmt: skip


def test_nothing_reads_what_the_tables_name() -> None:
    """Whoever acts on one of these takes it out of the table; words that mean other things as well cannot be told."""
    package = Path(__file__).parents[3] / "operator" / "headroom"
    rooms = ("policy", "manifests", "reconcilers", "adapters")
    code = "".join(path.read_text() for room in rooms for path in (package / room).rglob("*.py"))
    read = {name for name in UNREAD if re.search(rf"spec(\.\w+)*\.{name}\b", code)}
    assert read == set()


def test_the_words_name_the_paths_in_their_order() -> None:
    rebalance, schedules = {"enabled": True, "roles": ["app"]}, [{**SPAN, "minReplicas": 2}]
    spec = {**SET, "routing": {"rebalance": rebalance}, "schedules": schedules}
    said = describe_not_yet(parse_spec(ReplicaSetSpec, {"spec": spec}))
    assert said == "accepted, but not acted on yet: schedules, routing.rebalance.enabled"
    assert describe_not_yet(parse_spec(ReplicaSetSpec, {"spec": SET})) == ""
