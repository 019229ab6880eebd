"""The filter between two sockets: the server's, and the local one that libpq has."""

import asyncio
import os
import struct
from contextlib import suppress

from headroom.adapters.postgres.wire.answers import LARGE_BYTES, AnswerFilter
from headroom.adapters.postgres.wire.login import Session
from headroom.adapters.postgres.wire.messages import Violation, build, build_parameter
from headroom.adapters.postgres.wire.sink import Sink

CLOSE_SECONDS = 1.0
"""How long a server may take to end a connection that we end."""
PIECE_BYTES = 8 << 10
"""Of an answer, in one turn of the loop."""


class Relay(Sink, asyncio.Protocol):
    """The local side; as a `Sink` it takes what the server sends."""

    def __init__(self, session: Session, answers: AnswerFilter, address: str) -> None:
        self.address = address
        self.session = session
        self.problem: Violation | None = None
        """Why the relay ended the connection, if it did."""
        self.closed = asyncio.Event()
        self.transport: asyncio.Transport | None = None
        self._answers = answers
        self._is_greeted = False
        self._first = bytearray()
        self._is_server_gone = False
        self._is_full = False
        self._waiting = bytearray()
        answers.end = self.abort

    @property
    def is_swollen(self) -> bool:
        """An answer was so large that its buffers should not stay."""
        return self._answers.largest > LARGE_BYTES

    # The local side.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See asyncio.Protocol."""
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        """See asyncio.Protocol."""
        if self._is_greeted:
            self._answers.begin()
            self.session.channel.meter.begin()
            self.session.channel.write(data)
            return
        self._first += data
        if len(self._first) >= 4 and len(self._first) >= int.from_bytes(self._first[:4], "big"):
            self._greet()

    def _greet(self) -> None:
        """Answer libpq's startup message as if the login had been its own."""
        assert self.transport is not None
        self._is_greeted = True
        session = self.session
        known = b"".join(build_parameter(name, value) for name, value in session.parameters.items())
        key = build(b"K", struct.pack("!i", session.pid) + os.urandom(4))
        self.transport.write(build(b"R", struct.pack("!I", 0)) + known + key + build(b"Z", b"I"))
        session.channel.meter.most = self._answers.most_records
        session.channel.hand_over(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """See asyncio.Protocol."""
        self.transport = None
        self._close_server()

    def pause_writing(self) -> None:
        """See asyncio.Protocol."""
        self._is_full = True
        self._hold_server()

    def resume_writing(self) -> None:
        """See asyncio.Protocol."""
        self._is_full = False
        self._release_server()

    # The server's side.

    def take(self, data: bytes) -> None:
        """See Sink."""
        self._waiting += data
        if len(self._waiting) == len(data):
            self._pass_on()

    def _pass_on(self) -> None:
        """A piece in each turn of the loop: thousands of small messages must not hold up all else."""
        if self.transport is None or self.problem is not None:
            self._waiting.clear()
            return
        try:
            passed, count = self._answers.feed_some(bytes(self._waiting[:PIECE_BYTES]))
            del self._waiting[:count]
            self.transport.write(passed)
        except Violation as violation:
            self.abort(violation)
            return
        if self._waiting:
            self._hold_server()
            asyncio.get_running_loop().call_soon(self._pass_on)
        elif self._is_server_gone:
            self.transport.close()
        else:
            self._release_server()

    def end(self) -> None:
        """See Sink."""
        self._is_server_gone = True
        if self.transport is not None and not self._waiting:
            # libpq reads what the server said last; of what waits, the rest is passed on first.
            self.transport.close()
        self._check_closed()

    def pause(self, *, is_paused: bool) -> None:
        """See Sink."""
        if self.transport is not None:
            (self.transport.pause_reading if is_paused else self.transport.resume_reading)()

    def _hold_server(self) -> None:
        if self.session.channel.is_reading:
            self.session.channel.pause_reading()

    def _release_server(self) -> None:
        channel = self.session.channel
        if not self._waiting and not self._is_full and not channel.is_reading:
            channel.resume_reading()

    # Both.

    def abort(self, problem: Violation | None = None) -> None:
        """End both sides at once, whatever is under way."""
        self.problem = self.problem or problem
        self.session.channel.abort()
        if self.transport is not None:
            self.transport.abort()

    async def wait_closed(self) -> None:
        """Return when both sides are closed."""
        with suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_SECONDS):
                await self.closed.wait()
                return
        self.abort()

    def _close_server(self) -> None:
        channel = self.session.channel
        if not self._is_server_gone:
            channel.close()
            asyncio.get_running_loop().call_later(CLOSE_SECONDS, channel.abort)
            if not self._is_greeted:
                channel.hand_over(self)
        self._check_closed()

    def _check_closed(self) -> None:
        if self._is_server_gone and self.transport is None:
            self._answers.close()
            self.closed.set()
