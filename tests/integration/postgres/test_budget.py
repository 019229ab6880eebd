"""A budget on a real server: four greedy pools whose workers are real sessions, and a limit of 60 connections."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import psycopg
import pytest

from headroom.adapters.inmemory.kube import MemoryKube
from headroom.adapters.kube.cache import WatchCache
from headroom.adapters.kube.write_through import WriteThroughKube
from headroom.adapters.postgres import PsycopgPostgres, SessionNames
from headroom.ports.kube import OUR_KINDS, POD, WORKER_POOL, ObjectRef
from headroom.reasons import Reason
from headroom.reconcilers.wakes import Wakes
from tests.controllers import find_all, is_running
from tests.manifests import NAMESPACE
from tests.memory_kopf import MemoryKopf, MemoryWatch
from tests.memory_world import LATE
from tests.postgres_server import APPLICATION, DATABASE, MONITOR, QUEUE, Server, ServerMaker, local_dialer
from tests.unit.world import World

pytestmark = [pytest.mark.postgres, pytest.mark.long]

MAX_CONNECTIONS, SUPERUSERS, RESERVE, SHARE = 60, 3, 5, 60
BUDGET = (MAX_CONNECTIONS - SUPERUSERS - RESERVE) * SHARE // 100
TAKES = {"bills": 1, "mail": 2, "reports": 1, "imports": 3}
"""Sessions that each worker of a pool opens; every spec says one."""
PRIORITIES = {"bills": "Critical", "mail": "Standard", "reports": "Background", "imports": "Standard"}
ROLE_LIMIT = 6
"""CONNECTION LIMIT of the role of `imports`."""
LAG_SECONDS = 0.7
"""A worker connects so long after its pod runs, and its sessions outlive it by as much."""


class RealProcess:
    """One process of the operator, with the real adapter for PostgreSQL and an API server in memory."""

    def __init__(self, world: "BudgetWorld") -> None:
        self.is_alive, self.fence = True, world.make_fence()
        self.holder = f"headroom-{len(world.processes) + 1}"
        postgres = PsycopgPostgres(SessionNames("lease", self.holder), self.fence, world.clock, dialer=local_dialer())
        client = MemoryKube(beside=world.kube, clock=world.clock, fence=self.fence)
        cache = WatchCache(world.clock)
        kube = WriteThroughKube(client, cache)
        self.loops = world.build_loops(dict.fromkeys(OUR_KINDS, kube), kube, cache, postgres)
        self.servers = self.loops.servers
        self.watch = MemoryWatch(world.kube, cache)
        kopf = MemoryKopf(world.kube, self.loops, Wakes(self.loops), self.watch, self.fence)
        self.tasks = [asyncio.create_task(kopf.run())]

    async def stop(self) -> None:
        """As a process ends: its connections go with it."""
        self.is_alive = False
        self.watch.close()
        for task in self.tasks:
            task.cancel()
        for ref, uid in list(self.loops._uids.items()):
            await self.loops.forget(ref, uid)


@dataclass
class Sessions:
    """The workers' sessions: as many for each running pod as its workers take, a moment late both ways."""

    server: Server
    open: dict[str, list[psycopg.AsyncConnection[Any]]] = field(default_factory=dict)
    changing: dict[str, "asyncio.Task[None]"] = field(default_factory=dict)
    refused: int = 0

    def follow(self, pods: dict[str, str]) -> None:
        """`pods` are those that run, with their pools."""
        self.changing = {name: task for name, task in self.changing.items() if not task.done()}
        for name in pods.keys() - self.open.keys() - self.changing.keys():
            self.changing[name] = asyncio.create_task(self._connect(name, pods[name]))
        for name in self.open.keys() - pods.keys() - self.changing.keys():
            self.changing[name] = asyncio.create_task(self._leave(name))

    async def _connect(self, name: str, pool: str) -> None:
        await asyncio.sleep(LAG_SECONDS)
        self.open[name] = []
        for _ in range(TAKES[pool]):
            try:
                self.open[name].append(await connect(self.server, pool, pool))
            except psycopg.OperationalError:
                self.refused += 1

    async def _leave(self, name: str) -> None:
        await asyncio.sleep(LAG_SECONDS)
        for connection in self.open.pop(name):
            await connection.close()

    async def close(self) -> None:
        await asyncio.gather(*self.changing.values(), return_exceptions=True)
        for connections in self.open.values():
            for connection in connections:
                await connection.close()


