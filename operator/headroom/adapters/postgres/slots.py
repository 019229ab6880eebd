"""Slot SQL on a primary, as the replication role."""

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg import errors as pg

from headroom.adapters.postgres import rows, sql
from headroom.adapters.postgres.connection import Link, PinnedConnection, fetch_one
from headroom.adapters.postgres.conninfo import CONNECT_SECONDS, SessionNames
from headroom.adapters.postgres.errors import SILENCE, classify_connect, describe_silence, quote
from headroom.adapters.postgres.guard import hold_parameters
from headroom.adapters.postgres.values import MOST_NAME
from headroom.errors import PrimaryUnavailable
from headroom.model.database import ConnectionTarget, SlotFacts
from headroom.model.timelines import FIRST_TIMELINE, TimelineHistory
from headroom.ports.clock import Fence
from headroom.reasons import Reason

SLOT_SECONDS = 3.0
MOST_COLUMNS = 8
MOST_HISTORY = 64 << 10
"""Bytes of a value: a history has some 60 for each timeline."""


@dataclass(slots=True, eq=False)
class PinnedSlots:
    """Implements `SlotLink`; `guard_role` is the login of the guard that the slots belong to."""

    connection: PinnedConnection
    fence: Fence
    names: SessionNames
    guard_role: str

    async def check_replication(self) -> str:
        """See `SlotLink.check_replication`."""
        [(identifier, *_)] = await self._command(sql.IDENTIFY_SYSTEM)
        return identifier[:MOST_NAME]

    async def read_history(self, system_identifier: str, timeline: int) -> TimelineHistory:
        """See `SlotLink.read_history`."""
        if timeline == FIRST_TIMELINE:
            return TimelineHistory(timeline)
        command = sql.TIMELINE_HISTORY.format(timeline=timeline)
        # On one connection: the name may lead to another server by now, whose history is not the one asked for.
        (identifier, current, *_), (_, content) = await self._command(sql.IDENTIFY_SYSTEM, command)
        if (identifier, current) != (system_identifier, str(timeline)):
            message = f"system {identifier} answers on timeline {current}, not {system_identifier} on {timeline}"
            raise PrimaryUnavailable(message, reason=Reason.PRIMARY_REPLACED)
        try:
            return TimelineHistory.parse(timeline, content)
        except ValueError as error:
            raise PrimaryUnavailable(str(error), reason=Reason.QUERY_FAILED) from error

    async def _command(self, *commands: str) -> list[tuple[str, ...]]:
        """The one row of each replication command, on a separate connection, since that speaks another dialect."""
        target = self.connection.target
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                return await self._run_commands(commands)
        except (psycopg.Error, TimeoutError) as error:
            raise _describe_login_error(error, target) from error

    async def _run_commands(self, commands: Iterable[str]) -> list[tuple[str, ...]]:
        name = self.names.name("replication-check")
        link = await self.connection.dialer.open(
            self.connection.target, application_name=name, options={}, is_replication=True
        )
        try:
            return [_read_row(await link.execute(command)) for command in commands]
        finally:
            await link.close()

    async def ensure_slot(self, name: str, *, copied_from: str = "") -> SlotFacts:
        """See `SlotLink.ensure_slot`."""
        self.fence.check(SLOT_SECONDS)

        async def work(link: Link) -> SlotFacts:
            found = await (await link.execute(sql.SLOT, {"name": name})).fetchone()
            if found is None:
                await self._create(link, name, copied_from)
                found = await fetch_one(link, sql.SLOT, {"name": name})
            return rows.parse_slot(found)

        return await self.connection.run(work, seconds=SLOT_SECONDS)

    async def touch_slot(self, name: str) -> bool:
        """See `SlotLink.touch_slot`."""
        self.fence.check(SLOT_SECONDS)

        async def work(link: Link) -> bool:
            try:
                return await (await link.execute(sql.TOUCH_SLOT, {"name": name})).fetchone() is not None
            except (pg.ObjectInUse, pg.UndefinedObject, pg.ObjectNotInPrerequisiteState):
                return False

        return await self.connection.run(work, seconds=SLOT_SECONDS)

    async def drop_slot(self, name: str, *, ends_sender: bool = False) -> bool:
        """See `SlotLink.drop_slot`."""
        self.fence.check(SLOT_SECONDS)
        return await self.connection.run(
            lambda link: self._drop(link, name, ends_sender=ends_sender), seconds=SLOT_SECONDS
        )

    async def _create(self, link: Link, name: str, copied_from: str) -> None:
        # Turn, connect and query may have taken seconds, in which a process that was frozen lost its lease.
        self.fence.check(SLOT_SECONDS)
        try:
            if copied_from:
                await link.execute(sql.COPY_SLOT, {"name": name, "source": copied_from})
            else:
                await link.execute(sql.CREATE_SLOT, {"name": name})
        except pg.DuplicateObject:
            return  # created between our query and our call: what exists counts
        except (pg.UndefinedObject, pg.FeatureNotSupported, pg.ObjectNotInPrerequisiteState) as error:
            if not copied_from:
                raise
            message = f"slot {copied_from} is gone, or keeps no WAL: {quote(error)}"
            raise PrimaryUnavailable(message, reason=Reason.SLOT_LOST) from error

    async def _drop(self, link: Link, name: str, *, ends_sender: bool) -> bool:
        # Any session of the guard's login: one that only follows another guard has no canary and no guard session.
        parameters = {"name": name, **hold_parameters(self.names, self.guard_role, part="%")}
        # A server that hangs is waited for here, where nothing is changed yet.
        await fetch_one(link, sql.IS_HELD, parameters)
        self.fence.check(SLOT_SECONDS)
        if ends_sender:
            await link.execute(sql.END_SENDER, parameters)
        try:
            await link.execute(sql.DROP_SLOT, parameters)
        except pg.ObjectInUse:
            return False
        except pg.UndefinedObject:
            return True
        if await (await link.execute(sql.SLOT, {"name": name})).fetchone() is None:
            return True
        if not (await fetch_one(link, sql.IS_HELD, parameters))["is_held"]:
            message = f"slot {name} is kept: this process is not the only one of its installation on the server"
            raise PrimaryUnavailable(message, reason=Reason.GUARD_NOT_READY)
        return False

    async def close(self) -> None:
        """End the connection."""
        await self.connection.close()


