"""A link's one session on a server in memory, and what all links need of the world around it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from headroom.adapters.inmemory.kube_faults import OnWrite, ignore
from headroom.adapters.inmemory.postgres_server import MemoryRole, MemoryServer, MemorySlot
from headroom.errors import PrimaryUnavailable
from headroom.model.database import ConnectionTarget, SlotFacts
from headroom.ports.clock import Clock, Fence
from headroom.reasons import Reason

Answer = Callable[[str, Mapping[str, Any] | None], list[dict[str, Any]]]


def no_answer(sql: str, _: Mapping[str, Any] | None) -> list[dict[str, Any]]:
    """The answer of tables nobody has described."""
    raise LookupError(f"no answer is set for: {sql}")


@dataclass(slots=True)
class MemoryWorld:
    """Servers by address; `answer` stands for what tables would say, `holder` is this process.

    Two addresses may lead to one server. `take_overs` counts how often a link opened canary and guard. `on_write` hears
    what each write was, once it has taken effect and before it is answered.
    """

    clock: Clock
    fence: Fence
    holder: str = "headroom-1"
    answer: Answer = no_answer
    servers: dict[tuple[str, int], MemoryServer] = field(default_factory=dict)
    take_overs: int = 0
    on_write: OnWrite = ignore


@dataclass(slots=True)
class MemoryLinkSession:
    """One link's connection: logs in when first used and again after a restart."""

    world: MemoryWorld
    target: ConnectionTarget
    role: MemoryRole | None = None
    _seen_starts: int = -1
    _is_closed: bool = False

    def use(self) -> MemoryServer:
        """The server, if it can be talked to now; raises PrimaryUnavailable."""
        if self._is_closed:
            raise PrimaryUnavailable("the link was closed", reason=Reason.PRIMARY_UNREACHABLE)
        server = self.world.servers.get((self.target.host, self.target.port))
        if server is None:
            message = f"{self.target.host}: name or service not known"
            raise PrimaryUnavailable(message, reason=Reason.HOST_NOT_FOUND)
        if server.is_down or server.is_hung or self._seen_starts != server.starts:
            self.role = server.log_in(self.target)
            self._seen_starts = server.starts
        return server

    def login(self) -> MemoryRole:
        """The role the session runs as."""
        assert self.role is not None
        return self.role

    def another(self) -> "MemoryLinkSession":
        """A second connection with the same login."""
        return MemoryLinkSession(self.world, self.target)

    def close(self) -> None:
        """End it."""
        self._is_closed = True


def slot_facts(name: str, slot: MemorySlot, now: float) -> SlotFacts:
    """A slot as the server lists it."""
    return SlotFacts(
        name=name,
        is_active=slot.is_active,
        restart_lsn=slot.restart_lsn if slot.wal_status != "lost" else None,
        wal_status=slot.wal_status,
        has_xmin=slot.has_xmin,
        inactive_seconds=None if slot.is_active else max(0.0, now - slot.inactive_since),
        invalidation=slot.invalidation,
    )
