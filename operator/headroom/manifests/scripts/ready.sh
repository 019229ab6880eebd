#!/bin/sh
# Succeeds while the server accepts connections, is still a standby, and holds the system it should.
#
# It runs every few seconds, so it also takes over what the kubelet has refreshed: the login to the primary and the
# server's own certificate. It does so when the verdict stands, and whatever that is: a server may be not ready for want
# of them.
#
# Reads: PGDATA, CONFIG (a folder), SYSTEM_IDENTIFIER, PASSFILE, SERVER_TLS (a folder, may be empty),
# MONITOR_ROLE, and what credentials.sh reads.
set -eu

is_ready() {
	[ -f "$PGDATA/standby.signal" ] && accepts_connections && is_standby_of_our_system
}

# As a role that is there: the server would log a stranger's knock each time. No password is asked for a knock.
accepts_connections() {
	PGSSLMODE=disable pg_isready -q -h 127.0.0.1 -p 5432 -U "$MONITOR_ROLE" -t 1
}

is_standby_of_our_system() {
	LC_ALL=C pg_controldata -D "$PGDATA" | {
		system=''
		state=''
		while IFS=: read -r key value; do
			case "$key" in
			"Database system identifier") system=${value##* } ;;
			"Database cluster state") state=$value ;;
			esac
		done
		[ "$system" = "$SYSTEM_IDENTIFIER" ] && [ "${state%in archive recovery}" != "$state" ]
	}
}

# The server reads its certificate when it starts and when it is told to; all else of its configuration never changes.
serve_certificate() {
	[ -f "$PGDATA/postmaster.pid" ] || return 0
	served="${PASSFILE%/*}/served.crt"
	now=$(cat "$SERVER_TLS/tls.crt") || return 1
	[ "$now" != "$(cat "$served" 2>/dev/null)" ] || return 0
	pg_ctl reload -s -D "$PGDATA" && printf '%s\n' "$now" >"$served"
}

verdict=0
is_ready || verdict=1
sh "$CONFIG/credentials.sh" || echo "ready: the login to the primary could not be refreshed" >&2
if [ -n "${SERVER_TLS:-}" ]; then
	serve_certificate || echo "ready: the server's certificate could not be refreshed" >&2
fi
exit "$verdict"
