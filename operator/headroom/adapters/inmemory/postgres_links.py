"""The links to slots, replicas and queues in memory."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from headroom.adapters.inmemory.postgres_listener import MemoryListener
from headroom.adapters.inmemory.postgres_server import MemoryServer
from headroom.adapters.inmemory.postgres_session import MemoryLinkSession, slot_facts
from headroom.errors import PrimaryUnavailable, Refused
from headroom.model.database import BackupProgress, ReplicaProbe, SlotFacts
from headroom.model.libraries import ServerLibraries
from headroom.model.timelines import FIRST_TIMELINE, TimelineHistory
from headroom.ports.postgres import QueueListener
from headroom.ports.signals import QueueTables
from headroom.reasons import Reason

MAX_QUEUE_ROWS = 2


@dataclass(slots=True)
class MemorySlots:
    """Implements `SlotLink`."""

    session: MemoryLinkSession

    async def check_replication(self) -> str:
        """See `SlotLink.check_replication`."""
        server = self.session.use()
        if not self.session.login().may_replicate:
            user = self.session.target.credentials.username
            message = f'run: ALTER ROLE "{user}" REPLICATION'
            raise PrimaryUnavailable(message, reason=Reason.REPLICATION_LOGIN_FAILED)
        return server.system_identifier

    async def read_history(self, system_identifier: str, timeline: int) -> TimelineHistory:
        """See `SlotLink.read_history`."""
        server = self.session.use()
        if (server.system_identifier, server.timeline) != (system_identifier, timeline):
            message = f"system {server.system_identifier} answers on timeline {server.timeline}"
            raise PrimaryUnavailable(message, reason=Reason.PRIMARY_REPLACED)
        server.questions["history"] += 1
        if timeline > FIRST_TIMELINE and not server.forks:
            raise PrimaryUnavailable(f"there is no history of timeline {timeline}", reason=Reason.QUERY_FAILED)
        return TimelineHistory(timeline, tuple(server.forks))

    async def ensure_slot(self, name: str, *, copied_from: str = "") -> SlotFacts:
        """See `SlotLink.ensure_slot`."""
        world = self.session.world
        world.fence.check(3.0)
        now = world.clock.monotonic()
        slot = self.session.use().create_slot(name, self.session.login(), now, copied_from=copied_from)
        world.on_write(f"create slot {name}")
        return slot_facts(name, slot, now)

    async def touch_slot(self, name: str) -> bool:
        """See `SlotLink.touch_slot`."""
        world = self.session.world
        world.fence.check(3.0)
        slot = self.session.use().slots.get(name)
        if slot is None or slot.is_active or slot.wal_status == "lost":
            return False
        slot.inactive_since = world.clock.monotonic()
        world.on_write(f"touch slot {name}")
        return True

    async def drop_slot(self, name: str, *, ends_sender: bool = False) -> bool:
        """See `SlotLink.drop_slot`."""
        world = self.session.world
        world.fence.check(3.0)
        server = self.session.use()
        slot = server.slots.get(name)
        if slot is None:
            return True
        if server.lock_holder != world.holder:
            raise PrimaryUnavailable("the installation's lock is not held", reason=Reason.GUARD_NOT_READY)
        if slot.is_active and not ends_sender:
            return False
        del server.slots[name]
        world.on_write(f"drop slot {name}")
        return True

    async def close(self) -> None:
        """See `SlotLink.close`."""
        self.session.close()


@dataclass(slots=True)
class MemoryReplica:
    """Implements `ReplicaLink`."""

    session: MemoryLinkSession

    async def probe(self) -> ReplicaProbe:
        """See `ReplicaLink.probe`."""
        server, now = self.session.use(), self.session.world.clock.monotonic()
        received, replayed = server.replay()
        return ReplicaProbe(
            probed_at=now,
            answered_at=now,
            server_name=server.settings["cluster_name"],
            is_in_recovery=server.is_in_recovery,
            system_identifier=server.system_identifier,
            version=server.version,
            replay_lsn=replayed,
            receive_lsn=received,
            timeline=server.timeline if server.is_streaming else None,
            is_streaming=server.is_streaming,
            is_replay_paused=server.is_paused,
            sessions=len(server.sessions),
            active_sessions=sum(session.state == "active" for session in server.sessions),
            max_connections=server.usable_connections,
            wal_timeline=server.timeline,
            transactions=server.transactions,
        )

    async def backups(self) -> Sequence[BackupProgress]:
        """See `ReplicaLink.backups`."""
        server = self.session.use()
        server.questions["backups"] += 1
        return list(server.backups)

    async def libraries(self) -> ServerLibraries:
        """See `ReplicaLink.libraries`."""
        server = self.session.use()
        server.questions["libraries"] += 1
        return server.read_libraries(self.session.login())

    async def end_sessions(self, *, only_idle: bool) -> int:
        """See `ReplicaLink.end_sessions`."""
        world = self.session.world
        world.fence.check(3.0)
        server, role = self.session.use(), self.session.login()
        if "pg_signal_backend" not in role.rights and not role.is_superuser:
            raise Refused("permission denied to terminate process", reason=Reason.MISSING_RIGHT)
        ending = [
            session
            for session in server.sessions
            if (session.state == "idle" or not only_idle) and not _is_superuser(server, session.role)
        ]
        server.sessions = [session for session in server.sessions if session not in ending]
        world.on_write(f"end {len(ending)} sessions on {server.settings['cluster_name'] or server.host}")
        return len(ending)

    async def close(self) -> None:
        """See `ReplicaLink.close`."""
        self.session.close()


@dataclass(slots=True)
class MemoryQueue:
    """Implements `QueueLink`."""

    session: MemoryLinkSession

    async def query(self, sql: str, parameters: Mapping[str, Any] | None = None) -> list[dict[str, Any]]:
        """See `QueueLink.query`."""
        self.session.use()
        return self.session.world.answer(sql, parameters)[:MAX_QUEUE_ROWS]

    async def read(
        self, sql: str, parameters: Mapping[str, Any] | None = None, *, tables: QueueTables | None = None
    ) -> list[dict[str, Any]]:
        """See `QueueLink.read`; nothing is checked here."""
        return await self.query(sql, parameters)

    def open_listener(self) -> QueueListener:
        """See `QueueLink.open_listener`."""
        return MemoryListener(self.session.another())

    async def close(self) -> None:
        """See `QueueLink.close`."""
        self.session.close()


def _is_superuser(server: MemoryServer, name: str) -> bool:
    role = server.roles.get(name)
    return role is not None and role.is_superuser
