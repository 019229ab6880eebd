"""Whoever owns a queue's tables lets code run with the login that reads them: every way is an attack, and none works.

The application owns the tables, and a function that says who has run it. It could as well end sessions or read
password verifiers, if the login had the right.
"""

import asyncio
import contextlib
from typing import Any

import psycopg
import pytest

from headroom.adapters.postgres import tables as tables_module
from headroom.adapters.postgres.queues import PostgresQueueProbes
from headroom.adapters.postgres.table_check import CHECK
from headroom.api.v1alpha1.queue import PostgresQueue
from headroom.errors import HeadroomError, SignalUnavailable
from headroom.model.queue import QueueSample
from headroom.ports.postgres import QueueLink
from headroom.ports.signals import QueueTables
from headroom.reasons import Reason
from tests.integration.queues.conftest import Shop
from tests.integration.queues.probing import take_sample
from tests.postgres_server import APPLICATION, DATABASE, MONITOR, QUEUE

TRAP = (
    """
CREATE FUNCTION spring() RETURNS boolean LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
    PERFORM pg_catalog.pg_advisory_lock(4711, 0);
    RETURN true;
END $$
""",
    """
CREATE FUNCTION spring_text(anyelement) RETURNS text LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
    PERFORM public.spring();
    RETURN 'todo';
END $$
""",
)
"""A session's advisory lock is not rolled back: it proves who has run the function."""


@pytest.fixture
def trap(shop: Shop) -> Shop:
    """A queue with three jobs, whose owner has such functions."""
    for statement in TRAP:
        shop.run(statement)
    shop.defer(3, ago=50.0)
    return shop


def is_sprung(shop: Shop) -> bool:
    """Whether the function has run with a login of ours: its session keeps the advisory lock."""
    found = shop.server.sql(
        "SELECT count(*) FROM pg_locks l JOIN pg_stat_activity a USING (pid) WHERE l.locktype = 'advisory'"
        " AND l.classid = 4711 AND a.usename LIKE 'headroom%'"
    )
    return bool(found[0]["count"])


async def sample(shop: Shop, **changes: Any) -> QueueSample:
    spec = PostgresQueue.model_validate({"preset": "procrastinate", **changes})
    return await take_sample(PostgresQueueProbes().open(spec, await shop.open_queue()))


async def refused(shop: Shop, **changes: Any) -> SignalUnavailable:
    """Why the probe does not read, and nothing of the application has run."""
    with pytest.raises(SignalUnavailable) as caught:
        await sample(shop, **changes)
    assert not is_sprung(shop)
    return caught.value


REPLACED = "ALTER TABLE procrastinate_jobs RENAME TO procrastinate_kept"
VIEW = """
CREATE VIEW procrastinate_jobs AS SELECT *, '0'::xid AS xmax_ FROM procrastinate_kept WHERE spring();
GRANT SELECT ON procrastinate_jobs TO headroom_queue
"""


async def test_a_view_in_the_place_of_the_table(trap: Shop) -> None:
    trap.run(REPLACED)
    for statement in VIEW.split(";"):
        trap.run(statement)
    error = await refused(trap)
    assert error.reason is Reason.QUEUE_UNSAFE
    assert "public.procrastinate_jobs is a view" in str(error)


async def test_the_attack_worked_by_a_login_that_reads_a_view(trap: Shop) -> None:
    """What the guard's login was: the proof that the trap is one."""
    trap.run(REPLACED)
    for statement in VIEW.split(";"):
        trap.run(statement)
    link = await trap.open_queue()
    await link.query("SELECT count(*) FROM public.procrastinate_jobs")
    assert is_sprung(trap)


