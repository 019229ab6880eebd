"""News that come in storms: some begin a pass at once, the others wait a little and are seen together."""

import asyncio
import itertools

import pytest

from headroom.adapters.inmemory.clock import MemoryClock
from headroom.adapters.inmemory.telemetry import MemoryTelemetry
from headroom.ports.kube import WORKER_POOL
from headroom.reconcilers.loop import NEWS_BURST, NEWS_PER_SECOND, LevelLoops, LoopState
from headroom.reconcilers.servers import Servers
from tests.loop_clock import LoopClock
from tests.unit.reconcilers.test_loop import BODY, POOL, Cached, Flag, Reader, Scripted, loops_of, run_for

pytestmark = pytest.mark.looptime(start=0)


async def test_news_begin_a_pass_at_once_and_a_storm_of_them_four_a_second() -> None:
    reconciler = Scripted(*[60.0] * 500)
    loops = loops_of(reconciler)
    loops.clock = LoopClock()

    async def storm() -> None:
        for _ in range(2000):
            await asyncio.sleep(0.01)
            loops.wake(POOL)

    storming = asyncio.create_task(storm())
    await run_for(loops, 20.0)
    await storming
    print(f"\n2,000 edits in 20 s: {len(reconciler.passes)} passes")
    first = [later - earlier for earlier, later in itertools.pairwise(reconciler.passes)][:NEWS_BURST]
    assert max(first) <= 0.03, "some at once"
    assert len(reconciler.passes) <= 1 + NEWS_BURST + 20 * NEWS_PER_SECOND + 1
    assert len(reconciler.passes) >= 20 * NEWS_PER_SECOND


async def test_the_last_news_of_a_storm_is_not_lost_and_comes_within_its_pause() -> None:
    reconciler = Scripted(*[60.0] * 100)
    loops = loops_of(reconciler)
    loops.clock = LoopClock()
    task = asyncio.create_task(loops.run(WORKER_POOL, BODY, flag := Flag()))
    for _ in range(100):
        await asyncio.sleep(0.01)
        loops.wake(POOL)
    last = asyncio.get_running_loop().time()
    await asyncio.sleep(5)
    after = [at for at in reconciler.passes if at >= last]
    assert len(after) == 1
    assert after[0] - last <= 1 / NEWS_PER_SECOND
    flag.is_up = True
    loops.wake(POOL)
    await task


async def test_a_loop_that_waits_in_a_storm_can_be_ended() -> None:
    reconciler = Scripted(*[60.0] * 100)
    loops = loops_of(reconciler)
    loops.clock = LoopClock()
    task = asyncio.create_task(loops.run(WORKER_POOL, BODY, Flag()))
    for _ in range(30):
        await asyncio.sleep(0.02)
        loops.wake(POOL)
    loops.end("u")
    ended = asyncio.get_running_loop().time()
    await task
    assert asyncio.get_running_loop().time() - ended < 0.02


async def test_a_pass_that_asks_for_the_next_one_is_not_held_back() -> None:
    """Only news are counted: what a pass has begun goes on, step by step."""
    reconciler = Scripted(*[0.0] * 50)
    loops = loops_of(reconciler)
    loops.clock = LoopClock()
    await run_for(loops, 1.0)
    assert len(reconciler.passes) >= 50


class Rounded(MemoryClock):
    """A clock that stands just before the moment that is waited for: 0.1 + 0.2 is more than 0.3."""

    readings = iter((0.1, *([0.3] * 1000)))

    def monotonic(self) -> float:
        return next(self.readings)


async def test_a_wait_that_rounding_leaves_over_ends() -> None:
    """Such a rest was waited for again and again, on a clock that does not move meanwhile."""
    clock = Rounded()
    loops = LevelLoops({}, Reader(), Cached(), clock, MemoryTelemetry(), Servers(clock))
    await loops._await_news(LoopState(0.0), 0.2)
