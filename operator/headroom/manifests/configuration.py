"""The server's own configuration: postgresql.conf and pg_hba.conf of a replica, and nothing copied.

A copied configuration may contain `recovery_target_action = promote`, so the command line names these files.
"""

import hashlib
import json
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import cache
from importlib.resources import files
from typing import Any

from headroom.manifests.children import Owner, build_metadata
from headroom.model.database import ConnectionTarget, ServerFacts
from headroom.model.libraries import PRELOAD_PARAMETER, parse_preloads
from headroom.model.text import parse_count

NOT_BELOW_PRIMARY = (
    "max_connections",
    "max_worker_processes",
    "max_wal_senders",
    "max_prepared_transactions",
    "max_locks_per_transaction",
)
"""A standby pauses replay, or does not start, while one of these is lower than on the primary."""

EXPRESSIONS_SINCE = RESERVED_SINCE = 160_000
RESERVED_CONNECTIONS, RESERVED_SHARE = 5, 10
"""So many, and at most one in so many, are kept for roles with pg_use_reserved_connections, such as ours."""
SUPERUSER_RESERVED = 3
"""The server's default."""
CONNECT_TIMEOUT_SECONDS = 5
CONFIG_FOLDER = "/etc/headroom/config"
RUN_FOLDER = "/run/headroom"
PASSFILE = f"{RUN_FOLDER}/passfile"
SUPERUSERS_FILE = f"{RUN_FOLDER}/superusers"
CERTIFICATE_FOLDER = "/etc/headroom/server-tls"
SCRAM, MD5 = "scram-sha-256", "md5"
REQUIRE_AUTH_SINCE = 16
"""The first major version whose libpq can be told how it may log in."""

ALWAYS: Mapping[str, str] = {
    "listen_addresses": "*",
    "port": "5432",
    "unix_socket_directories": "/var/run/postgresql",
    # For the user of the server alone: build_hba lets our scripts in here without a password.
    "unix_socket_permissions": "0700",
    "hot_standby": "on",
    "recovery_target_timeline": "latest",
    "archive_mode": "off",
    "restore_command": "",
    "archive_cleanup_command": "",
    "recovery_end_command": "",
    "wal_receiver_status_interval": "1s",
    "wal_receiver_timeout": "10s",
    "wal_retrieve_retry_interval": "500ms",
    "recovery_init_sync_method": "syncfs",
    "logging_collector": "off",
    "log_destination": "stderr",
    "update_process_title": "on",
}
"""Parameters that users cannot change: how a replica follows and is reached. The server's defaults of 10 and 5 s would
be the least lag we could promise."""
_PLAIN = re.compile(r"[A-Za-z0-9_.:/@%+,-]+")
_SPECIAL = re.compile(r"[^A-Za-z0-9_\u0080-\U0010ffff]")
"""What an expression of PostgreSQL may give a meaning, and takes as it is after a backslash."""
CA_FILE = "primary-ca.crt"
SCRIPTS = (
    "seed.sh",
    "restore.sh",
    "start.sh",
    "started.sh",
    "ready.sh",
    "live.sh",
    "stop.sh",
    "credentials.sh",
    "certificate.sh",
    "superusers.sh",
    "refresh.sh",
    "knock.sh",
    "lock.sh",
)


@dataclass(frozen=True, slots=True)
class ReplicaSettings:
    """The parts of a spec and its guard that the server's configuration contains."""

    parameters: Mapping[str, str]
    hba: Sequence[str]
    has_hot_standby_feedback: bool
    eject_replay_lag: timedelta
    monitor_role: str
    monitor_method: str = SCRAM
    replication_role: str = ""
    """Who may copy from a replica; empty: nobody."""
    allows_plaintext: bool = False
    ignored_libraries: Sequence[str] = ()


