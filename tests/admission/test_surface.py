"""What kubectl sees: names, columns, scale; and that the rules leave room in the API server's cost budget."""

import copy
from typing import Any

import pytest

from tests.admission.cases import KINDS, load_good
from tests.admission.server import Server

pytestmark = pytest.mark.cluster
GROUP = "headroom.dev"
SHORT_NAMES = {"WorkerPool": "wp", "ReplicaSet": "dbrs", "DatabaseGuard": "dbg"}
COLUMNS = {
    "WorkerPool": "Name Lag-Sec Backlog Workers Desired ETA-Sec Limit Ready Reason Age",
    "ReplicaSet": "Name Desired Serving Standby Provisioning Lag-Sec Ready Reason Age",
    "DatabaseGuard": "Name State Signal Commit-Msec Connections Waiters Ready Reason Age",
}
LIST_BOUNDS = ("maxItems", "maxProperties")
MARGIN = 2


@pytest.mark.parametrize("kind", KINDS)
def test_short_name_and_category_are_known(server: Server, kind: str) -> None:
    found = {entry["name"]: entry for entry in server.discover(GROUP)}

    assert found[KINDS[kind]]["shortNames"] == [SHORT_NAMES[kind]]
    assert found[KINDS[kind]]["categories"] == ["headroom"]
    assert f"{KINDS[kind]}/status" in found


def test_only_replica_sets_can_be_scaled(server: Server) -> None:
    found = {entry["name"] for entry in server.discover(GROUP)}

    assert {name for name in found if name.endswith("/scale")} == {"replicasets/scale"}


@pytest.mark.parametrize("kind", KINDS)
def test_columns_are_those_of_the_design(server: Server, kind: str) -> None:
    shown = [column["name"] for column in server.columns(GROUP, KINDS[kind]) if column["priority"] == 0]

    assert " ".join(shown) == COLUMNS[kind]


def test_scale_reads_and_writes_the_serving_count(server: Server) -> None:
    body = next(good for good in load_good() if good["kind"] == "ReplicaSet")
    paused = {**body, "metadata": {"name": "scaled"}, "spec": {**body["spec"], "mode": "Paused"}}
    server.create(GROUP, "replicasets", paused)
    status = {"replicas": 2, "selector": "headroom.dev/replica-set=scaled,headroom.dev/role=serving"}
    assert server.merge(GROUP, "replicasets", "scaled", {"status": status}, "/status") is None

    assert server.merge(GROUP, "replicasets", "scaled", {"spec": {"replicas": 5}}, "/scale") is None

    scale = server.read(GROUP, "replicasets", "scaled/scale")
    assert scale is not None
    assert scale["spec"]["replicas"] == 5
    assert scale["status"] == status


def test_rules_use_at_most_half_of_the_cost_budget(server: Server, crds: list[dict[str, Any]]) -> None:
    for crd in crds:
        larger = _with_larger_lists(copy.deepcopy(crd))
        larger["spec"]["group"] = f"margin.{GROUP}"
        larger["metadata"]["name"] = f"{crd['spec']['names']['plural']}.margin.{GROUP}"

        assert server.try_create_crd(larger) is None


def _with_larger_lists(node: Any) -> Any:
    if isinstance(node, list):
        return [_with_larger_lists(value) for value in node]
    if not isinstance(node, dict):
        return node
    grown = {key: _with_larger_lists(value) for key, value in node.items()}
    return {**grown, **{key: node[key] * MARGIN for key in LIST_BOUNDS if isinstance(node.get(key), int)}}
