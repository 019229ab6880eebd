"""A stored object read into its model; the reading needs no API server."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Generic, TypeVar

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from headroom.api.base import RULE_FAILED, SpecModel, StatusModel
from headroom.api.v1alpha1.databaseguard import DatabaseGuardSpec
from headroom.api.v1alpha1.replicaset import ReplicaSetSpec
from headroom.api.v1alpha1.workerpool import WorkerPoolSpec
from headroom.errors import InvalidSpec, UnsupportedValue

SpecT_co = TypeVar("SpecT_co", bound=SpecModel, covariant=True)
SpecT = TypeVar("SpecT", bound=SpecModel)
StatusT = TypeVar("StatusT", bound=StatusModel)
Body = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class ObjectMeta:
    """What every stored object has; enough to delete one whose spec cannot be read."""

    name: str
    namespace: str
    uid: str
    generation: int
    resource_version: str
    annotations: Mapping[str, str]
    labels: Mapping[str, str]
    finalizers: tuple[str, ...]
    created_at: datetime | None
    deleted_at: datetime | None

    @property
    def is_deleting(self) -> bool:
        """Whether deletion has been asked for."""
        return self.deleted_at is not None


@dataclass(frozen=True, slots=True)
class Resource(Generic[SpecT_co]):
    """A stored object: its metadata and its spec."""

    metadata: ObjectMeta
    spec: SpecT_co


WorkerPool = Resource[WorkerPoolSpec]
ReplicaSet = Resource[ReplicaSetSpec]
DatabaseGuard = Resource[DatabaseGuardSpec]


def parse_metadata(body: Body) -> ObjectMeta:
    """Read the metadata alone: never fails on a spec, whatever it holds."""
    metadata: Mapping[str, Any] = body.get("metadata") or {}
    return ObjectMeta(
        name=str(metadata.get("name", "")),
        namespace=str(metadata.get("namespace", "")),
        uid=str(metadata.get("uid", "")),
        generation=int(metadata.get("generation", 0)),
        resource_version=str(metadata.get("resourceVersion", "")),
        annotations=dict(metadata.get("annotations") or {}),
        labels=dict(metadata.get("labels") or {}),
        finalizers=tuple(metadata.get("finalizers") or ()),
        created_at=_parse_time(metadata.get("creationTimestamp")),
        deleted_at=_parse_time(metadata.get("deletionTimestamp")),
    )


def parse_worker_pool(body: Body) -> WorkerPool:
    """Read a stored WorkerPool; raises InvalidSpec with the field's path and what to do."""
    return Resource(parse_metadata(body), parse_spec(WorkerPoolSpec, body))


def parse_replica_set(body: Body) -> ReplicaSet:
    """Read a stored ReplicaSet; raises InvalidSpec with the field's path and what to do."""
    return Resource(parse_metadata(body), parse_spec(ReplicaSetSpec, body))


def parse_database_guard(body: Body) -> DatabaseGuard:
    """Read a stored DatabaseGuard; raises InvalidSpec with the field's path and what to do."""
    return Resource(parse_metadata(body), parse_spec(DatabaseGuardSpec, body))


def parse_status(model: type[StatusT], body: Body) -> StatusT:
    """Read a status as far as it can be read: it is a memory, so an unreadable one is an empty one."""
    try:
        return model.model_validate(body.get("status") or {})
    except ValidationError:
        return model()


def read_service_name(replica_set: ReplicaSet) -> str:
    """Name of the read Service: what the spec says, else the object's name with -read."""
    return replica_set.spec.routing.service_name or f"{replica_set.metadata.name}-read"


def parse_spec(model: type[SpecT], body: Body) -> SpecT:
    """Read the spec of a stored object; raises InvalidSpec with the field's path and what to do."""
    try:
        # As JSON, and strictly: as the API server does, which takes no "5432" for a number and no "yes" for true.
        return model.model_validate_json(json.dumps(body.get("spec") or {}), strict=True)
    except ValidationError as error:
        raise _explain(error.errors()[0]) from error


def _explain(detail: ErrorDetails) -> InvalidSpec:
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


def _parse_time(value: object) -> datetime | None:
    match value:
        case str():
            return datetime.fromisoformat(value)
        case datetime():
            return value
        case _:
            return None
