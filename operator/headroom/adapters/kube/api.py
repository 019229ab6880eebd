"""The Kube port over HTTP."""

from collections.abc import Mapping, Sequence
from typing import Any

from headroom.adapters.kube.answers import Answer, refuse_foreign, translate_answer
from headroom.adapters.kube.calls import (
    APPLY_PATCH,
    JSON_PATCH,
    Call,
    get_call,
    list_call,
    write_call,
)
from headroom.adapters.kube.discovery import Discovery
from headroom.adapters.kube.limits import Limiter, Limits
from headroom.adapters.kube.transport import HttpClient, Transport
from headroom.errors import Conflict, KubeUnavailable, NotServed, Refused
from headroom.ports.clock import Clock, Fence
from headroom.ports.kube import JsonOp, Kind, Manifest, ObjectRef, Scale
from headroom.ports.telemetry import Telemetry
from headroom.reasons import Reason

PAGE_SIZE = 500
MAX_PAGES = 200
LIST_ATTEMPTS = 2


class ApiKube:
    """Implements `Kube`; every mutating call asks the fence first, if there is one."""

    def __init__(
        self,
        client: HttpClient,
        *,
        clock: Clock,
        fence: Fence | None = None,
        telemetry: Telemetry | None = None,
        limits: Limits | None = None,
    ) -> None:
        limits = limits or Limits()
        self._transport = Transport(client, clock, limits, Limiter(limits, clock), telemetry, fence)
        self._discovery = Discovery(self._transport)

    def with_limits(self, limits: Limits) -> "ApiKube":
        """The same server, fence and telemetry behind separate limits, so that neither waits for the other."""
        way = self._transport
        return ApiKube(way.client, clock=way.clock, fence=way.fence, telemetry=way.telemetry, limits=limits)

    async def close(self) -> None:
        """Close the connections, for all that share the client."""
        await self._transport.client.close()

    async def serves(self, kind: Kind) -> bool:
        """True when the server serves a kind now: a new CustomResourceDefinition takes a moment."""
        return await self._discovery.serves(kind)

    async def get(self, ref: ObjectRef) -> Manifest | None:
        """A quorum read; None when there is no such object."""
        return await self._read(get_call(ref))

    async def list(self, kind: Kind, namespace: str, *, labels: Mapping[str, str] | None = None) -> list[Manifest]:
        """A quorum list in pages; NotServed if the server has no such kind: then nothing is known, which differs from
        an empty list.
        """
        query: dict[str, Any] = {"limit": PAGE_SIZE}
        if labels:
            query["labelSelector"] = ",".join(f"{name}={value}" for name, value in labels.items())
        for _ in range(LIST_ATTEMPTS):
            items = await _read_pages(self._transport, kind, namespace, query)
            if items is not None:
                return [{"apiVersion": kind.api_version, "kind": kind.name, **item} for item in items]
        message = f"list {kind.plural}: the list changed faster than it could be read"
        raise KubeUnavailable(message, reason=Reason.KUBE_UNAVAILABLE)

    async def create(self, manifest: Manifest) -> Manifest:
        """POST under our field manager."""
        ref = await self._ref_of(manifest)
        collection = ObjectRef(ref.kind, ref.namespace, "")
        return await self._write(write_call("create", "POST", collection, "create", manifest))

    async def review(self, kind: Kind, spec: Mapping[str, Any]) -> Manifest:
        """Ask for a verdict, such as a TokenReview; the server stores nothing. Returns the `status`."""
        body = {"apiVersion": kind.api_version, "kind": kind.name, "spec": dict(spec)}
        found = await self._write(write_call("review", "POST", ObjectRef(kind, "", ""), "create", body))
        return dict(found.get("status") or {})

    async def apply(self, manifest: Manifest) -> Manifest:
        """Server-side apply by force, after a live read of the owner; Refused if the object is not ours."""
        ref = await self._ref_of(manifest)
        live = await self.get(ref)
        body = manifest
        if live is not None:
            refuse_foreign(ref, live, manifest)
            # With the uid that was read: an object created in its place meanwhile is a Conflict.
            body = {**manifest, "metadata": {**manifest["metadata"], "uid": live["metadata"]["uid"]}}
        call = write_call("apply", "PATCH", ref, "patch", body, content_type=APPLY_PATCH, force=True)
        return await self._write(call)

    async def patch(self, ref: ObjectRef, operations: Sequence[JsonOp]) -> Manifest:
        """JSON patch."""
        body = [dict(operation) for operation in operations]
        return await self._change(write_call("patch", "PATCH", ref, "patch", body, content_type=JSON_PATCH))

    async def delete(
        self, ref: ObjectRef, *, uid: str, resource_version: str | None = None, grace_seconds: int | None = None
    ) -> Manifest | None:
        """DELETE with preconditions; the server collects what the object owned."""
        preconditions = {"uid": uid}
        if resource_version is not None:
            preconditions["resourceVersion"] = resource_version
        body: dict[str, Any] = {
            "apiVersion": "v1",
            "kind": "DeleteOptions",
            "preconditions": preconditions,
            "propagationPolicy": "Background",
        }
        if grace_seconds is not None:
            body["gracePeriodSeconds"] = grace_seconds
        call = write_call("delete", "DELETE", ref, "delete", body)
        answer = await self._transport.send(call)
        if answer.status == 404:
            return None
        found = _body_of(call, answer)
        return found if _is_held(found) else None

    async def replace_status(self, ref: ObjectRef, *, resource_version: str, status: Mapping[str, Any]) -> Manifest:
        """PUT of the status subresource."""
        body = {
            "apiVersion": ref.kind.api_version,
            "kind": ref.kind.name,
            "metadata": {"namespace": ref.namespace, "name": ref.name, "resourceVersion": resource_version},
            "status": dict(status),
        }
        return await self._change(write_call("replace_status", "PUT", ref, "update", body, subresource="status"))

    async def resolve(self, api_version: str, kind: str) -> Kind | None:
        """By discovery."""
        return await self._discovery.resolve(api_version, kind)

    async def get_scale(self, ref: ObjectRef) -> Scale | None:
        """Current scale; Refused when the kind has none."""
        found = await self._read(get_call(ref, verb="get_scale", subresource="scale"))
        if found is not None:
            return _parse_scale(ref, found)
        if await self._discovery.has_scale(ref.kind):
            return None
        message = f"{ref.kind.name} in {ref.kind.api_version} has no scale subresource"
        raise Refused(message, reason=Reason.TARGET_NOT_SCALABLE)

    async def set_scale(self, scale: Scale, replicas: int) -> Scale:
        """PUT of the scale subresource."""
        ref = scale.ref
        body = {
            "apiVersion": "autoscaling/v1",
            "kind": "Scale",
            "metadata": {
                "namespace": ref.namespace,
                "name": ref.name,
                "uid": scale.uid,
                "resourceVersion": scale.resource_version,
            },
            "spec": {"replicas": replicas},
        }
        call = write_call("set_scale", "PUT", ref, "update", body, subresource="scale")
        return _parse_scale(ref, await self._change(call))

    async def _read(self, call: Call) -> Manifest | None:
        answer = await self._transport.send(call)
        if answer.status == 404:
            return None
        return _body_of(call, answer)

    async def _write(self, call: Call) -> Manifest:
        return _body_of(call, await self._transport.send(call))

    async def _change(self, call: Call) -> Manifest:
        answer = await self._transport.send(call)
        if answer.status == 404:
            raise Conflict(f"{call.ref} is gone")
        return _body_of(call, answer)

    async def _ref_of(self, manifest: Manifest) -> ObjectRef:
        api_version, name = str(manifest.get("apiVersion")), str(manifest.get("kind"))
        kind = await self.resolve(api_version, name)
        if kind is None:
            raise Refused(f"no kind {name} in {api_version}", reason=Reason.INVALID_SPEC)
        metadata = manifest.get("metadata") or {}
        if not metadata.get("name"):
            raise Refused(f"{name}: metadata.name: name is required", reason=Reason.INVALID_SPEC)
        return ObjectRef(kind, metadata.get("namespace", ""), metadata["name"])


