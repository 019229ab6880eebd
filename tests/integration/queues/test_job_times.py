"""How long jobs take and who holds them, before workers go: measured on the real library and a real server."""

from typing import Any

import pytest

from headroom.adapters.postgres.queues import PostgresQueueProbes
from headroom.adapters.postgres.queues.job_times import EVENT_SPAN, JOB_TIMES
from headroom.api.v1alpha1.queue import PostgresQueue
from headroom.errors import SignalUnavailable
from headroom.model.queue import QueueQuestion
from headroom.ports.signals import QueueProbe
from headroom.reasons import Reason
from tests.integration.queues.conftest import Shop
from tests.integration.queues.probing import open_probe, take_sample
from tests.postgres_server import APPLICATION

pytestmark = pytest.mark.postgres
PARAMETERS = {"heartbeat": 30.0, "event_span": EVENT_SPAN, "least_ended": 20, "most_running": 1000, "quantile": 0.99}


def work(shop: Shop, seconds: list[float], *, queue: str = "commands", status: str = "succeeded") -> list[int]:
    """Jobs that took so long, by the library's own functions and a shift of their start."""
    worker, ids = shop.register_worker(), shop.defer(len(seconds), queue=queue)
    shop.claim(len(ids), worker, queue)
    shop.run(
        "UPDATE procrastinate_events e SET at = e.at - make_interval(secs => took.seconds) "
        "FROM unnest(%s::bigint[], %s::float8[]) AS took (id, seconds) WHERE e.job_id = took.id AND e.type = 'started'",
        [ids, seconds],
    )
    if status != "doing":
        shop.finish(*ids, status=status)
    return ids


async def seconds_of(shop: Shop, *queues: str) -> float | None:
    return (await take_sample(await open_probe(shop, *(queues or ("commands",))))).job_seconds


async def in_hand_of(shop: Shop) -> float:
    return (await take_sample(await open_probe(shop, "commands"))).in_hand_seconds


async def test_before_twenty_jobs_have_ended_nothing_is_known(shop: Shop) -> None:
    assert await seconds_of(shop) is None
    assert await in_hand_of(shop) == 0.0
    work(shop, [5.0] * 19)
    assert await seconds_of(shop) is None
    work(shop, [5.0])
    assert await seconds_of(shop) == pytest.approx(5.0, abs=1)


async def test_99_of_100_jobs_end_within_what_is_reported(shop: Shop) -> None:
    work(shop, [float(second) for second in range(1, 201)])
    assert await seconds_of(shop) == pytest.approx(198.0, abs=1)


async def test_failed_attempts_count_and_other_queues_do_not(shop: Shop) -> None:
    work(shop, [20.0] * 20, status="failed")
    work(shop, [500.0] * 20, queue="mails")
    assert await seconds_of(shop) == pytest.approx(20.0, abs=1)
    assert await seconds_of(shop, "commands", "mails") == pytest.approx(500.0, abs=1)


async def test_a_job_in_hand_is_apart_and_that_of_a_dead_worker_does_not_count(shop: Shop) -> None:
    work(shop, [5.0] * 30)
    work(shop, [100.0, 3000.0], status="doing")
    assert await seconds_of(shop) == pytest.approx(5.0, abs=1)
    assert await in_hand_of(shop) == pytest.approx(3000.0, abs=2)
    shop.run("UPDATE procrastinate_workers SET last_heartbeat = now() - interval '1 hour'")
    assert await in_hand_of(shop) == 0.0


async def test_the_time_of_a_retry_begins_with_its_own_start(shop: Shop) -> None:
    ids = work(shop, [10.0], status="doing")
    shop.run("SELECT procrastinate_retry_job_v2(%s, now(), NULL, NULL, NULL)", [ids[0]])
    shop.run("UPDATE procrastinate_events SET at = at - interval '1 day' WHERE job_id = %s", [ids[0]])
    shop.claim(1, shop.register_worker())
    assert await in_hand_of(shop) < 5
    shop.finish(ids[0])
    work(shop, [1.0] * 20)
    assert await seconds_of(shop) == pytest.approx(10.0, abs=1)


async def test_it_is_asked_once_a_minute_and_more_often_before_workers_go(shop: Shop) -> None:
    probe = await open_probe(shop, "commands")
    work(shop, [5.0] * 20)
    assert (await take_sample(probe, 100.0)).job_seconds == pytest.approx(5.0, abs=1)
    work(shop, [50.0])
    assert (await take_sample(probe, 155.0)).job_seconds == pytest.approx(5.0, abs=1)
    shrinking = await probe.sample(QueueQuestion(156.0, 30.0, 10.0, is_shrinking=True))
    assert shrinking.job_seconds == pytest.approx(50.0, abs=1)


