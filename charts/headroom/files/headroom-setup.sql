-- headroom-setup.sql: the logins Headroom uses on a PostgreSQL primary, one for each purpose, and the rights they need.
--
-- Run it with psql as a superuser, in the database that `connection.database` of the DatabaseGuard names, on the
-- primary. It may be run again at any time: what exists stays, what is missing is added, what an earlier version gave
-- too much is taken back, a password that is given is set. PostgreSQL 14 to 18.
--
--   MONITOR_PASSWORD=... QUEUE_PASSWORD=... REPLICATION_PASSWORD=... psql -d store -f headroom-setup.sql
--
-- The environment has the passwords, not the command line, which every user of the machine can read. Where there is no
-- environment to set, as in `kubectl exec`, write them before the script on its standard input, a line for each:
--   \set monitor_password 'the password'
-- No password is sent to the server: psql sends what PostgreSQL keeps of it (a SCRAM-SHA-256 verifier), made by python3
-- or perl on this machine. Without them, or with letters outside ASCII, give none here and use \password in psql.
--
-- Variables (psql -v name=value):
--   monitor_role, queue_role, replication_role   names of the logins; default: headroom_monitor, headroom_queue,
--                                                headroom_replication
--   warmup                                       1: also the login that fills caches of replicas (warmup_role, default
--                                                headroom_warmup, WARMUP_PASSWORD), with the extensions pg_buffercache
--                                                and pg_prewarm in this database
--   only_monitor                                 1: no replication role, as on a managed service, where only pools and
--                                                guards are of use
--
-- A login without a password here has none yet: \password headroom_queue sets it. Put each login into a Secret with the
-- keys `username` and `password`:
--   kubectl create secret generic store-monitor --from-literal=username=headroom_monitor --from-file=password=...
--
-- What this script cannot do is pg_hba.conf. Headroom needs these lines (narrow the addresses to your pods):
--   hostssl  all          headroom_monitor      10.0.0.0/8  scram-sha-256   # watch the primary, compare libraries
--   hostssl  store        headroom_queue        10.0.0.0/8  scram-sha-256   # read the tables of queues
--   hostssl  store        headroom_replication  10.0.0.0/8  scram-sha-256   # make and drop replication slots
--   hostssl  replication  headroom_replication  10.0.0.0/8  scram-sha-256   # copy and stream
-- headroom_warmup has none: it logs in to replicas only, which have a file of their own. With lines in
-- `spec.postgresql.hba` of a ReplicaSet, add one for it there.

\set ON_ERROR_STOP on
\if :{?monitor_role} \else \set monitor_role headroom_monitor \endif
\if :{?queue_role} \else \set queue_role headroom_queue \endif
\if :{?replication_role} \else \set replication_role headroom_replication \endif
\if :{?warmup_role} \else \set warmup_role headroom_warmup \endif

-- Verifiers are as good as passwords for guessing, so that a superuser's session keeps them out of logs and statistics.
SELECT set_config(name, value, false) FROM (VALUES
  ('log_statement', 'none'), ('log_min_duration_statement', '-1'), ('log_min_error_statement', 'panic'),
  ('log_duration', 'off'), ('pg_stat_statements.track', 'none'), ('pg_stat_statements.track_utility', 'off'),
  ('auto_explain.log_min_duration', '-1'), ('pgaudit.log', 'none')) AS quiet (name, value)
JOIN pg_settings USING (name)
WHERE (SELECT rolsuper FROM pg_roles WHERE rolname = current_user) \g /dev/null
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

