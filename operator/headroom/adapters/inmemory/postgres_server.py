"""A PostgreSQL server as a few numbers: WAL position, slots, sessions, roles, and the ways it can fail."""

import asyncio
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from itertools import count

from headroom.adapters.inmemory.postgres_warmup import MemoryCache
from headroom.errors import PrimaryUnavailable, Refused
from headroom.model.database import (
    NEWEST_MAJOR,
    OLDEST_MAJOR,
    BackupProgress,
    ConnectionTarget,
    Credentials,
    LimitedConnections,
    Lsn,
)
from headroom.model.frozen import FrozenMap
from headroom.model.libraries import (
    DEFAULT_COLLATION,
    PRELOAD_PARAMETER,
    CollationFacts,
    DatabaseLibraries,
    ServerLibraries,
)
from headroom.model.waits import CPU, Blocker, WaitSample, describe_statement
from headroom.reasons import Reason

ALL_RIGHTS = frozenset({"pg_monitor", "pg_signal_backend", "pg_use_reserved_connections"})
DEFAULT_SETTINGS = {
    "cluster_name": "",
    "full_page_writes": "on",
    "max_connections": "100",
    "max_locks_per_transaction": "64",
    "max_prepared_transactions": "0",
    "max_replication_slots": "10",
    "max_slot_wal_keep_size": "-1",
    "max_wal_senders": "10",
    "max_worker_processes": "8",
    "shared_preload_libraries": "",
    "superuser_reserved_connections": "3",
    "synchronous_standby_names": "",
    "wal_level": "replica",
}
DEFAULT_LIBRARIES = ServerLibraries(
    server_name="",
    preloaded="",
    available=frozenset({("plpgsql", "1.0"), ("pg_trgm", "1.6")}),
    databases=(
        DatabaseLibraries(
            "store", (CollationFacts(DEFAULT_COLLATION, "c", "2.36", "2.36"),), extensions=(("plpgsql", "1.0"),)
        ),
    ),
)
FIRST_START = datetime(2026, 1, 1, tzinfo=UTC)
START_LSN = 0x3000000
CANARY_BYTES = 128
RESERVED_SINCE = 160_000


_STARTS: Iterator[int] = count()


def start_postmaster() -> datetime:
    """A moment at which no other postmaster was started."""
    return FIRST_START + timedelta(seconds=next(_STARTS))


@dataclass(slots=True)
class MemoryRole:
    """A login and what it may do."""

    password: str
    rights: frozenset[str] = ALL_RIGHTS
    may_replicate: bool = False
    is_superuser: bool = False
    connection_limit: int | None = None


@dataclass(slots=True)
class MemorySession:
    """A client's session; `wait` is its wait event while it runs a statement, `blocker` who has the lock it needs."""

    role: str = "shop"
    state: str = "idle"
    statement: str = ""
    wait: str | None = None
    blocker: "MemorySession | None" = None


@dataclass(slots=True)
class MemorySlot:
    """A physical slot."""

    restart_lsn: Lsn
    is_active: bool = False
    has_xmin: bool = False
    wal_status: str = "reserved"
    inactive_since: float = 0.0
    invalidation: str | None = None


