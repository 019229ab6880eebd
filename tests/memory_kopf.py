"""What Kopf does with our handlers, over the API in memory: lists, events in order, daemons, finalizers, teardowns."""

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from headroom.adapters.inmemory.kube import MemoryKube
from headroom.adapters.inmemory.kube_cluster import Cluster
from headroom.adapters.inmemory.kube_store import copy_json
from headroom.adapters.kube.cache import ref_of
from headroom.adapters.kube.projection import is_selected
from headroom.ports.kube import FINALIZER, OUR_KINDS, WATCHED, Kind, Manifest, ObjectRef, WatchFeed
from headroom.reconcilers.loop import LevelLoops
from headroom.reconcilers.wakes import Wakes
from tests.memory_world import CrashFence

KINDS = {(kind.api_version, kind.name): kind for kind in WATCHED}


class MemoryWatch:
    """The watches of all kinds: feeds a cache at each change of the store.

    While `is_interrupted` events are lost, until `relist`. While `delay_seconds` is not 0 (it needs a running loop),
    they come so much later, in their order. `on_news` is called after each.
    """

    def __init__(self, kube: MemoryKube, feed: WatchFeed) -> None:
        self._kube, self._feed = kube, feed
        self.is_interrupted = False
        self.delay_seconds = 0.0
        self.on_news: Callable[[], None] = lambda: None
        self.heard: list[tuple[str | None, Kind, Manifest]] = []
        self._selected: dict[str, Manifest] = {}
        self._late: deque[tuple[float, str, Manifest]] = deque()
        kube.store.listeners.append(self._notice)
        self.relist()

    def close(self) -> None:
        """Nothing is delivered any more."""
        self._kube.store.listeners.remove(self._notice)
        self._late.clear()

    def _notice(self, change: str, manifest: Manifest) -> None:
        if not self.delay_seconds:
            self._deliver(change, manifest)
            return
        loop = asyncio.get_running_loop()
        self._late.append((loop.time() + self.delay_seconds, change, manifest))
        loop.call_later(self.delay_seconds, self._deliver_late)

    def _deliver_late(self) -> None:
        # Several calls may be due at once, and the loop does not keep their order.
        while self._late and self._late[0][0] <= asyncio.get_running_loop().time():
            self._deliver(*self._late.popleft()[1:])

    def relist(self) -> None:
        """Name every object that is there, as the list does that follows an interruption."""
        self.is_interrupted = False
        for ref, entry in list(self._kube.store.entries.items()):
            if ref.kind in WATCHED and is_selected(ref.kind, entry.manifest):
                self._feed.observe(ref.kind, copy_json(entry.manifest))
        for ref, entry in list(self._kube.store.entries.items()):
            if ref.kind in WATCHED and is_selected(ref.kind, entry.manifest):
                self._selected[entry.manifest["metadata"]["uid"]] = entry.manifest
                self._tell(None, ref.kind, copy_json(entry.manifest))

    def _deliver(self, change: str, manifest: Manifest) -> None:
        kind = KINDS.get((manifest["apiVersion"], manifest["kind"]))
        if kind is None or self.is_interrupted:
            return
        uid = manifest["metadata"]["uid"]
        if not is_selected(kind, manifest):
            if (last := self._selected.pop(uid, None)) is not None:
                # An object that leaves the selection is DELETED to the watch, as it was last, at the version of now.
                version = manifest["metadata"]["resourceVersion"]
                self._tell("DELETED", kind, {**last, "metadata": {**last["metadata"], "resourceVersion": version}})
            return
        self._selected[uid] = manifest
        if change != "DELETED":
            self._feed.observe(kind, manifest)
        self._tell(change, kind, manifest)

    def _tell(self, change: str | None, kind: Kind, manifest: Manifest) -> None:
        self._feed.hear(kind, manifest, change)
        self.heard.append((change, kind, manifest))
        self.on_news()


@dataclass
class MemoryKopf:
    """Runs the loops of all objects of ours; `run` until cancelled. Its own writes pass a fence too."""

    kube: MemoryKube
    loops: LevelLoops
    wakes: Wakes
    watch: MemoryWatch
    fence: CrashFence = field(default_factory=CrashFence)
    _daemons: dict[str, asyncio.Task[None]] = field(default_factory=dict)
    _teardowns: dict[str, asyncio.Task[None]] = field(default_factory=dict)
    _endings: set[asyncio.Task[None]] = field(default_factory=set)

    async def run(self) -> None:
        """Handle events in their order."""
        changed = asyncio.Event()
        self.watch.on_news = changed.set
        try:
            while True:
                heard, self.watch.heard = self.watch.heard, []
                for change, kind, manifest in heard:
                    await self._hear(change, kind, manifest)
                    if kind in OUR_KINDS and change != "DELETED":
                        self._handle(ref_of(kind, manifest), manifest)
                if not self.watch.heard:
                    await changed.wait()
                changed.clear()
        finally:
            tasks = [*self._daemons.values(), *self._teardowns.values(), *self._endings]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _hear(self, change: str | None, kind: Kind, manifest: Manifest) -> None:
        """Kopf has a worker for each object: the end of one, which waits for its running pass, delays no other."""
        if change != "DELETED":
            await self.wakes.hear(kind, manifest)
            return
        ending = asyncio.create_task(self.wakes.hear(kind, manifest, is_gone=True))
        self._endings.add(ending)
        ending.add_done_callback(self._endings.discard)
        await asyncio.sleep(0)

    def _handle(self, ref: ObjectRef, manifest: Manifest) -> None:
        metadata = manifest["metadata"]
        uid, finalizers = metadata["uid"], metadata.get("finalizers") or []
        if "deletionTimestamp" in metadata:
            if FINALIZER in finalizers and uid not in self._teardowns:
                self._teardowns[uid] = asyncio.create_task(self._tear_down(ref, uid))
        elif FINALIZER not in finalizers:
            self._edit(ref, _add_finalizer)
        elif uid not in self._daemons:
            self._daemons[uid] = asyncio.create_task(self.loops.run(ref.kind, manifest, _Never()))

    async def _tear_down(self, ref: ObjectRef, uid: str) -> None:
        await self.loops.teardown(ref, uid)
        if ref in self.kube.store.entries:
            self._edit(ref, _remove_finalizer)

    def _edit(self, ref: ObjectRef, change: Callable[[Manifest], None]) -> None:
        self.fence.check(3.0)
        Cluster(self.kube).edit(ref, change, manager="kopf")
        self.fence.finish(f"{change.__name__.strip('_').replace('_', ' ')} {ref}")


class _Never:
    def __bool__(self) -> bool:
        return False


def _add_finalizer(body: Manifest) -> None:
    body["metadata"]["finalizers"] = [*(body["metadata"].get("finalizers") or []), FINALIZER]


def _remove_finalizer(body: Manifest) -> None:
    body["metadata"]["finalizers"].remove(FINALIZER)