async def test_its_statement_reads_few_rows_of_a_large_table(shop: Shop) -> None:
    """100,000 jobs that wait, made last, and 100,000 that have ended before them: bounded by keys, not by rows."""
    shop.run(
        "INSERT INTO procrastinate_jobs (queue_name, task_name, status) "
        "SELECT 'commands', 'work', 'succeeded' FROM generate_series(1, 100000)"
    )
    shop.run(
        "INSERT INTO procrastinate_events (job_id, type, at) "
        "SELECT id, kind::procrastinate_job_event_type, now() FROM procrastinate_jobs, "
        "unnest(ARRAY['started', 'succeeded']) kind"
    )
    shop.run(
        "INSERT INTO procrastinate_jobs (queue_name, task_name) "
        "SELECT 'commands', 'work' FROM generate_series(1, 100000)"
    )
    shop.run("ANALYZE")
    kinds = {"status": "public.procrastinate_job_status", "event": "public.procrastinate_job_event_type"}
    text = JOB_TIMES.format(schema="public", **kinds)
    rows = shop.run(f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {text}", PARAMETERS)
    (plan,) = rows[0]["QUERY PLAN"]
    assert not [node for node in nodes(plan["Plan"]) if node["Node Type"] == "Seq Scan" and is_large(node)]
    assert plan["Plan"]["Shared Hit Blocks"] + plan["Plan"]["Shared Read Blocks"] < 100_000


def nodes(plan: dict[str, Any]) -> list[dict[str, Any]]:
    return [plan, *(inner for child in plan.get("Plans", ()) for inner in nodes(child))]


def is_large(node: dict[str, Any]) -> bool:
    return str(node.get("Relation Name")) in ("procrastinate_jobs", "procrastinate_events")


async def open_custom(shop: Shop, query: str) -> QueueProbe:
    custom = {"lagQuery": "SELECT 0", "backlogQuery": "SELECT 0", "busyWorkersQuery": query}
    connection = {"host": "h", "database": "store", "credentialsSecretRef": {"name": "s"}}
    spec = PostgresQueue.model_validate({"custom": custom, "connection": connection})
    return PostgresQueueProbes().open(spec, await shop.open_queue(APPLICATION))


@pytest.mark.parametrize(
    ("query", "hosts"),
    [
        ("SELECT coalesce(array_agg(DISTINCT host), '{}') FROM unnest(ARRAY['mailer-1', 'mailer-2']) host", 2),
        ("SELECT coalesce(array_agg(host), '{}') FROM unnest(ARRAY[]::text[]) host", 0),
        ("SELECT ARRAY['10.0.0.7'::inet]", 1),
    ],
)
async def test_busy_workers_come_as_one_array(shop: Shop, query: str, hosts: int) -> None:
    sample = await take_sample(await open_custom(shop, query))
    assert sample.busy_hosts is not None
    assert len(sample.busy_hosts) == hosts
    assert sample.busy_hosts <= {"mailer-1", "mailer-2", "10.0.0.7"}


@pytest.mark.parametrize(
    ("query", "reason"),
    [
        ("SELECT array_agg(x) FROM unnest(ARRAY[]::text[]) x", Reason.QUERY_NO_ARRAY),
        ("SELECT 'mailer-1'", Reason.QUERY_NO_ARRAY),
        ("SELECT ARRAY['mailer-1', NULL]", Reason.QUERY_NO_ARRAY),
        ("SELECT ARRAY[1, 2]", Reason.QUERY_NO_ARRAY),
        ("SELECT ARRAY[ARRAY['mailer-1'], ARRAY['mailer-2']]", Reason.QUERY_NO_ARRAY),
        ("SELECT json_build_array('mailer-1')", Reason.QUERY_NO_ARRAY),
        ("SELECT jsonb_build_array('mailer-1')", Reason.QUERY_NO_ARRAY),
        ("SELECT ARRAY['a'], 1", Reason.QUERY_NOT_A_NUMBER),
        ("SELECT ARRAY['a'] WHERE false", Reason.QUERY_NO_ROW),
    ],
)
async def test_what_is_no_array_of_names_is_refused_with_the_field(shop: Shop, query: str, reason: Reason) -> None:
    with pytest.raises(SignalUnavailable, match=r"^queue\.postgres\.custom\.busyWorkersQuery") as refused:
        await take_sample(await open_custom(shop, query))
    assert refused.value.reason is reason
