"""What the watches have seen and what this process has written since, by kind, namespace and set.

It has two sources: the watches (`observe`, then `hear`) and our own calls (`WriteThroughKube`), whose answers may
overtake the watch. The higher resourceVersion wins, so neither can undo the other. An object that is gone stays gone:
its uid is kept for a while, since events about it may still arrive.
"""

from collections import OrderedDict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from operator import itemgetter
from typing import Any

from headroom.adapters.kube.projection import is_selected, project, project_metadata, target_name
from headroom.model.replica import SET_LABEL
from headroom.model.text import parse_count
from headroom.ports.clock import Clock
from headroom.ports.kube import WATCHED, Kind, Manifest, ObjectRef, Scale

MAX_TOMBSTONES = 10_000
"""More uids than objects that can be deleted before an event about one of them arrives."""
TARGET = "target"
_Key = tuple[Kind, str, str, str]
"""Kind, namespace, index and value."""
QUIET_SECONDS = 5.0
"""A list that brings nothing for so long has ended; the objects that it did not name are suspect."""


@dataclass(slots=True)
class Entry:
    """One object; `version` is None if it is not a number: then no version can be compared with it.

    `is_whole` is False after an answer of `/scale`, which has only a part of the object. `was_heard` is True once a
    watch event named it: a list that names it then is not the first one.
    """

    manifest: Manifest
    uid: str
    version: int | None
    confirmed_at: float
    is_whole: bool = True
    was_heard: bool = False

    def is_superseded_by(self, uid: str, version: int | None) -> bool:
        """Whether an object as read at `version` replaces this one."""
        if version is None or self.version is None:
            return True
        if uid == self.uid and version == self.version:
            return not self.is_whole
        return version > self.version


@dataclass(slots=True)
class Relist:
    """A running list of a kind: when it began, and when it last named an object."""

    kind: Kind
    scope: str
    began_at: float
    last_at: float


