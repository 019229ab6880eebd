#!/bin/sh
# Fills an empty volume with a copy of the primary, taken from SOURCE, or checks the copy that is there: this member's
# own, or that of the member whose snapshot the volume was made of (restore.sh). Then the server may start.
#
# SOURCE is `primary`, the name of a standby, or `none` where the volume should have its copy. The server streams from
# the primary whatever its data was copied from.
#
# A copy is complete when $PGDATA/.headroom-seeded says for which slot it was made. It is made beside $PGDATA and
# renamed as the last step, so a run that is killed at any point leaves nothing that a later run could take for a copy.
#
# At last it reports to Kubernetes how the server will be known: by the certificate of its authority, else `no TLS: ` and
# why; nothing where the user gave a certificate.
#
# Reads: PGDATA, CONFIG (a folder), SLOT, SYSTEM_IDENTIFIER, MAJOR, SOURCE, SOURCE_CONNINFO, SOURCE_CA (certificates, may
# be empty), TRIES, MAX_RATE_KIB (may be empty), RESTORE and RESTORED_SLOT (both empty unless the volume came from a
# snapshot), SERVER_TLS (a folder, may be empty), REPORT (a file), and what lock.sh, credentials.sh and certificate.sh
# read.
# Exit status: 0 ready, 3 cannot ever work with this volume or image, 4 another pod still uses the volume, 5 there is no
# copy and no source, 1 try again.
set -eu
umask 077

NEW="$PGDATA.new"
MARK=.headroom-seeded
child=

say() { echo "seed: $*" >&2; }

refuse() {
	say "$*"
	exit 3
}

# In a pod that shares its processes the kernel ends none of what a container's first one leaves behind: a copy that
# went on alone would write where the next run does. So it ends before the shell does.
stop() {
	if [ -n "$child" ]; then
		kill "$child" 2>/dev/null || true
		wait "$child" 2>/dev/null || true
	fi
	exit 143
}
trap stop TERM INT

# Runs a command that can take long, in a way that `stop` can end.
run() {
	"$@" &
	child=$!
	code=0
	wait "$child" || code=$?
	child=
	return "$code"
}

system_identifier_of() {
	LC_ALL=C pg_controldata -D "$1" | sed -n 's/^Database system identifier: *//p'
}

check_image() {
	for program in postgres pg_basebackup pg_controldata psql; do
		command -v "$program" >/dev/null || refuse "the image has no $program"
	done
	case "$(postgres --version)" in
	*" $MAJOR."* | *" $MAJOR"[a-z]*) ;;
	*) refuse "the image holds $(postgres --version), the primary is of major version $MAJOR" ;;
	esac
}

is_own() {
	[ "$(cat "$PGDATA/$MARK" 2>/dev/null)" = "$SLOT" ]
}

check_seeded() {
	is_own || refuse "the volume holds the copy of another member"
	[ -f "$PGDATA/standby.signal" ] || refuse "the copy is no standby any more: standby.signal is gone"
	found=$(system_identifier_of "$PGDATA")
	[ "$found" = "$SYSTEM_IDENTIFIER" ] || refuse "the copy is of system $found, the primary is $SYSTEM_IDENTIFIER"
	chmod 0700 "$PGDATA"
}

copy() {
	rm -rf "$NEW"
	# The file system is synced as a whole below, which is what --sync-method=syncfs does on the versions that have it.
	# A standby makes no checkpoint, and this ends its wait for a restartpoint: neither costs the primary anything there.
	set -- -D "$NEW" -d "$SOURCE_CONNINFO" -X stream --checkpoint=fast --no-password --no-sync
	# A standby has no slot of ours: pg_basebackup makes one for as long as it copies, and ours on the primary keeps what
	# the server needs next.
	[ "$SOURCE" != primary ] || set -- "$@" --slot="$SLOT"
	# Nobody would verify the copy by it, and the primary would have to sum up every byte.
	set -- "$@" --no-manifest
	if [ -n "${MAX_RATE_KIB:-}" ]; then
		set -- "$@" --max-rate="${MAX_RATE_KIB}k"
	fi
	run pg_basebackup "$@"
}

clean() {
	: >"$NEW/postgresql.auto.conf"
	rm -f "$NEW/recovery.signal" "$NEW/recovery.conf" "$NEW/postmaster.pid" "$NEW/postmaster.opts"
	rm -rf "$NEW/pg_replslot"
	mkdir "$NEW/pg_replslot"
	: >"$NEW/standby.signal"
	printf '%s\n' "$SLOT" >"$NEW/$MARK"
	chmod 0700 "$NEW"
}

check_copy() {
	# Without its label a copy taken from a running server would start from the wrong place, silently.
	[ -f "$NEW/backup_label" ] || refuse "the copy has no backup_label"
	found=$(system_identifier_of "$NEW")
	[ "$found" = "$SYSTEM_IDENTIFIER" ] || refuse "the copy is of system $found, expected $SYSTEM_IDENTIFIER"
	# Whoever was promoted before the copy began may hold what the primary never had.
	if [ "$SOURCE" != primary ] && ! grep -q '^BACKUP FROM: standby' "$NEW/backup_label"; then
		say "$SOURCE is no standby any more: its copy is not used"
		exit 1
	fi
	if [ -n "$(ls -A "$NEW/pg_tblspc" 2>/dev/null)" ]; then
		refuse "the primary has user tablespaces, which a replica here has no volume for"
	fi
}

seed() {
	if [ "$SOURCE" = none ]; then
		say "the volume has no copy, and no source was chosen for one"
		exit 5
	fi
	printf '%s\n' "${SOURCE_CA:-}" >"${PASSFILE%/*}/source-ca.crt"
	try=1
	until copy; do
		say "copy $try of $TRIES from $SOURCE failed"
		[ "$try" -lt "$TRIES" ] || exit 1
		run sleep "$((try * 2))" || true
		try=$((try + 1))
	done
	check_copy
	clean
	run sync -f "$NEW"
	rm -rf "$PGDATA"
	mv "$NEW" "$PGDATA"
	run sync -f "$PGDATA"
	say "seeded"
}

# What the server was built with, as it says without being started.
can_encrypt() {
	[ -n "$(postgres -D "$PGDATA" -C ssl_library -c config_file=/dev/null)" ]
}

report() {
	[ -z "${SERVER_TLS:-}" ] || return 0
	if ! command -v openssl >/dev/null; then
		echo "no TLS: the image has no openssl" >"$REPORT"
	elif ! can_encrypt; then
		echo "no TLS: the server of the image was built without it" >"$REPORT"
	else
		sh "$CONFIG/certificate.sh" authority
		cat "${PGDATA%/*}/.headroom-tls/$SLOT.crt" >"$REPORT"
	fi
}

. "$CONFIG/lock.sh"
lock_volume seed
sh "$CONFIG/credentials.sh"
check_image
# A volume from a snapshot is restored or refused: it is never filled, as an empty one would be.
if [ -n "${RESTORE:-}" ] && ! is_own; then
	. "$CONFIG/restore.sh"
	restore
elif [ -f "$PGDATA/$MARK" ]; then
	check_seeded
	say "the copy is there"
else
	seed
fi
# Last: where a report was written, Kubernetes does not keep the end of the log.
report
