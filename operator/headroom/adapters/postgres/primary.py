"""The link to a primary: canary, guard and probes, each on its own connection; pools get one when they ask."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from psycopg import errors as pg

from headroom.adapters.postgres import rows, sql
from headroom.adapters.postgres.connection import WRITE_OPTIONS, Link, PinnedConnection, fetch_one, find_address
from headroom.adapters.postgres.guard import GuardSession, ServerKey, end_older_holders, hold_parameters
from headroom.adapters.postgres.libraries import Pin, read_data_bytes, read_libraries
from headroom.adapters.postgres.links import SharedQueries
from headroom.adapters.postgres.waits import WaitReader
from headroom.errors import PrimaryUnavailable
from headroom.model.database import (
    BackupProgress,
    ConnectionCounts,
    Mark,
    ServerFacts,
    SlotFacts,
)
from headroom.model.frozen import FrozenMap
from headroom.model.libraries import ServerLibraries
from headroom.model.waits import WaitSample
from headroom.ports.clock import Clock
from headroom.reasons import Reason

CANARY_SECONDS = 10.0
"""Twice the Emergency threshold's default: a COMMIT that takes longer adds no information."""
GIVE_UP_SECONDS = 8.5
CANCEL_SECONDS = 1.0
PROBES_MAX_AGE_SECONDS = 30.0
"""The probes connection is reopened this often, so that a host name that has moved is noticed without a loss."""
SETTINGS_EVERY_SECONDS = 10.0
"""Parameters change seldom and cost more to read than the rest of an observation."""
CANARY_OPTIONS: Mapping[str, str] = {**WRITE_OPTIONS, "statement_timeout": "0"}


@dataclass(slots=True, eq=False)
class PinnedPrimary:
    """Implements `PrimaryLink`."""

    canary: PinnedConnection
    guard: GuardSession
    probes: PinnedConnection
    queues: SharedQueries
    clock: Clock
    pin_database: Pin
    _waits: WaitReader = field(init=False)
    _settings: FrozenMap[str, str] = field(default_factory=FrozenMap)
    _settings_read_at: float | None = None
    _is_observer: bool = True
    _has_swept: bool = False

    def __post_init__(self) -> None:
        self._waits = WaitReader(self.queues, self.clock)

    async def open(self, *, is_observer: bool) -> None:
        """Connect the probes first, then the rest unless it is an observer; refuses a server in recovery."""
        facts = await self._identify()
        if facts.is_in_recovery:
            where = f"{self.probes.target.host}:{self.probes.target.port}"
            message = f"{where} is in recovery; let connection.host follow the primary"
            raise PrimaryUnavailable(message, reason=Reason.NOT_A_PRIMARY)
        if not is_observer:
            await self._take_over(facts)

    async def take_over(self) -> bool:
        """See `PrimaryLink.take_over`."""
        return await self._take_over(await self._identify())

    async def _take_over(self, facts: ServerFacts) -> bool:
        is_held = await self.guard.has_lock(_key_of(facts))
        await self.canary.open()
        self._is_observer = False
        return is_held

    async def step_down(self) -> None:
        """See `PrimaryLink.step_down`."""
        self._is_observer = True
        await self.guard.release()
        await self.canary.release()

    async def identify(self) -> ServerFacts:
        """See `PrimaryLink.identify`; also takes the server again if the guard's session was lost."""
        await self.queues.close_unused()
        facts = await self._identify()
        if facts.is_in_recovery:
            return facts
        is_held = await self._is_held() if self._is_observer else await self.guard.has_lock(_key_of(facts))
        return rows.with_lock(facts, is_held=is_held)

    async def _is_held(self) -> bool:
        """Whether another link of this process, with the same login, holds the server."""
        names, fence = self.guard.names, self.guard.fence

        async def work(link: Link) -> bool:
            # Another login may not have the right to end what an earlier process has left of this one.
            self._has_swept = self._has_swept or await end_older_holders(link, names, fence)
            return bool((await fetch_one(link, sql.IS_HELD, hold_parameters(names, None)))["is_held"])

        return await self.probes.run(work)

    async def _identify(self) -> ServerFacts:
        now = self.clock.monotonic()
        is_due = self._settings_read_at is None or now - self._settings_read_at >= SETTINGS_EVERY_SECONDS
        parameters = {"settings": list(sql.SETTINGS) if is_due else [], "rights": list(sql.RIGHTS)}

        async def work(link: Link) -> ServerFacts:
            return rows.parse_server(await fetch_one(link, sql.IDENTIFY, parameters), find_address(link))

        facts = await self.probes.run(work)
        if is_due:
            self._settings, self._settings_read_at = facts.settings, now
        return replace(facts, settings=self._settings)

    async def mark(self) -> Mark:
        """See `PrimaryLink.mark`."""
        return await self.canary.run(self._round, seconds=CANARY_SECONDS)

    async def _round(self, link: Link) -> Mark:
        await link.execute(sql.CANARY)
        before = self.clock.monotonic()
        await _commit(link)
        after = self.clock.monotonic()
        row = await fetch_one(link, sql.POSITION)
        return rows.parse_mark(row, taken_at=after, commit_seconds=after - before)

    async def position(self) -> Mark:
        """See `PrimaryLink.position`."""
        return await self.probes.run(self._position)

    async def _position(self, link: Link) -> Mark:
        taken_at = self.clock.monotonic()
        return rows.parse_mark(await fetch_one(link, sql.POSITION), taken_at=taken_at, commit_seconds=None)

    async def connections(self) -> ConnectionCounts:
        """See `PrimaryLink.connections`."""
        return (await self.probes.read(sql.CONNECTIONS, rows.parse_connections))[0]

    async def backups(self) -> Sequence[BackupProgress]:
        """See `PrimaryLink.backups`."""
        return await self.probes.read(sql.BACKUPS, rows.parse_backup)

    async def data_bytes(self) -> int:
        """See `PrimaryLink.data_bytes`."""
        return await read_data_bytes(self.pin_database, self.probes.target.database)

    async def slots(self, prefix: str) -> Sequence[SlotFacts]:
        """See `PrimaryLink.slots`."""
        return await self.probes.read(sql.SLOTS, rows.parse_slot, {"prefix": prefix})

    async def libraries(self) -> ServerLibraries:
        """See `PrimaryLink.libraries`."""
        return await read_libraries(self.pin_database, self.probes.target.database)

    async def waits(self, role: str | None) -> WaitSample:
        """See `PrimaryLink.waits`."""
        return await self._waits.read(role)

    async def close(self) -> None:
        """End all connections; the server releases the lock with the guard's."""
        await self.queues.close()
        await self.guard.close()
        await self.canary.close()
        await self.probes.close()


def _key_of(facts: ServerFacts) -> ServerKey:
    assert facts.started_at is not None
    return facts.system_identifier, facts.started_at


async def _commit(link: Link) -> None:
    """COMMIT; one that waits for synchronous standbys is cancelled shortly before the deadline."""
    commit = asyncio.ensure_future(link.execute(sql.COMMIT))
    done, _ = await asyncio.wait({commit}, timeout=GIVE_UP_SECONDS)
    if not done:
        await link.cancel_safe(timeout=CANCEL_SECONDS)
    try:
        await commit
    except pg.QueryCanceled as error:
        raise TimeoutError from error
