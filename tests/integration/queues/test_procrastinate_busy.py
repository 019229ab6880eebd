"""A busy server: what it does not answer in time is asked for less, and a table that grows fast blinds nobody."""

import asyncio
import time
from contextlib import suppress
from typing import Any

import pytest

from headroom.adapters.postgres.queues import PostgresQueueProbes
from headroom.adapters.postgres.queues.procrastinate import LEAN_SECONDS
from headroom.adapters.postgres.queues.procrastinate_sql import LEAN_LIMITS, ROW_LIMIT
from headroom.api.v1alpha1.queue import PostgresQueue
from headroom.errors import PrimaryUnavailable, SignalUnavailable
from headroom.model.queue import QueueSample
from headroom.ports.signals import QueueProbe
from headroom.reasons import Reason
from tests.integration.queues.conftest import Shop
from tests.integration.queues.probing import open_probe, take_sample
from tests.integration.queues.test_procrastinate_traps import cpu_seconds, fill, settle
from tests.postgres_server import DATABASE

pytestmark = pytest.mark.postgres

LEAN = LEAN_LIMITS["row_limit"]
MOST_CPU_SECONDS = 0.4
"""Of a sample that is asked twice; each question has 0.5 s. One that is left open for less had no CPU."""
OLD = 1_000
"""Rows of a table that is in use: the server has statistics of it."""
GROWTH, GROWTH_SECONDS, BATCHES = 10_000, 20, 10
"""Rows a second, for how long, and in how many transactions each second."""


class Slow:
    """A runner on which statements with so many rows never end in time."""

    def __init__(self, inner: Any) -> None:
        self.inner, self.least, self.asked = inner, ROW_LIMIT, []

    async def read(self, sql: str, parameters: Any = None, *, tables: Any = None) -> list[dict[str, Any]]:
        limit = (parameters or {}).get("row_limit")
        if limit is not None:
            self.asked.append(limit)
            if limit >= self.least:
                raise PrimaryUnavailable("canceled", reason=Reason.PRIMARY_TIMEOUT)
        return await self.inner.read(sql, parameters, tables=tables)


async def test_a_server_that_has_no_time_is_asked_for_less_at_once_and_for_a_minute(shop: Shop) -> None:
    fill(shop, 6_000)
    fill(shop, 70, due="now() + interval '50 s'")
    settle(shop)
    runner = Slow(await shop.open_queue())
    spec = PostgresQueue.model_validate({"preset": "procrastinate", "queues": ["commands"]})
    probe = PostgresQueueProbes().open(spec, runner)
    runner.least = ROW_LIMIT + 1
    whole = await take_sample(probe, lead=60.0)
    runner.least = ROW_LIMIT
    less = await take_sample(probe, 5.0, lead=60.0)
    await take_sample(probe, 10.0, lead=60.0)
    assert runner.asked == [ROW_LIMIT, ROW_LIMIT, LEAN, LEAN]
    assert (whole.backlog, whole.is_truncated, whole.due_soon) == (6_000, False, 70)
    assert (less.backlog, less.late, less.is_truncated) == (LEAN, LEAN, True), "a lower bound"
    assert less.lag_seconds == pytest.approx(whole.lag_seconds, abs=30)
    assert less.due_soon == 70, "what was not asked holds"
    runner.least = ROW_LIMIT + 1
    again = await take_sample(probe, 5.0 + LEAN_SECONDS, lead=60.0)
    assert (again.backlog, again.is_truncated, again.arrived) == (6_000, False, 0)


async def test_a_server_that_answers_nothing_is_asked_twice_and_blames_the_timeout(shop: Shop) -> None:
    shop.defer(3)
    runner = Slow(await shop.open_queue())
    runner.least = 1
    spec = PostgresQueue.model_validate({"preset": "procrastinate", "queues": ["commands"]})
    probe = PostgresQueueProbes().open(spec, runner)
    with pytest.raises(SignalUnavailable, match="too long"):
        await take_sample(probe)
    assert runner.asked == [ROW_LIMIT, LEAN]


