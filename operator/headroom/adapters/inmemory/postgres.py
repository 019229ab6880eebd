"""PostgreSQL in memory: opens the links of `ports.postgres` over `MemoryServer`s."""

from dataclasses import dataclass, field, replace

from headroom.adapters.inmemory.postgres_links import MemoryQueue, MemoryReplica, MemorySlots
from headroom.adapters.inmemory.postgres_primary import MemoryPrimary
from headroom.adapters.inmemory.postgres_server import MemoryServer
from headroom.adapters.inmemory.postgres_session import MemoryLinkSession, MemoryWorld
from headroom.adapters.inmemory.postgres_warmup import MemoryWarmup
from headroom.errors import PrimaryUnavailable
from headroom.model.database import ConnectionTarget, Credentials
from headroom.ports.postgres import PrimaryLink, QueueLink, ReplicaLink, SlotLink, WarmupLink
from headroom.reasons import Reason


@dataclass(slots=True)
class MemoryPostgres(MemoryWorld):
    """Implements `Postgres`; `opened` lists the links that were asked for."""

    opened: list[str] = field(default_factory=list)
    authorities: str | None = None

    def read_system_authorities(self) -> str | None:
        """See `Postgres.read_system_authorities`."""
        return self.authorities

    def add(self, server: MemoryServer) -> MemoryServer:
        """Make a server known under its address."""
        self.servers[server.address] = server
        return server

    async def open_primary(self, target: ConnectionTarget, *, is_observer: bool = False) -> PrimaryLink:
        """See `Postgres.open_primary`."""
        session = self._session("observer" if is_observer else "primary", target)
        server = session.use()
        if server.is_in_recovery:
            raise PrimaryUnavailable(f"{target.host} is in recovery", reason=Reason.NOT_A_PRIMARY)
        link = MemoryPrimary(session)
        if not is_observer:
            await link.take_over()
        return link

    async def open_slots(self, target: ConnectionTarget, replication: Credentials) -> SlotLink:
        """See `Postgres.open_slots`."""
        session = self._session("slots", replace(target, credentials=replication))
        session.use()
        return MemorySlots(session)

    async def open_replica(self, target: ConnectionTarget) -> ReplicaLink:
        """See `Postgres.open_replica`."""
        session = self._session("member", target)
        session.use()
        return MemoryReplica(session)

    async def open_warmup(self, target: ConnectionTarget) -> WarmupLink:
        """See `Postgres.open_warmup`."""
        session = self._session("warmup", target)
        session.use()
        return MemoryWarmup(session)

    async def open_queue(self, target: ConnectionTarget) -> QueueLink:
        """See `Postgres.open_queue`."""
        session = self._session("queue", target)
        session.use()
        return MemoryQueue(session)

    def _session(self, role: str, target: ConnectionTarget) -> "MemoryLinkSession":
        self.opened.append(role)
        return MemoryLinkSession(self, target)
