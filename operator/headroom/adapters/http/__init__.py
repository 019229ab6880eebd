"""The HTTP servers of the pod: probes on one port, metrics on another, so that a rule for one need not open both."""

import asyncio
from collections.abc import Callable
from types import TracebackType

from aiohttp import web

from headroom.adapters.http.metrics import Certificate, MetricsServer, Protection
from headroom.adapters.http.site import EVERY_ADDRESS, Site
from headroom.adapters.telemetry import LoopMonitor, PrometheusTelemetry
from headroom.ports.clock import Clock

__all__ = ["Certificate", "MetricsServer", "ProbeServer", "Protection"]

STALE_AFTER_SECONDS = 15.0
Check = Callable[[], str | None]
"""Describes in a sentence what is wrong; None if nothing is."""


class ProbeServer:
    """Answers /healthz and /readyz while the context is entered. `live` and `ready` hold checks by name. A follower is
    ready too.
    """

    def __init__(self, telemetry: PrometheusTelemetry, *, clock: Clock, port: int, host: str = EVERY_ADDRESS) -> None:
        self.monitor = LoopMonitor(clock, telemetry)
        self.live: dict[str, Check] = {"loop": self._find_stale_loop}
        self.ready: dict[str, Check] = {}
        routes = [web.get("/healthz", self._answer_health), web.get("/readyz", self._answer_ready)]
        self._site = Site(routes, port=port, host=host)
        self._task: asyncio.Task[None] | None = None

    @property
    def port(self) -> int:
        """The port it listens on; differs from what was asked if that was 0."""
        return self._site.port

    async def __aenter__(self) -> "ProbeServer":
        await self._site.__aenter__()
        await self._site.listen()
        self._task = asyncio.create_task(self.monitor.run())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._task is not None:
            self._task.cancel()
        await self._site.__aexit__(kind, error, trace)

    async def _answer_health(self, _: web.Request) -> web.Response:
        return _answer(self.live)

    async def _answer_ready(self, _: web.Request) -> web.Response:
        return _answer({**self.live, **self.ready})

    def _find_stale_loop(self) -> str | None:
        age = self.monitor.age_seconds()
        return f"the event loop has run no task for {age:.0f} s" if age > STALE_AFTER_SECONDS else None


def _answer(checks: dict[str, Check]) -> web.Response:
    problems = {name: problem for name, check in checks.items() if (problem := check()) is not None}
    lines = [f"{name}: {problems.get(name, 'ok')}" for name in checks]
    return web.Response(status=503 if problems else 200, text="\n".join(lines) + "\n")
