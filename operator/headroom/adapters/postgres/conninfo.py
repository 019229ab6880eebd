"""The parameters of a connection for libpq: addresses, TLS material, deadlines, and a name that says whose it is."""

import os
import re
import ssl
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from psycopg.conninfo import make_conninfo

from headroom.errors import PrimaryUnavailable
from headroom.model.database import ConnectionTarget
from headroom.reasons import Reason

CONNECT_SECONDS = 3.0
DEAD_PEER_SECONDS = 3
"""A peer that acknowledges nothing for this long is gone, whatever the kernel's defaults say."""
SYSTEM_BUNDLES = ("/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem")
_CERTIFICATE = re.compile(r"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL)


@dataclass(frozen=True, slots=True)
class SessionNames:
    """Distinguishes our sessions from others: `lease` belongs to the operator, `holder` to this one process of it.

    Both at most 16 characters without a slash, so that `headroom/<role>/<lease>/<holder>` fits application_name.
    """

    lease: str
    holder: str

    def name(self, role: str) -> str:
        """application_name of the session that plays `role`."""
        return f"headroom/{role}/{self.lease}/{self.holder}"


@contextmanager
def connection_string(
    target: ConnectionTarget, *, application_name: str, options: Mapping[str, str], is_replication: bool = False
) -> Iterator[str]:
    """libpq's connection string for one connect; certificates and keys exist, in memory, only while the block runs."""
    with ExitStack() as stack:
        parameters: dict[str, str | int] = {
            "host": target.host,
            "port": target.port,
            "dbname": target.database,
            "user": target.credentials.username,
            "password": target.credentials.password,
            "application_name": application_name,
            "client_encoding": "UTF8",
            "options": _format_options(options),
            "connect_timeout": int(CONNECT_SECONDS),
            "keepalives": 1,
            "keepalives_idle": 1,
            "keepalives_interval": 1,
            "keepalives_count": DEAD_PEER_SECONDS - 1,
            "tcp_user_timeout": DEAD_PEER_SECONDS * 1000,
            "gssencmode": "disable",
            "target_session_attrs": "any",
            "sslmode": target.tls_mode,
        }
        if is_replication:
            parameters["replication"] = "true"
        parameters.update(_tls_parameters(target, stack))
        yield make_conninfo("", **parameters)


def _tls_parameters(target: ConnectionTarget, stack: ExitStack) -> dict[str, str]:
    if target.tls_mode in {"disable", "allow", "prefer"}:
        # A server without encryption could ask for the password without encryption.
        hardening = {"require_auth": "!password"}
        if target.tls_mode == "disable":
            return hardening
    else:
        hardening = {}
    files = {
        "sslrootcert": target.ca_pem,
        "sslcert": target.client_certificate_pem,
        "sslkey": target.client_key_pem,
    }
    found = {name: stack.enter_context(_memory_file(name, pem)) for name, pem in files.items() if pem is not None}
    if "sslrootcert" not in found and target.tls_mode.startswith("verify"):
        found["sslrootcert"] = _system_bundle(target)
    return {**hardening, **found}


@contextmanager
def _memory_file(name: str, content: str) -> Iterator[str]:
    """A private file (0600) that lies in memory, has no name in any file system and is gone at the end."""
    descriptor = os.memfd_create(name, os.MFD_CLOEXEC)
    try:
        os.fchmod(descriptor, 0o600)
        with os.fdopen(os.dup(descriptor), "wb") as file:
            file.write(content.encode())
        yield f"/proc/self/fd/{descriptor}"
    finally:
        os.close(descriptor)


@cache
def read_system_authorities() -> str | None:
    """The system's CA certificates (PEM) without the notes beside them; None where it has none."""
    path = _find_system_bundle()
    if path is None:
        return None
    blocks = _CERTIFICATE.findall(Path(path).read_text(encoding="utf-8", errors="replace"))
    return "".join(f"{block}\n" for block in blocks) or None


def _find_system_bundle() -> str | None:
    default = ssl.get_default_verify_paths().cafile
    return next((path for path in (default, *SYSTEM_BUNDLES) if path and Path(path).is_file()), None)


def _system_bundle(target: ConnectionTarget) -> str:
    path = _find_system_bundle()
    if path is not None:
        return path
    message = f"{target.host}:{target.port}: this system has no CA certificates; set connection.tls.caSecretRef"
    raise PrimaryUnavailable(message, reason=Reason.TLS_FAILED)


def _format_options(options: Mapping[str, str]) -> str:
    return " ".join(f"-c {name}={_escape(value)}" for name, value in options.items())


def _escape(value: str) -> str:
    return value.replace("\\", "\\\\").replace(" ", "\\ ")
