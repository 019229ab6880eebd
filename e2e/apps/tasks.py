"""The queue of the laboratory: one job, which takes its time."""

import asyncio

import procrastinate

app = procrastinate.App(connector=procrastinate.PsycopgConnector(min_size=1, max_size=2))
"""Connects as libpq's own variables (PGHOST, PGUSER, ...) say; two connections at most."""


@app.task(name="generate_command")
async def generate_command(number: int, service_seconds: float) -> None:
    """Work for `service_seconds`."""
    await asyncio.sleep(service_seconds)
