#!/bin/sh
# Starts a primary: makes the data directory when it is empty, as the well-known image does, then becomes postgres.
# POSTGRES_PASSWORD is required on the first start; POSTGRES_USER, POSTGRES_DB and POSTGRES_INITDB_ARGS are optional.
# Files in /docker-entrypoint-initdb.d (*.sql, *.sh) run once, in order of name.
set -eu

PGDATA="${PGDATA:-/var/lib/postgresql/data}"
POSTGRES_USER="${POSTGRES_USER:-postgres}"
POSTGRES_DB="${POSTGRES_DB:-$POSTGRES_USER}"
export PGDATA POSTGRES_USER POSTGRES_DB

case "${1:-postgres}" in
-*) set -- postgres "$@" ;;
postgres) [ $# -gt 0 ] || set -- postgres ;;
*) exec "$@" ;;
esac

mkdir -p "$PGDATA"
if [ "$(id -u)" = 0 ]; then
    mkdir -p /var/run/postgresql
    chown -R postgres:postgres "$PGDATA" /var/run/postgresql
    exec setpriv --reuid=postgres --regid=postgres --init-groups -- "$0" "$@"
fi
# A volume's fsGroup may have opened the folder to the group, which postgres refuses.
chmod 0700 "$PGDATA" || true

run_files() {
    for file in /docker-entrypoint-initdb.d/*; do
        case "$file" in
        *.sql) psql --set=ON_ERROR_STOP=1 --no-password --username="$POSTGRES_USER" --dbname="$POSTGRES_DB" --file="$file" ;;
        *.sh) . "$file" ;;
        esac
    done
}

# The marker is written last: an initialisation that was cut short begins again.
if [ ! -s "$PGDATA/PG_VERSION" ] || [ -e "$PGDATA/.initialising" ]; then
    if [ -z "${POSTGRES_PASSWORD:-}" ] && [ "${POSTGRES_HOST_AUTH_METHOD:-}" != trust ]; then
        echo "POSTGRES_PASSWORD is required for the first start." >&2
        exit 1
    fi
    find "$PGDATA" -mindepth 1 -delete
    password_file=$(mktemp)
    printf '%s\n' "${POSTGRES_PASSWORD:-}" >"$password_file"
    # shellcheck disable=SC2086  the arguments are meant to be split
    if [ -n "${POSTGRES_PASSWORD:-}" ]; then
        initdb --username="$POSTGRES_USER" --pwfile="$password_file" --auth-local=trust --auth-host=scram-sha-256 \
            --encoding=UTF8 --locale=C.UTF-8 ${POSTGRES_INITDB_ARGS:-}
    else
        initdb --username="$POSTGRES_USER" --auth=trust --encoding=UTF8 --locale=C.UTF-8 ${POSTGRES_INITDB_ARGS:-}
    fi
    rm -f "$password_file"
    touch "$PGDATA/.initialising"
    sed -i "s/^#*listen_addresses.*/listen_addresses = '*'/" "$PGDATA/postgresql.conf"
    printf 'host all all all %s\nhost replication all all %s\n' \
        "${POSTGRES_HOST_AUTH_METHOD:-scram-sha-256}" "${POSTGRES_HOST_AUTH_METHOD:-scram-sha-256}" >>"$PGDATA/pg_hba.conf"
    pg_ctl --wait --silent --options="-c listen_addresses='' -c fsync=off" start
    if [ "$POSTGRES_DB" != postgres ]; then
        createdb --username="$POSTGRES_USER" --maintenance-db=postgres "$POSTGRES_DB"
    fi
    run_files
    pg_ctl --wait --silent --mode=fast stop
    rm "$PGDATA/.initialising"
    sync
fi

exec "$@"