-- What PostgreSQL keeps of a password, made here: the programs read it from their environment and print the verifier.
\set python 'import base64,hashlib,hmac,os;p=os.environ["HEADROOM_PASSWORD"].encode();assert p.isascii();s=os.urandom(16);'
\set python :python 'r=hashlib.pbkdf2_hmac("sha256",p,s,4096);m=lambda t:hmac.new(r,t,"sha256").digest();'
\set python :python 'e=lambda x:base64.b64encode(x).decode();c=hashlib.sha256(m(b"Client Key")).digest();'
\set python :python 'print("SCRAM-SHA-256$4096:"+e(s)+"$"+e(c)+":"+e(m(b"Server Key")))'
\set perl 'use Digest::SHA qw(sha256 hmac_sha256);use MIME::Base64;my $p=$ENV{HEADROOM_PASSWORD};die if $p=~/[^ -~]/;'
\set perl :perl 'open(R,"<","/dev/urandom") or die;my $s;read(R,$s,16)==16 or die;my $u=hmac_sha256($s.pack("N",1),$p);'
\set perl :perl 'my $r=$u;for(2..4096){$u=hmac_sha256($u,$p);$r^=$u}my $e=sub{encode_base64($_[0],"")};print '
\set perl :perl 'q{SCRAM-SHA-256$4096:}.$e->($s).q{$}.$e->(sha256(hmac_sha256(q{Client Key},$r))).q{:}.'
\set perl :perl '$e->(hmac_sha256(q{Server Key},$r))'
\if :{?monitor_password}
  \setenv MONITOR_PASSWORD :monitor_password
\endif
\set monitor_given `test -n "$MONITOR_PASSWORD" && echo 1 || echo 0`
\set monitor_verifier `test -z "$MONITOR_PASSWORD" && exit; export HEADROOM_PASSWORD="$MONITOR_PASSWORD"; python3 -c :'python' 2>/dev/null || perl -e :'perl' 2>/dev/null`
\setenv HEADROOM_VERIFIER :monitor_verifier
\set monitor_made `test -n "$HEADROOM_VERIFIER" && echo 1 || echo 0`
\if :monitor_given
  \if :monitor_made
  \else
    DO $$ BEGIN
      RAISE 'no verifier can be made of a password on this machine' USING HINT =
        'It needs python3 or perl, and a password in ASCII. Give no password here, and set it by \password in psql.';
    END $$;
  \endif
\endif
\if :{?queue_password}
  \setenv QUEUE_PASSWORD :queue_password
\endif
\set queue_given `test -n "$QUEUE_PASSWORD" && echo 1 || echo 0`
\set queue_verifier `test -z "$QUEUE_PASSWORD" && exit; export HEADROOM_PASSWORD="$QUEUE_PASSWORD"; python3 -c :'python' 2>/dev/null || perl -e :'perl' 2>/dev/null`
\setenv HEADROOM_VERIFIER :queue_verifier
\set queue_made `test -n "$HEADROOM_VERIFIER" && echo 1 || echo 0`
\if :queue_given
  \if :queue_made
  \else
    DO $$ BEGIN
      RAISE 'no verifier can be made of a password on this machine' USING HINT =
        'It needs python3 or perl, and a password in ASCII. Give no password here, and set it by \password in psql.';
    END $$;
  \endif
\endif
\if :{?replication_password}
  \setenv REPLICATION_PASSWORD :replication_password
\endif
\set replication_given `test -n "$REPLICATION_PASSWORD" && echo 1 || echo 0`
\set replication_verifier `test -z "$REPLICATION_PASSWORD" && exit; export HEADROOM_PASSWORD="$REPLICATION_PASSWORD"; python3 -c :'python' 2>/dev/null || perl -e :'perl' 2>/dev/null`
\setenv HEADROOM_VERIFIER :replication_verifier
\set replication_made `test -n "$HEADROOM_VERIFIER" && echo 1 || echo 0`
\if :replication_given
  \if :replication_made
  \else
    DO $$ BEGIN
      RAISE 'no verifier can be made of a password on this machine' USING HINT =
        'It needs python3 or perl, and a password in ASCII. Give no password here, and set it by \password in psql.';
    END $$;
  \endif
\endif
\if :{?warmup_password}
  \setenv WARMUP_PASSWORD :warmup_password