class WatchCache:
    """Implements `KubeCache` and `WatchFeed`; each of `watch_namespaces` has its own watches, empty means all."""

    def __init__(
        self, clock: Clock, watch_namespaces: tuple[str, ...] = (), *, max_tombstones: int = MAX_TOMBSTONES
    ) -> None:
        self._clock = clock
        self._max_tombstones = max_tombstones
        self._scoped = bool(watch_namespaces)
        self._kinds: dict[Kind, dict[str, dict[str, Entry]]] = {kind: {} for kind in WATCHED}
        self._indices: dict[_Key, dict[str, Entry]] = {}
        self._tombstones: OrderedDict[str, int | None] = OrderedDict()
        self._relists: dict[tuple[Kind, str], Relist] = {}
        self._vanished: dict[str, tuple[float, Kind, Manifest]] = {}

    def get(self, ref: ObjectRef) -> Manifest | None:
        """See `KubeCache.get`."""
        entry = self._find(ref)
        return None if entry is None else entry.manifest

    def list_by_target(self, kind: Kind, namespace: str, target: str) -> list[Manifest]:
        """See `KubeCache.list_by_target`."""
        found = self._indices.get((kind, namespace, TARGET, target), {})
        return [entry.manifest for _, entry in sorted(found.items(), key=itemgetter(0))]

    def list(self, kind: Kind, namespace: str, *, labels: Mapping[str, str] | None = None) -> list[Manifest]:
        """See `KubeCache.list`."""
        wanted = labels or {}
        found = [
            (name, entry.manifest)
            for name, entry in self._candidates(kind, namespace, wanted)
            if not wanted or has_labels(entry.manifest, wanted)
        ]
        if not namespace:
            return [manifest for _, manifest in sorted(found, key=lambda item: _sort_key(item[1]))]
        return [manifest for _, manifest in sorted(found, key=itemgetter(0))]

    def observe(self, kind: Kind, seen: Manifest) -> None:
        """See `WatchFeed.observe`; our own reads and writes come here too."""
        manifest, now = project(kind, seen), self._clock.monotonic()
        ref, uid, version = _identify(kind, manifest)
        if self._is_kept_out(uid, version):
            return
        known = self._find(ref)
        if known is not None and known.uid == uid:
            known.confirmed_at = now
        if known is not None and not known.is_superseded_by(uid, version):
            return
        if known is not None and known.uid != uid:
            # The watch may have missed the end of the old object: then no DELETED comes, and its loop would never end.
            self.evict(ref, known.uid)
        if is_selected(kind, manifest):
            was_heard = known is not None and known.uid == uid and known.was_heard
            self._put(ref, Entry(manifest, uid, version, now, was_heard=was_heard))
        elif known is not None and known.uid == uid:
            # Without the label it left the selection, for which the watch will send DELETED; with the label it comes
            # back.
            self._remove(ref, known)
            self._keep_out(uid, version)

    def hear(self, kind: Kind, seen: Manifest, change: str | None) -> None:
        """See `WatchFeed.hear`. A list that names what was heard of before is a repeated one: it begins an audit."""
        ref, uid, version = _identify(kind, seen)
        known = self._find(ref)
        if change == "DELETED":
            self._vanished.pop(uid, None)
            self._keep_out(uid, version)
            if known is not None and known.uid == uid:
                self._remove(ref, known)
            return
        if known is None or known.uid != uid:
            # Another incarnation has the name by now, or `observe` refused this one.
            return
        if change is None and known.was_heard:
            self._continue_relist(kind, ref.namespace, known.confirmed_at)
        known.was_heard = True

    def trim(self, kind: Kind, metadata: Mapping[str, Any]) -> dict[str, Any]:
        """See `WatchFeed.trim`."""
        return project_metadata(kind, metadata)

    def record_scale(self, scale: Scale) -> None:
        """Keep what `/scale` answered: a part of the object, which the watch completes."""
        known, version = self._find(scale.ref), _number(scale.resource_version)
        if known is None or known.uid != scale.uid or not known.is_superseded_by(scale.uid, version):
            return
        # The parts are copied, since whoever holds the old manifest may still read it.
        metadata = {**known.manifest["metadata"], "resourceVersion": scale.resource_version}
        spec = {**known.manifest["spec"], "replicas": scale.spec_replicas}
        manifest = {**known.manifest, "metadata": metadata, "spec": spec}
        now = self._clock.monotonic()
        self._put(scale.ref, Entry(manifest, known.uid, version, now, is_whole=False, was_heard=known.was_heard))

    def evict(self, ref: ObjectRef, uid: str) -> None:
        """The API server no longer has this object; if no watch says so for a while, `take_vanished` does."""
        known = self._find(ref)
        if known is None or known.uid != uid:
            return
        self._remove(ref, known)
        self._keep_out(uid, None)
        self._vanished[uid] = self._clock.monotonic(), ref.kind, known.manifest

    def take_relists(self) -> tuple[Relist, ...]:
        """The repeated lists that have ended since the last call."""
        ended = self._clock.monotonic() - QUIET_SECONDS
        done = [key for key, relist in self._relists.items() if relist.last_at <= ended]
        return tuple(self._relists.pop(key) for key in done)

    def find_unconfirmed(self, kind: Kind, scope: str, since: float) -> tuple[ObjectRef, ...]:
        """What no list and no event has named since then."""
        return tuple(ref for ref, entry in self._iterate(kind, scope) if entry.confirmed_at < since)

    def find_samples(self, relist: Relist) -> tuple[ObjectRef, ...]:
        """For each other kind the object that was confirmed longest ago."""
        samples = []
        for kind in WATCHED:
            entries = [] if kind == relist.kind else list(self._iterate(kind, relist.scope))
            if entries:
                samples.append(min(entries, key=lambda item: item[1].confirmed_at)[0])
        return tuple(samples)

    def take_vanished(self) -> tuple[tuple[Kind, Manifest], ...]:
        """What was evicted a while ago without an event of a watch."""
        before = self._clock.monotonic() - QUIET_SECONDS
        uids = [uid for uid, (evicted_at, _, _) in self._vanished.items() if evicted_at <= before]
        return tuple(self._vanished.pop(uid)[1:] for uid in uids)

    def _find(self, ref: ObjectRef) -> Entry | None:
        return self._kinds[ref.kind].get(ref.namespace, {}).get(ref.name)

    def _candidates(self, kind: Kind, namespace: str, labels: Mapping[str, str]) -> Iterator[tuple[str, Entry]]:
        namespaces = self._kinds[kind]
        for space in [namespace] if namespace else list(namespaces):
            if SET_LABEL in labels:
                yield from self._indices.get((kind, space, SET_LABEL, labels[SET_LABEL]), {}).items()
            else:
                yield from namespaces.get(space, {}).items()

    def _iterate(self, kind: Kind, scope: str) -> Iterator[tuple[ObjectRef, Entry]]:
        for namespace, entries in self._kinds[kind].items():
            if scope in ("", namespace):
                yield from ((ObjectRef(kind, namespace, name), entry) for name, entry in entries.items())

    def _put(self, ref: ObjectRef, entry: Entry) -> None:
        known = self._find(ref)
        if known is not None:
            self._remove(ref, known)
        self._kinds[ref.kind].setdefault(ref.namespace, {})[ref.name] = entry
        for key in _index_keys(ref, entry.manifest):
            self._indices.setdefault(key, {})[ref.name] = entry

    def _remove(self, ref: ObjectRef, entry: Entry) -> None:
        namespaces = self._kinds[ref.kind]
        del namespaces[ref.namespace][ref.name]
        if not namespaces[ref.namespace]:
            del namespaces[ref.namespace]
        for key in _index_keys(ref, entry.manifest):
            del self._indices[key][ref.name]
            if not self._indices[key]:
                del self._indices[key]

    def _keep_out(self, uid: str, version: int | None) -> None:
        """Keep out what was read at or before this version; None keeps out the uid for good."""
        if uid in self._tombstones and self._tombstones[uid] is None:
            # Kept out for good: a late DELETED with a version must not let the object in again.
            return
        self._tombstones[uid] = version
        self._tombstones.move_to_end(uid)
        while len(self._tombstones) > self._max_tombstones:
            self._tombstones.popitem(last=False)

    def _is_kept_out(self, uid: str, version: int | None) -> bool:
        if uid not in self._tombstones:
            return False
        kept_out_at = self._tombstones[uid]
        return kept_out_at is None or version is None or version <= kept_out_at

    def _continue_relist(self, kind: Kind, namespace: str, confirmed_at: float) -> None:
        scope, now = namespace if self._scoped else "", self._clock.monotonic()
        relist = self._relists.setdefault((kind, scope), Relist(kind, scope, confirmed_at, now))
        relist.last_at = now


