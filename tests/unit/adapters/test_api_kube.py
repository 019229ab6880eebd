"""The HTTP adapter against a server on loopback that answers as told: errors, limits, pages, memory of kinds."""

import asyncio
import json
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from aiohttp import web
from kubernetes.aio.client import ApiClient, Configuration

from headroom.adapters.clock import SystemClock
from headroom.adapters.inmemory.telemetry import MemoryTelemetry
from headroom.adapters.kube.api import ApiKube
from headroom.adapters.kube.limits import Limits
from headroom.adapters.kube.transport import API_CALLS
from headroom.errors import Conflict, HeadroomError, KubeUnavailable, NotLeading, NotServed, Refused
from headroom.ports.kube import CONFIG_MAP, POD, Kind, Kube, ObjectRef
from headroom.reasons import Reason
from tests.unit.adapters.answering_server import (
    DEPLOYMENT,
    IMPATIENCE,
    MANIFEST,
    ONE,
    PATIENCE,
    Server,
    kube,
    serve,
    server,
    telemetry,
)

__all__ = ["kube", "server", "telemetry"]


class TestUnavailable:
    @pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
    async def test_the_server_says_later(self, kube: Kube, server: Server, status: int) -> None:
        server.say(status, "not now")
        with pytest.raises(KubeUnavailable, match="not now") as error:
            await kube.get(ONE)
        assert error.value.reason is Reason.KUBE_UNAVAILABLE
        assert error.value.retry_after == timedelta(seconds=2)

    @pytest.mark.parametrize(
        ("header", "expected"), [("7", 7), ("0.5", 0.5), ("86400", 60), ("soon", 2), ("-1", 2), ("inf", 2), ("nan", 2)]
    )
    async def test_retry_after_is_honoured_within_reason(
        self, kube: Kube, server: Server, header: str, expected: float
    ) -> None:
        server.say(429, "too many", {"Retry-After": header})
        with pytest.raises(KubeUnavailable) as error:
            await kube.patch(ONE, [])
        assert error.value.retry_after == timedelta(seconds=expected)

    async def test_no_answer_in_time(self, kube: ApiKube, server: Server, telemetry: MemoryTelemetry) -> None:
        server.delay_seconds = 15
        clock = SystemClock()
        started_at = clock.monotonic()
        with pytest.raises(KubeUnavailable):
            await kube.with_limits(IMPATIENCE).create(MANIFEST)
        assert clock.monotonic() - started_at < 10
        assert telemetry.value(API_CALLS, verb="create", kind="ConfigMap", code="0") == 1

    async def test_nobody_listens(self) -> None:
        kube = ApiKube(ApiClient(Configuration(host="http://127.0.0.1:9")), clock=SystemClock(), limits=PATIENCE)
        with pytest.raises(KubeUnavailable, match=r"get configmaps shop/one: .*the connection was refused"):
            await kube.get(ONE)
        await kube.close()

    async def test_a_connection_that_breaks(self, kube: Kube, server: Server) -> None:
        def cut(request: web.Request) -> web.Response:
            assert request.transport is not None
            request.transport.abort()
            return web.Response()

        server.answer = cut
        with pytest.raises(KubeUnavailable):
            await kube.create(MANIFEST)


