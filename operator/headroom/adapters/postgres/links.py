"""The links beside that of a guard: to one replica and to queues, and what is asked of a primary for pools.

A queue is read with a separate login, and pools with the same login share a connection. The guard's login never reads
a table: its questions for pools are about sessions, and have a connection apart from those that guard the primary,
since pools ask as often as they like.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import psycopg
from psycopg import Column
from psycopg import errors as pg
from psycopg.postgres import types

from headroom.adapters.postgres import rows, sql
from headroom.adapters.postgres.connection import Link, PinnedConnection, fetch_one, read_only
from headroom.adapters.postgres.libraries import Pin, read_libraries
from headroom.adapters.postgres.tables import check as check_tables
from headroom.adapters.postgres.tables import read as read_tables
from headroom.adapters.postgres.values import read_whole
from headroom.adapters.postgres.wire.local import Row
from headroom.errors import HeadroomError, PrimaryUnavailable, SignalUnavailable
from headroom.model.database import BackupProgress, ReplicaProbe
from headroom.model.libraries import ServerLibraries
from headroom.ports.clock import Clock, Fence
from headroom.ports.postgres import QueueListener
from headroom.ports.signals import QueueTables
from headroom.reasons import Reason

END_SECONDS = 3.0
QUEUE_STATEMENT_MILLISECONDS = 2000
QUEUE_SECONDS = 3.0
QUEUE_TURN_SECONDS = 10.0
"""Pools with one login wait for each other's queries on one connection; the slow one is to blame, not the server."""
QUEUE_MAX_AGE_SECONDS = 60.0
"""A connection of a queue is reopened this often, so that a host name that has moved is noticed without a loss."""
OWN_MAX_ROWS = 2
"""One row is right and two are too many: more need not be fetched to know."""
QUEUE_OPTIONS: Mapping[str, str] = {
    "statement_timeout": str(QUEUE_STATEMENT_MILLISECONDS),
    "lock_timeout": "500",
    "idle_in_transaction_session_timeout": "10000",
    "default_transaction_read_only": "on",
    "jit": "off",
    "max_parallel_workers_per_gather": "0",
    "TimeZone": "UTC",
}
"""No search_path: a user's SQL means the one of the user's role."""
VOID = 2278
"""What a function returns that returns nothing: `pg_type.dat` of PostgreSQL."""
BOUNDED_TYPES = frozenset((VOID,)) | frozenset(
    types[name].oid
    for name in (
        "bool",
        "int2",
        "int4",
        "int8",
        "oid",
        "float4",
        "float8",
        "numeric",
        "interval",
        "timestamptz",
        "date",
    )
)
"""Types whose values have a bound: numbers, and what is often written instead of one."""
NAME_ARRAYS = frozenset(types[name].array_oid for name in ("text", "varchar", "bpchar", "name", "inet", "cidr"))
_REFUSED_TO_READ = (pg.InsufficientPrivilege, pg.ObjectNotInPrerequisiteState, pg.WrongObjectType)
"""What the server says of a view, a foreign table, or a row policy that would apply."""
_MISSING: Mapping[type[psycopg.Error], str] = {
    pg.UndefinedTable: "a table",
    pg.UndefinedColumn: "a column",
    pg.UndefinedFunction: "a function",
    pg.InvalidSchemaName: "a schema",
    pg.UndefinedObject: "an object, such as a type,",
}
SHARED_MAX_ROWS = 1000
TURN_SECONDS = 3.0
"""Six statements that take their whole time: pools wait for each other, and for no other part of the operator."""
UNUSED_SECONDS = 60.0
"""A connection that no pool has used for so long is given back to the server."""


