"""The guard's session: while it is the only one of the installation, this process may do what cannot be undone.

The lease says the same to Kubernetes, and both must agree. It is not an advisory lock: any role of the database may
take one, its key is public in pg_locks, and whoever held it would disable the guard. No role can choose who it has
logged in as. So only sessions of the guard's own login count. One with the name of this process must be there, and none
with the name of another process of this installation.
"""

import asyncio
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from headroom.adapters.postgres import sql
from headroom.adapters.postgres.connection import Link, PinnedConnection, fetch_one
from headroom.adapters.postgres.conninfo import SessionNames
from headroom.adapters.postgres.rows import read_time
from headroom.adapters.postgres.values import read_text
from headroom.errors import NotLeading
from headroom.ports.clock import Fence

logger = logging.getLogger(__name__)

TAKEOVER_SECONDS = 3.0
TRIES = 5
PAUSE_SECONDS = 0.05
"""A session that was ended takes a moment to go."""
ServerKey = tuple[str, datetime]
"""System identifier and start of the postmaster: a clone has the identifier of its original."""


async def fetch_server_key(link: Link) -> ServerKey:
    """The server that a connection ends at."""
    row = await fetch_one(link, sql.SERVER_KEY)
    return read_text(row["system_identifier"]), read_time(row["started_at"])


def hold_parameters(names: SessionNames, role: str | None, part: str = "guard") -> Mapping[str, Any]:
    """The parameters of `sql.IS_HELD`: sessions of `role` (None: of the login that asks), of one part or of all (%)."""
    return {"role": role, "part": part, "lease": names.lease, "holder": names.holder}


async def end_older_holders(link: Link, names: SessionNames, fence: Fence) -> bool:
    """End the sessions that earlier processes of this installation have left behind; False without the lease.

    Anyone may look. Only the lease holder ends sessions, and the next pass asks again.
    """
    try:
        fence.check(TAKEOVER_SECONDS)
    except NotLeading:
        return False
    row = await fetch_one(link, sql.END_OLDER_HOLDERS, {"lease": names.lease, "holder": names.holder})
    if row["ended"]:
        logger.info("%s: %s of an earlier process ended", names.holder, row["ended"])
    return True


@dataclass(slots=True, eq=False)
class GuardSession:
    """A connection by which this process holds a server, unless another process of the installation is there."""

    connection: PinnedConnection
    names: SessionNames
    fence: Fence
    _has_swept: bool = False
    _server: ServerKey | None = None

    def __post_init__(self) -> None:
        self.connection.greet = self._greet

    async def has_lock(self, server: ServerKey) -> bool:
        """True when `server` shows this connection and none of another process; older ones are ended first."""
        is_held = await self.connection.run(self._confirm)
        if self._server != server:
            # The host name leads to another server since this connection was opened.
            await self.release()
            is_held = await self.connection.run(self._confirm)
        return is_held and self._server == server

    async def release(self) -> None:
        """Give the connection back, and the hold with it; it may be opened again."""
        await self.connection.release()

    async def close(self) -> None:
        """End the session, and the hold with it."""
        await self.connection.close()

    async def _greet(self, link: Link) -> None:
        self._has_swept = False
        self._server = await fetch_server_key(link)

    async def _confirm(self, link: Link) -> bool:
        parameters = hold_parameters(self.names, None)
        if not self._has_swept:
            self._has_swept = await end_older_holders(link, self.names, self.fence)
        for _ in range(TRIES):
            row = await fetch_one(link, sql.IS_HELD, parameters)
            if row["is_held"] or not await end_older_holders(link, self.names, self.fence):
                return bool(row["is_held"])
            await asyncio.sleep(PAUSE_SECONDS)
        logger.info("another process of this operator is connected as well: %s", row["rival"])
        return False
