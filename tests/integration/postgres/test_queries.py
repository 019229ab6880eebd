"""Reads for pools: ours and the author's over a queue's link, questions about sessions over the guard's."""

import asyncio
import time

import pytest

from headroom.adapters.postgres import links, waits
from headroom.errors import HeadroomError, PrimaryUnavailable, Refused, SignalUnavailable
from headroom.ports.postgres import Postgres, QueueLink
from headroom.reasons import Reason
from tests.postgres_server import APPLICATION, Server


@pytest.fixture
def jobs(primary: Server) -> Server:
    primary.sql("CREATE TABLE public.jobs (id int, note text)")
    primary.sql("INSERT INTO public.jobs SELECT n, 'job ' || n FROM generate_series(1, 5000) n")
    primary.sql(f"GRANT SELECT, INSERT ON public.jobs TO {APPLICATION.username}")
    primary.sql("CREATE TABLE public.hidden (id int)")
    return primary


async def open_queue(postgres: Postgres, server: Server) -> QueueLink:
    return await postgres.open_queue(server.target(APPLICATION))


async def test_our_reads_keep_two_rows_and_see_no_name_but_those_of_pg_catalog(
    postgres: Postgres, jobs: Server
) -> None:
    link = await open_queue(postgres, jobs)
    sql = "SELECT id FROM public.jobs WHERE id > %(least)s ORDER BY id"
    assert await link.read(sql, {"least": 10}) == [{"id": 11}, {"id": 12}]
    assert await link.read("SELECT current_setting('search_path') AS path") == [{"path": "pg_catalog"}]
    with pytest.raises(SignalUnavailable) as caught:
        await link.read("SELECT id FROM jobs")
    assert caught.value.reason is Reason.QUEUE_NOT_FOUND


async def test_our_reads_write_nothing(postgres: Postgres, jobs: Server) -> None:
    link = await open_queue(postgres, jobs)
    with pytest.raises(HeadroomError):
        await link.read("WITH w AS (DELETE FROM public.jobs RETURNING id) SELECT * FROM w")
    assert jobs.sql("SELECT count(*) FROM public.jobs")[0]["count"] == 5000
    assert await link.read("SELECT 1 AS one") == [{"one": 1}], "the connection is none the worse for it"


async def test_our_reads_are_bounded_in_time(postgres: Postgres, jobs: Server) -> None:
    link = await open_queue(postgres, jobs)
    began = time.monotonic()
    with pytest.raises(SignalUnavailable) as caught:
        await link.read("SELECT pg_sleep(10)")
    assert caught.value.reason is Reason.QUERY_TIMEOUT
    assert time.monotonic() - began < 4


def count_sessions(server: Server, role: str) -> int:
    """Sessions of ours that play a role."""
    sql = f"SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'headroom/{role}/%'"
    return int(server.sql(sql)[0]["count"])


async def wait_for_no_session(server: Server, role: str) -> None:
    """A backend ends a moment after its client has left."""
    async with asyncio.timeout(5):
        while count_sessions(server, role):  # noqa: ASYNC110  the server tells nobody
            await asyncio.sleep(0.02)


