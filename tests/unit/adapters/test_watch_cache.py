"""The cache between a watch that is behind and calls that overtake it, and after a watch that was interrupted."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headroom.adapters.inmemory.clock import MemoryClock
from headroom.adapters.inmemory.kube import MemoryKube
from headroom.adapters.inmemory.kube_cluster import Cluster
from headroom.adapters.kube.cache import QUIET_SECONDS, WatchCache
from headroom.adapters.kube.write_through import RelistAudit, WriteThroughKube
from headroom.errors import Conflict, KubeUnavailable
from headroom.ports.kube import DEPLOYMENT, POD, REPLICA_SET, SERVICE, WORKER_POOL, Kind, Manifest, ObjectRef, Scale
from headroom.reasons import Reason
from tests.memory_kopf import MemoryWatch

SET = "headroom.dev/replica-set"
A_POD = ObjectRef(POD, "shop", "a")
MAILER = ObjectRef(DEPLOYMENT, "shop", "mailer")
UNAVAILABLE = KubeUnavailable("away", reason=Reason.KUBE_UNAVAILABLE)


def pod(version: int | str, *, uid: str = "u1", name: str = "a", label: str | None = "store", **parts: Any) -> Manifest:
    labels = {} if label is None else {SET: label}
    return {
        "metadata": {"namespace": "shop", "name": name, "uid": uid, "resourceVersion": str(version), "labels": labels},
        **parts,
    }


def make(kind: Kind, name: str, **parts: Any) -> Manifest:
    metadata = {"name": name, "namespace": "shop", "labels": {SET: "store"}}
    return {"apiVersion": kind.api_version, "kind": kind.name, "metadata": metadata, **parts}


def version_in(cache: WatchCache, ref: ObjectRef = A_POD) -> str | None:
    found = cache.get(ref)
    return None if found is None else found["metadata"]["resourceVersion"]


@pytest.fixture
def clock() -> MemoryClock:
    return MemoryClock()


@pytest.fixture
def cache(clock: MemoryClock) -> WatchCache:
    return WatchCache(clock)


class TestOrder:
    def test_an_event_that_is_older_is_ignored(self, cache: WatchCache) -> None:
        cache.observe(POD, pod(20))
        cache.observe(POD, pod(9))
        assert version_in(cache) == "20"

    def test_versions_are_compared_as_numbers(self, cache: WatchCache) -> None:
        cache.observe(POD, pod(9))
        cache.observe(POD, pod(10))
        assert version_in(cache) == "10"

    def test_versions_that_are_no_numbers_are_taken_as_they_come(self, cache: WatchCache) -> None:
        cache.observe(POD, pod("b"))
        cache.observe(POD, pod("a"))
        assert version_in(cache) == "a"

    def test_a_deleted_object_does_not_come_back(self, cache: WatchCache) -> None:
        cache.observe(POD, pod(5))
        cache.hear(POD, pod(8), "DELETED")
        cache.observe(POD, pod(7))
        assert cache.get(A_POD) is None

    def test_nor_does_one_that_a_read_did_not_find(self, cache: WatchCache) -> None:
        cache.observe(POD, pod(5))
        cache.evict(A_POD, "u1")
        cache.observe(POD, pod(99))
        assert cache.get(A_POD) is None

    def test_the_end_of_an_old_incarnation_leaves_the_new_one(self, cache: WatchCache) -> None:
        cache.observe(POD, pod(5))
        cache.observe(POD, pod(12, uid="u2"))
        cache.hear(POD, pod(11), "DELETED")
        cache.observe(POD, pod(10))
        assert version_in(cache) == "12"

    def test_what_leaves_the_selection_and_returns_is_seen_again(self, cache: WatchCache) -> None:
        cache.observe(POD, pod(5))
        cache.hear(POD, pod(6), "DELETED")
        cache.observe(POD, pod(7))
        assert version_in(cache) == "7"

    def test_tombstones_are_bounded(self, clock: MemoryClock) -> None:
        cache = WatchCache(clock, max_tombstones=3)
        for number in range(5):
            cache.hear(POD, pod(number, uid=f"u{number}"), "DELETED")
        assert list(cache._tombstones) == ["u2", "u3", "u4"]

    @given(st.permutations(range(1, 8)))
    def test_whatever_the_order_the_newest_stays(self, order: list[int]) -> None:
        cache = WatchCache(MemoryClock())
        for version in order:
            cache.observe(POD, pod(version, spec={"n": version}))
        found = cache.get(A_POD)
        assert found is not None
        assert found["spec"] == {"n": 7}

    def test_a_scaled_workload_is_completed_by_the_event_of_the_same_version(self, cache: WatchCache) -> None:
        seen = {**pod(5, name="mailer"), "spec": {"replicas": 1}, "status": {"replicas": 1}}
        cache.observe(DEPLOYMENT, seen)
        cache.record_scale(Scale(MAILER, 4, 1, "app=mailer", "u1", "6"))
        whole = {**pod(6, name="mailer"), "spec": {"replicas": 4}, "status": {"replicas": 2}}
        cache.observe(DEPLOYMENT, whole)
        found = cache.get(MAILER)
        assert found is not None
        assert (found["spec"]["replicas"], found["status"]["replicas"]) == (4, 2)

    def test_an_old_answer_to_scale_changes_nothing(self, cache: WatchCache) -> None:
        cache.observe(DEPLOYMENT, {**pod(7, name="mailer"), "spec": {"replicas": 9}})
        cache.record_scale(Scale(MAILER, 4, 1, "app=mailer", "u1", "6"))
        found = cache.get(MAILER)
        assert found is not None
        assert found["spec"]["replicas"] == 9


class TestRepair:
    """A watch that lost something: our own calls tell."""

    def build(self, clock: MemoryClock) -> tuple[MemoryKube, Cluster, WatchCache, WriteThroughKube, MemoryWatch]:
        kube = MemoryKube(clock=clock)
        cache = WatchCache(clock)
        return kube, Cluster(kube), cache, WriteThroughKube(kube, cache), MemoryWatch(kube, cache)

    async def test_a_read_that_finds_nothing_takes_the_entry_out(self, clock: MemoryClock) -> None:
        _, cluster, cache, through, watch = self.build(clock)
        cluster.seed(make(POD, "a"))
        watch.is_interrupted = True
        cluster.remove(A_POD)
        assert cache.get(A_POD) is not None
        assert await through.get(A_POD) is None
        assert cache.get(A_POD) is None

    async def test_a_read_that_was_overtaken_by_a_create_takes_nothing_out(self, clock: MemoryClock) -> None:
        kube, _, cache, through, _ = self.build(clock)

        class Overtaken(MemoryKube):
            async def get(self, ref: ObjectRef) -> Manifest | None:
                found = await kube.get(ref)
                await through.create(make(POD, "a"))
                return found

        assert await WriteThroughKube(Overtaken(beside=kube), cache).get(A_POD) is None
        assert cache.get(A_POD) is not None

    async def test_a_read_that_was_overtaken_by_a_new_incarnation_leaves_that_one(self, clock: MemoryClock) -> None:
        kube, cluster, cache, through, watch = self.build(clock)
        cluster.seed(make(POD, "a"))
        watch.is_interrupted = True
        cluster.remove(A_POD)

        class Overtaken(MemoryKube):
            async def get(self, ref: ObjectRef) -> Manifest | None:
                found = await kube.get(ref)
                await through.create(make(POD, "a"))
                return found

        assert await WriteThroughKube(Overtaken(beside=kube), cache).get(A_POD) is None
        found, live = cache.get(A_POD), cluster.read(A_POD)
        assert found is not None
        assert live is not None
        assert found["metadata"]["uid"] == live["metadata"]["uid"]

    async def test_a_conflict_brings_what_the_watch_has_not(self, clock: MemoryClock) -> None:
        _, cluster, cache, through, watch = self.build(clock)
        pool = cluster.seed(make(WORKER_POOL, "mail", spec={"a": 1}))
        ref, watch.is_interrupted = ObjectRef(WORKER_POOL, "shop", "mail"), True
        cluster.edit(ref, lambda item: item["spec"].update(a=2))
        with pytest.raises(Conflict):
            await through.replace_status(ref, resource_version=pool["metadata"]["resourceVersion"], status={})
        found = cache.get(ref)
        assert found is not None
        assert found["spec"] == {"a": 2}

    async def test_a_conflict_with_what_is_gone_takes_it_out(self, clock: MemoryClock) -> None:
        _, cluster, cache, through, watch = self.build(clock)
        cluster.seed(make(DEPLOYMENT, "mailer", spec={"replicas": 1, "selector": {}}))
        scale = await through.get_scale(MAILER)
        watch.is_interrupted = True
        cluster.remove(MAILER)
        assert scale is not None
        with pytest.raises(Conflict):
            await through.set_scale(scale, 2)
        assert cache.get(MAILER) is None

    async def test_what_cannot_be_refreshed_keeps_the_conflict(self, clock: MemoryClock) -> None:
        kube, cluster, cache, through, _ = self.build(clock)
        cluster.seed(make(POD, "a"))
        kube.faults.fail(UNAVAILABLE, verb="get")
        with pytest.raises(Conflict):
            await through.create(make(POD, "a"))
        assert cache.get(A_POD) is not None

    async def test_calls_for_kinds_that_are_not_watched_pass_through(self, clock: MemoryClock) -> None:
        kube, _, _, through, _ = self.build(clock)
        event = {"apiVersion": "v1", "kind": "Event", "metadata": {"namespace": "shop", "name": "e"}}
        await through.create(event)
        with pytest.raises(Conflict):
            await through.create(event)
        assert [verb for verb, _ in kube.calls] == ["create", "create"]


class Gone:
    def __init__(self) -> None:
        self.seen: list[tuple[str, str]] = []

    async def __call__(self, kind: Kind, manifest: Manifest) -> None:
        self.seen.append((kind.name, manifest["metadata"]["name"]))


class TestAudit:
    """A list that is repeated names what is there; Kopf sends no DELETED for what it does not name."""

    def build(
        self, clock: MemoryClock, *, watch_namespaces: tuple[str, ...] = ()
    ) -> tuple[MemoryKube, Cluster, WatchCache, MemoryWatch, RelistAudit, Gone]:
        kube = MemoryKube(clock=clock)
        cache, gone = WatchCache(clock, watch_namespaces), Gone()
        audit = RelistAudit(cache, WriteThroughKube(kube, cache), clock, gone)
        return kube, Cluster(kube), cache, MemoryWatch(kube, cache), audit, gone

    async def settle(self, clock: MemoryClock, audit: RelistAudit, times: int = 4) -> None:
        for _ in range(times):
            await clock.advance(QUIET_SECONDS)
            await audit.check()

    async def test_without_a_repeated_list_nothing_is_read(self, clock: MemoryClock) -> None:
        kube, cluster, _, watch, audit, gone = self.build(clock)
        cluster.seed(make(POD, "a"))
        watch.relist()
        kube.calls.clear()
        cluster.edit(A_POD, lambda item: item["metadata"]["labels"].update(x="1"))
        cluster.remove(A_POD)
        await self.settle(clock, audit)
        assert (kube.calls, gone.seen) == ([], [])

    async def test_what_vanished_is_read_and_taken_out(self, clock: MemoryClock) -> None:
        kube, cluster, cache, watch, audit, gone = self.build(clock)
        for name in ("a", "b", "c"):
            cluster.seed(make(POD, name))
        watch.is_interrupted = True
        cluster.remove(A_POD)
        await clock.advance(60)
        watch.relist()
        assert cache.get(A_POD) is not None
        await self.settle(clock, audit)
        assert cache.get(A_POD) is None
        assert [item["metadata"]["name"] for item in cache.list(POD, "shop")] == ["b", "c"]
        assert gone.seen == [("Pod", "a")]
        assert [(verb, ref.name) for verb, ref in kube.calls] == [("get", "a")]

    async def test_a_long_list_is_waited_for(self, clock: MemoryClock) -> None:
        kube, cluster, cache, _, audit, _ = self.build(clock)
        seen = {name: cluster.seed(make(POD, name)) for name in ("a", "b")}
        await clock.advance(60)
        kube.calls.clear()
        cache.observe(POD, seen["a"])
        cache.hear(POD, seen["a"], None)
        await clock.advance(QUIET_SECONDS - 1)
        await audit.check()
        cache.observe(POD, seen["b"])
        cache.hear(POD, seen["b"], None)
        await self.settle(clock, audit)
        assert kube.calls == []

    async def test_an_object_that_another_one_replaced_has_vanished(
        self, clock: MemoryClock, cache: WatchCache
    ) -> None:
        cache.observe(POD, pod(5))
        cache.observe(POD, pod(12, uid="u2"))
        assert cache.take_vanished() == (), "the watch may still report its end"
        await clock.advance(QUIET_SECONDS)
        assert [manifest["metadata"]["uid"] for _, manifest in cache.take_vanished()] == ["u1"]
        assert cache.take_vanished() == ()

    async def test_a_replaced_object_whose_end_was_heard_has_not(self, clock: MemoryClock, cache: WatchCache) -> None:
        cache.observe(POD, pod(5))
        cache.observe(POD, pod(12, uid="u2"))
        cache.hear(POD, pod(11), "DELETED")
        await clock.advance(QUIET_SECONDS)
        assert cache.take_vanished() == ()

    async def test_a_kind_that_vanished_whole_is_found_by_a_sample(self, clock: MemoryClock) -> None:
        kube, cluster, cache, watch, audit, gone = self.build(clock)
        cluster.seed(make(POD, "a"))
        for name in ("mailer", "printer"):
            cluster.seed(make(DEPLOYMENT, name, spec={"replicas": 1}))
        cluster.seed(make(SERVICE, "read"))
        watch.is_interrupted = True
        for name in ("mailer", "printer"):
            cluster.remove(ObjectRef(DEPLOYMENT, "shop", name))
        await clock.advance(60)
        watch.relist()
        await self.settle(clock, audit)
        assert cache.list(DEPLOYMENT, "shop") == []
        assert sorted(gone.seen) == [("Deployment", "mailer"), ("Deployment", "printer")]
        assert len(kube.calls) <= 5

    async def test_what_cannot_be_read_now_is_read_later(self, clock: MemoryClock) -> None:
        kube, cluster, cache, watch, audit, gone = self.build(clock)
        for name in ("a", "b"):
            cluster.seed(make(POD, name))
        watch.is_interrupted = True
        cluster.remove(A_POD)
        await clock.advance(60)
        watch.relist()
        kube.faults.fail(UNAVAILABLE, verb="get", times=2)
        await self.settle(clock, audit, times=2)
        assert cache.get(A_POD) is not None
        await self.settle(clock, audit)
        assert gone.seen == [("Pod", "a")]

    async def test_an_end_that_fails_neither_hides_nor_stops_the_others(self, clock: MemoryClock) -> None:
        _, cluster, cache, watch, _, gone = self.build(clock)

        async def forget(kind: Kind, manifest: Manifest) -> None:
            if kind != SERVICE:
                raise RuntimeError(kind.name)
            await asyncio.sleep(0)
            await gone(kind, manifest)

        audit = RelistAudit(cache, WriteThroughKube(MemoryKube(), cache), clock, forget)
        watch.is_interrupted = True
        for kind in (POD, DEPLOYMENT, SERVICE):
            seen = cluster.seed(make(kind, "a", spec={}))
            cache.observe(kind, seen)
            cache.evict(ObjectRef(kind, "shop", "a"), seen["metadata"]["uid"])
        await clock.advance(QUIET_SECONDS)
        with pytest.raises(ExceptionGroup) as raised:
            await audit.check()
        assert [str(error) for error in raised.value.exceptions] == ["Pod", "Deployment"]
        assert gone.seen == [("Service", "a")]

    async def test_only_the_namespace_of_the_list_is_audited(self, clock: MemoryClock) -> None:
        kube, cluster, cache, watch, audit, _ = self.build(clock, watch_namespaces=("shop", "other"))
        seen = cluster.seed(make(POD, "a"))
        other = make(POD, "b")
        other["metadata"]["namespace"] = "other"
        cluster.seed(other)
        watch.is_interrupted = True
        await clock.advance(60)
        kube.calls.clear()
        cache.observe(POD, seen)
        cache.hear(POD, seen, None)
        await self.settle(clock, audit)
        assert kube.calls == []

    async def test_a_deletion_that_a_watch_tells_later_is_not_told_twice(self, clock: MemoryClock) -> None:
        _, cluster, cache, _, audit, gone = self.build(clock)
        last = cluster.seed(make(REPLICA_SET, "store", spec={}))
        cache.evict(ObjectRef(REPLICA_SET, "shop", "store"), last["metadata"]["uid"])
        cache.hear(REPLICA_SET, last, "DELETED")
        await self.settle(clock, audit)
        assert gone.seen == []


class Counting(dict[str, str]):
    """Labels that count how often they are looked at."""

    looks = 0

    def get(self, key: str, default: Any = None) -> Any:
        Counting.looks += 1
        return super().get(key, default)


def count_looks(work: Callable[[], object]) -> int:
    before = Counting.looks
    work()
    return Counting.looks - before


def test_a_lookup_touches_its_own_objects_only(cache: WatchCache) -> None:
    for number in range(1000):
        name = f"p{number}"
        manifest = pod(number, uid=name, name=name)
        manifest["metadata"]["labels"] = Counting({SET: f"set-{number % 100}"})
        cache.observe(POD, manifest)
    assert count_looks(lambda: cache.list(POD, "shop", labels={SET: "set-7"})) == 10
    assert count_looks(lambda: cache.list(POD, "elsewhere", labels={"a": "b"})) == 0
    assert count_looks(lambda: cache.get(A_POD)) == 0
