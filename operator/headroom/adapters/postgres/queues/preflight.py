"""Why a library's tables cannot be read: asked of the catalogs, which everybody may read."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from psycopg import sql

from headroom.adapters.postgres.values import WHERE, read_text, understood
from headroom.errors import SignalUnavailable
from headroom.ports.signals import QueueTables, SqlRunner
from headroom.reasons import Reason

FIND_TABLES = """
SELECT json_agg(to_json(found)) AS tables FROM (
SELECT n.nspname AS schema_name,
       c.relname AS table_name,
       c.relkind IN ('r', 'p') AS is_table,
       current_user AS login,
       has_schema_privilege(n.oid, 'USAGE') AS has_usage,
       ARRAY(SELECT a.attname::text FROM pg_attribute a
             WHERE a.attrelid = c.oid AND NOT a.attisdropped
               AND has_schema_privilege(n.oid, 'USAGE') AND has_column_privilege(c.oid, a.attnum, 'SELECT'))
         AS readable,
       (SELECT json_object_agg(a.attname, format_type(a.atttypid, NULL)) FROM pg_attribute a
        WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped) AS types
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relname = ANY(%(tables)s) AND c.relkind IN ('r', 'p', 'v', 'm', 'f')
  AND (%(schema)s::text IS NULL OR n.nspname = %(schema)s)
ORDER BY n.nspname <> 'public', n.nspname) found
"""
"""One row whatever is there."""
MOST_TYPE = 300
"""Characters of a type's name with its schema, both quoted."""
SYSTEM_COLUMNS = frozenset({"xmax"})
"""Columns that every table has and no view."""


@dataclass(frozen=True, slots=True)
class LibraryTables:
    """The tables of a queue library and the columns its SQL reads; `install` says how they come to be."""

    library: str
    columns: Mapping[str, frozenset[str]]
    install: str


@dataclass(frozen=True, slots=True)
class FoundTables:
    """Where the tables are, and the types of the columns that are read by table and column, as SQL writes them."""

    tables: QueueTables
    types: Mapping[str, Mapping[str, str]]


async def find_tables(runner: SqlRunner, tables: LibraryTables, schema: str | None) -> FoundTables:
    """The library's tables, readable and of a known shape.

    Raises SignalUnavailable: nothing there (QueueNotFound), no right (MissingRight), or columns of another version.
    """
    answer = await runner.read(FIND_TABLES, {"tables": sorted(tables.columns), "schema": schema})
    with understood(WHERE):
        return _find(tables, schema, answer[0]["tables"] or [])


def _find(tables: LibraryTables, schema: str | None, rows: Sequence[Mapping[str, Any]]) -> FoundTables:
    by_schema: dict[str, dict[str, Mapping[str, Any]]] = {}
    for row in rows:
        by_schema.setdefault(read_text(row["schema_name"]), {})[read_text(row["table_name"])] = row
    whole = [name for name, found in by_schema.items() if len(found) == len(tables.columns)]
    if not whole:
        raise _not_found(tables, schema, max(by_schema.values(), key=len, default={}))
    if len(whole) > 1 and "public" not in whole:
        message = f"{tables.library} is in several schemas ({', '.join(whole)}): name one in queue.postgres.schema"
        raise SignalUnavailable(message, reason=Reason.QUEUE_NOT_FOUND)
    found = by_schema[whole[0]]
    _check(tables, whole[0], list(found.values()))
    types = {
        name: {column: read_text(row["types"][column], MOST_TYPE) for column in tables.columns[name] - SYSTEM_COLUMNS}
        for name, row in found.items()
    }
    return FoundTables(QueueTables(whole[0], tables.columns), types)


def _check(tables: LibraryTables, schema: str, found: Sequence[Mapping[str, Any]]) -> None:
    # The columns first: a right to one that is not there cannot be granted.
    for row in found:
        lacking = tables.columns[row["table_name"]] - set(row["types"]) - SYSTEM_COLUMNS
        if lacking:
            message = f"{row['table_name']} has no column {', '.join(sorted(lacking))}: {tables.install}"
            raise SignalUnavailable(message, reason=Reason.QUEUE_NOT_FOUND)
    closed = [row for row in found if _needed(tables, row) - set(row["readable"])]
    if closed:
        raise _missing_right(tables, schema, closed)


def _needed(tables: LibraryTables, row: Mapping[str, Any]) -> frozenset[str]:
    wanted = tables.columns[row["table_name"]]
    return wanted if row["is_table"] else wanted - SYSTEM_COLUMNS


def _missing_right(tables: LibraryTables, schema: str, closed: Sequence[Mapping[str, Any]]) -> SignalUnavailable:
    """The statements to run: columns alone, since arguments of jobs are nobody's business."""
    login = _quote(closed[0]["login"])
    grants = [] if closed[0]["has_usage"] else [f"GRANT USAGE ON SCHEMA {_quote(schema)} TO {login}"]
    for row in closed:
        columns = ", ".join(_quote(column) for column in sorted(_needed(tables, row)))
        grants.append(f"GRANT SELECT ({columns}) ON {_quote(schema, row['table_name'])} TO {login}")
    names = ", ".join(row["table_name"] for row in closed)
    message = f"the login may not read {names}; run: {'; '.join(grants)}"
    return SignalUnavailable(message, reason=Reason.MISSING_RIGHT)


def _not_found(tables: LibraryTables, schema: str | None, there: Collection[str]) -> SignalUnavailable:
    missing = ", ".join(name for name in sorted(tables.columns) if name not in there)
    place = f"schema {schema} of " if schema else ""
    message = f"{place}the database has no {missing}: {tables.install}, or correct databaseRef and queue.postgres"
    return SignalUnavailable(message, reason=Reason.QUEUE_NOT_FOUND)


def _quote(*names: str) -> str:
    return sql.Identifier(*names).as_string(None)
