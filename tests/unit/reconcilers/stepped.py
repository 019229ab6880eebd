"""A world whose passes a test makes by hand, on a clock that it moves; only guards follow their own pace."""

import asyncio
from typing import Any

from headroom.adapters.inmemory.clock import MemoryClock, settle
from headroom.adapters.inmemory.kube import MemoryKube
from headroom.adapters.inmemory.kube_cache import MemoryCache
from headroom.errors import HeadroomError
from headroom.ports.kube import DATABASE_GUARD, OUR_KINDS, ObjectRef
from tests.controllers import ref_to
from tests.manifests import NAMESPACE
from tests.memory_world import INSTALL, MemoryWorld

GUARD = (NAMESPACE, "store")
GUARD_REF = ObjectRef(DATABASE_GUARD, *GUARD)
CONFLICT_SECONDS = 0.1
STEP_SECONDS = 0.05
LONGEST_PASS_STEPS = 400
SPINS = 30
"""Turns of the event loop in which a pass ends, if nothing in it waits for the clock."""


class SteppedWorld(MemoryWorld):
    """Guards have a client of the API server of their own, so that `kube` logs the calls of the kind under test."""

    clock: MemoryClock

    def __init__(self) -> None:
        super().__init__(MemoryClock(spins=SPINS))
        self.cache = MemoryCache(self.kube.store)
        self.guard_kube = MemoryKube(beside=self.kube, clock=self.clock)
        self._guards: dict[str, asyncio.Task[None]] = {}
        self._begin(INSTALL)

    def _begin(self, install_id: str) -> None:
        self.fence.nth = None
        self.has_guard_passes = True
        kubes = {**dict.fromkeys(OUR_KINDS, self.kube), DATABASE_GUARD: self.guard_kube}
        self.loops = self.build_loops(kubes, self.kube, self.cache, self.postgres, install_id)
        self.servers = self.loops.servers

    def restart(self, install_id: str = INSTALL) -> None:
        """A new process: nothing in memory is left, nothing of the old one runs on, and no guard has made a pass."""
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()
        self._guards.clear()
        self._begin(install_id)

    async def follow_guards(self) -> None:
        """Start the loops of guards that have none; each has made its first pass then."""
        for body in self.children(DATABASE_GUARD) if self.has_guard_passes else ():
            uid = body["metadata"]["uid"]
            if uid not in self._guards:
                self._guards[uid] = asyncio.create_task(self._follow_guard(ref_to(DATABASE_GUARD, body), uid))
                await settle()

    def stop_guards(self) -> None:
        """Guards make no pass from now on, as when their loops hang."""
        self.has_guard_passes = False
        for task in self._guards.values():
            task.cancel()
        self._guards.clear()

    async def _follow_guard(self, ref: ObjectRef, uid: str) -> None:
        while (body := self.cluster.read(ref)) is not None:
            try:
                pause = (await self.loops.reconcilers[DATABASE_GUARD].reconcile(body)).total_seconds()
            except HeadroomError:
                pause = CONFLICT_SECONDS
            await self.clock.sleep(pause)
        await self.loops.forget(ref, uid)

    async def pass_time(self, seconds: float) -> None:
        """Let everybody else act for so long."""
        await self.follow_guards()
        self.play()
        await self.clock.advance(seconds)

    async def drive(self, work: Any) -> Any:
        """A pass and what it waits for, while time goes by; raises what the pass raises."""
        task = asyncio.ensure_future(work)
        for _ in range(LONGEST_PASS_STEPS):
            for _ in range(SPINS):
                if task.done():
                    return task.result()
                await asyncio.sleep(0)
            await self.pass_time(STEP_SECONDS)
        return await task