async def test_a_view_that_comes_while_the_probe_is_open(trap: Shop) -> None:
    spec = PostgresQueue.model_validate({"preset": "procrastinate"})
    probe = PostgresQueueProbes().open(spec, await trap.open_queue())
    assert (await take_sample(probe)).backlog == 3
    trap.run(REPLACED)
    for statement in VIEW.split(";"):
        trap.run(statement)
    with pytest.raises(SignalUnavailable, match="is a view") as caught:
        await take_sample(probe, 5.0)
    assert caught.value.reason is Reason.QUEUE_UNSAFE
    assert not is_sprung(trap)


@pytest.mark.parametrize("parameter", [True, False], ids=["refused by the server", "by our check alone"])
async def test_a_schema_that_is_renamed_in_the_very_moment(
    trap: Shop, monkeypatch: pytest.MonkeyPatch, parameter: bool
) -> None:
    """No lock keeps a schema's name: after the check, the name stands for a schema with a view. (A function that claims
    to be immutable is evaluated by the planner of a server that does not refuse views, by a login that may do nothing.)
    """
    trap.run("ALTER FUNCTION spring() VOLATILE")
    trap.run("CREATE SCHEMA jobs")
    for name in ("jobs", "events", "workers"):
        trap.run(f"ALTER TABLE procrastinate_{name} SET SCHEMA jobs")
    trap.run("GRANT USAGE ON SCHEMA jobs TO headroom_queue")
    trap.run("CREATE SCHEMA evil")
    trap.run("GRANT USAGE ON SCHEMA evil TO headroom_queue")
    for name in ("jobs", "events", "workers"):
        columns = "*, '0'::xid AS hidden" if name == "jobs" else "*"
        trap.run(
            f"CREATE VIEW evil.procrastinate_{name} AS SELECT {columns} FROM jobs.procrastinate_{name} WHERE spring()"
        )
        trap.run(f"GRANT SELECT ON evil.procrastinate_{name} TO headroom_queue")
    ask = tables_module._ask

    async def swap_after(link: Any, statement: str, tables: Any) -> Any:
        found = await ask(link, statement, tables)
        if statement == CHECK:
            trap.run("ALTER SCHEMA jobs RENAME TO aside")
            trap.run("ALTER SCHEMA evil RENAME TO jobs")
        return found

    monkeypatch.setattr(tables_module, "_ask", swap_after)
    if not parameter:
        monkeypatch.setattr(tables_module, "restricts_views", lambda _: False)
    link = await trap.open_queue()
    wanted = QueueTables("jobs", {"procrastinate_events": ("id", "type")})
    with pytest.raises(HeadroomError):
        await link.read("SELECT count(id) FROM jobs.procrastinate_events", tables=wanted)
    assert not is_sprung(trap)


async def test_a_row_policy(trap: Shop) -> None:
    trap.run("CREATE POLICY all_rows ON procrastinate_jobs USING (spring())")
    trap.run("ALTER TABLE procrastinate_jobs ENABLE ROW LEVEL SECURITY")
    error = await refused(trap)
    assert error.reason is Reason.QUEUE_UNSAFE
    assert 'ALTER ROLE "headroom_queue" BYPASSRLS' in str(error)
    trap.server.sql("ALTER ROLE headroom_queue BYPASSRLS")
    try:
        assert (await sample(trap)).backlog == 3, "the remedy works"
        assert not is_sprung(trap)
    finally:
        trap.server.sql("ALTER ROLE headroom_queue NOBYPASSRLS")


@pytest.mark.parametrize(
    "statement",
    [
        "CREATE INDEX trap ON procrastinate_jobs ((spring()))",
        "CREATE INDEX trap ON procrastinate_jobs (id) WHERE spring()",
        "CREATE INDEX trap ON procrastinate_events ((spring_text(type)))",
        "CREATE STATISTICS trap ON (spring()), id FROM procrastinate_jobs",
    ],
)
async def test_a_function_in_an_index_or_in_statistics(trap: Shop, statement: str) -> None:
    with trap.server.connect(APPLICATION.username, APPLICATION.password) as owner:
        owner.execute(statement)
    error = await refused(trap)
    assert error.reason is Reason.QUEUE_UNSAFE
    assert "spring" in str(error)
    assert "let a superuser own it" in str(error)


