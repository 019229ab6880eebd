"""The HTTP server of the pod: /healthz, /readyz, /metrics on one port."""

import asyncio
from collections.abc import Callable
from types import TracebackType

from aiohttp import web

from headroom.adapters.telemetry import LoopMonitor, PrometheusTelemetry
from headroom.ports.clock import Clock

EVERY_ADDRESS = "0.0.0.0"  # noqa: S104  probes come from the node, metrics from another pod
STALE_AFTER_SECONDS = 15.0
SHUTDOWN_SECONDS = 1.0
Check = Callable[[], str | None]
"""Describes in a sentence what is wrong; None if nothing is."""


class ProbeServer:
    """Answers while the context is entered. `live` and `ready` hold checks by name. A follower is ready too."""

    def __init__(self, telemetry: PrometheusTelemetry, *, clock: Clock, port: int, host: str = EVERY_ADDRESS) -> None:
        self.monitor = LoopMonitor(clock, telemetry)
        self.live: dict[str, Check] = {"loop": self._find_stale_loop}
        self.ready: dict[str, Check] = {}
        self.app = web.Application()
        self.app.add_routes(
            [
                web.get("/healthz", self._answer_health),
                web.get("/readyz", self._answer_ready),
                web.get("/metrics", self._answer_metrics),
            ]
        )
        self._registry = telemetry.registry
        self._host, self._asked_port = host, port
        self._runner = web.AppRunner(self.app, access_log=None, shutdown_timeout=SHUTDOWN_SECONDS)
        self._task: asyncio.Task[None] | None = None

    @property
    def port(self) -> int:
        """The port it listens on; differs from what was asked if that was 0."""
        addresses = self._runner.addresses
        return int(addresses[0][1]) if addresses else self._asked_port

    async def __aenter__(self) -> "ProbeServer":
        await self._runner.setup()
        await web.TCPSite(self._runner, self._host, self._asked_port, reuse_address=True).start()
        self._task = asyncio.create_task(self.monitor.run())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._task is not None:
            self._task.cancel()
        await self._runner.cleanup()

    async def _answer_health(self, _: web.Request) -> web.Response:
        return _answer(self.live)

    async def _answer_ready(self, _: web.Request) -> web.Response:
        return _answer({**self.live, **self.ready})

    async def _answer_metrics(self, request: web.Request) -> web.Response:
        # In a thread: with many series, writing the text would block the loop for too long.
        body, content_type = await asyncio.to_thread(self._registry.expose, request.headers.get("Accept", ""))
        return web.Response(body=body, headers={"Content-Type": content_type})

    def _find_stale_loop(self) -> str | None:
        age = self.monitor.age_seconds()
        return f"the event loop has run no task for {age:.0f} s" if age > STALE_AFTER_SECONDS else None


def _answer(checks: dict[str, Check]) -> web.Response:
    problems = {name: problem for name, check in checks.items() if (problem := check()) is not None}
    lines = [f"{name}: {problems.get(name, 'ok')}" for name in checks]
    return web.Response(status=503 if problems else 200, text="\n".join(lines) + "\n")