async def _read_pages(
    transport: Transport, kind: Kind, namespace: str, query: Mapping[str, Any]
) -> list[Manifest] | None:
    """All items, or None when the server forgot where the next page begins, or never ends."""
    found: list[Manifest] = []
    next_page = ""
    # Bounded, in case the server never ends its list.
    for _ in range(MAX_PAGES):
        call = list_call(kind, namespace, {**query, "continue": next_page} if next_page else query)
        answer = await transport.send(call)
        if answer.status == 404:
            raise NotServed(f"list {kind.plural}: {kind.api_version} {kind.name} is not served (HTTP 404)")
        if answer.status == 410 and next_page:
            # The server has compacted the revision that the pages come from: begin again.
            return None
        page = _body_of(call, answer)
        found += page.get("items") or []
        next_page = (page.get("metadata") or {}).get("continue") or ""
        if not next_page:
            return found
    return None


def _is_held(found: Manifest) -> bool:
    """Whether something still holds a deleted object; else the answer is a Status, or the object's last state."""
    metadata = found.get("metadata") or {}
    if "deletionTimestamp" not in metadata:
        return False
    return bool(metadata.get("finalizers") or metadata.get("deletionGracePeriodSeconds"))


def _body_of(call: Call, answer: Answer) -> Manifest:
    if not answer.is_success:
        raise translate_answer(call, answer)
    return answer.parse()


def _parse_scale(ref: ObjectRef, found: Manifest) -> Scale:
    status = found.get("status") or {}
    return Scale(
        ref=ref,
        spec_replicas=(found.get("spec") or {}).get("replicas", 0),
        status_replicas=status.get("replicas", 0),
        selector=status.get("selector", ""),
        uid=found["metadata"]["uid"],
        resource_version=found["metadata"]["resourceVersion"],
    )
