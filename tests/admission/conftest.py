"""A real API server with our CRDs, and a namespace of our own in it."""

import os
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from kubernetes import client, config

from tests.admission.server import Server

CRDS = Path(__file__).parents[2] / "crds"


@pytest.fixture(scope="session")
def api() -> client.ApiClient:
    if not os.environ.get("KUBECONFIG"):
        pytest.fail("these tests need a Kubernetes API server: set KUBECONFIG", pytrace=False)
    return config.new_client_from_config(os.environ["KUBECONFIG"])


@pytest.fixture(scope="session")
def crds() -> list[dict[str, Any]]:
    return [yaml.safe_load(path.read_text()) for path in sorted(CRDS.glob("*.yaml"))]


@pytest.fixture(scope="session")
def namespace(api: client.ApiClient) -> Iterator[str]:
    name = f"admission-{uuid.uuid4().hex[:8]}"
    core = client.CoreV1Api(api)
    core.create_namespace({"metadata": {"name": name}})
    yield name
    core.delete_namespace(name)


@pytest.fixture(scope="session")
def server(api: client.ApiClient, crds: list[dict[str, Any]], namespace: str) -> Iterator[Server]:
    server = Server(api, namespace)
    server.install(crds)
    yield server
    server.remove_stored_objects()
