"""One suite, two caches: the one in memory, and the one that watches and our own calls fill."""

from collections.abc import Callable
from dataclasses import dataclass

import pytest

from headroom.adapters.inmemory.clock import MemoryClock
from headroom.adapters.inmemory.kube import MemoryKube
from headroom.adapters.inmemory.kube_cache import MemoryCache
from headroom.adapters.inmemory.kube_cluster import Cluster
from headroom.adapters.kube.cache import WatchCache
from headroom.adapters.kube.write_through import WriteThroughKube
from headroom.ports.kube import (
    CLAIM,
    CONFIG_MAP,
    DEPLOYMENT,
    ENDPOINT_SLICE,
    HORIZONTAL_POD_AUTOSCALER,
    NODE,
    POD,
    SECRET,
    SERVICE,
    WORKER_POOL,
    Kind,
    Kube,
    KubeCache,
    Manifest,
    ObjectRef,
)
from tests.memory_kopf import MemoryWatch

SET = "headroom.dev/replica-set"
OF_STORE = {SET: "store"}


@dataclass
class CacheWorld:
    kube: Kube
    cache: KubeCache
    cluster: Cluster


def build_memory() -> CacheWorld:
    kube = MemoryKube()
    return CacheWorld(kube, MemoryCache(kube.store), Cluster(kube))


def build_watched() -> CacheWorld:
    """Events come at each change."""
    kube = MemoryKube()
    cache = WatchCache(MemoryClock())
    MemoryWatch(kube, cache)
    return CacheWorld(WriteThroughKube(kube, cache), cache, Cluster(kube))


def build_deaf() -> CacheWorld:
    """No event ever comes: what is known is known from our own calls."""
    kube = MemoryKube()
    cache = WatchCache(MemoryClock())
    return CacheWorld(WriteThroughKube(kube, cache), cache, Cluster(kube))


@pytest.fixture(params=[build_memory, build_watched])
def world(request: pytest.FixtureRequest) -> CacheWorld:
    build: Callable[[], CacheWorld] = request.param
    return build()


@pytest.fixture(params=[build_memory, build_watched, build_deaf])
def own(request: pytest.FixtureRequest) -> CacheWorld:
    """For what we do ourselves: it is seen whether or not the watch tells."""
    build: Callable[[], CacheWorld] = request.param
    return build()


def make(kind: Kind, name: str, *, namespace: str = "shop", **parts: object) -> Manifest:
    labels = parts.pop("labels", OF_STORE)
    metadata = {"name": name, "namespace": namespace, "labels": labels}
    return {"apiVersion": kind.api_version, "kind": kind.name, "metadata": metadata, **parts}


def names(found: list[Manifest]) -> list[str]:
    return [item["metadata"]["name"] for item in found]


