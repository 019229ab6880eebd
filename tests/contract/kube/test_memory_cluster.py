"""What only the API in memory does: play the rest of the cluster, keep a log, fail on plan."""

import asyncio
import contextlib

import pytest

from headroom.adapters.inmemory.clock import MemoryClock, settle
from headroom.adapters.inmemory.kube import MemoryKube
from headroom.adapters.inmemory.kube_cluster import Cluster
from headroom.adapters.inmemory.kube_faults import Killed, Latency
from headroom.errors import Conflict, KubeUnavailable, NotLeading, Refused
from headroom.ports.kube import CLAIM, CONFIG_MAP, POD, Manifest, ObjectRef
from headroom.reasons import Reason

POD_1 = ObjectRef(POD, "shop", "store-1")
CLAIM_1 = ObjectRef(CLAIM, "shop", "store-1")
MAP_1 = ObjectRef(CONFIG_MAP, "shop", "one")


def build_map(name: str = "one", owners: tuple[Manifest, ...] = (), finalizers: tuple[str, ...] = ()) -> Manifest:
    references = [
        {"apiVersion": "v1", "kind": o["kind"], "name": o["metadata"]["name"], "uid": o["metadata"]["uid"]}
        for o in owners
    ]
    metadata = {"namespace": "shop", "name": name, "ownerReferences": references, "finalizers": list(finalizers)}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {"a": "1"}}


def build_pod() -> Manifest:
    volume = {"name": "data", "persistentVolumeClaim": {"claimName": "store-1"}}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"namespace": "shop", "name": "store-1"},
        "spec": {"containers": [{"name": "postgres"}], "volumes": [volume], "terminationGracePeriodSeconds": 120},
    }


def build_claim() -> Manifest:
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"namespace": "shop", "name": "store-1"},
        "spec": {"resources": {"requests": {"storage": "1Gi"}}},
    }


async def test_a_running_pod_lives_through_its_grace_period(memory: MemoryKube, cluster: Cluster) -> None:
    pod = await memory.create(build_pod())
    cluster.run_pod(POD_1, ip="10.0.0.7")
    await memory.delete(POD_1, uid=pod["metadata"]["uid"])
    ending = await memory.get(POD_1)
    assert ending is not None
    assert ending["metadata"]["deletionGracePeriodSeconds"] == 120
    assert ending["status"]["podIP"] == "10.0.0.7"
    cluster.finish_deletion(POD_1)
    assert await memory.get(POD_1) is None


async def test_a_claim_in_use_goes_with_its_pod(memory: MemoryKube, cluster: Cluster) -> None:
    claim = await memory.create(build_claim())
    await memory.create(build_pod())
    cluster.run_pod(POD_1)
    assert cluster.bind_claim(CLAIM_1)["status"]["phase"] == "Bound"
    await memory.delete(CLAIM_1, uid=claim["metadata"]["uid"])
    assert await memory.get(CLAIM_1) is not None
    cluster.end_pod(POD_1, exit_code=1)
    assert await memory.get(CLAIM_1) is None


async def test_what_an_owner_leaves_behind_is_collected(memory: MemoryKube) -> None:
    first = await memory.create(build_map("first"))
    second = await memory.create(build_map("second"))
    child = await memory.create(build_map("child", owners=(first, second)))
    await memory.create(build_map("grandchild", owners=(child,)))
    await memory.delete(ObjectRef(CONFIG_MAP, "shop", "first"), uid=first["metadata"]["uid"])
    assert len(await memory.list(CONFIG_MAP, "shop")) == 3
    await memory.delete(ObjectRef(CONFIG_MAP, "shop", "second"), uid=second["metadata"]["uid"])
    assert await memory.list(CONFIG_MAP, "shop") == []


async def test_endpoints_follow_the_pods(memory: MemoryKube, cluster: Cluster) -> None:
    pod = await memory.create(build_pod())
    cluster.run_pod(POD_1, ip="10.0.0.7")
    conditions = cluster.publish_endpoints("shop", "read", ["store-1"])["endpoints"][0]["conditions"]
    assert conditions == {"ready": True, "serving": True, "terminating": False}
    await memory.delete(POD_1, uid=pod["metadata"]["uid"])
    conditions = cluster.publish_endpoints("shop", "read", ["store-1"])["endpoints"][0]["conditions"]
    assert conditions == {"ready": False, "serving": True, "terminating": True}


