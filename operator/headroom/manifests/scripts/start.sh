#!/bin/sh
# Starts the server as a standby, or not at all: a container that restarts runs this again, and its seed step not.
#
# Reads: PGDATA, CONFIG (a folder), SLOT, NAME, PRIMARY_CONNINFO, and what credentials.sh reads.
set -eu

for file in standby.signal .headroom-seeded; do
	if ! [ -f "$PGDATA/$file" ]; then
		echo "start: $PGDATA/$file is missing: this is no standby of ours, so it must not run" >&2
		exit 1
	fi
done
sh "$CONFIG/credentials.sh" || echo "start: the login to the primary is as it was" >&2
exec postgres -D "$PGDATA" \
	-c "config_file=$CONFIG/postgresql.conf" \
	-c "hba_file=$CONFIG/pg_hba.conf" \
	-c "ident_file=$CONFIG/pg_ident.conf" \
	-c "cluster_name=$NAME" \
	-c "primary_slot_name=$SLOT" \
	-c "primary_conninfo=$PRIMARY_CONNINFO"
