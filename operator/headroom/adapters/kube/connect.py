"""A client with the cluster's address and our credentials: from the pod, or from a kubeconfig."""

import os
from collections.abc import Awaitable, Callable

from kubernetes.aio import config
from kubernetes.aio.client import ApiClient, Configuration

from headroom import __version__
from headroom.errors import InvalidSpec

IN_CLUSTER = "KUBERNETES_SERVICE_HOST"
KUBECONFIG = "KUBECONFIG"
# The library's loaders carry no types of their own.
load_kubeconfig: Callable[..., Awaitable[object]] = config.load_kube_config
load_service_account: Callable[..., object] = config.load_incluster_config


async def connect(*, context: str | None = None) -> ApiClient:
    """Make a client; KUBECONFIG wins over the pod's service account, `context` names one of its contexts.

    Raises InvalidSpec when neither is there or what is there cannot be read.
    """
    configuration = Configuration()
    path = os.environ.get(KUBECONFIG)
    try:
        if path or IN_CLUSTER not in os.environ:
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