@dataclass(slots=True, eq=False)
class PinnedReplica:
    """Implements `ReplicaLink`."""

    connection: PinnedConnection
    fence: Fence
    clock: Clock
    pin_database: Pin

    async def probe(self) -> ReplicaProbe:
        """See `ReplicaLink.probe`."""

        async def work(link: Link) -> ReplicaProbe:
            probed_at = self.clock.monotonic()
            row = await fetch_one(link, sql.PROBE)
            return rows.parse_probe(row, probed_at=probed_at, answered_at=self.clock.monotonic())

        return await self.connection.run(work)

    async def backups(self) -> Sequence[BackupProgress]:
        """See `ReplicaLink.backups`."""
        return await self.connection.read(sql.BACKUPS, rows.parse_backup)

    async def libraries(self) -> ServerLibraries:
        """See `ReplicaLink.libraries`; on connections of its own, so that no probe waits for it."""
        return await read_libraries(self.pin_database, self.connection.target.database)

    async def end_sessions(self, *, only_idle: bool) -> int:
        """See `ReplicaLink.end_sessions`; one statement a session, each matched as it was seen."""
        self.fence.check(END_SECONDS)

        async def work(link: Link) -> int:
            # More than are listed are there at the next call.
            seen = await (await link.execute(sql.SESSIONS, {"only_idle": only_idle})).fetchall()
            return sum([await self._end(link, session, only_idle=only_idle) for session in seen])

        return await self.connection.run(work, seconds=END_SECONDS)

    async def _end(self, link: Link, session: Row, *, only_idle: bool) -> int:
        # Turn, connect and query may have taken seconds, in which a process that was frozen lost its lease.
        self.fence.check(END_SECONDS)
        row = await fetch_one(link, sql.END_SESSION, {**session, "only_idle": only_idle})
        return read_whole(row["ended"])

    async def close(self) -> None:
        """End the connection."""
        await self.connection.close()


@dataclass(slots=True, eq=False)
class PinnedQueue:
    """Implements `QueueLink`."""

    connection: PinnedConnection
    make_listener: Callable[[], QueueListener]

    async def query(self, sql: str, parameters: Mapping[str, Any] | None = None) -> list[dict[str, Any]]:
        """See `QueueLink.query`."""

        async def work(link: Link) -> list[Row]:
            try:
                return await read_only(link, sql, parameters, limit=OWN_MAX_ROWS, check=check_columns)
            except psycopg.Error as error:
                if error.sqlstate is None or link.closed:
                    raise
                raise describe_query_error(error) from error

        return await self.connection.run(work, seconds=QUEUE_SECONDS, turn_seconds=QUEUE_TURN_SECONDS)

    async def read(
        self, sql: str, parameters: Mapping[str, Any] | None = None, *, tables: QueueTables | None = None
    ) -> list[dict[str, Any]]:
        """See `QueueLink.read`."""

        async def work(link: Link) -> list[Row]:
            try:
                return await read_tables(link, sql, parameters, tables=tables, limit=OWN_MAX_ROWS)
            except psycopg.Error as error:
                if error.sqlstate is None or link.closed:
                    raise
                if tables is not None and isinstance(error, _REFUSED_TO_READ):
                    await check_tables(link, tables)
                raise describe_query_error(error) from error

        return await self.connection.run(work, seconds=QUEUE_SECONDS, turn_seconds=QUEUE_TURN_SECONDS)

    def open_listener(self) -> QueueListener:
        """See `QueueLink.open_listener`."""
        return self.make_listener()

    async def close(self) -> None:
        """End the connection."""
        await self.connection.close()


def check_columns(columns: Sequence[Column]) -> None:
    """Raise SignalUnavailable for a column whose values have no bound: its rows are not fetched at all."""
    for column in columns:
        if column.type_code not in BOUNDED_TYPES and column.type_code not in NAME_ARRAYS:
            info = types.get(column.type_code)
            name = info.name if info is not None else f"type {column.type_code}"
            message = f"returned {name}, not a number; for an age write extract(epoch from ...)"
            raise SignalUnavailable(message, reason=Reason.QUERY_NOT_A_NUMBER)


def describe_query_error(error: psycopg.Error) -> HeadroomError:
    """Why a user's query failed; only the code is reported, since the text may quote data."""
    code = error.sqlstate
    missing = _MISSING.get(type(error))
    if missing is not None:
        message = (
            f"{missing} that the query names does not exist, or not for this login (SQLSTATE {code}): "
            "run the statement as that login to see it"
        )
        return SignalUnavailable(message, reason=Reason.QUEUE_NOT_FOUND)
    if isinstance(error, pg.InsufficientPrivilege):
        message = f"the login may not read what the query names (SQLSTATE {code}); run: GRANT SELECT on it"
        return SignalUnavailable(message, reason=Reason.MISSING_RIGHT)
    if isinstance(error, pg.QueryCanceled | pg.LockNotAvailable):
        message = f"the query took longer than {QUEUE_STATEMENT_MILLISECONDS} ms"
        return SignalUnavailable(message, reason=Reason.QUERY_TIMEOUT)
    return SignalUnavailable(f"the query failed (SQLSTATE {code})", reason=Reason.QUERY_FAILED)


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
            return await read_only(link, sql, parameters, limit=SHARED_MAX_ROWS)

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