class TestWhatIsThere:
    def test_an_object_is_found_by_name(self, world: CacheWorld) -> None:
        world.cluster.seed(make(POD, "a", spec={"nodeName": "n"}))
        found = world.cache.get(ObjectRef(POD, "shop", "a"))
        assert found is not None
        assert (found["kind"], found["spec"]["nodeName"]) == ("Pod", "n")
        assert world.cache.get(ObjectRef(POD, "other", "a")) is None

    def test_lists_are_by_namespace_and_labels_in_the_order_of_names(self, world: CacheWorld) -> None:
        for name in ("c", "a", "b"):
            world.cluster.seed(make(POD, name, labels={SET: "store", "n": name}))
        world.cluster.seed(make(POD, "d", labels={SET: "other"}))
        world.cluster.seed(make(POD, "e", namespace="elsewhere"))
        assert names(world.cache.list(POD, "shop", labels=OF_STORE)) == ["a", "b", "c"]
        assert names(world.cache.list(POD, "shop", labels={**OF_STORE, "n": "b"})) == ["b"]
        assert names(world.cache.list(POD, "shop")) == ["a", "b", "c", "d"]
        assert names(world.cache.list(POD, "", labels=OF_STORE)) == ["e", "a", "b", "c"]
        assert world.cache.list(CLAIM, "shop") == []

    def test_children_without_the_label_of_a_set_are_not_watched(self, world: CacheWorld) -> None:
        world.cluster.seed(make(POD, "worker", labels={"app": "mailer"}))
        world.cluster.seed(make(CONFIG_MAP, "theirs", labels={}))
        world.cluster.seed(make(HORIZONTAL_POD_AUTOSCALER, "any", labels={}, spec={"scaleTargetRef": {"name": "x"}}))
        assert world.cache.list(POD, "shop") == []
        assert world.cache.get(ObjectRef(CONFIG_MAP, "shop", "theirs")) is None
        assert names(world.cache.list(HORIZONTAL_POD_AUTOSCALER, "shop")) == ["any"]

    @pytest.mark.parametrize("kind", [SECRET, NODE])
    def test_a_kind_that_is_not_watched_is_a_mistake(self, world: CacheWorld, kind: Kind) -> None:
        with pytest.raises(KeyError):
            world.cache.get(ObjectRef(kind, "", "a"))
        with pytest.raises(KeyError):
            world.cache.list(kind, "")

    def test_a_slice_is_found_by_the_label_of_its_service(self, world: CacheWorld) -> None:
        world.cluster.seed(make(SERVICE, "read"))
        world.cluster.seed(make(SERVICE, "foreign", labels={}))
        world.cluster.seed(make(POD, "a"))
        world.cluster.publish_endpoints("shop", "read", ["a"])
        world.cluster.publish_endpoints("shop", "foreign", ["a"])
        wanted = {"kubernetes.io/service-name": "read"}
        assert names(world.cache.list(ENDPOINT_SLICE, "shop", labels=wanted)) == ["read-1"]
        assert names(world.cache.list(ENDPOINT_SLICE, "shop")) == ["read-1"]

    def test_pools_and_autoscalers_are_found_by_what_they_scale(self, world: CacheWorld) -> None:
        def pool(name: str, target: str) -> Manifest:
            return make(WORKER_POOL, name, labels={}, spec={"workers": {"targetRef": {"name": target}}})

        for name, target in (("b", "mailer"), ("a", "mailer"), ("c", "printer")):
            world.cluster.seed(pool(name, target))
        world.cluster.seed(make(WORKER_POOL, "cron", labels={}, spec={"workers": {}}))
        hpa = make(HORIZONTAL_POD_AUTOSCALER, "hpa", labels={}, spec={"scaleTargetRef": {"name": "mailer"}})
        world.cluster.seed(hpa)
        assert names(world.cache.list_by_target(WORKER_POOL, "shop", "mailer")) == ["a", "b"]
        assert names(world.cache.list_by_target(HORIZONTAL_POD_AUTOSCALER, "shop", "mailer")) == ["hpa"]
        assert world.cache.list_by_target(WORKER_POOL, "elsewhere", "mailer") == []
        edited = pool("a", "printer")["spec"]
        world.cluster.edit(ObjectRef(WORKER_POOL, "shop", "a"), lambda item: item.update(spec=edited))
        assert names(world.cache.list_by_target(WORKER_POOL, "shop", "mailer")) == ["b"]
        assert names(world.cache.list_by_target(WORKER_POOL, "shop", "printer")) == ["a", "c"]


class TestChanges:
    def test_a_change_of_labels_moves_an_object(self, world: CacheWorld) -> None:
        ref = ObjectRef(POD, "shop", "a")
        world.cluster.seed(make(POD, "a"))
        world.cluster.edit(ref, lambda pod: pod["metadata"]["labels"].update({SET: "other"}))
        assert world.cache.list(POD, "shop", labels=OF_STORE) == []
        assert names(world.cache.list(POD, "shop", labels={SET: "other"})) == ["a"]

    def test_what_is_removed_is_gone_and_a_new_one_may_come(self, world: CacheWorld) -> None:
        ref = ObjectRef(POD, "shop", "a")
        first = world.cluster.seed(make(POD, "a"))
        world.cluster.remove(ref)
        assert world.cache.get(ref) is None
        assert world.cache.list(POD, "shop", labels=OF_STORE) == []
        second = world.cluster.seed(make(POD, "a"))
        found = world.cache.get(ref)
        assert found is not None
        assert found["metadata"]["uid"] == second["metadata"]["uid"] != first["metadata"]["uid"]

    def test_a_workload_is_kept_in_part(self, world: CacheWorld) -> None:
        template = {"metadata": {"labels": {"app": "mailer"}}, "spec": {"containers": [{"name": "a", "image": "b:1"}]}}
        note = {"kubectl.kubernetes.io/last-applied-configuration": "{...}", "team": "shop", "headroom.dev/slot": "s"}
        manifest = make(DEPLOYMENT, "mailer", labels={}, spec={"replicas": 3, "selector": {}, "template": template})
        manifest["metadata"]["annotations"] = note
        world.cluster.seed(manifest)
        ref = ObjectRef(DEPLOYMENT, "shop", "mailer")
        world.cluster.set_status(ref, {"readyReplicas": 2, "conditions": [{"type": "Available"}]})
        first = world.cache.get(ref)
        assert first is not None
        assert first["spec"].keys() == {"replicas", "selector", "templateDigest"}
        assert first["status"] == {"readyReplicas": 2}
        assert first["metadata"]["annotations"] == {"headroom.dev/slot": "s"}
        assert "managedFields" not in first["metadata"]
        world.cluster.edit(ref, lambda item: item["spec"]["template"]["spec"]["containers"][0].update(image="b:2"))
        second = world.cache.get(ref)
        assert second is not None
        assert second["spec"]["templateDigest"] != first["spec"]["templateDigest"]


