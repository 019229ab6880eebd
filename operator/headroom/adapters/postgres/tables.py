"""Reading tables that others own, without running what they put into them.

Whoever owns a table can replace it by a view, and can give it row policies, types and expressions that call functions
of theirs. PostgreSQL runs those as whoever reads. So a statement of ours runs in a transaction that is read-only and
rolled back. It sees pg_catalog alone, and no view, foreign table or row policy is expanded. Before it runs, the tables
are checked under the locks that it takes.

No lock keeps an index from being made, or a schema from being renamed, between the check and the planning. What gets
through runs as a login that may only read these tables: the check refuses any other.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from psycopg import sql

from headroom.adapters.postgres.connection import Link
from headroom.adapters.postgres.sql import ROLLBACK
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
_TRUSTED_ROLES = ("pg_database_owner", "pg_use_reserved_connections")
"""Memberships in predefined roles that give a login nothing that code of others could use."""

# Each part yields the problem, the table and a detail. `tree` are the tables with their partitions and children.
CHECK = """
WITH RECURSIVE tree AS (
    SELECT c.oid, c.relname::text AS table_name
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE n.nspname = %(schema)s AND c.relname = ANY(%(tables)s)
    UNION
    SELECT i.inhrelid, tree.table_name FROM tree JOIN pg_inherits i ON i.inhparent = tree.oid
), relations AS MATERIALIZED (
    SELECT c.oid, tree.table_name, c.relname::text AS name, c.relkind::text AS kind, c.relowner AS owner
    FROM tree JOIN pg_class c USING (oid)
), columns AS MATERIALIZED (
    SELECT unnest(%(column_tables)s::text[]) AS table_name, unnest(%(columns)s::text[]) AS name
), parts AS MATERIALIZED (
    -- What the planner evaluates of a table: expressions of its indexes, statistics and partition key.
    SELECT r.oid AS relation, 'pg_class'::regclass AS class, r.oid AS object FROM relations r
    UNION ALL SELECT r.oid, 'pg_class'::regclass, i.indexrelid FROM relations r JOIN pg_index i ON i.indrelid = r.oid
    UNION ALL SELECT r.oid, 'pg_statistic_ext'::regclass, s.oid
              FROM relations r JOIN pg_statistic_ext s ON s.stxrelid = r.oid
), me AS MATERIALIZED (
    SELECT oid FROM pg_roles WHERE rolname = current_user
), called AS (
    SELECT part.relation, p.oid::regprocedure::text AS name, p.proowner AS owner
    FROM parts part
    JOIN pg_depend d ON d.classid = part.class AND d.objid = part.object AND d.refclassid = 'pg_proc'::regclass
    JOIN pg_proc p ON p.oid = d.refobjid
    UNION ALL
    SELECT part.relation, o.oid::regoperator::text, o.oprowner
    FROM parts part
    JOIN pg_depend d ON d.classid = part.class AND d.objid = part.object AND d.refclassid = 'pg_operator'::regclass
    JOIN pg_operator o ON o.oid = d.refobjid
)
SELECT problem, table_name, detail FROM (
    SELECT 1 AS rank, 'kind' AS problem, r.table_name, r.kind AS detail
    FROM relations r WHERE r.kind NOT IN ('r', 'p')
    UNION ALL
    SELECT 1, 'kind', r.table_name, 'v'
    FROM relations r JOIN pg_rewrite w ON w.ev_class = r.oid AND w.ev_type = '1' WHERE r.kind IN ('r', 'p')
    UNION ALL
    SELECT 2, 'policy', r.table_name, current_user::text FROM relations r WHERE row_security_active(r.oid)
    UNION ALL
    SELECT 3, 'type', r.table_name, format('%%s %%s', a.attname, format_type(a.atttypid, a.atttypmod))
    FROM relations r
    JOIN columns c ON c.table_name = r.table_name
    JOIN pg_attribute a ON a.attrelid = r.oid AND a.attname = c.name AND NOT a.attisdropped
    JOIN pg_type t ON t.oid = a.atttypid
    WHERE t.typtype <> 'e' AND (t.typtype <> 'b' OR t.typnamespace <> 'pg_catalog'::regnamespace)
    UNION ALL
    SELECT 4, 'function', r.table_name, called.name
    FROM called JOIN relations r ON r.oid = called.relation JOIN pg_roles o ON o.oid = called.owner, me
    WHERE NOT o.rolsuper AND called.owner <> me.oid
    UNION ALL
    SELECT 5, 'login', '', o.rolname::text
    FROM pg_roles o, me
    WHERE EXISTS (SELECT FROM relations r WHERE r.owner <> me.oid)
      AND pg_has_role(me.oid, o.oid, 'MEMBER')
      AND (o.rolsuper OR o.rolcreaterole OR o.rolreplication
           OR (o.oid < 16384 AND o.rolname <> ALL(%(trusted)s)))
) found
ORDER BY rank, table_name, problem = 'login' AND detail <> current_user, detail
LIMIT 1
"""
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
      ) SELECT FROM tree WHERE tree.oid = c.oid)
"""
"""Relations that the statement uses and that are not the tables: a schema was renamed since the check. Only asked of a
server that does not refuse views by itself."""

