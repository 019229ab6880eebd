"""A worker of the laboratory's queue: procrastinate's own, until SIGTERM; the job in hand is finished first."""

import argparse
import asyncio
import os

from tasks import app


async def main() -> None:
    """Run the worker."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--queue", default="commands", help="queue to drain")
    options = parser.parse_args()
    async with app.open_async():
        await app.run_worker_async(
            queues=[options.queue],
            concurrency=int(os.environ.get("CONCURRENCY", "1")),
            fetch_job_polling_interval=1.0,
            shutdown_graceful_timeout=float(os.environ.get("GRACE_SECONDS", "20")),
        )


if __name__ == "__main__":
    asyncio.run(main())
