#!/bin/sh
# Succeeds while the server accepts connections, is still a standby, and holds the system it should.
#
# Reads: PGDATA, SYSTEM_IDENTIFIER.
set -eu

[ -f "$PGDATA/standby.signal" ]
pg_isready -q -h /var/run/postgresql -p 5432 -t 1
LC_ALL=C pg_controldata -D "$PGDATA" | {
	system=''
	state=''
	while IFS=: read -r key value; do
		case "$key" in
		"Database system identifier") system=${value##* } ;;
		"Database cluster state") state=$value ;;
		esac
	done
	[ "$system" = "$SYSTEM_IDENTIFIER" ]
	case "$state" in *"in archive recovery") ;; *) exit 1 ;; esac
}
