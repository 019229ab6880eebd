#!/bin/sh
# Goes on serving for a few seconds, then waits until no client runs a statement, at most as long as a drain may take,
# then stops the server fast.
#
# Kubernetes runs this while it tells the proxies that the pod is leaving. Until all of them know, and another replica
# serves, new connections arrive here: a server that stops at once, because nobody runs a statement, would refuse them.
# SIGTERM alone would wait for every session to leave; the image's SIGINT would cut running queries at once.
# Reads: PGDATA, LAME_DUCK_SECONDS, DRAIN_SECONDS, MONITOR_ROLE.
set -eu

# Client backends show `user database address(port) activity` in their title; idle ones end in `idle...`.
active_clients() {
	cat /proc/[0-9]*/cmdline 2>/dev/null | tr -s '\000' '\n' |
		grep -E '^postgres: .*([0-9a-f.:]+\([0-9]+\)|\[local\]) ' |
		grep -vE ' idle( in transaction)?( \(aborted\))?$|: walsender ' |
		grep -cvF " $MONITOR_ROLE "
}

# Seconds of a clock that nobody sets: a look at all processes takes time too, and the grace period counts it.
now() {
	read -r uptime _ </proc/uptime
	echo "${uptime%%.*}"
}

deadline=$(($(now) + LAME_DUCK_SECONDS + DRAIN_SECONDS))
sleep "$LAME_DUCK_SECONDS"
while [ "$(now)" -lt "$deadline" ] && [ "$(active_clients)" -gt 0 ]; do
	sleep 1
done
# Without waiting for the end: it is the container's too, and this hook would end with it, as one that failed.
pg_ctl stop -D "$PGDATA" -m fast -W
