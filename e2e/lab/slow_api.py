"""An API server that answers late, as the operator sees it: a relay on the server's own address delays each request.

A handshake is not delayed: its flights would make a new connection several times as slow as the answers are.
"""

import asyncio
import contextlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from e2e.lab.kubectl import Kubectl
from e2e.lab.release import Release
from e2e.lab.waiting import wait_until

PORT = 16443
CHUNK = 65536
HANDSHAKE_PIECES = 2
"""What a client sends before its first request: its hello, and the end of the handshake."""
HOST_VARIABLE, PORT_VARIABLE = "KUBERNETES_SERVICE_HOST", "KUBERNETES_SERVICE_PORT"


class SlowRelay:
    """Passes bytes on unread, those of the client `seconds` later; what the server sends, watches too, at once."""

    def __init__(self, address: str, port: int, seconds: float) -> None:
        self._address, self._port, self._seconds = address, port, seconds
        self._loop = asyncio.new_event_loop()
        self._server: asyncio.Server | None = None
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    def start(self) -> None:
        """Listen on the same address; OSError where that is not an address of this machine."""
        self._thread.start()
        serving = asyncio.start_server(self._relay, self._address, PORT)
        self._server = asyncio.run_coroutine_threadsafe(serving, self._loop).result(timeout=10)

    def stop(self) -> None:
        """End all connections."""
        asyncio.run_coroutine_threadsafe(self._end(), self._loop).result(timeout=10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(timeout=10)
        self._loop.close()

    async def _end(self) -> None:
        assert self._server is not None
        self._server.close()
        relays = asyncio.all_tasks() - {asyncio.current_task()}
        for task in relays:
            task.cancel()
        await asyncio.gather(*relays, return_exceptions=True)

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            from_server, to_server = await asyncio.open_connection(self._address, self._port)
        except OSError:
            writer.close()
            return
        try:
            await asyncio.gather(self._pass_late(reader, to_server), self._pass(from_server, writer))
        finally:
            writer.close()
            to_server.close()

    async def _pass_late(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Each piece leaves its time after it came: those on the way do not wait for each other."""
        pieces: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()
        sending, seen = asyncio.create_task(self._send(pieces, writer)), 0
        with contextlib.suppress(ConnectionError):
            while piece := await reader.read(CHUNK):
                seen += 1
                pieces.put_nowait((self._loop.time() + (self._seconds if seen > HANDSHAKE_PIECES else 0.0), piece))
        pieces.put_nowait((self._loop.time(), b""))
        await sending

    async def _send(self, pieces: asyncio.Queue[tuple[float, bytes]], writer: asyncio.StreamWriter) -> None:
        while (item := await pieces.get())[1]:
            await asyncio.sleep(max(0.0, item[0] - self._loop.time()))
            writer.write(item[1])
        writer.close()

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while piece := await reader.read(CHUNK):
                writer.write(piece)
                await writer.drain()
        writer.close()


@contextmanager
def slow_api(release: Release, seconds: float) -> Iterator[None]:
    """The operator's requests to the API server arrive `seconds` late while the block lasts."""
    endpoint = Kubectl("default").list("endpointslices", "kubernetes.io/service-name=kubernetes")[0]
    address, port = endpoint["endpoints"][0]["addresses"][0], endpoint["ports"][0]["port"]
    relay = SlowRelay(address, port, seconds)
    relay.start()
    try:
        _reach_api_by(release, f"{HOST_VARIABLE}={address}", f"{PORT_VARIABLE}={PORT}")
        yield
    finally:
        _reach_api_by(release, f"{HOST_VARIABLE}-", f"{PORT_VARIABLE}-")
        relay.stop()


def _reach_api_by(release: Release, *variables: str) -> None:
    """New pods of the operator, and one of them leads."""
    release.kubectl("set", "env", f"deployment/{release.name}", *variables)
    release.kubectl("rollout", "status", f"deployment/{release.name}", "--timeout=180s", timeout=200)
    wait_until("the old pods to be gone", lambda: len(release.pods()) == 2, timeout=90)
    release.wait_leader(timeout=90)
