"""The uninstall hook: the operator ends first, finalizers go, everything that serves stays and is named."""

import asyncio
from typing import Any

import pytest

from headroom.adapters.inmemory.clock import MemoryClock
from headroom.adapters.inmemory.kube import MemoryKube
from headroom.adapters.inmemory.kube_cluster import Cluster
from headroom.errors import Conflict
from headroom.model.replica import hash8
from headroom.ports.kube import (
    CLAIM,
    DATABASE_GUARD,
    FINALIZER,
    POD,
    REPLICA_SET,
    SERVICE,
    WORKER_POOL,
    Kind,
    ObjectRef,
)
from headroom.uninstall.release import DEPLOYMENT, OperatorStillRuns, Release, uninstall

OPERATOR = {"app.kubernetes.io/component": "operator"}
OPERATOR_POD = ObjectRef(POD, "headroom", "headroom-1")
THEIRS = "example.com/backup"


def make_release(*watched: str) -> Release:
    return Release("headroom", "headroom", OPERATOR, watched, timeout_seconds=30)


def make_manifest(kind: Kind, name: str, namespace: str = "shop", **parts: Any) -> dict[str, Any]:
    labels, finalizers = parts.pop("labels", {}), parts.pop("finalizers", [])
    metadata = {"name": name, "namespace": namespace, "labels": labels, "finalizers": finalizers}
    return {"apiVersion": kind.api_version, "kind": kind.name, "metadata": metadata, **parts}


def make_set(name: str = "store", namespace: str = "shop") -> dict[str, Any]:
    return make_manifest(REPLICA_SET, name, namespace, spec={}, finalizers=[THEIRS, FINALIZER])


