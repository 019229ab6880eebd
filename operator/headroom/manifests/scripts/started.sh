#!/bin/sh
# Succeeds once the server accepts connections and knows whom to refuse; it looks several times a run, so that a new
# member is seen within a moment. Whether it is ready is then asked at once, by ready.sh.
#
# It looks at what the server writes of itself, and knocks only then: to a server that replays a backlog, for hours
# perhaps, each knock is a FATAL line in its log, which would push its last words out of what Kubernetes keeps of it.
#
# Reads: PGDATA, CONFIG (a folder), and what superusers.sh and knock.sh read.
set -eu

# The eighth line is the server's status, as `pg_ctl --wait` reads it. One that was killed leaves its file behind.
says_ready() {
	case "$(sed -n 8p "$PGDATA/postmaster.pid" 2>/dev/null)" in
	ready*) ;;
	*) return 1 ;;
	esac
}

looks=10
until says_ready; do
	looks=$((looks - 1))
	[ "$looks" -gt 0 ] || exit 1
	sleep 0.2
done
sh "$CONFIG/superusers.sh"
. "$CONFIG/knock.sh"
knock 1