class TestRefused:
    async def test_a_missing_right_comes_with_the_rule_to_paste(self, kube: Kube, server: Server) -> None:
        server.say(403, 'configmaps is forbidden: User "x" cannot create resource "configmaps" in API group ""')
        with pytest.raises(Refused) as error:
            await kube.create(MANIFEST)
        assert error.value.reason is Reason.FORBIDDEN
        assert '{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["create"]}' in str(error.value)
        assert "namespace shop" in str(error.value)

    async def test_a_scale_target_comes_with_the_cluster_role(self, kube: Kube, server: Server) -> None:
        server.say(403, 'User "x" cannot update resource "deployments/scale" in API group "apps"')
        with pytest.raises(Refused) as error:
            await kube.get_scale(DEPLOYMENT)
        assert error.value.reason is Reason.TARGET_FORBIDDEN
        role = json.loads(str(error.value).split("apply: ")[1])
        assert role["kind"] == "ClusterRole"
        assert role["metadata"]["labels"] == {"rbac.headroom.dev/scale-target": "true"}
        assert role["rules"] == [
            {"apiGroups": ["apps"], "resources": ["deployments", "deployments/scale"], "verbs": ["get", "update"]}
        ]

    @pytest.mark.parametrize(
        ("message", "reason"),
        [
            ('pods "x" is forbidden: exceeded quota: small, requested: pods=1, used: pods=2', Reason.QUOTA_EXCEEDED),
            ('pods "x" is forbidden: maximum cpu usage per Container is 1, but limit is 2', Reason.QUOTA_EXCEEDED),
            ('pods "x" is forbidden: violates PodSecurity "restricted:latest"', Reason.FORBIDDEN),
        ],
    )
    async def test_quota_is_told_from_policy(self, kube: Kube, server: Server, message: str, reason: Reason) -> None:
        server.say(403, message)
        with pytest.raises(Refused, match="forbidden") as error:
            await kube.create(MANIFEST)
        assert error.value.reason is reason

    async def test_a_namespace_that_ends(self, kube: Kube, server: Server) -> None:
        details = {"causes": [{"reason": "NamespaceTerminating", "message": "namespace shop is being terminated"}]}
        server.say(403, "unable to create new content in namespace shop", details=details)
        with pytest.raises(Refused) as error:
            await kube.create(MANIFEST)
        assert error.value.reason is Reason.NAMESPACE_TERMINATING

    @pytest.mark.parametrize("status", [400, 422])
    async def test_validation(self, kube: Kube, server: Server, status: int) -> None:
        server.say(status, "spec.x: Invalid value", reason="Invalid", details={"causes": [{"field": "spec.x"}]})
        with pytest.raises(Refused, match=r"spec\.x") as error:
            await kube.patch(ONE, [{"op": "add", "path": "/x", "value": 1}])
        assert error.value.reason is Reason.INVALID_SPEC

    async def test_a_token_that_is_not_known(self, kube: Kube, server: Server) -> None:
        server.say(401, "Unauthorized")
        with pytest.raises(Refused, match="token"):
            await kube.get(ONE)

    @pytest.mark.parametrize("name", ["..", ".", "a/b", "a?b", "", "x" * 254, "a b"])
    async def test_a_name_that_would_lead_elsewhere(self, kube: Kube, server: Server, name: str) -> None:
        with pytest.raises(Refused):
            await kube.delete(ObjectRef(POD, name or "..", name), uid="u")
        assert server.requests == []

    async def test_an_error_page_of_a_proxy(self, kube: Kube, server: Server) -> None:
        server.answer = lambda _request: web.Response(status=502, text="<html>Bad gateway</html>")
        with pytest.raises(KubeUnavailable, match="Bad gateway"):
            await kube.get(ONE)


class TestConflict:
    async def test_409(self, kube: Kube, server: Server) -> None:
        server.say(409, "already exists", reason="AlreadyExists")
        with pytest.raises(Conflict):
            await kube.create(MANIFEST)

    async def test_a_patch_of_what_is_gone(self, kube: Kube, server: Server) -> None:
        server.say(404, "not found")
        with pytest.raises(Conflict):
            await kube.patch(ONE, [])
        await kube.delete(ONE, uid="u")
        assert await kube.get(ONE) is None

    async def test_a_list_of_what_is_not_served_is_unknown_and_never_empty(self, kube: Kube, server: Server) -> None:
        server.say(404, "the server could not find the requested resource")
        with pytest.raises(NotServed, match="ConfigMap"):
            await kube.list(CONFIG_MAP, "shop")


