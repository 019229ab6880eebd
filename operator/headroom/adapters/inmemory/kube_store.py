"""The objects of the Kubernetes API in memory and the life of their metadata."""

import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from headroom.adapters.inmemory.kube_fields import Manager, Owners, record_update, render_owners
from headroom.errors import Conflict, Refused
from headroom.model.moments import format_time
from headroom.ports.clock import Clock
from headroom.ports.kube import CLAIM, POD, Kind, Manifest, ObjectRef
from headroom.reasons import Reason

CLAIM_PROTECTION = "kubernetes.io/pvc-protection"
DEFAULT_GRACE_SECONDS = 30
SET_BY_SERVER = ("uid", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds", "generation")
Listener = Callable[[str, Manifest], None]


@dataclass(slots=True)
class Entry:
    """One stored object and who owns its fields."""

    manifest: Manifest
    owners: Owners = field(default_factory=dict)
    times: dict[Manager, str] = field(default_factory=dict)


@dataclass(slots=True)
class Store:
    """Objects by reference; one resourceVersion counter for all, as in etcd. Keys are kept and given out sorted.

    `listeners` hear ("ADDED" | "MODIFIED" | "DELETED", object) after each change, as a watch would.
    """

    clock: Clock | None = None
    collects_garbage: bool = True
    entries: dict[ObjectRef, Entry] = field(default_factory=dict)
    listeners: list[Listener] = field(default_factory=list)
    _versions: "itertools.count[int]" = field(default_factory=lambda: itertools.count(1001))
    _uids: "itertools.count[int]" = field(default_factory=lambda: itertools.count(1))

    def add(self, ref: ObjectRef, manifest: Manifest, manager: Manager, owners: Owners | None = None) -> Manifest:
        """Store a new object with fresh uid, generation and version; Conflict if the name is taken."""
        if ref in self.entries:
            raise Conflict(f"{ref} exists already")
        new = copy_json(manifest)
        metadata = new.setdefault("metadata", {})
        for name in (*SET_BY_SERVER, "resourceVersion", "managedFields"):
            metadata.pop(name, None)
        metadata["uid"] = f"00000000-0000-4000-8000-{next(self._uids):012d}"
        metadata["creationTimestamp"] = self.timestamp()
        if "spec" in new:
            metadata["generation"] = 1
        if ref.kind == CLAIM:
            metadata["finalizers"] = [*metadata.get("finalizers", []), CLAIM_PROTECTION]
        self.entries[ref] = Entry(new, owners if owners is not None else {})
        if owners is None:
            record_update(self.entries[ref].owners, {}, new, manager)
        stored = self._stamp(ref, manager)
        self._notify("ADDED", stored)
        return copy_json(stored)

    def change(self, ref: ObjectRef, new: Manifest, manager: Manager) -> Manifest:
        """Store a changed object: without a difference nothing changes, and `generation` changes only with the spec."""
        entry = self.entries[ref]
        if manager.operation == "Update":
            record_update(entry.owners, entry.manifest, new, manager)
        return self._replace(ref, new, manager)

    def remove(self, ref: ObjectRef) -> None:
        """Remove an object at once, with everything it owned."""
        entry = self.entries.pop(ref)
        entry.manifest["metadata"]["resourceVersion"] = str(next(self._versions))
        self._notify("DELETED", entry.manifest)
        if self.collects_garbage:
            self._collect(entry.manifest["metadata"]["uid"])
        self._release_claims()

    def delete(self, ref: ObjectRef, grace_seconds: int | None = None) -> None:
        """Begin deletion: gone at once unless finalizers, or a running pod's grace period, hold it.

        As in the real server, `deletionTimestamp` is the end of the grace period, and a repeated deletion can only
        shorten it, counted from the first.
        """
        new = copy_json(self.entries[ref].manifest)
        metadata = new["metadata"]
        grace, held = _grace_of(ref, new, grace_seconds), metadata.get("deletionGracePeriodSeconds", 0)
        if "deletionTimestamp" not in metadata:
            metadata["deletionTimestamp"] = format_time(self._now() + timedelta(seconds=grace))
            metadata["deletionGracePeriodSeconds"] = grace
        elif grace < held:
            ends_at = datetime.fromisoformat(metadata["deletionTimestamp"]) - timedelta(seconds=held - grace)
            metadata.update(deletionTimestamp=format_time(ends_at), deletionGracePeriodSeconds=grace)
        self._replace(ref, new, None)
        self._release_claims()

    def timestamp(self) -> str:
        """Now, as the server writes it."""
        return format_time(self._now())

    def _now(self) -> datetime:
        return self.clock.now() if self.clock else datetime(2026, 1, 1, tzinfo=UTC)

    def _replace(self, ref: ObjectRef, new: Manifest, manager: Manager | None) -> Manifest:
        entry = self.entries[ref]
        old = entry.manifest
        metadata = new["metadata"]
        if new.get("spec") != old.get("spec"):
            metadata["generation"] = old["metadata"].get("generation", 0) + 1
        if _content(new) == _content(old) and manager in (None, *entry.times):
            return copy_json(old)
        entry.manifest = new
        stored = self._stamp(ref, manager)
        self._notify("MODIFIED", stored)
        result = copy_json(stored)
        if _is_free_to_go(stored):
            self.remove(ref)
        elif ref.kind == POD:
            self._release_claims()
        return result

    def _stamp(self, ref: ObjectRef, manager: Manager | None) -> Manifest:
        entry = self.entries[ref]
        if manager in entry.owners:
            entry.times[manager] = self.timestamp()
        entry.times = {owner: entry.times.get(owner, self.timestamp()) for owner in entry.owners}
        metadata = {
            **entry.manifest["metadata"],
            "resourceVersion": str(next(self._versions)),
            "managedFields": render_owners(entry.owners, ref.kind.api_version, entry.times),
        }
        entry.manifest = _sort_json({**entry.manifest, "metadata": metadata})
        return entry.manifest

    def _notify(self, change: str, manifest: Manifest) -> None:
        for listener in list(self.listeners):
            listener(change, copy_json(manifest))

    def _collect(self, gone_uid: str) -> None:
        alive = {entry.manifest["metadata"]["uid"] for entry in self.entries.values()}
        for ref, entry in list(self.entries.items()):
            owners = [owner["uid"] for owner in entry.manifest["metadata"].get("ownerReferences", [])]
            if gone_uid in owners and alive.isdisjoint(owners) and ref in self.entries:
                self.delete(ref)

    def _release_claims(self) -> None:
        used = {
            name for ref, entry in self.entries.items() if ref.kind == POD for name in _claims_of(ref, entry.manifest)
        }
        for ref, entry in list(self.entries.items()):
            metadata = entry.manifest["metadata"]
            is_held = CLAIM_PROTECTION in metadata.get("finalizers", ())
            if (
                ref.kind == CLAIM
                and is_held
                and "deletionTimestamp" in metadata
                and (ref.namespace, ref.name) not in used
            ):
                new = copy_json(entry.manifest)
                new["metadata"]["finalizers"].remove(CLAIM_PROTECTION)
                self._replace(ref, new, None)


def check_identity(ref: ObjectRef, old: Manifest, new: Manifest) -> None:
    """Refuse a write that changes what only the server may set, or the immutable part of a pod or claim."""
    for name in ("name", "namespace", *SET_BY_SERVER):
        if new["metadata"].get(name) != old["metadata"].get(name):
            raise Refused(f"{ref}: metadata.{name}: field is immutable", reason=Reason.INVALID_SPEC)
    if ref.kind in (POD, CLAIM) and _fixed_spec(ref.kind, new) != _fixed_spec(ref.kind, old):
        raise Refused(f"{ref}: spec: Forbidden: is immutable after creation", reason=Reason.INVALID_SPEC)


def _fixed_spec(kind: Kind, manifest: Manifest) -> dict[str, Any]:
    spec: dict[str, Any] = copy_json(manifest.get("spec", {}))
    if kind == CLAIM:
        spec.get("resources", {}).pop("requests", None)
    for container in (*spec.get("containers", ()), *spec.get("initContainers", ())):
        container.pop("image", None)
    return spec


def _content(manifest: Manifest) -> Manifest:
    metadata = {
        name: value for name, value in manifest["metadata"].items() if name not in ("resourceVersion", "managedFields")
    }
    return {**manifest, "metadata": metadata}


def _is_free_to_go(manifest: Manifest) -> bool:
    metadata = manifest["metadata"]
    if "deletionTimestamp" not in metadata or metadata.get("finalizers"):
        return False
    return not metadata["deletionGracePeriodSeconds"]


def _grace_of(ref: ObjectRef, manifest: Manifest, asked: int | None) -> int:
    if ref.kind != POD or _is_ended(manifest) or not manifest.get("spec", {}).get("nodeName"):
        return 0
    return asked if asked is not None else manifest["spec"].get("terminationGracePeriodSeconds", DEFAULT_GRACE_SECONDS)


def _is_ended(pod: Manifest) -> bool:
    return pod.get("status", {}).get("phase") in ("Succeeded", "Failed")


def _claims_of(ref: ObjectRef, pod: Manifest) -> list[tuple[str, str]]:
    if _is_ended(pod):
        return []
    volumes = pod.get("spec", {}).get("volumes", ())
    return [
        (ref.namespace, volume["persistentVolumeClaim"]["claimName"])
        for volume in volumes
        if "persistentVolumeClaim" in volume
    ]


def _sort_json(tree: Mapping[str, Any]) -> dict[str, Any]:
    """A copy with sorted keys at every level: the order in which a client sent them is lost in the real server too."""
    return {key: _sort(tree[key]) for key in sorted(tree)}


def _sort(value: Any) -> Any:
    if isinstance(value, dict):
        return _sort_json(value)
    if isinstance(value, list | tuple):
        return [_sort(inner) for inner in value]
    return value


def copy_json(tree: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of a JSON tree that shares no dict or list with it; far cheaper than a copy of arbitrary objects."""
    return {key: _copy(inner) for key, inner in tree.items()}


def _copy(value: Any) -> Any:
    if isinstance(value, dict):
        return copy_json(value)
    if isinstance(value, list | tuple):
        return [_copy(inner) for inner in value]
    return value
