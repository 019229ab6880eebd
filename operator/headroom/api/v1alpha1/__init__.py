"""headroom.dev/v1alpha1: WorkerPool, ReplicaSet and DatabaseGuard, spec and status.

`parse_spec` reads a stored object: each spec field has its default, durations are `timedelta`, sizes are bytes.
"""

import json
from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from headroom.api.base import RULE_FAILED, SpecModel
from headroom.api.v1alpha1.common import GuardState
from headroom.api.v1alpha1.databaseguard import DatabaseGuardSpec
from headroom.api.v1alpha1.databaseguard_status import DatabaseGuardStatus
from headroom.api.v1alpha1.replicaset import ReplicaSetSpec
from headroom.api.v1alpha1.replicaset_status import MemberRole, ReplicaSetStatus
from headroom.api.v1alpha1.workerpool import WorkerPoolSpec
from headroom.api.v1alpha1.workerpool_status import WorkerPoolStatus
from headroom.errors import InvalidSpec, UnsupportedValue

__all__ = [
    "WorkerPoolSpec",
    "ReplicaSetSpec",
    "DatabaseGuardSpec",
    "WorkerPoolStatus",
    "ReplicaSetStatus",
    "DatabaseGuardStatus",
    "GuardState",
    "MemberRole",
    "parse_spec",
]

SpecT = TypeVar("SpecT", bound=SpecModel)
Body = Mapping[str, Any]


def parse_spec(model: type[SpecT], body: Body) -> SpecT:
    """Read the spec of a stored object; raises InvalidSpec with the field's path and what to do."""
    try:
        # As JSON, and strictly: as the API server does, which takes no "5432" for a number and no "yes" for true.
        return model.model_validate_json(json.dumps(body.get("spec") or {}), strict=True)
    except ValidationError as error:
        raise _describe_failure(error.errors()[0]) from error


def _describe_failure(detail: ErrorDetails) -> InvalidSpec:
    context = detail.get("ctx", {})
    field = _path(detail["loc"]) + str(context.get("field", ""))
    match detail["type"]:
        case "missing":
            return InvalidSpec(field, "is required", "set it")
        case "extra_forbidden":
            return InvalidSpec(field, "is not known", "remove it, or upgrade the operator if it is newer")
        case "enum" | "literal_error":
            remedy = f"use {context.get('expected')}, or upgrade the operator"
            return UnsupportedValue(field, f"{detail['input']!r} is not supported", remedy)
        case kind if kind == RULE_FAILED:
            return InvalidSpec(field, "cannot be acted on", detail["msg"])
        case _:
            return InvalidSpec(field, "cannot be read", detail["msg"])


def _path(location: tuple[int | str, ...]) -> str:
    path = "spec"
    for part in location:
        path += f"[{part}]" if isinstance(part, int) else f".{part}"
    return path