@pytest.mark.long
async def test_a_table_that_grows_by_ten_thousand_rows_a_second_is_always_seen(
    shop: Shop, capsys: pytest.CaptureFixture[str]
) -> None:
    """The library's rows as a bulk insert leaves them. Only a server without a CPU may leave a question open."""
    fill(shop, OLD, ago=1_000.0)
    settle(shop)
    probe = await open_probe(shop, "commands")
    await take_sample(probe)
    (row,) = await take_row(shop)
    growing = asyncio.create_task(asyncio.to_thread(grow, shop))
    began, samples, costs, starved = time.monotonic(), [], [], 0
    while not growing.done() or not samples:
        before, at, cpu = count_jobs(shop), time.monotonic(), cpu_seconds(row["pid"])
        try:
            samples.append(await take_sample(probe, at - began + 1.0))
        except (SignalUnavailable, PrimaryUnavailable):
            starved += 1
        else:
            check(samples[-1], age=1_000 + at - began, least=before, most=count_jobs(shop))
        try:
            costs.append(cpu_seconds(row["pid"]) - cpu)
        except FileNotFoundError:
            # Its connection was given up: a server that did not even cancel in time. There is another one now.
            (row,) = await take_row(shop)
        assert max(costs, default=0.0) <= MOST_CPU_SECONDS
        with suppress(TimeoutError):
            await asyncio.wait_for(asyncio.shield(growing), 1.0)
    rows, lasted = growing.result()
    last = await take_patiently(probe, time.monotonic() - began + 1.0)
    with capsys.disabled():
        print(
            f"\n{shop.server.installation} {rows} rows in {lasted:.1f} s: {len(samples)} samples, {starved} open, "
            f"at most {max(costs) * 1000:.0f} ms of CPU"
        )
    assert last.is_truncated
    assert last.backlog in (LEAN, ROW_LIMIT)
    assert count_jobs(shop) == rows + OLD


async def take_row(shop: Shop) -> list[dict[str, Any]]:
    """The process of the server that answers the probe."""
    for _ in range(20):
        with suppress(PrimaryUnavailable):
            return list(await shop.links[-1].query("SELECT pg_backend_pid() AS pid"))
    raise AssertionError("the server never answers")


async def take_patiently(probe: QueueProbe, at: float) -> QueueSample:
    for _ in range(20):
        with suppress(SignalUnavailable, PrimaryUnavailable):
            return await take_sample(probe, at)
    raise AssertionError("the server never answers")


def check(sample: QueueSample, *, age: float, least: int, most: int) -> None:
    assert sample.lag_seconds == pytest.approx(age, abs=30)
    assert sample.late >= 1
    assert least <= sample.backlog <= most or (sample.is_truncated and LEAN <= sample.backlog <= most)


def grow(shop: Shop) -> tuple[int, float]:
    """Rows and seconds; a machine that cannot write so fast writes all of them later."""
    began, batch = time.monotonic(), GROWTH // BATCHES
    with shop.server.connect(database=DATABASE) as connection:
        connection.execute("SET session_replication_role = replica")
        for number in range(GROWTH_SECONDS * BATCHES):
            time.sleep(max(0.0, began + number / BATCHES - time.monotonic()))
            connection.execute(
                "WITH made AS (INSERT INTO procrastinate_jobs (queue_name, task_name, status) "
                "SELECT 'commands', 'work', 'todo' FROM generate_series(1, %(batch)s) RETURNING id) "
                "INSERT INTO procrastinate_events (job_id, type) SELECT id, 'deferred' FROM made",
                {"batch": batch},
            )
    return GROWTH_SECONDS * GROWTH, time.monotonic() - began


def count_jobs(shop: Shop) -> int:
    return int(shop.server.sql("SELECT count(*) AS jobs FROM procrastinate_jobs", database=DATABASE)[0]["jobs"])
