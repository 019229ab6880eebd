"""An API server on loopback that answers as told, and the adapter that asks it."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from aiohttp import web
from kubernetes.aio.client import ApiClient

from headroom.adapters.clock import SystemClock
from headroom.adapters.inmemory.telemetry import MemoryTelemetry
from headroom.adapters.kube.api import ApiKube
from headroom.adapters.kube.limits import Limits
from headroom.ports.kube import CONFIG_MAP, Kind, ObjectRef
from tests.unit.adapters.loopback import run_server

ONE = ObjectRef(CONFIG_MAP, "shop", "one")
DEPLOYMENT = ObjectRef(Kind("apps/v1", "Deployment", "deployments"), "shop", "workers")
MANIFEST = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"namespace": "shop", "name": "one"}}
PATIENCE = Limits(read_timeout_seconds=20, write_timeout_seconds=19)
IMPATIENCE = Limits(read_timeout_seconds=0.3, write_timeout_seconds=0.2)
Handler = Callable[[web.Request], "web.Response"]


class Server:
    """Answers every request with what `answer` returns; keeps the requests."""

    def __init__(self) -> None:
        self.requests: list[tuple[str, str, dict[str, str], Any]] = []
        self.answer: Handler = lambda _request: web.json_response({})
        self.delay_seconds = 0.0
        self.gate = asyncio.Event()
        self.gate.set()
        self.at_once = 0
        self.most_at_once = 0

    async def handle(self, request: web.Request) -> web.Response:
        text = await request.text()
        body = json.loads(text) if text else None
        self.requests.append((request.method, request.path, dict(request.query), body))
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            await asyncio.sleep(self.delay_seconds)
            await self.gate.wait()
        finally:
            self.at_once -= 1
        return self.answer(request)

    def say(self, status: int, message: str = "", headers: dict[str, str] | None = None, **more: Any) -> None:
        body = {"kind": "Status", "status": "Failure", "message": message, "code": status, **more}
        self.answer = lambda _request: web.json_response(body, status=status, headers=headers)


@pytest.fixture
async def server() -> Server:
    return Server()


@pytest.fixture
def telemetry() -> MemoryTelemetry:
    return MemoryTelemetry()


@pytest.fixture
async def kube(server: Server, telemetry: MemoryTelemetry) -> AsyncIterator[ApiKube]:
    async for found in serve(server, telemetry, PATIENCE):
        yield found


async def serve(server: Server, telemetry: MemoryTelemetry, limits: Limits) -> AsyncIterator[ApiKube]:
    async with run_server(server.handle) as configuration:
        kube = ApiKube(ApiClient(configuration), clock=SystemClock(), telemetry=telemetry, limits=limits)
        yield kube
        await kube.close()