def has_labels(manifest: Manifest, labels: Mapping[str, str] | None) -> bool:
    """Whether an object's labels equal all of these."""
    found = manifest["metadata"].get("labels") or {}
    return all(found.get(name) == value for name, value in (labels or {}).items())


def ref_of(kind: Kind, manifest: Manifest) -> ObjectRef:
    """The reference of an object of a known kind."""
    metadata = manifest["metadata"]
    return ObjectRef(kind, metadata.get("namespace") or "", metadata["name"])


def _identify(kind: Kind, manifest: Manifest) -> tuple[ObjectRef, str, int | None]:
    metadata = manifest["metadata"]
    return ref_of(kind, manifest), metadata["uid"], _number(metadata.get("resourceVersion"))


def _number(version: str | None) -> int | None:
    return None if version is None else parse_count(version)


def _index_keys(ref: ObjectRef, manifest: Manifest) -> Iterator[_Key]:
    """By the set that an object belongs to, and by what it scales: a pass reads only its own objects."""
    values = {
        SET_LABEL: (manifest["metadata"].get("labels") or {}).get(SET_LABEL),
        TARGET: target_name(ref.kind, manifest),
    }
    yield from ((ref.kind, ref.namespace, index, value) for index, value in values.items() if value is not None)


def _sort_key(manifest: Manifest) -> tuple[str, str]:
    metadata = manifest["metadata"]
    return metadata.get("namespace") or "", metadata["name"]
