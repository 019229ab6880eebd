"""Reading tables that others own, without running what they put into them.

Whoever owns a table can replace it by a view, and can give it row policies, types and expressions that call functions
of theirs. PostgreSQL runs those as whoever reads. So a statement of ours runs in a transaction that is read-only and
rolled back. It sees pg_catalog alone, and no view, foreign table or row policy is expanded. Before it runs, the tables
are checked under the locks that it takes.

No lock keeps an index from being made, or a schema from being renamed, between the check and the planning. What gets
through runs as a login that has nothing which the tables' owner lacks: the check (`table_check`) refuses any other.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from psycopg import sql

from headroom.adapters.postgres.connection import Link
from headroom.adapters.postgres.sql import ROLLBACK
from headroom.adapters.postgres.table_check import CHECK, list_parameters, raise_problem
from headroom.adapters.postgres.wire.local import Row
from headroom.errors import SignalUnavailable
from headroom.ports.signals import QueueTables
from headroom.reasons import Reason

LOCK_MILLISECONDS = 250
"""Whoever waits for a lock on a table holds up all that come after: shorter than for a statement of the author."""
_PINNED: Mapping[str, str] = {
    "search_path": "pg_catalog",
    "row_security": "off",
    "constraint_exclusion": "off",
    "lock_timeout": str(LOCK_MILLISECONDS),
    "DateStyle": "ISO",
}
"""Without `row_security` a table whose policies would apply is refused by the server; with `constraint_exclusion` the
planner would evaluate CHECK constraints."""
_RESTRICTED = "restrict_nonsystem_relation_kind"
_RESTRICTED_SINCE = (140013, 150008, 160004)
"""The first minor version of 14, 15 and 16 that has the parameter (CVE-2024-7348); later major versions all have it."""
LOCKED_OTHERS = """
SELECT count(*) AS relations
FROM pg_locks l JOIN pg_class c ON c.oid = l.relation AND c.relkind NOT IN ('i', 'I', 'S', 't')
WHERE l.locktype = 'relation' AND l.pid = pg_backend_pid() AND c.oid >= 16384
  AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
  AND NOT EXISTS (
      WITH RECURSIVE tree AS (
          SELECT k.oid FROM pg_class k JOIN pg_namespace n ON n.oid = k.relnamespace
          WHERE n.nspname = %(schema)s AND k.relname = ANY(%(tables)s) AND k.relkind IN ('r', 'p')
          UNION SELECT i.inhrelid FROM tree JOIN pg_inherits i ON i.inhparent = tree.oid
          JOIN pg_class k ON k.oid = i.inhrelid AND k.relkind IN ('r', 'p')
      ) SELECT FROM tree WHERE tree.oid = c.oid)
"""
"""Relations that the statement uses and that are not the tables: a schema was renamed, or a foreign table became a part
of one, since the check. Only asked of a server that does not refuse views by itself."""


def restricts_views(version: int) -> bool:
    """Whether a server (PostgreSQL's server_version_num) can refuse to expand views and foreign tables."""
    return version >= 170000 or any(first <= version < first // 10000 * 10000 + 10000 for first in _RESTRICTED_SINCE)


def begin(version: int, tables: QueueTables | None) -> str:
    """The batch that begins the transaction of a statement of ours, and locks the tables that it reads.

    PREPARE takes the locks of a SELECT: it needs no right to the whole table, and runs and plans nothing.
    """
    pinned = {**_PINNED, _RESTRICTED: "view, foreign-table"} if restricts_views(version) else _PINNED
    batch = [
        "BEGIN TRANSACTION READ ONLY",
        *(f"SET LOCAL {name} = {_literal(value)}" for name, value in pinned.items()),
    ]
    if tables is not None:
        names = sql.SQL(", ").join(sql.Identifier(tables.schema, name) for name in sorted(tables.columns))
        batch.append(sql.SQL("PREPARE headroom AS SELECT FROM {}").format(names).as_string(None))
        batch.append("DEALLOCATE headroom")
    return "; ".join(batch)


async def read(
    link: Link, statement: str, parameters: Mapping[str, Any] | None, *, tables: QueueTables | None, limit: int
) -> list[Row]:
    """Run one SELECT of ours as the module says; keeps `limit` rows. Raises SignalUnavailable for an unsafe table."""
    version = link.info.server_version
    try:
        await link.execute(begin(version, tables))
        if tables is not None:
            raise_problem(tables, await _ask(link, CHECK, tables))
        async with link.cursor(name="headroom") as cursor:
            await cursor.execute(statement, parameters)
            if tables is not None and not restricts_views(version):
                # The plan is made and nothing has run yet.
                _raise_swapped(tables, await _ask(link, LOCKED_OTHERS, tables))
            return await cursor.fetchmany(limit)
    finally:
        if not link.closed:
            await link.execute(ROLLBACK)


async def check(link: Link, tables: QueueTables) -> None:
    """Say why the server refused to read the tables: raises SignalUnavailable if their definition is the reason."""
    try:
        await link.execute(begin(link.info.server_version, None))
        raise_problem(tables, await _ask(link, CHECK, tables))
    finally:
        if not link.closed:
            await link.execute(ROLLBACK)


async def _ask(link: Link, statement: str, tables: QueueTables) -> Sequence[Row]:
    return await (await link.execute(statement, list_parameters(tables))).fetchall()


def _raise_swapped(tables: QueueTables, found: Sequence[Row]) -> None:
    if found[0]["relations"]:
        message = f"the tables of schema {tables.schema} were replaced while they were read; it is asked again"
        raise SignalUnavailable(message, reason=Reason.QUEUE_UNSAFE)


def _literal(value: str) -> str:
    return sql.Literal(value).as_string(None)
