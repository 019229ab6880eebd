"""One pinned connection: opened when first used, opened again after a loss, never waited for beyond a deadline."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, TypeVar

import psycopg
from psycopg import Column

from headroom.adapters.postgres import sql
from headroom.adapters.postgres.dialer import Dialer
from headroom.adapters.postgres.errors import translate_connect_error, translate_statement_error
from headroom.adapters.postgres.turn import Turns
from headroom.adapters.postgres.values import MALFORMED, refuse_answer
from headroom.adapters.postgres.wire.answers import MOST_ANSWER_BYTES
from headroom.adapters.postgres.wire.local import RelayedConnection, Row
from headroom.adapters.postgres.wire.messages import Violation
from headroom.adapters.postgres.wire.meter import Busy
from headroom.errors import HeadroomError, PrimaryUnavailable
from headroom.model.database import NEWEST_MAJOR, OLDEST_MAJOR, ConnectionTarget
from headroom.reasons import Reason

logger = logging.getLogger(__name__)

Link = RelayedConnection
T = TypeVar("T")

STATEMENT_SECONDS = 1.5
"""Client's deadline of a probe: the server cancels at 0.5 s, the rest is for a server that does not even do that."""
SEVERED_SECONDS = 1.0
PROBE_OPTIONS: Mapping[str, str] = {
    "search_path": "pg_catalog",
    "statement_timeout": "500",
    "lock_timeout": "250",
    "idle_in_transaction_session_timeout": "10000",
    "idle_session_timeout": "0",
    "default_transaction_read_only": "on",
    "jit": "off",
    "max_parallel_workers_per_gather": "0",
    "TimeZone": "UTC",
    "DateStyle": "ISO",
}
WRITE_OPTIONS: Mapping[str, str] = {
    **PROBE_OPTIONS,
    "statement_timeout": "2500",
    "default_transaction_read_only": "off",
}


async def _nothing(_: Link) -> None:
    return None


@dataclass(slots=True, eq=False)
class PinnedConnection:
    """A connection that plays one role; `greet` runs on each new one before anything else does."""

    target: ConnectionTarget
    application_name: str
    options: Mapping[str, str] = field(default_factory=lambda: PROBE_OPTIONS)
    greet: Callable[[Link], Awaitable[None]] = _nothing
    grant: str = ""
    max_age_seconds: float | None = None
    dialer: Dialer = field(default_factory=Dialer)
    hears: bool = False
    """Notifications are passed on, without their text."""
    most_bytes: int = MOST_ANSWER_BYTES
    """Of an answer."""
    _link: Link | None = None
    _opened_at: float = 0.0
    _turns: Turns = field(default_factory=Turns)
    _is_closed: bool = False
    backend_pid: int = 0

    @property
    def is_open(self) -> bool:
        """True while the socket is thought to be alive."""
        return self._link is not None and not self._link.closed

    async def fetch(
        self, statement: str, parameters: Mapping[str, Any] | None = None, *, seconds: float = STATEMENT_SECONDS
    ) -> list[Row]:
        """Run one of our statements in autocommit and return all its rows."""

        async def work(link: Link) -> list[Row]:
            cursor = await link.execute(statement, parameters or {})
            return await cursor.fetchall()

        return await self.run(work, seconds=seconds)

    async def read(
        self, statement: str, parse: Callable[[Row], T], parameters: Mapping[str, Any] | None = None
    ) -> list[T]:
        """The rows of one of our statements as what they stand for; `parse` raises ValueError for what it cannot be."""

        async def work(link: Link) -> list[T]:
            cursor = await link.execute(statement, parameters or {})
            return [parse(row) for row in await cursor.fetchall()]

        return await self.run(work)

    async def run(
        self,
        work: Callable[[Link], Awaitable[T]],
        *,
        seconds: float = STATEMENT_SECONDS,
        turn_seconds: float | None = None,
    ) -> T:
        """Run `work` on the open connection; raises PrimaryUnavailable or Refused, and reconnects next time.

        `work` may run twice: a connection that turns out to have died while it was idle is opened again at once. It
        waits for its turn for `turn_seconds` at most (None: `seconds`).
        """
        patience, has_turn = seconds if turn_seconds is None else turn_seconds, False
        deadline = asyncio.get_running_loop().time() + patience
        try:
            async with self._turns.take(deadline):
                has_turn = True
                was_open = self.is_open and not self._is_aged()
                link = await self._ensure_open()
                try:
                    return await self._bounded(link, work, seconds)
                except PrimaryUnavailable as error:
                    if not was_open or self.is_open or error.reason is not Reason.PRIMARY_UNREACHABLE:
                        raise
                return await self._bounded(await self._ensure_open(), work, seconds)
        except TimeoutError as error:
            where, role = f"{self.target.host}:{self.target.port}", self.application_name.split("/")[1]
            message = f"{where} did not answer within {seconds:g} s ({role})"
            if not has_turn:
                message = f"{where} was busy with other queries of this connection for {patience:g} s ({role})"
            raise PrimaryUnavailable(message, reason=Reason.PRIMARY_TIMEOUT) from error

    async def open(self) -> None:
        """Connect now instead of at the first statement."""
        await self.run(_nothing)

    async def release(self) -> None:
        """Give the connection back; the next statement opens another one."""
        await self._drop()

    async def close(self) -> None:
        """End the connection for good."""
        self._is_closed = True
        await self._drop()

    async def _ensure_open(self) -> Link:
        if self._is_closed:
            raise PrimaryUnavailable("the link was closed", reason=Reason.PRIMARY_UNREACHABLE)
        if self._link is not None and (self._link.closed or self._is_aged()):
            await self._drop()
        if self._link is None:
            self._link = await self._connect()
            self._opened_at = asyncio.get_running_loop().time()
        return self._link

    def _is_aged(self) -> bool:
        age = asyncio.get_running_loop().time() - self._opened_at
        return self.max_age_seconds is not None and age > self.max_age_seconds

    async def _connect(self) -> Link:
        try:
            link = await self.dialer.open(
                self.target,
                application_name=self.application_name,
                options=self.options,
                hears=self.hears,
                most_bytes=self.most_bytes,
            )
        except psycopg.Error as error:
            raise translate_connect_error(error, self.target) from error
        try:
            await self._bounded(link, self._introduce, STATEMENT_SECONDS)
        except BaseException:
            await _abandon(link)
            raise
        return link

    async def _introduce(self, link: Link) -> None:
        self.backend_pid = await _check_direct(link, self.target)
        await self.greet(link)

    async def _bounded(self, link: Link, work: Callable[[Link], Awaitable[T]], seconds: float) -> T:
        """Run `work` in a separate task, so that a hung server is left behind instead of waited for.

        Cancelling a psycopg call waits for the server to answer the cancel request; cutting the socket does not.
        """
        task = asyncio.ensure_future(work(link))
        try:
            done, _ = await asyncio.wait({task}, timeout=seconds)
        except BaseException:
            self._sever(link, task)
            raise
        if not done:
            self._sever(link, task)
            await asyncio.wait({task}, timeout=SEVERED_SECONDS)
            raise TimeoutError
        try:
            result = task.result()
        except psycopg.Error as error:
            await self._drop_if_broken(link)
            raise self._translate(error, link) from error
        except MALFORMED as error:
            # Our statements have fixed columns and types: a server that answers otherwise is none of ours.
            await self._drop()
            raise refuse_answer(self._where, error) from error
        if link.relay.is_swollen:
            await self._drop()
        return result

    def _translate(self, error: psycopg.Error, link: Link) -> HeadroomError:
        if link.relay.problem is None:
            return translate_statement_error(error, self.target, grant=self.grant)
        message = f"{self._where}: {link.relay.problem}; the connection was ended"
        return PrimaryUnavailable(message, reason=find_reason(link.relay.problem))

    @property
    def _where(self) -> str:
        return f"{self.target.host}:{self.target.port}"

    def _sever(self, link: Link, task: "asyncio.Future[Any]") -> None:
        self._link = None
        task.add_done_callback(lambda done: _consume(done, link))
        link.relay.abort()

    async def _drop_if_broken(self, link: Link) -> None:
        if link.closed or link.info.transaction_status != psycopg.pq.TransactionStatus.IDLE:
            await self._drop()

    async def _drop(self) -> None:
        link, self._link, self.backend_pid = self._link, None, 0
        await _abandon(link)