async def connect(server: Server, user: str, password: str) -> psycopg.AsyncConnection[Any]:
    return await psycopg.AsyncConnection.connect(
        host="127.0.0.1", port=server.port, user=user, password=password, dbname=DATABASE, autocommit=True
    )


class BudgetWorld(World):
    """The in-memory world around a real server; `counts` are the workers' sessions that the server showed."""

    def __init__(self, server: Server) -> None:
        super().__init__()
        self.server, self.workers = server, Sessions(server)
        self.counts: list[Counter[str]] = []
        self.others: list[psycopg.AsyncConnection[Any]] = []
        for name in TAKES:
            server.sql(f"CREATE ROLE {name} LOGIN PASSWORD '{name}'")
        server.sql(f"ALTER ROLE imports CONNECTION LIMIT {ROLE_LIMIT}")
        self.deployments.start_seconds, self.deployments.pod_grace_seconds = 0.5, 3600

    async def start(self) -> None:
        if self.processes:
            await self.process.stop()
        self.processes.append(RealProcess(self))  # type: ignore[arg-type]

    def play(self) -> None:
        super().play()
        running = [pod["metadata"] for pod in find_all(self.kube, POD) if is_running(pod)]
        self.workers.follow({pod["name"]: pod["labels"]["app"] for pod in running})

    def add_pools(self) -> None:
        for name, login in (("store-monitor", MONITOR), ("store-queue", QUEUE)):
            self.set_secret(name, username=login.username, password=login.password)
        connection = {"host": "127.0.0.1", "port": self.server.port, "database": DATABASE}
        self.add_guard(connection={**connection, "tls": {"mode": "disable"}, "replicationSecretRef": None})
        for name in TAKES:
            most = 8 if name == "bills" else 100
            self.add_pool(name, replicas=1, databaseRole=name, priority=PRIORITIES[name], maxWorkers=most)

    async def occupy_with(self, sessions: int) -> None:
        """Sessions of a service that answers people."""
        while len(self.others) > sessions:
            await self.others.pop().close()
        while len(self.others) < sessions:
            self.others.append(await connect(self.server, APPLICATION.username, APPLICATION.password))

    async def watch(self, seconds: float) -> None:
        """Count on the server itself, ten times a second."""
        loop = asyncio.get_running_loop()
        end = loop.time() + seconds
        async with await connect(self.server, "postgres", "") as eyes:
            while loop.time() < end:
                cursor = await eyes.execute("SELECT usename, count(*) FROM pg_stat_activity GROUP BY 1")
                rows = await cursor.fetchall()
                self.counts.append(Counter({name: count for name, count in rows if name in TAKES}))
                await asyncio.sleep(0.1)

    async def close(self) -> None:
        await self.process.stop()
        await self.workers.close()
        await self.occupy_with(0)

    def find_limit(self, pool: str) -> tuple[str, str]:
        condition = self.find_condition(ObjectRef(WORKER_POOL, NAMESPACE, pool), "ScalingLimited")
        return condition["reason"], condition["message"]


@asynccontextmanager
async def running(server: Server) -> AsyncIterator[BudgetWorld]:
    async with BudgetWorld(server) as world:
        world.add_pools()
        await world.occupy_with(8)
        await world.start()
        try:
            yield world
        finally:
            await world.close()


async def test_four_greedy_pools_stay_within_their_share_whatever_happens(servers: ServerMaker) -> None:
    server = servers.make(max_connections=str(MAX_CONNECTIONS))
    async with running(server) as world:
        world.queue(**LATE, in_flight=1000)
        await world.watch(35)
        full, (reason, message) = world.counts[-1], world.find_limit("imports")
        await world.occupy_with(18)
        await world.watch(5)
        await world.start()
        await world.watch(15)
        assert max(count.total() for count in world.counts) <= BUDGET
        assert max(count["imports"] for count in world.counts) <= ROLE_LIMIT
        assert world.workers.refused == 0, "nobody met a limit of the server"
        assert full.total() >= 0.8 * BUDGET, "and the share is used"
        assert (full["bills"], full["imports"]) == (8, ROLE_LIMIT), "the higher class has all that it may have"
        assert reason == Reason.CONNECTION_BUDGET
        assert f'role "imports" (CONNECTION LIMIT {ROLE_LIMIT})' in message
        assert "one worker takes 3 as measured (connectionsPerWorker is 1)" in message
