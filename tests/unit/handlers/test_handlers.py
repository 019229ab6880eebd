import inspect
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from itertools import islice
from typing import Any

import kopf
import pytest

from headroom.adapters.inmemory.clock import MemoryClock
from headroom.adapters.inmemory.kube import MemoryKube
from headroom.adapters.inmemory.kube_cache import MemoryCache
from headroom.adapters.inmemory.telemetry import MemoryTelemetry
from headroom.adapters.kube.projection import project_metadata
from headroom.handlers import KOPF_ANNOTATIONS, Endless, NothingStored, build_kopf_settings, register
from headroom.ports.kube import (
    FINALIZER,
    HORIZONTAL_POD_AUTOSCALER,
    OPTIONAL,
    OUR_KINDS,
    REPLICA_SET,
    SET_CHILDREN,
    WATCHED,
    WORKLOADS,
    Kind,
    Manifest,
    ObjectRef,
)
from headroom.reconcilers.loop import LevelLoops
from headroom.reconcilers.servers import Servers
from headroom.reconcilers.wakes import Wakes


def test_outages_are_waited_out_without_end() -> None:
    assert list(islice(Endless(), 8)) == [1, 2, 4, 8, 10, 10, 10, 10]
    assert list(islice(Endless(), 1)) == [1]


def test_nothing_of_kopfs_own_reaches_the_objects() -> None:
    settings = build_kopf_settings()
    body, patch = kopf.Body({"metadata": {}, "spec": {"a": 1}}), kopf.Patch()
    storage = settings.persistence.diffbase_storage
    storage.store(body=body, patch=patch, essence=kopf.BodyEssence({"spec": {"a": 1}}))
    assert isinstance(storage, NothingStored)
    assert storage.fetch(body=body) is None
    assert not patch
    assert settings.persistence.finalizer == FINALIZER
    assert not settings.posting.enabled


def test_children_are_filtered_by_the_server() -> None:
    selectors = build_kopf_settings().watching.label_selectors
    assert {child.plural for child in SET_CHILDREN} == {"pods", "persistentvolumeclaims", "endpointslices", "services",
        "configmaps", "poddisruptionbudgets", "volumesnapshots"}  # fmt: skip
    assert all(selectors[child.plural] == "headroom.dev/replica-set" for child in SET_CHILDREN)
    assert not any(kind.plural in selectors for kind in (*OUR_KINDS, *WORKLOADS, HORIZONTAL_POD_AUTOSCALER))


def test_no_limit_of_workers_may_stop_the_start() -> None:
    """Below the number of indexed objects Kopf would wait for itself."""
    assert build_kopf_settings().queueing.worker_limit is None


class Feed:
    def __init__(self) -> None:
        self.told: list[tuple[str, str, Any]] = []

    def observe(self, kind: Kind, seen: Manifest) -> None:
        assert type(seen) is dict
        assert type(seen["metadata"]) is dict
        self.told.append(("observe", kind.name, seen["metadata"]["name"]))

    def hear(self, kind: Kind, seen: Manifest, change: str | None) -> None:
        self.told.append(("hear", kind.name, change))

    def trim(self, kind: Kind, metadata: Mapping[str, Any]) -> dict[str, Any]:
        return project_metadata(kind, metadata)


@dataclass
class Registered:
    registry: kopf.OperatorRegistry
    loops: LevelLoops
    feed: Feed

    async def send(self, kind: Kind, change: str | None, body: dict[str, Any]) -> None:
        """What Kopf does with an event: the index first, unless the object is gone; then the event handlers."""
        view = kopf.Body(body)
        for handler in self.registry._indexing.get_all_handlers() if change != "DELETED" else ():
            if handler.id == f"cache-{kind.plural}":
                await handler.fn(body=view)
        for handler in self.registry._watching.get_all_handlers():
            if handler.id == f"wake-{kind.plural}":
                await handler.fn(body=view, event={"type": change, "object": body})


@pytest.fixture
def registered() -> Registered:
    registry, clock, feed = kopf.OperatorRegistry(), MemoryClock(), Feed()
    kube = MemoryKube()
    cache = MemoryCache(kube.store)
    loops = LevelLoops(dict.fromkeys(OUR_KINDS, Nobody()), kube, cache, clock, MemoryTelemetry(), Servers(clock))
    register(registry, loops, feed, Wakes(loops))
    return Registered(registry, loops, feed)


class Nobody:
    async def reconcile(self, body: dict[str, Any]) -> timedelta:
        raise AssertionError

    async def teardown(self, body: dict[str, Any]) -> timedelta | None:
        raise AssertionError

    async def forget(self, uid: str) -> None:
        pass


def test_each_kind_has_a_loop_and_a_teardown_and_each_watched_one_an_index(registered: Registered) -> None:
    registry = registered.registry
    spawned = [handler.selector for handler in registry._spawning.get_all_handlers()]
    deleted = [handler.selector for handler in registry._changing.get_all_handlers()]
    assert len(spawned) == len(deleted) == 3
    assert {selector.any_name for selector in spawned if selector} == {kind.plural for kind in OUR_KINDS}
    assert all(selector.group == "headroom.dev" for selector in (*spawned, *deleted) if selector)
    # Kopf starts the daemons once every indexed kind was listed: a kind without an index would be decided on unseen.
    indexed = [handler.selector for handler in registry._indexing.get_all_handlers()]
    heard = [handler.selector for handler in registry._watching.get_all_handlers()]
    wanted = {(kind.api_version.rpartition("/")[0], kind.plural) for kind in WATCHED}
    assert {(selector.group, selector.any_name) for selector in indexed if selector} == wanted
    assert {(selector.group, selector.any_name) for selector in heard if selector} == wanted
    assert all(inspect.iscoroutinefunction(handler.fn) for handler in registry._indexing.get_all_handlers())


