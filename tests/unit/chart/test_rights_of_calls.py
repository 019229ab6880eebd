"""Every call that a set, its guard and a pool send in their lives is one that the chart's rights allow."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from headroom.errors import Conflict
from headroom.ports.kube import CLAIM, POD, Kind, ObjectRef
from tests.manifests import NAMESPACE
from tests.unit.reconcilers.replicaset.world import SET, World
from tests.unit.reconcilers.workerpool.busy import BusyWorld

TABLE: dict[str, Any] = yaml.safe_load((Path(__file__).parents[3] / "charts/headroom/files/rbac.yaml").read_text())
VERBS: dict[str, tuple[str, tuple[str, ...]]] = {
    "get": ("", ("get",)),
    "list": ("", ("list",)),
    "create": ("", ("create",)),
    "delete": ("", ("delete",)),
    "patch": ("", ("patch",)),
    # A live read of the owner, then a patch that may create.
    "apply": ("", ("get", "create", "patch")),
    "replace_status": ("/status", ("update",)),
    "get_scale": ("/scale", ("get",)),
    "set_scale": ("/scale", ("update",)),
}


def find_granted() -> set[tuple[str, str, str]]:
    """(API group, resource, verb) of all rights of an operator that watches the whole cluster."""
    rules = [rule for scope in ("watched", "cluster") for rule in TABLE["operator"][scope]]
    return {
        (group, resource, verb)
        for rule in rules
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }


def find_missing(calls: list[tuple[str, ObjectRef]]) -> set[tuple[str, str, str]]:
    """What these calls need and nobody granted."""
    needed = {
        (_group(ref.kind), ref.kind.plural + VERBS[verb][0], right)
        for verb, ref in calls
        if verb in VERBS
        for right in VERBS[verb][1]
    }
    return needed - find_granted()


def _group(kind: Kind) -> str:
    return kind.api_version.rpartition("/")[0]


async def test_a_set_that_is_made_grown_shrunk_and_deleted_needs_no_right_that_it_has_not() -> None:
    world = World()
    world.add_set(replicas=1, standbys=1)
    await world.run(20)
    for name in world.names(POD)[:1]:
        world.cluster.remove(ObjectRef(POD, NAMESPACE, name))
    world.edit_spec(replicas=2, standbys=0)
    await world.run(20)
    world.edit_spec(replicas=1, resources={"requests": {"cpu": "1"}})
    await world.run(100)
    assert await world.delete(60)
    verbs = {(verb, ref.kind) for verb, ref in world.kube.calls}
    assert {("delete", POD), ("delete", CLAIM), ("patch", CLAIM)} <= verbs
    assert find_missing([*world.kube.calls, *world.guard_kube.calls]) == set()


@pytest.mark.parametrize("kind", [CLAIM, POD])
async def test_a_quota_that_many_use_at_once_is_tried_again_and_no_refusal(kind: Kind) -> None:
    """The loser is told 409, reads what is there under the name (which needs `get`), and tries again."""
    world = World()
    world.kube.faults.fail(
        Conflict(
            'Operation cannot be fulfilled on resourcequotas "shop": the object has been modified; please apply your '
            "changes to the latest version and try again (HTTP 409)"
        ),
        verb="create",
        kind=kind,
        times=3,
    )
    world.add_set(replicas=1, standbys=0)
    await world.run(1, step=0.1)
    assert world.condition("Ready")["reason"] != "Forbidden"
    await world.run(20)
    assert ("get", kind) in {(verb, ref.kind) for verb, ref in world.kube.calls}
    assert find_missing(world.kube.calls) == set()
    assert world.roles() == ["serving"]
    world.check_no_orphan(SET)


async def test_a_pool_that_takes_idle_workers_away_needs_no_right_that_it_has_not() -> None:
    world = BusyWorld(grace=30, minWorkers=3)
    await world.advance(60)
    assert ("patch", POD) in {(verb, ref.kind) for verb, ref in world.kube.calls}
    assert find_missing(world.kube.calls) == set()
