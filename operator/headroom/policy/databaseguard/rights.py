"""Which feature each missing right turns off, and the statement that brings it back."""

from collections.abc import Iterable
from dataclasses import dataclass

from headroom.reasons import Reason

RESERVED_SINCE = 16


@dataclass(frozen=True, slots=True)
class Note:
    """Something a person should know that does not keep the guard from working."""

    reason: Reason
    message: str


_WITHOUT: dict[str, str] = {
    "pg_monitor": "lock waiters, transaction ages and the streaming state of replicas are not seen",
    "pg_signal_backend": "sessions are not ended: replicas drain only as clients leave, blockers are only named",
    "pg_read_all_data": "caches of standbys are not warmed, and queue presets need SELECT on their tables",
    "pg_use_reserved_connections": "Headroom has no connection kept for it when the server is full",
}


def quote_role(name: str) -> str:
    """A role's name as SQL has it."""
    return '"' + name.replace('"', '""') + '"'


def explain_missing_rights(missing: Iterable[str], role: str) -> list[Note]:
    """One note for each right that the login lacks."""
    return [
        Note(Reason.MISSING_RIGHT, f'{right} is missing: {_WITHOUT.get(right, "a feature is off")}; '
             f'run: GRANT {right} TO {quote_role(role)}')
        for right in missing
    ]  # fmt: skip


def explain_reserve(major: int, reserved_connections: int, role: str) -> Note | None:
    """Why the server cannot keep a connection for us, or None when it does."""
    if major < RESERVED_SINCE:
        message = f"PostgreSQL {major} cannot reserve connections: the three open ones are kept, and may be lost"
        return Note(Reason.RESERVE_NOT_ENFORCED, message)
    if reserved_connections == 0:
        message = f'no connection is reserved for "{role}"; set reserved_connections = 5 on the server'
        return Note(Reason.RESERVE_NOT_ENFORCED, message)
    return None


def explain_tls(mode: str) -> Note | None:
    """What the chosen mode of TLS leaves open, or None for verify-full."""
    gaps = {
        "disable": "the connection is not encrypted",
        "require": "the connection is encrypted, but the server is not verified",
        "verify-ca": "the certificate is verified, but not the host name",
    }
    if mode == "verify-full":
        return None
    return Note(Reason.TLS_WEAK, f"{gaps.get(mode, 'the connection may be in the clear')}; verify-full is best")
