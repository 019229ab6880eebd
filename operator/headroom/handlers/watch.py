"""Kopf's part: it lists, watches and keeps the finalizer; every event fills the cache and wakes a level loop."""

from collections.abc import Mapping
from typing import Any

import kopf

from headroom.ports.kube import WATCHED, Kind, ObjectRef, WatchFeed
from headroom.reconcilers.loop import LevelLoops, Stopped
from headroom.reconcilers.wakes import Wakes

STOP_WITHIN = 5.0


def register(registry: kopf.OperatorRegistry, loops: LevelLoops, feed: WatchFeed, wakes: Wakes) -> None:
    """Put the handlers of all watched kinds into a registry, and the loops of those that have a reconciler."""
    for kind in WATCHED:
        register_watch(registry, feed, wakes, kind)
    for kind in loops.reconcilers:
        register_loop(registry, loops, kind)


def register_loop(registry: kopf.OperatorRegistry, loops: LevelLoops, kind: Kind) -> None:
    """One daemon and one teardown for each object of a kind of ours."""
    group, version = _group_and_version(kind)

    @kopf.daemon(group, version, kind.plural, id="loop", registry=registry, cancellation_timeout=STOP_WITHIN)
    async def loop(body: Mapping[str, Any], stopped: Stopped, **_: Any) -> None:
        await loops.run(kind, body, stopped)

    @kopf.on.delete(group, version, kind.plural, id="teardown", registry=registry)
    async def teardown(namespace: str | None, name: str, uid: str, **_: Any) -> None:
        await loops.teardown(ObjectRef(kind, namespace or "", name), uid)


def register_watch(registry: kopf.OperatorRegistry, feed: WatchFeed, wakes: Wakes, kind: Kind) -> None:
    """News of an object goes to the cache, then to whom it concerns.

    An index makes Kopf wait with the daemons until each kind was listed once: no pass sees half a cluster. It gets no
    DELETED and no type of an event, so those come by `on.event`, which Kopf calls after the index.
    """
    group, version = _group_and_version(kind)

    @kopf.index(group, version, kind.plural, id=f"cache-{kind.plural}", registry=registry)
    async def observe(body: Mapping[str, Any], **_: Any) -> None:
        feed.observe(kind, dict(body))

    @kopf.on.event(group, version, kind.plural, id=f"wake-{kind.plural}", registry=registry)
    async def hear(event: kopf.RawEvent, body: Mapping[str, Any], **_: Any) -> None:
        feed.hear(kind, dict(body), event["type"])
        await wakes.hear(kind, body, is_gone=event["type"] == "DELETED")


def _group_and_version(kind: Kind) -> tuple[str, str]:
    group, _, version = kind.api_version.rpartition("/")
    return group, version
