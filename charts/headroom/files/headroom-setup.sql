-- headroom-setup.sql: the two logins Headroom uses on a PostgreSQL primary, and the rights they need.
--
-- Run it with psql as a superuser, in the database that `connection.database` of the DatabaseGuard names, on the
-- primary. It may be run again at any time: what exists stays, what is missing is added, a password that is given is
-- set. PostgreSQL 14 to 18.
--
--   psql -d store \
--     -v monitor_password="$MONITOR_PASSWORD" -v replication_password="$REPLICATION_PASSWORD" \
--     -f headroom-setup.sql
--
-- Variables (psql -v name=value):
--   monitor_role           name of the login that looks            default: headroom_monitor
--   monitor_password       its password                            required when the role is made here
--   replication_role       name of the login that replicas use     default: headroom_replication
--   replication_password   its password                            required when the role is made here
--   only_monitor           1: no replication role, as on a managed service, where only pools and guards are of use
--
-- Passwords are sent in a form that statement logging could show: a superuser's session turns log_statement off first. Put both logins into Secrets with the keys `username` and `password`:
--   kubectl create secret generic store-monitor --from-literal=username=headroom_monitor --from-literal=password=...
--
-- What this script cannot do is pg_hba.conf. Headroom needs these lines (narrow the addresses to your pods):
--   hostssl  all          headroom_monitor      10.0.0.0/8  scram-sha-256   # watch the primary, compare libraries
--   hostssl  store        headroom_replication  10.0.0.0/8  scram-sha-256   # make and drop replication slots
--   hostssl  replication  headroom_replication  10.0.0.0/8  scram-sha-256   # copy and stream

\set ON_ERROR_STOP on
\if :{?monitor_role} \else \set monitor_role headroom_monitor \endif
\if :{?replication_role} \else \set replication_role headroom_replication \endif
SELECT set_config('log_statement', 'none', false) WHERE (SELECT rolsuper FROM pg_roles WHERE rolname = current_user) \g /dev/null
SET client_min_messages = warning;

-- A standby is read-only: say so before the first statement fails with something less clear.
SELECT pg_is_in_recovery() AS is_standby,
       current_setting('server_version_num')::int >= 160000 AS can_reserve,
       current_setting('server_version_num')::int / 10000 NOT BETWEEN 14 AND 18 AS is_unsupported \gset
\if :is_standby
  DO $$ BEGIN
    RAISE 'this server is a standby' USING HINT = 'Run the script on the primary; standbys get the roles by replication.';
  END $$;
\endif
\if :is_unsupported
  DO $$ BEGIN
    RAISE 'PostgreSQL % is not supported', current_setting('server_version') USING HINT = 'PostgreSQL 14 to 18 are.';
  END $$;
\endif

BEGIN;

-- 1. The monitor login. It owns nothing and may write nothing.
SELECT NOT EXISTS (SELECT FROM pg_roles WHERE rolname = :'monitor_role') AS must_create \gset
\if :must_create
  \if :{?monitor_password}
    CREATE ROLE :"monitor_role" LOGIN;
  \else
    DO $$ BEGIN
      RAISE 'the new monitor role needs a password' USING HINT = 'Call psql with -v monitor_password=...';
    END $$;
  \endif
\endif
\if :{?monitor_password}
  ALTER ROLE :"monitor_role" LOGIN PASSWORD :'monitor_password';
\endif

-- connect to the database it watches, which may be closed to PUBLIC
SELECT current_database() AS database \gset
GRANT CONNECT ON DATABASE :"database" TO :"monitor_role";

-- pg_monitor: the states, waits and transaction ages of all sessions, WAL receivers and progress views.
-- Without it: sessions are only counted; no lock waiters, no oldest transaction, no streaming state of replicas.
GRANT pg_monitor TO :"monitor_role";

-- pg_signal_backend: ends read sessions on a replica that drains, rebalances or is ejected, and blockers where
-- locks.mode allows it. Never sessions of superusers: PostgreSQL itself refuses that.
-- Without it: replicas drain only as clients leave by themselves; blockers are named, not ended.
GRANT pg_signal_backend TO :"monitor_role";

-- pg_read_all_data: reads the blocks that are hot on serving replicas into the cache of a standby (warm-up), and the
-- tables of queue presets. Without it: no warm-up, and presets need SELECT on the tables of their library.
GRANT pg_read_all_data TO :"monitor_role";

-- pg_use_reserved_connections (PostgreSQL 16 and later): gets in when all other connections are taken. Set
-- reserved_connections = 5 for it. Without it: Headroom keeps the connections it has, and may not get them back after
-- a restart under full load.
\if :can_reserve
  GRANT pg_use_reserved_connections TO :"monitor_role";
\endif

-- The canary calls pg_logical_emit_message, identity and timeline come from pg_control_*: every role may, so there is
-- usually nothing to grant. On a server where they were revoked from PUBLIC they are given to the monitor alone. The
-- canary writes to no table.
SELECT format('GRANT EXECUTE ON FUNCTION %s TO %I', p.oid::regprocedure, :'monitor_role')
FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace AND n.nspname = 'pg_catalog'
WHERE p.proname IN ('pg_logical_emit_message', 'pg_control_system', 'pg_control_checkpoint')
  AND NOT has_function_privilege(:'monitor_role', p.oid, 'EXECUTE') \gexec

-- Three connections, a fourth while pools ask for queues in this database, a few more while the operator changes hands;
-- a runaway cannot take the server's slots.
ALTER ROLE :"monitor_role" CONNECTION LIMIT 32;

-- 2. The replication login: streams, copies, and makes and drops replication slots. Nothing else; it reads no table.
\if :{?only_monitor}
\else
  SELECT NOT EXISTS (SELECT FROM pg_roles WHERE rolname = :'replication_role') AS must_create \gset
  \if :must_create
    \if :{?replication_password}
      CREATE ROLE :"replication_role" LOGIN REPLICATION;
    \else
      DO $$ BEGIN
        RAISE 'the new replication role needs a password' USING HINT = 'Call psql with -v replication_password=...';
      END $$;
    \endif
  \endif
  ALTER ROLE :"replication_role" LOGIN REPLICATION;
  \if :{?replication_password}
    ALTER ROLE :"replication_role" PASSWORD :'replication_password';
  \endif
  GRANT CONNECT ON DATABASE :"database" TO :"replication_role";
\endif

COMMIT;

-- 3. What is there now, and settings that cannot be granted.
SELECT rolname AS role, rolcanlogin AS login, rolreplication AS replication,
       ARRAY(SELECT g.rolname::text FROM pg_auth_members m JOIN pg_roles g ON g.oid = m.roleid
             WHERE m.member = r.oid ORDER BY 1) AS member_of
FROM pg_roles r WHERE rolname IN (:'monitor_role', :'replication_role') ORDER BY 1;

SELECT name, setting,
       CASE name
         WHEN 'wal_level' THEN 'replica or logical is needed for replicas'
         WHEN 'max_wal_senders' THEN 'one for each replica, one more while it is copied'
         WHEN 'max_replication_slots' THEN 'one for each replica'
         WHEN 'max_slot_wal_keep_size' THEN 'set a limit in MB, so that a lost replica cannot fill the disk (-1: none)'
         WHEN 'full_page_writes' THEN 'on is needed for copies from a standby'
         WHEN 'reserved_connections' THEN '5 keeps room for Headroom when all else is taken'
       END AS what_headroom_needs
FROM pg_settings
WHERE name IN ('wal_level', 'max_wal_senders', 'max_replication_slots', 'max_slot_wal_keep_size', 'full_page_writes',
               'reserved_connections')
ORDER BY name;
