"""The link that runs a user's own queue SQL with the user's own login."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg import errors as pg

from headroom.adapters.postgres.connection import Link, PinnedConnection, Row, read_only
from headroom.errors import HeadroomError, SignalUnavailable
from headroom.reasons import Reason

QUEUE_STATEMENT_MILLISECONDS = 2000
QUEUE_SECONDS = 3.0
MAX_ROWS = 2
"""One row is right and two are too many: more need not be fetched to know."""
QUEUE_OPTIONS: Mapping[str, str] = {
    "statement_timeout": str(QUEUE_STATEMENT_MILLISECONDS),
    "lock_timeout": "500",
    "idle_in_transaction_session_timeout": "10000",
    "default_transaction_read_only": "on",
    "TimeZone": "UTC",
}
"""No search_path: a user's SQL means the one of the user's role."""

_MISSING = (pg.UndefinedTable, pg.UndefinedColumn, pg.UndefinedFunction, pg.InvalidSchemaName, pg.UndefinedObject)


@dataclass(slots=True, eq=False)
class PinnedQueue:
    """Implements `QueueLink`."""

    connection: PinnedConnection

    async def query(self, sql: str, parameters: Mapping[str, Any] | None = None) -> list[dict[str, Any]]:
        """See `QueueLink.query`."""

        async def work(link: Link) -> list[Row]:
            try:
                return await read_only(link, sql, parameters, limit=MAX_ROWS)
            except psycopg.Error as error:
                if error.sqlstate is None or link.closed:
                    raise
                raise describe_query_error(error) from error

        return await self.connection.run(work, seconds=QUEUE_SECONDS)

    async def close(self) -> None:
        """End the connection."""
        await self.connection.close()


def describe_query_error(error: psycopg.Error) -> HeadroomError:
    """Why a user's query failed; only the code is reported, since the text may quote data."""
    code = error.sqlstate
    if isinstance(error, _MISSING):
        message = f"a table, column or function of the query does not exist (SQLSTATE {code})"
        return SignalUnavailable(message, reason=Reason.QUEUE_NOT_FOUND)
    if isinstance(error, pg.InsufficientPrivilege):
        message = f"the login may not read what the query names (SQLSTATE {code}); run: GRANT SELECT on it"
        return SignalUnavailable(message, reason=Reason.MISSING_RIGHT)
    if isinstance(error, pg.QueryCanceled | pg.LockNotAvailable):
        message = f"the query took longer than {QUEUE_STATEMENT_MILLISECONDS} ms"
        return SignalUnavailable(message, reason=Reason.QUERY_TIMEOUT)
    return SignalUnavailable(f"the query failed (SQLSTATE {code})", reason=Reason.QUERY_FAILED)
