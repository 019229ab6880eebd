"""The local socket of a relay, and psycopg's connection to it."""

import asyncio
import atexit
import os
import shutil
import socket
import struct
import tempfile
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from itertools import count
from pathlib import Path
from typing import Any

import psycopg
from psycopg import AsyncConnection
from psycopg.conninfo import make_conninfo
from psycopg.rows import dict_row

from headroom.adapters.postgres.wire.answers import AnswerFilter
from headroom.adapters.postgres.wire.login import Session
from headroom.adapters.postgres.wire.relay import Relay

Row = dict[str, Any]
MOST_PORTS = 60_000
_PEER = struct.Struct("3i")
_numbers = count()


class RelayedConnection(AsyncConnection[Row]):
    """psycopg's connection over a relay: it ends, and cancels, what is behind it."""

    relay: Relay
    cancel_request: Callable[[], Awaitable[None]]

    async def close(self) -> None:
        """End the connection."""
        await super().close()
        await self.relay.wait_closed()

    async def cancel_safe(self, *, timeout: float = 30.0) -> None:  # noqa: ASYNC109  psycopg's signature
        """Ask the server to cancel what it does for this connection."""
        async with asyncio.timeout(timeout):
            await self.cancel_request()


async def open_relayed(
    session: Session, answers: AnswerFilter, address: str, application_name: str
) -> RelayedConnection:
    """A connection of psycopg over a session that is logged in; raises psycopg.Error or OSError."""
    relay = Relay(session, answers, address)
    try:
        with _listen() as (listener, folder, port):
            accepting = asyncio.create_task(_accept(listener, relay))
            try:
                link = await RelayedConnection.connect(
                    _describe_local(folder, port, application_name),
                    autocommit=True,
                    prepare_threshold=None,
                    row_factory=dict_row,
                )
            finally:
                if not accepting.done():
                    accepting.cancel()
                with suppress(asyncio.CancelledError):
                    await accepting
    except BaseException:
        relay.abort()
        raise
    link.relay = relay
    return link


def _describe_local(folder: Path, port: int, application_name: str) -> str:
    """The login is done: nothing is asked on the local socket, and nothing in it is a secret."""
    return make_conninfo(
        "",
        host=str(folder),
        port=port,
        user="headroom",
        dbname="headroom",
        application_name=application_name,
        sslmode="disable",
        gssencmode="disable",
        require_auth="none",
        client_encoding="UTF8",
        connect_timeout=3,
        passfile=str(folder / "none"),
    )


@contextmanager
def _listen() -> Iterator[tuple[socket.socket, Path, int]]:
    """A socket for one connection, in a folder that only this user may enter."""
    folder, port = _find_folder(), 1 + next(_numbers) % MOST_PORTS
    path = folder / f".s.PGSQL.{port}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.settimeout(0)
        listener.bind(str(path))
        try:
            listener.listen(1)
            yield listener, folder, port
        finally:
            path.unlink(missing_ok=True)


@cache
def _find_folder() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="headroom-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


async def _accept(listener: socket.socket, relay: Relay) -> None:
    loop = asyncio.get_running_loop()
    connection, _ = await loop.sock_accept(listener)
    pid, _, _ = _PEER.unpack(connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER.size))
    if pid != os.getpid():
        connection.close()
        raise psycopg.OperationalError("somebody else connected to the local socket")
    await loop.create_unix_connection(lambda: relay, sock=connection)