class TestRequests:
    async def test_a_write_names_its_manager_and_its_time(self, kube: Kube, server: Server) -> None:
        await kube.create(MANIFEST)
        method, path, query, body = server.requests[0]
        assert (method, path) == ("POST", "/api/v1/namespaces/shop/configmaps")
        assert query == {"fieldManager": "headroom", "timeout": "19s"}
        assert body == MANIFEST

    @pytest.mark.parametrize(
        ("metadata", "is_held"),
        [
            ({"deletionTimestamp": "t", "deletionGracePeriodSeconds": 30}, True),
            ({"deletionTimestamp": "t", "deletionGracePeriodSeconds": 0, "finalizers": ["a/b"]}, True),
            ({"deletionTimestamp": "t", "deletionGracePeriodSeconds": 0}, False),
            ({"uid": "u"}, False),
        ],
    )
    async def test_a_delete_tells_whether_something_holds_the_object(
        self, kube: Kube, server: Server, metadata: dict[str, Any], *, is_held: bool
    ) -> None:
        """A pod that goes at once comes back as it was last, other kinds as a Status: both are gone."""
        server.answer = lambda _: web.json_response({"kind": "Pod", "metadata": metadata})
        answer = await kube.delete(ONE, uid="u")
        assert (answer is not None) == is_held
        server.answer = lambda _: web.json_response({"kind": "Status", "status": "Success", "metadata": {}})
        assert await kube.delete(ONE, uid="u") is None

    async def test_a_delete_names_its_incarnation(self, kube: Kube, server: Server) -> None:
        await kube.delete(ONE, uid="u", resource_version="5", grace_seconds=0)
        method, path, _, body = server.requests[0]
        assert (method, path) == ("DELETE", "/api/v1/namespaces/shop/configmaps/one")
        assert body["preconditions"] == {"uid": "u", "resourceVersion": "5"}
        assert (body["gracePeriodSeconds"], body["propagationPolicy"]) == (0, "Background")

    async def test_a_list_is_read_in_pages(self, kube: Kube, server: Server) -> None:
        def page(request: web.Request) -> web.Response:
            is_last = request.query.get("continue") == "next"
            name = "two" if is_last else "one"
            token = {} if is_last else {"continue": "next"}
            return web.json_response({"metadata": token, "items": [{"metadata": {"name": name}}]})

        server.answer = page
        found = await kube.list(CONFIG_MAP, "shop", labels={"a": "1", "headroom.dev/b": "x"})
        assert [item["metadata"]["name"] for item in found] == ["one", "two"]
        assert all(item["kind"] == "ConfigMap" for item in found)
        assert [query.get("limit") for _, _, query, _ in server.requests] == ["500", "500"]
        assert server.requests[0][2]["labelSelector"] == "a=1,headroom.dev/b=x"

    async def test_a_list_that_expired_begins_again_once(self, kube: Kube, server: Server) -> None:
        def page(request: web.Request) -> web.Response:
            if request.query.get("continue"):
                return web.json_response({"message": "expired", "reason": "Expired"}, status=410)
            token = {"continue": "next"} if len(server.requests) == 1 else {}
            return web.json_response({"metadata": token, "items": [{"metadata": {"name": "one"}}]})

        server.answer = page
        assert len(await kube.list(CONFIG_MAP, "shop")) == 1

    async def test_calls_are_counted(self, kube: Kube, server: Server, telemetry: MemoryTelemetry) -> None:
        await kube.get(ONE)
        server.say(409)
        with pytest.raises(Conflict):
            await kube.create(MANIFEST)
        assert telemetry.value(API_CALLS, verb="get", kind="ConfigMap", code="200") == 1
        assert telemetry.value(API_CALLS, verb="create", kind="ConfigMap", code="409") == 1

    async def test_kinds_are_looked_up_once(self, kube: Kube, server: Server) -> None:
        resources = [
            {"name": "gadgets", "kind": "Gadget"},
            {"name": "gadgets/status", "kind": "Gadget"},
            {"name": "gadgets/scale", "kind": "Scale"},
        ]
        server.answer = lambda _request: web.json_response({"resources": resources})
        gadget = await kube.resolve("x.dev/v1", "Gadget")
        assert gadget == Kind("x.dev/v1", "Gadget", "gadgets")
        assert await kube.resolve("x.dev/v1", "Gadget") == gadget
        assert await kube.resolve("x.dev/v1", "Nothing") is None
        assert await kube.resolve("x.dev/v1", "Nothing") is None
        assert [path for _, path, _, _ in server.requests] == ["/apis/x.dev/v1"]
        assert await kube.resolve("v1", "Pod") == POD
        assert len(server.requests) == 1

    async def test_a_failed_look_is_not_remembered(self, kube: Kube, server: Server) -> None:
        server.say(503)
        with pytest.raises(KubeUnavailable):
            await kube.resolve("x.dev/v1", "Gadget")
        server.answer = lambda _request: web.json_response({"resources": [{"name": "gadgets", "kind": "Gadget"}]})
        assert await kube.resolve("x.dev/v1", "Gadget") is not None


