"""A real PostgreSQL with procrastinate's real schema, its real worker, and the links the operator would use."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from typing import Any

import procrastinate
import psycopg
import pytest
import pytest_asyncio
from procrastinate.schema import SchemaManager

from headroom.adapters.clock import SystemClock
from headroom.adapters.postgres import PsycopgPostgres, SessionNames
from headroom.model.database import ConnectionTarget, Credentials
from headroom.ports.postgres import PrimaryLink, QueueLink
from tests.postgres_server import (
    APPLICATION,
    DATABASE,
    QUEUE,
    QUEUE_SQL,
    Installation,
    Server,
    ServerMaker,
    installation,
    local_dialer,
)

__all__ = ["installation"]
PRISTINE = "pristine"


class OpenFence:
    def check(self, timeout_seconds: float) -> None:
        """Always leads."""


@dataclass
class Shop:
    """A database whose owner is the application, with procrastinate in it."""

    server: Server
    links: list[Any] = field(default_factory=list)

    def run(self, statement: str, parameters: Any = None) -> list[Any]:
        """As the application."""
        with self.server.connect(APPLICATION.username, APPLICATION.password) as connection:
            cursor = connection.execute(statement, parameters)
            return cursor.fetchall() if cursor.description else []

    def app(self) -> procrastinate.App:
        connector = procrastinate.PsycopgConnector(
            conninfo=psycopg.conninfo.make_conninfo(
                host="127.0.0.1",
                port=self.server.port,
                user=APPLICATION.username,
                password=APPLICATION.password,
                dbname=DATABASE,
            ),
            min_size=1,
            max_size=4,
        )
        return procrastinate.App(connector=connector)

    def postgres(self) -> PsycopgPostgres:
        names = SessionNames(lease="lease", holder="holder")
        return PsycopgPostgres(names, OpenFence(), SystemClock(), dialer=local_dialer())

    async def open_primary(self) -> PrimaryLink:
        link = await self.postgres().open_primary(self.server.target())
        self.links.append(link)
        return link

    async def open_queue(self, login: Credentials = QUEUE, **changes: Any) -> QueueLink:
        """The link of a pool that has no connection of its own, or with another login one that has."""
        target: ConnectionTarget = self.server.target(login, **changes)
        link = await self.postgres().open_queue(target)
        self.links.append(link)
        return link

    def defer(self, count: int, *, queue: str = "commands", ago: float = 0.0, lock: str | None = None) -> list[int]:
        """Defer by the library's own function, as if `ago` seconds had passed since."""
        rows = self.run(
            "SELECT unnest(procrastinate_defer_jobs_v1(array_agg("
            "ROW(%(queue)s, 'work', 0, %(lock)s, NULL, '{}', NULL)::procrastinate_job_to_defer_v1))) AS id "
            "FROM generate_series(1, %(count)s)",
            {"queue": queue, "lock": lock, "count": count},
        )
        ids = [row["id"] for row in rows]
        if ago:
            self.run(
                "UPDATE procrastinate_events SET at = at - make_interval(secs => %s) WHERE job_id = ANY(%s)", [ago, ids]
            )
        return ids

    def claim(self, count: int, worker: int, queue: str = "commands") -> list[int]:
        """Claim by the library's own function."""
        rows = self.run(
            "SELECT (claim).id FROM (SELECT procrastinate_fetch_job_v2(%s, %s) AS claim FROM generate_series(1, %s)) x",
            [[queue], worker, count],
        )
        return [row["id"] for row in rows if row["id"] is not None]

    def finish(self, *jobs: int, status: str = "succeeded", delete: bool = False) -> None:
        """Finish by the library's own function."""
        self.run(
            "SELECT procrastinate_finish_job_v1(id, %s::procrastinate_job_status, %s) FROM unnest(%s::bigint[]) AS id",
            [status, delete, list(jobs)],
        )

    def register_worker(self) -> int:
        return int(self.run("SELECT worker_id FROM procrastinate_register_worker_v1()")[0]["worker_id"])


@pytest.fixture(scope="session")
def queue_server(installation: Installation) -> Iterator[Server]:
    """One server for all tests of a version, with a pristine copy of the database."""
    maker = ServerMaker(installation)
    server = maker.make()
    server.sql(f"GRANT ALL ON DATABASE {DATABASE} TO {APPLICATION.username}")
    server.sql(f"GRANT ALL ON SCHEMA public TO {APPLICATION.username}")
    with server.connect(APPLICATION.username, APPLICATION.password) as connection:
        connection.execute(SchemaManager.get_schema())
    server.run_script(QUEUE_SQL)
    server.sql(f"ALTER DATABASE {DATABASE} RENAME TO {PRISTINE}", database="postgres")
    yield server
    maker.close()


@pytest_asyncio.fixture
async def shop(queue_server: Server) -> AsyncIterator[Shop]:
    """An empty procrastinate queue in a fresh database."""
    queue_server.sql(f"CREATE DATABASE {DATABASE} TEMPLATE {PRISTINE}", database="postgres")
    queue_server.sql(f"GRANT ALL ON DATABASE {DATABASE} TO {APPLICATION.username}")
    found = Shop(queue_server)
    yield found
    for link in found.links:
        await link.close()
    queue_server.sql(f"DROP DATABASE {DATABASE} WITH (FORCE)", database="postgres")


@contextlib.asynccontextmanager
async def running_worker(app: procrastinate.App, **options: Any) -> AsyncIterator["asyncio.Task[None]"]:
    """The library's own worker while the block runs."""
    task = asyncio.create_task(
        app.run_worker_async(
            install_signal_handlers=False, listen_notify=True, fetch_job_polling_interval=0.2, **options
        )
    )
    try:
        yield task
    finally:
        task.cancel()
        # Not `await task` with its cancellation suppressed: that would swallow one of our own.
        await asyncio.wait({task})
