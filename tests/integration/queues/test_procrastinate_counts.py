"""What is counted between two samples: arrivals, ends and deletions, against the real library and its own functions."""

import asyncio
import contextlib
from typing import Any

import pytest

from headroom.adapters.postgres.queues.procrastinate_sql import EVENT_LIMIT, ID_LIMIT
from headroom.model.queue import QueueSample
from headroom.ports.signals import QueueProbe
from tests.integration.queues.conftest import Shop, running_worker
from tests.integration.queues.probing import open_probe, take_sample
from tests.postgres_server import DATABASE

pytestmark = pytest.mark.postgres


async def test_future_jobs_that_are_cancelled_never_arrived(shop: Shop) -> None:
    jobs = shop.defer(1000)
    shop.run("UPDATE procrastinate_jobs SET scheduled_at = now() + interval '20 days'")
    probe = await open_probe(shop, "commands")
    await take_sample(probe)
    shop.run("SELECT procrastinate_cancel_job_v1(id, false, id %% 2 = 0) FROM unnest(%s::bigint[]) AS id", [jobs])
    assert (await take_sample(probe, 5.0)).arrived == 0
    ready = shop.defer(20)
    shop.run("SELECT procrastinate_cancel_job_v1(id, false, false) FROM unnest(%s::bigint[]) AS id", [ready[:8]])
    sample = await take_sample(probe, 10.0)
    assert (sample.backlog, sample.arrived) == (12, 20), "those had arrived"


async def test_barred_jobs_arrive_one_by_one_as_they_become_claimable(shop: Shop) -> None:
    """Of one lock, six jobs a second arrive at the table, and one a second at the workers."""
    worker = shop.register_worker()
    probe = await open_probe(shop, "commands")
    await take_sample(probe)
    for second in range(10):
        shop.defer(6, lock="merchant-1")
        shop.finish(*shop.claim(1, worker))
        sample = await take_sample(probe, 1.0 + second)
        assert (sample.arrived, sample.backlog) == (second + 2, 1)
    assert sample.blocked == 49


async def test_more_events_than_one_sample_reads_are_all_counted_later(shop: Shop) -> None:
    worker = shop.register_worker()
    probe = await open_probe(shop, "commands")
    await take_sample(probe)
    with shop.server.connect(database=DATABASE) as connection:
        connection.execute("SET session_replication_role = replica")
        connection.execute(
            "WITH made AS (INSERT INTO procrastinate_jobs (queue_name, task_name, status, scheduled_at) "
            "SELECT 'commands', 'work', 'todo', now() + interval '1 day' FROM generate_series(1, 150000) RETURNING id) "
            "INSERT INTO procrastinate_events (job_id, type) SELECT id, 'deferred' FROM made"
        )
    shop.defer(200)
    shop.finish(*shop.claim(200, worker))
    at, samples = 5.0, []
    while len(samples) < 12:
        samples.append(await take_sample(probe, at))
        at += 2.0
    assert ID_LIMIT < 150_000
    assert [sample.ended for sample in samples] == sorted(sample.ended or 0 for sample in samples)
    assert (samples[-1].ended, samples[-1].arrived) == (200, 200)


async def test_more_ends_than_one_sample_looks_up_are_all_counted_later(shop: Shop) -> None:
    many = EVENT_LIMIT + 5_000
    probe = await open_probe(shop, "commands")
    await take_sample(probe)
    with shop.server.connect(database=DATABASE) as connection:
        connection.execute("SET session_replication_role = replica")
        connection.execute(
            "WITH made AS (INSERT INTO procrastinate_jobs (queue_name, task_name, status) "
            "SELECT 'commands', 'work', 'succeeded' FROM generate_series(1, %s) RETURNING id) "
            "INSERT INTO procrastinate_events (job_id, type) SELECT id, unnest(ARRAY['deferred', 'started', "
            "'succeeded']::procrastinate_job_event_type[]) FROM made",
            [many],
        )
    samples = [await take_sample(probe, 5.0 + 2.0 * turn) for turn in range(12)]
    assert (samples[0].ended or 0) < many
    assert (samples[-1].ended, samples[-1].failed, samples[-1].arrived) == (many, 0, many)


@pytest.mark.parametrize("others", [False, True], ids=["alone", "beside a queue that keeps its jobs"])
async def test_a_real_worker_that_deletes_its_jobs_hides_no_arrival(shop: Shop, others: bool) -> None:
    """221 jobs, one of twenty fails. The failures, which are kept, are not all there is."""
    app, made = shop.app(), 0

    @app.task(name="work", queue="commands")
    async def work(number: int) -> None:
        await asyncio.sleep(0.01)
        if number % 20 == 0:
            raise ValueError

    @app.task(name="mail", queue="mails")
    async def mail() -> None:
        await asyncio.sleep(0.001)

    probe = await open_probe(shop, "commands")
    async with app.open_async():
        await take_sample(probe)
        samples: list[QueueSample] = []
        queues: dict[str, dict[str, Any]] = {
            "commands": {"delete_jobs": "successful", "concurrency": 3},
            **({"mails": {"concurrency": 2}} if others else {}),
        }
        async with contextlib.AsyncExitStack() as workers:
            for queue, options in queues.items():
                await workers.enter_async_context(running_worker(app, queues=[queue], **options))
            while made < 221:
                count = min(13, 221 - made)
                await work.configure().batch_defer_async(*({"number": made + turn} for turn in range(count)))
                if others:
                    await mail.configure().batch_defer_async(*({} for _ in range(9)))
                made += count
                await asyncio.sleep(0.05)
                samples.append(await take_sample(probe, 2.0 * len(samples) + 2.0))
            while samples[-1].backlog + (samples[-1].in_flight or 0) > 0:
                await asyncio.sleep(0.05)
                samples.append(await take_sample(probe, 2.0 * len(samples) + 2.0))
    last = await later(probe, samples)
    assert last.hides_completions
    assert last.ended is None, "nothing counts them"
    assert last.failed == 12
    assert last.arrived == pytest.approx(221, abs=25)


