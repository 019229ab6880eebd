"""The guard's session: it holds the installation's lock, without which nothing is done that cannot be undone."""

import asyncio
from dataclasses import dataclass

from headroom.adapters.postgres import sql
from headroom.adapters.postgres.connection import Link, PinnedConnection
from headroom.adapters.postgres.conninfo import SessionNames
from headroom.adapters.postgres.locks import HeldLocks
from headroom.adapters.postgres.statements import fetch_one
from headroom.errors import NotLeading
from headroom.ports.leadership import Fence

TAKEOVER_SECONDS = 3.0
LOCK_TRIES = 5
LOCK_PAUSE_SECONDS = 0.05


@dataclass(slots=True, eq=False)
class GuardSession:
    """A connection whose backend holds, or keeps trying for, the lock with `lock_key`."""

    connection: PinnedConnection
    names: SessionNames
    fence: Fence
    locks: HeldLocks
    lock_key: int
    _has_swept: bool = False

    def __post_init__(self) -> None:
        self.connection.greet = self._take

    async def has_lock(self, system_identifier: str) -> bool:
        """True when the server says that this connection, or another one of this process, holds the lock."""
        await self.connection.run(self._confirm)
        return self.locks.find_pid(system_identifier) is not None

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
        system_identifier = str((await fetch_one(link, sql.SYSTEM_IDENTIFIER))["system_identifier"])
        for _ in range(LOCK_TRIES):
            if (await fetch_one(link, sql.TRY_LOCK, {"lock_key": self.lock_key}))["is_held"]:
                self.locks.add(system_identifier, self.connection)
                return
            if self.locks.find_pid(system_identifier) is not None:
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
