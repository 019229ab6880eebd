"""One connection, many callers: the nearest deadline goes first, and nobody's turn is lost."""

import asyncio

import pytest

from headroom.adapters.postgres.turn import Turns


async def test_the_nearest_deadline_goes_first() -> None:
    turns, order, now = Turns(), [], asyncio.get_running_loop().time()

    async def work(name: str, deadline: float) -> None:
        async with turns.take(now + deadline):
            order.append(name)
            await asyncio.sleep(0)

    async with turns.take(now + 60):
        waiting = [asyncio.create_task(work(name, deadline)) for name, deadline in (("c", 30), ("a", 10), ("b", 20))]
        await asyncio.sleep(0)
    await asyncio.gather(*waiting)
    assert order == ["a", "b", "c"]


async def test_a_passed_deadline_is_a_timeout_and_frees_the_rest() -> None:
    turns, now = Turns(), asyncio.get_running_loop().time()
    async with turns.take(now + 60):
        with pytest.raises(TimeoutError):
            async with turns.take(now + 0.01):
                pass
        waiting = asyncio.create_task(_take(turns, now + 60))
        await asyncio.sleep(0)
    await asyncio.wait_for(waiting, 1)


async def test_a_turn_given_to_a_cancelled_waiter_is_passed_on() -> None:
    turns, now = Turns(), asyncio.get_running_loop().time()
    async with turns.take(now + 60):
        first = asyncio.create_task(_take(turns, now + 10))
        second = asyncio.create_task(_take(turns, now + 20))
        await asyncio.sleep(0)
    first.cancel()  # it was given the turn a moment ago and has not run since
    with pytest.raises(asyncio.CancelledError):
        await first
    await asyncio.wait_for(second, 1)


async def _take(turns: Turns, deadline: float) -> None:
    async with turns.take(deadline):
        pass
