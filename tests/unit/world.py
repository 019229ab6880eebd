"""The whole application in memory: all three kinds through its own builder, on a clock that runs as the loop does.

What is real: reconcilers, policies, loops, wakes, the cache and its audit. What is played: the API server and its
watches, PostgreSQL, the kubelet, the controllers of Deployments and Services, and Kopf, which starts loops and keeps
finalizers.
"""

import asyncio
from collections.abc import Callable
from typing import Any

from headroom.adapters.inmemory.kube import MemoryKube
from headroom.adapters.inmemory.postgres import MemoryPostgres
from headroom.adapters.inmemory.postgres_server import MemorySession
from headroom.adapters.kube.cache import WatchCache
from headroom.adapters.kube.write_through import RelistAudit, WriteThroughKube
from headroom.model.database import DatabaseView
from headroom.ports.kube import (
    CLAIM,
    CONFIG_MAP,
    DATABASE_GUARD,
    DEPLOYMENT,
    DISRUPTION_BUDGET,
    OUR_KINDS,
    REPLICA_SET,
    SERVICE,
    VOLUME_SNAPSHOT,
    WORKER_POOL,
    Kind,
    ObjectRef,
)
from headroom.reconcilers.servers import Servers
from headroom.reconcilers.wakes import Wakes
from tests.loop_clock import LoopClock
from tests.manifests import NAMESPACE, make_deployment, make_pool, make_set
from tests.memory_kopf import MemoryKopf, MemoryWatch
from tests.memory_world import CrashFence, MemoryWorld

PLAY_SECONDS = 0.25
LIMIT_SECONDS = 120.0
QUIET_SECONDS = 4.0
"""Longer than the longest pause between two passes that still have something to do."""
SET, GUARD, POOL = (
    ObjectRef(REPLICA_SET, NAMESPACE, "store"),
    ObjectRef(DATABASE_GUARD, NAMESPACE, "store"),
    ObjectRef(WORKER_POOL, NAMESPACE, "mail"),
)


class Process:
    """One process of the operator: its connections, its cache, its loops, and Kopf's part in their lives."""

    def __init__(self, world: "World") -> None:
        self.is_alive = True
        self.fence = world.make_fence()
        self.holder = f"headroom-{len(world.processes) + 1}"
        self.postgres = MemoryPostgres(world.clock, self.fence, self.holder, servers=world.postgres.servers)
        self.client = MemoryKube(beside=world.kube, clock=world.clock, fence=self.fence)
        self.postgres.on_write = self.client.on_write = self.fence.finish
        cache = WatchCache(world.clock)
        kube = WriteThroughKube(self.client, cache)
        loops = world.build_loops(dict.fromkeys(OUR_KINDS, kube), kube, cache, self.postgres)
        self.servers: Servers = loops.servers
        self.watch = MemoryWatch(world.kube, cache)
        wakes = Wakes(loops)
        audit = RelistAudit(cache, kube, world.clock, wakes.hear_gone)
        kopf = MemoryKopf(world.kube, loops, wakes, self.watch, self.fence)
        self.tasks = [asyncio.create_task(kopf.run()), asyncio.create_task(audit.run())]