def build_postgresql_conf(settings: ReplicaSettings, server: ServerFacts) -> str:
    """Render postgresql.conf: the user's parameters, then ours, which win."""
    delay = f"{max(int(settings.eject_replay_lag.total_seconds() * 500), 1)}ms"
    ours = {
        **ALWAYS,
        **build_floor(settings.parameters, server),
        "hot_standby_feedback": "on" if settings.has_hot_standby_feedback else "off",
        "max_standby_streaming_delay": delay,
        "max_standby_archive_delay": delay,
    }
    parameters = {
        "idle_in_transaction_session_timeout": "60s",
        **build_reserve(settings.parameters, server),
        **build_preloads(settings.ignored_libraries, server),
        **settings.parameters,
        **ours,
    }
    return "".join(f"{name} = {quote(value)}\n" for name, value in sorted(parameters.items()))


def build_floor(parameters: Mapping[str, str], server: ServerFacts) -> dict[str, str]:
    """The parameters that must not be below the primary's, each the larger of the spec's and the primary's."""
    floor = {}
    for name in NOT_BELOW_PRIMARY:
        texts = parameters.get(name, ""), server.settings.get(name, "")
        values = [count for count in map(parse_count, texts) if count is not None]
        if values:
            floor[name] = str(max(values))
    return floor


