#!/bin/sh
# Succeeds while the postmaster answers at all: also while it starts, refuses, or has no connection left.
#
# Reads: MONITOR_ROLE.
set -eu

code=0
PGSSLMODE=disable pg_isready -q -h 127.0.0.1 -p 5432 -U "$MONITOR_ROLE" -t 3 || code=$?
[ "$code" -le 1 ]
