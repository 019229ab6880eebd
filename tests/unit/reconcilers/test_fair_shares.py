"""A namespace beside one with a thousand hostile objects: how much later it is decided. All in virtual time.

Code of a pass takes time here too: a step spends some of the only processor, and nothing else runs meanwhile.
"""

import asyncio
import logging
from dataclasses import dataclass, field
from datetime import timedelta
from statistics import median
from typing import Any

import pytest

from headroom.adapters.inmemory.telemetry import MemoryTelemetry
from headroom.adapters.kube.connect import POOL_LIMITS
from headroom.adapters.kube.limits import Limiter
from headroom.errors import PrimaryUnavailable
from headroom.ports.kube import WORKER_POOL, Kind, Manifest, ObjectRef
from headroom.reasons import Reason
from headroom.reconcilers.loop import LevelLoops
from headroom.reconcilers.servers import Servers
from tests.loop_clock import LoopClock

pytestmark = pytest.mark.looptime(start=0)
ANSWER_SECONDS = 0.02
"""Of the API server, and of a database."""
STEP_SECONDS, HOSTILE_STEP_SECONDS = 0.0003, 0.0006
QUIET, LOUD = 20, 1000
WARM_UP_SECONDS, SECONDS = 3.0, 5.0
MOST_MORE = 1.2


class Stopped:
    def __bool__(self) -> bool:
        return False


class Nothing:
    """Neither a server nor a cache has anything."""

    async def get(self, ref: ObjectRef) -> Manifest | None:
        return None

    async def list(self, kind: Kind, namespace: str, *, labels: Any = None) -> list[Manifest]:
        return []


class NoCache:
    def get(self, ref: ObjectRef) -> Manifest | None:
        return None


def spend(seconds: float) -> None:
    """Let code run for so long: the loop does nothing else."""
    loop: Any = asyncio.get_running_loop()
    loop.setup_looptime(start=loop.time() + seconds)


async def ask() -> None:
    await asyncio.sleep(ANSWER_SECONDS)


@dataclass
class Reconciler:
    """Passes that read, ask a database, decide and write; those of the loud namespace fail after all they can do."""

    limiter: Limiter
    hostile: str = "calls"
    due_at: dict[str, float] = field(default_factory=dict)
    delays: list[float] = field(default_factory=list)
    failed: int = 0

    async def reconcile(self, body: Manifest) -> timedelta:
        namespace, name = body["metadata"]["namespace"], body["metadata"]["name"]
        if namespace == "loud":
            await self._fail()
        for action in (self._call, _query, _query, self._call):
            spend(STEP_SECONDS)
            await action(namespace)
        spend(STEP_SECONDS)
        if name in self.due_at:
            self.delays.append(asyncio.get_running_loop().time() - self.due_at.pop(name))
        return timedelta(seconds=5)

    async def _fail(self) -> None:
        actions = {"calls": (self._call, _query, _query, self._call), "computes": (_query,) * 9}
        for action in actions[self.hostile]:
            spend(HOSTILE_STEP_SECONDS)
            await action("loud")
        self.failed += 1
        raise PrimaryUnavailable("away", reason=Reason.PRIMARY_UNREACHABLE)

    async def _call(self, namespace: str) -> None:
        async with self.limiter.place(namespace):
            await ask()

    async def teardown(self, body: Manifest) -> timedelta | None:
        return None

    async def forget(self, uid: str) -> None:
        pass


async def _query(_: str) -> None:
    await ask()


class World:
    """The loops of both namespaces."""

    def __init__(self, hostile: str) -> None:
        clock = LoopClock()
        self.reconciler = Reconciler(Limiter(POOL_LIMITS, clock), hostile)
        nothing: Any = Nothing()
        cache: Any = NoCache()
        self.loops = LevelLoops(
            {WORKER_POOL: self.reconciler}, nothing, cache, clock, MemoryTelemetry(), Servers(clock)
        )
        self.tasks: list[asyncio.Task[None]] = []

    def add(self, namespace: str, count: int) -> list[ObjectRef]:
        refs = [ObjectRef(WORKER_POOL, namespace, f"{namespace}-{number}") for number in range(count)]
        for ref in refs:
            metadata = {"namespace": namespace, "name": ref.name, "uid": ref.name}
            self.start(self.loops.run(WORKER_POOL, {"metadata": metadata}, Stopped()))
        return refs

    def start(self, work: Any) -> None:
        self.tasks.append(asyncio.create_task(work))

    async def edit(self, refs: list[ObjectRef], every_seconds: float) -> None:
        """Edit all of them, over and over."""
        while True:
            for ref in refs:
                self.loops.wake(ref)
                await asyncio.sleep(every_seconds / len(refs))

    async def measure(self, refs: list[ObjectRef]) -> list[float]:
        """Seconds from news of an object until what was decided on it is written; one object after the other."""
        self.reconciler.delays.clear()
        loop = asyncio.get_running_loop()
        until = loop.time() + SECONDS
        number = 0
        while loop.time() < until:
            ref = refs[number % len(refs)]
            self.reconciler.due_at[ref.name] = loop.time()
            self.loops.wake(ref)
            number += 1
            await asyncio.sleep(0.037)
        await asyncio.sleep(2.0)
        assert len(self.reconciler.delays) >= 0.95 * number
        return sorted(self.reconciler.delays)

    async def end(self) -> None:
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)


async def measure(hostile: str, *, loud: int) -> tuple[list[float], Reconciler]:
    world = World(hostile)
    refs = world.add("quiet", QUIET)
    if loud:
        world.start(world.edit(world.add("loud", loud), every_seconds=0.5))
    await asyncio.sleep(WARM_UP_SECONDS)
    found = await world.measure(refs)
    await world.end()
    return found, world.reconciler


def describe(delays: list[float]) -> str:
    return f"50% {median(delays) * 1000:.0f} ms, 99% {p99(delays) * 1000:.0f} ms"


def p99(delays: list[float]) -> float:
    return delays[int(0.99 * len(delays))]


@pytest.mark.long
@pytest.mark.parametrize("hostile", ["calls", "computes"])
async def test_a_thousand_hostile_objects_delay_another_namespace_by_a_fifth_at_most(
    hostile: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Their specs are edited all the time. Their passes use up the calls, or compute as much as they get to."""
    caplog.set_level(logging.ERROR)
    alone, _ = await measure(hostile, loud=0)
    beside, seen = await measure(hostile, loud=LOUD)
    print(f"\nnews to decision: alone {describe(alone)}; beside {LOUD} objects that {hostile[:-1]} {describe(beside)}")
    print(f"({seen.failed} passes of theirs failed in {WARM_UP_SECONDS + SECONDS + 2:.0f} s)")
    assert seen.failed >= 700
    assert median(beside) <= MOST_MORE * median(alone)
    assert p99(beside) <= MOST_MORE * p99(alone)
