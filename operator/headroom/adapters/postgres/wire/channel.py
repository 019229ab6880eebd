"""The socket to a server: encrypted as a spec asks, read message by message until the login is done."""

import asyncio
import socket
import ssl

import psycopg

from headroom.adapters.postgres.wire.messages import HEADER, SSL_REQUEST, NotPostgres, Violation
from headroom.model.database import ConnectionTarget

MOST_LOGIN_BYTES = 128 << 10
MOST_LOGIN_MESSAGES = 200
MOST_ERROR = 30_000
MOST_MESSAGE = 2_000
"""As libpq bounds them before a login is done."""
_NO_TLS_AT_ALL = ("WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "UNEXPECTED_MESSAGE")


class TlsUnavailable(psycopg.OperationalError):
    """TLS could not be agreed on with a server that speaks it, or that says it has none."""


class Sink(asyncio.BaseProtocol):
    """What a channel feeds after the login."""

    def take(self, data: bytes) -> None:
        """Data of the server."""
        raise NotImplementedError

    def end(self) -> None:
        """The server's side is closed."""
        raise NotImplementedError

    def pause(self, *, is_paused: bool) -> None:
        """The server takes no more data now, or does again."""
        raise NotImplementedError


class Channel(asyncio.Protocol):
    """Messages of a login one by one; afterwards every piece goes to `sink`."""

    def __init__(self) -> None:
        self.transport: asyncio.Transport
        self.sink: Sink | None = None
        self._buffer = bytearray()
        self._received = 0
        self._messages = 0
        self._news = asyncio.Event()
        self._is_over = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See asyncio.Protocol."""
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        """See asyncio.Protocol."""
        if self.sink is not None:
            self.sink.take(data)
            return
        self._received += len(data)
        self._buffer += data
        self._news.set()
        if self._received > MOST_LOGIN_BYTES:
            self.transport.pause_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        """See asyncio.Protocol."""
        self._is_over = True
        self._news.set()
        if self.sink is not None:
            self.sink.end()

    def pause_writing(self) -> None:
        """See asyncio.Protocol."""
        if self.sink is not None:
            self.sink.pause(is_paused=True)

    def resume_writing(self) -> None:
        """See asyncio.Protocol."""
        if self.sink is not None:
            self.sink.pause(is_paused=False)

    async def read_message(self) -> tuple[bytes, bytes]:
        """Kind and body of the next message of a login; raises Violation or ConnectionError."""
        header = await self._read(HEADER)
        self._messages += 1
        kind, length = header[:1], int.from_bytes(header[1:], "big") - 4
        most = MOST_ERROR if kind in b"EN" else MOST_MESSAGE
        if kind not in (b"R", b"E", b"N", b"S", b"K", b"Z") or not 0 <= length <= most:
            raise NotPostgres
        if self._messages > MOST_LOGIN_MESSAGES:
            raise Violation(f"the server sent more than {MOST_LOGIN_MESSAGES} messages before the login was done")
        return kind, await self._read(length)

    def hand_over(self, sink: Sink) -> None:
        """Give all that comes from now on, and what came already, to `sink`."""
        self.sink = sink
        rest, self._buffer = bytes(self._buffer), bytearray()
        if rest:
            sink.take(rest)
        if self._is_over:
            sink.end()

    async def _read(self, count: int) -> bytes:
        while len(self._buffer) < count:
            if self._received > MOST_LOGIN_BYTES:
                raise Violation(f"the server sent more than {MOST_LOGIN_BYTES >> 10} KiB before the login was done")
            if self._is_over:
                raise ConnectionError("the server closed the connection during the login")
            self._news.clear()
            await self._news.wait()
        data = bytes(self._buffer[:count])
        del self._buffer[:count]
        return data


async def open_channel(connection: socket.socket, target: ConnectionTarget, context: ssl.SSLContext | None) -> Channel:
    """A channel over a connected socket, encrypted as the target asks; raises TlsUnavailable, Violation or OSError.

    `context` is None only without TLS.
    """
    try:
        encryption = await _agree_on_tls(connection, target, context)
    except BaseException:
        connection.close()
        raise
    name = (target.tls_server_name or target.host).rstrip(".")
    try:
        # From here on the transport closes the socket.
        _, channel = await asyncio.get_running_loop().create_connection(
            Channel, sock=connection, ssl=encryption, server_hostname=name if encryption else None
        )
    except ssl.SSLCertVerificationError as error:
        raise TlsUnavailable(f"the server's certificate is not accepted: {error.verify_message}") from error
    except ssl.SSLError as error:
        if error.reason in _NO_TLS_AT_ALL:
            raise NotPostgres from error
        raise TlsUnavailable(f"no TLS session could be agreed on ({error.reason})") from error
    return channel


async def _agree_on_tls(
    connection: socket.socket, target: ConnectionTarget, context: ssl.SSLContext | None
) -> ssl.SSLContext | None:
    if context is None:
        return None
    loop = asyncio.get_running_loop()
    await loop.sock_sendall(connection, SSL_REQUEST)
    # One byte and no more: what came with it in clear would be read as if it had been encrypted (CVE-2021-23222).
    answer = await loop.sock_recv(connection, 1)
    if answer == b"S":
        return context
    if answer == b"N":
        if target.tls_mode in ("allow", "prefer"):
            return None
        raise TlsUnavailable("the server does not support TLS (SSL), which connection.tls.mode asks for")
    if not answer:
        raise ConnectionError("the server closed the connection when asked for TLS")
    raise NotPostgres
