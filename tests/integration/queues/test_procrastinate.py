"""The procrastinate preset against the real library: its schema, its own SQL functions, and its own worker."""

import asyncio

import pytest

from headroom.adapters.postgres.queues import PostgresQueueProbes
from headroom.api.v1alpha1.queue import PostgresQueue
from headroom.errors import SignalUnavailable
from headroom.model.queue import QueueSample
from headroom.reasons import Reason
from tests.integration.queues.conftest import Shop, running_worker
from tests.integration.queues.probing import open_probe, take_sample
from tests.postgres_server import APPLICATION, QUEUE, QUEUE_SQL

pytestmark = pytest.mark.postgres


async def test_an_empty_queue_is_zero_everywhere(shop: Shop) -> None:
    sample = await take_sample(await open_probe(shop, "commands"))
    assert sample == QueueSample(0.0, 0.0, 0, in_flight=0, arrived=0)


async def test_lag_is_the_age_of_the_oldest_waiting_job_and_other_queues_do_not_count(shop: Shop) -> None:
    shop.defer(3, ago=100.0)
    shop.defer(4, ago=20.0)
    shop.defer(5, queue="mails", ago=1000.0)
    sample = await take_sample(await open_probe(shop, "commands"))
    assert sample.lag_seconds == pytest.approx(100.0, abs=3)
    assert (sample.backlog, sample.late) == (7, 3)
    both = await take_sample(await open_probe(shop, "commands", "mails"))
    assert (both.backlog, both.late) == (12, 8)
    every = await take_sample(await open_probe(shop))
    assert every.lag_seconds == pytest.approx(1000.0, abs=3)


async def test_a_job_is_ready_when_it_is_due_and_not_since_it_was_made(shop: Shop) -> None:
    ids = shop.defer(5, ago=500.0)
    shop.run("UPDATE procrastinate_jobs SET scheduled_at = now() - interval '40 s' WHERE id = %s", [ids[0]])
    shop.run("UPDATE procrastinate_jobs SET scheduled_at = now() + interval '5 s' WHERE id = ANY(%s)", [ids[1:3]])
    shop.run("UPDATE procrastinate_jobs SET scheduled_at = now() + interval '1 h' WHERE id = ANY(%s)", [ids[3:]])
    sample = await take_sample(await open_probe(shop, "commands"))
    assert sample.lag_seconds == pytest.approx(40.0, abs=3)
    assert (sample.backlog, sample.late, sample.due_soon) == (1, 1, 2)


async def test_a_time_in_the_past_asked_for_by_the_application_is_no_lag(shop: Shop) -> None:
    ids = shop.defer(1)
    shop.run("UPDATE procrastinate_jobs SET scheduled_at = now() - interval '1 day' WHERE id = %s", [ids[0]])
    assert (await take_sample(await open_probe(shop, "commands"))).lag_seconds < 5


async def test_of_jobs_with_one_lock_only_the_next_counts_and_not_while_one_runs(shop: Shop) -> None:
    shop.defer(50, ago=300.0, lock="merchant-1")
    probe = await open_probe(shop, "commands")
    sample = await take_sample(probe)
    assert (sample.backlog, sample.blocked) == (1, 49)
    assert sample.lag_seconds == 0.0, "the next of a lock has waited for its predecessor, not for a worker"
    assert (await take_sample(probe, 7.0)).lag_seconds == pytest.approx(7.0)
    assert sample.blocked_seconds == pytest.approx(300.0, abs=3)
    worker = shop.register_worker()
    assert len(shop.claim(2, worker)) == 1
    running = await take_sample(probe, 8.0)
    assert (running.backlog, running.blocked, running.in_flight) == (0, 49, 1)
    assert running.lag_seconds == 0.0


async def test_the_probe_calls_helpable_what_the_librarys_own_claim_would_take(shop: Shop) -> None:
    shop.defer(3)
    for lock in ("a", "b", "b", "c"):
        shop.defer(1, lock=lock)
    shop.run("UPDATE procrastinate_jobs SET scheduled_at = now() + interval '1 h' WHERE lock = 'c'")
    shop.defer(1, lock="c")
    shop.run(
        "UPDATE procrastinate_jobs SET priority = 5 WHERE id = (SELECT max(id) FROM procrastinate_jobs WHERE lock='b')"
    )
    sample = await take_sample(await open_probe(shop, "commands"))
    taken = shop.claim(20, shop.register_worker())
    assert sample.backlog == len(taken) == 5
    assert sample.blocked == 2


async def test_jobs_of_a_dead_worker_are_phantoms(shop: Shop) -> None:
    shop.defer(5)
    alive, dead, gone = (shop.register_worker() for _ in range(3))
    shop.claim(2, alive)
    shop.claim(1, dead)
    shop.claim(1, gone)
    shop.run("UPDATE procrastinate_workers SET last_heartbeat = now() - interval '31 s' WHERE id = %s", [dead])
    shop.run("DELETE FROM procrastinate_workers WHERE id = %s", [gone])
    sample = await take_sample(await open_probe(shop, "commands"))
    assert (sample.in_flight, sample.phantoms, sample.backlog) == (2, 2, 1)


