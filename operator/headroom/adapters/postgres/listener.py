"""A connection that listens: it tells which channels were notified, and says nothing of what was in them."""

import asyncio
from collections.abc import Collection
from dataclasses import dataclass, field

import psycopg
from psycopg import sql

from headroom.adapters.postgres.connection import Link, PinnedConnection, find_reason
from headroom.errors import PrimaryUnavailable
from headroom.reasons import Reason

BREATH = 200
"""Notifications between two moments in which other tasks of the process may run."""


@dataclass(slots=True, eq=False)
class PinnedListener:
    """Implements `QueueListener`; connects when first waited for, and again after a loss.

    A pooler is refused when the connection is opened, as on all others: one in transaction mode loses what LISTEN says.
    """

    connection: PinnedConnection
    _link: Link | None = None
    _listening: frozenset[str] = field(default_factory=frozenset)

    def __post_init__(self) -> None:
        self.connection.greet, self.connection.hears = self._greet, True

    @property
    def address(self) -> str:
        """See `QueueListener.address`."""
        target = self.connection.target
        return f"{target.host}:{target.port}/{target.database}"

    async def wait(self, channels: Collection[str], seconds: float) -> frozenset[str]:
        """See `QueueListener.wait`."""
        wanted = frozenset(channels)

        async def listen(link: Link) -> None:
            if self._listening != wanted:
                await link.execute("UNLISTEN *")
                for channel in sorted(wanted):
                    await link.execute(sql.SQL("LISTEN {}").format(sql.Identifier(channel)))
                self._listening = wanted

        await self.connection.run(listen)
        assert self._link is not None
        try:
            return await self._receive(self._link, seconds)
        except psycopg.Error as error:
            await self.connection.release()
            problem = self._link.relay.problem
            reason = Reason.PRIMARY_UNREACHABLE if problem is None else find_reason(problem)
            message = f"{self.address}: the connection that listens was lost{'' if problem is None else f': {problem}'}"
            raise self.connection.note(PrimaryUnavailable(message, reason=reason)) from error

    async def close(self) -> None:
        """End the connection."""
        await self.connection.close()

    async def _greet(self, link: Link) -> None:
        self._link, self._listening = link, frozenset()

    async def _receive(self, link: Link, seconds: float) -> frozenset[str]:
        found: set[str] = set()
        async for notice in link.notifies(timeout=seconds, stop_after=1):
            found.add(notice.channel)
        if not found:
            return frozenset()
        count = 1
        async for notice in link.notifies(timeout=0):
            found.add(notice.channel)
            count += 1
            if count % BREATH == 0:
                await asyncio.sleep(0)
        return frozenset(found)
