"""The connection of a primary that the presets of all pools share, apart from those that guard it.

A queue's statement may take its whole 500 ms, and pools ask as often as they like: on the probes' connection they
pushed the guard's own questions past their turn.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from headroom.adapters.postgres.connection import Link, PinnedConnection, Row, read_only
from headroom.errors import PrimaryUnavailable
from headroom.ports.clock import Clock
from headroom.reasons import Reason

MAX_ROWS = 1000
TURN_SECONDS = 3.0
"""Six statements that take all the server lets them have: pools wait for each other, and for nobody else."""
UNUSED_SECONDS = 60.0
"""A connection that no pool has used for so long is given back to the server."""


@dataclass(slots=True, eq=False)
class SharedQueries:
    """Made when the first pool asks; `make` builds the connection, which opens itself."""

    make: Callable[[], PinnedConnection]
    clock: Clock
    _connection: PinnedConnection | None = field(default=None, init=False)
    _asked_at: float = field(default=0.0, init=False)
    _is_closed: bool = field(default=False, init=False)

    async def query(self, sql: str, parameters: Mapping[str, Any] | None = None) -> list[dict[str, Any]]:
        """The rows of one of our read-only statements, in the order in which pools asked."""
        if self._is_closed:
            raise PrimaryUnavailable("the link was closed", reason=Reason.PRIMARY_UNREACHABLE)
        self._asked_at = self.clock.monotonic()
        if self._connection is None:
            self._connection = self.make()

        async def work(link: Link) -> list[Row]:
            return await read_only(link, sql, parameters, limit=MAX_ROWS)

        return await self._connection.run(work, seconds=TURN_SECONDS)

    async def close_unused(self) -> None:
        """Give the connection back once no pool has asked for a minute; the next question opens another one."""
        if self.clock.monotonic() - self._asked_at >= UNUSED_SECONDS:
            await self._drop()

    async def close(self) -> None:
        """End it for good."""
        self._is_closed = True
        await self._drop()

    async def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.close()