async def test_jobs_too_short_to_be_seen_are_no_silence_when_they_are_deleted(shop: Shop) -> None:
    """1,800 jobs in 30 s that a worker deletes at once: no sample ever sees one."""
    probe = await open_probe(shop, "commands")
    await take_sample(probe)
    worker = shop.register_worker()
    samples = []
    for turn in range(10):
        shop.defer(180)
        shop.finish(*shop.claim(180, worker), delete=True)
        shop.server.sql("SELECT pg_stat_force_next_flush()")
        samples.append(await take_sample(probe, 3.0 * (turn + 1)))
    last = await later(probe, samples)
    assert {sample.backlog for sample in samples} == {0}
    assert last.hides_completions
    assert last.arrived == pytest.approx(1800, rel=0.35), "the first ones, before it was sure, may be missed"


async def test_ids_that_a_queueing_lock_uses_up_are_no_deleted_jobs(shop: Shop) -> None:
    worker = shop.register_worker()
    probe = await open_probe(shop, "commands")
    await take_sample(probe)
    for turn in range(12):
        shop.run("SELECT nextval('procrastinate_jobs_id_seq') FROM generate_series(1, 300)")
        shop.defer(2)
        shop.finish(*shop.claim(2, worker))
        sample = await take_sample(probe, 3.0 * (turn + 1))
    assert (sample.hides_completions, sample.arrived, sample.ended) == (False, 24, 24)


async def test_one_cleaning_of_old_jobs_is_no_deleting_worker(shop: Shop) -> None:
    worker = shop.register_worker()
    shop.defer(500)
    shop.finish(*shop.claim(500, worker))
    probe = await open_probe(shop, "commands")
    await take_sample(probe)
    for turn in range(6):
        shop.run("SELECT nextval('procrastinate_jobs_id_seq') FROM generate_series(1, 50)")
        if turn == 2:
            shop.run("DELETE FROM procrastinate_jobs WHERE status = 'succeeded'")
        shop.defer(3)
        sample = await take_sample(probe, 3.0 * (turn + 1))
        assert (sample.hides_completions, sample.arrived) == (False, 3 * (turn + 1))


async def test_a_worker_that_keeps_its_jobs_again_is_counted_again(shop: Shop) -> None:
    worker = shop.register_worker()
    shop.defer(30)
    probe = await open_probe(shop, "commands")
    await take_sample(probe)
    jobs = shop.claim(4, worker)
    await take_sample(probe, 5.0)
    shop.finish(*jobs, delete=True)
    assert (await take_sample(probe, 10.0)).hides_completions
    shop.finish(*shop.claim(2, worker))
    kept = await take_sample(probe, 15.0)
    assert not kept.hides_completions
    shop.finish(*shop.claim(3, worker))
    assert ((await take_sample(probe, 20.0)).ended or 0) - (kept.ended or 0) == 3


async def test_notifications_come_on_the_channels_that_the_probe_names(shop: Shop) -> None:
    for queues in (("commands", "mails"), ()):
        probe = await open_probe(shop, *queues)
        listener = (await shop.open_queue()).open_listener()
        shop.links.append(listener)
        await listener.wait(probe.channels, 0.05)
        waiting = asyncio.create_task(listener.wait(probe.channels, 20.0))
        shop.defer(1, queue="mails")
        assert await waiting <= set(probe.channels)
        assert waiting.result()


async def test_the_clock_of_the_operator_does_not_matter(shop: Shop) -> None:
    """An hour between the clocks of database and operator: ages are the database's own, spans the operator's own."""
    shop.defer(5, ago=100.0)
    probe = await open_probe(shop, "commands")
    for at in (3600.0, 3605.0):
        sample = await take_sample(probe, at)
        assert (sample.taken_at, sample.lag_seconds) == (at, pytest.approx(100.0, abs=5))
    assert (sample.late, sample.arrived) == (5, 0)


async def later(probe: QueueProbe, samples: list[QueueSample]) -> QueueSample:
    """The sample after a moment in which the server has told its statistics."""
    last = samples[-1]
    for turn in range(4):
        await asyncio.sleep(0.3)
        last = await take_sample(probe, samples[-1].taken_at + 2.0 + turn)
    return last
