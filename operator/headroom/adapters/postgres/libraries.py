"""Reads what a server's image has and what its databases need, over short connections: one database after the other."""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from headroom.adapters.postgres import rows, sql
from headroom.adapters.postgres.connection import PROBE_OPTIONS, Link, PinnedConnection, fetch_one
from headroom.adapters.postgres.values import read_entries, read_text, read_whole
from headroom.errors import PrimaryUnavailable, Refused
from headroom.model.libraries import DEFAULT_COLLATION, CollationFacts, DatabaseLibraries, ServerLibraries
from headroom.reasons import Reason

HOME_SECONDS = 10.0
DATABASE_SECONDS = 5.0
LONGEST_SECONDS = 60.0
"""A server with very many databases is read as far as this time reaches."""
LIBRARY_OPTIONS: Mapping[str, str] = {**PROBE_OPTIONS, "statement_timeout": "4000"}
FIRST_WITH_DATABASE_VERSIONS = 150_000
MOST_KEPT = 20_000
"""Of collations and extensions in all databases together; one that no database before it has counts ten times."""
NEW, KNOWN = 10, 1

T = TypeVar("T")
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
        found, kept = [], _Kept()
        for listed in databases:
            if listed.name == home:
                database = await _read_database(connection, listed, end)
            else:
                await connection.release()
                database = await _read_other(pin(listed.name), listed, end)
            if database is not None:
                found.append(kept.add(database))
        # A server that went away meanwhile would be taken for one with closed databases.
        if any(database.unread for database in found):
            await connection.fetch(sql.HELLO)
        return replace(server, databases=tuple(found))
    finally:
        await connection.close()


async def read_data_bytes(pin: Pin, home: str) -> int:
    """What all databases take on disk; raises PrimaryUnavailable or Refused, also where counting takes long."""
    connection = pin(home)

    async def work(link: Link) -> int:
        return read_whole((await fetch_one(link, sql.DATA_BYTES))["bytes"])

    try:
        return await connection.run(work, seconds=HOME_SECONDS)
    finally:
        await connection.close()


@dataclass(slots=True)
class _Kept:
    """What was read so far: databases have most entries in common, and each is kept once."""

    entries: dict[Any, Any] = field(default_factory=dict)
    left: int = MOST_KEPT

    def add(self, database: DatabaseLibraries) -> DatabaseLibraries:
        """The database without what there is no room for any more."""
        own, *others = (self._keep(entry) for entry in database.collations)
        extensions = [self._keep(entry) for entry in database.extensions]
        if self.left < 0:
            return DatabaseLibraries(database.name, (own,), unread="the server has more databases than are compared")
        return DatabaseLibraries(database.name, (own, *others), tuple(extensions), database.unread)

    def _keep(self, entry: T) -> T:
        if self.left < 0:
            return entry
        self.left -= KNOWN if entry in self.entries else NEW
        known: T = self.entries.setdefault(entry, entry)
        return known


async def _read_server(link: Link) -> tuple[ServerLibraries, list[CollationFacts]]:
    """The server without its databases, and the name and the default collation of each of these."""
    server = await fetch_one(link, sql.LIBRARIES)
    statement = sql.DATABASES if server["version"] >= FIRST_WITH_DATABASE_VERSIONS else sql.DATABASES_14
    databases = await (await link.execute(statement, {})).fetchall()
    listed = [rows.parse_collation(row) for row in read_entries(databases, sql.MOST_DATABASES)]
    return rows.parse_libraries(server, ()), listed


async def _read_other(connection: PinnedConnection, listed: CollationFacts, end: float) -> DatabaseLibraries | None:
    try:
        return await _read_database(connection, listed, end)
    finally:
        await connection.close()


async def _read_database(connection: PinnedConnection, listed: CollationFacts, end: float) -> DatabaseLibraries | None:
    """None for a database that was dropped since."""
    name, own = listed.name, replace(listed, name=DEFAULT_COLLATION)
    if asyncio.get_running_loop().time() > end:
        return DatabaseLibraries(name, (own,), unread=f"not reached within {LONGEST_SECONDS:.0f} s")
    try:
        collations, extensions = await connection.run(_read_contents, seconds=DATABASE_SECONDS)
    except (PrimaryUnavailable, Refused) as error:
        if error.reason is Reason.DATABASE_NOT_FOUND:
            return None
        return DatabaseLibraries(name, (own,), unread=str(error))
    return DatabaseLibraries(name, (own, *collations), extensions)


async def _read_contents(link: Link) -> tuple[list[CollationFacts], tuple[tuple[str, str], ...]]:
    collations = await (await link.execute(sql.USED_COLLATIONS, {})).fetchall()
    extensions = await (await link.execute(sql.EXTENSIONS, {})).fetchall()
    names = tuple(
        (read_text(row["name"]), read_text(row["version"])) for row in read_entries(extensions, sql.MOST_EXTENSIONS)
    )
    return [rows.parse_collation(row) for row in read_entries(collations, sql.MOST_COLLATIONS)], names
