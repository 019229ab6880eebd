#!/bin/sh
# Puts what libpq logs in with where it reads it at each connect: the passfile, and the client's certificate and key.
#
# The kubelet refreshes the Secrets they come from, so that run again this follows a rotation. Each file is private, as
# libpq demands, and replaced whole.
#
# Reads: PASSFILE, CREDENTIALS (a folder), CLIENT_TLS (a folder, may be empty).
set -eu
umask 077

# Makes standard input the content of a file.
replace() {
	cat >"$1.$$"
	mv "$1.$$" "$1"
}

# A line end, as `echo` leaves one, is no part of a login; `:` and `\` mean something in a passfile.
read_login() {
	LC_ALL=C tr -d '\r\n' <"$CREDENTIALS/$1" | LC_ALL=C sed 's/[\\:]/\\&/g'
}

user=$(read_login username)
password=$(read_login password)
if [ -z "$user" ] || [ -z "$password" ]; then
	echo "credentials: $CREDENTIALS has no username or no password" >&2
	exit 1
fi
printf '*:*:*:%s:%s\n' "$user" "$password" | replace "$PASSFILE"
if [ -n "${CLIENT_TLS:-}" ]; then
	for part in crt key; do
		replace "${PASSFILE%/*}/client.$part" <"$CLIENT_TLS/tls.$part"
	done
fi
