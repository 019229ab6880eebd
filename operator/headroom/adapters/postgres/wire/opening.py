"""How a channel is opened: TLS is asked for, and agreed on step by step, beside the event loop."""

import asyncio
import socket
import ssl
from contextlib import suppress

import psycopg

from headroom.adapters.postgres.wire.channel import Channel
from headroom.adapters.postgres.wire.encryption import Encryption
from headroom.adapters.postgres.wire.handshakes import Handshakes
from headroom.adapters.postgres.wire.messages import SSL_REQUEST, NotPostgres, Violation
from headroom.adapters.postgres.wire.pace import Pace
from headroom.model.database import ConnectionTarget

MOST_HANDSHAKE_BYTES = 32 << 10
"""Of the server: a chain has 10 KiB at most, and the names of 150 authorities that it knows 20 KiB."""
MOST_HANDSHAKE_RECORDS = 64
MOST_HANDSHAKE_SECONDS = 0.1
"""Of a processor, for one handshake; a usual one takes 1 to 3 ms."""
_NO_TLS_AT_ALL = ("WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "UNEXPECTED_MESSAGE")


class TlsUnavailable(psycopg.OperationalError):
    """TLS could not be agreed on with a server that speaks it, or that says it has none."""


async def open_channel(
    connection: socket.socket,
    target: ConnectionTarget,
    context: ssl.SSLContext | None,
    handshakes: Handshakes,
    pace: Pace,
) -> Channel:
    """A channel over a connected socket, encrypted as the target asks; raises TlsUnavailable, Violation or OSError.

    `context` is None only without TLS.
    """
    try:
        encryption = await _agree_on_tls(connection, target, context)
    except BaseException:
        connection.close()
        raise
    # From here on the transport closes the socket.
    channel = Channel(target.namespace, pace)
    channel.is_encrypted = encryption is not None
    await asyncio.get_running_loop().create_connection(lambda: channel, sock=connection)
    if encryption is None:
        return channel
    try:
        await _Handshake(channel, encryption, handshakes, target.namespace).run()
    except TlsUnavailable:
        # What is wrong with its certificate is sent to the server.
        channel.close()
        raise
    except BaseException:
        channel.abort()
        raise
    return channel


async def _agree_on_tls(
    connection: socket.socket, target: ConnectionTarget, context: ssl.SSLContext | None
) -> Encryption | None:
    if context is None:
        return None
    encryption = Encryption(context, (target.tls_server_name or target.host).rstrip("."))
    loop = asyncio.get_running_loop()
    await loop.sock_sendall(connection, SSL_REQUEST)
    # One byte and no more: what came with it in clear would be read as if it had been encrypted (CVE-2021-23222).
    answer = await loop.sock_recv(connection, 1)
    if answer == b"S":
        return encryption
    if answer == b"N":
        if target.tls_mode in ("allow", "prefer"):
            return None
        raise TlsUnavailable("the server does not support TLS (SSL), which connection.tls.mode asks for")
    if not answer:
        raise ConnectionError("the server closed the connection when asked for TLS")
    raise NotPostgres


class _Handshake:
    def __init__(self, channel: Channel, encryption: Encryption, handshakes: Handshakes, namespace: str) -> None:
        self._channel, self._encryption = channel, encryption
        self._handshakes, self._namespace = handshakes, namespace
        self._bytes = self._records = 0
        self._seconds = 0.0

    async def run(self) -> None:
        # The server has said nothing yet: this makes a key on a curve, and takes 0.1 ms.
        with suppress(ssl.SSLWantReadError):
            self._encryption.shake()
        self._channel.write_raw(self._encryption.take_outgoing())
        while not await self._step(await self._receive()):
            pass
        self._channel.encrypt(self._encryption)

    async def _step(self, data: bytes) -> bool:
        step = await self._handshakes.run(self._namespace, lambda: self._encryption.shake(data))
        self._channel.write_raw(self._encryption.take_outgoing())
        if step.error is not None:
            raise _describe(step.error) from step.error
        self._seconds += step.seconds
        if self._seconds > MOST_HANDSHAKE_SECONDS:
            raise TlsUnavailable(
                f"the TLS handshake took {self._seconds:.2f} s of processor time: its certificates are too many or too "
                "large"
            )
        return step.is_done

    async def _receive(self) -> bytes:
        """The whole records that have come; raises Violation for more than a handshake has."""
        found = bytearray()
        while True:
            while record := self._channel.records.take():
                found += record
                self._records += 1
            if self._bytes + len(found) + len(self._channel.records) > MOST_HANDSHAKE_BYTES:
                raise Violation(f"the server sent more than {MOST_HANDSHAKE_BYTES >> 10} KiB before TLS was agreed on")
            if self._records > MOST_HANDSHAKE_RECORDS:
                raise Violation(f"the server sent more than {MOST_HANDSHAKE_RECORDS} records before TLS was agreed on")
            if found:
                self._bytes += len(found)
                return bytes(found)
            await self._channel.wait_for_news()


def _describe(error: Exception) -> Exception:
    if isinstance(error, ssl.SSLCertVerificationError):
        return TlsUnavailable(f"the server's certificate is not accepted: {error.verify_message}")
    if isinstance(error, ssl.SSLError):
        if error.reason in _NO_TLS_AT_ALL:
            return NotPostgres()
        return TlsUnavailable(f"no TLS session could be agreed on ({error.reason})")
    return error
