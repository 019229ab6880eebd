"""The link to a primary in memory."""

from collections.abc import Sequence
from dataclasses import dataclass

from headroom.adapters.inmemory.postgres_server import CANARY_BYTES, MemoryServer
from headroom.adapters.inmemory.postgres_session import MemoryLinkSession, slot_facts
from headroom.errors import PrimaryUnavailable
from headroom.model.database import (
    BackupProgress,
    ConnectionCounts,
    LimitedConnections,
    Lsn,
    Mark,
    ServerFacts,
    SlotFacts,
)
from headroom.model.frozen import FrozenMap
from headroom.model.libraries import ServerLibraries
from headroom.model.waits import WaitSample
from headroom.reasons import Reason


@dataclass(slots=True)
class MemoryPrimary:
    """Implements `PrimaryLink`."""

    session: MemoryLinkSession
    is_observer: bool = True

    async def take_over(self) -> bool:
        """See `PrimaryLink.take_over`."""
        self.session.world.take_overs += 1
        self.is_observer = False
        return self._take_lock(self.session.use())

    async def step_down(self) -> None:
        """See `PrimaryLink.step_down`; the lock stays with the process while another link of it holds it."""
        self.is_observer = True

    def _take_lock(self, server: MemoryServer) -> bool:
        """Hold the installation's lock unless another process does; an observer only looks."""
        if server.lock_holder is None and not self.is_observer:
            server.lock_holder = self.session.world.holder
        return server.lock_holder == self.session.world.holder

    async def identify(self) -> ServerFacts:
        """See `PrimaryLink.identify`."""
        server = self.session.use()
        server.questions["identify"] += 1
        role = self.session.login()
        known = ("pg_monitor", "pg_signal_backend")
        rights = (*known, "pg_use_reserved_connections") if server.version >= 160_000 else known
        return ServerFacts(
            system_identifier=server.system_identifier,
            version=server.version,
            is_in_recovery=server.is_in_recovery,
            timeline=server.timeline,
            flush_lsn=None if server.is_in_recovery else Lsn(server.lsn),
            settings=FrozenMap(server.settings),
            wal_senders_used=server.wal_senders_used,
            slots_used=len(server.slots),
            is_direct=True,
            missing_rights=() if role.is_superuser else tuple(right for right in rights if right not in role.rights),
            has_user_tablespaces=server.has_user_tablespaces,
            is_superuser=role.is_superuser,
            has_installation_lock=not server.is_in_recovery and self._take_lock(server),
            started_at=server.started_at,
            address=f"{server.host}:{server.port}",
        )

    async def mark(self) -> Mark:
        """See `PrimaryLink.mark`; the commit takes `commit_seconds` of the clock."""
        server = self._writable()
        clock = self.session.world.clock
        before = clock.monotonic()
        server.write(CANARY_BYTES)
        await clock.sleep(server.commit_seconds)
        self._writable()
        return self._mark(server, commit_seconds=clock.monotonic() - before)

    async def position(self) -> Mark:
        """See `PrimaryLink.position`."""
        return self._mark(self._writable(), commit_seconds=None)

    def _writable(self) -> MemoryServer:
        server = self.session.use()
        if server.is_in_recovery:
            raise PrimaryUnavailable("recovery is in progress", reason=Reason.NOT_A_PRIMARY)
        return server

    def _mark(self, server: MemoryServer, *, commit_seconds: float | None) -> Mark:
        return Mark(
            taken_at=self.session.world.clock.monotonic(),
            lsn=Lsn(server.lsn),
            commit_seconds=commit_seconds,
            timeline=server.timeline,
            system_identifier=server.system_identifier,
        )

    async def connections(self) -> ConnectionCounts:
        """See `PrimaryLink.connections`."""
        server = self.session.use()
        server.questions["connections"] += 1
        states = [session.state for session in server.sessions]
        return ConnectionCounts(
            used=len(states),
            active=states.count("active"),
            idle_in_transaction=states.count("idle in transaction"),
            limit=server.usable_connections,
            lock_waiters=server.lock_waiters,
            oldest_transaction_seconds=0.0,
            roles=server.count_roles(),
            databases=FrozenMap({server.database: LimitedConnections(len(states), server.connection_limit)}),
        )

    async def backups(self) -> Sequence[BackupProgress]:
        """See `PrimaryLink.backups`."""
        return list(self.session.use().backups)

    async def data_bytes(self) -> int:
        """See `PrimaryLink.data_bytes`."""
        server = self.session.use()
        server.questions["data_bytes"] += 1
        return server.data_bytes

    async def slots(self, prefix: str) -> Sequence[SlotFacts]:
        """See `PrimaryLink.slots`."""
        server, now = self.session.use(), self.session.world.clock.monotonic()
        return [slot_facts(name, slot, now) for name, slot in sorted(server.slots.items()) if name.startswith(prefix)]

    async def libraries(self) -> ServerLibraries:
        """See `PrimaryLink.libraries`."""
        server = self.session.use()
        server.questions["libraries"] += 1
        return server.read_libraries(self.session.login())

    async def waits(self, role: str | None) -> WaitSample:
        """See `PrimaryLink.waits`."""
        server, login = self.session.use(), self.session.login()
        server.questions["waits"] += 1
        return server.read_waits(role, is_allowed="pg_monitor" in login.rights or login.is_superuser)

    async def close(self) -> None:
        """See `PrimaryLink.close`."""
        server = self.session.world.servers.get((self.session.target.host, self.session.target.port))
        if server is not None and not self.is_observer and server.lock_holder == self.session.world.holder:
            server.lock_holder = None
        self.session.close()
