"""Rows as the facts they stand for; the one place where column names of `sql` are read."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any

from headroom.adapters.postgres.sql import MOST_LIMITED, RIGHTS, SETTINGS
from headroom.adapters.postgres.values import (
    read_entries,
    read_number,
    read_optional_text,
    read_optional_whole,
    read_text,
    read_whole,
)
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
MOST_SETTING = 2000
"""Characters of a parameter: a list of libraries or standbys has some 100."""
MOST_QUALIFIED = 130
"""Characters of a name with its schema, quoted."""
MOST_LSN = 17
MOST_AVAILABLE = 3000
"""Versions of extensions in an image: some 100 in the usual ones, a thousand in those that have all."""


def parse_server(row: Row, address: str) -> ServerFacts:
    """A row of `sql.IDENTIFY`, and where it came from."""
    return ServerFacts(
        system_identifier=read_text(row["system_identifier"]),
        version=read_whole(row["version"]),
        is_in_recovery=bool(row["is_in_recovery"]),
        timeline=read_whole(row["timeline"]),
        flush_lsn=parse_lsn(row["flush_lsn"]),
        settings=FrozenMap(_pick_settings(row["settings"] or {})),
        wal_senders_used=read_whole(row["wal_senders_used"]),
        slots_used=read_whole(row["slots_used"]),
        is_direct=True,
        missing_rights=tuple(read_text(name) for name in read_entries(row["missing_rights"], len(RIGHTS))),
        has_user_tablespaces=bool(row["has_user_tablespaces"]),
        is_superuser=bool(row["is_superuser"]),
        has_installation_lock=False,
        started_at=read_time(row["started_at"]),
        address=address,
    )


def with_lock(facts: ServerFacts, *, is_held: bool) -> ServerFacts:
    """The facts together with whether the installation's lock is ours."""
    return replace(facts, has_installation_lock=is_held)


def parse_mark(row: Row, *, taken_at: float, commit_seconds: float | None) -> Mark:
    """A row of `sql.POSITION`; times are monotonic seconds."""
    return Mark(
        taken_at=taken_at,
        lsn=Lsn.parse(read_text(row["lsn"], MOST_LSN)),
        commit_seconds=commit_seconds,
        timeline=read_whole(row["timeline"]),
        system_identifier=read_text(row["system_identifier"]),
    )


def parse_connections(row: Row) -> ConnectionCounts:
    """A row of `sql.CONNECTIONS`."""
    return ConnectionCounts(
        used=read_whole(row["used"]),
        active=read_whole(row["active"]),
        idle_in_transaction=read_whole(row["idle_in_transaction"]),
        limit=read_whole(row["usable"]),
        lock_waiters=read_whole(row["lock_waiters"]),
        oldest_transaction_seconds=max(0.0, read_number(row["oldest_transaction_seconds"])),
        roles=_parse_limited(row["roles"]),
        databases=_parse_limited(row["databases"]),
    )


def _parse_limited(entries: object) -> FrozenMap[str, LimitedConnections]:
    """Entries of name, connections (None: none) and CONNECTION LIMIT (below 0 or None: none)."""
    return FrozenMap(
        (read_text(name), LimitedConnections(read_whole(used or 0), None if limit is None or limit < 0 else limit))
        for name, used, limit in (
            (name, used, read_optional_whole(limit)) for name, used, limit in read_entries(entries, MOST_LIMITED)
        )
    )


def parse_backup(row: Row) -> BackupProgress:
    """A row of `sql.BACKUPS`."""
    return BackupProgress(
        application_name=read_text(row["application_name"]),
        phase=read_text(row["phase"]),
        streamed_bytes=read_whole(row["streamed_bytes"]),
        total_bytes=read_whole(row["total_bytes"]),
    )


def parse_slot(row: Row) -> SlotFacts:
    """A row of `sql.SLOTS` or `sql.SLOT`."""
    inactive = row["inactive_seconds"]
    return SlotFacts(
        name=read_text(row["name"]),
        is_active=bool(row["is_active"]),
        restart_lsn=parse_lsn(row["restart_lsn"]),
        wal_status=read_optional_text(row["wal_status"]),
        has_xmin=bool(row["has_xmin"]),
        inactive_seconds=None if inactive is None else max(0.0, read_number(inactive)),
        invalidation=read_optional_text(row["invalidation"]),
    )


def parse_probe(row: Row, *, probed_at: float, answered_at: float) -> ReplicaProbe:
    """A row of `sql.PROBE`; times are monotonic seconds."""
    return ReplicaProbe(
        probed_at=probed_at,
        answered_at=answered_at,
        server_name=read_text(row["server_name"]),
        is_in_recovery=bool(row["is_in_recovery"]),
        system_identifier=read_text(row["system_identifier"]),
        version=read_whole(row["version"]),
        replay_lsn=parse_lsn(row["replay_lsn"]),
        receive_lsn=parse_lsn(row["receive_lsn"]),
        timeline=read_optional_whole(row["timeline"]),
        is_streaming=bool(row["is_streaming"]),
        is_replay_paused=bool(row["is_replay_paused"]),
        sessions=read_whole(row["sessions"]),
        active_sessions=read_whole(row["active_sessions"]),
        max_connections=read_whole(row["max_connections"]),
        wal_timeline=read_optional_whole(row["wal_timeline"]),
        transactions=read_optional_whole(row["transactions"]),
    )


def parse_libraries(row: Row, databases: Iterable[DatabaseLibraries]) -> ServerLibraries:
    """A row of `sql.LIBRARIES`, and what was read in each database."""
    return ServerLibraries(
        server_name=read_text(row["server_name"]),
        preloaded=read_optional_text(row["preloaded"], MOST_SETTING),
        available=frozenset(
            (read_text(name), read_text(version)) for name, version in read_entries(row["available"], MOST_AVAILABLE)
        ),
        databases=tuple(databases),
    )


def parse_collation(row: Row) -> CollationFacts:
    """A row of `sql.DATABASES` or `sql.USED_COLLATIONS`."""
    return CollationFacts(
        name=read_text(row["name"], MOST_QUALIFIED),
        provider=read_text(row["provider"], 1),
        recorded=read_optional_text(row["recorded"]),
        actual=read_optional_text(row["actual"]),
    )


def parse_lsn(value: object) -> Lsn | None:
    """A pg_lsn as text, or None."""
    return None if value is None else Lsn.parse(read_text(value, MOST_LSN))


def read_time(value: object) -> datetime:
    """A point in time; raises TypeError for anything else."""
    if not isinstance(value, datetime):
        raise TypeError(f"{type(value).__name__} where a time should be")
    return value


def _pick_settings(found: Mapping[str, Any]) -> Iterable[tuple[str, str]]:
    """Those that were asked for, whatever else came."""
    return ((name, read_text(found[name], MOST_SETTING)) for name in SETTINGS if found.get(name) is not None)