def find_reason(problem: Violation) -> Reason:
    """Why a relay ended its connection: what its own server sent, or that there was no room for more."""
    return Reason.OPERATOR_BUSY if isinstance(problem, Busy) else Reason.ANSWER_REFUSED


async def _abandon(link: Link | None) -> None:
    if link is not None:
        with suppress(psycopg.Error, OSError):
            await link.close()


def _consume(task: "asyncio.Future[Any]", link: Link) -> None:
    """Take the result of work nobody waits for any more, and free the connection it held."""
    if not task.cancelled() and task.exception() is not None:
        logger.debug("work on a severed connection ended: %s", task.exception())
    link.pgconn.finish()
    link.relay.abort()


def find_address(link: Link) -> str:
    """Where a connection ends after name resolution, as `host:port`; this is not what the server says of itself."""
    return link.relay.address


async def _check_direct(link: Link, target: ConnectionTarget) -> int:
    """Refuse a pooler and unsupported versions; the backend's pid is what only the server itself can know."""
    cursor = await link.execute(sql.HELLO, {})
    row = await cursor.fetchone()
    assert row is not None
    where = f"{target.host}:{target.port}"
    if row["backend_pid"] != link.info.backend_pid:
        message = (
            f"{where} is answered by a pooler; put the server itself in connection.host and the pooler in "
            "connection.via"
        )
        raise PrimaryUnavailable(message, reason=Reason.NOT_A_DIRECT_CONNECTION)
    major = row["version"] // 10_000
    if not OLDEST_MAJOR <= major <= NEWEST_MAJOR:
        message = f"{where} runs PostgreSQL {major}; {OLDEST_MAJOR} to {NEWEST_MAJOR} are supported"
        raise PrimaryUnavailable(message, reason=Reason.UNSUPPORTED_VERSION)
    return int(row["backend_pid"])


async def fetch_one(link: Link, statement: str, parameters: Mapping[str, Any] | None = None) -> Row:
    """The one row of a statement of ours."""
    cursor = await link.execute(statement, parameters or {})
    row = await cursor.fetchone()
    assert row is not None
    return row


async def read_only(
    link: Link,
    statement: str,
    parameters: Mapping[str, Any] | None,
    *,
    limit: int,
    check: Callable[[Sequence[Column]], None] | None = None,
) -> list[Row]:
    """Run one SELECT through a cursor in a read-only transaction that is rolled back; keeps `limit` rows.

    A cursor takes one statement only, and rows beyond the limit never leave the server. `check` sees the columns before
    any row does, and raises if they should not.
    """
    await link.execute(sql.BEGIN_READ_ONLY)
    try:
        async with link.cursor(name="headroom") as cursor:
            await cursor.execute(statement, parameters)
            if check is not None:
                check(cursor.description or ())
            return await cursor.fetchmany(limit)
    finally:
        if not link.closed:
            await link.execute(sql.ROLLBACK)