class TestFence:
    class Closed:
        def check(self, timeout_seconds: float) -> None:
            raise NotLeading(f"no {timeout_seconds} s left")

    async def test_it_stands_before_every_write_and_no_read(self, kube: ApiKube, server: Server) -> None:
        way = kube._transport
        fenced = ApiKube(way.client, clock=way.clock, fence=self.Closed(), limits=PATIENCE)
        server.answer = lambda _request: web.json_response({"metadata": {"uid": "u", "resourceVersion": "1"}})
        scale = await fenced.get_scale(DEPLOYMENT)
        assert scale is not None
        writes: list[Callable[[], Any]] = [
            lambda: fenced.create(MANIFEST),
            lambda: fenced.apply(MANIFEST),
            lambda: fenced.patch(ONE, []),
            lambda: fenced.delete(ONE, uid="u"),
            lambda: fenced.replace_status(ONE, resource_version="1", status={}),
            lambda: fenced.set_scale(scale, 1),
        ]
        for write in writes:
            with pytest.raises(NotLeading, match=r"19 s"):
                await write()
        assert {method for method, _, _, _ in server.requests} == {"GET"}

    async def test_it_is_asked_after_the_wait_for_a_place(self, server: Server, telemetry: MemoryTelemetry) -> None:
        asked: list[int] = []

        class Watching:
            def check(self, timeout_seconds: float) -> None:
                asked.append(server.at_once)

        limits = Limits(concurrency=1, read_timeout_seconds=1, write_timeout_seconds=1)
        async for api in serve(server, telemetry, limits):
            way = api._transport
            fenced = ApiKube(way.client, clock=way.clock, fence=Watching(), limits=limits)
            server.delay_seconds = 0.05
            await asyncio.gather(*(fenced.create(MANIFEST) for _ in range(3)))
        assert asked == [0, 0, 0]


class TestLimits:
    async def test_no_more_calls_at_once_than_allowed(self, server: Server, telemetry: MemoryTelemetry) -> None:
        async for api in serve(server, telemetry, Limits(concurrency=3)):
            server.delay_seconds = 0.02
            await asyncio.gather(*(api.get(ONE) for _ in range(20)))
        assert server.most_at_once == 3

    async def test_parts_with_limits_of_their_own_do_not_wait_for_each_other(
        self, server: Server, telemetry: MemoryTelemetry
    ) -> None:
        async for api in serve(server, telemetry, Limits(concurrency=1)):
            server.gate.clear()
            slow = [asyncio.create_task(api.get(ONE)) for _ in range(4)]
            other = asyncio.create_task(api.with_limits(Limits(concurrency=1)).get(ONE))
            while server.at_once < 2:  # noqa: ASYNC110  the server tells nobody
                await asyncio.sleep(0.01)
            assert server.at_once == 2
            server.gate.set()
            await asyncio.gather(other, *slow)
        assert server.most_at_once == 2


async def test_every_error_is_one_of_ours(kube: Kube, server: Server) -> None:
    for status in range(400, 512):
        server.say(status, "x")
        with pytest.raises(HeadroomError):
            await kube.create(MANIFEST)
