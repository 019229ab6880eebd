#!/bin/sh
# Succeeds while the postmaster answers at all: also while it starts, refuses, or has no connection left.
set -eu

code=0
pg_isready -q -h /var/run/postgresql -p 5432 -t 3 || code=$?
[ "$code" -le 1 ]
