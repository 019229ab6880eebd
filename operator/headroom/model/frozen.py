"""A mapping that cannot change, for facts, memories and decisions."""

from collections.abc import Iterable, Iterator, Mapping
from typing import TypeVar

KeyT = TypeVar("KeyT")
ValueT_co = TypeVar("ValueT_co", covariant=True)


class FrozenMap(Mapping[KeyT, ValueT_co]):
    """A copy of a mapping or of pairs; equal to any mapping with the same entries.

    `types.MappingProxyType` only hides a dict that others may change, and it cannot be copied deeply.
    """

    __slots__ = ("_entries",)

    def __init__(self, entries: Mapping[KeyT, ValueT_co] | Iterable[tuple[KeyT, ValueT_co]] = ()) -> None:
        self._entries = dict(entries)

    def __getitem__(self, key: KeyT) -> ValueT_co:
        return self._entries[key]

    def __iter__(self) -> Iterator[KeyT]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def __eq__(self, other: object) -> bool:
        return self._entries == (other._entries if isinstance(other, FrozenMap) else other)

    def __hash__(self) -> int:
        return hash(frozenset(self._entries.items()))

    def __repr__(self) -> str:
        return f"FrozenMap({self._entries!r})"