async def test_arrivals_and_ends_are_counted_from_the_first_sample_on(shop: Shop) -> None:
    worker = shop.register_worker()
    shop.defer(10)
    probe = await open_probe(shop, "commands")
    first = await take_sample(probe)
    assert (first.arrived, first.ended) == (0, None)
    jobs = shop.claim(6, worker)
    shop.finish(*jobs[:3])
    shop.finish(jobs[3], status="failed")
    shop.run("SELECT procrastinate_retry_job_v2(%s, now(), NULL, NULL, NULL)", [jobs[4]])
    shop.defer(7)
    shop.defer(3, queue="mails")
    second = await take_sample(probe, 5.0)
    assert (second.ended, second.failed) == (5, 2)
    assert second.arrived == 8, "seven new ones, and the one that came back"
    shop.finish(jobs[5])
    for at in (10.0, 16.0, 22.0, 40.0):
        later = await take_sample(probe, at)
        assert (later.ended, later.failed, later.arrived) == (6, 2, 8)


async def test_a_job_that_becomes_due_arrives_then(shop: Shop) -> None:
    ids = shop.defer(4)
    shop.run("UPDATE procrastinate_jobs SET scheduled_at = now() + interval '1 h' WHERE id = ANY(%s)", [ids])
    probe = await open_probe(shop, "commands")
    await take_sample(probe)
    assert (await take_sample(probe, 5.0)).arrived == 0
    shop.run("UPDATE procrastinate_jobs SET scheduled_at = now() WHERE id = ANY(%s)", [ids])
    assert (await take_sample(probe, 10.0)).arrived == 4


async def test_a_long_transaction_that_commits_late_is_counted_all_the_same(shop: Shop) -> None:
    worker = shop.register_worker()
    shop.defer(4)
    jobs = shop.claim(4, worker)
    probe = await open_probe(shop, "commands")
    await take_sample(probe)
    slow = shop.server.connect(APPLICATION.username, APPLICATION.password)
    with slow, slow.transaction():
        slow.execute("SELECT procrastinate_finish_job_v1(%s, 'succeeded', false)", [jobs[0]])
        shop.finish(*jobs[1:])
        assert (await take_sample(probe, 5.0)).ended == 3
    assert (await take_sample(probe, 10.0)).ended == 4
    for at in (15.0, 20.0, 30.0):
        assert (await take_sample(probe, at)).ended == 4


async def test_after_a_long_silence_counting_begins_anew(shop: Shop) -> None:
    probe = await open_probe(shop, "commands")
    await take_sample(probe)
    shop.defer(5)
    assert (await take_sample(probe, 5.0)).arrived == 5
    assert (await take_sample(probe, 500.0)).ended is None
    shop.defer(2)
    assert (await take_sample(probe, 505.0)).arrived == 2


async def test_where_finished_jobs_are_deleted_completions_are_said_to_be_hidden(shop: Shop) -> None:
    worker = shop.register_worker()
    shop.defer(400)
    shop.finish(*shop.claim(300, worker), delete=True)
    shop.claim(1, worker)
    sample = await take_sample(await open_probe(shop, "commands"))
    assert sample.hides_completions
    assert (sample.arrived, sample.ended, sample.backlog) == (None, None, 99)


async def test_ids_that_were_never_used_do_not_look_like_deleted_jobs(shop: Shop) -> None:
    worker = shop.register_worker()
    shop.defer(2)
    shop.run("SELECT setval('procrastinate_jobs_id_seq', 10000)")
    shop.defer(5)
    probe = await open_probe(shop, "commands")
    await take_sample(probe)
    shop.finish(*shop.claim(3, worker))
    shop.claim(1, worker)
    sample = await take_sample(probe, 5.0)
    assert not sample.hides_completions
    assert sample.ended == 3


async def test_the_real_worker_is_seen_at_work(shop: Shop) -> None:
    app = shop.app()

    @app.task(name="work", queue="commands")
    async def work(seconds: float) -> None:
        await asyncio.sleep(seconds)

    probe = await open_probe(shop, "commands")
    async with app.open_async():
        await take_sample(probe)
        for _ in range(30):
            await work.defer_async(seconds=0.1)
        waiting = await take_sample(probe, 5.0)
        assert (waiting.backlog, waiting.in_flight, waiting.arrived) == (30, 0, 30)
        seen = [waiting]
        async with running_worker(app, queues=["commands"], concurrency=3):
            while seen[-1].ended != 30:
                assert len(seen) < 300, f"30 jobs of 0.1 s were not done after {len(seen)} samples: {seen[-1]}"
                await asyncio.sleep(0.05)
                seen.append(await take_sample(probe, 5.0 + len(seen) / 10))
        done = await take_sample(probe, 40.0)
    assert max(sample.in_flight or 0 for sample in seen) == 3
    assert all(sample.phantoms == 0 for sample in seen)
    assert [sample.backlog for sample in seen] == sorted((sample.backlog for sample in seen), reverse=True)
    assert {sample.arrived for sample in seen} == {30}
    assert (done.backlog, done.in_flight, done.ended, done.failed, done.arrived) == (0, 0, 30, 0, 30)