def make_pool() -> dict[str, Any]:
    spec = {"workers": {"targetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "commands"}}}
    return make_manifest(WORKER_POOL, "commands", spec=spec, finalizers=[FINALIZER])


class Scene:
    """A release with one operator pod that ends as soon as the Deployment is scaled to zero, unless it hangs."""

    def __init__(self, *, hangs: bool = False) -> None:
        self.clock = MemoryClock()
        self.kube = MemoryKube(clock=self.clock)
        self.cluster = Cluster(self.kube)
        self.said: list[str] = []
        self._hangs = hangs
        self.cluster.seed(make_manifest(DEPLOYMENT, "headroom", "headroom", spec={"replicas": 2}))
        self.cluster.seed(make_manifest(POD, "headroom-1", "headroom", labels=OPERATOR, spec={}))

    async def run(self, release: Release) -> None:
        task = asyncio.create_task(uninstall(self.kube, self.clock, release, self.said.append))
        while not task.done():
            await self.clock.advance(1)
            if self.replicas == 0 and not self._hangs and self.cluster.read(OPERATOR_POD) is not None:
                self.cluster.remove(OPERATOR_POD)
        await task

    @property
    def replicas(self) -> int:
        deployment = self.cluster.read(ObjectRef(DEPLOYMENT, "headroom", "headroom"))
        assert deployment is not None
        return int(deployment["spec"]["replicas"])

    def finalizers(self, kind: Kind, name: str, namespace: str = "shop") -> list[str]:
        body = self.cluster.read(ObjectRef(kind, namespace, name))
        assert body is not None
        return list(body["metadata"].get("finalizers") or [])


async def test_finalizers_go_after_the_operator_and_those_of_others_stay() -> None:
    scene = Scene()
    scene.cluster.seed(make_set())
    scene.cluster.seed(make_pool())
    scene.cluster.seed(make_manifest(DATABASE_GUARD, "store", spec={}, finalizers=[FINALIZER]))
    await scene.run(make_release())
    assert scene.finalizers(REPLICA_SET, "store") == [THEIRS]
    assert scene.finalizers(WORKER_POOL, "commands") == []
    assert scene.finalizers(DATABASE_GUARD, "store") == []
    assert [verb for verb, _ in scene.kube.writes] == ["set_scale", "patch", "patch", "patch"]


async def test_replicas_claims_and_services_stay_and_are_named_with_the_commands_to_remove_them() -> None:
    scene = Scene()
    body = scene.cluster.seed(make_set())
    labels = {"headroom.dev/replica-set": "store"}
    for kind, name in ((POD, "store-1-a"), (CLAIM, "store-1-a"), (SERVICE, "store-read")):
        scene.cluster.seed(make_manifest(kind, name, labels=labels, spec={}))
    await scene.run(make_release())
    for kind, name in ((POD, "store-1-a"), (CLAIM, "store-1-a"), (SERVICE, "store-read")):
        assert scene.cluster.read(ObjectRef(kind, "shop", name)) is not None
    said = "\n".join(scene.said)
    assert "dbrs/store in shop continues to serve reads" in said
    assert "Service: store-read" in said
    assert "pods:    store-1-a" in said
    assert "kubectl -n shop delete dbrs/store" in said
    assert f"_{hash8(body['metadata']['uid'])}_" in said


async def test_workers_keep_their_number_and_that_is_said() -> None:
    scene = Scene()
    scene.cluster.seed(make_pool())
    await scene.run(make_release())
    assert "wp/commands: Deployment commands in shop keeps its number of workers" in "\n".join(scene.said)


async def test_what_stays_after_every_uninstall_is_named_with_the_commands_to_remove_it() -> None:
    scene = Scene()
    scene.cluster.seed(make_manifest(DATABASE_GUARD, "store", spec={}, finalizers=[FINALIZER]))
    await scene.run(make_release())
    said = "\n".join(scene.said)
    assert "dbg/store in shop stays: nothing watches it now." in said
    for kind in ("workerpools", "replicasets", "databaseguards"):
        assert f" {kind}.headroom.dev" in said
    assert "kubectl delete namespace headroom" in said
    assert "Nothing stays" not in said


async def test_an_empty_cluster_keeps_the_kinds_and_the_namespace() -> None:
    scene = Scene()
    await scene.run(make_release())
    assert "No resource of these kinds stays." in scene.said
    assert any("the namespace headroom stay" in line for line in scene.said)


async def test_an_operator_that_does_not_end_keeps_its_finalizers() -> None:
    scene = Scene(hangs=True)
    scene.cluster.seed(make_set())
    with pytest.raises(OperatorStillRuns, match="headroom-1"):
        await scene.run(make_release())
    assert scene.finalizers(REPLICA_SET, "store") == [THEIRS, FINALIZER]


async def test_a_pod_that_ended_long_ago_is_not_waited_for() -> None:
    scene = Scene()
    evicted = make_manifest(POD, "headroom-0", "headroom", labels=OPERATOR, spec={}, status={"phase": "Failed"})
    scene.cluster.seed(evicted)
    await scene.run(make_release())
    assert scene.said


async def test_only_watched_namespaces_are_touched() -> None:
    scene = Scene()
    scene.cluster.seed(make_set())
    scene.cluster.seed(make_set(namespace="other"))
    await scene.run(make_release("shop"))
    assert scene.finalizers(REPLICA_SET, "store") == [THEIRS]
    assert scene.finalizers(REPLICA_SET, "store", "other") == [THEIRS, FINALIZER]
    assert {ref.namespace for _, ref in scene.kube.calls} == {"headroom", "shop"}


async def test_a_set_that_is_being_deleted_is_let_go_and_its_slots_are_named() -> None:
    scene = Scene()
    scene.cluster.seed(make_manifest(REPLICA_SET, "old", spec={}, finalizers=[FINALIZER]))
    scene.cluster.delete(ObjectRef(REPLICA_SET, "shop", "old"))
    await scene.run(make_release())
    assert scene.cluster.read(ObjectRef(REPLICA_SET, "shop", "old")) is None
    assert "dbrs/old in shop was being deleted" in "\n".join(scene.said)


async def test_a_write_in_between_is_read_again() -> None:
    scene = Scene()
    scene.cluster.seed(make_set())
    scene.kube.faults.fail(Conflict("somebody wrote first"), verb="patch")
    await scene.run(make_release())
    assert scene.finalizers(REPLICA_SET, "store") == [THEIRS]


async def test_it_may_run_twice() -> None:
    scene = Scene()
    scene.cluster.seed(make_set())
    await scene.run(make_release())
    before = list(scene.kube.writes)
    await scene.run(make_release())
    assert scene.kube.writes == before


async def test_kinds_whose_definitions_went_first_leave_nothing_to_release() -> None:
    scene = Scene()
    scene.cluster.seed(make_pool())
    scene.kube.kinds.remove(REPLICA_SET)
    await scene.run(make_release())
    assert scene.finalizers(WORKER_POOL, "commands") == []
