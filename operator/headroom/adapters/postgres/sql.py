"""Every statement Headroom sends to PostgreSQL, by name. Each works on 14 to 18; `search_path` is pg_catalog."""

MOST_LIMITED = 500
"""Roles, and databases, of an answer: those with the most connections."""
MOST_SESSIONS = 1000
MOST_SLOTS = 500
MOST_DATABASES = 1000
MOST_COLLATIONS = 300
MOST_EXTENSIONS = 300

OURS = "(usename = current_user AND application_name LIKE 'headroom/%%')"
"""Sessions of Headroom itself: the name alone could be anybody's."""

HELLO = """
SELECT pg_backend_pid() AS backend_pid,
       current_setting('server_version_num')::int AS version,
       current_user::text AS role
"""

# pg_walfile_name names the timeline that is written now; the control file keeps the old one until the first
# checkpoint after a promotion.
_TIMELINE = """
CASE WHEN pg_is_in_recovery()
     THEN coalesce((SELECT received_tli FROM pg_stat_get_wal_receiver()),
                   (SELECT timeline_id FROM pg_control_checkpoint()))
     ELSE ('x' || substr(pg_walfile_name(pg_current_wal_flush_lsn()), 1, 8))::bit(32)::int
END
"""

IDENTIFY = f"""
SELECT (SELECT system_identifier FROM pg_control_system())::text AS system_identifier,
       pg_postmaster_start_time() AS started_at,
       current_setting('server_version_num')::int AS version,
       pg_is_in_recovery() AS is_in_recovery,
       {_TIMELINE} AS timeline,
       CASE WHEN NOT pg_is_in_recovery() THEN pg_current_wal_flush_lsn()::text END AS flush_lsn,
       CASE WHEN cardinality(%(settings)s::text[]) > 0
            THEN (SELECT json_object_agg(name, setting) FROM pg_settings WHERE name = ANY(%(settings)s))
       END AS settings,
       (SELECT count(*) FROM pg_stat_replication) AS wal_senders_used,
       (SELECT count(*) FROM pg_replication_slots) AS slots_used,
       ARRAY(SELECT rolname::text FROM pg_roles
             WHERE rolname = ANY(%(rights)s) AND NOT pg_has_role(current_user, oid, 'USAGE')
             ORDER BY rolname) AS missing_rights,
       EXISTS (SELECT FROM pg_tablespace
               WHERE spcname NOT IN ('pg_default', 'pg_global')) AS has_user_tablespaces,
       (SELECT rolsuper FROM pg_roles WHERE rolname = current_user) AS is_superuser
"""  # noqa: S608  only constants of this module

"""pg_settings is most of its cost, and is left out when no name is asked for."""

SETTINGS = (
    "full_page_writes",
    "idle_replication_slot_timeout",
    "max_connections",
    "max_locks_per_transaction",
    "max_prepared_transactions",
    "max_replication_slots",
    "max_slot_wal_keep_size",
    "max_wal_senders",
    "max_worker_processes",
    "reserved_connections",
    "server_version",
    "shared_buffers",
    "shared_preload_libraries",
    "superuser_reserved_connections",
    "synchronous_commit",
    "synchronous_standby_names",
    "track_commit_timestamp",
    "wal_keep_size",
    "wal_level",
    "wal_segment_size",
)
"""Parameters that IDENTIFY reads; one that the server does not know, or hides from the login, is absent."""

RIGHTS = ("pg_monitor", "pg_signal_backend", "pg_use_reserved_connections")
"""Predefined roles the monitor login should have; one that the server does not know is not missing."""

POSITION = f"""
SELECT pg_current_wal_flush_lsn()::text AS lsn,
       {_TIMELINE} AS timeline,
       (SELECT system_identifier FROM pg_control_system())::text AS system_identifier
"""  # noqa: S608

CANARY = """
BEGIN;
SET LOCAL synchronous_commit = on;
SELECT pg_current_wal_flush_lsn(), pg_logical_emit_message(true, 'headroom', '')
"""
"""A transactional message gets a transaction id, so that its COMMIT is flushed as a user's is; it touches no table.
The position comes first since it fails, on a server in recovery, with its own SQLSTATE."""
COMMIT = "COMMIT"

