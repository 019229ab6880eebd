"""100,000 rows of each kind that has misled a probe: it is never blind, and never at zero while jobs are handed out.

What is claimable is what the library's own claim takes. Each case prints what a sample took of the server's CPU, beside
a bare count of the same open rows: what it waits for on a busy machine is no cost of the statement.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from headroom.adapters.postgres.queues.procrastinate_sql import LOCK_LIMIT, ROW_LIMIT
from headroom.model.queue import QueueSample
from headroom.ports.signals import QueueProbe
from tests.integration.queues.conftest import Shop
from tests.integration.queues.probing import open_probe, take_sample
from tests.integration.queues.test_procrastinate_plans import plans_of, walk
from tests.postgres_server import APPLICATION, DATABASE

pytestmark = pytest.mark.postgres

MANY = 100_000
WAITING = 500
HOUR = 3600.0
LONGEST_SECONDS = 0.15
"""Of CPU. The server's own limit is 0.5 s; on a quiet machine each case takes about 0.05 s at most."""
MOST_TIMES = 40
"""... and so many times a bare count of the open rows, at least that of 10 ms."""
LATER = "now() + interval '20 days'"


def fill(
    shop: Shop, count: int, *, queue: str = "commands", lock: str = "NULL", due: str = "NULL", status: str = "todo",
    ago: float = HOUR,
) -> None:  # fmt: skip
    """Rows as the library leaves them, with their `deferred` event; `lock` and `due` are SQL over the number `n`."""
    with shop.server.connect(database=DATABASE) as connection:
        connection.execute("SET session_replication_role = replica")
        connection.execute(
            f"WITH made AS (INSERT INTO procrastinate_jobs (queue_name, task_name, status, lock, scheduled_at) "
            f"SELECT '{queue}', 'work', '{status}', {lock}, {due} FROM generate_series(1, {count}) AS n RETURNING id) "
            f"INSERT INTO procrastinate_events (job_id, type, at) "
            f"SELECT id, 'deferred', now() - interval '{ago} s' FROM made"
        )


def settle(shop: Shop) -> None:
    """Statistics and visibility, as autovacuum would leave them."""
    shop.server.sql("VACUUM ANALYZE procrastinate_jobs, procrastinate_events, procrastinate_workers")


def future(shop: Shop) -> None:
    fill(shop, MANY, due=LATER)


def future_locks(shop: Shop) -> None:
    fill(shop, MANY, lock="'order-' || n", due=LATER)


def soon(shop: Shop) -> None:
    fill(shop, MANY, due="now() + interval '50 s'")


def one_lock(shop: Shop) -> None:
    shop.claim(1, shop.register_worker())
    fill(shop, MANY, lock="'order-1'")
    fill(shop, 1, lock="'order-1'", status="doing")


def other_queues(shop: Shop) -> None:
    fill(shop, MANY, queue="mails")


def other_queues_locks(shop: Shop) -> None:
    fill(shop, MANY, queue="mails", lock="'order-' || n")


def cancelled(shop: Shop) -> None:
    fill(shop, MANY, status="cancelled", due=LATER)


def deleted(shop: Shop) -> None:
    fill(shop, MANY)
    with shop.server.connect(database=DATABASE) as connection:
        connection.execute("DELETE FROM procrastinate_jobs WHERE status = 'todo'")


def phantoms(shop: Shop) -> None:
    fill(shop, MANY, status="doing")


TRAPS = (future, future_locks, soon, one_lock, other_queues, other_queues_locks, cancelled, deleted, phantoms)
EXACT: dict[str, Callable[[Shop], None]] = {trap.__name__: trap for trap in TRAPS}


