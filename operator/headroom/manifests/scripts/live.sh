#!/bin/sh
# Succeeds while the postmaster answers at all: also while it starts, refuses, or has no connection left.
#
# Reads: CONFIG (a folder), and what knock.sh reads.
set -eu

. "$CONFIG/knock.sh"
code=0
(knock 8) || code=$?
[ "$code" -le 1 ]
