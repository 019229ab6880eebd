#!/bin/sh
# Puts what libpq logs in with where it reads it at each connect: the passfile, and the client's certificate and key.
#
# The kubelet refreshes the Secrets they come from, so that run again this follows a rotation. Each file is private, as
# libpq demands, and replaced whole.
#
# Reads: PASSFILE, CREDENTIALS (a folder), REPLICATION_USER (the role that the pod's conninfo names), CLIENT_TLS (a
# folder, may be empty).
set -eu
umask 077

# Makes standard input the content of a file that has another one. What a killed run leaves beside it has always the
# same name, so that it is written over and does not pile up.
replace() {
	content=$(cat)
	[ "$content" != "$(cat "$1" 2>/dev/null)" ] || return 0
	printf '%s\n' "$content" >"$1.new"
	mv "$1.new" "$1"
}

# `:` and `\` mean something in a passfile.
escape() {
	LC_ALL=C sed 's/[\\:]/\\&/g'
}

# A line end, as `echo` leaves one, is no part of a login.
read_login() {
	LC_ALL=C tr -d '\r\n' <"$CREDENTIALS/$1" | escape
}

has_login_of() {
	case "$(cat "$PASSFILE" 2>/dev/null)" in
	"*:*:*:$1:"*) ;;
	*) return 1 ;;
	esac
}

user=$(read_login username)
password=$(read_login password)
if [ -z "$user" ] || [ -z "$password" ]; then
	echo "credentials: $CREDENTIALS has no username or no password" >&2
	exit 1
fi
made_for=$(printf '%s\n' "$REPLICATION_USER" | escape)
if [ "$user" != "$made_for" ] && has_login_of "$made_for"; then
	# The server goes on as the role it was started for, until its pod is made anew for the other one.
	echo "credentials: $CREDENTIALS has another username than this pod logs in as: the password is left as it is" >&2
else
	printf '*:*:*:%s:%s\n' "$user" "$password" | replace "$PASSFILE"
fi
if [ -n "${CLIENT_TLS:-}" ]; then
	for part in crt key; do
		replace "${PASSFILE%/*}/client.$part" <"$CLIENT_TLS/tls.$part"
	done
fi