\endif
\set warmup_given `test -n "$WARMUP_PASSWORD" && echo 1 || echo 0`
\set warmup_verifier `test -z "$WARMUP_PASSWORD" && exit; export HEADROOM_PASSWORD="$WARMUP_PASSWORD"; python3 -c :'python' 2>/dev/null || perl -e :'perl' 2>/dev/null`
\setenv HEADROOM_VERIFIER :warmup_verifier
\set warmup_made `test -n "$HEADROOM_VERIFIER" && echo 1 || echo 0`
\if :warmup_given
  \if :warmup_made
  \else
    DO $$ BEGIN
      RAISE 'no verifier can be made of a password on this machine' USING HINT =
        'It needs python3 or perl, and a password in ASCII. Give no password here, and set it by \password in psql.';
    END $$;
  \endif
\endif

BEGIN;
SELECT current_database() AS database \gset

-- 1. The monitor login. It owns nothing, may write nothing, and reads no table: whoever owns a table could let code run
-- with the rights of a login that reads it, and this one may end sessions.
SELECT NOT EXISTS (SELECT FROM pg_roles WHERE rolname = :'monitor_role') AS must_create \gset
\if :must_create
  CREATE ROLE :"monitor_role" LOGIN;
\endif
\if :monitor_made
  ALTER ROLE :"monitor_role" LOGIN PASSWORD :'monitor_verifier';
\elif :must_create
  \warn :monitor_role 'has no password yet: set it by \\password in psql'
\endif

-- connect to the database it watches, which may be closed to PUBLIC
GRANT CONNECT ON DATABASE :"database" TO :"monitor_role";

-- pg_monitor: the states, waits and transaction ages of all sessions, WAL receivers and progress views.
-- Without it: sessions are only counted; no lock waiters, no oldest transaction, no streaming state of replicas.
GRANT pg_monitor TO :"monitor_role";

-- pg_signal_backend: ends read sessions on a replica that drains, rebalances or is ejected, and blockers where
-- locks.mode allows it. Never sessions of superusers: PostgreSQL itself refuses that.
-- Without it: replicas drain only as clients leave by themselves; blockers are named, not ended.
GRANT pg_signal_backend TO :"monitor_role";

-- pg_use_reserved_connections (PostgreSQL 16 and later): gets in when all other connections are taken. Set
-- reserved_connections = 5 for it. Without it: Headroom keeps the connections it has, and may not get them back after
-- a restart under full load.
\if :can_reserve
  GRANT pg_use_reserved_connections TO :"monitor_role";
\endif

-- Earlier versions of this script gave it pg_read_all_data, for queues: they have a login of their own now.
SELECT format('REVOKE %I FROM %I', g.rolname, m.rolname)
       || CASE WHEN :'can_reserve'::boolean THEN format(' GRANTED BY %I', by.rolname) ELSE '' END
FROM pg_auth_members a
JOIN pg_roles g ON g.oid = a.roleid AND g.rolname = 'pg_read_all_data'
JOIN pg_roles m ON m.oid = a.member AND m.rolname = :'monitor_role'
JOIN pg_roles by ON by.oid = a.grantor \gexec

-- The canary calls pg_logical_emit_message, identity and timeline come from pg_control_*: every role may, so there is
-- usually nothing to grant. On a server where they were revoked from PUBLIC they are given to the monitor alone. The
-- canary writes to no table.
SELECT format('GRANT EXECUTE ON FUNCTION %s TO %I', p.oid::regprocedure, :'monitor_role')
FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace AND n.nspname = 'pg_catalog'
WHERE p.proname IN ('pg_logical_emit_message', 'pg_control_system', 'pg_control_checkpoint')
  AND NOT has_function_privilege(:'monitor_role', p.oid, 'EXECUTE') \gexec

-- Three connections, a fourth while workers are late, a few more while the operator changes hands; a runaway cannot
-- take the server's slots.
ALTER ROLE :"monitor_role" CONNECTION LIMIT 32;