def build_reserve(parameters: Mapping[str, str], server: ServerFacts) -> dict[str, str]:
    """Connections that clients cannot take: a replica that is full of them must still tell its lag."""
    limit = build_floor(parameters, server).get("max_connections")
    if server.version < RESERVED_SINCE or limit is None:
        return {}
    for_superusers = parse_count(parameters.get("superuser_reserved_connections", ""))
    left = int(limit) - (SUPERUSER_RESERVED if for_superusers is None else for_superusers)
    # The server does not start if nothing is left for others.
    count = min(RESERVED_CONNECTIONS, left // RESERVED_SHARE)
    return {"reserved_connections": str(count)} if count > 0 else {}


def build_preloads(ignored: Collection[str], server: ServerFacts) -> dict[str, str]:
    """The libraries that the primary preloads, without those that the spec waives; the spec's own list replaces it."""
    entries = [text for text, name in parse_preloads(server.settings.get(PRELOAD_PARAMETER, "")) if name not in ignored]
    return {PRELOAD_PARAMETER: ", ".join(entries)} if entries else {}


def build_hba(settings: ReplicaSettings, server: ServerFacts, *, has_tls: bool) -> str:
    """Render pg_hba.conf: our own lines, then the user's and nothing else, or password logins if there are none.

    `has_tls`: the server has a certificate. What a superuser is, the server itself tells (superusers.sh); the first
    line that matches decides, so that no line of the user's lets one in.
    """
    monitor = quote_hba(settings.monitor_role, server.version)
    ours = "hostssl" if has_tls else "host"
    clients = "host" if settings.allows_plaintext else ours
    rest = ("local all all reject", "host all all all reject") if settings.hba else (f"{clients} all all all {SCRAM}",)
    lines = (
        "# type database user address method",
        # For the scripts of the pod, and for a person in its container. The socket is for the server's own user alone,
        # whose id need not have a name: `peer` could refuse it.
        f"local all {monitor} trust",
        f"local all @{SUPERUSERS_FILE} trust",
        "local replication all reject",
        *build_copy_lines(settings, server, has_tls=has_tls),
        "host replication all all reject",
        # The kubelet's probes knock here, and show no password.
        f"host all {monitor} 127.0.0.1/32 {settings.monitor_method}",
        f"{ours} all {monitor} all {settings.monitor_method}",
        f"host all @{SUPERUSERS_FILE} all reject",
        *settings.hba,
        *rest,
    )
    return "".join(f"{line}\n" for line in lines)


def build_copy_lines(settings: ReplicaSettings, server: ServerFacts, *, has_tls: bool) -> tuple[str, ...]:
    """Who may copy from a replica: the replication role, unless it is a superuser; plain only where clients may be."""
    if not settings.replication_role or not (has_tls or settings.allows_plaintext):
        return ()
    role = quote_hba(settings.replication_role, server.version)
    kind = "hostssl" if has_tls else "host"
    return (
        f"host replication @{SUPERUSERS_FILE} all reject",
        f"{kind} replication {role} all {settings.monitor_method}",
    )


def build_conninfo(target: ConnectionTarget, user: str, application: str, ca_file: str | None, major: int) -> str:
    """Render the conninfo a replica streams with; password, certificate and key are in files that can be replaced.

    `major` is that of the server, whose libpq is at least as new.
    """
    words = {
        "host": target.host,
        "port": str(target.port),
        "user": user,
        "application_name": application,
        "passfile": PASSFILE,
        "sslmode": target.tls_mode,
        "connect_timeout": str(CONNECT_TIMEOUT_SECONDS),
        "tcp_user_timeout": "10000",
    }
    if ca_file is not None:
        words["sslrootcert"] = ca_file
    if target.client_certificate_pem is not None:
        words["sslcert"], words["sslkey"] = f"{RUN_FOLDER}/client.crt", f"{RUN_FOLDER}/client.key"
    has_certificate = target.client_certificate_pem is not None
    login = build_login_words(target.password_method, major, target.tls_mode, has_certificate=has_certificate)
    return join_conninfo({**words, **login})


def build_login_words(
    password_method: str, major: int, tls_mode: str, *, has_certificate: bool = False, is_bound: bool = False
) -> dict[str, str]:
    """The ways to log in that a replica answers to, the same as the operator's: the password itself is never given.

    A server may let in by the client's certificate alone, and then asks for nothing. `is_bound`: SCRAM has to prove
    that the other end of the encrypted connection is the server.
    """
    methods = ",".join((SCRAM, *([MD5] if password_method == MD5 else ()), *(["none"] if has_certificate else ())))
    words = {"require_auth": methods} if major >= REQUIRE_AUTH_SINCE else {}
    # An older libpq has no other word for SCRAM and nothing else.
    if methods == SCRAM and tls_mode != "disable" and (is_bound or not words):
        words["channel_binding"] = "require"
    return words


def join_conninfo(words: Mapping[str, str]) -> str:
    """A libpq connection string of these words."""
    return " ".join(f"{name}={quote_conninfo(value)}" for name, value in words.items())


def quote(value: str) -> str:
    """Quote a value for postgresql.conf."""
    escaped = value.replace("\\", "\\\\").replace("'", "''")
    return f"'{escaped}'"


def quote_conninfo(value: str) -> str:
    """Quote a value for a libpq connection string, unless it is plain: any white space would end it."""
    if _PLAIN.fullmatch(value):
        return value
    escaped = value.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"


def quote_hba(role: str, version: int) -> str:
    """Quote a role for pg_hba.conf: quotes take away the meaning of `all` and of a leading `+`.

    Since version 16 a leading slash means an expression, also in quotes.
    """
    if role.startswith("/") and version >= EXPRESSIONS_SINCE:
        role = f"/^{_SPECIAL.sub(lambda found: f'{chr(92)}{found[0]}', role)}$"
    escaped = role.replace('"', '""')
    return f'"{escaped}"'


def build_config(owner: Owner, settings: ReplicaSettings, server: ServerFacts, ca_pem: str | None) -> dict[str, Any]:
    """The ConfigMap of configuration, scripts and CA; its name follows its content, so a pod never sees it change."""
    data = {
        "postgresql.conf": build_postgresql_conf(settings, server),
        "pg_hba.conf": build_hba(settings, server, has_tls=True),
        "pg_hba.plain.conf": build_hba(settings, server, has_tls=False),
        **load_scripts(),
    }
    if ca_pem is not None:
        data[CA_FILE] = ca_pem
    digest = hashlib.sha256(json.dumps(data, sort_keys=True).encode()).hexdigest()[:8]
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": build_metadata(owner, f"{owner.name}-config-{digest}"),
        "data": data,
        "immutable": True,
    }


@cache
def load_scripts() -> dict[str, str]:
    """Each script's text by file name; part of this package, so the same for the life of a process."""
    return {name: files(__package__).joinpath("scripts", name).read_text(encoding="utf-8") for name in SCRIPTS}