@dataclass(slots=True)
class MemoryServer:
    """One server; change its fields to make things happen.

    A replica has an `upstream`, whose WAL it replays at once unless `is_paused`, and receives unless
    `is_cut_off`. `is_down` refuses connections, `is_hung` lets every call run into its deadline. One with `has_tls`
    refuses plain connections, one that has it False refuses encrypted ones; None takes both. `authority` is what
    verifies its certificate (PEM); None: anything. `questions` counts what guards and sets asked. `forks` are where
    each earlier timeline ended. Of what a replica received, the last `torn_bytes` are half a record, which is never
    replayed. A new slot begins `since_checkpoint` bytes ago. Without `libraries` their statements take too long.
    `transactions` have ended since its statistics began.
    """

    host: str
    port: int = 5432
    database: str = "store"
    system_identifier: str = "7300000000000000001"
    version: int = 170002
    timeline: int = 1
    lsn: int = START_LSN
    upstream: "MemoryServer | None" = None
    roles: dict[str, MemoryRole] = field(default_factory=dict)
    settings: dict[str, str] = field(default_factory=lambda: dict(DEFAULT_SETTINGS))
    slots: dict[str, MemorySlot] = field(default_factory=dict)
    sessions: list[MemorySession] = field(default_factory=list)
    backups: list[BackupProgress] = field(default_factory=list)
    data_bytes: int = 32 * 1024**2
    commit_seconds: float = 0.001
    connection_limit: int | None = None
    wal_senders_used: int = 0
    lock_waiters: int = 0
    transactions: int | None = 0
    is_down: bool = False
    is_hung: bool = False
    is_pooler: bool = False
    is_paused: bool = False
    is_cut_off: bool = False
    torn_bytes: int = 0
    since_checkpoint: int = 0
    has_tls: bool | None = None
    authority: str | None = None
    has_user_tablespaces: bool = False
    libraries: ServerLibraries | None = DEFAULT_LIBRARIES
    starts: int = 0
    started_at: datetime = field(default_factory=start_postmaster)
    questions: Counter[str] = field(default_factory=Counter)
    lock_holder: str | None = None
    forks: list[tuple[int, Lsn]] = field(default_factory=list)
    notified: dict[str, int] = field(default_factory=dict)
    news: asyncio.Event = field(default_factory=asyncio.Event)
    cache: MemoryCache = field(default_factory=MemoryCache)
    _replayed: int = 0
    _received: int = 0

    def count_roles(self) -> FrozenMap[str, LimitedConnections]:
        """Sessions by role, with the limits of roles that have one."""
        used = Counter(session.role for session in self.sessions)
        limits = {name: role.connection_limit for name, role in self.roles.items()}
        names = used.keys() | {name for name, limit in limits.items() if limit is not None}
        return FrozenMap((name, LimitedConnections(used[name], limits.get(name))) for name in sorted(names))

    def read_waits(self, role: str | None, *, is_allowed: bool) -> WaitSample:
        """What the busy sessions of a role wait for; only pg_monitor sees the states of others."""
        busy = [session for session in self.sessions if session.state != "idle" and role in (None, session.role)]
        if not is_allowed:
            return WaitSample()
        events = Counter("Client:ClientRead" if s.state != "active" else s.wait or CPU for s in busy)
        blockers = [session.blocker for session in busy if session.blocker is not None]
        top = max(blockers, key=lambda blocker: sum(blocker is other for other in blockers), default=None)
        if top is None:
            return WaitSample(tuple(sorted(events.items())))
        waiters = sum(top is other for other in blockers)
        blocker = Blocker(describe_statement(top.statement), waiters, is_idle=top.state != "active")
        return WaitSample(tuple(sorted(events.items())), blocker)

    def notify(self, channel: str) -> None:
        """As NOTIFY does: `notified` counts by channel, and whoever waits for `news` looks."""
        self.notified[channel] = self.notified.get(channel, 0) + 1
        self._publish()

    def _publish(self) -> None:
        news, self.news = self.news, asyncio.Event()
        news.set()

    @property
    def address(self) -> tuple[str, int]:
        """Where it is found."""
        return self.host, self.port

    @property
    def is_in_recovery(self) -> bool:
        """True for a replica."""
        return self.upstream is not None

    @property
    def is_streaming(self) -> bool:
        """True while a replica's receiver is connected to a running upstream of the same history."""
        return (
            self.upstream is not None
            and not self.is_cut_off
            and not self.upstream.is_down
            and self.upstream.system_identifier == self.system_identifier
            and self._can_follow(self.upstream)
        )

    def _can_follow(self, upstream: "MemoryServer") -> bool:
        """Whether its own timeline leads to that of the upstream, from where it is."""
        if upstream.timeline <= self.timeline or not upstream.forks:
            return upstream.timeline >= self.timeline
        end = dict(upstream.forks).get(self.timeline)
        return end is not None and end >= self._replayable

    @property
    def _replayable(self) -> int:
        """Where a replica comes to with what it has."""
        return max(self._received - self.torn_bytes, self._replayed)

    def read_libraries(self, role: "MemoryRole") -> ServerLibraries:
        """The libraries as this role may read them."""
        if self.libraries is None:
            message = f"{self.host}:{self.port}: canceling statement due to statement timeout"
            raise PrimaryUnavailable(message, reason=Reason.PRIMARY_TIMEOUT)
        is_allowed = "pg_monitor" in role.rights or role.is_superuser
        preloaded = self.settings[PRELOAD_PARAMETER] if is_allowed else None
        return replace(self.libraries, server_name=self.settings["cluster_name"], preloaded=preloaded)

    def write(self, size: int) -> None:
        """Add WAL to a primary."""
        self.lsn += size

    def replay(self) -> tuple[Lsn, Lsn]:
        """Let a replica receive and replay what it can; returns (received, replayed)."""
        if self.upstream is not None and self.is_streaming:
            if self.timeline != self.upstream.timeline:
                self._received, self.torn_bytes = self._replayable, 0
            self._received = max(self._received, self.upstream.lsn)
            self.timeline = self.upstream.timeline
        if not self.is_paused:
            self._replayed = self._replayable
        return Lsn(self._received), Lsn(self._replayed)

    def promote(self) -> None:
        """End recovery on a new timeline."""
        _, replayed = self.replay()
        self.lsn, self.upstream = int(replayed), None
        self.forks.append((self.timeline, replayed))
        self.timeline += 1

    def restart(self) -> None:
        """Drop all sessions and connections."""
        self.starts += 1
        self.started_at = start_postmaster()
        self.sessions.clear()
        self.cache.usage.clear()
        self.lock_holder = None
        self._publish()

    def log_in(self, target: ConnectionTarget) -> MemoryRole:
        """Check a login as the server does, in its order; raises PrimaryUnavailable."""
        where = f"{self.host}:{self.port}"
        if self.is_down:
            raise PrimaryUnavailable(f"{where}: connection refused", reason=Reason.PRIMARY_UNREACHABLE)
        if self.is_hung:
            message = f"no answer from {where}"
            raise PrimaryUnavailable(message, reason=Reason.PRIMARY_TIMEOUT)
        if self.has_tls is not None and self.has_tls is (target.tls_mode == "disable"):
            message = f"{where} {'requires' if self.has_tls else 'does not support'} SSL"
            raise PrimaryUnavailable(message, reason=Reason.TLS_FAILED)
        is_verified = target.tls_mode.startswith("verify")
        if self.has_tls and is_verified and self.authority is not None and target.ca_pem != self.authority:
            message = f"{where}: the server's certificate is not accepted"
            raise PrimaryUnavailable(message, reason=Reason.TLS_FAILED)
        role = self._authenticate(target.credentials, where)
        if target.database != self.database:
            message = f'{where}: database "{target.database}" does not exist'
            raise PrimaryUnavailable(message, reason=Reason.DATABASE_NOT_FOUND)
        if len(self.sessions) >= self._count_connections(role):
            message = f"{where}: sorry, too many clients already"
            raise PrimaryUnavailable(message, reason=Reason.NO_CONNECTION_LEFT)
        if self.is_pooler:
            raise PrimaryUnavailable(f"{where} is a pooler", reason=Reason.NOT_A_DIRECT_CONNECTION)
        if not OLDEST_MAJOR <= self.version // 10_000 <= NEWEST_MAJOR:
            major = self.version // 10_000
            message = f"{where} runs PostgreSQL {major}; {OLDEST_MAJOR} to {NEWEST_MAJOR} are supported"
            raise PrimaryUnavailable(message, reason=Reason.UNSUPPORTED_VERSION)
        return role

    def _authenticate(self, credentials: Credentials, where: str) -> MemoryRole:
        role = self.roles.get(credentials.username)
        if role is None or role.password != credentials.password:
            message = f'{where}: password authentication failed for user "{credentials.username}"'
            raise PrimaryUnavailable(message, reason=Reason.PASSWORD_REJECTED)
        return role

    @property
    def usable_connections(self) -> int:
        """Connections that ordinary roles may hold."""
        reserved = int(self.settings.get("reserved_connections", "0")) if self.version >= RESERVED_SINCE else 0
        kept = int(self.settings["superuser_reserved_connections"]) + reserved
        return int(self.settings["max_connections"]) - kept

    def _count_connections(self, role: MemoryRole) -> int:
        """Connections until this role gets no more."""
        if self.version < RESERVED_SINCE or "pg_use_reserved_connections" not in role.rights:
            return self.usable_connections
        return self.usable_connections + int(self.settings.get("reserved_connections", "0"))

    def create_slot(self, name: str, role: MemoryRole, now: float, *, copied_from: str = "") -> MemorySlot:
        """Reserve WAL under a name unless that is done; raises Refused or PrimaryUnavailable."""
        if not role.may_replicate:
            raise Refused("permission denied to use replication slots", reason=Reason.MISSING_RIGHT)
        if name not in self.slots:
            if len(self.slots) >= int(self.settings["max_replication_slots"]):
                raise PrimaryUnavailable("all replication slots are in use", reason=Reason.SLOTS_EXHAUSTED)
            source = self.slots.get(copied_from)
            if copied_from and (source is None or source.wal_status == "lost"):
                raise PrimaryUnavailable(f"slot {copied_from} is gone, or keeps no WAL", reason=Reason.SLOT_LOST)
            begin = source.restart_lsn if source is not None else Lsn(self.lsn - self.since_checkpoint)
            self.slots[name] = MemorySlot(begin, inactive_since=now)
        return self.slots[name]