def _read_row(cursor: psycopg.AsyncCursor[Any]) -> tuple[str, ...]:
    """The row as the server sent it: 14 calls the text of a history `bytea`, and does not write it as such."""
    result = cursor.pgresult
    assert result is not None
    values = (result.get_value(0, column) or b"" for column in range(min(result.nfields, MOST_COLUMNS)))
    return tuple(value[:MOST_HISTORY].decode(errors="replace") for value in values)


def _describe_login_error(error: Exception, target: ConnectionTarget) -> PrimaryUnavailable:
    where, user = f"{target.host}:{target.port}", target.credentials.username
    if isinstance(error, SILENCE):
        return describe_silence(target)
    lowered = str(error).lower()
    if "max_wal_senders" in lowered or "wal senders" in lowered:
        message = f"{where}: {quote(error)}; raise max_wal_senders"
        return PrimaryUnavailable(message, reason=Reason.WAL_SENDERS_EXHAUSTED)
    reason = classify_connect(error)
    if reason is Reason.PASSWORD_REJECTED or "replication role" in lowered or "replication" in lowered:
        message = (
            f'{where}: {quote(error)}; the role "{user}" needs LOGIN REPLICATION and a pg_hba.conf line for '
            f'replication: ALTER ROLE "{user}" REPLICATION'
        )
        return PrimaryUnavailable(message, reason=Reason.REPLICATION_LOGIN_FAILED)
    return PrimaryUnavailable(f"{where}: {quote(error)}", reason=reason)