def test_a_kind_that_the_cluster_lacks_is_not_waited_for() -> None:
    registry, clock, kube = kopf.OperatorRegistry(), MemoryClock(), MemoryKube()
    cache = MemoryCache(kube.store)
    loops = LevelLoops(dict.fromkeys(OUR_KINDS, Nobody()), kube, cache, clock, MemoryTelemetry(), Servers(clock))
    register(registry, loops, Feed(), Wakes(loops), OPTIONAL)
    indexed = {handler.selector.any_name for handler in registry._indexing.get_all_handlers() if handler.selector}
    assert indexed == {kind.plural for kind in WATCHED if kind not in OPTIONAL}


async def test_an_event_is_observed_then_heard(registered: Registered) -> None:
    metadata = {"namespace": "shop", "name": "store", "uid": "u", "resourceVersion": "1", "generation": 1}
    for change in (None, "MODIFIED", "DELETED"):
        await registered.send(REPLICA_SET, change, {"metadata": metadata, "spec": {}})
    observed, kind = ("observe", "ReplicaSet", "store"), "ReplicaSet"
    assert registered.feed.told == [
        observed, ("hear", kind, None), observed, ("hear", kind, "MODIFIED"), ("hear", kind, "DELETED"),
    ]  # fmt: skip


async def test_an_object_that_is_gone_ends_its_loop(registered: Registered) -> None:
    metadata = {"namespace": "shop", "name": "store", "uid": "u", "resourceVersion": "1"}
    state = registered.loops._state_of(ObjectRef(REPLICA_SET, "shop", "store"), "u")
    await registered.send(REPLICA_SET, "DELETED", {"metadata": metadata, "spec": {}})
    assert state.is_tombstoned


@pytest.mark.parametrize("kind", OUR_KINDS)
async def test_kopf_keeps_no_more_of_an_object_than_passes_and_kopf_itself_read(
    registered: Registered, kind: Kind
) -> None:
    """Kopf remembers the last event of each object of ours, and anybody may put a megabyte into one."""
    progress = '{"started":"2026-01-01T00:00:00+00:00","retries":1}'
    kept = {"headroom.dev/abandon": "true", "headroom.dev/teardown": progress}
    metadata = {
        "namespace": "shop",
        "name": "store",
        "uid": "u",
        "resourceVersion": "1",
        "generation": 1,
        "finalizers": ["other/one", FINALIZER],
        "deletionTimestamp": "2026-01-01T00:00:00Z",
        "labels": {f"label-{number}": "x" * 63 for number in range(2000)},
        "annotations": {**kept, "team": "x" * 200_000, "headroom.dev/touch-dummy": "x" * 50_000},
        "managedFields": [{"fieldsV1": {"x": "x" * 100_000}}],
        "ownerReferences": [{"uid": str(number), "name": "x" * 200} for number in range(500)],
    }
    raw: Any = {"apiVersion": kind.api_version, "kind": kind.name, "metadata": metadata, "spec": {"a": 1}}
    before = len(json.dumps(raw))
    body = kopf.Body(raw)
    await registered.send(kind, "MODIFIED", raw)
    print(f"\n{kind.name}: {before:,} bytes of JSON, {len(json.dumps(raw)):,} are kept")
    assert len(json.dumps(raw)) < 2000
    assert dict(body.metadata.annotations) == kept
    assert body.metadata["finalizers"] == ["other/one", FINALIZER], "Kopf changes this list by its content"
    assert body.metadata["deletionTimestamp"]
    assert body.spec == {"a": 1}


async def test_other_kinds_are_left_as_they_are(registered: Registered) -> None:
    """Kopf remembers nothing of them."""
    metadata = {"namespace": "shop", "name": "a", "uid": "u", "resourceVersion": "1", "annotations": {"team": "shop"}}
    raw = {"metadata": metadata, "spec": {"scaleTargetRef": {"kind": "Deployment", "name": "x"}}}
    await registered.send(HORIZONTAL_POD_AUTOSCALER, "ADDED", raw)
    assert raw["metadata"] == metadata


def test_the_notes_of_kopf_are_the_ones_that_are_kept() -> None:
    storage, body = build_kopf_settings().persistence.progress_storage, kopf.Body({"metadata": {}})
    assert isinstance(storage, kopf.AnnotationsProgressStorage)
    patch = kopf.Patch()
    record: Any = {"started": "2026-01-01T00:00:00Z", "retries": 1, "success": None, "failure": None}
    key: Any = "teardown"
    storage.store(key=key, record=record, body=body, patch=patch)
    storage.touch(body=body, patch=patch, value="now")
    assert set(patch["metadata"]["annotations"]) <= set(KOPF_ANNOTATIONS)
    assert storage.fetch(key=key, body=kopf.Body({"metadata": patch["metadata"]})) is not None


def test_no_object_is_copied_to_compare_it() -> None:
    storage = build_kopf_settings().persistence.diffbase_storage
    assert storage.build(body=kopf.Body({"metadata": {}, "spec": {"a": "x" * 1000}})) == {}
