import asyncio
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from typing import Any

import pytest

from headroom.adapters.inmemory.clock import MemoryClock
from headroom.adapters.inmemory.telemetry import MemoryTelemetry
from headroom.errors import Conflict, NotLeading, PrimaryUnavailable
from headroom.model.conditions import Finding
from headroom.model.database import DatabaseView
from headroom.ports.kube import WORKER_POOL, Kind, Manifest, ObjectRef
from headroom.reasons import Reason
from headroom.reconcilers.loop import ERRORS, LATENESS, PASS_DEADLINE, LevelLoops
from headroom.reconcilers.servers import Servers
from tests.loop_clock import LoopClock
from tests.unit.policy.databaseguard.make import make_demand

pytestmark = pytest.mark.looptime(start=0)
POOL = ObjectRef(WORKER_POOL, "shop", "pool")
BODY: Manifest = {"metadata": {"namespace": "shop", "name": "pool", "uid": "u"}, "spec": {"items": [{"a": 1}]}}


class Flag:
    is_up = False

    def __bool__(self) -> bool:
        return self.is_up


class Scripted:
    """A reconciler that does what the test says, pass by pass, and notes when."""

    def __init__(self, *steps: Exception | float | None) -> None:
        self.steps = list(steps)
        self.passes: list[float] = []
        self.teardowns: list[float] = []
        self.forgotten: list[str] = []
        self.seen: Manifest = {}
        self.running = 0
        self.at_once: Callable[[], None] = lambda: None

    async def reconcile(self, body: Manifest) -> timedelta:
        self.seen = body
        self.passes.append(asyncio.get_running_loop().time())
        self.running += 1
        assert self.running == 1
        await asyncio.sleep(0.01)
        self.running -= 1
        step = self.steps.pop(0) if self.steps else 10.0
        if isinstance(step, Exception):
            raise step
        return timedelta(seconds=step or 0)

    async def teardown(self, body: Manifest) -> timedelta | None:
        assert self.running == 0
        self.teardowns.append(asyncio.get_running_loop().time())
        step = self.steps.pop(0) if self.steps else None
        if isinstance(step, Exception):
            raise step
        return None if step is None else timedelta(seconds=step)

    async def forget(self, uid: str) -> None:
        self.forgotten.append(uid)


class Reader:
    body: Manifest | None = BODY

    async def get(self, ref: ObjectRef) -> Manifest | None:
        return self.body

    async def list(self, kind: Kind, namespace: str, *, labels: Any = None) -> list[Manifest]:
        return []


class Cached:
    body: Manifest | None = None

    def get(self, ref: ObjectRef) -> Manifest | None:
        return self.body

    def list(self, kind: Kind, namespace: str, *, labels: Any = None) -> list[Manifest]:
        return []


def loops_of(reconciler: Scripted, cached: Cached | None = None) -> LevelLoops:
    clock = MemoryClock()
    cache = cached or Cached()
    return LevelLoops({WORKER_POOL: reconciler}, Reader(), cache, clock, MemoryTelemetry(), Servers(clock))


async def run_for(loops: LevelLoops, seconds: float) -> None:
    flag = Flag()
    task = asyncio.create_task(loops.run(WORKER_POOL, BODY, flag))
    await asyncio.sleep(seconds)
    flag.is_up = True
    loops.wake(POOL)
    await task


async def test_the_pass_says_when_the_next_one_comes() -> None:
    reconciler = Scripted(2.0, 2.0)
    await run_for(loops_of(reconciler), 3.0)
    assert reconciler.passes[1] - reconciler.passes[0] == pytest.approx(1.9, abs=0.15)


async def test_a_wake_up_does_not_wait_for_the_resync() -> None:
    reconciler = Scripted(60.0, 60.0)
    loops = loops_of(reconciler)
    asyncio.get_running_loop().call_later(1.0, loops.wake, POOL)
    await run_for(loops, 2.0)
    assert reconciler.passes[1] == pytest.approx(1.0, abs=0.05)


async def test_a_wake_up_during_a_pass_is_not_lost() -> None:
    reconciler = Scripted(60.0, 60.0)
    loops = loops_of(reconciler)
    asyncio.get_running_loop().call_later(0.005, loops.wake, POOL)
    await run_for(loops, 1.0)
    assert len(reconciler.passes) == 2


async def test_any_error_backs_off_and_the_loop_goes_on() -> None:
    reconciler = Scripted(*[RuntimeError("boom")] * 4, 60.0)
    loops = loops_of(reconciler)
    await run_for(loops, 30.0)
    gaps = [later - earlier for earlier, later in zip(reconciler.passes, reconciler.passes[1:], strict=False)]
    assert gaps == sorted(gaps)
    assert gaps[0] < 0.6
    assert loops.telemetry.value(ERRORS, kind="WorkerPool", error="RuntimeError") == 4  # type: ignore[attr-defined]


