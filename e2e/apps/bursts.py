"""Puts a few jobs into one queue after another at random moments, and takes them out again some seconds later.

One JSON line for each: `{"queue", "t"}`, the wall time at which its rows were visible to all (the commit had returned).
"""

import argparse
import asyncio
import json
import random
import time

import psycopg
from produce import ensure_schema
from tasks import app, generate_command

TRIGGER = "procrastinate_jobs_notify_queue_job_inserted_v1"


async def burst(queue: str, jobs: int, keep_seconds: float, service_seconds: float) -> None:
    """One burst: rows in, a line, rows out unless workers have taken them."""
    rows = [{"number": number, "service_seconds": service_seconds} for number in range(jobs)]
    await generate_command.configure(queue=queue).batch_defer_async(*rows)
    print(json.dumps({"queue": queue, "t": time.time()}), flush=True)
    await asyncio.sleep(keep_seconds)
    async with await psycopg.AsyncConnection.connect(autocommit=True) as connection:
        await connection.execute("DELETE FROM procrastinate_jobs WHERE queue_name = %s AND status = 'todo'", (queue,))


async def main() -> None:
    """Make the bursts."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--queues", required=True, help="comma-separated queues, each used once, in random order")
    parser.add_argument("--jobs", type=int, default=20, help="jobs of a burst")
    parser.add_argument("--least-gap", type=float, default=0.6, help="seconds between two bursts at least")
    parser.add_argument("--most-gap", type=float, default=1.6, help="seconds between two bursts at most")
    parser.add_argument("--keep", type=float, default=8.0, help="seconds until the jobs are taken out again")
    parser.add_argument("--service-seconds", type=float, default=0.2, help="how long a job takes")
    parser.add_argument("--silent", action="store_true", help="switch the library's own notification off")
    options = parser.parse_args()
    await ensure_schema()
    async with await psycopg.AsyncConnection.connect(autocommit=True) as connection:
        state = "DISABLE" if options.silent else "ENABLE"
        await connection.execute(f"ALTER TABLE procrastinate_jobs {state} TRIGGER {TRIGGER}".encode())
    queues = options.queues.split(",")
    random.shuffle(queues)
    async with app.open_async(), asyncio.TaskGroup() as tasks:
        for queue in queues:
            await asyncio.sleep(random.uniform(options.least_gap, options.most_gap))
            tasks.create_task(burst(queue, options.jobs, options.keep, options.service_seconds))


if __name__ == "__main__":
    asyncio.run(main())