# Without pg_monitor the kind of another role's session is hidden, but not the database it is in.
CONNECTIONS = f"""
WITH clients AS (
  SELECT * FROM pg_stat_activity WHERE coalesce(backend_type = 'client backend', datid IS NOT NULL)
)
SELECT count(*) AS used,
       count(*) FILTER (WHERE state = 'active' AND NOT {OURS}) AS active,
       count(*) FILTER (WHERE state LIKE 'idle in transaction%%') AS idle_in_transaction,
       count(*) FILTER (WHERE wait_event_type = 'Lock') AS lock_waiters,
       coalesce(max(extract(epoch FROM clock_timestamp() - xact_start)) FILTER (WHERE NOT {OURS}), 0)::float8
         AS oldest_transaction_seconds,
       (SELECT sum(CASE WHEN name = 'max_connections' THEN setting::int ELSE -setting::int END)::int
        FROM pg_settings
        WHERE name IN ('max_connections', 'superuser_reserved_connections', 'reserved_connections')) AS usable,
       (SELECT json_agg(json_build_array(name, used, most)) FROM (
        SELECT r.rolname AS name, s.used, CASE WHEN NOT r.rolsuper THEN r.rolconnlimit END AS most
        FROM (SELECT usesysid AS oid, count(*) AS used FROM clients GROUP BY 1) s
        RIGHT JOIN pg_roles r USING (oid)
        WHERE s.used > 0 OR r.rolconnlimit >= 0
        ORDER BY s.used DESC NULLS LAST, r.rolname LIMIT {MOST_LIMITED}) found) AS roles,
       (SELECT json_agg(json_build_array(name, used, most)) FROM (
        SELECT d.datname AS name, s.used, d.datconnlimit AS most
        FROM (SELECT datid AS oid, count(*) AS used FROM clients GROUP BY 1) s
        RIGHT JOIN pg_database d USING (oid)
        WHERE s.used > 0 OR d.datconnlimit >= 0
        ORDER BY s.used DESC NULLS LAST, d.datname LIMIT {MOST_LIMITED}) found) AS databases
FROM clients
"""  # noqa: S608

BACKUPS = """
SELECT coalesce(a.application_name, '') AS application_name, p.phase,
       coalesce(p.backup_streamed, 0) AS streamed_bytes, coalesce(p.backup_total, 0) AS total_bytes
FROM pg_stat_progress_basebackup p LEFT JOIN pg_stat_replication a USING (pid)
ORDER BY 1 LIMIT 100
"""

DATA_BYTES = "SELECT coalesce(sum(pg_database_size(oid)), 0)::bigint AS bytes FROM pg_database"

# inactive_since and invalidation_reason came with 17: read through JSON, so that one statement serves all versions.
# One that was given up as idle still has its restart_lsn, from which it keeps nothing.
_SLOT = """
SELECT slot_name::text AS name, active AS is_active, wal_status,
       CASE WHEN wal_status <> 'lost' THEN restart_lsn::text END AS restart_lsn,
       to_jsonb(s) ->> 'invalidation_reason' AS invalidation,
       xmin IS NOT NULL OR catalog_xmin IS NOT NULL AS has_xmin,
       CASE WHEN NOT active THEN
         extract(epoch FROM clock_timestamp() - (to_jsonb(s) ->> 'inactive_since')::timestamptz)::float8
       END AS inactive_seconds
FROM pg_replication_slots s
"""
SLOTS = (
    f"{_SLOT} WHERE slot_type = 'physical' AND starts_with(slot_name::text, %(prefix)s) ORDER BY 1 LIMIT {MOST_SLOTS}"
)
SLOT = f"{_SLOT} WHERE slot_type = 'physical' AND slot_name = %(name)s"
CREATE_SLOT = "SELECT pg_create_physical_replication_slot(%(name)s, true, false)"
COPY_SLOT = "SELECT pg_copy_physical_replication_slot(%(source)s, %(name)s, false)"
TOUCH_SLOT = """
SELECT pg_replication_slot_advance(slot_name, restart_lsn) FROM pg_replication_slots
WHERE slot_name = %(name)s AND slot_type = 'physical' AND NOT active AND restart_lsn IS NOT NULL
"""
"""To where it is: that only resets since when nobody has used it."""
# usesysid is who has logged in: no role can make that up, as it can an application_name or a lock.
_SESSIONS = """
SELECT pid, application_name FROM pg_stat_activity
WHERE usename = coalesce(%(role)s::text, current_user)
  AND application_name LIKE 'headroom/' || %(part)s || '/%%'
  AND split_part(application_name, '/', 3) = %(lease)s
"""
_HELD = f"""
EXISTS (SELECT FROM ({_SESSIONS}) ours WHERE split_part(application_name, '/', 4) = %(holder)s)
  AND NOT EXISTS (SELECT FROM ({_SESSIONS}) rivals WHERE split_part(application_name, '/', 4) <> %(holder)s)
"""  # noqa: S608
DROP_SLOT = f"""
SELECT pg_drop_replication_slot(s.slot_name)
FROM pg_replication_slots s
WHERE s.slot_name = %(name)s AND s.slot_type = 'physical' AND NOT s.active AND {_HELD}
"""  # noqa: S608
"""Drops the slot only while the server sees sessions of our guard, and none of another process of the installation."""
END_SENDER = f"""
SELECT pg_terminate_backend(s.active_pid, 1000)
FROM pg_replication_slots s
WHERE s.slot_name = %(name)s AND s.slot_type = 'physical' AND s.active_pid IS NOT NULL AND {_HELD}
"""  # noqa: S608
"""Ends the sender and waits up to a second for it, so that the slot can go at once."""
IS_HELD = f"""
SELECT {_HELD} AS is_held,
       (SELECT format('pid %%s, application %%s', pid, application_name) FROM ({_SESSIONS}) rivals
        WHERE split_part(application_name, '/', 4) <> %(holder)s ORDER BY pid LIMIT 1) AS rival
"""  # noqa: S608
SERVER_KEY = """
SELECT system_identifier::text AS system_identifier, pg_postmaster_start_time() AS started_at FROM pg_control_system()
"""
IDENTIFY_SYSTEM = "IDENTIFY_SYSTEM"
TIMELINE_HISTORY = "TIMELINE_HISTORY {timeline:d}"
"""Both are commands of a replication connection, which takes no parameters."""

