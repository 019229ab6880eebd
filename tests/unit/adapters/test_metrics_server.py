"""Metrics over a real socket on loopback: open, or over TLS for callers whose token may read them."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import trustme
from aiohttp import web
from kubernetes.aio.client import ApiClient

from headroom.adapters.clock import SystemClock
from headroom.adapters.http import Certificate, MetricsServer, Protection
from headroom.adapters.http import metrics as module
from headroom.adapters.inmemory.clock import MemoryClock
from headroom.adapters.kube import review
from headroom.adapters.kube.api import ApiKube
from headroom.adapters.kube.review import TokenReviewer, Verdict
from headroom.adapters.telemetry import PrometheusTelemetry
from headroom.errors import KubeUnavailable, Refused
from headroom.ports.clock import Clock
from headroom.ports.kube import ACCESS_REVIEW, TOKEN_REVIEW, Kind
from headroom.reasons import Reason
from tests.unit.adapters.loopback import run_server

PROMETHEUS, STRANGER = "prometheus-token", "stranger-token"
HOST = "headroom-metrics.headroom.svc"


@dataclass
class ApiServer:
    """Knows two accounts, of which one may get /metrics; keeps what it was asked."""

    asked: list[tuple[Kind, Mapping[str, Any]]] = field(default_factory=list)
    is_down: bool = False
    gate: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.gate.set()

    async def review(self, kind: Kind, spec: Mapping[str, Any]) -> dict[str, Any]:
        self.asked.append((kind, spec))
        await self.gate.wait()
        if self.is_down:
            raise KubeUnavailable("down", reason=Reason.KUBE_UNAVAILABLE)
        if kind is TOKEN_REVIEW:
            is_known = spec["token"] in (PROMETHEUS, STRANGER)
            user = {"username": f"system:{spec['token']}", "groups": ["system:authenticated"]}
            return {"authenticated": True, "user": user} if is_known else {"error": "no"}
        assert kind is ACCESS_REVIEW
        return {"allowed": spec["user"] == f"system:{PROMETHEUS}"}


@dataclass
class Scene:
    server: MetricsServer
    api: ApiServer
    clock: Clock
    authority: trustme.CA
    folder: Path

    def write_certificate(self, authority: trustme.CA) -> None:
        issued = authority.issue_cert(HOST)
        (self.folder / "tls.crt").write_bytes(b"".join(blob.bytes() for blob in issued.cert_chain_pems))
        (self.folder / "tls.key").write_bytes(issued.private_key_pem.bytes())

    async def ask(
        self, authorization: str | None = None, authority: trustme.CA | None = None, path: str = "/metrics"
    ) -> tuple[int, str]:
        trusted = ssl.create_default_context()
        (authority or self.authority).configure_trust(trusted)
        headers = {} if authorization is None else {"Authorization": authorization}
        url = f"https://127.0.0.1:{self.server.port}{path}"
        async with (
            aiohttp.ClientSession() as session,
            session.get(url, headers=headers, ssl=trusted, server_hostname=HOST) as response,
        ):
            return response.status, await response.text()

    async def settle(self) -> None:
        while not self.server.port:  # noqa: ASYNC110  nobody tells
            await asyncio.sleep(0.01)


@asynccontextmanager
async def protected(folder: Path, *, clock: Clock | None = None, has_certificate: bool = True) -> AsyncIterator[Scene]:
    clock, api, authority = clock or SystemClock(), ApiServer(), trustme.CA()
    protection = Protection(Certificate(folder), TokenReviewer(api, clock))
    telemetry = PrometheusTelemetry(SystemClock())
    server = MetricsServer(telemetry, clock=clock, port=0, host="127.0.0.1", protection=protection)
    scene = Scene(server, api, clock, authority, folder)
    if has_certificate:
        scene.write_certificate(authority)
    async with server:
        if has_certificate:
            await scene.settle()
        yield scene


@pytest.mark.parametrize(
    ("accept", "content_type"),
    [("*/*", "text/plain"), ("application/openmetrics-text; version=1.0.0", "application/openmetrics-text")],
)
async def test_open_metrics_come_as_asked_and_nothing_else_does(accept: str, content_type: str) -> None:
    clock = SystemClock()
    async with (
        MetricsServer(PrometheusTelemetry(clock), clock=clock, port=0, host="127.0.0.1") as server,
        aiohttp.ClientSession(f"http://127.0.0.1:{server.port}") as session,
    ):
        response = await session.get("/metrics", headers={"Accept": accept})
        assert response.status == 200
        assert response.headers["Content-Type"].startswith(content_type)
        text = await response.text()
        assert "headroom_build_info" in text
        assert "process_resident_memory_bytes" in text
        assert (await session.get("/healthz")).status == 404


@pytest.mark.parametrize(
    ("authorization", "status"),
    [
        (f"Bearer {PROMETHEUS}", 200),
        (f"bearer {PROMETHEUS}", 200),
        (None, 401),
        ("", 401),
        ("Bearer ", 401),
        (f"Basic {PROMETHEUS}", 401),
        (PROMETHEUS, 401),
        ("Bearer made-up", 401),
        (f"Bearer {STRANGER}", 403),
    ],
)
async def test_only_a_token_that_may_read_them_gets_metrics(
    tmp_path: Path, authorization: str | None, status: int
) -> None:
    async with protected(tmp_path) as scene:
        found, text = await scene.ask(authorization)
        assert found == status
        assert ("headroom_build_info" in text) is (status == 200)


async def test_the_api_server_is_asked_for_this_path_and_for_the_caller_as_it_knows_it(tmp_path: Path) -> None:
    async with protected(tmp_path) as scene:
        await scene.ask(f"Bearer {PROMETHEUS}")
        (token_kind, token), (access_kind, access) = scene.api.asked
        assert (token_kind, token) == (TOKEN_REVIEW, {"token": PROMETHEUS})
        assert access_kind is ACCESS_REVIEW
        assert access["user"] == f"system:{PROMETHEUS}"
        assert access["groups"] == ["system:authenticated"]
        assert access["nonResourceAttributes"] == {"path": "/metrics", "verb": "get"}


async def test_metrics_that_are_protected_are_not_served_in_clear(tmp_path: Path) -> None:
    async with protected(tmp_path) as scene, aiohttp.ClientSession() as session:
        with pytest.raises(aiohttp.ClientError):
            await session.get(
                f"http://127.0.0.1:{scene.server.port}/metrics", headers={"Authorization": f"Bearer {PROMETHEUS}"}
            )
        assert scene.api.asked == []


async def test_without_a_certificate_nothing_is_served_until_there_is_one(tmp_path: Path) -> None:
    clock = MemoryClock()
    async with protected(tmp_path, clock=clock, has_certificate=False) as scene:
        await clock.advance(60)
        assert scene.server.port == 0
        scene.write_certificate(scene.authority)
        await clock.advance(module.FIRST_RETRY_SECONDS + 1)
        await scene.settle()
        assert (await scene.ask(f"Bearer {PROMETHEUS}"))[0] == 200


async def test_a_renewed_certificate_is_served_and_a_broken_one_is_not(tmp_path: Path) -> None:
    clock = MemoryClock()
    async with protected(tmp_path, clock=clock) as scene:
        renewed = trustme.CA()
        scene.write_certificate(renewed)
        await clock.advance(module.LOOK_AGAIN_SECONDS + 1)
        assert (await scene.ask(authority=renewed))[0] == 401
        (tmp_path / "tls.crt").write_text("not a certificate")
        await clock.advance(module.LOOK_AGAIN_SECONDS + 1)
        assert (await scene.ask(authority=renewed))[0] == 401, "the last one that could be read"


def reviewer() -> tuple[TokenReviewer, ApiServer, MemoryClock]:
    api, clock = ApiServer(), MemoryClock()
    return TokenReviewer(api, clock), api, clock


async def test_a_verdict_holds_for_a_while_and_not_for_ever() -> None:
    judge, api, clock = reviewer()
    assert await judge.decide(PROMETHEUS, "/metrics", "10.0.0.1") is Verdict.ALLOWED
    assert await judge.decide(PROMETHEUS, "/metrics", "10.0.0.2") is Verdict.ALLOWED
    assert len(api.asked) == 2
    await clock.advance(review.ALLOWED_SECONDS + 1)
    await judge.decide(PROMETHEUS, "/metrics", "10.0.0.1")
    assert len(api.asked) == 4


async def test_a_verdict_is_about_one_path() -> None:
    judge, api, _ = reviewer()
    await judge.decide(PROMETHEUS, "/metrics", "10.0.0.1")
    await judge.decide(PROMETHEUS, "/other", "10.0.0.1")
    assert len(api.asked) == 4


async def test_a_flood_of_wrong_tokens_displaces_no_right_one_and_stays_small() -> None:
    judge, api, _ = reviewer()
    await judge.decide(PROMETHEUS, "/metrics", "10.0.0.1")
    for number in range(3 * review.MOST_KNOWN):
        assert await judge.decide(f"wrong-{number}", "/metrics", "10.0.0.9") is Verdict.UNKNOWN_CALLER
    before = len(api.asked)
    assert await judge.decide(PROMETHEUS, "/metrics", "10.0.0.1") is Verdict.ALLOWED
    assert len(api.asked) == before, "it was still remembered"
    assert len(judge._refused._until) == review.MOST_KNOWN


async def test_one_address_has_one_question_at_a_time_and_holds_up_nobody_else() -> None:
    judge, api, _ = reviewer()
    api.gate.clear()
    slow = asyncio.create_task(judge.decide("wrong", "/metrics", "10.0.0.9"))
    await asyncio.sleep(0)
    others = [await judge.decide(f"wrong-{n}", "/metrics", "10.0.0.9") for n in range(50)]
    assert set(others) == {Verdict.TOO_MANY}
    assert len(api.asked) == 1
    scrape = asyncio.create_task(judge.decide(PROMETHEUS, "/metrics", "10.0.0.1"))
    await asyncio.sleep(0)
    api.gate.set()
    assert await scrape is Verdict.ALLOWED
    assert await slow is Verdict.UNKNOWN_CALLER


@pytest.mark.parametrize("token", ["", "x" * (review.LONGEST_TOKEN + 1)])
async def test_what_can_be_no_token_is_not_asked_about(token: str) -> None:
    judge, api, _ = reviewer()
    assert await judge.decide(token, "/metrics", "10.0.0.1") is Verdict.UNKNOWN_CALLER
    assert api.asked == []


async def test_an_api_server_that_is_away_lets_nobody_in_and_is_asked_again() -> None:
    judge, api, _ = reviewer()
    api.is_down = True
    assert await judge.decide(PROMETHEUS, "/metrics", "10.0.0.1") is Verdict.UNAVAILABLE
    api.is_down = False
    assert await judge.decide(PROMETHEUS, "/metrics", "10.0.0.1") is Verdict.ALLOWED


async def test_an_operator_without_the_right_to_ask_lets_nobody_in() -> None:
    class Forbidding(ApiServer):
        async def review(self, kind: Kind, spec: Mapping[str, Any]) -> dict[str, Any]:
            raise Refused("may not create tokenreviews", reason=Reason.FORBIDDEN)

    judge = TokenReviewer(Forbidding(), MemoryClock())
    assert await judge.decide(PROMETHEUS, "/metrics", "10.0.0.1") is Verdict.UNAVAILABLE


async def test_a_review_has_no_metadata_and_goes_to_the_kind_of_the_cluster() -> None:
    """The API server refuses a SubjectAccessReview with any."""
    seen: list[tuple[str, str, dict[str, Any]]] = []

    async def answer(request: web.Request) -> web.Response:
        seen.append((request.method, request.path, await request.json()))
        return web.json_response({"status": {"allowed": True}}, status=201)

    async with run_server(answer) as configuration:
        kube = ApiKube(ApiClient(configuration), clock=SystemClock())
        assert await kube.review(ACCESS_REVIEW, {"user": "a"}) == {"allowed": True}
        await kube.close()
    [(method, path, body)] = seen
    assert (method, path) == ("POST", "/apis/authorization.k8s.io/v1/subjectaccessreviews")
    assert body == {"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview", "spec": {"user": "a"}}
