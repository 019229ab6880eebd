"""The connection that listens, in memory."""

import asyncio
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass, field

from headroom.adapters.inmemory.postgres_server import MemoryServer
from headroom.adapters.inmemory.postgres_session import MemoryLinkSession
from headroom.errors import PrimaryUnavailable
from headroom.reasons import Reason


@dataclass(slots=True)
class MemoryListener:
    """Implements `QueueListener`; `_seen` are the counts of the server's channels at the last call."""

    session: MemoryLinkSession
    _seen: dict[str, int] = field(default_factory=dict)
    _starts: int | None = None

    @property
    def address(self) -> str:
        """See `QueueListener.address`."""
        target = self.session.target
        return f"{target.host}:{target.port}/{target.database}"

    async def wait(self, channels: Collection[str], seconds: float) -> frozenset[str]:
        """See `QueueListener.wait`."""
        server = self.session.use()
        if self._starts != server.starts:
            # Another connection than before: what was notified in between went nowhere.
            self._seen, self._starts = {}, server.starts
        self._seen = {name: self._seen.get(name, server.notified.get(name, 0)) for name in channels}
        with suppress(TimeoutError):
            await asyncio.wait_for(self._await_news(server), seconds)
        found = self._find(server)
        self._seen = {name: server.notified.get(name, 0) for name in channels}
        return found

    async def _await_news(self, server: MemoryServer) -> None:
        while not self._find(server):
            await server.news.wait()
            if server.starts != self._starts:
                message = f"{self.address}: the connection that listens was lost"
                raise PrimaryUnavailable(message, reason=Reason.PRIMARY_UNREACHABLE)

    def _find(self, server: MemoryServer) -> frozenset[str]:
        return frozenset(name for name, count in self._seen.items() if server.notified.get(name, 0) > count)

    async def close(self) -> None:
        """See `QueueListener.close`."""
        self.session.close()