END_OLDER_HOLDERS = """
SELECT count(*) FILTER (WHERE pg_terminate_backend(pid)) AS ended
FROM pg_stat_activity
WHERE application_name LIKE 'headroom/%%'
  AND split_part(application_name, '/', 3) = %(lease)s
  AND split_part(application_name, '/', 4) <> %(holder)s
  AND (usename = current_user OR pg_has_role(current_user, 'pg_signal_backend', 'USAGE'))
  AND usesysid NOT IN (SELECT oid FROM pg_roles WHERE rolsuper AND rolname <> current_user)
"""

# A receiver names its timeline only while it runs. A segment of a timeline is there once WAL of it was received.
# Reading the folder is too expensive for every probe, and needs a right that a login may lack.
_WAL_TIMELINE = """
CASE WHEN pg_is_in_recovery() AND w.received_tli IS NULL AND has_function_privilege('pg_ls_waldir()', 'EXECUTE')
     THEN (SELECT max(('x' || substr(name, 1, 8))::bit(32)::int) FROM pg_ls_waldir() WHERE name ~ '^[0-9A-F]{24}$')
END
"""

# Of all databases, as sessions are. On 14 it is not known: there a statement waits for the statistics collector, for up
# to ten seconds if that is busy, and a probe that waits takes a replica out of the Service. From 15 on they are in
# shared memory.
_TRANSACTIONS = """
CASE WHEN current_setting('server_version_num')::int >= 150000 THEN
  (SELECT sum(pg_stat_get_db_xact_commit(oid) + pg_stat_get_db_xact_rollback(oid))::bigint FROM pg_database)
END
"""

PROBE = f"""
SELECT current_setting('cluster_name') AS server_name,
       pg_is_in_recovery() AS is_in_recovery,
       (SELECT system_identifier FROM pg_control_system())::text AS system_identifier,
       current_setting('server_version_num')::int AS version,
       pg_last_wal_replay_lsn()::text AS replay_lsn,
       pg_last_wal_receive_lsn()::text AS receive_lsn,
       w.received_tli AS timeline,
       {_WAL_TIMELINE} AS wal_timeline,
       coalesce(w.status = 'streaming', false) AS is_streaming,
       CASE WHEN pg_is_in_recovery() THEN pg_get_wal_replay_pause_state() <> 'not paused' ELSE false END
         AS is_replay_paused,
       s.sessions, s.active_sessions,
       current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int
         - coalesce(current_setting('reserved_connections', true), '0')::int AS max_connections,
       {_TRANSACTIONS} AS transactions
FROM (SELECT count(*) AS sessions, count(*) FILTER (WHERE state = 'active') AS active_sessions
      FROM pg_stat_activity
      WHERE coalesce(backend_type = 'client backend', datid IS NOT NULL) AND NOT {OURS}) s
LEFT JOIN pg_stat_get_wal_receiver() w ON true
"""  # noqa: S608

