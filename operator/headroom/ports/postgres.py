"""PostgreSQL as the reconcilers use it: a link is a small, fixed set of pinned connections to one server.

Errors: `PrimaryUnavailable` with the precise reason (unreachable, wrong password, pooler, missing right, ...),
`SignalUnavailable` for a probe that did not answer in time.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Any, Protocol

from headroom.model.database import (
    BackupProgress,
    ConnectionCounts,
    ConnectionTarget,
    Credentials,
    Mark,
    ReplicaProbe,
    ServerFacts,
    SlotFacts,
)
from headroom.model.libraries import ServerLibraries
from headroom.model.timelines import TimelineHistory
from headroom.model.waits import WaitSample
from headroom.model.warmup import BlockRange
from headroom.ports.signals import QueueTables


class PrimaryLink(Protocol):
    """The pinned connections to one primary: canary, guard, probes; one more while pools ask `waits`.

    An observer has only the probes: it identifies and reads, and has neither canary nor lock until `take_over`.
    """

    async def take_over(self) -> bool:
        """Open canary and guard too; True when this process then holds the installation's lock."""
        ...

    async def step_down(self) -> None:
        """Close canary and guard again, the lock with them; the link is an observer from now on."""
        ...

    async def identify(self) -> ServerFacts:
        """Identity, settings, rights and budgets of the server, in one statement."""
        ...

    async def mark(self) -> Mark:
        """Emit the transactional canary message, time its COMMIT, read the flush LSN after it.

        Has its own connection and no short deadline: a slow COMMIT is what it measures (10 s at most).
        """
        ...

    async def position(self) -> Mark:
        """Read the flush LSN now, without a write: a mark for one replica's lag (`commit_seconds` is None)."""
        ...

    async def connections(self) -> ConnectionCounts:
        """Client backends, limits and waiters."""
        ...

    async def backups(self) -> Sequence[BackupProgress]:
        """Base backups that stream now."""
        ...

    async def data_bytes(self) -> int:
        """What all databases take on disk, and so a copy; takes a short connection, since it looks at each file."""
        ...

    async def slots(self, prefix: str) -> Sequence[SlotFacts]:
        """Physical slots whose name starts with `prefix`."""
        ...

    async def libraries(self) -> ServerLibraries:
        """What the image has and the databases need; takes a short connection to each database, one at a time."""
        ...

    async def waits(self, role: str | None) -> WaitSample:
        """What the busy sessions of a role wait for, of everybody in the database for None; empty without pg_monitor.

        The blocker of those that wait for a lock is in it at most every five seconds. It runs on a separate connection,
        so that pools delay none of the calls above.
        """
        ...

    async def close(self) -> None:
        """End the connections."""
        ...


class SlotLink(Protocol):
    """Slot SQL on a primary, run as the replication role (one connection, opened when first needed).

    All changes need the lease (`Fence`); dropping also needs the installation's lock on that server, which an open
    `PrimaryLink` to it holds: without it `PrimaryUnavailable` (GuardNotReady) is raised and nothing is sent.
    """

    async def check_replication(self) -> str:
        """Log in for physical replication (IDENTIFY_SYSTEM); the system identifier, or `PrimaryUnavailable`."""
        ...

    async def read_history(self, system_identifier: str, timeline: int) -> TimelineHistory:
        """The timelines that led to the one that this server writes; `PrimaryUnavailable` if another server answers."""
        ...

    async def ensure_slot(self, name: str, *, copied_from: str = "") -> SlotFacts:
        """Create the physical slot unless it exists; return the slot.

        It reserves WAL at once: from the present redo position on, or what the slot `copied_from` keeps. Without that
        one `PrimaryUnavailable` (SlotLost) is raised, and nothing is created.
        """
        ...

    async def touch_slot(self, name: str) -> bool:
        """Use a slot that nobody uses, and leave it where it is, so that the server does not give it up as idle; False
        if it is gone, in use, or keeps no WAL.
        """
        ...

    async def drop_slot(self, name: str, *, ends_sender: bool = False) -> bool:
        """Drop the slot; True when it is gone, False while it is in use; `ends_sender` ends its WAL sender first."""
        ...

    async def close(self) -> None:
        """End the connection."""
        ...


