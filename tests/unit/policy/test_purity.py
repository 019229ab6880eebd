"""The walk over types finds what is no value, however deep it stands."""

import asyncio
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import pytest

from headroom.model.database import Lsn
from headroom.model.frozen import FrozenMap
from headroom.reasons import Reason
from tests.unit.policy.purity import find_impure


@dataclass(frozen=True)
class Value:
    at: datetime
    lsn: Lsn | None
    reasons: frozenset[Reason]
    others: FrozenMap[str, tuple["Value", ...]] = field(default_factory=FrozenMap)


@dataclass
class Open:
    number: int


@dataclass(frozen=True)
class Deep:
    values: tuple[Value, ...]
    tasks: FrozenMap[str, "asyncio.Task[int] | None"]


def holds(annotation: Any) -> type:
    return dataclass(frozen=True)(type("Holds", (), {"__annotations__": {"part": annotation}}))


def test_frozen_values_are_pure() -> None:
    assert find_impure(Value) == []


def test_a_dataclass_that_is_not_frozen_is_found() -> None:
    assert find_impure(holds(tuple[Open, ...])) == ["Holds.part: Open is not frozen"]


@pytest.mark.parametrize(
    "handle",
    [
        asyncio.Lock,
        Callable[[], None],
        deque[int],
        dict[str, int],
        Mapping[str, int],
        list[int],
        set[int],
        Any,
        object,
    ],
)
def test_handles_and_what_can_be_changed_are_found(handle: Any) -> None:
    assert len(find_impure(holds(handle))) == 1
    assert len(find_impure(holds(FrozenMap[str, handle | None] if handle is not Any else Any))) == 1


def test_a_handle_deep_inside_is_named_by_its_path() -> None:
    [found] = find_impure(Deep)
    assert found.startswith("Deep.tasks: ")
