"""What a login for queues may have beside the tables of the queue: nothing that their owner lacks.

The owner's code could run as that login. Each right is refused with the statement that takes it away, and an ordinary
setup, also on a managed server, is accepted.
"""

import re
from collections.abc import Iterator
from typing import Any

import pytest

from headroom.adapters.postgres import tables as tables_module
from headroom.adapters.postgres.queues import PostgresQueueProbes
from headroom.adapters.postgres.table_check import CHECK
from headroom.api.v1alpha1.queue import PostgresQueue
from headroom.errors import SignalUnavailable
from headroom.model.database import Credentials
from headroom.model.queue import QueueSample
from headroom.ports.signals import QueueTables
from headroom.reasons import Reason
from tests.integration.queues.conftest import Shop
from tests.integration.queues.probing import take_sample
from tests.postgres_server import APPLICATION, QUEUE, QUEUE_SQL, Server

ROLES = ("billing", "clerk", "group_of_groups", "crew", "master", "made_by_master", "other_owner")
SECRETS = """
CREATE TABLE cards (number text);
CREATE FUNCTION open_till() RETURNS integer LANGUAGE sql SECURITY DEFINER AS 'SELECT 1';
REVOKE ALL ON FUNCTION open_till() FROM PUBLIC;
ALTER TABLE cards OWNER TO billing;
GRANT billing TO group_of_groups
"""


@pytest.fixture
def server(queue_server: Server) -> Iterator[Server]:
    """With roles that own what the application does not, and the login for queues as it was, at the end."""
    for role in ROLES:
        queue_server.sql(f"CREATE ROLE {role}", database="postgres")
    queue_server.sql("ALTER ROLE clerk LOGIN", database="postgres")
    yield queue_server
    queue_server.sql(
        f"ALTER ROLE {QUEUE.username} NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS NOSUPERUSER",
        database="postgres",
    )
    for role in reversed(ROLES):
        queue_server.sql(f"DROP ROLE IF EXISTS {role}", database="postgres")


@pytest.fixture
def bank(server: Server, shop: Shop) -> Shop:
    """A queue with three jobs, and beside it a table and a function that its owner may not use."""
    shop.server.sql(SECRETS)
    shop.defer(3, ago=50.0)
    return shop


async def sample(shop: Shop, login: Credentials = QUEUE, schema: str = "public") -> QueueSample:
    spec = PostgresQueue.model_validate({"preset": "procrastinate", "schema": schema})
    return await take_sample(PostgresQueueProbes().open(spec, await shop.open_queue(login)))


ATTRIBUTES = ("CREATEDB", "CREATEROLE", "REPLICATION", "BYPASSRLS", "SUPERUSER")
GIVEN = {
    **{f"ALTER ROLE headroom_queue {name}": f"has {name}" for name in ATTRIBUTES},
    "GRANT pg_read_all_data TO headroom_queue": "is a member of pg_read_all_data",
    "GRANT billing TO headroom_queue": "is a member of billing, which may read public.cards",
    "GRANT group_of_groups TO headroom_queue": "is a member of billing, which may read public.cards",
    "GRANT clerk TO headroom_queue": "is a member of clerk",
    "ALTER ROLE crew CREATEDB; GRANT crew TO headroom_queue": "is a member of crew, which has CREATEDB",
    "ALTER ROLE crew BYPASSRLS; GRANT crew TO headroom_queue": "is a member of crew, which has BYPASSRLS",
    "GRANT SELECT ON cards TO headroom_queue": "may read public.cards",
    "GRANT SELECT (number) ON cards TO headroom_queue": "may read public.cards",
    "GRANT ALL ON cards TO headroom_queue": "may read public.cards",
    "GRANT SELECT ON pg_authid TO headroom_queue": "may read pg_authid",
    "GRANT EXECUTE ON FUNCTION open_till() TO headroom_queue": "may call public.open_till()",
}


@pytest.mark.parametrize("statement", GIVEN)
async def test_a_right_that_the_tables_owner_lacks_is_refused_until_it_is_taken_away(
    bank: Shop, statement: str
) -> None:
    bank.server.sql(statement)
    with pytest.raises(SignalUnavailable) as caught:
        await sample(bank)
    assert caught.value.reason is Reason.LOGIN_TOO_POWERFUL
    assert f"the login {GIVEN[statement]}" in str(caught.value)
    remedy = re.search("run ((ALTER|REVOKE) .*), or give the queue a separate login", str(caught.value))
    assert remedy is not None
    bank.server.sql(remedy[1])
    assert (await sample(bank)).backlog == 3, "the remedy is enough"


async def test_a_grant_by_another_role_is_taken_back_as_that_role_gave_it(bank: Shop) -> None:
    bank.server.sql("GRANT billing TO clerk WITH ADMIN OPTION")
    bank.server.sql("SET ROLE clerk; GRANT billing TO headroom_queue")
    with pytest.raises(SignalUnavailable) as caught:
        await sample(bank)
    bank.server.sql(str(caught.value).partition("run ")[2].partition(", or")[0])
    assert (await sample(bank)).backlog == 3