class World(MemoryWorld):
    """`start` brings the operator up, `restart` replaces it; all else goes on by itself."""

    def __init__(self) -> None:
        super().__init__(LoopClock())
        self.processes: list[Process] = []
        self.foreign_sessions = 0
        self._player: asyncio.Task[None] | None = None
        self._others: set[asyncio.Task[Any]] = set()

    async def __aenter__(self) -> "World":
        self._player = asyncio.create_task(self._play_on())
        self._others = asyncio.all_tasks()
        return self

    async def __aexit__(self, *_: object) -> None:
        self.kill()
        assert self._player is not None
        self._player.cancel()

    async def _play_on(self) -> None:
        while True:
            self.play()
            await asyncio.sleep(PLAY_SECONDS)

    def play(self) -> None:
        """One step of everybody else; each worker that runs holds a connection."""
        super().play()
        workers = sum(item.get("status", {}).get("readyReplicas", 0) for item in self.children(DEPLOYMENT))
        self.primary.sessions[:] = [MemorySession() for _ in range(self.foreign_sessions + workers)]

    def occupy(self, count: int) -> None:
        """Sessions on the primary that belong to nobody we know."""
        self.foreign_sessions = count

    @property
    def process(self) -> Process:
        """The one that runs."""
        return self.processes[-1]

    async def start(self) -> None:
        """Bring a process of the operator up, after the one before is gone."""
        self.kill()
        await asyncio.sleep(0)
        self.processes.append(Process(self))

    def kill(self) -> None:
        """The process dies: nothing of it runs on, and nothing is given back."""
        if self.processes and self.process.is_alive:
            self.process.is_alive = False
            self.process.watch.close()
            self._end_sessions_of(self.process)
        for task in asyncio.all_tasks() - self._others:
            task.cancel()

    def _end_sessions_of(self, process: Process) -> None:
        """The servers notice that its connections are gone."""
        for server in self.postgres.servers.values():
            if server.lock_holder == process.holder:
                server.lock_holder = None

    def make_fence(self) -> CrashFence:
        """That of the next process."""
        return CrashFence()

    def view(self, guard: str = "store", namespace: str = NAMESPACE) -> DatabaseView:
        found = self.process.servers.view((namespace, guard))
        assert found is not None
        return found

    def add_set(self, name: str = "store", **spec: Any) -> ObjectRef:
        return self.seed(make_set(name, **spec))

    def add_pool(self, name: str = "mail", *, replicas: int = 2, namespace: str = NAMESPACE, **spec: Any) -> ObjectRef:
        self.seed(make_deployment(name, replicas, namespace))
        return self.seed(make_pool(name, namespace=namespace, **{"maxWorkers": 100, **spec}))

    def edit_spec(self, ref: ObjectRef, **changes: Any) -> None:
        self.cluster.edit(ref, lambda item: item["spec"].update(changes))

    def status(self, ref: ObjectRef) -> dict[str, Any]:
        return dict(self.read(ref).get("status") or {})

    def condition(self, ref: ObjectRef, type_: str) -> tuple[str, str]:
        entry = self.find_condition(ref, type_)
        return entry.get("status", ""), entry.get("reason", "")

    def verdicts(self) -> dict[tuple[str, str], str]:
        """Status of every condition of every object of ours, by object and condition type."""
        return {
            (f"{kind.name}/{item['metadata']['name']}", entry["type"]): entry["status"]
            for kind in OUR_KINDS
            for item in self.children(kind)
            for entry in (item.get("status") or {}).get("conditions") or ()
        }

    def follow_verdicts(self) -> list[tuple[str, str, str, str]]:
        """From now on collects each condition that is written with another status than it has now."""
        before, turned = self.verdicts(), list[tuple[str, str, str, str]]()

        def listen(_: str, item: dict[str, Any]) -> None:
            name = f"{item['kind']}/{item['metadata']['name']}"
            for entry in (item.get("status") or {}).get("conditions") or ():
                if before.get((name, entry["type"])) not in (None, entry["status"]):
                    turned.append((name, entry["type"], entry["status"], entry["reason"]))

        self.kube.store.listeners.append(listen)
        return turned

    def summary(self) -> dict[str, Any]:
        """What is there and how it is judged, without what chance names."""
        kinds: tuple[Kind, ...] = (CLAIM, CONFIG_MAP, SERVICE, DISRUPTION_BUDGET, VOLUME_SNAPSHOT, *OUR_KINDS)
        counts = {kind.name: len(self.children(kind)) for kind in kinds}
        workers = {item["metadata"]["name"]: item["spec"]["replicas"] for item in self.children(DEPLOYMENT)}
        slots = {"slots": len(self.slots()), "anchors": len(self.anchors())}
        return {**counts, "roles": self.roles(), **slots, "workers": workers, **self.verdicts()}

    def asked_for(self, name: str = "mail") -> int:
        return int(self.read(ObjectRef(DEPLOYMENT, NAMESPACE, name))["spec"]["replicas"])

    async def until(self, is_so: Callable[[], bool], limit: float = LIMIT_SECONDS) -> None:
        """Let time go by until something is so, or the process has died."""
        end = self.clock.monotonic() + limit
        while not is_so() and not self.process.fence.is_shut:
            assert self.clock.monotonic() < end, self.summary()
            await asyncio.sleep(PLAY_SECONDS)

    async def settle(self, limit: float = LIMIT_SECONDS) -> None:
        """Let time go by until nothing was written for a while, or the process has died."""
        seen, since = -1, self.clock.monotonic()

        def is_quiet() -> bool:
            nonlocal seen, since
            if self.process.fence.seen != seen:
                seen, since = self.process.fence.seen, self.clock.monotonic()
            return self.clock.monotonic() - since >= QUIET_SECONDS

        await self.until(is_quiet, limit)
