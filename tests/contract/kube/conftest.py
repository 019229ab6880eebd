"""One suite, two adapters: the API in memory always, a real API server where KUBECONFIG names one."""

import asyncio
import contextlib
import os
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass

import pytest
import pytest_asyncio

from headroom.adapters.clock import SystemClock
from headroom.adapters.inmemory.kube import MemoryKube
from headroom.adapters.inmemory.kube_cluster import Cluster
from headroom.adapters.inmemory.kube_kinds import CUSTOM_SCALE
from headroom.adapters.kube.api import ApiKube
from headroom.adapters.kube.connect import connect
from headroom.errors import Conflict, HeadroomError
from headroom.ports.kube import NAMESPACE, Kind, Kube, Manifest, ObjectRef

SAMPLE = Kind("contract.headroom.dev/v1", "Sample", "samples")
DEFINITION = Kind("apiextensions.k8s.io/v1", "CustomResourceDefinition", "customresourcedefinitions")
SERVICE_ACCOUNT = Kind("v1", "ServiceAccount", "serviceaccounts")
DEFINITION_NAME = "samples.contract.headroom.dev"


@dataclass(frozen=True, slots=True)
class World:
    """An adapter under test and the namespace that is this test's own."""

    kube: Kube
    namespace: str
    has_controllers: bool


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def sample_definition() -> AsyncIterator[bool]:
    """A custom kind with status and scale on the real server while the suite runs; False without a server."""
    if not os.environ.get("KUBECONFIG"):
        yield False
        return
    uid = await define_sample()
    yield True
    await remove_sample(uid)


@pytest.fixture(params=["memory", pytest.param("real", marks=pytest.mark.cluster)])
async def world(request: pytest.FixtureRequest, *, sample_definition: bool) -> AsyncIterator[World]:
    if request.param == "memory":
        kube = MemoryKube()
        kube.kinds.register(SAMPLE, scale=CUSTOM_SCALE)
        yield World(kube, "contract", has_controllers=True)
        return
    if not sample_definition:
        pytest.skip("KUBECONFIG is not set: there is no API server to hold the real adapter against")
    async with open_real() as real:
        name = f"contract-{uuid.uuid4().hex[:8]}"
        created = await real.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
        try:
            yield await prepare(real, name)
        finally:
            await real.delete(ObjectRef(NAMESPACE, "", name), uid=created["metadata"]["uid"])


@pytest.fixture
def memory() -> MemoryKube:
    return MemoryKube()


@pytest.fixture
def cluster(memory: MemoryKube) -> Cluster:
    return Cluster(memory)


@contextlib.asynccontextmanager
async def open_real() -> AsyncIterator[ApiKube]:
    real = ApiKube(await connect(), clock=SystemClock())
    try:
        yield real
    finally:
        await real.close()


async def prepare(real: ApiKube, namespace: str) -> World:
    """Make the service account without which no pod is admitted, and see whether controllers run."""
    has_controllers = await real.get(ObjectRef(SERVICE_ACCOUNT, "default", "default")) is not None
    account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"namespace": namespace, "name": "default"}}
    with contextlib.suppress(Conflict):
        await real.create(account)
    return World(real, namespace, has_controllers=has_controllers)


async def define_sample() -> str:
    async with open_real() as real:
        with contextlib.suppress(Conflict):
            await real.create(build_definition())
        ref = ObjectRef(DEFINITION, "", DEFINITION_NAME)
        await eventually(lambda: is_established(real, ref), "the CustomResourceDefinition to be established")
        found = await real.get(ref)
        assert found is not None
        return str(found["metadata"]["uid"])


async def remove_sample(uid: str) -> None:
    async with open_real() as real:
        await real.delete(ObjectRef(DEFINITION, "", DEFINITION_NAME), uid=uid)


async def is_established(real: ApiKube, ref: ObjectRef) -> bool:
    found = await real.get(ref)
    conditions = (found or {}).get("status", {}).get("conditions") or ()
    is_said = any(c["type"] == "Established" and c["status"] == "True" for c in conditions)
    if not is_said:
        return False
    # The condition comes a moment before the paths do.
    probe = {"apiVersion": SAMPLE.api_version, "kind": "Sample", "metadata": {"namespace": "default", "name": "probe"}}
    try:
        created = await real.create(probe)
    except HeadroomError:
        return False
    await real.delete(ObjectRef(SAMPLE, "default", "probe"), uid=created["metadata"]["uid"])
    return True


async def eventually(check: Callable[[], Awaitable[bool]], what: str, *, seconds: float = 30) -> None:
    """Ask every 0.2 s until it is so; fails with what was awaited."""
    try:
        async with asyncio.timeout(seconds):
            while not await check():  # noqa: ASYNC110  the server has no event to wait for
                await asyncio.sleep(0.2)
    except TimeoutError:
        pytest.fail(f"waited {seconds} s for {what}")


def build_definition() -> Manifest:
    free = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    return {
        "apiVersion": DEFINITION.api_version,
        "kind": DEFINITION.name,
        "metadata": {"name": DEFINITION_NAME},
        "spec": {
            "group": "contract.headroom.dev",
            "scope": "Namespaced",
            "names": {"kind": "Sample", "plural": "samples", "singular": "sample"},
            "versions": [
                {
                    "name": "v1",
                    "served": True,
                    "storage": True,
                    "schema": {
                        "openAPIV3Schema": {
                            "type": "object",
                            "properties": {
                                "spec": {
                                    "type": "object",
                                    "properties": {
                                        "replicas": {"type": "integer", "minimum": 0, "maximum": 9},
                                        "note": {"type": "string"},
                                    },
                                },
                                "status": free,
                            },
                        }
                    },
                    "subresources": {
                        "status": {},
                        "scale": {
                            "specReplicasPath": ".spec.replicas",
                            "statusReplicasPath": ".status.replicas",
                            "labelSelectorPath": ".status.selector",
                        },
                    },
                }
            ],
        },
    }