class ReplicaLink(Protocol):
    """One pinned connection to one replica."""

    async def probe(self) -> ReplicaProbe:
        """Role, replay position, walreceiver and sessions in one statement."""
        ...

    async def backups(self) -> Sequence[BackupProgress]:
        """Base backups that this replica sends now, on the same connection."""
        ...

    async def libraries(self) -> ServerLibraries:
        """As `PrimaryLink.libraries`, of this replica; it may take seconds, and no probe waits for it."""
        ...

    async def end_sessions(self, *, only_idle: bool) -> int:
        """Terminate client sessions other than ours; returns how many were asked to end."""
        ...

    async def close(self) -> None:
        """End the connection."""
        ...


class WarmupLink(Protocol):
    """A connection to one replica with the login that fills caches. It runs no code of the database's users: functions
    of pg_buffercache and pg_prewarm themselves are called, and no relation is read by a query.

    Each call raises `Refused` where the login or an extension does not serve (the message has the remedy), and
    `PrimaryUnavailable` (MemberPromoted) on a server that is not in recovery.
    """

    async def describe(self) -> tuple[str, int]:
        """The server's `cluster_name`, and the blocks that its shared_buffers hold."""
        ...

    async def read_hot(self, most_blocks: int) -> tuple[BlockRange, ...]:
        """What of the connection's database is often used in this cache, the hottest first; no more than so many
        blocks, those between hot neighbours included. It takes seconds of a large cache.
        """
        ...

    async def warm(self, ranges: Sequence[BlockRange]) -> int | None:
        """Read ranges of one relation into this cache; how many blocks that were. None, at once, if somebody has locked
        the relation or waits to, and if it is gone or was rewritten.
        """
        ...

    async def close(self) -> None:
        """End the connection."""
        ...


class QueueListener(Protocol):
    """Waits for the notifications of a queue library (LISTEN): only that they came, not what they said."""

    @property
    def address(self) -> str:
        """The database it listens on, as `host:port/database`."""
        ...

    async def wait(self, channels: Collection[str], seconds: float) -> frozenset[str]:
        """The channels that were notified since the last call, as soon as there is one; none after `seconds`.

        Notifications that come while it is not connected are lost. Raises PrimaryUnavailable, with
        NotADirectConnection if a pooler answers.
        """
        ...

    async def close(self) -> None:
        """End the connection."""
        ...


class QueueLink(Protocol):
    """A read-only connection for queues, with a separate login: statements are rolled back, bounded in time, and at
    most 2 rows are kept.
    """

    async def query(self, sql: str, parameters: Mapping[str, Any] | None = None) -> list[dict[str, Any]]:
        """Run one statement of the pool's author."""
        ...

    async def read(
        self, sql: str, parameters: Mapping[str, Any] | None = None, *, tables: QueueTables | None = None
    ) -> list[dict[str, Any]]:
        """Run one statement of ours, as `SqlRunner.read` says."""
        ...

    def open_listener(self) -> "QueueListener":
        """A separate connection to the same database that listens; it opens when first waited for."""
        ...

    async def close(self) -> None:
        """End the connection."""
        ...


class Postgres(Protocol):
    """Opens links; each `open_` call opens the connections or raises `PrimaryUnavailable`."""

    def read_system_authorities(self) -> str | None:
        """CA certificates (PEM) that links trust if a target has none; the same for the life of a process."""
        ...

    async def open_primary(self, target: ConnectionTarget, *, is_observer: bool = False) -> PrimaryLink:
        """Connect canary, guard (with the installation's advisory lock) and probes; an observer only the probes."""
        ...

    async def open_slots(self, target: ConnectionTarget, replication: Credentials) -> SlotLink:
        """Connect to the same server as the replication role."""
        ...

    async def open_replica(self, target: ConnectionTarget) -> ReplicaLink:
        """Connect to one replica by its pod address."""
        ...

    async def open_warmup(self, target: ConnectionTarget) -> WarmupLink:
        """Connect to one replica with the login that fills caches."""
        ...

    async def open_queue(self, target: ConnectionTarget) -> QueueLink:
        """Connect with the login of a queue."""
        ...
