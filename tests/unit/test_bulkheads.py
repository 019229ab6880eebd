"""The composition root gives each kind a way of its own: what one part keeps waiting, no other part waits for."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, fields

import pytest
from aiohttp import web
from kubernetes.aio.client import ApiClient, Configuration

from headroom.adapters.clock import SystemClock
from headroom.adapters.kube import bulkheads as limits
from headroom.adapters.kube.api import ApiKube
from headroom.adapters.kube.bulkheads import Bulkheads, build_bulkheads
from headroom.adapters.kube.lease import LEASE_LIMITS, LeaseElector
from headroom.adapters.kube.limits import Limits
from headroom.adapters.telemetry import PrometheusTelemetry
from headroom.app import Process, build_loops
from headroom.ports.kube import LEASE, POD, REPLICA_SET, WORKER_POOL, Kind, ObjectRef
from headroom.reconcilers.databaseguard import GuardReconciler
from headroom.reconcilers.loop import LevelLoops
from headroom.reconcilers.replicaset import ReplicaSetReconciler
from headroom.reconcilers.workerpool import WorkerPoolReconciler
from headroom.settings import Settings
from tests.unit.adapters.loopback import run_server

FLOOD = 200
SOON_SECONDS = 3.0
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
        return web.json_response({"items": []})

    async def until_it_is_busy(self, calls: int) -> None:
        async with asyncio.timeout(SOON_SECONDS):
            while self.at_once < calls:  # noqa: ASYNC110  the server tells nobody
                await asyncio.sleep(0.01)


@asynccontextmanager
async def run_operator(server: Server) -> AsyncIterator[LevelLoops]:
    """The operator's own wiring over a server on loopback."""
    clock = SystemClock()
    telemetry = PrometheusTelemetry(clock, instance="one")
    async with run_server(server.handle) as configuration:
        kube = ApiKube(ApiClient(configuration), clock=clock, telemetry=telemetry)
        elector = LeaseElector(kube, clock, lease=ObjectRef(LEASE, "headroom", "headroom"), holder="one")
        process = Process(
            Settings(installation="one"), clock, telemetry, kube, build_bulkheads(kube), elector, stop=asyncio.Event()
        )
        yield await build_loops(process)
        await kube.close()


def kube_of(loops: LevelLoops, kind: Kind) -> object:
    reconciler = loops.reconcilers[kind]
    if isinstance(reconciler, ReplicaSetReconciler):
        return reconciler.services.kube
    assert isinstance(reconciler, GuardReconciler | WorkerPoolReconciler)
    return reconciler.kube


async def test_pools_that_wait_for_the_api_server_do_not_delay_a_set() -> None:
    server = Server()
    async with run_operator(server) as loops:
        pools, sets = loops.reconcilers[WORKER_POOL], loops.reconcilers[REPLICA_SET]
        assert isinstance(pools, WorkerPoolReconciler)
        assert isinstance(sets, ReplicaSetReconciler)
        flood = [asyncio.create_task(pools.kube.list(POD, "shop")) for _ in range(FLOOD)]
        await server.until_it_is_busy(limits.POOL_LIMITS.concurrency)
        async with asyncio.timeout(SOON_SECONDS):
            pod = ObjectRef(POD, "shop", "store-1")
            await sets.services.kube.patch(pod, [{"op": "add", "path": "/metadata/labels/a", "value": "b"}])
            store = ObjectRef(REPLICA_SET, "shop", "store")
            writer = sets.services.reporter.writer
            await writer.replace_status(store, resource_version="1", status=A_STATUS)
        assert server.at_once == limits.POOL_LIMITS.concurrency, "the flood still waits"
        assert not any(task.done() for task in flood)
        server.gate.set()
        await asyncio.gather(*flood)


async def test_every_kind_writes_on_a_way_of_its_own() -> None:
    async with run_operator(Server()) as loops:
        ways = {id(kube_of(loops, kind)) for kind in loops.reconcilers}
        assert len(ways) == len(loops.reconcilers) == 3
        assert id(loops.reader) not in ways


def test_every_place_has_a_connection() -> None:
    places = [value for name, value in vars(limits).items() if name.endswith("_LIMITS") and isinstance(value, Limits)]
    assert len(places) == len(fields(Bulkheads))
    total = sum(lane.concurrency for lane in (*places, LEASE_LIMITS, Limits()))
    assert total < Configuration().connection_pool_maxsize


@pytest.mark.parametrize("lane", [field.name for field in fields(Bulkheads)])
async def test_each_lane_keeps_the_timeouts_that_the_lease_counts_on(lane: str) -> None:
    kube = ApiKube(ApiClient(Configuration(ssl_ca_cert=None)), clock=SystemClock())
    found = getattr(build_bulkheads(kube), lane)
    assert found._transport.limits.write_timeout_seconds <= 3.0
    await kube.close()
