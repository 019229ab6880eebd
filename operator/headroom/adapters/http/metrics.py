"""/metrics on a separate port: open, or over TLS for callers with a token that may read it."""

import asyncio
import logging
import ssl
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Protocol

from aiohttp import web

from headroom.adapters.http.site import EVERY_ADDRESS, Site
from headroom.adapters.kube.review import Verdict
from headroom.adapters.telemetry import PrometheusTelemetry
from headroom.ports.clock import Clock

logger = logging.getLogger(__name__)

PATH = "/metrics"
LOOK_AGAIN_SECONDS = 30.0
"""How often the certificate is looked at; the kubelet renews a mounted Secret within about a minute."""
FIRST_RETRY_SECONDS = 2.0
SCHEME = "Bearer "


class Reviewer(Protocol):
    """Says whether a caller may read the metrics."""

    async def decide(self, token: str, path: str, peer: str) -> Verdict:
        """The verdict on a bearer token."""
        ...


@dataclass(slots=True)
class Certificate:
    """`tls.crt` and `tls.key` of a folder, read again when they change; open connections continue."""

    folder: Path
    context: ssl.SSLContext = field(default_factory=lambda: ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER))
    _loaded: tuple[bytes, bytes] | None = None

    @property
    def is_loaded(self) -> bool:
        """Whether there is one to serve with."""
        return self._loaded is not None

    def load(self) -> bool:
        """Read the files; False if they hold nothing new. Raises OSError or ssl.SSLError, and keeps what it had."""
        names = self.folder / "tls.crt", self.folder / "tls.key"
        found = names[0].read_bytes(), names[1].read_bytes()
        if found == self._loaded:
            return False
        # Tried apart first: a pair that does not match would leave the context with half of it.
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(*names)
        self.context.load_cert_chain(*names)
        self._loaded = found
        return True


@dataclass(frozen=True, slots=True)
class Protection:
    """What keeps metrics from others: a certificate, and a reviewer of tokens."""

    certificate: Certificate
    reviewer: Reviewer


class MetricsServer:
    """Answers /metrics while the context is entered. With `protection` it begins once the certificate can be read."""

    def __init__(
        self,
        telemetry: PrometheusTelemetry,
        *,
        clock: Clock,
        port: int,
        host: str = EVERY_ADDRESS,
        protection: Protection | None = None,
    ) -> None:
        self._exposition, self._clock, self._protection = telemetry.exposition, clock, protection
        self._site = Site([web.get(PATH, self._answer)], port=port, host=host)
        self._task: asyncio.Task[None] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    @property
    def port(self) -> int:
        """The port it listens on."""
        return self._site.port

    async def __aenter__(self) -> "MetricsServer":
        self._loop = asyncio.get_running_loop()
        await self._site.__aenter__()
        if self._protection is None:
            await self._site.listen()
        else:
            self._task = asyncio.create_task(self._serve_protected(self._protection.certificate))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._task is not None:
            self._task.cancel()
        await self._site.__aexit__(kind, error, trace)

    async def _serve_protected(self, certificate: Certificate) -> None:
        """Listen once there is a certificate, and follow its renewals. Without one nothing is served, and the operator
        works on.
        """
        while not _load(certificate):
            await self._clock.sleep(FIRST_RETRY_SECONDS)
        await self._site.listen(certificate.context)
        while True:
            await self._clock.sleep(LOOK_AGAIN_SECONDS)
            _load(certificate)

    async def _answer(self, request: web.Request) -> web.Response:
        """Requests over TLS come on a separate thread; what they ask for is on the loop that began the server."""
        answer, loop = self._build_answer(request), self._loop
        if loop is asyncio.get_running_loop() or loop is None:
            return await answer
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(answer, loop))

    async def _build_answer(self, request: web.Request) -> web.Response:
        if self._protection is not None:
            verdict = await self._review(self._protection.reviewer, request)
            if verdict is not Verdict.ALLOWED:
                return web.Response(status=verdict.value, headers=_challenge(verdict))
        body, content_type = await self._exposition.get(request.headers.get("Accept", ""))
        return web.Response(body=body, headers={"Content-Type": content_type})

    async def _review(self, reviewer: Reviewer, request: web.Request) -> Verdict:
        scheme, token = request.headers.get("Authorization", "")[: len(SCHEME)], ""
        if scheme.lower() == SCHEME.lower():
            token = request.headers["Authorization"][len(SCHEME) :].strip()
        return await reviewer.decide(token, PATH, request.remote or "")


def _load(certificate: Certificate) -> bool:
    """Whether there is a certificate to serve with, also if a renewed one cannot be read."""
    try:
        if certificate.load():
            logger.info("metrics are served with the certificate in %s", certificate.folder)
    except (OSError, ssl.SSLError) as error:
        logger.warning("the certificate for metrics in %s cannot be used: %s", certificate.folder, error)
        return certificate.is_loaded
    return True


def _challenge(verdict: Verdict) -> dict[str, str]:
    return {"WWW-Authenticate": "Bearer"} if verdict is Verdict.UNKNOWN_CALLER else {}
