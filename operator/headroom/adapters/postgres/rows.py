"""Rows as the facts they stand for; the one place where column names of `sql` are read."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from headroom.model.database import (
    BackupProgress,
    ConnectionCounts,
    LimitedConnections,
    Lsn,
    Mark,
    ReplicaProbe,
    ServerFacts,
    SlotFacts,
)
from headroom.model.frozen import FrozenMap
from headroom.model.libraries import CollationFacts, DatabaseLibraries, ServerLibraries

Row = Mapping[str, Any]


def parse_server(row: Row, address: str) -> ServerFacts:
    """A row of `sql.IDENTIFY`, and where it came from."""
    return ServerFacts(
        system_identifier=str(row["system_identifier"]),
        version=int(row["version"]),
        is_in_recovery=bool(row["is_in_recovery"]),
        timeline=int(row["timeline"]),
        flush_lsn=parse_lsn(row["flush_lsn"]),
        settings=FrozenMap((str(name), str(value)) for name, value in (row["settings"] or {}).items()),
        wal_senders_used=int(row["wal_senders_used"]),
        slots_used=int(row["slots_used"]),
        is_direct=True,
        missing_rights=tuple(str(name) for name in row["missing_rights"]),
        has_user_tablespaces=bool(row["has_user_tablespaces"]),
        is_superuser=bool(row["is_superuser"]),
        has_installation_lock=False,
        started_at=row["started_at"],
        address=address,
    )


def with_lock(facts: ServerFacts, *, is_held: bool) -> ServerFacts:
    """The facts together with whether the installation's lock is ours."""
    return replace(facts, has_installation_lock=is_held)


def parse_mark(row: Row, *, taken_at: float, commit_seconds: float | None) -> Mark:
    """A row of `sql.POSITION`; times are monotonic seconds."""
    return Mark(
        taken_at=taken_at,
        lsn=Lsn.parse(str(row["lsn"])),
        commit_seconds=commit_seconds,
        timeline=int(row["timeline"]),
        system_identifier=str(row["system_identifier"]),
    )


def parse_connections(row: Row) -> ConnectionCounts:
    """A row of `sql.CONNECTIONS`."""
    return ConnectionCounts(
        used=int(row["used"]),
        active=int(row["active"]),
        idle_in_transaction=int(row["idle_in_transaction"]),
        limit=int(row["usable"]),
        lock_waiters=int(row["lock_waiters"]),
        oldest_transaction_seconds=max(0.0, float(row["oldest_transaction_seconds"])),
        roles=_parse_limited(row["roles"]),
        databases=_parse_limited(row["databases"]),
    )


def _parse_limited(entries: Iterable[Sequence[Any]] | None) -> FrozenMap[str, LimitedConnections]:
    """Entries of name, connections (None: none) and CONNECTION LIMIT (below 0 or None: none)."""
    return FrozenMap(
        (str(name), LimitedConnections(int(used or 0), None if limit is None or limit < 0 else int(limit)))
        for name, used, limit in entries or ()
    )


def parse_backup(row: Row) -> BackupProgress:
    """A row of `sql.BACKUPS`."""
    return BackupProgress(
        application_name=str(row["application_name"]),
        phase=str(row["phase"]),
        streamed_bytes=int(row["streamed_bytes"]),
        total_bytes=int(row["total_bytes"]),
    )


def parse_slot(row: Row) -> SlotFacts:
    """A row of `sql.SLOTS` or `sql.SLOT`."""
    inactive = row["inactive_seconds"]
    return SlotFacts(
        name=str(row["name"]),
        is_active=bool(row["is_active"]),
        restart_lsn=parse_lsn(row["restart_lsn"]),
        wal_status=None if row["wal_status"] is None else str(row["wal_status"]),
        has_xmin=bool(row["has_xmin"]),
        inactive_seconds=None if inactive is None else max(0.0, float(inactive)),
    )


def parse_probe(row: Row, *, probed_at: float, answered_at: float) -> ReplicaProbe:
    """A row of `sql.PROBE`; times are monotonic seconds."""
    timeline = row["timeline"]
    return ReplicaProbe(
        probed_at=probed_at,
        answered_at=answered_at,
        server_name=str(row["server_name"]),
        is_in_recovery=bool(row["is_in_recovery"]),
        system_identifier=str(row["system_identifier"]),
        version=int(row["version"]),
        replay_lsn=parse_lsn(row["replay_lsn"]),
        receive_lsn=parse_lsn(row["receive_lsn"]),
        timeline=None if timeline is None else int(timeline),
        is_streaming=bool(row["is_streaming"]),
        is_replay_paused=bool(row["is_replay_paused"]),
        sessions=int(row["sessions"]),
        active_sessions=int(row["active_sessions"]),
        max_connections=int(row["max_connections"]),
        wal_timeline=None if row["wal_timeline"] is None else int(row["wal_timeline"]),
    )


def parse_libraries(row: Row, databases: Iterable[DatabaseLibraries]) -> ServerLibraries:
    """A row of `sql.LIBRARIES`, and what was read in each database."""
    preloaded = row["preloaded"]
    return ServerLibraries(
        server_name=str(row["server_name"]),
        preloaded=None if preloaded is None else str(preloaded),
        available=frozenset((str(name), str(version)) for name, version in row["available"]),
        databases=tuple(databases),
    )


def parse_collation(row: Row) -> CollationFacts:
    """A row of `sql.DATABASES` or `sql.USED_COLLATIONS`."""
    recorded, actual = row["recorded"], row["actual"]
    return CollationFacts(
        name=str(row["name"]),
        provider=str(row["provider"]),
        recorded=None if recorded is None else str(recorded),
        actual=None if actual is None else str(actual),
    )


def parse_lsn(value: object) -> Lsn | None:
    """A pg_lsn as text, or None."""
    return None if value is None else Lsn.parse(str(value))
