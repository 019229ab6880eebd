"""The client's limits under a flood of one namespace, in virtual time."""

import asyncio

import pytest

from headroom.adapters.kube.limits import Limiter, Limits
from tests.loop_clock import LoopClock

pytestmark = pytest.mark.looptime(start=0)
LIMITS = Limits(concurrency=16, calls_per_second=250, burst=500)
ANSWER_SECONDS = 0.02


async def call(limiter: Limiter, namespace: str, answer_seconds: float = ANSWER_SECONDS) -> float:
    """Seconds until the answer."""
    asked_at = asyncio.get_running_loop().time()
    async with limiter.place(namespace):
        await asyncio.sleep(answer_seconds)
    return asyncio.get_running_loop().time() - asked_at


async def flood(limiter: Limiter, answer_seconds: float = ANSWER_SECONDS) -> None:
    """A thousand objects of one namespace, each of which calls again at once."""

    async def repeat() -> None:
        while True:
            await call(limiter, "loud", answer_seconds)

    await asyncio.gather(*(repeat() for _ in range(1000)))


async def measure(limiter: Limiter, *, calls: int = 50) -> list[float]:
    found = []
    for _ in range(calls):
        found.append(await call(limiter, "quiet"))
        await asyncio.sleep(0.3)
    return sorted(found)


@pytest.mark.parametrize("answer_seconds", [ANSWER_SECONDS, 10.0], ids=["quick answers", "answers of ten seconds"])
async def test_a_thousand_callers_of_one_namespace_do_not_delay_another(answer_seconds: float) -> None:
    alone = await measure(Limiter(LIMITS, LoopClock()))
    limiter = Limiter(LIMITS, LoopClock())
    others = asyncio.create_task(flood(limiter, answer_seconds))
    await asyncio.sleep(5)
    beside = await measure(limiter)
    others.cancel()
    print(f"\na call alone {alone[25]:.3f} s, beside a thousand 50% {beside[25]:.3f} s, slowest {beside[-1]:.3f} s")
    assert beside[-1] <= alone[-1] * 1.2


async def test_one_namespace_alone_gets_four_fifths() -> None:
    limiter = Limiter(LIMITS, LoopClock())
    await asyncio.gather(*(call(limiter, "only") for _ in range(2400)))
    assert asyncio.get_running_loop().time() == pytest.approx(2000 / 200, abs=0.1)


@pytest.mark.long
async def test_many_namespaces_get_the_whole_rate_in_equal_parts() -> None:
    limiter = Limiter(LIMITS, LoopClock())
    await asyncio.gather(*(call(limiter, str(number % 300)) for number in range(3000)))
    assert asyncio.get_running_loop().time() == pytest.approx(2500 / 250, abs=0.1)
    assert len(limiter._shares) <= 300


async def test_limits_hold_for_all_namespaces_together() -> None:
    limiter, most, now = Limiter(Limits(concurrency=3, calls_per_second=10, burst=5), LoopClock()), 0, 0

    async def work(namespace: str) -> None:
        nonlocal most, now
        async with limiter.place(namespace):
            now += 1
            most = max(most, now)
            await asyncio.sleep(0.05)
            now -= 1

    await asyncio.gather(*(work(str(number % 7)) for number in range(45)))
    assert most == 3
    assert asyncio.get_running_loop().time() == pytest.approx(40 / 10 + 0.05, abs=0.02)


async def test_who_gives_up_leaves_no_place_taken() -> None:
    limiter = Limiter(Limits(concurrency=2, calls_per_second=1000, burst=1000), LoopClock())
    holders = [asyncio.create_task(call(limiter, "a", 1.0)) for _ in range(2)]
    await asyncio.sleep(0.1)
    waiting = [asyncio.create_task(call(limiter, "a", 1.0)) for _ in range(5)]
    await asyncio.sleep(0.1)
    for task in (*waiting, holders[0]):
        task.cancel()
    await asyncio.sleep(0)
    assert await call(limiter, "b") == pytest.approx(ANSWER_SECONDS)
    await holders[1]
    assert (limiter._free, dict(limiter._held), len(limiter._waiting)) == (2, {}, 0)
