#!/bin/sh
# Takes over what has changed around the server: the login to the primary, the server's own certificate, and who is a
# superuser.
#
# start.sh runs it every few seconds beside the server, and no probe does: it takes some dozen processes.
#
# Reads: PGDATA, CONFIG (a folder), PASSFILE, SERVER_TLS (a folder, may be empty), and what credentials.sh,
# certificate.sh and superusers.sh read.
set -eu

run=${PASSFILE%/*}

# The server reads its certificate when it starts and when it is told to; all else of its configuration never changes.
serve_certificate() {
	[ -f "$PGDATA/postmaster.pid" ] || return 0
	now=$(cat "$1") || return 1
	[ "$now" != "$(cat "$run/served.crt" 2>/dev/null)" ] || return 0
	pg_ctl reload -s -D "$PGDATA" && printf '%s\n' "$now" >"$run/served.crt"
}

# A server that was started without a certificate goes on without one.
refresh_certificate() {
	if [ -n "${SERVER_TLS:-}" ]; then
		serve_certificate "$SERVER_TLS/tls.crt"
	elif [ -f "$run/server.crt" ]; then
		sh "$CONFIG/certificate.sh" && serve_certificate "$run/server.crt"
	fi
}

code=0
sh "$CONFIG/credentials.sh" || {
	code=1
	echo "refresh: the login to the primary could not be refreshed" >&2
}
refresh_certificate || {
	code=1
	echo "refresh: the server's certificate could not be refreshed" >&2
}
# While it starts, a server would log each question as a refusal.
case "$(sed -n 8p "$PGDATA/postmaster.pid" 2>/dev/null)" in
ready*) sh "$CONFIG/superusers.sh" || code=1 ;;
esac
exit "$code"
