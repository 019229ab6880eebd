"""Reads what a server's image has and what its databases need, over short connections: one database after the other."""

import asyncio
from collections.abc import Callable, Mapping

from headroom.adapters.postgres import rows, sql
from headroom.adapters.postgres.connection import PROBE_OPTIONS, Link, PinnedConnection, fetch_one
from headroom.adapters.postgres.wire.local import Row
from headroom.errors import PrimaryUnavailable, Refused
from headroom.model.libraries import DEFAULT_COLLATION, CollationFacts, DatabaseLibraries, ServerLibraries
from headroom.reasons import Reason

HOME_SECONDS = 10.0
DATABASE_SECONDS = 5.0
LONGEST_SECONDS = 60.0
"""A server with very many databases is read as far as this time reaches."""
LIBRARY_OPTIONS: Mapping[str, str] = {**PROBE_OPTIONS, "statement_timeout": "4000"}
FIRST_WITH_DATABASE_VERSIONS = 150_000

Pin = Callable[[str], PinnedConnection]
"""Builds a connection to a database of this name, which opens itself."""


async def read_libraries(pin: Pin, home: str) -> ServerLibraries:
    """One reading of the server; raises PrimaryUnavailable or Refused if database `home` cannot be asked.

    Any other database that cannot be asked is in the answer, with the reason. At most one connection is open at a time:
    the server has few of them for us.
    """
    end = asyncio.get_running_loop().time() + LONGEST_SECONDS
    connection = pin(home)
    try:
        server, databases = await connection.run(_read_server, seconds=HOME_SECONDS)
        found = []
        for row in sorted(databases, key=lambda row: (row["name"] != home, row["name"])):
            if row["name"] == home:
                database = await _read_database(connection, row, end)
            else:
                await connection.release()
                database = await _read_other(pin(row["name"]), row, end)
            if database is not None:
                found.append(database)
        # A server that went away meanwhile would be taken for one with closed databases.
        if any(database.unread for database in found):
            await connection.fetch(sql.HELLO)
        return rows.parse_libraries(server, found)
    finally:
        await connection.close()


async def _read_server(link: Link) -> tuple[Row, list[Row]]:
    server = await fetch_one(link, sql.LIBRARIES)
    statement = sql.DATABASES if server["version"] >= FIRST_WITH_DATABASE_VERSIONS else sql.DATABASES_14
    return server, await (await link.execute(statement, {})).fetchall()


async def _read_other(connection: PinnedConnection, row: Row, end: float) -> DatabaseLibraries | None:
    try:
        return await _read_database(connection, row, end)
    finally:
        await connection.close()


async def _read_database(connection: PinnedConnection, row: Row, end: float) -> DatabaseLibraries | None:
    """None for a database that was dropped since."""
    own = rows.parse_collation({**row, "name": DEFAULT_COLLATION})
    if asyncio.get_running_loop().time() > end:
        return DatabaseLibraries(row["name"], (own,), unread=f"not reached within {LONGEST_SECONDS:.0f} s")
    try:
        collations, extensions = await connection.run(_read_contents, seconds=DATABASE_SECONDS)
    except (PrimaryUnavailable, Refused) as error:
        if error.reason is Reason.DATABASE_NOT_FOUND:
            return None
        return DatabaseLibraries(row["name"], (own,), unread=str(error))
    return DatabaseLibraries(row["name"], (own, *collations), extensions)


async def _read_contents(link: Link) -> tuple[list[CollationFacts], tuple[tuple[str, str], ...]]:
    collations = await (await link.execute(sql.USED_COLLATIONS, {})).fetchall()
    extensions = await (await link.execute(sql.EXTENSIONS, {})).fetchall()
    names = tuple((str(row["name"]), str(row["version"])) for row in extensions)
    return [rows.parse_collation(row) for row in collations], names
