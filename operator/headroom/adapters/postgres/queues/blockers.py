"""Why a probe of a table took too long: a lock on the table, a missing index, or neither."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from headroom.adapters.postgres.values import WHERE, read_text, read_whole, understood
from headroom.errors import PrimaryUnavailable, Refused, SignalUnavailable
from headroom.model.numbers import count_of
from headroom.model.queue import END_PREPARED
from headroom.ports.signals import SqlRunner
from headroom.reasons import Reason

MOST_NAME = 60
CREATE_INDEX = "CREATE INDEX CONCURRENTLY ON {table} ({columns}) WHERE status = 'todo'"
LOCKS = """
WITH locks AS MATERIALIZED (
    -- A prepared transaction has no pid; like each one it holds a lock on its own number.
    SELECT l.pid, l.mode, l.granted, CASE WHEN l.pid IS NULL THEN (
               SELECT min(own.transactionid::text) FROM pg_locks own
               WHERE own.locktype = 'transactionid' AND own.granted AND own.pid IS NULL
                 AND own.virtualtransaction = l.virtualtransaction) END AS prepared
    FROM pg_locks l
    WHERE l.locktype = 'relation' AND l.relation = to_regclass(%(table)s)
      AND l.pid IS DISTINCT FROM pg_backend_pid()
      AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
), holder AS (
    -- Whoever has the whole table, or else the oldest of those that somebody waits behind who asks for all of it.
    SELECT locks.pid, locks.prepared, a.usename::text AS role, a.application_name AS application,
           extract(epoch FROM a.xact_start)::float8 AS since
    FROM locks
    LEFT JOIN pg_stat_activity a USING (pid)
    WHERE locks.granted AND (
        locks.mode = 'AccessExclusiveLock'
        OR EXISTS (SELECT FROM locks waiting WHERE NOT waiting.granted AND waiting.mode = 'AccessExclusiveLock'))
    ORDER BY locks.mode = 'AccessExclusiveLock' DESC, a.xact_start
    LIMIT 1
)
SELECT (SELECT count(DISTINCT pid) FROM locks WHERE NOT granted) AS waiting,
       (SELECT to_json(holder) FROM holder) AS holder
"""
HAS_INDEX = """
SELECT EXISTS (SELECT FROM pg_index i
               WHERE i.indrelid = to_regclass(%(table)s) AND i.indisvalid
                 AND pg_get_indexdef(i.indexrelid) LIKE %(index)s) AS has_index
"""
"""Reads the table's definition, which a lock on the table would hold up: asked only where there is none."""


async def describe_timeout(runner: SqlRunner, table: str, columns: str) -> SignalUnavailable | None:
    """What kept a probe of a table (with schema, quoted) from answering; None if the catalogs cannot be read now.

    `columns` are those of the index that the probe needs on its waiting rows.
    """
    try:
        found = await runner.read(LOCKS, {"table": table})
        with understood(WHERE):
            if (locks := found[0])["holder"] is not None:
                return SignalUnavailable(_describe_holder(table, locks), reason=Reason.QUEUE_LOCKED)
        found = await runner.read(HAS_INDEX, {"table": table, "index": f"%({columns}) WHERE%todo%"})
        with understood(WHERE):
            has_index = bool(found[0]["has_index"])
    except (PrimaryUnavailable, Refused, SignalUnavailable):
        return None
    if has_index:
        message = f"the probe of {table} took too long: see that the table is vacuumed, and what loads the server"
    else:
        message = (
            f"the probe of {table} took too long; run: {CREATE_INDEX.format(table=table, columns=columns)}; "
            "and see that the table is vacuumed"
        )
    return SignalUnavailable(message, reason=Reason.QUERY_TIMEOUT)


def _describe_holder(table: str, row: Mapping[str, Any]) -> str:
    holder = row["holder"]
    since = holder["since"]
    start = "" if since is None else f" since {datetime.fromtimestamp(since, UTC):%Y-%m-%d %H:%M:%S} UTC"
    waiting = count_of(read_whole(row["waiting"]), "session waits", "sessions wait")
    begin = f"the probe timed out while {waiting} for a lock on {table}: "
    if holder["pid"] is None:
        transaction = int(read_text(holder["prepared"]))
        return f"{begin}transaction {transaction} has held one; {END_PREPARED.format(transaction)}"
    pid = read_whole(holder["pid"])
    return (
        f"{begin}the session with pid {pid} (role {_quote(holder['role'])}, application "
        f"{_quote(holder['application'])}) has held one{start}; end it with SELECT pg_terminate_backend({pid})"
    )


def _quote(name: str | None) -> str:
    """A name that its owner chose, on one line and in quotes: it must not read as advice of ours."""
    return '"' + " ".join((name or "").split())[:MOST_NAME].replace('"', '""') + '"'