async def test_a_foreign_write_takes_the_field_over(memory: MemoryKube, cluster: Cluster) -> None:
    await memory.apply(build_map())
    edited = cluster.edit(MAP_1, lambda manifest: manifest["data"].update(a="9"), manager="argocd")
    owners = {entry["manager"]: entry["fieldsV1"] for entry in edited["metadata"]["managedFields"]}
    assert owners["argocd"] == {"f:data": {"f:a": {}}}
    assert "f:data" not in owners.get("headroom", {})


async def test_the_log_holds_effects_only(memory: MemoryKube) -> None:
    await memory.create(build_map())
    with pytest.raises(Conflict):
        await memory.create(build_map())
    await memory.get(MAP_1)
    assert memory.writes == [("create", MAP_1)]
    assert [verb for verb, _ in memory.calls] == ["create", "create", "get"]


async def test_the_nth_write_fails_before_its_effect(memory: MemoryKube) -> None:
    memory.faults.fail(Conflict("planned"), verb="write", nth=2)
    await memory.create(build_map())
    with pytest.raises(Conflict, match="planned"):
        await memory.create(build_map("two"))
    assert await memory.get(ObjectRef(CONFIG_MAP, "shop", "two")) is None
    await memory.create(build_map("two"))


async def test_a_lost_response_comes_after_the_effect(memory: MemoryKube) -> None:
    memory.faults.lose_response(verb="create", kind=CONFIG_MAP)
    with pytest.raises(KubeUnavailable):
        await memory.create(build_map())
    assert memory.writes == [("create", MAP_1)]
    assert await memory.get(MAP_1) is not None


async def test_a_kill_passes_every_handler_of_exceptions(memory: MemoryKube) -> None:
    memory.faults.kill(nth=1, is_after=True)

    async def careless() -> None:
        with contextlib.suppress(Exception):
            await memory.create(build_map())

    with pytest.raises(Killed):
        await careless()
    assert memory.writes == [("create", MAP_1)]


async def test_a_slow_call_times_out_and_may_still_have_taken_effect() -> None:
    clock = MemoryClock()
    memory = MemoryKube(clock=clock)
    memory.faults.latency = lambda _verb, _ref: Latency(request=1.0, response=60.0)
    call = asyncio.create_task(memory.create(build_map()))
    await clock.advance(0.9)
    assert memory.writes == []
    await clock.advance(2.0)
    assert memory.writes == [("create", MAP_1)]
    assert not call.done()
    await clock.advance(0.2)
    await settle()
    with pytest.raises(KubeUnavailable):
        call.result()


async def test_the_fence_stands_before_every_write() -> None:
    class Closed:
        def check(self, timeout_seconds: float) -> None:
            raise NotLeading(f"{timeout_seconds}")

    memory = MemoryKube(fence=Closed())
    with pytest.raises(NotLeading, match=r"3\.0"):
        await memory.create(build_map())
    assert await memory.list(CONFIG_MAP, "shop") == []


async def test_nothing_is_created_in_a_namespace_that_ends(memory: MemoryKube) -> None:
    memory.terminating_namespaces.add("shop")
    with pytest.raises(Refused) as refusal:
        await memory.create(build_map())
    assert refusal.value.reason is Reason.NAMESPACE_TERMINATING


async def test_listeners_hear_changes_in_order(memory: MemoryKube) -> None:
    heard: list[tuple[str, str]] = []
    memory.store.listeners.append(lambda change, manifest: heard.append((change, manifest["metadata"]["name"])))
    created = await memory.create(build_map())
    await memory.patch(MAP_1, [{"op": "add", "path": "/data/b", "value": "2"}])
    await memory.delete(MAP_1, uid=created["metadata"]["uid"])
    changes = [change for change, _ in heard]
    assert (changes[0], changes[1], changes[-1]) == ("ADDED", "MODIFIED", "DELETED")
