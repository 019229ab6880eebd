"""The socket to a server: encrypted as a spec asks, read message by message until the login is done."""

import asyncio
import ssl

from headroom.adapters.clock import read_seconds
from headroom.adapters.postgres.wire.encryption import Encryption
from headroom.adapters.postgres.wire.messages import HEADER, NotPostgres, Violation
from headroom.adapters.postgres.wire.pace import Pace
from headroom.adapters.postgres.wire.records import RecordMeter, Records
from headroom.adapters.postgres.wire.sink import Sink

MOST_LOGIN_BYTES = 128 << 10
MOST_LOGIN_MESSAGES = 200
MOST_ERROR = 30_000
MOST_MESSAGE = 2_000
"""As libpq bounds them before a login is done."""
PIECE_BYTES = 64 << 10
_piece = memoryview(bytearray(PIECE_BYTES))
"""What is read from a socket; it is taken out before anything else runs."""


class Channel(asyncio.BufferedProtocol):
    """Messages of a login one by one; afterwards every piece goes to `sink`.

    With TLS, what comes is decrypted record by record, at the `pace` of the namespace.
    """

    def __init__(self, namespace: str = "", pace: Pace | None = None) -> None:
        self.sink: Sink | None = None
        self.records = Records()
        self.encryption: Encryption | None = None
        self.is_encrypted = False
        """What comes are records of TLS; those of the handshake are left to whoever conducts it."""
        self.meter = RecordMeter()
        self._transport: asyncio.Transport
        self._namespace = namespace
        self._pace = pace or Pace()
        self._buffer = bytearray()
        self._received = 0
        self._messages = 0
        self._news = asyncio.Event()
        self._problem: Violation | None = None
        self._is_held = False
        self._is_queued = False
        self._is_lost = False
        self._is_over = False

    # The socket.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See asyncio.BaseProtocol."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def get_buffer(self, sizehint: int) -> memoryview:
        """See asyncio.BufferedProtocol."""
        return _piece

    def buffer_updated(self, nbytes: int) -> None:
        """See asyncio.BufferedProtocol."""
        data = bytes(_piece[:nbytes])
        if not self.is_encrypted:
            self._deliver(data)
            return
        if len(self.records) > PIECE_BYTES:
            self._transport.pause_reading()
        self.records.add(data)
        self._news.set()
        self._go_on()

    def connection_lost(self, exc: Exception | None) -> None:
        """See asyncio.BaseProtocol."""
        self._is_lost = True
        if not self._is_queued and not (self._is_held and len(self.records)):
            self._finish()

    def pause_writing(self) -> None:
        """See asyncio.BaseProtocol."""
        if self.sink is not None:
            self.sink.pause(is_paused=True)

    def resume_writing(self) -> None:
        """See asyncio.BaseProtocol."""
        if self.sink is not None:
            self.sink.pause(is_paused=False)

    # Who uses it.

    @property
    def is_reading(self) -> bool:
        """Data of the server goes to the sink as it comes."""
        return not self._is_held

    def pause_reading(self) -> None:
        """Keep what comes."""
        self._is_held = True
        if not self.is_encrypted:
            self._transport.pause_reading()

    def resume_reading(self) -> None:
        """Give what has been kept and what comes to the sink again."""
        self._is_held = False
        if self.is_encrypted:
            self._go_on()
        elif self._is_lost:
            self._finish()
        else:
            self._transport.resume_reading()

    def write(self, data: bytes) -> None:
        """Send to the server."""
        if self.encryption is not None:
            try:
                data = self.encryption.encrypt(data)
            except ssl.SSLError:
                self.abort()
                return
        self._transport.write(data)

    def write_raw(self, data: bytes) -> None:
        """Send records of the TLS session itself."""
        if data:
            self._transport.write(data)

    def close(self) -> None:
        """End the connection once what was written has been sent."""
        if self.encryption is not None and not self._transport.is_closing():
            self.write_raw(self.encryption.end())
        self._transport.close()

    def abort(self) -> None:
        """End it at once."""
        self.records.clear()
        self._transport.abort()
        if self._is_lost:
            self._finish()

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

    async def wait_for_news(self) -> None:
        """Return when more has come; raises ConnectionError if no more will."""
        if self._problem is not None:
            raise self._problem
        if self._is_over:
            raise ConnectionError("the server closed the connection during the login")
        self._news.clear()
        await self._news.wait()

    def encrypt(self, encryption: Encryption) -> None:
        """The handshake is done: what comes from now on, and what came with its end, is data."""
        self.encryption = encryption
        self._go_on()

    # What is read.

    def _go_on(self) -> None:
        if self.encryption is not None and not self._is_queued and not self._is_held:
            self._is_queued = True
            self._pace.run(self._namespace, self._decrypt)

    def _decrypt(self, until: float) -> bool:
        """Give the data of some records to the sink; True if there are more that it would take."""
        data, has_more = bytearray(), False
        try:
            while record := self.records.take():
                data += self._open(record)
                if read_seconds() >= until:
                    has_more = True
                    break
        except Violation as violation:
            self._refuse(violation)
        except ssl.SSLError:
            self.abort()
        if data and self._problem is None:
            self._deliver(bytes(data))
        if has_more and not self._is_held:
            return True
        self._is_queued = False
        if self._is_held:
            return False
        if self._is_lost:
            self._finish()
        else:
            self._transport.resume_reading()
        return False

    def _open(self, record: bytes) -> bytes:
        assert self.encryption is not None
        data = self.encryption.decrypt(record)
        self.write_raw(self.encryption.take_outgoing())
        if data is None:
            self._transport.close()
            self.records.clear()
            return b""
        self.meter.count(len(record), len(data))
        return data

    def _deliver(self, data: bytes) -> None:
        if self.sink is not None:
            self.sink.take(data)
            return
        self._received += len(data)
        self._buffer += data
        self._news.set()
        if self._received > MOST_LOGIN_BYTES:
            self.pause_reading()

    def _refuse(self, violation: Violation) -> None:
        self._problem = violation
        self._news.set()
        self.abort()
        if self.sink is not None:
            self.sink.abort(violation)

    def _finish(self) -> None:
        if not self._is_over:
            self._is_over = True
            self._news.set()
            if self.sink is not None:
                self.sink.end()

    async def _read(self, count: int) -> bytes:
        while len(self._buffer) < count:
            if self._received > MOST_LOGIN_BYTES:
                raise Violation(f"the server sent more than {MOST_LOGIN_BYTES >> 10} KiB before the login was done")
            await self.wait_for_news()
        data = bytes(self._buffer[:count])
        del self._buffer[:count]
        return data
