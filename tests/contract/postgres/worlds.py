"""Two worlds with one face: PostgreSQL in memory, and real servers. The contract is written against the face."""

import time
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from typing import Any

import psycopg

from headroom.adapters.clock import SystemClock
from headroom.adapters.inmemory.clock import MemoryClock
from headroom.adapters.inmemory.postgres import MemoryPostgres
from headroom.adapters.inmemory.postgres_server import DEFAULT_LIBRARIES, MemoryRole, MemoryServer, MemorySession
from headroom.adapters.inmemory.postgres_warmup import READS_ALL
from headroom.adapters.postgres import PsycopgPostgres, SessionNames
from headroom.errors import NotLeading
from headroom.model.database import ConnectionTarget, Credentials
from headroom.model.libraries import DEFAULT_COLLATION, CollationFacts, DatabaseLibraries
from headroom.ports.postgres import Postgres, PrimaryLink, QueueLink, ReplicaLink, SlotLink, WarmupLink
from tests.postgres_server import APPLICATION, DATABASE, MONITOR, REPLICATION, WARMUP, Server, ServerMaker, local_dialer

CLOSED_DATABASE = "closed"
REPLICA_NAME = "store-0-a"
"""The replica's cluster_name."""
HOT_BLOCKS = 300


@dataclass
class SwitchFence:
    """A fence that can be shut."""

    is_leading: bool = True

    def check(self, timeout_seconds: float) -> None:
        assert timeout_seconds <= 3.0, "a mutating call must be over within the lease"
        if not self.is_leading:
            raise NotLeading("the lease is lost")


@dataclass
class TrackedPostgres:
    """The adapter under test; remembers what it opened, so that a test that fails leaves nothing open."""

    inner: Postgres
    links: list[Any]

    def read_system_authorities(self) -> str | None:
        return self.inner.read_system_authorities()

    async def open_primary(self, target: ConnectionTarget, *, is_observer: bool = False) -> PrimaryLink:
        return self._keep(await self.inner.open_primary(target, is_observer=is_observer))

    async def open_slots(self, target: ConnectionTarget, replication: Credentials) -> SlotLink:
        return self._keep(await self.inner.open_slots(target, replication))

    async def open_replica(self, target: ConnectionTarget) -> ReplicaLink:
        return self._keep(await self.inner.open_replica(target))

    async def open_warmup(self, target: ConnectionTarget) -> WarmupLink:
        return self._keep(await self.inner.open_warmup(target))

    async def open_queue(self, target: ConnectionTarget) -> QueueLink:
        return self._keep(await self.inner.open_queue(target))

    def _keep(self, link: Any) -> Any:
        self.links.append(link)
        return link


class World(ABC):
    """A primary with one replica, the adapter under test, and the means to disturb them."""

    postgres: Postgres
    fence: SwitchFence
    links: list[Any]

    def track(self, postgres: Postgres) -> Postgres:
        return TrackedPostgres(postgres, self.links)

    async def close_links(self) -> None:
        for link in self.links:
            await link.close()

    @abstractmethod
    def target(self, credentials: Credentials = MONITOR, **changes: Any) -> ConnectionTarget: ...

    @abstractmethod
    def replica_target(self, credentials: Credentials = MONITOR) -> ConnectionTarget: ...

    @abstractmethod
    def other_process(self) -> Postgres:
        """The adapter as another replica of the same operator has it."""

    @abstractmethod
    def now(self) -> float: ...

    @abstractmethod
    def write(self) -> None:
        """Add some WAL."""

    @abstractmethod
    def notify(self, channel: str) -> None:
        """Notify as an application does."""

    @abstractmethod
    def pause_replay(self, *, is_paused: bool) -> None: ...

    @abstractmethod
    def promote(self) -> None: ...

    @abstractmethod
    def cut_off(self) -> None:
        """End replication for good."""

    @abstractmethod
    def open_session(self, *, on_replica: bool, state: str = "idle", is_superuser: bool = False) -> Callable[[], bool]:
        """A client's session; the returned function tells whether it still lives."""

    @abstractmethod
    def hold_row(self, note: str, *, waiters: int) -> None:
        """A session updates a row and leaves its transaction open; others want to update it too."""

    @abstractmethod
    def use_slot(self, name: str) -> None:
        """Let something stream from the slot."""

    @abstractmethod
    def stop(self) -> None: ...

    @abstractmethod
    def start(self) -> None: ...

    @abstractmethod
    def revoke(self, right: str) -> None: ...

    @abstractmethod
    def fill_connections(self) -> None: ...

    @abstractmethod
    def limit_connections(self, *, role: int | None, database: int | None) -> None:
        """CONNECTION LIMITs of the application's role and of the database; None takes one away."""

    @abstractmethod
    def need_libraries(self) -> None:
        """An extension (pg_trgm), an index in the ICU collation public.german, and a database that shuts us out."""

    @abstractmethod
    def allow_warmup(self) -> None:
        """The login for caches and its extensions, as headroom-setup.sql makes them."""

    @abstractmethod
    def heat(self) -> tuple[int, int]:
        """A relation of HOT_BLOCKS blocks, all of them often read on the replica: its oid and its file."""

    @abstractmethod
    def restart_replica(self) -> None:
        """Its cache is empty afterwards."""

    @abstractmethod
    def lock_relation(self) -> None:
        """Somebody keeps the hot relation from all others, on the replica too."""

    @abstractmethod
    def rewrite_relation(self) -> None:
        """The hot relation gets another file."""

    @abstractmethod
    def drop_extension(self, name: str) -> None: ...

    @abstractmethod
    def revoke_reading(self) -> None:
        """The login for caches may read nothing any more."""

    async def eventually(self, look: Callable[[], Awaitable[bool]]) -> None:
        """Wait for something the other side does in its own time."""
        end = time.monotonic() + 10
        while not await look():
            assert time.monotonic() < end, "it did not happen within 10 s"
            await SystemClock().sleep(0.02)


