"""A probe that takes too long says why: who holds the table, which index is missing, or neither."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import psycopg
import pytest

from headroom.adapters.postgres.queues.blockers import CREATE_INDEX, describe_timeout
from headroom.errors import PrimaryUnavailable, SignalUnavailable
from headroom.reasons import Reason
from tests.integration.queues.conftest import Shop
from tests.integration.queues.probing import open_probe, take_sample
from tests.postgres_server import APPLICATION, DATABASE

pytestmark = pytest.mark.postgres
JOBS = "public.procrastinate_jobs"


@contextlib.asynccontextmanager
async def session(shop: Shop, application: str = "psql") -> AsyncIterator["psycopg.AsyncConnection[Any]"]:
    link = await psycopg.AsyncConnection.connect(
        host="127.0.0.1",
        port=shop.server.port,
        user=APPLICATION.username,
        password=APPLICATION.password,
        dbname=DATABASE,
        application_name=application,
    )
    try:
        yield link
    finally:
        await link.close()


async def test_a_session_that_holds_the_whole_table_is_named_with_how_to_end_it(shop: Shop) -> None:
    probe = await open_probe(shop, "commands")
    await take_sample(probe)
    async with session(shop, "a migration by hand") as holder, session(shop, "worker") as worker:
        await holder.execute(f"LOCK TABLE {JOBS} IN ACCESS EXCLUSIVE MODE")
        waiting = asyncio.create_task(worker.execute(f"SELECT count(*) FROM {JOBS}"))
        await asyncio.sleep(0.3)
        with pytest.raises(SignalUnavailable) as refused:
            await take_sample(probe, 5.0)
        assert refused.value.reason is Reason.QUEUE_LOCKED
        text, pid = str(refused.value), holder.info.backend_pid
        # Since when is not told to a login that may read the tables alone.
        assert "the probe timed out while 1 session waits for a lock on" in text
        who = f'role "{APPLICATION.username}", application "a migration by hand"'
        assert f"the session with pid {pid} ({who}) has held one;" in text
        assert "INDEX" not in text, "it would wait behind the lock"
        command = text.partition("end it with ")[2]
        shop.server.sql(command)
        await waiting
        assert (await take_sample(probe, 10.0)).backlog == 0


async def test_a_name_of_an_application_does_not_read_as_advice(shop: Shop) -> None:
    link = await shop.open_queue()
    async with session(shop, 'x") is ours; run: DROP TABLE jobs; ("') as holder:
        await holder.execute(f"LOCK TABLE {JOBS} IN ACCESS EXCLUSIVE MODE")
        text = str(await describe_timeout(link, JOBS, "queue_name, id"))
    assert 'application "x"") is ours; run: DROP TABLE jobs; (""") has held one' in text


async def test_a_prepared_transaction_that_holds_the_table_is_ended_by_what_the_message_says(shop: Shop) -> None:
    shop.server.settings["max_prepared_transactions"] = "4"
    shop.server.restart()
    link = await shop.open_queue()
    async with session(shop) as holder:
        await holder.execute(f"LOCK TABLE {JOBS} IN ACCESS EXCLUSIVE MODE")
        await holder.execute("PREPARE TRANSACTION 'it''s mine'")
    found = await describe_timeout(link, JOBS, "queue_name, id")
    assert found is not None
    assert found.reason is Reason.QUEUE_LOCKED
    end_prepared(shop, str(found))
    again = await describe_timeout(link, JOBS, "queue_name, id")
    assert again is not None
    assert again.reason is Reason.QUERY_TIMEOUT


def end_prepared(shop: Shop, text: str) -> None:
    """Paste the command of a message as psql's `\\gexec` runs it: the statement, then what it returns."""
    statement, ending = text.partition("end it in psql with ")[2].rsplit(" ", 1)
    assert ending == "\\gexec"
    [row] = shop.server.sql(statement)
    shop.server.sql(row["format"])


async def test_behind_a_change_of_the_table_that_waits_the_oldest_reader_is_named(shop: Shop) -> None:
    link = await shop.open_queue()
    async with session(shop, "report") as reader, session(shop, "migration") as migration:
        await reader.execute(f"SELECT count(*) FROM {JOBS}")
        change = asyncio.create_task(migration.execute(f"ALTER TABLE {JOBS} ADD COLUMN extra int"))
        await asyncio.sleep(0.3)
        found = await describe_timeout(link, JOBS, "queue_name, id")
        assert found is not None
        assert found.reason is Reason.QUEUE_LOCKED
        assert f"pid {reader.info.backend_pid} " in str(found)
        await reader.rollback()
        await change


async def test_an_index_is_asked_for_only_where_nobody_waits_and_it_is_missing(shop: Shop) -> None:
    link = await shop.open_queue()
    async with session(shop) as reader:
        await reader.execute(f"SELECT count(*) FROM {JOBS}")
        found = await describe_timeout(link, JOBS, "queue_name, id")
    assert found is not None
    assert found.reason is Reason.QUERY_TIMEOUT
    index = CREATE_INDEX.format(table=JOBS, columns="queue_name, id")
    assert f"run: {index};" in str(found)
    shop.run(index.replace("CONCURRENTLY ", ""))
    again = await describe_timeout(link, JOBS, "queue_name, id")
    assert again is not None
    assert "CREATE INDEX" not in str(again)
    assert "see that the table is vacuumed" in str(again)


async def test_without_an_answer_of_the_catalogs_the_first_error_stands(shop: Shop) -> None:
    class Silent:
        async def read(self, *_: Any, **__: Any) -> list[dict[str, Any]]:
            raise PrimaryUnavailable("gone", reason=Reason.PRIMARY_UNREACHABLE)

    assert await describe_timeout(Silent(), JOBS, "queue_name, id") is None
