"""Sends calls through the client: limits, fence, timeout, metrics."""

import asyncio
import math
from dataclasses import dataclass
from typing import Any, Protocol

import aiohttp
from kubernetes.aio.config import ConfigException

from headroom.adapters.kube.answers import Answer, translate_failure
from headroom.adapters.kube.calls import Call
from headroom.adapters.kube.limits import Limiter, Limits
from headroom.ports.clock import Clock, Fence
from headroom.ports.telemetry import Metric, MetricType, Telemetry, current_subject

AUTHENTICATION = ["BearerToken"]
NO_ANSWER = 0

API_CALLS = Metric(
    "headroom_kube_calls_total",
    MetricType.COUNTER,
    "Calls to the Kubernetes API by verb, kind and HTTP status; code 0 means that there was no answer.",
    ("verb", "kind", "code"),
)
API_SECONDS = Metric(
    "headroom_kube_call_seconds",
    MetricType.HISTOGRAM,
    "Duration of calls to the Kubernetes API in seconds, waiting for a place not included.",
    ("verb",),
    (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0),
)
API_WAIT_SECONDS = Metric(
    "headroom_kube_wait_seconds",
    MetricType.HISTOGRAM,
    "Seconds that calls to the Kubernetes API waited for the client's own limits.",
    (),
    (0.001, 0.01, 0.1, 0.5, 1.0, 5.0, 30.0),
)


class HttpClient(Protocol):
    """What is used of `kubernetes.aio.client.ApiClient`."""

    async def param_serialize(
        self, method: str, resource_path: str, *, query_params: Any, header_params: Any, body: Any, auth_settings: Any
    ) -> tuple[Any, Any, Any, Any, Any]:
        """Build method, URL, headers, body and form."""
        ...

    async def call_api(self, method: Any, url: Any, header_params: Any, body: Any, *, _request_timeout: Any) -> Any:
        """Send the request."""
        ...

    async def close(self) -> None:
        """Close the connections."""
        ...


@dataclass(frozen=True, slots=True)
class Transport:
    """One way to the API server; parts of the operator that must not wait for each other have one each."""

    client: HttpClient
    clock: Clock
    limits: Limits
    limiter: Limiter
    telemetry: Telemetry | None = None
    fence: Fence | None = None

    async def send(self, call: Call) -> Answer:
        """Send a call and return the answer, whatever its status.

        Raises KubeUnavailable when there is none, NotLeading when a write may not start now.
        """
        asked_at = self.clock.monotonic()
        async with self.limiter.place(_find_payer(call)):
            self._record(API_WAIT_SECONDS, self.clock.monotonic() - asked_at)
            # Only now, since the wait for a place may have outlasted the lease.
            if self.fence is not None and call.is_write:
                self.fence.check(self.limits.write_timeout_seconds)
            return await self._send_now(call)

    async def _send_now(self, call: Call) -> Answer:
        seconds = self.limits.write_timeout_seconds if call.is_write else self.limits.read_timeout_seconds
        started_at = self.clock.monotonic()
        code = NO_ANSWER
        try:
            async with asyncio.timeout(seconds):
                answer = await self._exchange(call, seconds)
            code = answer.status
        except (aiohttp.ClientError, OSError, ConfigException) as failure:
            # TimeoutError is an OSError; a ConfigException is a token file that is read in the middle of its rotation.
            raise translate_failure(call, failure) from failure
        finally:
            self._record(API_CALLS, 1, verb=call.verb, kind=call.ref.kind.name, code=str(code))
            self._record(API_SECONDS, self.clock.monotonic() - started_at, verb=call.verb)
        return answer

    async def _exchange(self, call: Call, seconds: float) -> Answer:
        # The server gets the timeout too, so that a write does not take effect after we gave it up.
        query = {**call.query, "timeout": f"{math.ceil(seconds)}s"} if call.is_write else call.query
        method, url, headers, body, _ = await self.client.param_serialize(
            call.method,
            call.path,
            query_params=list(query.items()),
            header_params={"Accept": "application/json", "Content-Type": call.content_type},
            body=call.body,
            auth_settings=AUTHENTICATION,
        )
        timeout = aiohttp.ClientTimeout(total=seconds)
        response = await self.client.call_api(method, url, headers, body, _request_timeout=timeout)
        headers = {name.lower(): value for name, value in response.headers.items()}
        return Answer(response.status, headers, await response.read())

    def _record(self, metric: Metric, value: float, **labels: str) -> None:
        if self.telemetry is not None:
            self.telemetry.record(metric, value, **labels)


def _find_payer(call: Call) -> str:
    """The namespace whose share a call is: that of the object of the pass, which may read nodes too."""
    subject = current_subject()
    return call.ref.namespace if subject is None else subject.namespace
