"""Whether a type can hold values only: every type that is reachable from it is walked, and handles are refused."""

import types
import typing
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from datetime import date, datetime, time, timedelta
from enum import Enum
from typing import Any

from pydantic import BaseModel

from headroom.model.frozen import FrozenMap

LEAVES = (int, float, str, bytes, bool, type(None), datetime, date, time, timedelta, Enum)
CONTAINERS = (tuple, frozenset, FrozenMap)
"""Read-only in themselves: no list, dict, set or deque, and no `Mapping`, which a dict is as well."""


def find_impure(*roots: object) -> list[str]:
    """Where something else than frozen values is reachable from the roots: paths, each with the type found there."""
    seen: set[object] = set()
    return [found for root in roots for found in _walk(root, _name(root), seen)]


def _walk(annotation: Any, path: str, seen: set[object]) -> Iterator[str]:
    if annotation in seen or annotation is Ellipsis or isinstance(annotation, typing.TypeVar):
        return
    if typing.get_origin(annotation) is not None:
        yield from _walk_generic(annotation, path, seen)
    elif not isinstance(annotation, type):
        yield f"{path}: {annotation!r}"
    elif is_dataclass(annotation):
        yield from _walk_dataclass(annotation, path, seen)
    elif issubclass(annotation, BaseModel):
        if not annotation.model_config.get("frozen"):
            yield f"{path}: {_name(annotation)} is not frozen"
    elif not issubclass(annotation, LEAVES):
        yield f"{path}: {_name(annotation)}"


def _walk_generic(annotation: Any, path: str, seen: set[object]) -> Iterator[str]:
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Literal:
        return
    if origin is typing.Annotated:
        arguments = arguments[:1]
    elif is_dataclass(origin):
        yield from _walk(origin, path, seen)
    elif origin not in (typing.Union, types.UnionType, *CONTAINERS):
        yield f"{path}: {annotation!r}"
        return
    for argument in arguments:
        yield from _walk(argument, path, seen)


def _walk_dataclass(kind: type, path: str, seen: set[object]) -> Iterator[str]:
    seen.add(kind)
    if not kind.__dataclass_params__.frozen:  # type: ignore[attr-defined]
        yield f"{path}: {_name(kind)} is not frozen"
    hints = typing.get_type_hints(kind, include_extras=True)
    for field in fields(kind):
        yield from _walk(hints[field.name], f"{path}.{field.name}", seen)


def _name(kind: object) -> str:
    return getattr(kind, "__name__", repr(kind))