async def test_a_function_of_a_superuser_in_an_index_is_no_obstacle(trap: Shop) -> None:
    trap.server.sql("CREATE FUNCTION half(bigint) RETURNS bigint LANGUAGE sql IMMUTABLE AS 'SELECT $1 / 2'")
    trap.server.sql("CREATE INDEX halves ON procrastinate_jobs (half(id)) WHERE lower(queue_name) = 'a'")
    assert (await sample(trap)).backlog == 3


async def test_a_check_constraint_is_not_evaluated(trap: Shop) -> None:
    trap.run("ALTER TABLE procrastinate_jobs ADD CONSTRAINT trap CHECK (spring())")
    trap.server.sql(f"ALTER DATABASE {DATABASE} SET constraint_exclusion = 'on'")
    assert (await sample(trap)).backlog == 3
    assert not is_sprung(trap)


@pytest.mark.parametrize("target", ["text", "json"])
@pytest.mark.parametrize("context", ["AS IMPLICIT", "AS ASSIGNMENT", ""])
async def test_a_cast_of_the_librarys_types(trap: Shop, context: str, target: str) -> None:
    """Explicit casts are enough for `::text`, implicit ones for a comparison with a literal without a type."""
    for kind in ("procrastinate_job_status", "procrastinate_job_event_type"):
        trap.run(
            f"CREATE FUNCTION cast_it({kind}) RETURNS {target} LANGUAGE plpgsql IMMUTABLE"
            " AS $$ BEGIN PERFORM public.spring(); RETURN '1'; END $$"
        )
        trap.run(f"CREATE CAST ({kind} AS {target}) WITH FUNCTION cast_it({kind}) {context}")
    spec = PostgresQueue.model_validate({"preset": "procrastinate"})
    probe = PostgresQueueProbes().open(spec, await trap.open_queue())
    for at in (0.0, 5.0):
        # An implicit cast makes an operator ambiguous: then nothing is read, and nothing has run.
        with contextlib.suppress(SignalUnavailable):
            await take_sample(probe, at)
        trap.finish(*trap.claim(1, trap.register_worker()))
    assert not is_sprung(trap)


@pytest.mark.parametrize("path", ["evil, pg_catalog", "evil"])
async def test_names_of_pg_catalog_in_a_schema_on_the_path(trap: Shop, path: str) -> None:
    trap.run("CREATE SCHEMA evil")
    trap.run("GRANT USAGE ON SCHEMA evil TO PUBLIC")
    trap.run("CREATE FUNCTION evil.equal(bigint, bigint) RETURNS boolean LANGUAGE sql AS 'SELECT public.spring()'")
    trap.run("CREATE OPERATOR evil.= (LEFTARG = bigint, RIGHTARG = bigint, FUNCTION = evil.equal)")
    trap.run(
        "CREATE FUNCTION evil.now() RETURNS timestamptz LANGUAGE sql"
        " AS $$ SELECT '2026-01-01'::timestamptz WHERE public.spring() $$"
    )
    trap.run(
        "CREATE FUNCTION evil.greatest(bigint, bigint) RETURNS bigint LANGUAGE sql AS 'SELECT 1 WHERE public.spring()'"
    )
    for name in ("pg_class", "pg_namespace", "pg_locks", "pg_roles", "pg_index"):
        trap.run(f"CREATE VIEW evil.{name} AS SELECT * FROM pg_catalog.{name} WHERE public.spring()")
        trap.run(f"GRANT SELECT ON evil.{name} TO PUBLIC")
    trap.server.sql(f"ALTER DATABASE {DATABASE} SET search_path = {path}")
    assert (await sample(trap)).backlog == 3
    assert not is_sprung(trap)