@dataclass
class MemoryContractWorld(World):
    """In memory."""

    fence: SwitchFence = field(default_factory=SwitchFence)
    clock: MemoryClock = field(default_factory=MemoryClock)
    links: list[Any] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.memory = MemoryPostgres(self.clock, self.fence)
        self.postgres = self.track(self.memory)
        roles = {
            MONITOR.username: MemoryRole(MONITOR.password),
            REPLICATION.username: MemoryRole(REPLICATION.password, frozenset(), may_replicate=True),
            APPLICATION.username: MemoryRole(APPLICATION.password, frozenset()),
            "postgres": MemoryRole("", is_superuser=True),
        }
        self.primary = self.memory.add(MemoryServer("primary", database=DATABASE, roles=roles, commit_seconds=0))
        self.replica = self.memory.add(MemoryServer("replica", database=DATABASE, roles=roles, upstream=self.primary))
        self.replica.settings["cluster_name"] = REPLICA_NAME

    def target(self, credentials: Credentials = MONITOR, **changes: Any) -> ConnectionTarget:
        return ConnectionTarget(
            **{"host": "primary", "port": 5432, "database": DATABASE, **changes}, credentials=credentials
        )

    def replica_target(self, credentials: Credentials = MONITOR) -> ConnectionTarget:
        return self.target(credentials, host="replica")

    def other_process(self) -> Postgres:
        return self.track(MemoryPostgres(self.clock, self.fence, holder="headroom-2", servers=self.memory.servers))

    def now(self) -> float:
        return self.clock.monotonic()

    def write(self) -> None:
        self.primary.write(8192)

    def notify(self, channel: str) -> None:
        self.primary.notify(channel)

    def pause_replay(self, *, is_paused: bool) -> None:
        self.replica.is_paused = is_paused

    def promote(self) -> None:
        self.replica.promote()

    def cut_off(self) -> None:
        self.replica.is_cut_off = True

    def open_session(self, *, on_replica: bool, state: str = "idle", is_superuser: bool = False) -> Callable[[], bool]:
        server = self.replica if on_replica else self.primary
        session = MemorySession("postgres" if is_superuser else APPLICATION.username, state)
        server.sessions.append(session)
        return lambda: any(session is other for other in server.sessions)

    def hold_row(self, note: str, *, waiters: int) -> None:
        statement = f"UPDATE accounts SET note = '{note}' WHERE id = 1"
        holder = MemorySession(APPLICATION.username, "idle in transaction", statement)
        waiting = MemorySession(APPLICATION.username, "active", statement, "Lock:transactionid", holder)
        self.primary.sessions += [holder, *(replace(waiting) for _ in range(waiters))]

    def use_slot(self, name: str) -> None:
        self.primary.slots[name].is_active = True

    def stop(self) -> None:
        self.primary.is_down = True
        self.primary.restart()

    def start(self) -> None:
        self.primary.is_down = False

    def revoke(self, right: str) -> None:
        role = self.primary.roles[MONITOR.username]
        role.rights -= {right}

    def limit_connections(self, *, role: int | None, database: int | None) -> None:
        self.primary.roles[APPLICATION.username].connection_limit = role
        self.primary.connection_limit = database

    def fill_connections(self) -> None:
        self.primary.sessions += [MemorySession() for _ in range(self.primary.usable_connections)]

    def need_libraries(self) -> None:
        german = CollationFacts("public.german", "i", "153.120", "153.120")
        default = CollationFacts(DEFAULT_COLLATION, "c", None, None)
        extensions = (("pg_trgm", "1.6"), ("plpgsql", "1.0"))
        refusal = f'permission denied for database "{CLOSED_DATABASE}"'
        databases = (
            DatabaseLibraries(CLOSED_DATABASE, (default,), unread=refusal),
            DatabaseLibraries(DATABASE, (default, german), extensions),
        )
        for server in (self.primary, self.replica):
            server.libraries = replace(DEFAULT_LIBRARIES, databases=databases)

    def allow_warmup(self) -> None:
        self.primary.roles[WARMUP.username] = MemoryRole(WARMUP.password, frozenset({READS_ALL}))

    def heat(self) -> tuple[int, int]:
        self.replica.cache.sizes[16_400, 16_400] = HOT_BLOCKS
        for _ in range(3):
            self.replica.cache.read(16_400, 0, HOT_BLOCKS - 1)
        return 16_400, 16_400

    def restart_replica(self) -> None:
        self.replica.restart()

    def lock_relation(self) -> None:
        self.replica.cache.locked.add(16_400)

    def rewrite_relation(self) -> None:
        self.replica.cache.sizes = {(16_400, 16_500): HOT_BLOCKS}

    def drop_extension(self, name: str) -> None:
        self.replica.cache.extensions.remove(name)

    def revoke_reading(self) -> None:
        self.replica.roles[WARMUP.username].rights = frozenset()


