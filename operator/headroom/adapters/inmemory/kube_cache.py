"""The watches' index over the API in memory: the content of the store without a call, or an old state while it is
frozen.
"""

from collections.abc import Iterable, Mapping

from headroom.adapters.inmemory.kube_store import Store, copy_json
from headroom.adapters.kube.cache import has_labels
from headroom.adapters.kube.projection import is_selected, project, target_name
from headroom.ports.kube import WATCHED, Kind, Manifest, ObjectRef


class MemoryCache:
    """Implements `KubeCache`; `freeze` plays a watch that delivers nothing until `thaw`."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._frozen: dict[ObjectRef, Manifest] | None = None

    def freeze(self) -> None:
        """Show the present state from now on."""
        self._frozen = {ref: copy_json(entry.manifest) for ref, entry in self._store.entries.items()}

    def thaw(self) -> None:
        """Show each change again."""
        self._frozen = None

    def get(self, ref: ObjectRef) -> Manifest | None:
        """See `KubeCache.get`."""
        if ref.kind not in WATCHED:
            raise KeyError(ref.kind)
        if self._frozen is not None:
            manifest = self._frozen.get(ref)
        else:
            entry = self._store.entries.get(ref)
            manifest = None if entry is None else entry.manifest
        if manifest is None or not is_selected(ref.kind, manifest):
            return None
        return copy_json(project(ref.kind, manifest))

    def list_by_target(self, kind: Kind, namespace: str, target: str) -> list[Manifest]:
        """See `KubeCache.list_by_target`."""
        return [item for item in self.list(kind, namespace) if target_name(kind, item) == target]

    def list(self, kind: Kind, namespace: str, *, labels: Mapping[str, str] | None = None) -> list[Manifest]:
        """See `KubeCache.list`."""
        if kind not in WATCHED:
            raise KeyError(kind)
        found = [
            copy_json(project(kind, manifest))
            for ref, manifest in self._present()
            if ref.kind == kind
            and namespace in ("", ref.namespace)
            and has_labels(manifest, labels)
            and is_selected(kind, manifest)
        ]
        return sorted(found, key=lambda item: (item["metadata"].get("namespace", ""), item["metadata"]["name"]))

    def _present(self) -> Iterable[tuple[ObjectRef, Manifest]]:
        if self._frozen is not None:
            return self._frozen.items()
        return ((ref, entry.manifest) for ref, entry in self._store.entries.items())
