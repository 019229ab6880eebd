"""The guard's session: it holds the installation's lock, without which nothing is done that cannot be undone.

One advisory lock for each installation and database says which process that may be. The lease says the same to
Kubernetes, and both must agree.
"""

import asyncio
import hashlib
from dataclasses import dataclass, field
from datetime import datetime

from headroom.adapters.postgres import sql
from headroom.adapters.postgres.connection import Link, PinnedConnection, fetch_one
from headroom.adapters.postgres.conninfo import SessionNames
from headroom.errors import NotLeading
from headroom.ports.clock import Fence

TAKEOVER_SECONDS = 3.0
LOCK_TRIES = 5
LOCK_PAUSE_SECONDS = 0.05
ServerKey = tuple[str, datetime]
"""System identifier and start of the postmaster: a clone has the identifier of its original."""


def compute_lock_key(installation: str) -> int:
    """A signed 64-bit key that an installation always gets and no other is likely to."""
    digest = hashlib.sha256(f"headroom/{installation}".encode()).digest()
    return int.from_bytes(digest[:8], "big", signed=True)


@dataclass(slots=True)
class HeldLocks:
    """Guard sessions of this process that hold the lock, by server (two guards may share one)."""

    _holders: dict[ServerKey, list[PinnedConnection]] = field(default_factory=dict)

    def add(self, server: ServerKey, session: PinnedConnection) -> None:
        """Remember that the session holds the lock on that server."""
        holders = self._holders.setdefault(server, [])
        if session not in holders:
            holders.append(session)

    def remove(self, session: PinnedConnection) -> None:
        """Forget a session that was closed or lost its lock."""
        kept = {key: [other for other in holders if other is not session] for key, holders in self._holders.items()}
        self._holders = {key: holders for key, holders in kept.items() if holders}

    def find_pid(self, server: ServerKey) -> int | None:
        """Backend of an open session that holds the lock, or None."""
        for holder in self._holders.get(server, ()):
            if holder.is_open and holder.backend_pid:
                return holder.backend_pid
        return None


async def fetch_server_key(link: Link) -> ServerKey:
    """The server that a connection ends at."""
    row = await fetch_one(link, sql.SERVER_KEY)
    return str(row["system_identifier"]), row["started_at"]


@dataclass(slots=True, eq=False)
class GuardSession:
    """A connection whose backend holds, or keeps trying for, the lock with `lock_key`."""

    connection: PinnedConnection
    names: SessionNames
    fence: Fence
    locks: HeldLocks
    lock_key: int
    _has_swept: bool = False
    _server: ServerKey | None = None

    def __post_init__(self) -> None:
        self.connection.greet = self._take

    async def has_lock(self, server: ServerKey) -> bool:
        """True when `server` says that this connection, or another one of this process, holds the lock."""
        await self.connection.run(self._confirm)
        if self._server != server:
            # The host name leads to another server since this connection was opened.
            await self.release()
            await self.connection.run(self._confirm)
        return self.locks.find_pid(server) is not None

    async def release(self) -> None:
        """Give the connection back, and the lock with it; it may be opened again."""
        self.locks.remove(self.connection)
        await self.connection.release()

    async def close(self) -> None:
        """End the session, and the lock with it."""
        self.locks.remove(self.connection)
        await self.connection.close()

    async def _confirm(self, link: Link) -> None:
        row = await fetch_one(link, sql.HAS_LOCK, {"lock_key": self.lock_key, "guard_pid": link.info.backend_pid})
        if not row["is_held"]:
            await self._take(link)
        elif not self._has_swept:
            await self._end_older_holders(link)

    async def _take(self, link: Link) -> None:
        """Try for the lock; sessions that an earlier holder of the lease left behind, lock or not, are ended first."""
        self.locks.remove(self.connection)
        await self._end_older_holders(link)
        self._server = await fetch_server_key(link)
        for _ in range(LOCK_TRIES):
            if (await fetch_one(link, sql.TRY_LOCK, {"lock_key": self.lock_key}))["is_held"]:
                self.locks.add(self._server, self.connection)
                return
            if self.locks.find_pid(self._server) is not None:
                return
            await asyncio.sleep(LOCK_PAUSE_SECONDS)

    async def _end_older_holders(self, link: Link) -> None:
        self._has_swept = False
        try:
            self.fence.check(TAKEOVER_SECONDS)
        except NotLeading:
            return  # anyone may look; only the lease holder ends sessions, and the next pass asks again
        await link.execute(sql.END_OLDER_HOLDERS, {"lease": self.names.lease, "holder": self.names.holder})
        self._has_swept = True
