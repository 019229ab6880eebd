"""Probes over a real socket on loopback."""

from collections.abc import AsyncIterator

import aiohttp
import pytest

from headroom.adapters.clock import SystemClock
from headroom.adapters.http import STALE_AFTER_SECONDS, ProbeServer
from headroom.adapters.telemetry import PrometheusTelemetry


@pytest.fixture
async def server() -> AsyncIterator[ProbeServer]:
    async with build_server() as server:
        yield server


def build_server() -> ProbeServer:
    clock = SystemClock()
    return ProbeServer(PrometheusTelemetry(clock), clock=clock, port=0, host="127.0.0.1")


async def ask(server: ProbeServer, path: str, accept: str = "*/*") -> tuple[int, str, str]:
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"http://127.0.0.1:{server.port}{path}", headers={"Accept": accept}) as response,
    ):
        return response.status, response.headers["Content-Type"], await response.text()


async def test_a_new_process_is_alive_and_ready(server: ProbeServer) -> None:
    assert (await ask(server, "/healthz"))[0] == 200
    assert (await ask(server, "/readyz"))[0] == 200
    assert (await ask(server, "/nothing"))[0] == 404


async def test_a_check_that_fails_is_named(server: ProbeServer) -> None:
    server.ready["watch"] = lambda: "the first list is under way"
    status, _, text = await ask(server, "/readyz")
    assert (status, text) == (503, "loop: ok\nwatch: the first list is under way\n")
    assert (await ask(server, "/healthz"))[0] == 200
    server.ready["watch"] = lambda: None
    assert (await ask(server, "/readyz"))[0] == 200


async def test_a_loop_that_stood_still_is_not_alive(server: ProbeServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(type(server.monitor), "age_seconds", lambda _self: STALE_AFTER_SECONDS + 1)
    for path in ("/healthz", "/readyz"):
        status, _, text = await ask(server, path)
        assert status == 503
        assert "has run no task for 16 s" in text


async def test_probes_show_no_metrics(server: ProbeServer) -> None:
    assert (await ask(server, "/metrics"))[0] == 404


async def test_it_is_gone_after_it_was_left() -> None:
    async with build_server() as server:
        port = server.port
    assert server.port == 0
    with pytest.raises(aiohttp.ClientConnectorError):
        async with aiohttp.ClientSession() as session:
            await session.get(f"http://127.0.0.1:{port}/healthz")
