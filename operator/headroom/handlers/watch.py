"""Kopf's part: it lists, watches and keeps the finalizer; every event only wakes a level loop."""

from collections.abc import Mapping
from typing import Any

import kopf

from headroom.ports.kube import DATABASE_GUARD, ENDPOINT_SLICE, POD, REPLICA_SET, WORKER_POOL, Kind
from headroom.reconcilers.level import LevelLoops, Stopped

SET_LABEL = "headroom.dev/replica-set"
STOP_WITHIN = 5.0


def register(registry: kopf.OperatorRegistry, loops: LevelLoops) -> None:
    """Put the handlers of our kinds and of their children into a registry."""
    for kind in (DATABASE_GUARD, REPLICA_SET, WORKER_POOL):
        register_kind(registry, loops, kind)
    for child in (POD, ENDPOINT_SLICE):
        register_child(registry, loops, child)


def register_kind(registry: kopf.OperatorRegistry, loops: LevelLoops, kind: Kind) -> None:
    """One daemon, one wake-up and one teardown for each object of a kind of ours."""
    group, version = kind.api_version.split("/")
    where = {"group": group, "version": version, "plural": kind.plural}
    seen: dict[str, object] = {}

    @kopf.daemon(**where, id="loop", registry=registry, cancellation_timeout=STOP_WITHIN)
    async def loop(body: Mapping[str, Any], stopped: Stopped, **_: Any) -> None:
        await loops.run(kind, body, stopped)

    @kopf.on.event(**where, id="wake", registry=registry)
    async def wake(body: kopf.Body, uid: str, namespace: str, name: str, type: str, **_: Any) -> None:  # noqa: A002
        if type == "DELETED":
            seen.pop(uid, None)
            await loops.forget(kind, namespace, name, uid)
        elif seen.get(uid) != (relevant := _relevant(body)):
            seen[uid] = relevant
            loops.wake(kind, namespace, name)

    @kopf.on.delete(**where, id="teardown", registry=registry)
    async def teardown(namespace: str, name: str, **_: Any) -> None:
        await loops.teardown(kind, namespace, name)


def register_child(registry: kopf.OperatorRegistry, loops: LevelLoops, child: Kind) -> None:
    """Any news of a set's pods or endpoints wakes the set."""
    where = {"version": child.api_version.split("/")[-1], "plural": child.plural}

    @kopf.on.event(**where, id=f"wake-{child.plural}", registry=registry, labels={SET_LABEL: kopf.PRESENT})
    async def wake_owner(namespace: str, labels: Mapping[str, str], **_: Any) -> None:
        loops.wake(REPLICA_SET, namespace, labels[SET_LABEL])


def _relevant(body: kopf.Body) -> object:
    # Everything but status: our own status echo must wake nobody.
    metadata = body.metadata
    return (
        metadata.get("generation"),
        metadata.get("deletionTimestamp"),
        tuple(sorted(metadata.labels.items())),
        tuple(sorted(metadata.annotations.items())),
    )
