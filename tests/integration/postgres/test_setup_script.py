"""headroom-setup.sql: what it makes is enough, it can be run again, and it refuses what it cannot do."""

import pytest

from headroom.model.database import Credentials
from headroom.ports.postgres import Postgres
from tests.postgres_server import DATABASE, MONITOR, REPLICATION, SETUP_SQL, Server, ServerMaker


def fresh(primary: Server) -> Server:
    for role in (MONITOR.username, REPLICATION.username):
        for database in (DATABASE, "postgres"):
            primary.sql(f'DROP OWNED BY "{role}"', database=database)
        primary.sql(f'DROP ROLE "{role}"')
    return primary


async def test_its_roles_lack_nothing(postgres: Postgres, primary: Server) -> None:
    link = await postgres.open_primary(primary.target())
    facts = await link.identify()
    assert facts.missing_rights == ()
    assert not facts.is_superuser
    assert (await link.mark()).lsn > 0
    slots = await postgres.open_slots(primary.target(), REPLICATION)
    assert await slots.check_replication() == facts.system_identifier
    assert (await slots.ensure_slot("hr_a")).restart_lsn is not None


async def test_it_can_be_run_again_with_and_without_passwords(postgres: Postgres, primary: Server) -> None:
    before = primary.sql("SELECT rolname, rolpassword FROM pg_authid WHERE rolname LIKE 'headroom%' ORDER BY 1")
    run_without_passwords(primary)
    assert primary.sql("SELECT rolname, rolpassword FROM pg_authid WHERE rolname LIKE 'headroom%' ORDER BY 1") == before
    primary.run_setup_script(monitor_password="another one's")
    link = await postgres.open_primary(primary.target(Credentials(MONITOR.username, "another one's")))
    assert (await link.identify()).missing_rights == ()


async def test_names_may_be_chosen(postgres: Postgres, primary: Server) -> None:
    primary.run_setup_script(monitor_role='odd "name', replication_role="streams", monitor_password="x")
    link = await postgres.open_primary(primary.target(Credentials('odd "name', "x")))
    assert (await link.identify()).missing_rights == ()


def run_without_passwords(server: Server) -> str:
    script = server.folder / "setup-again.sql"
    script.write_text(SETUP_SQL.read_text())
    script.chmod(0o644)
    return server.run_tool(
        "psql", "-X", "-h", "127.0.0.1", "-p", str(server.port), "-U", "postgres", "-d", DATABASE, "-f", str(script)
    )


def test_new_roles_need_passwords_and_nothing_is_half_done(primary: Server) -> None:
    fresh(primary)
    with pytest.raises(AssertionError, match="monitor_password"):
        run_without_passwords(primary)
    assert primary.sql("SELECT rolname FROM pg_roles WHERE rolname LIKE 'headroom%'") == []


def test_a_managed_service_gets_the_monitor_alone(primary: Server) -> None:
    fresh(primary)
    primary.run_setup_script(only_monitor="1")
    assert [row["rolname"] for row in primary.sql("SELECT rolname FROM pg_roles WHERE rolname LIKE 'headroom%'")] == [
        MONITOR.username
    ]


def test_a_standby_is_refused_with_a_sentence(primary: Server, servers: ServerMaker) -> None:
    replica = servers.make_replica(primary)
    with pytest.raises(AssertionError, match="Run the script on the primary"):
        replica.run_setup_script()


def test_the_monitor_owns_nothing_and_may_write_nothing(primary: Server) -> None:
    primary.sql("CREATE TABLE public.accounts (id int)")
    rows = primary.sql(
        "SELECT has_table_privilege(%s, 'public.accounts', 'SELECT') AS reads,"
        " has_table_privilege(%s, 'public.accounts', 'INSERT, UPDATE, DELETE, TRUNCATE') AS writes,"
        " has_table_privilege(%s, 'public.accounts', 'SELECT') AS replication_reads,"
        " EXISTS (SELECT FROM pg_class c JOIN pg_roles r ON r.oid = c.relowner WHERE r.rolname = %s) AS owns",
        [MONITOR.username, MONITOR.username, REPLICATION.username, MONITOR.username],
    )
    assert rows == [{"reads": True, "writes": False, "replication_reads": False, "owns": False}]


def test_no_password_reaches_the_servers_log(servers: ServerMaker) -> None:
    server = servers.make(log_statement="all")
    server.run_setup_script(monitor_password="do-not-log-me")
    assert "do-not-log-me" not in server.log.read_text()
