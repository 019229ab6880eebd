"""What is checked of the tables of a queue and of the login that reads them, in one statement.

The code of whoever owns a table could run as the login, so the login may have nothing that the owner lacks. A role that
the owner has too, and a table that the owner may read too, give the code nothing new.
"""

from collections.abc import Sequence
from typing import Any

from psycopg import sql

from headroom.adapters.postgres.wire.local import Row
from headroom.errors import SignalUnavailable
from headroom.ports.signals import QueueTables
from headroom.reasons import Reason

_TRUSTED_ROLES = ("pg_database_owner", "pg_use_reserved_connections")
"""Memberships in predefined roles that give a login nothing that code of others could use."""

# Each part yields the problem, the table, a detail and, of a login, the statement that takes the right away. `tree` are
# the tables with their partitions and children. `owners` are those whose code could run. The schema's owner is one of
# them, since a schema can be renamed after the check, unless it administers roles: it could give itself what the login
# has. `roles` are what the login may act as; `is_more` where an owner may not.
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
    SELECT oid, rolname::text AS name, rolsuper FROM pg_roles WHERE rolname = current_user
), here AS MATERIALIZED (
    SELECT oid, datdba FROM pg_database WHERE datname = current_database()
), owners AS MATERIALIZED (
    SELECT w.oid, w.rolsuper OR w.rolbypassrls AS sees_all
    FROM pg_roles w
    WHERE w.oid IN (SELECT owner FROM relations)
       OR NOT w.rolcreaterole AND EXISTS (SELECT FROM relations r, me WHERE r.owner <> me.oid) AND w.oid = (
              SELECT CASE WHEN o.rolname = 'pg_database_owner' THEN here.datdba ELSE o.oid END
              FROM pg_namespace n JOIN pg_roles o ON o.oid = n.nspowner, here WHERE n.nspname = %(schema)s)
), roles AS MATERIALIZED (
    SELECT o.*, o.oid = me.oid AS is_me,
           CASE WHEN o.oid <> me.oid THEN format('is a member of %%s, which ', o.rolname) ELSE '' END AS who,
           EXISTS (SELECT FROM owners w WHERE NOT pg_has_role(w.oid, o.oid, 'MEMBER')) AS is_more,
           (SELECT format('REVOKE %%I FROM %%I', g.rolname, me.name)
                   || CASE WHEN by.oid <> 10 AND current_setting('server_version_num')::int >= 160000
                           THEN format(' GRANTED BY %%I', by.rolname) ELSE '' END
            FROM pg_auth_members m JOIN pg_roles g ON g.oid = m.roleid JOIN pg_roles by ON by.oid = m.grantor
            WHERE m.member = me.oid AND o.oid <> me.oid AND pg_has_role(g.oid, o.oid, 'MEMBER')
            ORDER BY g.rolname LIMIT 1) AS revoke
    FROM pg_roles o, me WHERE pg_has_role(me.oid, o.oid, 'MEMBER')
), objects AS (
    SELECT roles.oid AS role, roles.is_me, roles.who, roles.revoke, d.classid AS class, d.objid AS object
    FROM me JOIN roles ON NOT me.rolsuper, here, pg_shdepend d
    WHERE d.refclassid = 'pg_authid'::regclass AND d.refobjid = roles.oid AND d.dbid = here.oid
      AND d.deptype IN ('a', 'o')
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
SELECT problem, table_name, detail, remedy FROM (
    SELECT 1 AS rank, 'kind' AS problem, r.table_name, r.kind AS detail, NULL AS remedy
    FROM relations r WHERE r.kind NOT IN ('r', 'p')
    UNION ALL
    SELECT 1, 'kind', r.table_name, 'v', NULL
    FROM relations r JOIN pg_rewrite w ON w.ev_class = r.oid AND w.ev_type = '1' WHERE r.kind IN ('r', 'p')
    UNION ALL
    SELECT 2, 'policy', r.table_name, current_user::text, NULL FROM relations r WHERE row_security_active(r.oid)
    UNION ALL
    SELECT 3, 'type', r.table_name, format('%%s %%s', a.attname, format_type(a.atttypid, a.atttypmod)), NULL
    FROM relations r
    JOIN columns c ON c.table_name = r.table_name
    JOIN pg_attribute a ON a.attrelid = r.oid AND a.attname = c.name AND NOT a.attisdropped
    JOIN pg_type t ON t.oid = a.atttypid
    WHERE t.typtype <> 'e' AND (t.typtype <> 'b' OR t.typnamespace <> 'pg_catalog'::regnamespace)
    UNION ALL
    SELECT 4, 'function', r.table_name, called.name, NULL
    FROM called JOIN relations r ON r.oid = called.relation JOIN pg_roles o ON o.oid = called.owner, me
    WHERE NOT o.rolsuper AND called.owner <> me.oid
    UNION ALL
    SELECT 5, 'login', '', format('%%shas %%s', who, a.name),
           CASE WHEN is_me THEN format('ALTER ROLE %%I NO%%s', rolname, a.name) ELSE revoke END
    FROM roles, LATERAL (VALUES ('SUPERUSER', rolsuper), ('CREATEROLE', rolcreaterole), ('CREATEDB', rolcreatedb),
                                ('REPLICATION', rolreplication)) a (name, has)
    WHERE is_more AND a.has
    UNION ALL
    SELECT 6, 'login', '', format('is a member of %%s', rolname), revoke
    FROM roles
    WHERE is_more AND NOT is_me AND (rolcanlogin OR oid < 16384 AND rolname <> ALL(%(trusted)s))
    UNION ALL
    -- The remedy for row policies of the queue, and nothing for any other table.
    SELECT 7, 'login', '',
           format('%%shas BYPASSRLS, which %%s', who, coalesce('opens ' || other, 'no queue here needs')),
           CASE WHEN is_me AND other IS NULL THEN format('ALTER ROLE %%I NOBYPASSRLS', rolname)
                WHEN is_me THEN format('REVOKE SELECT ON %%s FROM PUBLIC', other) ELSE revoke END
    FROM roles, LATERAL (
        SELECT min(c.oid::regclass::text) AS other FROM pg_class c
        WHERE roles.rolbypassrls AND c.relrowsecurity AND c.relname <> ALL(%(tables)s)
          AND has_any_column_privilege(roles.oid, c.oid, 'SELECT')
          AND EXISTS (SELECT FROM owners w WHERE w.oid <> c.relowner AND NOT w.sees_all)) x
    WHERE is_more AND rolbypassrls AND (other IS NOT NULL OR NOT EXISTS (
        SELECT FROM pg_class c WHERE c.relname = ANY(%(tables)s) AND c.relrowsecurity))
    UNION ALL
    -- Tables of the queue in other schemas are what the login is for.
    SELECT 8, 'login', '', format('%%smay read %%s', who, c.oid::regclass),
           CASE WHEN NOT is_me THEN revoke
                WHEN c.relowner <> role THEN format('REVOKE ALL ON %%s FROM %%I', c.oid::regclass, current_user) END
    FROM objects JOIN pg_class c ON c.oid = object AND class = 'pg_class'::regclass
    WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') AND c.relname <> ALL(%(tables)s)
      AND c.oid NOT IN (SELECT oid FROM relations) AND has_any_column_privilege(role, c.oid, 'SELECT')
      AND EXISTS (SELECT FROM owners w
                  WHERE w.oid <> c.relowner AND NOT has_any_column_privilege(w.oid, c.oid, 'SELECT'))
    UNION ALL
    SELECT 9, 'login', '', format('%%smay call %%s', who, p.oid::regprocedure),
           CASE WHEN is_me THEN format('REVOKE ALL ON ROUTINE %%s FROM %%I', p.oid::regprocedure, current_user)
                ELSE revoke END
    FROM objects JOIN pg_proc p ON p.oid = object AND class = 'pg_proc'::regclass
    WHERE p.proowner <> role AND has_function_privilege(role, p.oid, 'EXECUTE')
      AND EXISTS (SELECT FROM owners w WHERE NOT has_function_privilege(w.oid, p.oid, 'EXECUTE'))
) found
ORDER BY rank, table_name, detail
LIMIT 1
"""

_KINDS = {"v": "a view", "m": "a materialized view", "f": "a foreign table"}


def list_parameters(tables: QueueTables) -> dict[str, Any]:
    """The parameters of CHECK."""
    pairs = [(table, column) for table, names in sorted(tables.columns.items()) for column in sorted(names)]
    return {
        "schema": tables.schema,
        "tables": sorted(tables.columns),
        "column_tables": [table for table, _ in pairs],
        "columns": [column for _, column in pairs],
        "trusted": list(_TRUSTED_ROLES),
    }


def raise_problem(tables: QueueTables, found: Sequence[Row]) -> None:
    """Raises SignalUnavailable for what CHECK has found: what it is, and what to run."""
    for row in found:
        kind, detail = str(row["problem"]), str(row["detail"])
        if kind == "login":
            message = _describe_login(detail, row["remedy"])
            raise SignalUnavailable(message, reason=Reason.LOGIN_TOO_POWERFUL)
        message = _describe(kind, f"{tables.schema}.{row['table_name']}", detail)
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
    raise ValueError(f"CHECK yields no {kind}")


def _describe_login(detail: str, remedy: object) -> str:
    separate = "give the queue a separate login (headroom-queue-procrastinate.sql)"
    remedies = f"run {remedy}, or {separate}" if remedy else separate
    return f"the login {detail}, and code of the tables' owner could use that: {remedies}"


def _quote(name: str) -> str:
    return sql.Identifier(name).as_string(None)
