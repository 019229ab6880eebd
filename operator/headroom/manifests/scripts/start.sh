#!/bin/sh
# Starts the server as a standby, or not at all: a container that restarts runs this again, and its seed step not.
#
# Reads: PGDATA, CONFIG (a folder), SLOT, NAME, PRIMARY_CONNINFO, SYSTEM_IDENTIFIER, REFRESH_SECONDS, SERVER_TLS (a
# folder, may be empty), and what lock.sh and refresh.sh read.
set -eu

refuse() {
	echo "start: $*" >&2
	exit 1
}

check_system() {
	found=$(LC_ALL=C pg_controldata -D "$PGDATA" | sed -n 's/^Database system identifier: *//p')
	[ "$found" = "$SYSTEM_IDENTIFIER" ] || refuse "$PGDATA is of system $found, the primary is $SYSTEM_IDENTIFIER"
}

# A process that has ended and was not waited for yet still has an id, and state Z.
is_running() {
	read -r _ _ state _ 2>/dev/null <"/proc/$1/stat" && [ "$state" != Z ]
}

# Runs beside the server, which has this process's id, and ends with it. A problem is reported once, not at each turn:
# Kubernetes keeps only the end of the log, which belongs to the server's last words.
keep_refreshing() {
	reported=
	while sleep "$REFRESH_SECONDS" && is_running "$1"; do
		problem=$(sh "$CONFIG/refresh.sh" 2>&1) || true
		if [ "$problem" != "$reported" ]; then
			echo "${problem:-refresh: logins and certificates are refreshed again}" >&2
			reported=$problem
		fi
	done
}

run=${PASSFILE%/*}
. "$CONFIG/lock.sh"
lock_volume start
for file in standby.signal .headroom-seeded; do
	[ -f "$PGDATA/$file" ] || refuse "$PGDATA/$file is missing: this is no standby of ours, so it must not run"
done
# A volume from a snapshot bears the mark of its source until it was checked and cleaned.
[ "$(cat "$PGDATA/.headroom-seeded")" = "$SLOT" ] || refuse "$PGDATA is the copy of another member, so it must not run"
check_system
# Whoever wrote it has ended, since the volume is ours, and a process of this pod may have its id by now.
rm -f "$PGDATA/postmaster.pid"
sh "$CONFIG/credentials.sh" || echo "start: the login to the primary is as it was" >&2
# Nobody is let in over the network before it is known who is a superuser.
printf 'all\n' >"$run/superusers"
hba=pg_hba.conf
if [ -n "${SERVER_TLS:-}" ]; then
	certificate=$SERVER_TLS/tls.crt key=$SERVER_TLS/tls.key
	set -- -c ssl=on -c "ssl_cert_file=$certificate" -c "ssl_key_file=$key"
elif [ -f "$run/server.crt" ]; then
	# The seed step made it. The container may have another address since.
	sh "$CONFIG/certificate.sh" || echo "start: the server's certificate is as it was" >&2
	certificate=$run/server.crt
	set -- -c ssl=on -c "ssl_cert_file=$certificate" -c "ssl_key_file=$run/server.key"
else
	certificate=/dev/null hba=pg_hba.plain.conf
	set -- -c ssl=off
fi
cat "$certificate" >"$run/served.crt" || true
# Twice in the background, so that it is no child of the server, which would take its end for a crash of a backend; and
# without the lock, so that it keeps no volume.
(keep_refreshing "$$" 9>&- &)
exec postgres -D "$PGDATA" "$@" \
	-c "config_file=$CONFIG/postgresql.conf" \
	-c "hba_file=$CONFIG/$hba" \
	-c ident_file=/dev/null \
	-c "cluster_name=$NAME" \
	-c "primary_slot_name=$SLOT" \
	-c "primary_conninfo=$PRIMARY_CONNINFO"
