"""As much of a spec as a teardown needs, from an object whose spec cannot be acted on."""

from collections.abc import Mapping
from typing import Any

from headroom.api.v1alpha1.replicaset import ReplicaSetSpec
from headroom.api.v1alpha1.resources import parse_spec
from headroom.api.v1alpha1.serving import VolumeRetention
from headroom.errors import InvalidSpec
from headroom.ports.kube import Manifest

NEEDED = ("databaseRef", "drain", "retention", "routing")
PLACEHOLDERS: Mapping[str, Any] = {
    "databaseRef": {"name": "headroom-unreadable"},
    "image": "none",
    "storage": {"size": "1Gi"},
}
"""Never acted on: a teardown makes nothing."""
CAREFUL: Mapping[str, Any] = {"volumes": VolumeRetention.RETAIN.value}


def read_for_teardown(body: Manifest) -> ReplicaSetSpec:
    """The spec where it can be read, else each needed part for itself; volumes of which nothing is known are kept."""
    try:
        return parse_spec(ReplicaSetSpec, body)
    except InvalidSpec:
        return parse_spec(ReplicaSetSpec, {"spec": _read_parts(body.get("spec"))})


def _read_parts(given: object) -> dict[str, Any]:
    if not isinstance(given, Mapping):
        return {**PLACEHOLDERS, "retention": CAREFUL}
    parts = {name: given[name] for name in NEEDED if name in given}
    readable = {name: part for name, part in parts.items() if _is_readable(name, part)}
    if "retention" in parts and "retention" not in readable:
        readable["retention"] = CAREFUL
    return {**PLACEHOLDERS, **readable}


def _is_readable(name: str, part: object) -> bool:
    try:
        parse_spec(ReplicaSetSpec, {"spec": {**PLACEHOLDERS, name: part}})
    except InvalidSpec:
        return False
    return True
