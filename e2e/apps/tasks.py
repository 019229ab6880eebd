"""The queue of the laboratory: one job, which takes its time, and where LOCK_ROW is set, its turn.

LOCK_ROW is the race of many workers for one row: each job keeps the row locked while it works, so that only one of them
works at a time, however many workers there are.
"""

import asyncio
import os

import procrastinate
from psycopg_pool import AsyncConnectionPool

app = procrastinate.App(connector=procrastinate.PsycopgConnector(min_size=1, max_size=2))
"""Connects as libpq's own variables (PGHOST, PGUSER, ...) say; two connections at most."""

IS_RACE = bool(os.environ.get("LOCK_ROW"))
TAKE_ROW = "UPDATE race SET taken = taken + 1 WHERE id = 1"
"""The table is made by whoever sets LOCK_ROW."""
rows = AsyncConnectionPool(min_size=1, max_size=1, open=False)
"""The connection of the jobs themselves, a third one."""


@app.task(name="generate_command")
async def generate_command(number: int, service_seconds: float) -> None:
    """Work for `service_seconds`."""
    if not IS_RACE:
        await asyncio.sleep(service_seconds)
        return
    await rows.open()
    async with rows.connection() as connection:
        await connection.execute(TAKE_ROW)
        await asyncio.sleep(service_seconds)
