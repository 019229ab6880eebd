"""Keeps the cache up to date with our own calls, and repairs it if a watch has lost something."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, TypeVar

from headroom.adapters.kube.cache import WatchCache, ref_of
from headroom.errors import Conflict, HeadroomError, KubeUnavailable
from headroom.ports.clock import Clock
from headroom.ports.kube import WATCHED, JsonOp, Kind, Kube, KubeReader, Manifest, ObjectRef, Scale

AUDIT_EVERY_SECONDS = 2.0
BY_NAME: Mapping[tuple[str, str], Kind] = {(kind.api_version, kind.name): kind for kind in WATCHED}
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class WriteThroughKube:
    """Implements `Kube`: what the API server answers is in the cache before the caller continues.

    A pass right after its own write must not decide on the state before it: the watch may be behind.
    """

    inner: Kube
    cache: WatchCache

    async def get(self, ref: ObjectRef) -> Manifest | None:
        """A live read; a missing object leaves the cache."""
        return await self._read(ref, self.inner.get(ref), self.cache.observe)

    async def list(self, kind: Kind, namespace: str, *, labels: Mapping[str, str] | None = None) -> list[Manifest]:
        """A live list. What it lacks stays in the cache: only the watch knows why."""
        found = await self.inner.list(kind, namespace, labels=labels)
        if kind in WATCHED:
            for manifest in found:
                self.cache.observe(kind, manifest)
        return found

    async def create(self, manifest: Manifest) -> Manifest:
        """POST."""
        return await self._write(_find_ref(manifest), self.inner.create(manifest))

    async def apply(self, manifest: Manifest) -> Manifest:
        """Server-side apply."""
        return await self._write(_find_ref(manifest), self.inner.apply(manifest))

    async def patch(self, ref: ObjectRef, operations: Sequence[JsonOp]) -> Manifest:
        """JSON patch."""
        return await self._write(ref, self.inner.patch(ref, operations))

    async def delete(
        self, ref: ObjectRef, *, uid: str, resource_version: str | None = None, grace_seconds: int | None = None
    ) -> Manifest | None:
        """DELETE; an object that something holds is kept with its deletionTimestamp."""
        call = self.inner.delete(ref, uid=uid, resource_version=resource_version, grace_seconds=grace_seconds)
        held = await self._refresh_on_conflict(ref, call)
        if ref.kind in WATCHED:
            if held is None:
                self.cache.evict(ref, uid)
            else:
                self.cache.observe(ref.kind, held)
        return held

    async def replace_status(self, ref: ObjectRef, *, resource_version: str, status: Mapping[str, Any]) -> Manifest:
        """PUT of the status subresource."""
        return await self._write(ref, self.inner.replace_status(ref, resource_version=resource_version, status=status))

    async def resolve(self, api_version: str, kind: str) -> Kind | None:
        """By discovery."""
        return await self.inner.resolve(api_version, kind)

    async def get_scale(self, ref: ObjectRef) -> Scale | None:
        """A live read of the scale; a count that the watch has not brought yet is in the cache then."""
        return await self._read(ref, self.inner.get_scale(ref), lambda _, scale: self.cache.record_scale(scale))

    async def set_scale(self, scale: Scale, replicas: int) -> Scale:
        """PUT of the scale subresource."""
        written = await self._refresh_on_conflict(scale.ref, self.inner.set_scale(scale, replicas))
        if written.ref.kind in WATCHED:
            self.cache.record_scale(written)
        return written

    async def _read(self, ref: ObjectRef, call: Awaitable[T | None], observe: Callable[[Kind, T], None]) -> T | None:
        if ref.kind not in WATCHED:
            return await call
        before = self.cache.get(ref)
        found = await call
        if found is not None:
            observe(ref.kind, found)
        elif before is not None:
            # Only the object that was known before the call: another one of that name may have been created since.
            self.cache.evict(ref, before["metadata"]["uid"])
        return found

    async def _write(self, ref: ObjectRef | None, call: Awaitable[Manifest]) -> Manifest:
        if ref is None or ref.kind not in WATCHED:
            return await call
        written = await self._refresh_on_conflict(ref, call)
        self.cache.observe(ref.kind, written)
        return written

    async def _refresh_on_conflict(self, ref: ObjectRef, call: Awaitable[T]) -> T:
        """After a conflict the cache is behind, or the object is gone: the next pass must know."""
        try:
            return await call
        except Conflict:
            if ref.kind in WATCHED:
                with suppress(HeadroomError):
                    await self.get(ref)
            raise


@dataclass(slots=True)
class RelistAudit:
    """Finds what vanished while a watch was interrupted: the repeated list does not name it, and no DELETED comes.

    `reader` writes through to the cache. `on_vanished` is called in place of the missing DELETED.
    """

    cache: WatchCache
    reader: KubeReader
    clock: Clock
    on_vanished: Callable[[Kind, Manifest], Awaitable[None]]
    _suspects: dict[ObjectRef, str | None] = field(default_factory=dict)
    """What to read live; for a sample the scope that it represents, else None."""

    async def run(self) -> None:
        """Audit until cancelled; sends nothing unless a list was repeated."""
        while True:
            await self.clock.sleep(AUDIT_EVERY_SECONDS)
            await self.check()

    async def check(self) -> None:
        """Read live what repeated lists left out, one by one; what cannot be read now is read at the next check.

        Raises a group of all that failed for what vanished.
        """
        for relist in self.cache.take_relists():
            # If all objects of a kind have vanished, no list names one: then only a sample of that kind shows it.
            self._suspect(self.cache.find_samples(relist), relist.scope)
            self._suspect(self.cache.find_unconfirmed(relist.kind, relist.scope, relist.began_at))
        for ref, scope in list(self._suspects.items()):
            try:
                found = await self.reader.get(ref)
            except HeadroomError as error:
                if not isinstance(error, KubeUnavailable):
                    # An object that we may not read stays: nobody can check whether it exists.
                    del self._suspects[ref]
                continue
            del self._suspects[ref]
            if found is None and scope is not None:
                self._suspect(self.cache.find_unconfirmed(ref.kind, scope, self.clock.monotonic()))
        await self._report_vanished()

    async def _report_vanished(self) -> None:
        """Each to its end, whatever the others do: what the cache has given out here is not given out again."""
        # Together: each may wait for the running pass of its object.
        reports = [self.on_vanished(*vanished) for vanished in self.cache.take_vanished()]
        outcomes = await asyncio.gather(*reports, return_exceptions=True)
        failures = [outcome for outcome in outcomes if isinstance(outcome, BaseException)]
        if failures:
            raise BaseExceptionGroup("objects that vanished are not forgotten", failures)

    def _suspect(self, refs: Iterable[ObjectRef], scope: str | None = None) -> None:
        self._suspects.update(dict.fromkeys(refs, scope))


def _find_ref(manifest: Manifest) -> ObjectRef | None:
    kind = BY_NAME.get((str(manifest.get("apiVersion")), str(manifest.get("kind"))))
    return None if kind is None else ref_of(kind, manifest)
