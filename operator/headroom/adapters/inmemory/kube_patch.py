"""JSON patches as the API server takes them."""

from collections.abc import Sequence
from typing import Any

import jsonpatch

from headroom.errors import Conflict
from headroom.ports.kube import JsonOp, Manifest, ObjectRef


def patch_manifest(ref: ObjectRef, old: Manifest, operations: Sequence[JsonOp]) -> Manifest:
    """The manifest with all operations applied; Conflict if one does not fit, a failed test included."""
    patched = old
    for operation in operations:
        # The server lets a `replace` add a member that is not there.
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
