"""What a pod without any right can cost the operator through its HTTP ports: bounded, before anything is understood."""

import asyncio
import contextlib
import gc
import ssl
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trustme
from aiohttp import web

from headroom.adapters.http import site as module
from headroom.adapters.http.site import MOST_BYTES, MOST_CONNECTIONS, Site

HEAD = b"GET /metrics HTTP/1.1\r\nHost: x\r\n"


async def answer(_: web.Request) -> web.Response:
    return web.Response(text="x")


@contextlib.asynccontextmanager
async def serve(tls: ssl.SSLContext | None = None) -> AsyncIterator[Site]:
    async with Site([web.get("/metrics", answer)], port=0, host="127.0.0.1") as site:
        await site.listen(tls)
        yield site


def count_memory() -> int:
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 >> 20


async def is_answered(port: int) -> bool:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(HEAD + b"\r\n")
    text = await asyncio.wait_for(reader.read(), 5)
    writer.close()
    return text.startswith(b"HTTP/1.1 200")


async def test_no_request_may_have_more_bytes_than_one_needs() -> None:
    async with serve() as site:
        before, writers = count_memory(), []
        for _ in range(300):
            _, writer = await asyncio.open_connection("127.0.0.1", site.port)
            writers.append(writer)
            with contextlib.suppress(OSError):
                writer.write(HEAD + b"".join(b"X-%d: %s\r\n" % (number, b"a" * 8000) for number in range(50)))
                await writer.drain()
        await asyncio.sleep(0.2)
        # Most of it is what this test itself has not sent yet.
        for writer in writers:
            writer.transport.abort()
        await asyncio.sleep(0.2)
        print(f"{count_memory() - before} MiB more")
        assert count_memory() - before < 30
        assert await is_answered(site.port)


async def test_when_there_are_too_many_the_oldest_ends_and_who_comes_is_answered() -> None:
    async with serve() as site:
        idle = [await asyncio.open_connection("127.0.0.1", site.port) for _ in range(3 * MOST_CONNECTIONS)]
        assert await is_answered(site.port)
        ended = [await asyncio.wait_for(reader.read(), 5) for reader, _ in idle[: MOST_CONNECTIONS * 2]]
        assert set(ended) == {b""}
        for _, writer in idle:
            writer.close()


async def test_a_connection_that_never_asks_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LIFETIME_SECONDS", 0.2)
    async with serve() as site:
        reader, writer = await asyncio.open_connection("127.0.0.1", site.port)
        writer.write(HEAD)
        assert await asyncio.wait_for(reader.read(), 5) == b""
        writer.close()


async def test_what_is_no_request_fills_no_log(caplog: pytest.LogCaptureFixture) -> None:
    async with serve() as site:
        for text in (b"\x16\x03\x01\x00\x00", b"GET / HTTP/9\r\n\r\n", HEAD + b"X: y\r\n" * 500 + b"\r\n"):
            reader, writer = await asyncio.open_connection("127.0.0.1", site.port)
            writer.write(text)
            writer.write_eof()
            await asyncio.wait_for(reader.read(), 5)
            writer.close()
    assert not caplog.records


async def test_records_of_one_byte_do_not_hold_up_the_operator(tmp_path: Path) -> None:
    """They take some thousand times longer to read than to send, whatever they say."""
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("metrics").configure_cert(context)
    async with serve(context) as site:
        payloads = await asyncio.gather(*(shake_hands(site.port) for _ in range(20)))
        stalls, began = [], time.monotonic()
        for writer, records in payloads:
            writer.write(records)
        while time.monotonic() - began < 3:
            before = time.monotonic()
            await asyncio.sleep(0.005)
            stalls.append(time.monotonic() - before)
        print(f"longest stall {max(stalls):.3f} s")
        assert max(stalls) < 0.5
        for writer, _ in payloads:
            writer.transport.abort()


async def shake_hands(port: int) -> tuple[asyncio.StreamWriter, bytes]:
    """A connection after its handshake, and records of one byte for all that it may send and more."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    link = context.wrap_bio(incoming, outgoing)
    while True:
        try:
            link.do_handshake()
            break
        except ssl.SSLWantReadError:
            writer.write(outgoing.read())
            incoming.write(await reader.read(65536))
    writer.write(outgoing.read())
    for byte in (HEAD + b"X: " + b"a" * 2 * MOST_BYTES)[: 2 * MOST_BYTES]:
        link.write(bytes((byte,)))
    return writer, outgoing.read()
