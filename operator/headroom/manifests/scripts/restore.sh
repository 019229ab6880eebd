# Sourced by seed.sh. `restore` makes a volume that came from a snapshot of another member's volume this member's own, or
# refuses it with a word of what is wrong.
#
# Everything is checked before anything is changed, and no change alters what is checked. The mark is the last change:
# until then the volume is the source's, so that a run that is killed at any point is followed by a whole one.
#
# No pg_rewind runs here: the checkpoint that it ends with would be WAL of this member's own. A copied configuration is
# without effect, since the server gets all its files by name, and of those in the data directory reads only
# postgresql.auto.conf.
#
# Reads: PGDATA, SLOT, SYSTEM_IDENTIFIER, MAJOR, RESTORE (Stopped or Atomic), RESTORED_SLOT (that of the source), and
# what seed.sh has defined.

field() {
	printf '%s\n' "$control" | sed -n "s/^$1: *//p"
}

check_mark() {
	[ -f "$PGDATA/$MARK" ] || refuse "the snapshot holds no complete copy: $MARK is missing"
	found=$(cat "$PGDATA/$MARK")
	[ "$found" = "$RESTORED_SLOT" ] || refuse "the snapshot is of the member with slot $found, not $RESTORED_SLOT"
}

# A server that was stopped has nothing to repair. One that ran has, and it must know how far to replay before its data
# are consistent.
check_state() {
	state=$(field "Database cluster state")
	case "$RESTORE: $state" in
	"Stopped: shut down in recovery") ;;
	"Atomic: in archive recovery")
		[ "$(field "Minimum recovery ending location")" != 0/0 ] ||
			refuse "the snapshot does not say how far to replay: its minimum recovery ending location is 0/0"
		;;
	*": in production" | *": shut down" | *": shutting down" | *": in crash recovery")
		refuse "the snapshot is of a primary: its database cluster state is '$state'"
		;;
	*) refuse "the snapshot was not taken as its consistency $RESTORE says: its database cluster state is '$state'" ;;
	esac
}

check_restored() {
	check_mark
	found=$(cat "$PGDATA/PG_VERSION" 2>/dev/null) || refuse "the snapshot holds no complete copy: PG_VERSION is missing"
	[ "$found" = "$MAJOR" ] || refuse "the snapshot is of PostgreSQL $found, the primary is $MAJOR"
	control=$(LC_ALL=C pg_controldata -D "$PGDATA" 2>&1) || refuse "pg_controldata cannot read the snapshot: $control"
	case "$control" in
	*"CRC checksum does not match"*) refuse "pg_controldata cannot read the snapshot: its checksum is wrong" ;;
	esac
	found=$(field "Database system identifier")
	[ "$found" = "$SYSTEM_IDENTIFIER" ] || refuse "the snapshot is of system $found, the primary is $SYSTEM_IDENTIFIER"
	check_state
	# A label would make the server begin where a base backup began, with WAL that the snapshot need not have.
	[ ! -f "$PGDATA/backup_label" ] || refuse "the snapshot has a backup_label: its member had not started yet"
	[ -f "$PGDATA/standby.signal" ] || refuse "the snapshot is of no standby: standby.signal is missing"
	if [ -n "$(ls -A "$PGDATA/pg_tblspc" 2>/dev/null)" ]; then
		refuse "the snapshot has user tablespaces, which a replica here has no volume for"
	fi
}

# The source's slots would keep WAL here, and its keys prove its name, not this member's.
clean_restored() {
	: >"$PGDATA/postgresql.auto.conf"
	rm -f "$PGDATA/recovery.signal" "$PGDATA/recovery.conf" "$PGDATA/postmaster.pid" "$PGDATA/postmaster.opts"
	rm -rf "$PGDATA/pg_replslot" "$NEW" "${PGDATA%/*}/.headroom-tls"
	mkdir "$PGDATA/pg_replslot"
	chmod 0700 "$PGDATA"
	printf '%s\n' "$SLOT" >"$PGDATA/$MARK.new"
	# Only what was changed: to sync the file system would also write out what others have on it, if the volume is a
	# folder, and their commits would wait.
	run sync "$PGDATA/postgresql.auto.conf" "$PGDATA/$MARK.new" "$PGDATA/pg_replslot" "$PGDATA" "${PGDATA%/*}"
	mv -f "$PGDATA/$MARK.new" "$PGDATA/$MARK"
	run sync "$PGDATA"
}

restore() {
	check_restored
	clean_restored
	say "restored from a snapshot"
}
