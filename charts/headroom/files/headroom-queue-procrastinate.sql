-- headroom-queue-procrastinate.sql: lets Headroom's login for queues read procrastinate's tables, and nothing else.
--
-- Run it with psql as the owner of the tables or a superuser, in the database of the queue, after headroom-setup.sql has
-- made the login. It may be run again at any time; run it again after an upgrade of Headroom.
--
--   psql -d store -f headroom-queue-procrastinate.sql
--
-- Variables (psql -v name=value):
--   queue_role     the login that reads the tables   default: headroom_queue
--   queue_schema   schema of procrastinate's tables  default: public
--
-- Columns are granted, not tables: the arguments of your jobs stay closed to Headroom.

\set ON_ERROR_STOP on
\if :{?queue_role} \else \set queue_role headroom_queue \endif
\if :{?queue_schema} \else \set queue_schema public \endif
SET search_path = pg_catalog;
SET client_min_messages = warning;

SELECT count(*) < 3 AS is_missing FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = :'queue_schema' AND c.relkind IN ('r', 'p')
  AND c.relname IN ('procrastinate_jobs', 'procrastinate_events', 'procrastinate_workers') \gset
\if :is_missing
  DO $$ BEGIN
    RAISE 'the schema has no tables of procrastinate 3' USING HINT = 'Name their schema: psql -v queue_schema=...';
  END $$;
\endif

BEGIN;
GRANT USAGE ON SCHEMA :"queue_schema" TO :"queue_role";
-- What was given to it before, whole tables perhaps, is taken back first.
REVOKE ALL ON :"queue_schema".procrastinate_jobs, :"queue_schema".procrastinate_events,
  :"queue_schema".procrastinate_workers FROM :"queue_role";
GRANT SELECT (id, queue_name, status, lock, priority, scheduled_at, worker_id, xmax)
  ON :"queue_schema".procrastinate_jobs TO :"queue_role";
GRANT SELECT (id, job_id, type, at) ON :"queue_schema".procrastinate_events TO :"queue_role";
GRANT SELECT (id, last_heartbeat) ON :"queue_schema".procrastinate_workers TO :"queue_role";
-- The newest id: jobs that workers delete as soon as they are done are counted by it.
SELECT format('GRANT SELECT ON SEQUENCE %s TO %I',
              pg_get_serial_sequence(format('%I.procrastinate_jobs', :'queue_schema'), 'id'), :'queue_role')
WHERE pg_get_serial_sequence(format('%I.procrastinate_jobs', :'queue_schema'), 'id') IS NOT NULL \gexec
COMMIT;
