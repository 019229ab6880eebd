#!/bin/sh
# Succeeds while the server accepts connections and is still a standby: a promotion removes standby.signal.
#
# The shell becomes the one process that this takes, see knock.sh. What cannot change while a server runs, such as the
# system it holds, is checked by start.sh.
#
# Reads: PGDATA, CONFIG (a folder), and what knock.sh reads.
set -eu

[ -f "$PGDATA/standby.signal" ] || exit 1
. "$CONFIG/knock.sh"
knock 8