async def test_slow_questions_of_pools_do_not_delay_what_the_guard_and_the_sets_ask(
    postgres: Postgres, jobs: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(waits, "WAITS", "SELECT 'CPU' AS event, 1 AS sessions, %(role)s::text AS r FROM pg_sleep(0.3)")
    link = await postgres.open_primary(jobs.target())
    pools = [asyncio.create_task(link.waits(None)) for _ in range(6)]
    await asyncio.sleep(0.1)
    began = time.monotonic()
    await asyncio.gather(link.identify(), link.position(), link.slots("hr_"), link.backups(), link.connections())
    assert time.monotonic() - began < 1.0, "they waited for no pool: those need 1.8 s together"
    assert len(await asyncio.gather(*pools)) == 6, "pools wait for each other, in order"


async def test_the_pools_connection_is_there_only_while_a_pool_asks(
    postgres: Postgres, jobs: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    link = await postgres.open_primary(jobs.target())
    await link.identify()
    assert count_sessions(jobs, "queues") == 0
    await asyncio.gather(link.waits(None), link.waits(None))
    await link.identify()
    assert count_sessions(jobs, "queues") == 1, "one for all pools"
    monkeypatch.setattr(links, "UNUSED_SECONDS", 0.0)
    await link.identify()
    await wait_for_no_session(jobs, "queues")
    assert await link.waits(None), "the next question opens it again"
    await link.close()
    await wait_for_no_session(jobs, "%")
    with pytest.raises(PrimaryUnavailable, match="closed"):
        await link.waits(None)


async def test_a_users_query_keeps_two_rows(postgres: Postgres, jobs: Server) -> None:
    queue = await open_queue(postgres, jobs)
    assert await queue.query("SELECT count(*) AS n FROM jobs WHERE note LIKE 'job %'") == [{"n": 5000}]
    assert len(await queue.query("SELECT id FROM jobs")) == 2
    assert await queue.query("SELECT id FROM jobs WHERE false") == []
    assert await queue.query("SELECT id FROM jobs WHERE id = %(id)s", {"id": 7}) == [{"id": 7}]
    assert await queue.query("SELECT 1 AS one; -- a remark at the end") == [{"one": 1}]


@pytest.mark.parametrize(
    ("sql", "reason"),
    [
        ("SELECT id FROM nothing", Reason.QUEUE_NOT_FOUND),
        ("SELECT nothing FROM jobs", Reason.QUEUE_NOT_FOUND),
        ("SELECT nothing()", Reason.QUEUE_NOT_FOUND),
        ("SELECT id FROM hidden", Reason.MISSING_RIGHT),
        ("SELECT pg_sleep(30)", Reason.QUERY_TIMEOUT),
        ("SELECT 1/0", Reason.QUERY_FAILED),
        ("not even sql", Reason.QUERY_FAILED),
        ("INSERT INTO jobs VALUES (1)", Reason.QUERY_FAILED),
        ("WITH w AS (INSERT INTO jobs VALUES (-1) RETURNING id) SELECT id FROM w", Reason.QUERY_FAILED),
        ("SELECT 1; DROP TABLE jobs", Reason.QUERY_FAILED),
        ("SELECT 1; COMMIT; INSERT INTO jobs VALUES (-1)", Reason.QUERY_FAILED),
        ("SELECT length(set_config('transaction_read_only', 'off', false))", Reason.QUERY_FAILED),
        ("COMMIT", Reason.QUERY_FAILED),
    ],
)
async def test_what_a_users_query_may_not_do(postgres: Postgres, jobs: Server, sql: str, reason: Reason) -> None:
    queue = await open_queue(postgres, jobs)
    with pytest.raises(SignalUnavailable) as caught:
        await queue.query(sql)
    assert caught.value.reason is reason
    assert await queue.query("SELECT count(*) AS n FROM jobs WHERE id > 0") == [{"n": 5000}], "it goes on"
    assert jobs.sql("SELECT count(*) FROM jobs")[0]["count"] == 5000


async def test_a_queue_that_waits_for_a_lock_gives_up(postgres: Postgres, jobs: Server) -> None:
    queue = await open_queue(postgres, jobs)
    with jobs.connect() as person:
        person.execute("BEGIN")
        person.execute("LOCK TABLE jobs IN ACCESS EXCLUSIVE MODE")
        with pytest.raises(SignalUnavailable) as caught:
            await queue.query("SELECT count(*) FROM jobs")
        person.execute("ROLLBACK")
    assert caught.value.reason is Reason.QUERY_TIMEOUT


async def test_lock_waiters_and_old_transactions_are_seen(postgres: Postgres, jobs: Server) -> None:
    link = await postgres.open_primary(jobs.target())
    with jobs.connect() as holder, jobs.connect(APPLICATION.username, APPLICATION.password) as waiter:
        holder.execute("BEGIN")
        holder.execute("LOCK TABLE jobs IN ACCESS EXCLUSIVE MODE")
        waiting = asyncio.create_task(asyncio.to_thread(waiter.execute, "SELECT 1 FROM jobs LIMIT 1"))
        end = time.monotonic() + 5
        while (counts := await link.connections()).lock_waiters != 1:
            assert time.monotonic() < end, counts
            await asyncio.sleep(0.02)
        assert counts.oldest_transaction_seconds > 0
        holder.execute("ROLLBACK")
        await waiting
    assert isinstance(counts.oldest_transaction_seconds, float)


async def test_a_missing_right_on_slots_is_refused_with_the_statement_to_run(postgres: Postgres, jobs: Server) -> None:
    slots = await postgres.open_slots(jobs.target(), APPLICATION)
    with pytest.raises(Refused) as caught:
        await slots.ensure_slot("hr_a")
    assert 'ALTER ROLE "shop" REPLICATION' in str(caught.value)