_MAY_BE_ENDED = f"""
backend_type = 'client backend' AND pid <> pg_backend_pid() AND NOT {OURS}
  AND usesysid NOT IN (SELECT oid FROM pg_roles WHERE rolsuper)
"""  # noqa: S608
SESSIONS = f"""
SELECT pid, backend_start, state, state_change FROM pg_stat_activity
WHERE {_MAY_BE_ENDED} AND (state = 'idle' OR NOT %(only_idle)s)
ORDER BY backend_start LIMIT {MOST_SESSIONS}
"""  # noqa: S608
END_SESSION = f"""
SELECT count(*) FILTER (WHERE pg_terminate_backend(pid)) AS ended FROM pg_stat_activity
WHERE pid = %(pid)s AND backend_start = %(backend_start)s AND {_MAY_BE_ENDED}
  AND (NOT %(only_idle)s OR (state = 'idle' AND state_change = %(state_change)s))
"""  # noqa: S608
"""One session, if it is still the one that was seen: pids are used again, and an idle session may have gone to work."""

# pg_settings leaves out what the login may not read, while current_setting would fail.
LIBRARIES = """
SELECT current_setting('cluster_name') AS server_name, current_setting('server_version_num')::int AS version,
       (SELECT setting FROM pg_settings WHERE name = 'shared_preload_libraries') AS preloaded,
       (SELECT coalesce(json_agg(json_build_array(name, version)), '[]')
        FROM (SELECT DISTINCT name::text, version FROM pg_available_extension_versions()) v) AS available
"""
# Nobody reads from a template, and a session in it makes CREATE DATABASE wait. -2 marks a DROP that did not end.
_DATABASES = f"""FROM pg_database d WHERE d.datallowconn AND NOT d.datistemplate AND d.datconnlimit <> -2
ORDER BY d.datname <> current_database(), 1 LIMIT {MOST_DATABASES}
"""
DATABASES = f"""
SELECT d.datname::text AS name, d.datlocprovider::text AS provider, d.datcollversion AS recorded,
       pg_database_collation_actual_version(d.oid) AS actual
{_DATABASES}
"""
DATABASES_14 = f"""
SELECT d.datname::text AS name, 'c' AS provider, NULL::text AS recorded,
       CASE WHEN d.datcollate::text NOT IN ('C', 'POSIX') AND d.datcollate::text NOT LIKE 'C.%%' THEN
         (SELECT max(pg_collation_actual_version(c.oid)) FROM pg_collation c WHERE c.collprovider = 'c')
       END AS actual
{_DATABASES}
"""  # noqa: S608
"""14 records no version of a database's own collation. All its collations belong to one C library with one version."""
USED_COLLATIONS = f"""
WITH used AS (
  SELECT unnest(indcollation::oid[]) AS oid FROM pg_index
  UNION SELECT unnest(partcollation::oid[]) FROM pg_partitioned_table
  UNION SELECT rngcollation FROM pg_range
  UNION SELECT refobjid FROM pg_depend
        WHERE refclassid = 'pg_collation'::regclass
          AND (classid = 'pg_constraint'::regclass OR classid = 'pg_class'::regclass AND objsubid = 0)
)
SELECT format('%%I.%%I', n.nspname, c.collname) AS name, c.collprovider::text AS provider,
       c.collversion AS recorded, pg_collation_actual_version(c.oid) AS actual
FROM pg_collation c JOIN pg_namespace n ON n.oid = c.collnamespace
WHERE c.oid IN (SELECT oid FROM used) AND c.collprovider <> 'd'
ORDER BY 1 LIMIT {MOST_COLLATIONS}
"""  # noqa: S608
"""Collations that something stored depends on; those of expressions are in pg_depend. The database's own is apart."""
EXTENSIONS = f"""
SELECT extname::text AS name, extversion AS version FROM pg_extension ORDER BY 1 LIMIT {MOST_EXTENSIONS}
"""  # noqa: S608

BEGIN_READ_ONLY = "BEGIN TRANSACTION READ ONLY"
ROLLBACK = "ROLLBACK"
