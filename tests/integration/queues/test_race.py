"""Real workers that race for one row of a real database: the wait is seen, named and stopped, and released again."""

import asyncio
import importlib
import time
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg_pool import AsyncConnectionPool

from e2e.bench.race import PREPARE, ROLE
from e2e.bench.race_record import ARRIVALS, HELD_SECONDS, LOCKS, NAMED_SECONDS, STATEMENT
from e2e.lab.shop import PASSWORD
from headroom.model.waits import WaitSample
from headroom.ports.kube import DEPLOYMENT, ObjectRef
from tests.integration.queues.conftest import Shop, running_worker
from tests.integration.queues.test_pool import NAMESPACE, Laboratory, laboratory, until
from tests.postgres_server import APPLICATION, DATABASE

pytestmark = pytest.mark.postgres
APPS = Path(__file__).parents[3] / "e2e" / "apps"
WORKERS, JOBS = 6, 40
MOST, USEFUL_MOST = 20, 4
"""Of the pool, and of what helps: two workers do a little more than one, since one of them looks for its next job while
the other has the row; the limit is twice that."""


async def test_workers_that_race_for_a_row_wait_for_it_and_the_holder_is_named(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    where = {"PGHOST": "127.0.0.1", "PGPORT": str(shop.server.port), "PGDATABASE": DATABASE}
    for name, value in {**where, "PGUSER": ROLE, "PGPASSWORD": PASSWORD, "LOCK_ROW": "1"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.syspath_prepend(str(APPS))
    # As the benchmark does: the workers have a role of their own, with no more rights than they need.
    shop.server.sql(f"{PREPARE}; GRANT SELECT ON race TO {APPLICATION.username}")
    tasks = importlib.reload(importlib.import_module("tasks"))
    # Six slots of one process, each with a connection of its own, as six workers would have.
    await tasks.rows.open()
    await tasks.rows.resize(1, WORKERS)
    link = await shop.open_primary()
    seen: list[WaitSample] = []
    async with tasks.app.open_async():
        jobs: list[dict[str, Any]] = [{"number": n, "service_seconds": HELD_SECONDS} for n in range(JOBS)]
        await tasks.generate_command.configure(queue="commands").batch_defer_async(*jobs)
        began = time.monotonic()
        async with running_worker(tasks.app, queues=["commands"], concurrency=WORKERS):
            while shop.run("SELECT taken FROM race")[0]["taken"] < JOBS and time.monotonic() < began + 30:
                seen.append(await link.waits(ROLE))
                await asyncio.sleep(0.1)
        took = time.monotonic() - began
    await tasks.rows.close()
    taken = shop.run("SELECT taken FROM race")[0]["taken"]
    # A role outlives the database of a test.
    shop.server.sql(f"REVOKE pg_read_all_data, pg_write_all_data FROM {ROLE}; DROP ROLE {ROLE}")
    assert taken == JOBS
    assert took >= JOBS * HELD_SECONDS, "six slots do no more than one could"
    events = [dict(sample.events) for sample in seen]
    assert max(sum(event.get(lock, 0) for lock in LOCKS) for event in events) >= WORKERS - 2
    holders = [sample.blocker for sample in seen if sample.blocker is not None]
    assert holders
    assert all(holder.statement.startswith(STATEMENT) and holder.is_idle for holder in holders)


class Race:
    """Jobs that hold one row while they work, until `has_lock` is False; twenty arrive per second."""

    def __init__(self, shop: Shop) -> None:
        self.has_lock = True
        login = {"user": APPLICATION.username, "password": APPLICATION.password, "dbname": DATABASE}
        where = psycopg.conninfo.make_conninfo(host="127.0.0.1", port=shop.server.port, **login)
        self.rows = AsyncConnectionPool(where, min_size=1, max_size=MOST, open=False)

    async def work(self, number: int) -> None:
        if not self.has_lock:
            await asyncio.sleep(HELD_SECONDS)
            return
        async with self.rows.connection() as connection:
            await connection.execute("UPDATE race SET taken = taken + 1 WHERE id = 1")
            await asyncio.sleep(HELD_SECONDS)

    async def produce(self, task: Any) -> None:
        began, sent = time.monotonic(), 0
        while True:
            due = int(ARRIVALS * (time.monotonic() - began)) - sent
            if due > 0:
                await task.configure().batch_defer_async(*({"number": sent + n} for n in range(due)))
                sent += due
            await asyncio.sleep(0.1)


def effective(lab: Laboratory) -> dict[str, Any]:
    conditions = lab.status().get("conditions", ())
    return next((dict(entry) for entry in conditions if entry["type"] == "Effective"), {"status": "Unknown"})


async def test_a_race_of_real_workers_is_named_stopped_and_released(shop: Shop) -> None:
    """One worker does nearly as much as any number: growth stops, and resumes with a pod template without the lock."""
    race, counts = Race(shop), set[int]()
    shop.run("CREATE TABLE race (id int PRIMARY KEY, taken bigint NOT NULL)")
    shop.run("INSERT INTO race VALUES (1, 0)")
    spec = {"maxWorkers": MOST, "databaseRole": APPLICATION.username, "objective": {"targetLag": "5s"}}
    await race.rows.open()
    async with laboratory(shop, race.work, **spec) as (lab, task):
        target = ObjectRef(DEPLOYMENT, NAMESPACE, "commands")

        def is_named() -> bool:
            counts.add(lab.asked_for())
            return effective(lab)["status"] == "False"

        lab.cluster.edit(target, lambda item: item["spec"].update(template={"metadata": {"labels": {"v": "1"}}}))
        producer = asyncio.create_task(race.produce(task))
        try:
            await until("Effective=False", is_named, NAMED_SECONDS, lab)
            assert max(counts) <= USEFUL_MOST
            said = effective(lab)["message"]
            race.has_lock = False
            lab.cluster.edit(target, lambda item: item["spec"].update(template={"metadata": {"labels": {"v": "2"}}}))
            await until("more workers", lambda: lab.asked_for() > max(counts), 90, lab)
            assert effective(lab)["status"] != "False"
        finally:
            producer.cancel()
            await asyncio.wait({producer})
    await race.rows.close()
    assert any(f"they wait for {lock}, held by `{STATEMENT}" in said for lock in LOCKS), said
