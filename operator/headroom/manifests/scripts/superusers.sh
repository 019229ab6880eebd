#!/bin/sh
# Lists the roles that pg_hba.conf refuses over the network: superusers, whoever can become one, and whoever may run
# programs or use files as the server, which comes to the same. pg_hba.conf has no word for them.
#
# Until a list was made, start.sh's stands there: all. started.sh makes the first one, so that nobody is let in before,
# and refresh.sh follows the primary.
#
# Reads: PATH, PGDATA, PASSFILE, DATABASE, MONITOR_ROLE.
set -eu
umask 077

list=${PASSFILE%/*}/superusers
# In Debian's images the first psql on PATH is a Perl program. The right one is beside the server.
server=$(command -v postgres) && PATH="${server%/*}:$PATH"
# A line of the list cannot hold a line end, and a name that begins with a slash is an expression since version 16. Who
# gives a superuser such a name lets nobody in.
#
# No role has an empty name. It heads each list, so that a server where no such role may log in has an answer too, and a
# file that pg_hba.conf can name: one without any word would make its line another one.
QUERY="
SELECT CASE WHEN bool_or(strpos(rolname, chr(10)) > 0 OR starts_with(rolname, '/')) THEN 'all'
            ELSE concat_ws(chr(10), '\"\"',
                           string_agg('\"' || replace(rolname, '\"', '\"\"') || '\"', chr(10) ORDER BY rolname)) END
FROM (SELECT oid, rolname::text FROM pg_roles WHERE rolcanlogin) r
WHERE EXISTS (SELECT FROM pg_roles p
              WHERE (p.rolsuper OR p.rolname IN ('pg_execute_server_program', 'pg_read_server_files',
                                                 'pg_write_server_files')) AND pg_has_role(r.oid, p.oid, 'MEMBER'))"

found=$(PGDATABASE="$DATABASE" PGUSER="$MONITOR_ROLE" PGAPPNAME=headroom/superusers PGCONNECT_TIMEOUT=3 \
	PGOPTIONS="-c search_path=pg_catalog -c statement_timeout=3000" \
	psql -XAtqw -h /var/run/postgresql -p 5432 -c "$QUERY") || found=
if [ -z "$found" ]; then
	echo "superusers: the server cannot be asked for its superusers: the list stays as it is" >&2
	exit 1
fi
[ "$found" != "$(cat "$list" 2>/dev/null)" ] || exit 0
printf '%s\n' "$found" >"$list.new"
mv "$list.new" "$list"
pg_ctl reload -s -D "$PGDATA"
