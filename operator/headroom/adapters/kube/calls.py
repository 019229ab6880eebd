"""A call to the API server as data: what it does, to what, by which HTTP request and under which RBAC verb."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

from headroom.errors import Refused
from headroom.ports.kube import FIELD_MANAGER, Kind, ObjectRef
from headroom.reasons import Reason

JSON_PATCH = "application/json-patch+json"
APPLY_PATCH = "application/apply-patch+yaml"
JSON = "application/json"
# A part of a path: names of all kinds, the colons of RBAC included, and never a step to another path.
SAFE_SEGMENT = re.compile(r"(?!\.{1,2}$)[A-Za-z0-9._:-]{1,253}")


@dataclass(frozen=True, slots=True)
class Call:
    """One request; `verb` is ours and names the metric, `rbac_verb` is what a Role must grant."""

    verb: str
    method: str
    ref: ObjectRef
    rbac_verb: str
    subresource: str = ""
    query: Mapping[str, Any] = field(default_factory=dict)
    body: Any = None
    content_type: str = JSON

    @property
    def is_write(self) -> bool:
        """True when the call may change something."""
        return self.method != "GET"

    @property
    def resource(self) -> str:
        """The plural with its subresource, as RBAC names it."""
        plural = self.ref.kind.plural
        return f"{plural}/{self.subresource}" if self.subresource else plural

    @property
    def path(self) -> str:
        """The path of the request; raises Refused if a part of it is not a valid name."""
        parts = [build_group_path(self.ref.kind.api_version)]
        if self.ref.namespace:
            parts += ["namespaces", _segment(self.ref.namespace)]
        parts.append(_segment(self.ref.kind.plural))
        if self.ref.name:
            parts.append(_segment(self.ref.name))
        if self.subresource:
            parts.append(self.subresource)
        return "/".join(parts)


def build_group_path(api_version: str) -> str:
    """`/api/v1` or `/apis/GROUP/VERSION`."""
    segments = [_segment(part) for part in api_version.split("/")]
    return "/".join(["", "api" if len(segments) == 1 else "apis", *segments])


def get_call(ref: ObjectRef, *, verb: str = "get", subresource: str = "") -> Call:
    """Read one object or one of its subresources."""
    return Call(verb, "GET", ref, "get", subresource)


def list_call(kind: Kind, namespace: str, query: Mapping[str, Any]) -> Call:
    """Read one page of a list."""
    return Call("list", "GET", ObjectRef(kind, namespace, ""), "list", query=query)


def write_call(
    verb: str,
    method: str,
    ref: ObjectRef,
    rbac_verb: str,
    body: Any,
    *,
    subresource: str = "",
    content_type: str = JSON,
    force: bool = False,
) -> Call:
    """Change something under our field manager."""
    query: dict[str, Any] = {} if method == "DELETE" else {"fieldManager": FIELD_MANAGER}
    if force:
        query["force"] = "true"
    return Call(verb, method, ref, rbac_verb, subresource, query, body, content_type)


def _segment(text: str) -> str:
    if not SAFE_SEGMENT.fullmatch(text):
        raise Refused(f"{text!r} cannot be a name in a path of the API", reason=Reason.INVALID_SPEC)
    return quote(text, safe="")
