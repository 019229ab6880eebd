"""What a sample of a procrastinate queue costs the database: its plans, its limits, its estimates."""

import json
from typing import Any

import pytest

from headroom.adapters.postgres.queues import PostgresQueueProbes
from headroom.adapters.postgres.queues.blockers import CREATE_INDEX
from headroom.adapters.postgres.queues.procrastinate_sql import ROW_LIMIT
from headroom.api.v1alpha1.queue import PostgresQueue
from tests.integration.queues.conftest import Shop
from tests.integration.queues.probing import open_probe, take_sample
from tests.postgres_server import APPLICATION, DATABASE

pytestmark = pytest.mark.postgres


async def test_the_plan_is_bounded_by_open_jobs_not_by_finished_ones(shop: Shop) -> None:
    fill(shop, finished=100_000, waiting=3_000)
    for plan in await plans_of(shop):
        reads = [node for node in walk(plan) if node.get("Relation Name", "").startswith("procrastinate_")]
        assert reads
        for node in reads:
            assert node["Node Type"] != "Seq Scan" or node["Relation Name"] == "procrastinate_workers", node
            touched = node["Actual Rows"] * node["Actual Loops"] + node.get("Rows Removed by Filter", 0)
            assert touched <= 10_000, node


async def test_a_burst_into_tables_nobody_has_analyzed_is_read_in_proportion(shop: Shop) -> None:
    runner = ExplainingRunner(shop, await shop.open_queue())
    probe = PostgresQueueProbes().open(
        PostgresQueue.model_validate({"preset": "procrastinate", "queues": ["commands"]}), runner
    )
    await take_sample(probe)
    worker = shop.register_worker()
    shop.defer(3_000)
    shop.finish(*shop.claim(50, worker))
    shop.claim(20, worker)
    sample = await take_sample(probe, 5.0)
    assert (sample.backlog, sample.in_flight, sample.ended) == (2_930, 20, 50)
    touched = [node["Actual Rows"] * node["Actual Loops"] for node in walk(runner.plans[-1])]
    assert max(touched) <= 3 * 3_120, "each row is read a few times, never once for each other row"


async def test_with_the_index_of_the_message_another_queues_backlog_costs_nothing(shop: Shop) -> None:
    fill(shop, finished=50_000, waiting=30_000)
    shop.run("UPDATE procrastinate_jobs SET queue_name = 'mails' WHERE status = 'todo'")
    index = CREATE_INDEX.format(table="public.procrastinate_jobs", columns="queue_name, id")
    with shop.server.connect(APPLICATION.username, APPLICATION.password) as connection:
        connection.execute(index)
    shop.server.sql("VACUUM ANALYZE procrastinate_jobs")
    for plan in await plans_of(shop):
        reads = [node for node in walk(plan) if node.get("Relation Name") == "procrastinate_jobs"]
        assert max(node.get("Rows Removed by Filter", 0) for node in reads) <= 1_000, reads


async def test_a_large_backlog_is_counted_up_to_a_limit_within_the_time_limit(shop: Shop) -> None:
    fill(shop, finished=1_000, waiting=60_000)
    probe = await open_probe(shop, "commands")
    sample = await take_sample(probe)
    assert sample.is_truncated
    assert sample.backlog == ROW_LIMIT
    assert sample.lag_seconds == pytest.approx(150.0, abs=15)
    assert sample.late / sample.backlog == pytest.approx(1.0, abs=0.05)


async def test_late_jobs_are_estimated_from_a_spread(shop: Shop) -> None:
    fill(shop, finished=10, waiting=20_000, span=100.0)
    sample = await take_sample(await open_probe(shop, "commands"), target=25.0)
    assert sample.backlog == 20_000
    assert sample.late == pytest.approx(15_000, rel=0.15)


def fill(shop: Shop, *, finished: int, waiting: int, span: float | None = None) -> None:
    """Rows as the library leaves them; the waiting ones were deferred evenly over `span` seconds, oldest first."""
    with shop.server.connect(database=DATABASE) as connection:
        connection.execute("SET session_replication_role = replica")
        connection.execute(
            "INSERT INTO procrastinate_jobs (queue_name, task_name, status) "
            "SELECT 'commands', 'work', 'succeeded' FROM generate_series(1, %s)",
            [finished],
        )
        connection.execute(
            "INSERT INTO procrastinate_jobs (queue_name, task_name, status) "
            "SELECT 'commands', 'work', 'todo' FROM generate_series(1, %s)",
            [waiting],
        )
        connection.execute(
            "INSERT INTO procrastinate_events (job_id, type, at) SELECT id, 'deferred', now() - make_interval("
            "secs => %(span)s * (1 - (id - %(finished)s)::float8 / %(waiting)s)) FROM procrastinate_jobs ORDER BY id",
            {"span": span if span is not None else 150.0, "finished": finished, "waiting": waiting},
        )
        connection.execute(
            "INSERT INTO procrastinate_events (job_id, type) SELECT id, unnest(ARRAY['started', 'succeeded']"
            "::procrastinate_job_event_type[]) FROM procrastinate_jobs WHERE status = 'succeeded'"
        )
        connection.execute("VACUUM ANALYZE procrastinate_jobs, procrastinate_events")


class ExplainingRunner:
    """Runs each statement through EXPLAIN ANALYZE as well and keeps the plan."""

    def __init__(self, shop: Shop, inner: Any) -> None:
        self.shop, self.inner, self.plans = shop, inner, []

    async def read(self, sql: str, parameters: Any = None, *, tables: Any = None) -> list[dict[str, Any]]:
        if "WITH writers" in sql:
            with self.shop.server.connect(database=DATABASE) as connection:
                row = connection.execute(f"EXPLAIN (ANALYZE, FORMAT JSON) {sql}", parameters).fetchone()
                found = row["QUERY PLAN"]
                self.plans.append((json.loads(found) if isinstance(found, str) else found)[0]["Plan"])
        return await self.inner.read(sql, parameters, tables=tables)


async def plans_of(shop: Shop) -> list[dict[str, Any]]:
    """The plans of a first sample and of one that counts events."""
    runner = ExplainingRunner(shop, await shop.open_queue())
    spec = PostgresQueue.model_validate({"preset": "procrastinate", "queues": ["commands"]})
    probe = PostgresQueueProbes().open(spec, runner)
    await take_sample(probe)
    shop.defer(500)
    await take_sample(probe, 5.0)
    assert len(runner.plans) == 2
    return runner.plans


def walk(plan: dict[str, Any]) -> list[dict[str, Any]]:
    return [plan, *(node for child in plan.get("Plans", ()) for node in walk(child))]