async def test_the_real_worker_that_deletes_is_seen_through(shop: Shop) -> None:
    app = shop.app()

    @app.task(name="work", queue="commands")
    async def work() -> None:
        await asyncio.sleep(0.002)

    probe = await open_probe(shop, "commands")
    async with app.open_async():
        await work.configure().batch_defer_async(*({} for _ in range(600)))
        async with running_worker(app, queues=["commands"], concurrency=4, delete_jobs="successful"):
            for at in range(100):
                await asyncio.sleep(0.1)
                sample = await take_sample(probe, float(at))
                if sample.hides_completions or sample.backlog == 0:
                    break
    assert sample.hides_completions


@pytest.mark.parametrize(
    ("breakage", "reason", "words"),
    [
        ("DROP TABLE procrastinate_workers CASCADE", Reason.QUEUE_NOT_FOUND, "has no procrastinate_workers"),
        ("ALTER TABLE procrastinate_jobs DROP COLUMN worker_id", Reason.QUEUE_NOT_FOUND, "no column worker_id"),
        ("ALTER TABLE procrastinate_jobs SET SCHEMA hidden", Reason.QUEUE_NOT_FOUND, "has no procrastinate_jobs"),
    ],
)
@pytest.mark.parametrize("was_fine", [False, True], ids=["from the start", "later"])
async def test_what_is_missing_is_named_and_comes_back(
    shop: Shop, breakage: str, reason: Reason, words: str, was_fine: bool
) -> None:
    shop.run("CREATE SCHEMA hidden")
    probe = await open_probe(shop, "commands")
    if was_fine:
        await take_sample(probe)
    with shop.server.connect(APPLICATION.username, APPLICATION.password) as connection:
        connection.execute(breakage)
    with pytest.raises(SignalUnavailable) as refused:
        await take_sample(probe, 5.0)
    assert refused.value.reason is reason
    assert words in str(refused.value)
    assert "procrastinate schema --apply" in str(refused.value)


async def test_the_grant_in_the_message_mends_a_missing_right(shop: Shop) -> None:
    shop.server.sql(f"DROP OWNED BY {QUEUE.username}")
    probe = await open_probe(shop, "commands")
    with pytest.raises(SignalUnavailable) as refused:
        await take_sample(probe)
    assert refused.value.reason is Reason.MISSING_RIGHT
    grant = str(refused.value).split("run: ")[1]
    for statement in grant.split("; "):
        shop.run(statement)
    assert (await take_sample(probe, 1.0)).backlog == 0


async def test_a_login_of_its_own_serves_as_well(shop: Shop) -> None:
    shop.defer(3, ago=50.0)
    spec = PostgresQueue.model_validate({"preset": "procrastinate"})
    probe = PostgresQueueProbes().open(spec, await shop.open_queue(APPLICATION))
    sample = await take_sample(probe)
    assert (sample.backlog, sample.late) == (3, 3)
    shop.run("ALTER TABLE procrastinate_jobs RENAME TO away")
    with pytest.raises(SignalUnavailable, match="has no procrastinate_jobs") as refused:
        await take_sample(probe, 5.0)
    assert refused.value.reason is Reason.QUEUE_NOT_FOUND


async def test_tables_in_another_schema_are_found_and_a_choice_must_be_made_between_two(shop: Shop) -> None:
    shop.run("CREATE SCHEMA jobs")
    for name in ("jobs", "events", "workers"):
        shop.run(f"ALTER TABLE procrastinate_{name} SET SCHEMA jobs")
    shop.server.run_script(QUEUE_SQL, queue_schema="jobs")
    assert (await take_sample(await open_probe(shop, "commands"))).backlog == 0
    shop.run("CREATE SCHEMA more")
    for name in ("jobs", "events", "workers"):
        shop.run(f"CREATE TABLE more.procrastinate_{name} (LIKE jobs.procrastinate_{name})")
    shop.server.run_script(QUEUE_SQL, queue_schema="more")
    with pytest.raises(SignalUnavailable, match="several schemas"):
        await take_sample(await open_probe(shop, "commands"))
    assert (await take_sample(await open_probe(shop, "commands", schema="more"))).backlog == 0
    with pytest.raises(SignalUnavailable, match="schema nowhere of the database has no"):
        await take_sample(await open_probe(shop, "commands", schema="nowhere"))


async def test_jobs_without_an_event_are_not_taken_for_young(shop: Shop) -> None:
    shop.defer(3)
    shop.run("DELETE FROM procrastinate_events")
    with pytest.raises(SignalUnavailable, match="no `deferred` event"):
        await take_sample(await open_probe(shop, "commands"))
