"""Kopf's part: it lists, watches and keeps the finalizer; every event only wakes a level loop."""

from collections.abc import Mapping
from typing import Any

import kopf

from headroom.ports.kube import ENDPOINT_SLICE, POD, REPLICA_SET, Kind, ObjectRef
from headroom.reconcilers.loop import LevelLoops, Stopped

SET_LABEL = "headroom.dev/replica-set"
STOP_WITHIN = 5.0


def register(registry: kopf.OperatorRegistry, loops: LevelLoops) -> None:
    """Put the handlers of the kinds that have a reconciler, and of their children, into a registry."""
    for kind in loops.reconcilers:
        register_loop(registry, loops, kind)
        register_wake(registry, loops, kind)
    for child in (POD, ENDPOINT_SLICE):
        register_child(registry, loops, child)


def register_loop(registry: kopf.OperatorRegistry, loops: LevelLoops, kind: Kind) -> None:
    """One daemon and one teardown for each object of a kind of ours."""
    group, version = _group_and_version(kind)

    @kopf.daemon(group, version, kind.plural, id="loop", registry=registry, cancellation_timeout=STOP_WITHIN)
    async def loop(body: Mapping[str, Any], stopped: Stopped, **_: Any) -> None:
        await loops.run(kind, body, stopped)

    @kopf.on.delete(group, version, kind.plural, id="teardown", registry=registry)
    async def teardown(namespace: str | None, name: str, uid: str, **_: Any) -> None:
        await loops.teardown(ObjectRef(kind, namespace or "", name), uid)


def register_wake(registry: kopf.OperatorRegistry, loops: LevelLoops, kind: Kind) -> None:
    """News of an object wakes its loop; the echo of our own status does not."""
    group, version = _group_and_version(kind)
    seen: dict[str, object] = {}

    @kopf.on.event(group, version, kind.plural, id="wake", registry=registry)
    async def wake(event: kopf.RawEvent, meta: kopf.Meta, uid: str, namespace: str | None, name: str, **_: Any) -> None:
        ref = ObjectRef(kind, namespace or "", name)
        if event["type"] == "DELETED":
            seen.pop(uid, None)
            await loops.forget(ref, uid)
        elif meta.get("deletionTimestamp"):
            loops.end(uid)
        elif seen.get(uid) != (news := _news(meta)):
            seen[uid] = news
            loops.wake(ref)


def register_child(registry: kopf.OperatorRegistry, loops: LevelLoops, child: Kind) -> None:
    """Any news of a set's pods or endpoints wakes the set."""
    group, version = _group_and_version(child)
    of_a_set = {SET_LABEL: kopf.PRESENT}

    @kopf.on.event(group, version, child.plural, id=f"wake-{child.plural}", registry=registry, labels=of_a_set)
    async def wake_owner(namespace: str | None, labels: Mapping[str, str], **_: Any) -> None:
        loops.wake(ObjectRef(REPLICA_SET, namespace or "", labels[SET_LABEL]))


def _news(meta: kopf.Meta) -> object:
    labels, annotations = sorted(meta.labels.items()), sorted(meta.annotations.items())
    return meta.get("generation"), labels, annotations


def _group_and_version(kind: Kind) -> tuple[str, str]:
    group, _, version = kind.api_version.rpartition("/")
    return group, version