@dataclass
class RealContractWorld(World):
    """Real servers of one major version."""

    servers: ServerMaker
    fence: SwitchFence = field(default_factory=SwitchFence)
    links: list[Any] = field(default_factory=list)
    _clients: list[Any] = field(default_factory=list)
    _receivers: list[Any] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.clock = SystemClock()
        self.postgres = self._adapter("one")
        self.primary: Server = self.servers.make()
        self._replica: Server | None = None

    @property
    def replica(self) -> Server:
        if self._replica is None:
            self._replica = self.servers.make_replica(self.primary, settings={"cluster_name": REPLICA_NAME})
        return self._replica

    def _adapter(self, holder: str) -> Postgres:
        return self.track(PsycopgPostgres(SessionNames("lease", holder), self.fence, self.clock, dialer=local_dialer()))

    def target(self, credentials: Credentials = MONITOR, **changes: Any) -> ConnectionTarget:
        return self.primary.target(credentials, **changes)

    def replica_target(self, credentials: Credentials = MONITOR) -> ConnectionTarget:
        return self.replica.target(credentials)

    def other_process(self) -> Postgres:
        return self._adapter("two")

    def now(self) -> float:
        return self.clock.monotonic()

    def write(self) -> None:
        self.primary.sql("SELECT pg_logical_emit_message(true, 'test', repeat('x', 8000))")

    def notify(self, channel: str) -> None:
        self.primary.sql("SELECT pg_notify(%s, clock_timestamp()::text)", [channel])

    def pause_replay(self, *, is_paused: bool) -> None:
        self.replica.sql("SELECT pg_wal_replay_pause()" if is_paused else "SELECT pg_wal_replay_resume()")
        wanted = "paused" if is_paused else "not paused"
        end = time.monotonic() + 10
        while self.replica.sql("SELECT pg_get_wal_replay_pause_state() AS state")[0]["state"] != wanted:
            # A pause takes effect at the next record, which an idle primary does not send.
            self.write()
            assert time.monotonic() < end
            time.sleep(0.02)

    def promote(self) -> None:
        self.replica.sql("SELECT pg_promote()")

    def cut_off(self) -> None:
        self.replica.sql("ALTER SYSTEM SET primary_conninfo = 'host=127.0.0.1 port=1'")
        self.replica.sql("SELECT pg_reload_conf()")

    def open_session(self, *, on_replica: bool, state: str = "idle", is_superuser: bool = False) -> Callable[[], bool]:
        server = self.replica if on_replica else self.primary
        user = ("postgres", "") if is_superuser else (APPLICATION.username, APPLICATION.password)
        client = server.connect(*user)
        self._clients.append(client)
        pid = client.info.backend_pid
        client.execute("SELECT 1")
        if state == "active":
            client.pgconn.send_query(b"SELECT pg_sleep(60)")
        elif state == "idle in transaction":
            client.execute("BEGIN")
        return lambda: bool(server.sql("SELECT 1 FROM pg_stat_activity WHERE pid = %s", [pid]))

    def hold_row(self, note: str, *, waiters: int) -> None:
        self.primary.sql("CREATE TABLE accounts (id int PRIMARY KEY, note text)")
        self.primary.sql("INSERT INTO accounts VALUES (1, '')")
        self.primary.sql(f"GRANT ALL ON accounts TO {APPLICATION.username}")
        statement = f"UPDATE accounts SET note = '{note}' WHERE id = 1"
        for index in range(waiters + 1):
            client = self.primary.connect(APPLICATION.username, APPLICATION.password)
            self._clients.append(client)
            client.execute("BEGIN")
            if index == 0:
                client.execute(statement)
            else:
                client.pgconn.send_query(statement.encode())

    def use_slot(self, name: str) -> None:
        conninfo = (
            f"host=127.0.0.1 port={self.primary.port} user={REPLICATION.username} password={REPLICATION.password}"
        )
        folder = self.primary.folder / "received"
        folder.mkdir()
        folder.chmod(0o777)
        receiver = self.servers.spawn(self.primary, "pg_receivewal", "-d", conninfo, "-S", name, "-D", str(folder))
        self._receivers.append(receiver)
        end = time.monotonic() + 10
        while not self.primary.sql("SELECT active FROM pg_replication_slots WHERE slot_name = %s", [name])[0]["active"]:
            assert time.monotonic() < end, "the receiver did not connect"
            time.sleep(0.02)

    def stop(self) -> None:
        self.primary.stop()

    def start(self) -> None:
        self.primary.start()

    def revoke(self, right: str) -> None:
        self.primary.sql(f'REVOKE {right} FROM "{MONITOR.username}"')
        if self._replica is not None:
            self._replica.wait_for_replay(self.primary)

    def limit_connections(self, *, role: int | None, database: int | None) -> None:
        limits = {f"ROLE {APPLICATION.username}": role, f"DATABASE {DATABASE}": database}
        for owner, limit in limits.items():
            self.primary.sql(f"ALTER {owner} CONNECTION LIMIT {-1 if limit is None else limit}")

    def fill_connections(self) -> None:
        while True:
            try:
                self._clients.append(self.primary.connect(APPLICATION.username, APPLICATION.password))
            except psycopg.OperationalError:
                return

    def need_libraries(self) -> None:
        self.primary.sql("CREATE EXTENSION pg_trgm")
        self.primary.sql("CREATE COLLATION german (provider = icu, locale = 'de')")
        self.primary.sql("CREATE COLLATION unused (provider = icu, locale = 'fr')")
        self.primary.sql("CREATE TABLE names (name text COLLATE german PRIMARY KEY)")
        self.primary.sql(f"CREATE DATABASE {CLOSED_DATABASE}")
        self.primary.sql(f"REVOKE CONNECT ON DATABASE {CLOSED_DATABASE} FROM PUBLIC")
        self.replica.wait_for_replay(self.primary)

    def allow_warmup(self) -> None:
        self.primary.run_setup_script(warmup="1")

    def heat(self) -> tuple[int, int]:
        self.primary.sql("CREATE TABLE hot (id int, filler text) WITH (fillfactor = 10)")  # one row a block
        rows = "SELECT number, repeat('x', 600) FROM generate_series(1, %s) AS number"
        self.primary.sql(f"INSERT INTO hot {rows}", [HOT_BLOCKS])
        self.replica.wait_for_replay(self.primary)
        for _ in range(3):
            self.replica.sql("SELECT sum(length(filler)) FROM hot")
        [row] = self.replica.sql("SELECT 'hot'::regclass::oid::int AS oid, pg_relation_filenode('hot')::int AS file")
        return row["oid"], row["file"]

    def restart_replica(self) -> None:
        self.replica.restart()

    def lock_relation(self) -> None:
        client = self.primary.connect()
        self._clients.append(client)
        client.execute("BEGIN")
        client.execute("LOCK TABLE hot IN ACCESS EXCLUSIVE MODE")
        # Replay takes the lock with the next record that the primary flushes.
        self.write()
        self.replica.wait_for_replay(self.primary)

    def rewrite_relation(self) -> None:
        self.primary.sql("VACUUM FULL hot")
        self.replica.wait_for_replay(self.primary)

    def drop_extension(self, name: str) -> None:
        self.primary.sql(f"DROP EXTENSION {name}")
        self.replica.wait_for_replay(self.primary)

    def revoke_reading(self) -> None:
        self.primary.sql(f"REVOKE pg_read_all_data FROM {WARMUP.username}")
        self.replica.wait_for_replay(self.primary)

    def close(self) -> None:
        """End what the test's own clients hold."""
        for client in self._clients:
            client.pgconn.finish()
        for receiver in self._receivers:
            receiver.kill()
            receiver.wait(10)
