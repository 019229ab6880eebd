from itertools import islice

import kopf

from headroom.handlers.configure import FINALIZER, Endless, NothingStored, build_kopf_settings
from headroom.handlers.watch import register
from headroom.ports.kube import DATABASE_GUARD, REPLICA_SET, WORKER_POOL
from headroom.reconcilers.loop import LevelLoops


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
    assert selectors["pods"] == selectors["endpointslices"] == "headroom.dev/replica-set"


def test_each_kind_has_a_loop_a_wake_up_and_a_teardown() -> None:
    registry = kopf.OperatorRegistry()
    kinds = (DATABASE_GUARD, REPLICA_SET, WORKER_POOL)
    register(registry, LevelLoops(dict.fromkeys(kinds), None, None, None))  # type: ignore[arg-type]
    spawned = [handler.selector for handler in registry._spawning.get_all_handlers()]
    deleted = [handler.selector for handler in registry._changing.get_all_handlers()]
    watched = [handler.selector for handler in registry._watching.get_all_handlers()]
    assert len(spawned) == len(deleted) == 3
    assert len(watched) == 5
    plurals = {kind.plural for kind in kinds}
    assert {selector.any_name for selector in spawned if selector} == plurals
    assert all(selector.group == "headroom.dev" for selector in (*spawned, *deleted) if selector)
