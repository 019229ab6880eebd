"""The watches' index over the API in memory: what the store holds, without a call; or as it was, while it is frozen."""

from collections.abc import Mapping

from headroom.adapters.inmemory.copying import copy_json
from headroom.adapters.inmemory.kube_store import Store
from headroom.ports.kube import Kind, Manifest, ObjectRef


class MemoryCache:
    """Implements `KubeCache`; `freeze` plays a watch that delivers nothing until `thaw`."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._frozen: dict[ObjectRef, Manifest] | None = None

    def freeze(self) -> None:
        """Show what is there now, whatever comes."""
        self._frozen = self._present()

    def thaw(self) -> None:
        """Show the present again."""
        self._frozen = None

    def get(self, ref: ObjectRef) -> Manifest | None:
        """See `KubeCache.get`."""
        if self._frozen is not None:
            return self._frozen.get(ref)
        entry = self._store.entries.get(ref)
        return None if entry is None else copy_json(entry.manifest)

    def list(self, kind: Kind, namespace: str, *, labels: Mapping[str, str] | None = None) -> list[Manifest]:
        """See `KubeCache.list`."""
        found = [
            manifest
            for ref, manifest in (self._frozen or self._present()).items()
            if ref.kind == kind and namespace in ("", ref.namespace) and has_labels(manifest, labels)
        ]
        return sorted(found, key=lambda item: (item["metadata"].get("namespace", ""), item["metadata"]["name"]))

    def _present(self) -> dict[ObjectRef, Manifest]:
        return {ref: copy_json(entry.manifest) for ref, entry in self._store.entries.items()}


def has_labels(manifest: Manifest, labels: Mapping[str, str] | None) -> bool:
    """Whether an object's labels equal all of these."""
    found = manifest["metadata"].get("labels") or {}
    return all(found.get(name) == value for name, value in (labels or {}).items())
