"""Servers that mean harm, of one namespace, beside three hundred pools of another: these go on undisturbed."""

import asyncio
import time
from collections.abc import Iterator
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass
from statistics import median
from typing import Any

import pytest

from headroom.adapters.clock import SystemClock
from headroom.adapters.kube.cache import WatchCache
from headroom.adapters.kube.write_through import WriteThroughKube
from headroom.adapters.postgres import PsycopgPostgres, SessionNames
from headroom.adapters.postgres.connection import PinnedConnection
from headroom.adapters.postgres.listener import PinnedListener
from headroom.adapters.postgres.wire.relay import CLOSE_SECONDS
from headroom.model.database import ConnectionTarget
from headroom.ports.kube import DATABASE_GUARD, REPLICA_SET, WORKER_POOL, ObjectRef
from headroom.ports.postgres import PrimaryLink, QueueListener
from headroom.reasons import Reason
from headroom.reconcilers.loop import LATENESS
from headroom.reconcilers.notifications import QueueNotifications
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
    hostile.send_parameters, hostile.ask_for_many_rounds, hostile.authenticate_slowly, hostile.answer_with_crowds,
)  # fmt: skip
MEMORY_MIB = 64
LISTENERS = 16
TIMES = 2.0
"""The 99th percentile may grow so much on a machine that does other work too; the goal on a free one is 1.2."""
FREE_SHARE = 0.1
"""Where more of the time went to other programs, the machine does other work: then delays tell nothing. What the loop's
own thread computes between two beats tells the same, whatever else runs."""
BEAT_SECONDS = 0.01
FLOODED_SECONDS = 90.0
TRIES = 3
"""Stretches of each kind: what else the machine does makes a stretch later, and none earlier."""
HARMED = (Reason.ANSWER_REFUSED, Reason.PRIMARY_UNREACHABLE, Reason.PRIMARY_TIMEOUT)
PROCESSOR = 0.25
"""Of one processor: what ten hostile servers and the floods of notifications may cost."""


class OpenFence:
    def check(self, timeout_seconds: float) -> None:
        pass


class Postgres:
    """Servers in memory, and those of this machine for real."""

    def __init__(self, memory: Any) -> None:
        self.memory = memory
        self.links: list[PrimaryLink] = []
        self.real = PsycopgPostgres(SessionNames("lease", "one"), OpenFence(), SystemClock(), dialer=local_dialer())

    def __getattr__(self, name: str) -> Any:
        return getattr(self.memory, name)

    async def open_primary(self, target: ConnectionTarget, *, is_observer: bool = False) -> PrimaryLink:
        chosen = self.real if target.host == "127.0.0.1" else self.memory
        link: PrimaryLink = await chosen.open_primary(target, is_observer=is_observer)
        self.links.append(link)
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
            await asyncio.gather(*(link.close() for link in postgres.links), return_exceptions=True)
            await asyncio.sleep(CLOSE_SECONDS)

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
        attacks = (*ATTACKS, hostile.answer_within_bounds, hostile.notify_for_ever)
        yield {attack.__name__.replace("_", "-"): stack.enter_context(run_apart(attack)).port for attack in attacks}


def at_most(values: list[float], share: float) -> float:
    return values[int(share * (len(values) - 1))]


@dataclass
class Stretch:
    """Some seconds of the operator's life."""

    lateness: list[float]
    loop_late: float
    processor: float
    """Seconds of processor time for each second."""
    held: list[float]
    """Seconds of the loop's thread between two beats, in order of size."""
    lost: float
    """Share of the time in which a beat was due and another program ran."""

    @property
    def late(self) -> float:
        return at_most(self.lateness, 0.99)

    @property
    def holds(self) -> float:
        return at_most(self.held, 0.99)


async def measure(world: World) -> Stretch:
    world.take_lateness()
    began, used, held, lost = time.monotonic(), time.process_time(), [], 0.0
    async with Pulse() as pulse:
        while time.monotonic() - began < MEASURE_SECONDS:
            before, at = time.thread_time(), time.monotonic()
            await asyncio.sleep(BEAT_SECONDS)
            held.append(time.thread_time() - before)
            lost += max(0.0, time.monotonic() - at - BEAT_SECONDS - held[-1])
    share = (time.process_time() - used) / (time.monotonic() - began)
    return Stretch(world.take_lateness(), pulse.worst, share, sorted(held), lost / MEASURE_SECONDS)


