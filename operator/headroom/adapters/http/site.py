"""One port of the pod: an HTTP server, with or without TLS, while its context is entered."""

import ssl
from collections.abc import Sequence
from types import TracebackType

from aiohttp import web

EVERY_ADDRESS = "0.0.0.0"  # noqa: S104  probes come from the node, metrics from another pod
SHUTDOWN_SECONDS = 1.0


class Site:
    """Answers `routes` on one port. It listens once `listen` was called."""

    def __init__(self, routes: Sequence[web.AbstractRouteDef], *, port: int, host: str = EVERY_ADDRESS) -> None:
        app = web.Application()
        app.add_routes(routes)
        self._host, self._asked_port = host, port
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=SHUTDOWN_SECONDS)

    @property
    def port(self) -> int:
        """The port it listens on; differs from what was asked if that was 0."""
        addresses = self._runner.addresses
        return int(addresses[0][1]) if addresses else self._asked_port

    async def __aenter__(self) -> "Site":
        await self._runner.setup()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._runner.cleanup()

    async def listen(self, tls: ssl.SSLContext | None = None) -> None:
        """Accept connections from now on."""
        site = web.TCPSite(self._runner, self._host, self._asked_port, ssl_context=tls, reuse_address=True)
        await site.start()