_KINDS = {"v": "a view", "m": "a materialized view", "f": "a foreign table"}


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
            _raise_problem(tables, await _ask(link, CHECK, tables))
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
        _raise_problem(tables, await _ask(link, CHECK, tables))
    finally:
        if not link.closed:
            await link.execute(ROLLBACK)


async def _ask(link: Link, statement: str, tables: QueueTables) -> Sequence[Row]:
    pairs = [(table, column) for table, names in sorted(tables.columns.items()) for column in sorted(names)]
    parameters = {
        "schema": tables.schema,
        "tables": sorted(tables.columns),
        "column_tables": [table for table, _ in pairs],
        "columns": [column for _, column in pairs],
        "trusted": list(_TRUSTED_ROLES),
    }
    return await (await link.execute(statement, parameters)).fetchall()


def _raise_problem(tables: QueueTables, found: Sequence[Row]) -> None:
    for row in found:
        kind, table, detail = str(row["problem"]), str(row["table_name"]), str(row["detail"])
        reason = Reason.LOGIN_TOO_POWERFUL if kind == "login" else Reason.QUEUE_UNSAFE
        raise SignalUnavailable(_describe(kind, f"{tables.schema}.{table}", detail), reason=reason)


def _raise_swapped(tables: QueueTables, found: Sequence[Row]) -> None:
    if found[0]["relations"]:
        message = f"the tables of schema {tables.schema} were replaced while they were read; it is asked again"
        raise SignalUnavailable(message, reason=Reason.QUEUE_UNSAFE)


def _describe(kind: str, table: str, detail: str) -> str:
    match kind:
        case "kind":
            found = _KINDS.get(detail, "no table")
            return f"{table} is {found}, or has one as a part: only tables are read; name the schema of the tables"
        case "policy":
            login = _quote(detail)
            return f"row policies of {table} hide rows from the login; run as a superuser: ALTER ROLE {login} BYPASSRLS"
        case "type":
            return f"a column of {table} has a type that is not the library's ({detail}): give it a built-in type"
        case "function":
            return (
                f"an index, statistics or the partition key of {table} calls {detail}, which would run as our login: "
                "let a superuser own it (ALTER FUNCTION ... OWNER TO), or drop what calls it"
            )
    return (
        f"the login is a member of {detail}, or has its rights, and code of the tables' owner could use them: "
        "give the queue a separate login (headroom-queue-procrastinate.sql)"
    )


def _quote(name: str) -> str:
    return sql.Identifier(name).as_string(None)


def _literal(value: str) -> str:
    return sql.Literal(value).as_string(None)
