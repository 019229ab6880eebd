"""Many pools on one database: their questions share statements, and each gets the answer that it would get alone."""

import asyncio
import os
import statistics
import time
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from headroom.adapters.postgres.queues import PostgresQueueProbes
from headroom.api.v1alpha1.queue import PostgresQueue
from headroom.errors import SignalUnavailable
from headroom.model.queue import QueueQuestion, QueueSample
from headroom.ports.signals import QueueProbe, SqlRunner
from tests.integration.queues.conftest import Shop

pytestmark = pytest.mark.postgres

POOLS, FEW = 100, 12
MOST_SECONDS = 2.0
"""For all pools, of an interval of 5 s; about half a second on a quiet machine."""
SAME = ("backlog", "late", "in_flight", "arrived", "ended", "failed", "blocked", "phantoms", "leading", "due_soon")
ASKED = QueueQuestion(0.0, 30.0, 10.0)


@dataclass
class Counting:
    """A runner that counts its statements."""

    runner: SqlRunner
    statements: list[str] = field(default_factory=list)

    async def read(self, sql: str, parameters: Any = None, *, tables: Any = None) -> list[dict[str, Any]]:
        self.statements.append(sql)
        return await self.runner.read(sql, parameters, tables=tables)


def open_probe(probes: PostgresQueueProbes, runner: SqlRunner, *queues: str) -> QueueProbe:
    return probes.open(PostgresQueue.model_validate({"preset": "procrastinate", "queues": list(queues)}), runner)


def fill(shop: Shop, pools: int) -> None:
    """Queues of all kinds: empty, calm, late, with locks, and with work in hand."""
    worker = shop.register_worker()
    for number in range(pools):
        queue = f"queue-{number}"
        if number % 4:
            shop.defer(number % 7, queue=queue, ago=100 * (number % 3))
        if number % 4 == 2:
            shop.defer(3, queue=queue, lock=queue, ago=100)
        if number % 4 == 3:
            shop.claim(2, worker, queue)


async def sample_all(probes: list[QueueProbe], at: float = 0.0) -> list[QueueSample]:
    return list(await asyncio.gather(*(probe.sample(replace(ASKED, asked_at=at)) for probe in probes)))


async def test_each_pool_gets_the_answer_that_it_would_get_alone(shop: Shop) -> None:
    fill(shop, FEW)
    link = Counting(await shop.open_queue())
    crowd, alone = PostgresQueueProbes(), [PostgresQueueProbes() for _ in range(FEW)]
    together = [open_probe(crowd, link, f"queue-{number}") for number in range(FEW)]
    apart = [open_probe(each, link, f"queue-{number}") for number, each in enumerate(alone)]
    for at in (0.0, 5.0, 10.0):
        found = await sample_all(together, at)
        expected = [await probe.sample(replace(ASKED, asked_at=at)) for probe in apart]
        for mine, theirs in zip(found, expected, strict=True):
            same = {
                name: getattr(mine, name) for name in ("backlog", "late", "in_flight", "arrived", "ended", "blocked")
            }
            assert same == {name: getattr(theirs, name) for name in same}
            assert mine.lag_seconds == pytest.approx(theirs.lag_seconds, abs=5)
        shop.defer(2, queue="queue-4")
        shop.finish(*shop.claim(1, 1, "queue-1"))


async def test_a_hundred_pools_cost_a_few_statements(shop: Shop, capsys: pytest.CaptureFixture[str]) -> None:
    fill(shop, FEW)
    shop.server.sql("ANALYZE")
    link = Counting(await shop.open_queue())
    probes = PostgresQueueProbes()
    pools = [open_probe(probes, link, f"queue-{number}") for number in range(POOLS)]
    await sample_all(pools)
    seconds = []
    for number in range(4):
        link.statements.clear()
        began = time.perf_counter()
        await sample_all(pools, 5.0 * (number + 1))
        seconds.append(time.perf_counter() - began)
    statements = len(link.statements)
    began = time.perf_counter()
    for pool in pools:
        await pool.sample(replace(ASKED, asked_at=40.0))
    apart = time.perf_counter() - began
    together = statistics.median(seconds)
    with capsys.disabled():
        load = f"load average {os.getloadavg()[0]:.1f}"
        print(f"\n{load}; 100 pools: {together:.3f} s in {statements} statements, {apart:.3f} s one by one")
    # On a busy machine a statement takes longer, and fewer questions go with it.
    assert statements <= POOLS / 4
    assert together <= max(MOST_SECONDS, apart), "and it takes no longer than one by one"


async def test_a_pool_that_fails_spoils_no_answer_of_another(shop: Shop) -> None:
    """Its tables are in another schema, which is dropped while all of them are asked."""
    link = await shop.open_queue()
    probes = PostgresQueueProbes()
    good = [open_probe(probes, link, f"queue-{number}") for number in range(9)]
    await sample_all(good)
    shop.run("ALTER TABLE procrastinate_events RENAME COLUMN at TO moment")
    results = await asyncio.gather(*(probe.sample(ASKED) for probe in good), return_exceptions=True)
    assert all(isinstance(result, SignalUnavailable) and "no column at" in str(result) for result in results)
    shop.run("ALTER TABLE procrastinate_events RENAME COLUMN moment TO at")
    assert len(await sample_all(good, 70.0)) == 9
