#!/bin/sh
# Makes the certificate of this member's server: an authority of its own, and a certificate of that authority for the
# names by which clients know the server. `certificate.sh authority` makes both as needed, without the word only the
# second.
#
# The authority lives as long as the member, on its volume, so that clients know it again after a restart or an exchange
# of the pod; the certificate is short-lived, in memory, and renewed without anybody's help. No key leaves the pod. The
# authority may sign for the names of its set, for no other host and for no address: who trusts it trusts it for nothing
# else. A pod's own address is left out, since it changes and the authority does not.
#
# Reads: PGDATA, PASSFILE, SLOT, SERVER_NAMES (DNS names), AUTHORITY_DAYS, CERTIFICATE_DAYS.
set -eu
umask 077

home=${PGDATA%/*}/.headroom-tls
authority=$home/$SLOT
run=${PASSFILE%/*}
DAY=86400
NO_ADDRESS="excluded;IP:0.0.0.0/0.0.0.0,excluded;IP:::/::"

fail() {
	echo "certificate: $*" >&2
	exit 1
}

# A Service has a longer name too, which ends in the cluster's own domain.
find_names() {
	domain=
	while read -r word rest; do
		[ "$word" = search ] || continue
		for word in $rest; do
			case "$word" in svc.*) domain=${word#svc.} ;; esac
		done
	done </etc/resolv.conf 2>/dev/null || true
	for name in $SERVER_NAMES; do
		echo "$name"
		case "$name" in *.svc) [ -z "$domain" ] || echo "$name.$domain" ;; esac
	done
}

join() {
	joined=
	for name in $names; do joined="$joined${joined:+,}$1$name"; done
	echo "$joined"
}

# The system's own configuration may be missing, or ask for something else.
write_configuration() {
	cat <<CONFIGURATION
[req]
distinguished_name = subject
prompt = no
[subject]
CN = $SLOT
[authority]
basicConstraints = critical, CA:TRUE, pathlen:0
keyUsage = critical, keyCertSign
subjectKeyIdentifier = hash
nameConstraints = critical, $(join "permitted;DNS:"),$NO_ADDRESS
[server]
basicConstraints = critical, CA:FALSE
keyUsage = critical, digitalSignature
extendedKeyUsage = serverAuth
subjectAltName = $(join DNS:)
CONFIGURATION
}

make_key() {
	openssl ecparam -name prime256v1 -genkey -noout -out "$1.new"
	mv "$1.new" "$1"
}

lasts() {
	openssl x509 -in "$1" -noout -checkend "$2" >/dev/null 2>&1
}

# Half of its time must be left: nobody hears of a new one while a pod runs, and no pod runs for that long.
ensure_authority() {
	if [ -f "$authority.key" ] && [ "$names" = "$(cat "$authority.names" 2>/dev/null)" ]; then
		lasts "$authority.crt" "$((AUTHORITY_DAYS * DAY / 2))" && return
	fi
	# A volume that was copied from another member's has that one's.
	rm -rf "$home"
	mkdir "$home"
	make_key "$authority.key"
	openssl req -x509 -new -key "$authority.key" -sha256 -days "$AUTHORITY_DAYS" -config "$run/tls.conf" \
		-extensions authority -subj "/CN=$SLOT authority" -out "$authority.crt.new"
	printf '%s\n' "$names" >"$authority.names"
	mv "$authority.crt.new" "$authority.crt"
	rm -f "$run/server.names"
}

# The key stays, so that one file changes and never two: a server that reads both between two changes would find that
# they do not match.
ensure_certificate() {
	if [ "$names" = "$(cat "$run/server.names" 2>/dev/null)" ]; then
		lasts "$run/server.crt" "$((CERTIFICATE_DAYS * DAY / 3))" && return
	fi
	[ -f "$run/server.key" ] || make_key "$run/server.key"
	openssl req -new -key "$run/server.key" -config "$run/tls.conf" -out "$run/server.csr"
	openssl x509 -req -in "$run/server.csr" -CA "$authority.crt" -CAkey "$authority.key" -sha256 \
		-set_serial "0x$(openssl rand -hex 8)" -days "$CERTIFICATE_DAYS" -extfile "$run/tls.conf" -extensions server \
		-out "$run/server.crt.new" 2>/dev/null || fail "openssl cannot sign the server's certificate"
	cat "$authority.crt" >>"$run/server.crt.new"
	printf '%s\n' "$names" >"$run/server.names"
	mv "$run/server.crt.new" "$run/server.crt"
}

command -v openssl >/dev/null || fail "the image has no openssl"
names=$(find_names)
write_configuration >"$run/tls.conf"
[ "${1:-}" != authority ] || ensure_authority
ensure_certificate