class TestOurOwnCalls:
    async def test_what_we_create_patch_and_report_is_there_at_once(self, own: CacheWorld) -> None:
        ref = ObjectRef(POD, "shop", "a")
        await own.kube.create(make(POD, "a"))
        await own.kube.patch(ref, [{"op": "add", "path": "/metadata/labels/role", "value": "serving"}])
        assert names(own.cache.list(POD, "shop", labels={**OF_STORE, "role": "serving"})) == ["a"]
        await own.kube.apply(make(SERVICE, "read", spec={"ports": []}))
        assert own.cache.get(ObjectRef(SERVICE, "shop", "read")) is not None
        pool = await own.kube.create(make(WORKER_POOL, "mail", labels={}, spec={}))
        where, version = ObjectRef(WORKER_POOL, "shop", "mail"), pool["metadata"]["resourceVersion"]
        written = await own.kube.replace_status(where, resource_version=version, status={"workers": 3})
        found = own.cache.get(where)
        assert found is not None
        assert found["status"] == {"workers": 3}
        assert found["metadata"]["resourceVersion"] == written["metadata"]["resourceVersion"]

    async def test_what_we_scale_shows_the_new_count(self, own: CacheWorld) -> None:
        ref = ObjectRef(DEPLOYMENT, "shop", "mailer")
        await own.kube.create(make(DEPLOYMENT, "mailer", labels={}, spec={"replicas": 1, "selector": {}}))
        scale = await own.kube.get_scale(ref)
        assert scale is not None
        scale = await own.kube.set_scale(scale, 4)
        found = own.cache.get(ref)
        assert found is not None
        assert (found["spec"]["replicas"], found["metadata"]["resourceVersion"]) == (4, scale.resource_version)

    async def test_what_we_delete_is_on_its_way_out_or_gone(self, own: CacheWorld) -> None:
        pod = await own.kube.create(make(POD, "a"))
        gone = await own.kube.delete(ObjectRef(POD, "shop", "a"), uid=pod["metadata"]["uid"])
        assert gone is None
        assert own.cache.get(ObjectRef(POD, "shop", "a")) is None
        claim = await own.kube.create(make(CLAIM, "a", spec={}))
        user = make(POD, "user", spec={"volumes": [{"name": "d", "persistentVolumeClaim": {"claimName": "a"}}]})
        await own.kube.create(user)
        held = await own.kube.delete(ObjectRef(CLAIM, "shop", "a"), uid=claim["metadata"]["uid"])
        found = own.cache.get(ObjectRef(CLAIM, "shop", "a"))
        assert held is not None
        assert found is not None
        assert found["metadata"]["deletionTimestamp"] == held["metadata"]["deletionTimestamp"]

    async def test_what_loses_the_label_of_its_set_leaves_and_comes_back_with_it(self, own: CacheWorld) -> None:
        ref, path = ObjectRef(CLAIM, "shop", "a"), "/metadata/labels/headroom.dev~1replica-set"
        await own.kube.create(make(CLAIM, "a", spec={}))
        await own.kube.patch(ref, [{"op": "remove", "path": path}])
        assert own.cache.get(ref) is None
        await own.kube.patch(ref, [{"op": "add", "path": path, "value": "store"}])
        assert names(own.cache.list(CLAIM, "shop", labels=OF_STORE)) == ["a"]
