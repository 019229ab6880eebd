"""Opens the links: the adapter's one public class."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from headroom.adapters.postgres.connection import PROBE_OPTIONS, WRITE_OPTIONS, PinnedConnection
from headroom.adapters.postgres.conninfo import SessionNames, read_system_authorities
from headroom.adapters.postgres.dialer import Dialer
from headroom.adapters.postgres.guard import GuardSession
from headroom.adapters.postgres.libraries import LIBRARY_OPTIONS, Pin
from headroom.adapters.postgres.links import (
    QUEUE_MAX_AGE_SECONDS,
    QUEUE_OPTIONS,
    PinnedQueue,
    PinnedReplica,
    SharedQueries,
)
from headroom.adapters.postgres.listener import PinnedListener
from headroom.adapters.postgres.primary import CANARY_OPTIONS, PROBES_MAX_AGE_SECONDS, PinnedPrimary
from headroom.adapters.postgres.slots import PinnedSlots
from headroom.adapters.postgres.warmup import WARMUP_OPTIONS, PinnedWarmup
from headroom.adapters.postgres.wire.answers import MOST_ANSWER_BYTES, OWN_ANSWER_BYTES
from headroom.model.database import ConnectionTarget, Credentials
from headroom.ports.clock import Clock, Fence
from headroom.ports.postgres import PrimaryLink, QueueLink, QueueListener, ReplicaLink, SlotLink, WarmupLink


@dataclass(slots=True)
class PsycopgPostgres:
    """Implements `Postgres` with psycopg 3.

    `names.lease` is the same for all replicas of one operator and no other; `names.holder` is new with each process.
    """

    names: SessionNames
    fence: Fence
    clock: Clock
    dialer: Dialer = field(default_factory=Dialer)

    def read_system_authorities(self) -> str | None:
        """See `Postgres.read_system_authorities`."""
        return read_system_authorities()

    async def open_primary(self, target: ConnectionTarget, *, is_observer: bool = False) -> PrimaryLink:
        """See `Postgres.open_primary`."""
        guard = self._pin(target, "guard", WRITE_OPTIONS)

        def pin_probes(role: str) -> PinnedConnection:
            return self._pin(target, role, PROBE_OPTIONS, max_age_seconds=PROBES_MAX_AGE_SECONDS)

        link = PinnedPrimary(
            canary=self._pin(target, "canary", CANARY_OPTIONS),
            guard=GuardSession(guard, self.names, self.fence),
            probes=pin_probes("probes"),
            queues=SharedQueries(lambda: pin_probes("queues"), self.clock),
            clock=self.clock,
            pin_database=self._pin_database(target),
        )
        try:
            await link.open(is_observer=is_observer)
        except BaseException:
            await link.close()
            raise
        return link

    async def open_slots(self, target: ConnectionTarget, replication: Credentials) -> SlotLink:
        """See `Postgres.open_slots`."""
        as_replication = replace(target, credentials=replication)
        connection = self._pin(as_replication, "slots", WRITE_OPTIONS)
        connection.grant = f'ALTER ROLE "{replication.username}" REPLICATION'
        await connection.open()
        return PinnedSlots(connection, self.fence, self.names, target.credentials.username)

    async def open_replica(self, target: ConnectionTarget) -> ReplicaLink:
        """See `Postgres.open_replica`."""
        connection = self._pin(target, "member", PROBE_OPTIONS)
        connection.grant = f'GRANT pg_signal_backend TO "{target.credentials.username}"'
        await connection.open()
        return PinnedReplica(connection, self.fence, self.clock, self._pin_database(target))

    async def open_warmup(self, target: ConnectionTarget) -> WarmupLink:
        """See `Postgres.open_warmup`."""
        connection = self._pin(target, "warmup", WARMUP_OPTIONS)
        await connection.open()
        return PinnedWarmup(connection)

    async def open_queue(self, target: ConnectionTarget) -> QueueLink:
        """See `Postgres.open_queue`."""
        connection = self._pin(
            target, "queue", QUEUE_OPTIONS, max_age_seconds=QUEUE_MAX_AGE_SECONDS, most_bytes=MOST_ANSWER_BYTES
        )
        await connection.open()
        return PinnedQueue(connection, self._make_listener(target))

    def _make_listener(self, target: ConnectionTarget) -> Callable[[], QueueListener]:
        return lambda: PinnedListener(self._pin(target, "listener", PROBE_OPTIONS))

    def _pin_database(self, target: ConnectionTarget) -> Pin:
        return lambda database: self._pin(
            replace(target, database=database), "libraries", LIBRARY_OPTIONS, most_bytes=MOST_ANSWER_BYTES
        )

    def _pin(
        self,
        target: ConnectionTarget,
        role: str,
        options: Mapping[str, str],
        *,
        max_age_seconds: float | None = None,
        most_bytes: int = OWN_ANSWER_BYTES,
    ) -> PinnedConnection:
        return PinnedConnection(
            target,
            self.names.name(role),
            options,
            max_age_seconds=max_age_seconds,
            dialer=self.dialer,
            most_bytes=most_bytes,
        )
