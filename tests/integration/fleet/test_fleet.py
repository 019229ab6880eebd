"""A thousand pools through the client's real limits: who is late is decided in time, and who is calm asks nothing."""

import asyncio
from collections import Counter

import pytest

from tests.integration.fleet.fleet import Fleet, quantile

pytestmark = [pytest.mark.looptime(start=0), pytest.mark.timeout(300)]
CALM_AFTER_SECONDS, CALM_SECONDS, LATE_SECONDS = 75.0, 6.0, 20.0
POOLS, LATE = 1000, 100
GOAL_SECONDS = 5.0


def describe(name: str, values: list[float], calls: "Counter[str]") -> str:
    spread = ", ".join(f"{part:.0%} {quantile(values, part):.2f} s" for part in (0.5, 0.9, 0.99))
    return f"{name}: {len(values)} passes, due to done {spread}; calls {dict(calls)}"


async def test_a_thousand_pools_are_decided_in_time(capsys: pytest.CaptureFixture[str]) -> None:
    fleet = Fleet(POOLS, LATE)
    running = asyncio.create_task(fleet.run())
    await asyncio.sleep(CALM_AFTER_SECONDS)
    fleet.take_lateness()
    fleet.calls.clear()
    await asyncio.sleep(CALM_SECONDS)
    calm, calls_when_calm = fleet.take_lateness(), fleet.take_calls()
    fleet.probes.is_late = True
    await asyncio.sleep(LATE_SECONDS)
    late, scaled, calls_when_late = fleet.take_lateness(), fleet.take_scaled(), fleet.take_calls()
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    with capsys.disabled():
        print(f"\n{describe('calm', calm, calls_when_calm)}\n{describe('100 late', late, calls_when_late)}")
        p50, p99 = quantile(scaled, 0.5), quantile(scaled, 0.99)
        print(f"due to scaled: {len(scaled)} writes, 50% {p50:.2f} s, 99% {p99:.2f} s")
    assert calls_when_calm.total() == 0
    assert len(calm) >= POOLS
    assert quantile(calm, 0.99) <= GOAL_SECONDS
    assert fleet.count_grown() == LATE
    assert len(late) >= LATE * LATE_SECONDS / 5
    assert quantile(late, 0.99) <= GOAL_SECONDS
    assert len(scaled) >= LATE
    assert p99 <= GOAL_SECONDS
