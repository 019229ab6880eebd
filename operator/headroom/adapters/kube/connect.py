"""How a process reaches the API server: one client with our credentials, and a bulkhead for each part of the operator.

A slow answer takes places from its part, and a busy part takes calls a second. Neither is lent to another part. The
places of all parts stay below the client's 100 connections, so that a place always has one.
"""

import os
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from kubernetes.aio import config
from kubernetes.aio.client import ApiClient, Configuration

from headroom import __version__
from headroom.adapters.kube.api import ApiKube
from headroom.adapters.kube.limits import Limits
from headroom.errors import InvalidSpec

IN_CLUSTER = "KUBERNETES_SERVICE_HOST"
KUBECONFIG = "KUBECONFIG"
# The library does not type its loaders.
load_kubeconfig: Callable[..., Awaitable[object]] = config.load_kube_config
load_service_account: Callable[..., object] = config.load_incluster_config
GUARD_LIMITS = Limits(concurrency=8, calls_per_second=20, burst=40)
"""A guard reads Secrets once a minute and writes its status."""
REPLICA_LIMITS = Limits(concurrency=24, calls_per_second=50, burst=100)
"""A calm set sends nothing; an ejection must find a place at once."""
POOL_LIMITS = Limits(concurrency=16, calls_per_second=250, burst=500)
"""A calm pool sends nothing. One that grows sends about five calls a step, and lists pods every few seconds. If 100 of
1,000 pools fall behind at once, that is 140 calls a second, and none of them may wait for five seconds: a namespace
alone has 200."""
EVENT_LIMITS = Limits(concurrency=4, calls_per_second=10, burst=20)
"""At most five events a second are sent at all."""


async def connect(*, context: str | None = None) -> ApiClient:
    """Create a client; KUBECONFIG wins over the pod's service account, `context` names one of its contexts.

    Raises InvalidSpec if neither exists, or if it cannot be read.
    """
    configuration = Configuration()
    path = os.environ.get(KUBECONFIG)
    try:
        if path or IN_CLUSTER not in os.environ:
            # `persist_config=False`: a refreshed token must not be written into the user's file.
            await load_kubeconfig(
                config_file=path, context=context, client_configuration=configuration, persist_config=False
            )
        else:
            load_service_account(client_configuration=configuration)
    except (config.ConfigException, OSError) as failure:
        raise InvalidSpec(
            KUBECONFIG, f"no usable configuration: {failure}", "run in a pod, or name a kubeconfig file"
        ) from failure
    client = ApiClient(configuration)
    client.user_agent = f"headroom/{__version__}"
    return client


@dataclass(frozen=True, slots=True)
class Bulkheads:
    """The same API server, once for each part that must not wait for another; the elector has its own as well."""

    guards: ApiKube
    replicas: ApiKube
    pools: ApiKube
    events: ApiKube


def build_bulkheads(kube: ApiKube) -> Bulkheads:
    """Bulkheads over one client, with its fence and telemetry."""
    return Bulkheads(
        guards=kube.with_limits(GUARD_LIMITS),
        replicas=kube.with_limits(REPLICA_LIMITS),
        pools=kube.with_limits(POOL_LIMITS),
        events=kube.with_limits(EVENT_LIMITS),
    )