class Floods:
    """Pools of the namespace tenant whose queues' databases notify without end."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.dialer = local_dialer()
        self.notifications = QueueNotifications(SystemClock(), lambda _: None)
        self.pools = [ObjectRef(WORKER_POOL, f"tenant-{number}", "pool") for number in range(LISTENERS)]

    def open_listener(self) -> QueueListener:
        target = hostile.make_target(self.port)
        return PinnedListener(PinnedConnection(target, "headroom/listener/lease/one", dialer=self.dialer))

    async def begin(self) -> None:
        for pool in self.pools:
            await self.notifications.follow(pool, self, ["jobs"], sampled_at=0.0, seconds=0.1)

    async def await_end(self) -> list[str]:
        """Return once each has been refused, with what the pools say of it; then stop."""
        said: dict[ObjectRef, str] = {}
        async with asyncio.timeout(FLOODED_SECONDS):
            while len(said) < LISTENERS:
                said |= {pool: refusal for pool in self.pools if (refusal := self.notifications.find_refusal(pool))}
                await asyncio.sleep(0.1)
        for pool in self.pools:
            await self.notifications.forget(pool)
        return list(said.values())


def describe(name: str, stretch: Stretch) -> str:
    return (
        f"{name}: {len(stretch.lateness)} passes of pools, late p50 {at_most(stretch.lateness, 0.5):.3f} s,"
        f" p99 {stretch.late:.3f} s, loop {stretch.loop_late:.3f} s, processor {stretch.processor:.2f}, held p50"
        f" {at_most(stretch.held, 0.5) * 1000:.1f} ms, p99 {stretch.holds * 1000:.1f} ms, lost {stretch.lost:.2f}"
    )


def are_undisturbed(calm: list[Stretch], beside: list[Stretch]) -> bool:
    """The best stretch beside attacks counts: what else the machine does makes one worse, and none better.

    Calm ones differ tenfold in their delays by themselves, as 300 pools fall due more or less together: of those it is
    the one in the middle.
    """
    free = [[stretch.late for stretch in kind if stretch.lost < FREE_SHARE] for kind in (calm, beside)]
    is_late = all(free) and min(free[1]) > TIMES * median(free[0])
    is_held = min(stretch.holds for stretch in beside) > TIMES * min(stretch.holds for stretch in calm)
    return not is_held and not is_late


@pytest.mark.timeout(400)
async def test_three_hundred_pools_beside_hostile_servers(servers: dict[str, int]) -> None:
    world, floods = World(), Floods(servers.pop("notify-for-ever"))
    async with world.run():
        await world.settle()
        calm = [await measure(world) for _ in range(TRIES)]
        forget_peak()
        memory = read_memory()["now"]
        guards = {name: world.add_hostile_guard(name, port) for name, port in servers.items()}
        await floods.begin()
        beside = [await measure(world)]
        while len(beside) < TRIES and not are_undisturbed(calm, beside):
            beside.append(await measure(world))
        grown = read_memory()["most"] - memory
        conditions = {name: world.find_condition(guard, "Ready") for name, guard in guards.items()}
        refusals = await floods.await_end()
    for stretch in calm:
        print(describe("calm", stretch))
    for stretch in beside:
        print(describe("beside attacks", stretch))
    held = min(stretch.holds for stretch in beside) / min(stretch.holds for stretch in calm)
    print(f"held {held:.2f} x calm; memory +{grown} MiB; floods: {refusals[0]}")
    for name, condition in conditions.items():
        print(name, condition["reason"], condition["message"])
    del conditions["answer-within-bounds"]  # its answers are as they may be
    for condition in conditions.values():
        assert condition["status"] == "False"
        assert condition["reason"] in HARMED
    assert all("notifications at once" in refusal for refusal in refusals)
    assert grown < MEMORY_MIB
    assert min(stretch.processor for stretch in beside) < max(stretch.processor for stretch in calm) + PROCESSOR
    assert are_undisturbed(calm, beside)