async def test_a_conflict_is_gathered_again_at_once() -> None:
    reconciler = Scripted(Conflict("moved"), 60.0)
    await run_for(loops_of(reconciler), 1.0)
    assert reconciler.passes[1] - reconciler.passes[0] < 0.2


async def test_the_other_side_may_ask_for_patience() -> None:
    away = PrimaryUnavailable("429", reason=Reason.PRIMARY_UNREACHABLE, retry_after=timedelta(seconds=7))
    reconciler = Scripted(away, 60.0)
    await run_for(loops_of(reconciler), 9.0)
    assert reconciler.passes[1] - reconciler.passes[0] == pytest.approx(6.7, abs=0.5)


async def test_a_late_renewal_only_delays() -> None:
    reconciler = Scripted(NotLeading("close to its end"), 60.0)
    await run_for(loops_of(reconciler), 2.0)
    assert len(reconciler.passes) == 2


async def test_a_hung_pass_is_ended() -> None:
    class Hung(Scripted):
        async def reconcile(self, body: Manifest) -> timedelta:
            self.passes.append(asyncio.get_running_loop().time())
            await asyncio.sleep(3600)
            return timedelta()

    reconciler = Hung()
    await run_for(loops_of(reconciler), 70.0)
    assert len(reconciler.passes) == 2


async def test_a_pass_sees_plain_copies() -> None:
    reconciler = Scripted()
    await run_for(loops_of(reconciler), 0.1)
    assert reconciler.seen == BODY
    assert reconciler.seen["spec"]["items"] is not BODY["spec"]["items"]


async def test_a_pass_sees_what_the_cache_has_and_not_what_the_watch_is_behind_with() -> None:
    """Our own last status write is in the cache; a pass on the view before it would write it again, or conflict."""
    reconciler, cached = Scripted(), Cached()
    cached.body = {**BODY, "status": {"written": "by us"}}
    await run_for(loops_of(reconciler, cached), 0.1)
    assert reconciler.seen == cached.body
    assert reconciler.seen["status"] is not cached.body["status"]


async def test_another_object_of_the_name_is_not_taken_for_this_one() -> None:
    reconciler, cached = Scripted(), Cached()
    cached.body = {**BODY, "metadata": {**BODY["metadata"], "uid": "young"}}
    await run_for(loops_of(reconciler, cached), 0.1)
    assert reconciler.seen == BODY


async def test_news_of_a_server_wakes_who_depends_on_it() -> None:
    reconciler = Scripted(60.0, 60.0)
    loops = loops_of(reconciler)
    loops.servers.depend(POOL, ("shop", "store"))
    view = DatabaseView("guard", is_ready=True, finding=Finding(Reason.CONNECTED, ""), observed_at=0.0)
    asyncio.get_running_loop().call_later(1.0, loops.servers.post, ("shop", "store"), view)
    await run_for(loops, 2.0)
    assert reconciler.passes[1] == pytest.approx(1.0, abs=0.05)


async def test_what_is_forgotten_asks_no_server_for_anything() -> None:
    loops = loops_of(Scripted())
    loops.servers.post_demand(POOL, ("shop", "store"), make_demand("u", running=1, wanted=1))
    await loops.forget(POOL, "u")
    assert loops.servers.demands(("shop", "store")) == ()


async def test_how_late_a_pass_is_counts_from_its_time_or_from_the_news() -> None:
    class Slow(Scripted):
        async def reconcile(self, body: Manifest) -> timedelta:
            await asyncio.sleep(1.0)
            return timedelta(seconds=5.0)

    clock, telemetry = LoopClock(), MemoryTelemetry()
    loops = LevelLoops({WORKER_POOL: Slow()}, Reader(), Cached(), clock, telemetry, Servers(clock))
    # The first pass ends at 1.0; news at 0.5 makes the second one due then, so that it ends 1.5 s late at 2.0.
    asyncio.get_running_loop().call_later(0.5, loops.wake, POOL)
    await run_for(loops, 10.0)
    lateness = telemetry.observations[LATENESS.name, (("kind", "WorkerPool"),)]
    assert lateness[:3] == [pytest.approx(1.0), pytest.approx(1.5), pytest.approx(1.0)]


async def test_teardown_waits_for_the_running_pass_and_ends_the_loop() -> None:
    reconciler = Scripted(60.0)
    loops = loops_of(reconciler)
    task = asyncio.create_task(loops.run(WORKER_POOL, BODY, Flag()))
    await asyncio.sleep(0.005)
    reconciler.steps = [1.0]
    await loops.teardown(POOL, "u")
    await task
    assert len(reconciler.passes) == 1