async def test_a_foreign_table_in_the_place_of_the_table(trap: Shop) -> None:
    trap.server.sql("CREATE EXTENSION file_fdw")
    trap.server.sql("CREATE SERVER files FOREIGN DATA WRAPPER file_fdw")
    trap.run("ALTER TABLE procrastinate_workers RENAME TO kept")
    trap.server.sql(
        "CREATE FOREIGN TABLE procrastinate_workers (id bigint, last_heartbeat timestamptz)"
        " SERVER files OPTIONS (program 'touch /tmp/never; echo 1', format 'csv')"
    )
    trap.server.sql("GRANT SELECT ON procrastinate_workers TO headroom_queue")
    error = await refused(trap)
    assert error.reason is Reason.QUEUE_UNSAFE
    assert "procrastinate_workers is a foreign table" in str(error)


@pytest.mark.parametrize("kind", ["child", "partition"])
async def test_a_foreign_table_as_a_part_of_the_table(trap: Shop, kind: str) -> None:
    trap.server.sql("CREATE EXTENSION file_fdw")
    trap.server.sql("CREATE SERVER files FOREIGN DATA WRAPPER file_fdw")
    options = "SERVER files OPTIONS (filename '/etc/passwd', format 'text')"
    if kind == "child":
        trap.server.sql(f"CREATE FOREIGN TABLE part () INHERITS (procrastinate_workers) {options}")
    else:
        trap.run("ALTER TABLE procrastinate_workers RENAME TO kept")
        trap.run("CREATE TABLE procrastinate_workers (id bigint, last_heartbeat timestamptz) PARTITION BY RANGE (id)")
        trap.run("GRANT SELECT ON procrastinate_workers TO headroom_queue")
        trap.server.sql(f"CREATE FOREIGN TABLE part PARTITION OF procrastinate_workers DEFAULT {options}")
    error = await refused(trap)
    assert error.reason is Reason.QUEUE_UNSAFE
    assert "procrastinate_workers is a foreign table, or has one as a part" in str(error)


async def test_a_child_whose_index_calls_a_function(trap: Shop) -> None:
    trap.run("CREATE TABLE part () INHERITS (procrastinate_workers)")
    assert (await sample(trap)).backlog == 3, "a plain child is fine"
    trap.run("CREATE INDEX trap ON part ((spring()))")
    assert (await refused(trap)).reason is Reason.QUEUE_UNSAFE


async def test_a_partition_key_that_calls_a_function(trap: Shop) -> None:
    trap.run("ALTER TABLE procrastinate_workers RENAME TO kept")
    columns = "(id bigint, last_heartbeat timestamptz)"
    trap.run(f"CREATE TABLE procrastinate_workers {columns} PARTITION BY LIST ((spring_text(id)))")
    trap.run("CREATE TABLE part PARTITION OF procrastinate_workers DEFAULT")
    trap.run("GRANT SELECT ON procrastinate_workers TO headroom_queue")
    assert (await refused(trap)).reason is Reason.QUEUE_UNSAFE


async def test_a_rule_of_the_table_does_not_matter_to_reads(trap: Shop) -> None:
    trap.run("CREATE RULE trap AS ON UPDATE TO procrastinate_workers DO ALSO SELECT spring()")
    assert (await sample(trap)).backlog == 3
    assert not is_sprung(trap)


@pytest.mark.parametrize("kind", ["domain", "range", "composite"])
async def test_a_column_of_a_type_that_is_not_the_librarys(trap: Shop, kind: str) -> None:
    trap.run("ALTER TABLE procrastinate_workers RENAME TO kept")
    made = {
        "domain": "CREATE DOMAIN odd AS bigint CHECK (spring())",
        "range": "CREATE TYPE odd AS RANGE (subtype = bigint)",
        "composite": "CREATE TYPE odd AS (id bigint)",
    }
    trap.run(made[kind])
    trap.run("CREATE TABLE procrastinate_workers (id odd, last_heartbeat timestamptz)")
    trap.run("GRANT SELECT ON procrastinate_workers TO headroom_queue")
    error = await refused(trap)
    assert error.reason is Reason.QUEUE_UNSAFE
    assert "id public.odd" in str(error)


