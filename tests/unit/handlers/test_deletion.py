"""A deletion while a pass runs: nothing that the pass has sent may take effect after the teardown."""

import asyncio
import logging
from datetime import timedelta
from typing import Any

import kopf
import pytest
from kopf._core.engines.daemons import Daemon, stop_daemons
from kopf._core.intents.stoppers import DaemonStopper

from headroom.adapters.inmemory.kube import MemoryKube
from headroom.adapters.inmemory.kube_cache import MemoryCache
from headroom.adapters.inmemory.kube_cluster import Cluster
from headroom.adapters.inmemory.telemetry import MemoryTelemetry
from headroom.handlers import build_kopf_settings, register_loop
from headroom.ports.kube import OUR_KINDS, REPLICA_SET, ObjectRef
from headroom.reconcilers.loop import LevelLoops
from headroom.reconcilers.servers import Servers
from tests.loop_clock import LoopClock
from tests.manifests import NAMESPACE, make_set

pytestmark = pytest.mark.looptime(start=0)
PASS_SECONDS = 8.0
SET = ObjectRef(REPLICA_SET, NAMESPACE, "store")


class SlowCreate:
    """A reconciler whose pass creates a slot, which takes long; a teardown drops what it sees."""

    def __init__(self) -> None:
        self.slots: set[str] = set()
        self.log: list[str] = []

    async def reconcile(self, body: dict[str, Any]) -> timedelta:
        self.log.append("asked")
        # The server goes on with it, whoever still waits for the answer.
        create = asyncio.create_task(self._create())
        await asyncio.shield(create)
        self.log.append("answered")
        return timedelta(seconds=30)

    async def _create(self) -> None:
        await asyncio.sleep(PASS_SECONDS)
        self.slots.add("slot")

    async def teardown(self, body: dict[str, Any]) -> timedelta | None:
        self.log.append("torn down")
        if not self.slots:
            return None
        self.slots.clear()
        return timedelta(seconds=0.5)

    async def forget(self, uid: str) -> None:
        pass


class Kopf:
    """What Kopf does with one object, by its own code: the daemon of our handler, and its end."""

    def __init__(self) -> None:
        kube, clock = MemoryKube(), LoopClock()
        self.body = Cluster(kube).seed({**make_set("store")})
        self.body["metadata"].setdefault("generation", 1)
        self.reconciler = SlowCreate()
        self.loops = LevelLoops(
            dict.fromkeys(OUR_KINDS, self.reconciler),
            kube,
            MemoryCache(kube.store),
            clock,
            MemoryTelemetry(),
            Servers(clock),
        )
        registry = kopf.OperatorRegistry()
        register_loop(registry, self.loops, REPLICA_SET)
        [self.handler] = registry._spawning.get_all_handlers()
        self.stopper = DaemonStopper()
        uid = self.body["metadata"]["uid"]
        run: Any = self.handler.fn
        body: Any = self.body
        stopped = self.stopper.async_waiter
        self.task: asyncio.Task[None] = asyncio.create_task(run(body=kopf.Body(body), uid=uid, stopped=stopped))

    async def stop_daemon(self) -> float:
        """One step of the end of the daemon; 0 when it has ended, else seconds until Kopf looks again."""
        daemon = Daemon(self.task, logging.getLogger("kopf"), self.handler, self.stopper)
        delays = await stop_daemons(settings=build_kopf_settings(), daemons={self.handler.id: daemon})
        return max(delays, default=0.0)


async def test_a_pass_that_runs_is_not_cancelled_and_the_teardown_waits_for_it() -> None:
    world = Kopf()
    await asyncio.sleep(1)
    delay = await world.stop_daemon()
    assert 0 < delay <= 1
    teardown = asyncio.create_task(world.loops.teardown(SET, world.body["metadata"]["uid"]))
    while delay:
        await asyncio.sleep(delay)
        delay = await world.stop_daemon()
    await teardown
    assert not world.task.cancelled()
    assert world.reconciler.log == ["asked", "answered", "torn down", "torn down"]
    await asyncio.sleep(60)
    assert world.reconciler.slots == set()


async def test_a_loop_that_sleeps_ends_at_once() -> None:
    world = Kopf()
    await asyncio.sleep(PASS_SECONDS + 1)
    assert await world.stop_daemon() == 0
    assert world.task.done()


async def test_the_end_of_the_process_waits_for_running_passes_but_not_for_long() -> None:
    for seconds, is_answered in ((10.0, True), (5.0, False)):
        world = Kopf()
        await asyncio.sleep(1)
        began = asyncio.get_running_loop().time()
        await world.loops.end_all(timedelta(seconds=seconds))
        await asyncio.wait([world.task])
        assert asyncio.get_running_loop().time() - began <= min(seconds, PASS_SECONDS) + 0.1
        assert ("answered" in world.reconciler.log) is is_answered
        assert world.task.cancelled() is not is_answered
