"""Servers that mean harm, of one namespace, beside three hundred pools of another: these go on undisturbed."""

import asyncio
import time
from collections.abc import Iterator
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any

import pytest

from headroom.adapters.clock import SystemClock
from headroom.adapters.kube.cache import WatchCache
from headroom.adapters.kube.write_through import WriteThroughKube
from headroom.adapters.postgres import PsycopgPostgres, SessionNames
from headroom.model.database import ConnectionTarget
from headroom.ports.kube import DATABASE_GUARD, REPLICA_SET, WORKER_POOL, ObjectRef
from headroom.ports.postgres import PrimaryLink
from headroom.reasons import Reason
from headroom.reconcilers.loop import LATENESS
from headroom.reconcilers.wakes import Wakes
from tests import hostile_server as hostile
from tests.hostile_server import LOGIN, run_apart
from tests.integration.hostile.test_hostile_servers import Pulse, forget_peak, read_memory
from tests.manifests import make_deployment, make_pool
from tests.memory_kopf import MemoryKopf, MemoryWatch
from tests.memory_world import MemoryWorld
from tests.postgres_server import local_dialer

POOLS = 300
MEASURE_SECONDS = 10.0
ATTACKS = (
    hostile.send_field_at_once, hostile.send_error, hostile.send_rows, hostile.send_notices, hostile.send_notifications,
    hostile.send_parameters, hostile.ask_for_many_rounds, hostile.authenticate_slowly,
)  # fmt: skip
MEMORY_MIB = 64
HARMED = (Reason.ANSWER_REFUSED, Reason.PRIMARY_UNREACHABLE, Reason.PRIMARY_TIMEOUT)
PROCESSOR = 0.25
"""Of one processor: what eight hostile servers may cost."""


class OpenFence:
    def check(self, timeout_seconds: float) -> None:
        pass


class Postgres:
    """Servers in memory, and those of this machine for real."""

    def __init__(self, memory: Any) -> None:
        self.memory = memory
        self.real = PsycopgPostgres(SessionNames("lease", "one"), OpenFence(), SystemClock(), dialer=local_dialer())

    def __getattr__(self, name: str) -> Any:
        return getattr(self.memory, name)

    async def open_primary(self, target: ConnectionTarget, *, is_observer: bool = False) -> PrimaryLink:
        chosen = self.real if target.host == "127.0.0.1" else self.memory
        link: PrimaryLink = await chosen.open_primary(target, is_observer=is_observer)
        return link


class World(MemoryWorld):
    """Pools of the namespace shop; guards of the namespace tenant come later."""

    def __init__(self) -> None:
        super().__init__(SystemClock())
        self.set_budget(30_000)
        self.add_guard()
        for number in range(POOLS):
            self.seed(make_deployment(f"pool-{number}", 1))
            self.seed(make_pool(f"pool-{number}"))

    @asynccontextmanager
    async def run(self) -> Any:
        cache = WatchCache(self.clock)
        kube: Any = WriteThroughKube(self.kube, cache)
        postgres: Any = Postgres(self.postgres)
        loops = self.build_loops(dict.fromkeys((DATABASE_GUARD, REPLICA_SET, WORKER_POOL), kube), kube, cache, postgres)
        kopf = MemoryKopf(self.kube, loops, Wakes(loops), MemoryWatch(self.kube, cache))
        task = asyncio.create_task(kopf.run())
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def settle(self) -> None:
        """Return once each pool has had some passes."""
        while sum(map(len, self.telemetry.observations.values())) < 4 * POOLS:  # noqa: ASYNC110  nothing tells
            await asyncio.sleep(0.5)

    def take_lateness(self) -> list[float]:
        """How late each pass of a pool has ended since the last call, in order of size."""
        key = (LATENESS.name, (("kind", WORKER_POOL.name),))
        return sorted(self.telemetry.observations.pop(key, []))

    def add_hostile_guard(self, name: str, port: int) -> ObjectRef:
        self.set_secret("store-monitor", "tenant", username=LOGIN.username, password=LOGIN.password)
        connection = {"host": "127.0.0.1", "port": port, "tls": {"mode": "disable"}}
        return self.add_guard(name, "tenant", connection=connection)


@pytest.fixture
def servers() -> Iterator[dict[str, int]]:
    with ExitStack() as stack:
        yield {attack.__name__.replace("_", "-"): stack.enter_context(run_apart(attack)).port for attack in ATTACKS}


def at_most(values: list[float], share: float) -> float:
    return values[int(share * (len(values) - 1))]


@dataclass
class Stretch:
    """Some seconds of the operator's life."""

    lateness: list[float]
    loop_late: float
    processor: float
    """Seconds of processor time for each second."""


async def measure(world: World) -> Stretch:
    world.take_lateness()
    began, used = time.monotonic(), time.process_time()
    async with Pulse() as pulse:
        await asyncio.sleep(MEASURE_SECONDS)
    share = (time.process_time() - used) / (time.monotonic() - began)
    return Stretch(world.take_lateness(), pulse.worst, share)


@pytest.mark.timeout(300)
async def test_three_hundred_pools_beside_eight_hostile_servers(servers: dict[str, int]) -> None:
    """The pools' delays are printed and not judged: they depend on what else the machine does."""
    world = World()
    async with world.run():
        await world.settle()
        calm = await measure(world)
        forget_peak()
        memory = read_memory()["now"]
        guards = [world.add_hostile_guard(name, port) for name, port in servers.items()]
        beside = await measure(world)
        grown = read_memory()["most"] - memory
        conditions = {guard.name: world.find_condition(guard, "Ready") for guard in guards}
    for name, stretch in (("calm", calm), ("beside attacks", beside)):
        late = stretch.lateness
        print(
            f"{name}: {len(late)} passes of pools, late p50 {at_most(late, 0.5):.3f} s,"
            f" p99 {at_most(late, 0.99):.3f} s, loop {stretch.loop_late:.3f} s, processor {stretch.processor:.2f}"
        )
    print(f"memory +{grown} MiB")
    for name, condition in conditions.items():
        print(name, condition["reason"], condition["message"])
        assert condition["status"] == "False"
        assert condition["reason"] in HARMED
    assert grown < MEMORY_MIB
    assert beside.processor < calm.processor + PROCESSOR
