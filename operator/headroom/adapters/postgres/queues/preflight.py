"""Why a library's tables cannot be read: asked of the catalogs, which everybody may read."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from psycopg import sql

from headroom.errors import SignalUnavailable
from headroom.ports.signals import SqlRunner
from headroom.reasons import Reason

FIND_TABLES = """
SELECT json_agg(to_json(found)) AS tables FROM (
SELECT n.nspname AS schema_name,
       c.relname AS table_name,
       current_user AS login,
       current_database() AS database,
       has_schema_privilege(n.oid, 'USAGE') AS has_usage,
       has_schema_privilege(n.oid, 'USAGE') AND has_table_privilege(c.oid, 'SELECT') AS has_select,
       ARRAY(SELECT a.attname::text FROM pg_attribute a
             WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped) AS columns
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relname = ANY(%(tables)s) AND c.relkind IN ('r', 'p', 'v', 'm')
  AND (%(schema)s::text IS NULL OR n.nspname = %(schema)s)
ORDER BY n.nspname <> 'public', n.nspname) found
"""
"""One row whatever is there: a link for a user's own SQL keeps no more than two."""


@dataclass(frozen=True, slots=True)
class LibraryTables:
    """The tables of a queue library and the columns its SQL reads; `install` says how they come to be."""

    library: str
    columns: Mapping[str, frozenset[str]]
    install: str


async def find_schema(runner: SqlRunner, tables: LibraryTables, schema: str | None) -> str:
    """The schema that holds the library's tables, readable and of a known shape.

    Raises SignalUnavailable: nothing there (QueueNotFound), no right (MissingRight), or columns of another version.
    """
    answer = await runner.query(FIND_TABLES, {"tables": sorted(tables.columns), "schema": schema})
    rows: list[Mapping[str, object]] = answer[0]["tables"] or []
    by_schema: dict[str, dict[str, Mapping[str, object]]] = {}
    for row in rows:
        by_schema.setdefault(str(row["schema_name"]), {})[str(row["table_name"])] = row
    whole = [name for name, found in by_schema.items() if len(found) == len(tables.columns)]
    if not whole:
        raise _not_found(tables, schema, max(by_schema.values(), key=len, default={}))
    if len(whole) > 1 and "public" not in whole:
        message = f"{tables.library} is in several schemas ({', '.join(whole)}): name one in queue.postgres.schema"
        raise SignalUnavailable(message, reason=Reason.QUEUE_NOT_FOUND)
    _check(tables, whole[0], list(by_schema[whole[0]].values()))
    return whole[0]


def _check(tables: LibraryTables, schema: str, found: Sequence[Mapping[str, object]]) -> None:
    missing = [str(row["table_name"]) for row in found if not row["has_select"]]
    if missing:
        login = sql.Identifier(str(found[0]["login"])).as_string(None)
        grant = f"GRANT USAGE ON SCHEMA {_quote(schema)} TO {login}; " if not found[0]["has_usage"] else ""
        names = ", ".join(_quote(schema, name) for name in missing)
        message = f"the login may not read {', '.join(missing)}; run: {grant}GRANT SELECT ON {names} TO {login}"
        raise SignalUnavailable(message, reason=Reason.MISSING_RIGHT)
    for row in found:
        columns = row["columns"]
        assert isinstance(columns, list)
        lacking = tables.columns[str(row["table_name"])] - set(columns)
        if lacking:
            message = f"{row['table_name']} has no column {', '.join(sorted(lacking))}: {tables.install}"
            raise SignalUnavailable(message, reason=Reason.QUEUE_NOT_FOUND)


def _not_found(tables: LibraryTables, schema: str | None, there: Collection[str]) -> SignalUnavailable:
    missing = ", ".join(name for name in sorted(tables.columns) if name not in there)
    place = f"schema {schema} of " if schema else ""
    message = f"{place}the database has no {missing}: {tables.install}, or correct databaseRef and queue.postgres"
    return SignalUnavailable(message, reason=Reason.QUEUE_NOT_FOUND)


def _quote(*names: str) -> str:
    return sql.Identifier(*names).as_string(None)