async def test_reading_past_row_policies_opens_the_queue_and_no_other_table(bank: Shop) -> None:
    """It is the remedy for row policies of the queue."""
    bank.run("ALTER TABLE procrastinate_jobs ENABLE ROW LEVEL SECURITY")
    bank.server.sql("ALTER ROLE headroom_queue BYPASSRLS")
    assert (await sample(bank)).backlog == 3
    bank.server.sql("ALTER TABLE cards ENABLE ROW LEVEL SECURITY; GRANT SELECT ON cards TO PUBLIC")
    with pytest.raises(SignalUnavailable, match=r"has BYPASSRLS, which opens public.cards") as caught:
        await sample(bank)
    assert caught.value.reason is Reason.LOGIN_TOO_POWERFUL
    bank.server.sql("REVOKE SELECT ON cards FROM PUBLIC")
    assert (await sample(bank)).backlog == 3


async def test_what_the_owner_may_do_as_well_is_accepted(bank: Shop) -> None:
    bank.server.sql(f"""
        GRANT CONNECT ON DATABASE store TO crew; GRANT crew TO headroom_queue;
        GRANT SELECT ON cards TO headroom_queue; GRANT SELECT (number) ON cards TO {APPLICATION.username};
        CREATE TABLE open_to_all (id int); GRANT SELECT ON open_to_all TO PUBLIC;
        GRANT {APPLICATION.username} TO headroom_queue""")
    try:
        assert (await sample(bank)).backlog == 3
    finally:
        bank.server.sql(f"REVOKE {APPLICATION.username} FROM headroom_queue")


async def test_one_login_reads_the_queues_of_several_schemas(bank: Shop) -> None:
    """The usual setup of a database that two applications share: each owns its queue."""
    bank.server.sql("CREATE SCHEMA other AUTHORIZATION other_owner")
    for name in ("jobs", "events", "workers"):
        bank.server.sql(
            f"CREATE TABLE other.procrastinate_{name} (LIKE public.procrastinate_{name} INCLUDING ALL);"
            f"ALTER TABLE other.procrastinate_{name} OWNER TO other_owner"
        )
    bank.server.run_script(QUEUE_SQL, queue_schema="other")
    assert (await sample(bank)).backlog == 3
    assert (await sample(bank, schema="other")).backlog == 0
    bank.server.sql(
        "SET ROLE other_owner; CREATE TABLE other.more (id int); GRANT SELECT ON other.more TO headroom_queue"
    )
    with pytest.raises(SignalUnavailable, match=r"may read other.more"):
        await sample(bank)


async def test_a_member_of_the_owning_role_on_a_managed_server(bank: Shop) -> None:
    """An administrator, not a superuser, has made the schema, the owner's role and the login."""
    bank.server.sql("""
        ALTER ROLE master CREATEROLE CREATEDB; GRANT CREATE ON DATABASE store TO master; DROP ROLE made_by_master;
        SET ROLE master;
        CREATE ROLE made_by_master LOGIN PASSWORD 'made'; CREATE SCHEMA app;
        RESET ROLE;
        CREATE TABLE app.jobs (id bigint); ALTER TABLE app.jobs OWNER TO crew; GRANT crew TO made_by_master;
        CREATE TABLE app.orders (id bigint); ALTER TABLE app.orders OWNER TO crew;
        GRANT USAGE ON SCHEMA app TO made_by_master""")
    link = await bank.open_queue(Credentials("made_by_master", "made"))
    tables = QueueTables("app", {"jobs": ("id",)})
    assert await link.read("SELECT count(id) AS n FROM app.jobs", tables=tables) == [{"n": 0}]


async def test_a_foreign_part_that_comes_after_the_check(bank: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a server that does not refuse foreign tables by itself."""
    bank.server.sql("CREATE EXTENSION file_fdw; CREATE SERVER files FOREIGN DATA WRAPPER file_fdw")
    bank.server.sql("CREATE TABLE parts (id bigint) PARTITION BY RANGE (id); GRANT SELECT ON parts TO headroom_queue")
    bank.server.sql("CREATE FOREIGN TABLE late (id bigint) SERVER files OPTIONS (filename '/etc/passwd')")
    ask = tables_module._ask

    async def attach_after(link: Any, statement: str, tables: QueueTables) -> Any:
        found = await ask(link, statement, tables)
        if statement == CHECK:
            # What needs no more than the lock that the read leaves free.
            bank.server.sql("ALTER TABLE parts ATTACH PARTITION late FOR VALUES FROM (0) TO (9)")
        return found

    monkeypatch.setattr(tables_module, "_ask", attach_after)
    monkeypatch.setattr(tables_module, "restricts_views", lambda _: False)
    link = await bank.open_queue()
    with pytest.raises(SignalUnavailable, match="were replaced while they were read"):
        await link.read("SELECT count(id) AS n FROM public.parts", tables=QueueTables("public", {"parts": ("id",)}))
