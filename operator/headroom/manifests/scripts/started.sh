#!/bin/sh
# Succeeds once the server accepts connections and is ready; it looks several times a run, so that a new member is
# taken for ready within a moment of being so.
#
# Reads: what ready.sh reads.
set -eu

looks=10
export PGSSLMODE=disable
until pg_isready -q -h 127.0.0.1 -p 5432 -U "$MONITOR_ROLE" -t 1; do
	looks=$((looks - 1))
	[ "$looks" -gt 0 ] || exit 1
	sleep 0.2
done
exec sh "$CONFIG/ready.sh"
