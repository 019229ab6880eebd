"""One port of the pod: an HTTP server, with or without TLS, while its context is entered.

Any pod of the cluster may connect, so that what a connection may cost is bounded before a request is understood: its
bytes, its time, and how many there are. If there are too many, those go first that come from one address.
"""

import asyncio
import logging
import ssl
import threading
from collections import Counter
from collections.abc import Coroutine, Sequence
from types import TracebackType
from typing import Any, TypeVar, cast

from aiohttp import web

logger = logging.getLogger(__name__)

T = TypeVar("T")
EVERY_ADDRESS = "0.0.0.0"  # noqa: S104  probes come from the node, metrics from another pod
SHUTDOWN_SECONDS = 1.0
MOST_CONNECTIONS = 64
"""Far more than probes and some Prometheus servers open at one time."""
MOST_BYTES = 16 << 10
"""Of all that a connection sends; a request has some hundred bytes, and a token at most a few thousand."""
LIFETIME_SECONDS = 20.0
"""Twice the time that Prometheus waits for an answer."""
HANDSHAKE_SECONDS = 5.0


class Site:
    """Answers `routes` on one port. It listens once `listen` was called; with TLS on its own thread and loop,
    since anybody can make records and handshakes that take much longer to read than to send.
    """

    def __init__(self, routes: Sequence[web.AbstractRouteDef], *, port: int, host: str = EVERY_ADDRESS) -> None:
        app = web.Application(middlewares=[_end_after_one])
        app.add_routes(routes)
        self._host, self._asked_port = host, port
        self._runner = web.AppRunner(app, access_log=None, logger=_silent(), shutdown_timeout=SHUTDOWN_SECONDS)
        self._server: asyncio.Server | None = None
        self._own: OwnLoop | None = None

    @property
    def port(self) -> int:
        """The port it listens on; differs from what was asked if that was 0."""
        sockets = () if self._server is None else self._server.sockets
        return int(sockets[0].getsockname()[1]) if sockets else self._asked_port

    async def __aenter__(self) -> "Site":
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._own is None:
            await self._end()
        else:
            await self._own.run(self._end())
            self._own.stop()

    async def listen(self, tls: ssl.SSLContext | None = None) -> None:
        """Accept connections from now on."""
        if tls is None:
            await self._begin(None)
        else:
            self._own = OwnLoop()
            await self._own.run(self._begin(tls))

    async def _begin(self, tls: ssl.SSLContext | None) -> None:
        await self._runner.setup()
        handlers = self._runner.server
        assert handlers is not None
        door = Door()
        self._server = await asyncio.get_running_loop().create_server(
            lambda: Guard(door, handlers()),
            self._host,
            self._asked_port,
            ssl=tls,
            ssl_handshake_timeout=None if tls is None else HANDSHAKE_SECONDS,
            reuse_address=True,
        )

    async def _end(self) -> None:
        if self._server is not None:
            self._server.close()
        await self._runner.cleanup()


class OwnLoop:
    """An event loop on its own thread."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="https", daemon=True)
        self._thread.start()

    async def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run `work` there, and wait for it here."""
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work, self._loop))

    def stop(self) -> None:
        """End the thread."""
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(SHUTDOWN_SECONDS)
        if not self._thread.is_alive():
            self._loop.close()


class Door:
    """The connections of a site, oldest first."""

    def __init__(self) -> None:
        self._guards: dict[Guard, str] = {}

    def admit(self, guard: "Guard", address: str) -> None:
        """Let one more in; if there are too many, the oldest of the address with most of them ends."""
        self._guards[guard] = address
        if len(self._guards) > MOST_CONNECTIONS:
            [(crowd, _)] = Counter(self._guards.values()).most_common(1)
            oldest = next(each for each, of in self._guards.items() if of == crowd)
            oldest.abort()
            self.forget(oldest)

    def forget(self, guard: "Guard") -> None:
        """It has ended."""
        self._guards.pop(guard, None)


class Guard(asyncio.Protocol):
    """Between a connection and its handler: ends it after too many bytes or too long a time."""

    def __init__(self, door: Door, handler: asyncio.Protocol) -> None:
        self._door, self._handler = door, handler
        self._transport: asyncio.Transport | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._bytes = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See asyncio.Protocol."""
        self._transport = cast("asyncio.Transport", transport)
        self._timer = asyncio.get_running_loop().call_later(LIFETIME_SECONDS, self.abort)
        self._handler.connection_made(transport)
        peer = transport.get_extra_info("peername")
        self._door.admit(self, str(peer[0]) if peer else "")

    def data_received(self, data: bytes) -> None:
        """See asyncio.Protocol."""
        self._bytes += len(data)
        if self._bytes > MOST_BYTES:
            self.abort()
        else:
            self._handler.data_received(data)

    def abort(self) -> None:
        """End it without a word."""
        if self._transport is not None:
            self._transport.abort()

    def connection_lost(self, error: Exception | None) -> None:
        """See asyncio.Protocol."""
        if self._timer is not None:
            self._timer.cancel()
        self._door.forget(self)
        self._handler.connection_lost(error)

    def eof_received(self) -> bool | None:
        """See asyncio.Protocol."""
        return self._handler.eof_received()

    def pause_writing(self) -> None:
        """See asyncio.Protocol."""
        self._handler.pause_writing()

    def resume_writing(self) -> None:
        """See asyncio.Protocol."""
        self._handler.resume_writing()


@web.middleware
async def _end_after_one(request: web.Request, handler: Any) -> web.StreamResponse:
    """One request for each connection; a mistake of ours is logged, one of a caller is not."""
    try:
        response = cast("web.StreamResponse", await handler(request))
    except web.HTTPException as refused:
        refused.force_close()
        raise
    except Exception:
        logger.exception("%s was not answered", request.path[:200])
        response = web.Response(status=500)
    response.force_close()
    return response


def _silent() -> logging.Logger:
    """What aiohttp reports goes nowhere: each connection that does not speak HTTP would be a line, or a whole trace."""
    silent = logging.getLogger(f"{__name__}.connections")
    silent.disabled = True
    return silent
