#!/bin/sh
# Takes over what the kubelet has refreshed: the login to the primary and the server's own certificate.
#
# start.sh runs it every few seconds beside the server, and no probe does: it takes a dozen processes.
#
# Reads: PGDATA, CONFIG (a folder), PASSFILE, SERVER_TLS (a folder, may be empty), and what credentials.sh reads.
set -eu

# The server reads its certificate when it starts and when it is told to; all else of its configuration never changes.
serve_certificate() {
	[ -f "$PGDATA/postmaster.pid" ] || return 0
	served="${PASSFILE%/*}/served.crt"
	now=$(cat "$SERVER_TLS/tls.crt") || return 1
	[ "$now" != "$(cat "$served" 2>/dev/null)" ] || return 0
	pg_ctl reload -s -D "$PGDATA" && printf '%s\n' "$now" >"$served"
}

code=0
sh "$CONFIG/credentials.sh" || {
	code=1
	echo "refresh: the login to the primary could not be refreshed" >&2
}
if [ -n "${SERVER_TLS:-}" ]; then
	serve_certificate || {
		code=1
		echo "refresh: the server's certificate could not be refreshed" >&2
	}
fi
exit "$code"
