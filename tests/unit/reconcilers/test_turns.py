"""Turns of the event loop by namespace, on a processor whose seconds the test spends."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from datetime import timedelta
from typing import Any

import pytest

from headroom.reconcilers.turns import QUANTUM_SECONDS, LoopTurns
from tests.loop_clock import LoopClock

Work = Callable[[], Coroutine[Any, Any, int]]


class Processor(LoopClock):
    """Seconds that code spends in one step; nothing else takes time."""

    spent = 0.0

    def monotonic(self) -> float:
        return self.spent

    def work(self, seconds: float) -> None:
        self.spent += seconds


@pytest.fixture
def processor() -> Processor:
    return Processor()


@pytest.fixture
def turns(processor: Processor) -> LoopTurns:
    return LoopTurns(processor)


def make_pass(processor: Processor, steps: int, seconds: float) -> Work:
    async def run() -> int:
        for _ in range(steps):
            processor.work(seconds)
            await asyncio.sleep(0)
        return steps

    return run


async def begin_and_run(turns: LoopTurns, namespace: str, work: Work) -> int:
    await turns.begin(namespace)
    return await turns.run(namespace, work())


@pytest.fixture
async def flood(processor: Processor, turns: LoopTurns) -> AsyncIterator[list[asyncio.Task[int]]]:
    """A thousand passes of one namespace, each of twenty steps of half a millisecond: ten seconds of work."""
    tasks = [asyncio.create_task(begin_and_run(turns, "loud", make_pass(processor, 20, 0.0005))) for _ in range(1000)]
    yield tasks
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def test_a_pass_beside_a_thousand_waits_a_quantum_at_each_of_its_steps(
    processor: Processor, turns: LoopTurns, flood: list[asyncio.Task[int]]
) -> None:
    for _ in range(200):
        await asyncio.sleep(0)
    before = processor.spent
    assert await begin_and_run(turns, "quiet", make_pass(processor, 10, 0.0005)) == 10
    took = processor.spent - before
    print(f"\na pass of 5 ms beside a thousand others: {took * 1000:.0f} ms of the processor")
    assert took <= 0.005 + 13 * 2 * QUANTUM_SECONDS
    assert not all(task.done() for task in flood)


async def test_all_passes_come_to_their_end(turns: LoopTurns, flood: list[asyncio.Task[int]]) -> None:
    assert set(await asyncio.gather(*flood)) == {20}
    await asyncio.sleep(0)
    assert (turns._going_on, turns._used, bool(turns._beginning)) == ({}, {}, False)


async def test_two_namespaces_with_much_to_do_get_the_same(processor: Processor, turns: LoopTurns) -> None:
    done: dict[str, float] = {"many": 0.0, "few": 0.0}

    def work(namespace: str, seconds: float) -> Work:
        async def run() -> int:
            while True:
                processor.work(seconds)
                done[namespace] += seconds
                await asyncio.sleep(0)

        return run

    tasks = [asyncio.create_task(begin_and_run(turns, "many", work("many", 0.0005))) for _ in range(100)]
    tasks += [asyncio.create_task(begin_and_run(turns, "few", work("few", 0.001))) for _ in range(5)]
    for _ in range(3000):
        await asyncio.sleep(0)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert done["few"] >= 0.8 * done["many"]


async def test_answers_errors_and_cancellations_go_through(turns: LoopTurns) -> None:
    async def work() -> int:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await asyncio.sleep(10)
        future: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().call_soon(future.set_exception, KeyError("x"))
        with pytest.raises(KeyError):
            await future
        return await asyncio.to_thread(lambda: 7)

    assert await turns.run("a", work()) == 7

    async def fail() -> int:
        await asyncio.sleep(0)
        raise KeyError("y")

    with pytest.raises(KeyError):
        await turns.run("a", fail())


async def test_a_pass_that_waits_for_its_turn_can_be_cancelled(processor: Processor, turns: LoopTurns) -> None:
    first = asyncio.create_task(begin_and_run(turns, "a", make_pass(processor, 50, 2 * QUANTUM_SECONDS)))
    others = [asyncio.create_task(begin_and_run(turns, "a", make_pass(processor, 50, 0.001))) for _ in range(10)]
    for _ in range(30):
        await asyncio.sleep(0)
    for task in others:
        task.cancel()
    assert all(
        isinstance(error, asyncio.CancelledError) for error in await asyncio.gather(*others, return_exceptions=True)
    )
    assert await first == 50


def test_a_quantum_is_far_below_what_the_canary_may_be_late() -> None:
    assert timedelta(seconds=10 * QUANTUM_SECONDS) <= timedelta(milliseconds=100)
