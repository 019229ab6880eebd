"""How a write changes an object: managedFields, server-side apply and JSON patches for the Kubernetes API in memory.

A path is a tuple of segments as in FieldsV1: `f:name` for a member, `k:{"port":5432}` for an element of a keyed list,
`.` for the element itself. Good enough for what is applied here: Services, ConfigMaps, PodDisruptionBudgets.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jsonpatch

from headroom.errors import Conflict
from headroom.ports.kube import JsonOp, Manifest, ObjectRef

Path = tuple[str, ...]
Leaves = dict[Path, Any]

LIST_KEYS: Mapping[str, tuple[str, ...]] = {
    "ports": ("port", "protocol"),
    "ownerReferences": ("uid",),
    "conditions": ("type",),
}
KEY_DEFAULTS: Mapping[str, Any] = {"protocol": "TCP"}
ATOMIC = frozenset({"selector"})
IDENTITY = frozenset(
    {
        "name",
        "generateName",
        "namespace",
        "uid",
        "resourceVersion",
        "generation",
        "creationTimestamp",
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
        "managedFields",
    }
)


@dataclass(frozen=True, slots=True)
class Manager:
    """A writer of fields: its name, `Apply` or `Update`, and the subresource it wrote through."""

    name: str
    operation: str = "Update"
    subresource: str = ""


Owners = dict[Manager, set[Path]]


def list_leaves(manifest: Manifest) -> Leaves:
    """Every field that can be owned, with its value."""
    leaves: Leaves = {}
    for key, value in manifest.items():
        if key == "metadata":
            inner = {name: field for name, field in value.items() if name not in IDENTITY}
            leaves.update(_walk("metadata", inner, ("f:metadata",)) if inner else ())
        elif key not in ("apiVersion", "kind"):
            leaves.update(_walk(key, value, (f"f:{key}",)))
    return leaves


def _walk(name: str, value: Any, path: Path) -> Iterator[tuple[Path, Any]]:
    if isinstance(value, dict) and value and name not in ATOMIC:
        for key, inner in value.items():
            yield from _walk(key, inner, (*path, f"f:{key}"))
    elif isinstance(value, list) and name in LIST_KEYS and all(isinstance(item, dict) for item in value):
        for item in value:
            yield from _walk_element(item, (*path, _element_segment(name, item)))
    else:
        yield path, value


def _walk_element(item: Manifest, path: Path) -> Iterator[tuple[Path, Any]]:
    yield (*path, "."), None
    for key, inner in item.items():
        yield from _walk(key, inner, (*path, f"f:{key}"))


def _element_segment(name: str, item: Mapping[str, Any]) -> str:
    keys = {key: item.get(key, KEY_DEFAULTS.get(key)) for key in LIST_KEYS[name]}
    return "k:" + json.dumps({key: value for key, value in keys.items() if value is not None}, sort_keys=True)


def apply_fields(live: Manifest, applied: Manifest, owners: Owners, manager: Manager) -> None:
    """Merge `applied` into `live` by force: set what it names, remove what this manager no longer names."""
    wanted = list_leaves(applied)
    before = list_leaves(live)
    # Sorted, so that an element goes before its fields: without its key fields it could not be found any more.
    for path in sorted(owners.get(manager, set()) - wanted.keys()):
        if not any(path in paths for other, paths in owners.items() if other != manager):
            _remove(live, path)
    for path, value in wanted.items():
        _place(live, path, value)
        if path[-1] != "." and before.get(path) != value:
            _disown(owners, path, manager)
    owners[manager] = set(wanted)


def record_update(owners: Owners, before: Manifest, after: Manifest, manager: Manager) -> None:
    """Give every changed field to `manager`, and forget who owned what is gone."""
    old, new = list_leaves(before), list_leaves(after)
    for path in old.keys() - new.keys():
        _disown(owners, path, None)
    changed = {path for path, value in new.items() if path not in old or old[path] != value}
    for path in changed:
        _disown(owners, path, manager)
    if changed:
        owners.setdefault(manager, set()).update(changed)


def render_owners(owners: Owners, api_version: str, times: Mapping[Manager, str]) -> list[dict[str, Any]]:
    """The managedFields of an object; `times` says when each manager wrote last."""
    entries = []
    for manager, paths in owners.items():
        entry = {
            "manager": manager.name,
            "operation": manager.operation,
            "apiVersion": api_version,
            "time": times[manager],
            "fieldsType": "FieldsV1",
            "fieldsV1": _nest(paths),
        }
        if manager.subresource:
            entry["subresource"] = manager.subresource
        entries.append(entry)
    return entries


def _nest(paths: set[Path]) -> dict[str, Any]:
    tree: dict[str, Any] = {}
    for path in sorted(paths):
        node = tree
        for segment in path:
            node = node.setdefault(segment, {})
    return tree


def _disown(owners: Owners, path: Path, keeper: Manager | None) -> None:
    for manager in [other for other in owners if other != keeper]:
        owners[manager].discard(path)
        if not owners[manager]:
            del owners[manager]


def _place(node: Any, path: Path, value: Any) -> None:
    head, rest = path[0], path[1:]
    if head == ".":
        return
    name = head[2:]
    if not rest:
        node[name] = value
    elif rest[0].startswith("k:"):
        items = node.setdefault(name, [])
        _place(_find_or_add(items, name, rest[0]), rest[1:], value)
    else:
        if not isinstance(node.get(name), dict):
            node[name] = {}
        _place(node[name], rest, value)


def _find_or_add(items: list[Any], name: str, segment: str) -> Any:
    for item in items:
        if _element_segment(name, item) == segment:
            return item
    items.append(json.loads(segment[2:]))
    return items[-1]


def _remove(node: Any, path: Path) -> None:
    name, rest = path[0][2:], path[1:]
    if not isinstance(node, dict) or name not in node:
        return
    if not rest:
        del node[name]
    elif rest[0].startswith("k:"):
        _remove_from_element(node, name, rest)
    else:
        _remove(node[name], rest)
    if node.get(name) in ({}, []):
        del node[name]


def _remove_from_element(node: Manifest, name: str, rest: Path) -> None:
    for item in [item for item in node[name] if _element_segment(name, item) == rest[0]]:
        if rest[1] == ".":
            node[name].remove(item)
        else:
            _remove(item, rest[1:])


def patch_manifest(ref: ObjectRef, old: Manifest, operations: Sequence[JsonOp]) -> Manifest:
    """The manifest with all operations applied; Conflict if one does not fit, a failed test included."""
    patched = old
    for operation in operations:
        # The server lets a `replace` add a missing member.
        attempts = [dict(operation)]
        if operation["op"] == "replace":
            attempts.append({**operation, "op": "add"})
        patched = _patched_by_first(ref, patched, attempts)
    return patched


def _patched_by_first(ref: ObjectRef, old: Manifest, attempts: list[dict[str, Any]]) -> Manifest:
    for attempt in attempts:
        try:
            patched: Manifest = jsonpatch.apply_patch(old, [attempt])
        except (jsonpatch.JsonPatchException, jsonpatch.JsonPointerException) as misfit:
            failure = misfit
        else:
            return patched
    raise Conflict(f"{ref} is not what the patch expects: {failure}") from failure
