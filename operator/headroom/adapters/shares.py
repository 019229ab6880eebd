"""What each namespace has for itself: made when it is first used, dropped once nothing of it would be missed.

Names of namespaces come and go, and whoever may create them must not make us remember all of them.
"""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar

SWEEP_SECONDS = 60.0
"""Shares that were left with something to remember are looked at so often."""


class Share(Protocol):
    """What one namespace has."""

    def is_idle(self, now: float) -> bool:
        """Whether a new one would do as well, while nobody uses it; `now` is on the loop's clock."""
        ...


S = TypeVar("S", bound=Share)


@dataclass(slots=True)
class _Entry(Generic[S]):
    share: S
    users: int = 0


@dataclass(slots=True)
class Shares(Generic[S]):
    """The shares of all namespaces, for one event loop."""

    make: Callable[[], S]
    _entries: dict[str, _Entry[S]] = field(default_factory=dict)
    _swept_at: float = 0.0
    _loop: asyncio.AbstractEventLoop | None = None

    @contextmanager
    def use(self, namespace: str) -> Iterator[S]:
        """The namespace's share, which stays what it is while the block runs."""
        loop = asyncio.get_running_loop()
        if self._loop is not loop:
            self._loop, self._entries, self._swept_at = loop, {}, loop.time()
        if namespace not in self._entries:
            self._entries[namespace] = _Entry(self.make())
        entry = self._entries[namespace]
        entry.users += 1
        try:
            yield entry.share
        finally:
            entry.users -= 1
            now = loop.time()
            if now - self._swept_at >= SWEEP_SECONDS:
                self._sweep(now)
            elif self._may_go(entry, now) and self._entries.get(namespace) is entry:
                del self._entries[namespace]

    def __len__(self) -> int:
        """How many are kept."""
        return len(self._entries)

    def _sweep(self, now: float) -> None:
        self._swept_at = now
        self._entries = {name: entry for name, entry in self._entries.items() if not self._may_go(entry, now)}

    def _may_go(self, entry: _Entry[S], now: float) -> bool:
        return entry.users == 0 and entry.share.is_idle(now)


@dataclass(slots=True)
class Turn:
    """One at a time for a namespace."""

    lock: asyncio.Lock = field(default_factory=asyncio.Lock)

    def is_idle(self, _now: float) -> bool:
        """See `Share`."""
        return True