async def test_teardown_comes_back_until_nothing_is_left() -> None:
    reconciler = Scripted(1.0, RuntimeError("once"), 1.0)
    await loops_of(reconciler).teardown(POOL, "u")
    assert len(reconciler.teardowns) == 4


async def test_teardown_of_what_is_gone_is_done() -> None:
    reconciler = Scripted(1.0)
    loops = loops_of(reconciler)
    loops.reader.body = None  # type: ignore[attr-defined]
    await loops.teardown(POOL, "u")
    assert reconciler.teardowns == []


async def test_forgetting_ends_the_loop_and_closes_what_was_held() -> None:
    reconciler = Scripted(60.0)
    loops = loops_of(reconciler)
    task = asyncio.create_task(loops.run(WORKER_POOL, BODY, Flag()))
    await asyncio.sleep(0.1)
    await loops.forget(POOL, "u")
    await task
    assert reconciler.forgotten == ["u"]


async def test_an_object_on_its_way_out_gets_no_further_pass() -> None:
    reconciler = Scripted(60.0, 60.0)
    loops = loops_of(reconciler)
    task = asyncio.create_task(loops.run(WORKER_POOL, BODY, Flag()))
    await asyncio.sleep(1.0)
    loops.end("u")
    await task
    assert len(reconciler.passes) == 1


async def test_the_end_of_an_old_object_does_not_touch_a_new_one_of_its_name() -> None:
    reconciler = Scripted(60.0, 60.0)
    loops = loops_of(reconciler)
    young = {**BODY, "metadata": {**BODY["metadata"], "uid": "young"}}
    task = asyncio.create_task(loops.run(WORKER_POOL, young, flag := Flag()))
    await asyncio.sleep(1.0)
    await loops.forget(POOL, "u")
    loops.wake(POOL)
    await asyncio.sleep(1.0)
    assert len(reconciler.passes) == 2
    flag.is_up = True
    loops.wake(POOL)
    await task


async def test_forgetting_waits_for_the_running_pass() -> None:
    """What the pass opens and posts after its object is gone would stay for ever."""

    class Slow(Scripted):
        async def reconcile(self, body: Manifest) -> timedelta:
            await asyncio.sleep(3.0)
            loops.servers.post_demand(POOL, ("shop", "store"), make_demand("u", running=1, wanted=1))
            return timedelta(seconds=60)

    reconciler = Slow()
    loops = loops_of(reconciler)
    task = asyncio.create_task(loops.run(WORKER_POOL, BODY, Flag()))
    await asyncio.sleep(1.0)
    await loops.forget(POOL, "u")
    await task
    assert reconciler.forgotten == ["u"]
    assert loops.servers.demands(("shop", "store")) == ()


async def test_forgetting_does_not_wait_for_longer_than_a_pass_may_take() -> None:
    class Hung(Scripted):
        async def teardown(self, body: Manifest) -> timedelta | None:
            with suppress(asyncio.CancelledError):
                await asyncio.sleep(3600)
            await asyncio.sleep(3600)
            return None

    reconciler = Hung()
    loops = loops_of(reconciler)
    task = asyncio.create_task(loops.teardown(POOL, "u"))
    await asyncio.sleep(1.0)
    await loops.forget(POOL, "u")
    assert reconciler.forgotten == ["u"]
    assert asyncio.get_running_loop().time() == pytest.approx(1.0 + PASS_DEADLINE.total_seconds())
    task.cancel()


class Instant(Scripted):
    """Passes that wait for nothing."""

    async def reconcile(self, body: Manifest) -> timedelta:
        self.passes.append(asyncio.get_running_loop().time())
        return timedelta(seconds=10)


async def test_a_hundred_objects_that_are_woken_at_once_leave_turns_to_all_else() -> None:
    reconciler, flag = Instant(), Flag()
    loops = loops_of(reconciler)
    refs = [ObjectRef(WORKER_POOL, "shop", f"pool-{number}") for number in range(100)]
    bodies = [{"metadata": {"namespace": "shop", "name": ref.name, "uid": ref.name}} for ref in refs]
    tasks = [asyncio.create_task(loops.run(WORKER_POOL, body, flag)) for body in bodies]
    await asyncio.sleep(1)
    reconciler.passes.clear()
    for ref in refs:
        loops.wake(ref)
    most = 0
    while len(reconciler.passes) < 100:
        before = len(reconciler.passes)
        await asyncio.sleep(0)
        most = max(most, len(reconciler.passes) - before)
    assert most == 1
    for task in tasks:
        task.cancel()