-- 2. The login for the tables of queues. It may connect, and no more: the script of a queue library (such as
-- headroom-queue-procrastinate.sql) lets it read the columns it needs.
SELECT NOT EXISTS (SELECT FROM pg_roles WHERE rolname = :'queue_role') AS must_create \gset
\if :must_create
  CREATE ROLE :"queue_role" LOGIN;
\endif
\if :queue_made
  ALTER ROLE :"queue_role" LOGIN PASSWORD :'queue_verifier';
\elif :must_create
  \warn :queue_role 'has no password yet: set it by \\password in psql'
\endif
GRANT CONNECT ON DATABASE :"database" TO :"queue_role";
ALTER ROLE :"queue_role" CONNECTION LIMIT 32;

-- 3. The replication login: streams, copies, and makes and drops replication slots. Nothing else; it reads no table.
\if :{?only_monitor}
\else
  SELECT NOT EXISTS (SELECT FROM pg_roles WHERE rolname = :'replication_role') AS must_create \gset
  \if :must_create
    CREATE ROLE :"replication_role" LOGIN REPLICATION;
  \endif
  ALTER ROLE :"replication_role" LOGIN REPLICATION;
  \if :replication_made
    ALTER ROLE :"replication_role" PASSWORD :'replication_verifier';
  \elif :must_create
    \warn :replication_role 'has no password yet: set it by \\password in psql'
  \endif
  GRANT CONNECT ON DATABASE :"database" TO :"replication_role";
\endif

-- 4. The login that reads the blocks that are hot on serving replicas into the caches of standbys, if it is asked for.
-- pg_prewarm reads a relation only for a role that may read it. So this login may read all data, password verifiers
-- among them: let it log in to replicas only, and use it for nothing else.
\if :{?warmup}
  SELECT NOT EXISTS (SELECT FROM pg_roles WHERE rolname = :'warmup_role') AS must_create \gset
  \if :must_create
    CREATE ROLE :"warmup_role" LOGIN;
  \endif
  \if :warmup_made
    ALTER ROLE :"warmup_role" LOGIN PASSWORD :'warmup_verifier';
  \elif :must_create
    \warn :warmup_role 'has no password yet: set it by \\password in psql'
  \endif
  GRANT CONNECT ON DATABASE :"database" TO :"warmup_role";
  GRANT pg_read_all_data TO :"warmup_role";
  ALTER ROLE :"warmup_role" CONNECTION LIMIT 4;
  -- In a schema of the superuser's: no other role can put functions of its own in their place.
  CREATE SCHEMA IF NOT EXISTS headroom;
  CREATE EXTENSION IF NOT EXISTS pg_buffercache SCHEMA headroom;
  CREATE EXTENSION IF NOT EXISTS pg_prewarm SCHEMA headroom;
  SELECT format('GRANT EXECUTE ON FUNCTION %s TO %I', p.oid::regprocedure, :'warmup_role')
  FROM pg_extension x
  JOIN pg_depend d ON d.refclassid = 'pg_extension'::regclass AND d.refobjid = x.oid AND d.deptype = 'e'
   AND d.classid = 'pg_proc'::regclass
  JOIN pg_proc p ON p.oid = d.objid
  WHERE (x.extname, p.proname) IN (('pg_buffercache', 'pg_buffercache_pages'), ('pg_prewarm', 'pg_prewarm')) \gexec
\endif

COMMIT;

-- 5. What is there now, and settings that cannot be granted.
SELECT rolname AS role, rolcanlogin AS login, rolreplication AS replication,
       ARRAY(SELECT g.rolname::text FROM pg_auth_members m JOIN pg_roles g ON g.oid = m.roleid
             WHERE m.member = r.oid ORDER BY 1) AS member_of
FROM pg_roles r WHERE rolname IN (:'monitor_role', :'queue_role', :'replication_role', :'warmup_role') ORDER BY 1;

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
