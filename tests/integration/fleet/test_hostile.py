"""Pools of one namespace beside a thousand hostile ones of another, through the client's real limits.

Their specs are edited all the time, their annotations are huge, and their passes fail: the target is missing, and the
status that a pass would write is of an object that has moved meanwhile.
"""

import asyncio
import itertools
from typing import Any

import pytest

from headroom.ports.kube import WORKER_POOL, ObjectRef
from headroom.reconcilers.loop import ERRORS
from tests.integration.fleet.fleet import Fleet, quantile
from tests.manifests import make_pool

pytestmark = [pytest.mark.looptime(start=0), pytest.mark.timeout(600)]
POOLS, LATE, HOSTILE = 40, 20, 1000
EDITS_PER_SECOND = 200
SETTLED_AFTER_SECONDS, LATE_SECONDS = 20.0, 15.0
MOST_MORE = 1.2
NOTE = "x" * 100_000


async def measure(hostile: int) -> tuple[list[float], Fleet]:
    """Seconds from due to scaled of the pools that are late."""
    fleet = Fleet(POOLS, LATE)
    refs = [fleet.seed(make_hostile(number)) for number in range(hostile)]
    tasks = [asyncio.create_task(fleet.run())]
    if refs:
        tasks.append(asyncio.create_task(edit_for_ever(fleet, refs)))
    await asyncio.sleep(SETTLED_AFTER_SECONDS)
    fleet.take_scaled()
    fleet.probes.is_late = True
    await asyncio.sleep(LATE_SECONDS)
    scaled = fleet.take_scaled()
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert fleet.count_grown() == LATE
    return scaled, fleet


def make_hostile(number: int) -> dict[str, Any]:
    found = make_pool(f"hostile-{number}", "nowhere", "loud")
    found["metadata"]["annotations"] = {"note": NOTE}
    return found


async def edit_for_ever(fleet: Fleet, refs: list[ObjectRef]) -> None:
    for number in itertools.count():
        ref = refs[number % len(refs)]
        fleet.cluster.edit(ref, lambda pool: pool["spec"].update(maxWorkers=2 + number % 50))  # noqa: B023  called at once
        await asyncio.sleep(1 / EDITS_PER_SECOND)


def describe(name: str, seconds: list[float]) -> str:
    spread = ", ".join(f"{part:.0%} {quantile(seconds, part):.3f} s" for part in (0.5, 0.9, 0.99))
    return f"{name}: {len(seconds)} writes, due to scaled {spread}"


async def test_a_thousand_hostile_pools_delay_another_namespace_by_a_fifth_at_most(
    capsys: pytest.CaptureFixture[str],
) -> None:
    alone, _ = await measure(0)
    beside, fleet = await measure(HOSTILE)
    failed = sum(value for (name, _), value in fleet.telemetry.values.items() if name == ERRORS.name)
    with capsys.disabled():
        print(f"\n{describe('alone', alone)}\n{describe(f'beside {HOSTILE} hostile pools', beside)}")
        print(f"{failed:.0f} passes failed; calls {dict(fleet.take_calls())}")
    assert len(beside) >= 0.9 * len(alone)
    for part in (0.5, 0.9, 0.99):
        assert quantile(beside, part) <= MOST_MORE * quantile(alone, part) + 0.002
    assert fleet.cluster.read(ObjectRef(WORKER_POOL, "loud", "hostile-0")) is not None
