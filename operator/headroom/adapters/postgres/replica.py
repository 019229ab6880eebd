"""The link to one replica."""

from dataclasses import dataclass

from headroom.adapters.postgres import rows, sql
from headroom.adapters.postgres.connection import Link, PinnedConnection, Row, fetch_one
from headroom.model.database import ReplicaProbe
from headroom.ports.clock import Clock, Fence

END_SECONDS = 3.0


@dataclass(slots=True, eq=False)
class PinnedReplica:
    """Implements `ReplicaLink`."""

    connection: PinnedConnection
    fence: Fence
    clock: Clock

    async def probe(self) -> ReplicaProbe:
        """See `ReplicaLink.probe`."""

        async def work(link: Link) -> ReplicaProbe:
            probed_at = self.clock.monotonic()
            row = await fetch_one(link, sql.PROBE)
            return rows.parse_probe(row, probed_at=probed_at, answered_at=self.clock.monotonic())

        return await self.connection.run(work)

    async def end_sessions(self, *, only_idle: bool) -> int:
        """See `ReplicaLink.end_sessions`; one statement a session, each matched as it was seen."""
        self.fence.check(END_SECONDS)

        async def work(link: Link) -> int:
            seen = await (await link.execute(sql.SESSIONS, {"only_idle": only_idle})).fetchall()
            return sum([await self._end(link, session, only_idle=only_idle) for session in seen])

        return await self.connection.run(work, seconds=END_SECONDS)

    async def _end(self, link: Link, session: Row, *, only_idle: bool) -> int:
        # Turn, connect and query may have taken seconds, in which a process that was frozen lost its lease.
        self.fence.check(END_SECONDS)
        row = await fetch_one(link, sql.END_SESSION, {**session, "only_idle": only_idle})
        return int(row["ended"])

    async def close(self) -> None:
        """End the connection."""
        await self.connection.close()
