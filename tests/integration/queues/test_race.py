"""The race of the benchmark: its real jobs wait for one row, and the operator's statement says so."""

import asyncio
import importlib
import time
from pathlib import Path
from typing import Any

import pytest

from e2e.bench.race import PREPARE, ROLE
from e2e.bench.race_record import HELD_SECONDS, LOCKS, STATEMENT
from e2e.lab.shop import PASSWORD
from headroom.model.waits import WaitSample
from tests.integration.queues.conftest import Shop, running_worker
from tests.postgres_server import APPLICATION, DATABASE

pytestmark = pytest.mark.postgres
APPS = Path(__file__).parents[3] / "e2e" / "apps"
WORKERS, JOBS = 6, 40


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