@pytest.mark.parametrize("right", ["pg_signal_backend", "pg_read_all_data", "pg_monitor", "CREATEROLE", "SUPERUSER"])
async def test_a_login_that_may_more_than_read_the_tables(trap: Shop, right: str) -> None:
    is_role = right.startswith("pg_")
    trap.server.sql(f"GRANT {right} TO headroom_queue" if is_role else f"ALTER ROLE headroom_queue {right}")
    try:
        error = await refused(trap)
        assert error.reason is Reason.LOGIN_TOO_POWERFUL
        assert (right if is_role else QUEUE.username) in str(error)
    finally:
        trap.server.sql(f"REVOKE {right} FROM headroom_queue" if is_role else f"ALTER ROLE headroom_queue NO{right}")
    assert (await sample(trap)).backlog == 3


async def test_the_guards_login_is_refused_although_it_could_read(trap: Shop) -> None:
    trap.server.sql(f"GRANT SELECT ON ALL TABLES IN SCHEMA public TO {MONITOR.username}")
    spec = PostgresQueue.model_validate({"preset": "procrastinate"})
    with pytest.raises(SignalUnavailable) as caught:
        await take_sample(PostgresQueueProbes().open(spec, await trap.open_queue(MONITOR)))
    assert caught.value.reason is Reason.LOGIN_TOO_POWERFUL


async def test_an_owner_that_reads_its_own_tables_runs_only_its_own_code(trap: Shop) -> None:
    trap.server.sql(f"ALTER ROLE {APPLICATION.username} CREATEROLE")
    try:
        spec = PostgresQueue.model_validate({"preset": "procrastinate"})
        probe = PostgresQueueProbes().open(spec, await trap.open_queue(APPLICATION))
        assert (await take_sample(probe)).backlog == 3
    finally:
        trap.server.sql(f"ALTER ROLE {APPLICATION.username} NOCREATEROLE")


async def read_twice(link: QueueLink, tables: Any) -> None:
    for _ in range(2):
        await link.read("SELECT count(id) FROM public.procrastinate_jobs", tables=tables)


async def test_the_arguments_of_jobs_stay_closed(trap: Shop) -> None:
    link = await trap.open_queue()
    with pytest.raises(SignalUnavailable) as caught:
        await link.query("SELECT args FROM public.procrastinate_jobs")
    assert caught.value.reason is Reason.MISSING_RIGHT


async def test_nothing_is_left_on_the_connection(trap: Shop) -> None:
    link = await trap.open_queue()
    await read_twice(link, QueueTables("public", {"procrastinate_jobs": ("id",)}))
    for name, value in (("search_path", '"$user", public'), ("row_security", "on")):
        sql = "SELECT count(*) AS same WHERE current_setting(%(name)s) = %(value)s"
        assert await link.query(sql, {"name": name, "value": value}) == [{"same": 1}], (
            "the author's SQL means what it did"
        )


async def test_a_lock_on_the_table_is_waited_for_a_moment_only(trap: Shop) -> None:
    link = await trap.open_queue()
    with trap.server.connect(APPLICATION.username, APPLICATION.password) as owner, owner.transaction():
        owner.execute("LOCK TABLE procrastinate_jobs IN ACCESS EXCLUSIVE MODE")
        began = asyncio.get_running_loop().time()
        with pytest.raises(SignalUnavailable):
            await link.read("SELECT 1 AS one", tables=QueueTables("public", {"procrastinate_jobs": ("id",)}))
        assert asyncio.get_running_loop().time() - began < 1.0


def test_which_servers_refuse_views_by_themselves() -> None:
    known = {140012: False, 140013: True, 150007: False, 150008: True, 160003: False, 160004: True, 170000: True}
    assert {version: tables_module.restricts_views(version) for version in known} == known
    assert tables_module.restricts_views(180001)
    assert psycopg.pq.version() >= 160000
