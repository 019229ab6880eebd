"""Puts jobs into the queue at a rate that follows a profile, and measures the queue once a second.

One JSON line a second: `{"t", "rate", "deferred", "backlog", "lag_seconds", "commits"}`; the lag is measured here, by
SQL of its own, so that what the operator says can be held against it. With `--commits` a connection of its own commits
small transactions at a steady rate; `commits` has each since the last line, as [epoch seconds, milliseconds].
"""

import argparse
import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator

import psycopg
from procrastinate.schema import SchemaManager
from profile_line import Points, parse_profile, value_at
from tasks import app, generate_command

STEP = 0.1
COMMIT_EVERY = 0.02
COMMIT = "SELECT pg_logical_emit_message(true, 'demo', '')"
"""A transaction that touches no table: what it takes is the flush of its WAL."""
LOCK = 7_301_002
MEASURE = """
SELECT count(*) AS backlog, coalesce(extract(epoch FROM now() - min(event.at)), 0)::float8 AS lag
FROM procrastinate_jobs AS job
JOIN procrastinate_events AS event ON event.job_id = job.id AND event.type = 'deferred'
WHERE job.status = 'todo' AND job.queue_name = %s
"""


async def ensure_schema() -> None:
    """Create procrastinate's tables unless they are there; safe to run beside others."""
    async with await psycopg.AsyncConnection.connect() as connection:
        await connection.execute("SELECT pg_advisory_xact_lock(%s)", (LOCK,))
        row = await (await connection.execute("SELECT to_regclass('procrastinate_jobs') IS NULL")).fetchone()
        if row and row[0]:
            await connection.execute(SchemaManager.get_schema().encode())


async def commit(commits: list[tuple[float, float]]) -> None:
    """Commit, note when it began and how many milliseconds it took, and pause, until cancelled."""
    async with await psycopg.AsyncConnection.connect(autocommit=True) as connection:
        while True:
            at, began = time.time(), time.monotonic()
            await connection.execute(COMMIT)
            commits.append((at, round(1000 * (time.monotonic() - began), 2)))
            await asyncio.sleep(COMMIT_EVERY)


@contextlib.asynccontextmanager
async def committing(*, is_wanted: bool) -> AsyncIterator[list[tuple[float, float]]]:
    """The commits so far, while they go on; what ends them is raised, for half a measurement is none."""
    commits: list[tuple[float, float]] = []
    async with asyncio.TaskGroup() as group:
        task = group.create_task(commit(commits)) if is_wanted else None
        yield commits
        if task is not None:
            task.cancel()


async def produce(
    queue: str, points: Points, duration: float, service_seconds: float, commits: list[tuple[float, float]]
) -> None:
    """Defer jobs in steps of a tenth of a second; what a slow step missed is made up for in the next."""
    started, owed, deferred, reported = time.time(), 0.0, 0, 0
    deferrer = generate_command.configure(queue=queue)
    last = started
    async with await psycopg.AsyncConnection.connect(autocommit=True) as connection:
        while (now := time.time()) - started < duration:
            rate = value_at(points, now - started)
            owed, last = owed + rate * (now - last), now
            count = int(owed)
            if count:
                jobs = [{"number": deferred + n, "service_seconds": service_seconds} for n in range(count)]
                await deferrer.batch_defer_async(*jobs)
                owed, deferred = owed - count, deferred + count
            if int(now - started) >= reported:
                reported = int(now - started) + 1
                await report(connection, queue, rate, deferred, commits)
            await asyncio.sleep(STEP)


async def report(
    connection: psycopg.AsyncConnection, queue: str, rate: float, deferred: int, commits: list[tuple[float, float]]
) -> None:
    """Print one line of what the queue looks like, and of the commits since the last one."""
    row = await (await connection.execute(MEASURE, (queue,))).fetchone()
    backlog, lag = row or (0, 0.0)
    line = {"t": time.time(), "rate": rate, "deferred": deferred, "backlog": backlog, "lag_seconds": lag}
    print(json.dumps({**line, "commits": commits}), flush=True)
    commits.clear()


async def main() -> None:
    """Make the schema, then the load."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--queue", default="commands", help="queue to fill")
    parser.add_argument("--profile", default="[[0, 1]]", help="jobs a second, as [[seconds, rate], ...]")
    parser.add_argument("--duration", type=float, default=60, help="seconds to run")
    parser.add_argument("--service-seconds", type=float, default=0.1, help="how long a job takes")
    parser.add_argument("--commits", action="store_true", help="commit small transactions beside it, and time them")
    parser.add_argument("--create-schema-only", action="store_true", help="make the tables and leave")
    options = parser.parse_args()
    await ensure_schema()
    if options.create_schema_only:
        return
    points = parse_profile(options.profile)
    async with app.open_async(), committing(is_wanted=options.commits) as commits:
        await produce(options.queue, points, options.duration, options.service_seconds, commits)


if __name__ == "__main__":
    asyncio.run(main())
