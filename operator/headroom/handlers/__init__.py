"""Kopf, and nothing else: it watches, keeps the finalizer and signs in. Every event fills the cache and wakes a loop.

No function has more than ten lines: what happens to an object is decided elsewhere.
"""

import asyncio
from collections.abc import Collection, Iterable, Mapping
from typing import Any

import kopf

from headroom.model.replica import SET_LABEL
from headroom.ports.kube import FINALIZER, OUR_KINDS, SET_CHILDREN, WATCHED, Kind, ObjectRef, WatchFeed
from headroom.reconcilers.loop import LevelLoops
from headroom.reconcilers.wakes import Wakes

ASK_AGAIN_SECONDS = 1.0
"""How often Kopf looks whether a loop has ended whose object is being deleted."""
PREFIX = "headroom.dev"
KOPF_ANNOTATIONS = tuple(f"{PREFIX}/{name}" for name in ("teardown", "touch-dummy", "kopf-managed"))
KOPF_LENGTHS = range(1, 4096)
"""Kopf's own notes have a few hundred characters."""


def register(
    registry: kopf.OperatorRegistry,
    loops: LevelLoops,
    feed: WatchFeed,
    wakes: Wakes,
    unserved: Collection[Kind] = (),
) -> None:
    """Put the handlers of all watched kinds into a registry, and the loops of those that have a reconciler.

    A kind that the API server does not serve would never be listed, and Kopf would wait for that without end.
    """
    for kind in WATCHED:
        if kind not in unserved:
            register_watch(registry, feed, wakes, kind)
    for kind in loops.reconcilers:
        register_loop(registry, loops, kind)


def register_loop(registry: kopf.OperatorRegistry, loops: LevelLoops, kind: Kind) -> None:
    """One daemon and one teardown for each object of a kind of ours.

    Kopf cancels no daemon: a pass that is cancelled may have sent a write that takes effect after the teardown. Loops
    end by themselves, and a pass has a deadline.
    """
    group, version = _group_and_version(kind)

    @kopf.daemon(group, version, kind.plural, id="loop", registry=registry, cancellation_polling=ASK_AGAIN_SECONDS)
    async def loop(body: Mapping[str, Any], uid: str, stopped: kopf.DaemonStopped, **_: Any) -> None:
        end = asyncio.create_task(_end_when_stopped(loops, uid, stopped))
        try:
            await loops.run(kind, body, stopped)
        finally:
            end.cancel()

    @kopf.on.delete(group, version, kind.plural, id="teardown", registry=registry)
    async def teardown(namespace: str | None, name: str, uid: str, **_: Any) -> None:
        await loops.teardown(ObjectRef(kind, namespace or "", name), uid)


async def _end_when_stopped(loops: LevelLoops, uid: str, stopped: kopf.DaemonStopped) -> None:
    """Wake a loop that sleeps: Kopf only raises a flag."""
    await stopped.wait()
    loops.end(uid)


def register_watch(registry: kopf.OperatorRegistry, feed: WatchFeed, wakes: Wakes, kind: Kind) -> None:
    """News of an object goes to the cache, then to the loops that it concerns.

    An index makes Kopf wait with the daemons until each kind was listed once: no pass sees half a cluster. The index
    gets neither DELETED nor the type of an event, so those come from `on.event`, which Kopf calls after it.
    """
    group, version = _group_and_version(kind)

    @kopf.index(group, version, kind.plural, id=f"cache-{kind.plural}", registry=registry)
    async def observe(body: Mapping[str, Any], **_: Any) -> None:
        feed.observe(kind, dict(body))

    @kopf.on.event(group, version, kind.plural, id=f"wake-{kind.plural}", registry=registry)
    async def hear(event: kopf.RawEvent, body: Mapping[str, Any], **_: Any) -> None:
        if kind in OUR_KINDS:
            event["object"]["metadata"] = _trim(feed, kind, event["object"]["metadata"])
        feed.hear(kind, dict(body), event["type"])
        await wakes.hear(kind, body, is_gone=event["type"] == "DELETED")


def _trim(feed: WatchFeed, kind: Kind, metadata: Any) -> Any:
    """What passes and Kopf read of metadata: Kopf keeps the last event of an object as long as its daemon runs."""
    kept, annotations = feed.trim(kind, metadata), metadata.get("annotations") or {}
    of_kopf = {name: annotations[name] for name in KOPF_ANNOTATIONS if len(annotations.get(name, "")) in KOPF_LENGTHS}
    finalizers = {"finalizers": metadata["finalizers"]} if "finalizers" in metadata else {}
    return {**kept, **finalizers, "annotations": {**kept.get("annotations", {}), **of_kopf}}


def _group_and_version(kind: Kind) -> tuple[str, str]:
    group, _, version = kind.api_version.rpartition("/")
    return group, version


class NothingStored(kopf.DiffBaseStorage):
    """Passes read the present state, so there is no last-handled configuration to keep, or to copy for each event."""

    def build(self, *, body: kopf.Body, extra_fields: Any = None) -> kopf.BodyEssence:
        """Nothing of an object is compared."""
        return kopf.BodyEssence()

    def fetch(self, *, body: kopf.Body) -> None:
        """There is none."""

    def store(self, *, body: kopf.Body, patch: kopf.Patch, essence: kopf.BodyEssence) -> None:
        """Keep none."""


def build_kopf_settings() -> kopf.OperatorSettings:
    """Settings with our own prefix and finalizer, server-side selectors, and retries without end.

    `worker_limit` stays unset: below the number of indexed objects, Kopf would never finish its start.
    """
    settings = kopf.OperatorSettings()
    settings.peering.standalone = True
    # Kinds and namespaces are fixed at the start, and events come from the telemetry, which limits their rate.
    settings.scanning.disabled = True
    settings.posting.enabled = False
    settings.persistence.finalizer = FINALIZER
    settings.persistence.diffbase_storage = NothingStored()
    settings.persistence.progress_storage = kopf.AnnotationsProgressStorage(prefix=PREFIX)
    # The server ends a watch first, so that the client's timeout only finds a connection that is dead.
    settings.watching.server_timeout = 600
    settings.watching.client_timeout = 610
    settings.watching.chunk_size = 500
    for child in SET_CHILDREN:
        settings.watching.label_selectors[child.plural] = SET_LABEL
    settings.networking.request_timeout = 30
    settings.networking.connect_timeout = 10
    settings.networking.error_backoffs = Endless()
    settings.background.instant_exit_timeout = 0.1
    settings.process.ultimate_exiting_timeout = 20
    return settings


class Endless(Iterable[float]):
    """Backoffs in seconds that grow to 10 and never end: an unreachable API server comes back."""

    def __iter__(self) -> Any:
        """1, 2, 4, 8, 10, 10, ..."""
        pause = 1.0
        while True:
            yield pause
            pause = min(pause * 2, 10.0)


def register_login(registry: kopf.OperatorRegistry) -> None:
    """Sign in with the pod's service account, else with the kubeconfig."""

    @kopf.on.login(registry=registry)
    def login(**kwargs: Any) -> kopf.ConnectionInfo | None:
        return kopf.login_with_service_account(**kwargs) or kopf.login_with_kubeconfig(**kwargs)