@pytest.mark.parametrize("name", EXACT)
async def test_jobs_behind_a_trap_are_all_seen(shop: Shop, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    EXACT[name](shop)
    fill(shop, WAITING)
    if name != "deleted":
        settle(shop)
    probe = await open_probe(shop, "commands")
    sample = await timed_sample(shop, probe, name, capsys)
    assert (sample.backlog, sample.late, sample.is_truncated) == (WAITING, WAITING, False)
    assert sample.lag_seconds == pytest.approx(HOUR, abs=30)
    assert len(shop.claim(3, shop.register_worker())) == 3, "the library hands them out"
    for plan in await plans_of(shop):
        reads = [node for node in walk(plan) if node.get("Relation Name", "").startswith("procrastinate_")]
        touched = sum(node["Actual Rows"] * node["Actual Loops"] + removed(node) for node in reads)
        assert touched <= 4 * MANY + 50_000, "each open row is passed over a few times, whatever it is"


def removed(node: dict[str, Any]) -> int:
    return int(node.get("Rows Removed by Filter", 0) * node["Actual Loops"])


async def test_a_hundred_thousand_locks_are_a_lower_bound(shop: Shop, capsys: pytest.CaptureFixture[str]) -> None:
    fill(shop, MANY, lock="'order-' || n")
    settle(shop)
    sample = await timed_sample(shop, await open_probe(shop, "commands"), "own locks", capsys)
    assert (sample.backlog, sample.is_truncated) == (LOCK_LIMIT, True)


async def test_few_locks_hide_no_other(shop: Shop, capsys: pytest.CaptureFixture[str]) -> None:
    fill(shop, MANY, lock="'order-' || n % 100")
    fill(shop, 40, lock="'late-' || n")
    settle(shop)
    sample = await timed_sample(shop, await open_probe(shop, "commands"), "few locks", capsys)
    assert (sample.backlog, sample.blocked, sample.is_truncated) == (140, MANY - 100, False)


async def test_a_backlog_beyond_the_limit_is_a_lower_bound(shop: Shop, capsys: pytest.CaptureFixture[str]) -> None:
    fill(shop, MANY)
    settle(shop)
    probe = await open_probe(shop, "commands")
    sample = await timed_sample(shop, probe, "backlog", capsys)
    assert (sample.backlog, sample.late, sample.is_truncated) == (ROW_LIMIT, ROW_LIMIT, True)
    fill(shop, 300, ago=0.0)
    later = await take_sample(probe, 60.0)
    assert (later.arrived or 0) - (sample.arrived or 0) == 300


async def test_rows_that_a_forgotten_transaction_has_locked_are_blocked_and_named(
    shop: Shop, capsys: pytest.CaptureFixture[str]
) -> None:
    fill(shop, MANY)
    with held(shop, "SELECT id FROM procrastinate_jobs FOR UPDATE") as xid:
        fill(shop, WAITING, ago=100.0)
        settle(shop)
        probe = await open_probe(shop, "commands")
        await take_sample(probe)
        sample = await timed_sample(shop, probe, "poison", capsys)
        assert (sample.backlog, sample.late, sample.blocked) == (WAITING, WAITING, LOCK_LIMIT)
        assert sample.lag_seconds == pytest.approx(100.0, abs=30)
        assert [(item.id, item.holder) for item in sample.stuck] == [(number, int(xid)) for number in range(1, 6)]
        assert set(sample.leading) == set(shop.claim(20, shop.register_worker())), "the library takes the same"
    freed = await take_sample(probe, 70.0)
    assert freed.stuck == ()
    assert freed.lag_seconds == pytest.approx(HOUR, abs=30)


async def test_rows_that_a_transaction_lets_go_have_not_arrived(shop: Shop) -> None:
    """More than are read of those that it has locked."""
    fill(shop, 2 * LOCK_LIMIT)
    probe = await open_probe(shop, "commands")
    await take_sample(probe)
    with held(shop, "SELECT id FROM procrastinate_jobs FOR UPDATE"):
        await take_sample(probe, 2.0)
        sample = await take_sample(probe, 4.0)
        assert (sample.backlog, sample.blocked) == (0, LOCK_LIMIT)
    freed = await take_sample(probe, 6.0)
    assert (freed.backlog, freed.arrived) == (2 * LOCK_LIMIT, 0)


async def test_a_lock_whose_next_job_is_locked_by_a_transaction_is_blocked(shop: Shop) -> None:
    shop.defer(2, ago=500.0, lock="order-1")
    shop.defer(2, ago=50.0)
    with held(shop, "SELECT id FROM procrastinate_jobs WHERE id = 1 FOR UPDATE"):
        probe = await open_probe(shop, "commands")
        await take_sample(probe)
        sample = await take_sample(probe, 5.0)
        assert (sample.backlog, sample.blocked, sample.leading) == (2, 2, (3, 4))
        assert len(shop.claim(9, shop.register_worker())) == 2


async def test_all_traps_at_once_hide_nothing(shop: Shop) -> None:
    count = MANY // 5
    fill(shop, count, due=LATER)
    fill(shop, count, lock="'order-' || n", due=LATER)
    fill(shop, count, due="now() + interval '50 s'")
    fill(shop, 1, lock="'order-1'", status="doing")
    fill(shop, count, lock="'order-1'")
    fill(shop, count, queue="mails", lock="'mail-' || n")
    fill(shop, count, status="cancelled")
    fill(shop, WAITING)
    settle(shop)
    sample = await take_sample(await open_probe(shop, "commands"), lead=60.0)
    assert (sample.backlog, sample.late, sample.blocked, sample.due_soon) == (WAITING, WAITING, count, count)


async def test_barred_by_jobs_of_another_queue_or_of_a_later_time_as_the_librarys_claim_has_it(shop: Shop) -> None:
    shop.defer(1, queue="mails", lock="a")
    shop.defer(1, lock="a")
    shop.defer(2, lock="b")
    shop.run("UPDATE procrastinate_jobs SET scheduled_at = now() + interval '1 h' WHERE id = 3")
    shop.defer(1, queue="mails", lock="c")
    shop.run("UPDATE procrastinate_jobs SET priority = -3 WHERE lock = 'c'")
    shop.defer(1, lock="c")
    shop.defer(1, queue="mails", lock="d")
    assert shop.claim(1, shop.register_worker(), "mails") == [1]
    sample = await take_sample(await open_probe(shop, "commands"))
    assert (sample.backlog, sample.blocked, sample.leading) == (1, 2, (6,))
    assert shop.claim(9, shop.register_worker()) == [6]


async def test_the_next_are_in_the_librarys_order(shop: Shop) -> None:
    ids = shop.defer(30)
    shop.defer(4, lock="x")
    shop.run("UPDATE procrastinate_jobs SET priority = id % 7 - 3")
    shop.run("UPDATE procrastinate_jobs SET priority = 2147483647 WHERE id = %s", [ids[11]])
    sample = await take_sample(await open_probe(shop, "commands"))
    assert list(sample.leading) == shop.claim(20, shop.register_worker())


@pytest.mark.parametrize("job", [963809240, 1784257536, 2299818742])
async def test_a_job_whose_hash_is_the_smallest_number_blinds_nobody(shop: Shop, job: int) -> None:
    """Its absolute value would not fit: found by trying the ids in turn."""
    shop.run("SELECT setval('procrastinate_jobs_id_seq', %s, false)", [job])
    assert shop.defer(1, ago=100.0) == [job]
    probe = await open_probe(shop, "commands")
    sample = await take_sample(probe)
    assert (sample.backlog, sample.late) == (1, 1)
    assert sample.lag_seconds == pytest.approx(100.0, abs=10)


async def test_a_job_that_is_due_since_for_ever_blinds_nobody(shop: Shop) -> None:
    first, second = shop.defer(2, ago=100.0)
    shop.run("UPDATE procrastinate_jobs SET scheduled_at = '-infinity' WHERE id = %s", [first])
    shop.run("DELETE FROM procrastinate_events WHERE job_id = %s", [first])
    shop.run("UPDATE procrastinate_events SET at = '-infinity' WHERE job_id = %s", [second])
    shop.defer(1, ago=50.0)
    probe = await open_probe(shop, "commands")
    sample = await take_sample(probe)
    assert sample.backlog == 3
    assert sample.lag_seconds == pytest.approx(50.0, abs=10)


@contextmanager
def held(shop: Shop, statement: str) -> Iterator[str]:
    """A session of the application that has locked rows and does nothing more; its transaction."""
    client = shop.server.connect(APPLICATION.username, APPLICATION.password)
    with client, client.transaction():
        client.execute(statement)
        yield client.execute("SELECT pg_current_xact_id()::text AS xid").fetchone()["xid"]


async def timed_sample(shop: Shop, probe: QueueProbe, name: str, capsys: pytest.CaptureFixture[str]) -> QueueSample:
    """The last of three samples; the least CPU of them, beside that of a bare count."""
    bare, best = bare_count(shop), float("inf")
    (row,) = await shop.links[-1].query("SELECT pg_backend_pid() AS pid")
    for turn in range(3):
        began = cpu_seconds(row["pid"])
        sample = await take_sample(probe, 1.0 + turn / 10, lead=60.0)
        best = min(best, cpu_seconds(row["pid"]) - began)
    with capsys.disabled():
        print(f"\n{shop.server.installation} {name:20} {best * 1000:6.1f} ms, a bare count {bare * 1000:6.1f} ms")
    assert best <= LONGEST_SECONDS
    assert best <= MOST_TIMES * max(bare, 0.01)
    return sample


def bare_count(shop: Shop) -> float:
    """CPU seconds of the cheapest question about the same rows, the best of three."""
    best = float("inf")
    with shop.server.connect(database=DATABASE) as connection:
        for _ in range(3):
            began = cpu_seconds(connection.info.backend_pid)
            connection.execute("SELECT count(scheduled_at) FROM procrastinate_jobs WHERE status = 'todo'").fetchone()
            best = min(best, cpu_seconds(connection.info.backend_pid) - began)
    return best


def cpu_seconds(pid: int) -> float:
    """What a process has had of a CPU so far."""
    return int(Path(f"/proc/{pid}/schedstat").read_text().split()[0]) / 1e9
