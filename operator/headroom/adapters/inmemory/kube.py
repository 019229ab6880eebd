"""The Kubernetes API in memory: the port's contract, a write log, faults, and the rest of the cluster by hand.

The rest of the cluster, which a test plays (kubelet, scheduler, controllers, other people), is in `kube_cluster`.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from headroom.adapters.inmemory import kube_kinds
from headroom.adapters.inmemory.kube_faults import READ_VERBS, Faults, OnWrite, ignore
from headroom.adapters.inmemory.kube_fields import Manager, apply_fields, patch_manifest
from headroom.adapters.inmemory.kube_store import Store, check_identity, copy_json
from headroom.adapters.kube.answers import refuse_foreign
from headroom.errors import Conflict, KubeUnavailable, NotServed, Refused
from headroom.ports.clock import Clock, Fence
from headroom.ports.kube import FIELD_MANAGER, NAMESPACE, JsonOp, Kind, Manifest, ObjectRef, Scale
from headroom.reasons import Reason

NOWHERE = Kind("", "", "")
Result = TypeVar("Result")


class MemoryKube:
    """Implements `Kube`. `writes` lists what took effect as (verb, ref); `calls` lists every call, also reads.

    `on_write` hears what each write was, once it has taken effect and before it is answered. Verbs: create, apply,
    patch, delete, replace_status, set_scale; get, list, get_scale, resolve.
    """

    def __init__(
        self,
        *,
        clock: Clock | None = None,
        fence: Fence | None = None,
        beside: "MemoryKube | None" = None,
        read_timeout_seconds: float = 10.0,
        write_timeout_seconds: float = 3.0,
    ) -> None:
        """`beside` is the client of another process on the same server: it shares the objects, not faults and log."""
        self.store: Store = beside.store if beside else Store(clock=clock)
        self.kinds: kube_kinds.KindRegistry = beside.kinds if beside else kube_kinds.KindRegistry()
        self.faults = Faults()
        self.writes: list[tuple[str, ObjectRef]] = []
        self.calls: list[tuple[str, ObjectRef]] = []
        self.on_write: OnWrite = ignore
        self.terminating_namespaces: set[str] = set()
        self._clock = clock
        self._fence = fence
        self._timeouts = (write_timeout_seconds, read_timeout_seconds)

    async def get(self, ref: ObjectRef) -> Manifest | None:
        """The object, or None."""
        return await self._call("get", ref, lambda: self._peek(ref))

    async def list(self, kind: Kind, namespace: str, *, labels: Mapping[str, str] | None = None) -> list[Manifest]:
        """Objects whose labels equal all of `labels`, in the order of their names."""

        def effect() -> list[Manifest]:
            if self.kinds.find(kind.api_version, kind.name) is None:
                raise NotServed(f"list {kind.plural}: {kind.api_version} {kind.name} is not served")
            found = [
                copy_json(entry.manifest)
                for ref, entry in self.store.entries.items()
                if ref.kind == kind and namespace in ("", ref.namespace) and _has_labels(entry.manifest, labels)
            ]
            return sorted(found, key=lambda item: (item["metadata"].get("namespace", ""), item["metadata"]["name"]))

        return await self._call("list", ObjectRef(kind, namespace, ""), effect)

    async def create(self, manifest: Manifest) -> Manifest:
        """POST; drops `status` if it is a subresource of the kind."""
        ref = self.kinds.ref_of(manifest)

        def effect() -> Manifest:
            self._refuse_in_terminating(ref)
            new = copy_json(manifest)
            if self.kinds.has_status(ref.kind):
                new.pop("status", None)
            return self.store.add(ref, new, Manager(FIELD_MANAGER))

        return await self._call("create", ref, effect)

    async def apply(self, manifest: Manifest) -> Manifest:
        """Server-side apply by force; Refused if the live object has another controller than the manifest."""
        ref = self.kinds.ref_of(manifest)

        def effect() -> Manifest:
            manager = Manager(FIELD_MANAGER, "Apply")
            applied = copy_json(manifest)
            applied.pop("status", None)
            entry = self.store.entries.get(ref)
            if entry is None:
                self._refuse_in_terminating(ref)
                fresh: Manifest = {"apiVersion": ref.kind.api_version, "kind": ref.kind.name, "metadata": {}}
                fresh["metadata"].update(namespace=ref.namespace, name=ref.name)
                owners: dict[Manager, set[tuple[str, ...]]] = {}
                apply_fields(fresh, applied, owners, manager)
                return self.store.add(ref, fresh, manager, owners)
            refuse_foreign(ref, entry.manifest, manifest)
            new = copy_json(entry.manifest)
            apply_fields(new, applied, entry.owners, manager)
            return self.store.change(ref, new, manager)

        return await self._call("apply", ref, effect)

    async def patch(self, ref: ObjectRef, operations: Sequence[JsonOp]) -> Manifest:
        """JSON patch of everything except the status."""

        def effect() -> Manifest:
            old = self._peek(ref)
            if old is None:
                raise Conflict(f"{ref} is gone")
            new = patch_manifest(ref, old, operations)
            check_identity(ref, old, new)
            _check_version(ref, old, new["metadata"].get("resourceVersion"))
            if self.kinds.has_status(ref.kind):
                new = {**new, "status": old["status"]} if "status" in old else _without_status(new)
            return self.store.change(ref, new, Manager(FIELD_MANAGER))

        return await self._call("patch", ref, effect)

    async def delete(
        self, ref: ObjectRef, *, uid: str, resource_version: str | None = None, grace_seconds: int | None = None
    ) -> Manifest | None:
        """Delete this incarnation; background propagation."""

        def effect() -> Manifest | None:
            old = self._peek(ref)
            if old is None:
                return None
            if old["metadata"]["uid"] != uid:
                raise Conflict(f"{ref} has another uid than {uid}")
            _check_version(ref, old, resource_version)
            self.store.delete(ref, grace_seconds)
            return self._peek(ref)

        return await self._call("delete", ref, effect)

    async def replace_status(self, ref: ObjectRef, *, resource_version: str, status: Mapping[str, Any]) -> Manifest:
        """PUT of the status subresource."""

        def effect() -> Manifest:
            old = self._peek(ref)
            if old is None:
                raise Conflict(f"{ref} is gone")
            _check_version(ref, old, resource_version)
            new = {**old, "status": copy_json(dict(status))}
            return self.store.change(ref, new, Manager(FIELD_MANAGER, subresource="status"))

        return await self._call("replace_status", ref, effect)

    async def resolve(self, api_version: str, kind: str) -> Kind | None:
        """A registered kind, or None."""
        return await self._call(
            "resolve", ObjectRef(NOWHERE, "", f"{api_version}/{kind}"), lambda: self.kinds.find(api_version, kind)
        )

    async def get_scale(self, ref: ObjectRef) -> Scale | None:
        """The scale of a kind that has one; Refused for the others."""

        def effect() -> Scale | None:
            paths = self.kinds.scale_of(ref.kind)
            live = self._peek(ref)
            return None if live is None else paths.read(ref, live)

        return await self._call("get_scale", ref, effect)

    async def set_scale(self, scale: Scale, replicas: int) -> Scale:
        """Write `spec.replicas` if the object is still the one that was read."""
        ref = scale.ref

        def effect() -> Scale:
            paths = self.kinds.scale_of(ref.kind)
            live = self._peek(ref)
            if live is None or live["metadata"]["uid"] != scale.uid:
                raise Conflict(f"{ref} is gone")
            _check_version(ref, live, scale.resource_version)
            live["spec"]["replicas"] = replicas
            return paths.read(ref, self.store.change(ref, live, Manager(FIELD_MANAGER, subresource="scale")))

        return await self._call("set_scale", ref, effect)

    def _peek(self, ref: ObjectRef) -> Manifest | None:
        entry = self.store.entries.get(ref)
        return None if entry is None else copy_json(entry.manifest)

    async def _call(self, verb: str, ref: ObjectRef, effect: Callable[[], Result]) -> Result:
        is_read = verb in READ_VERBS
        timeout = self._timeouts[is_read]
        if self._fence is not None and not is_read:
            self._fence.check(timeout)
        self.calls.append((verb, ref))
        before, after = self.faults.due(verb, ref)
        latency = self.faults.latency(verb, ref) if self.faults.latency else None
        await self._pass_time(latency.request if latency else 0.0, timeout)
        if before is not None:
            raise before
        result = effect()
        if not is_read:
            self.writes.append((verb, ref))
            self.on_write(f"{verb} {ref}")
        if latency:
            await self._pass_time(latency.response, timeout - latency.request)
        if after is not None:
            raise after
        return result

    async def _pass_time(self, seconds: float, limit: float) -> None:
        if not seconds or self._clock is None:
            return
        await self._clock.sleep(min(seconds, limit))
        if seconds >= limit:
            raise KubeUnavailable("no answer in time", reason=Reason.KUBE_UNAVAILABLE)

    def _refuse_in_terminating(self, ref: ObjectRef) -> None:
        if ref.kind != NAMESPACE and ref.namespace in self.terminating_namespaces:
            message = f"{ref}: namespace {ref.namespace} is being terminated"
            raise Refused(message, reason=Reason.NAMESPACE_TERMINATING)


def _check_version(ref: ObjectRef, live: Manifest, expected: str | None) -> None:
    if expected is not None and live["metadata"]["resourceVersion"] != expected:
        raise Conflict(f"{ref} was changed since it was read")


def _has_labels(manifest: Manifest, labels: Mapping[str, str] | None) -> bool:
    found = manifest["metadata"].get("labels") or {}
    return all(found.get(name) == value for name, value in (labels or {}).items())


def _without_status(manifest: Manifest) -> Manifest:
    return {key: value for key, value in manifest.items() if key != "status"}
