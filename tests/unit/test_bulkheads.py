"""The application gives each kind a bulkhead of its own: what one part keeps waiting, no other part waits for."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, fields

import pytest
from aiohttp import web
from kubernetes.aio.client import ApiClient, Configuration

from headroom.adapters.clock import SystemClock
from headroom.adapters.kube import connect as limits
from headroom.adapters.kube.api import ApiKube
from headroom.adapters.kube.cache import WatchCache
from headroom.adapters.kube.connect import Bulkheads, build_bulkheads
from headroom.adapters.kube.lease import LEASE_LIMITS, LeaseElector
from headroom.adapters.kube.limits import Limits
from headroom.adapters.telemetry import PrometheusTelemetry
from headroom.app import Process, build_ports
from headroom.composition import Ports, build_loops
from headroom.ports.kube import LEASE, OUR_KINDS, POD, REPLICA_SET, WORKER_POOL, Kind, ObjectRef
from headroom.reconcilers.context import Services
from headroom.reconcilers.databaseguard import GuardReconciler
from headroom.reconcilers.loop import LevelLoops
from headroom.reconcilers.replicaset import ReplicaSetReconciler
from headroom.reconcilers.workerpool import WorkerPoolReconciler
from headroom.settings import Settings
from tests.unit.adapters.loopback import run_server

FLOOD = 200
SOON_SECONDS = 3.0
AN_OBJECT = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {
        "namespace": "shop",
        "name": "store-1",
        "uid": "u",
        "resourceVersion": "7",
        "labels": {"headroom.dev/replica-set": "store"},
    },
}
A_STATUS: dict[str, object] = {"conditions": []}


@dataclass
class Server:
    """Answers everything at once but what stands in `slow`, which waits for the gate."""

    slow: str = "/pods"
    gate: asyncio.Event = field(default_factory=asyncio.Event)
    at_once: int = 0

    async def handle(self, request: web.Request) -> web.Response:
        if request.path.endswith(self.slow):
            self.at_once += 1
            await self.gate.wait()
        return web.json_response({**AN_OBJECT, "items": []})

    async def until_it_is_busy(self, calls: int) -> None:
        async with asyncio.timeout(SOON_SECONDS):
            while self.at_once < calls:  # noqa: ASYNC110  the server tells nobody
                await asyncio.sleep(0.01)


@asynccontextmanager
async def run_operator(server: Server) -> AsyncIterator[tuple[Ports, LevelLoops]]:
    """The operator's own wiring over a server on loopback."""
    clock = SystemClock()
    telemetry = PrometheusTelemetry(clock, instance="one")
    async with run_server(server.handle) as configuration:
        kube = ApiKube(ApiClient(configuration), clock=clock, telemetry=telemetry)
        elector = LeaseElector(kube, clock, lease=ObjectRef(LEASE, "headroom", "headroom"), holder="one")
        process = Process(
            Settings(installation="one"), clock, telemetry, kube, build_bulkheads(kube), kube, elector, asyncio.Event()
        )
        ports = await build_ports(process, WatchCache(clock))
        yield ports, build_loops(ports)
        await kube.close()


def services_of(loops: LevelLoops, kind: Kind) -> Services:
    reconciler = loops.reconcilers[kind]
    assert isinstance(reconciler, GuardReconciler | ReplicaSetReconciler | WorkerPoolReconciler)
    return reconciler.services


async def test_pools_that_wait_for_the_api_server_do_not_delay_a_set() -> None:
    server = Server()
    async with run_operator(server) as (_, loops):
        pools, sets = services_of(loops, WORKER_POOL), services_of(loops, REPLICA_SET)
        # Of two namespaces: one alone does not get all places.
        flood = [asyncio.create_task(pools.kube.list(POD, f"shop-{number % 2}")) for number in range(FLOOD)]
        await server.until_it_is_busy(limits.POOL_LIMITS.concurrency)
        async with asyncio.timeout(SOON_SECONDS):
            pod = ObjectRef(POD, "shop", "store-1")
            await sets.kube.patch(pod, [{"op": "add", "path": "/metadata/labels/a", "value": "b"}])
            store = ObjectRef(REPLICA_SET, "shop", "store")
            await sets.reporter.writer.replace_status(store, resource_version="1", status=A_STATUS)
        assert server.at_once == limits.POOL_LIMITS.concurrency, "the flood still waits"
        assert not any(task.done() for task in flood)
        server.gate.set()
        await asyncio.gather(*flood)


async def test_every_kind_writes_on_a_way_of_its_own_and_all_read_one_cache() -> None:
    async with run_operator(Server()) as (ports, loops):
        found = [services_of(loops, kind) for kind in OUR_KINDS]
        ways = {id(services.kube) for services in found}
        assert len(ways) == len(loops.reconcilers) == 3
        assert id(loops.reader) not in ways
        assert all(services.reporter.writer is services.kube for services in found)
        assert {id(services.cache) for services in found} == {id(loops.cache)} == {id(ports.cache)}
        assert {id(services.servers) for services in found} == {id(loops.servers)}


async def test_what_one_kind_writes_every_kind_reads() -> None:
    async with run_operator(Server()) as (ports, loops):
        sets = services_of(loops, REPLICA_SET)
        answered = await sets.kube.patch(ObjectRef(POD, "shop", "store-1"), [])
        assert ports.cache.get(ObjectRef(POD, "shop", "store-1")) == answered


def test_every_place_has_a_connection() -> None:
    places = [value for name, value in vars(limits).items() if name.endswith("_LIMITS") and isinstance(value, Limits)]
    assert len(places) == len(fields(Bulkheads))
    total = sum(bulkhead.concurrency for bulkhead in (*places, LEASE_LIMITS, Limits()))
    assert total < Configuration().connection_pool_maxsize


@pytest.mark.parametrize("bulkhead", [field.name for field in fields(Bulkheads)])
async def test_each_bulkhead_keeps_the_timeouts_that_the_lease_counts_on(bulkhead: str) -> None:
    kube = ApiKube(ApiClient(Configuration(ssl_ca_cert=None)), clock=SystemClock())
    found = getattr(build_bulkheads(kube), bulkhead)
    assert found._transport.limits.write_timeout_seconds <= 3.0
    await kube.close()
