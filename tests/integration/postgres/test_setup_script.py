"""headroom-setup.sql: what it makes is enough, it can be run again, and it refuses what it cannot do."""

import contextlib
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from headroom.model.database import Credentials
from headroom.ports.postgres import Postgres
from tests.postgres_server import (
    APPLICATION,
    DATABASE,
    MONITOR,
    QUEUE,
    REPLICATION,
    SETUP_SQL,
    WARMUP,
    Server,
    ServerMaker,
)


def fresh(primary: Server) -> Server:
    for role in (MONITOR.username, QUEUE.username, REPLICATION.username):
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
    primary.run_setup_script(passwords={})
    assert primary.sql("SELECT rolname, rolpassword FROM pg_authid WHERE rolname LIKE 'headroom%' ORDER BY 1") == before
    primary.run_setup_script(passwords={"MONITOR_PASSWORD": "another one's"})
    link = await postgres.open_primary(primary.target(Credentials(MONITOR.username, "another one's")))
    assert (await link.identify()).missing_rights == ()


async def test_names_may_be_chosen(postgres: Postgres, primary: Server) -> None:
    names = {"monitor_role": 'odd "name', "queue_role": "odd'queue", "replication_role": "streams"}
    primary.run_setup_script(passwords={"MONITOR_PASSWORD": "x"}, **names)
    link = await postgres.open_primary(primary.target(Credentials('odd "name', "x")))
    assert (await link.identify()).missing_rights == ()


def test_new_roles_without_passwords_cannot_log_in_and_are_named(primary: Server) -> None:
    fresh(primary)
    primary.run_setup_script(passwords={})
    rows = primary.sql("SELECT rolname, rolpassword FROM pg_authid WHERE rolname LIKE 'headroom%' ORDER BY 1")
    assert [(row["rolname"], row["rolpassword"]) for row in rows] == [
        (login.username, None) for login in (MONITOR, QUEUE, REPLICATION)
    ]


def test_a_password_that_no_verifier_can_be_made_of_changes_nothing(primary: Server) -> None:
    fresh(primary)
    with pytest.raises(AssertionError, match="no verifier can be made"):
        primary.run_setup_script(passwords={"MONITOR_PASSWORD": "pässwörd"})
    assert primary.sql("SELECT rolname FROM pg_roles WHERE rolname LIKE 'headroom%'") == []


def test_a_managed_service_gets_the_monitor_alone(primary: Server) -> None:
    fresh(primary)
    primary.run_setup_script(only_monitor="1")
    rows = primary.sql("SELECT rolname FROM pg_roles WHERE rolname LIKE 'headroom%' ORDER BY 1")
    assert [row["rolname"] for row in rows] == [MONITOR.username, QUEUE.username]


def test_a_standby_is_refused_with_a_sentence(primary: Server, servers: ServerMaker) -> None:
    replica = servers.make_replica(primary)
    with pytest.raises(AssertionError, match="Run the script on the primary"):
        replica.run_setup_script()


@pytest.mark.parametrize("times", [1, 2])
def test_the_login_for_caches_is_made_when_it_is_asked_for(primary: Server, times: int) -> None:
    assert primary.sql("SELECT 1 FROM pg_roles WHERE rolname = %s", [WARMUP.username]) == []
    assert primary.sql("SELECT 1 FROM pg_extension WHERE extname IN ('pg_buffercache', 'pg_prewarm')") == []
    for _ in range(times):
        primary.run_setup_script(warmup="1")
    found = primary.sql(
        "SELECT ARRAY(SELECT g.rolname::text FROM pg_auth_members m JOIN pg_roles g ON g.oid = m.roleid"
        "             WHERE m.member = r.oid) AS member_of, rolsuper OR rolcreaterole OR rolreplication AS is_more,"
        " (SELECT rolpassword LIKE 'SCRAM-SHA-256$%%' FROM pg_authid a WHERE a.oid = r.oid) AS is_scram"
        " FROM pg_roles r WHERE rolname = %s",
        [WARMUP.username],
    )
    assert found == [{"member_of": ["pg_read_all_data"], "is_more": False, "is_scram": True}]
    made = primary.sql(
        "SELECT extname::text AS name, extnamespace::regnamespace::text AS schema FROM pg_extension"
        " WHERE extname LIKE 'pg%%' ORDER BY 1"
    )
    assert made == [{"name": "pg_buffercache", "schema": "headroom"}, {"name": "pg_prewarm", "schema": "headroom"}]
    with primary.connect(WARMUP.username, WARMUP.password) as client:
        assert client.execute("SELECT 1 AS one").fetchall() == [{"one": 1}]


@pytest.mark.parametrize("login", [MONITOR, QUEUE, REPLICATION], ids=lambda login: login.username)
def test_no_login_owns_or_reads_or_writes_a_table(primary: Server, login: Credentials) -> None:
    primary.sql("CREATE TABLE public.accounts (id int)")
    rows = primary.sql(
        "SELECT has_table_privilege(%s, 'public.accounts', 'SELECT') AS reads,"
        " has_table_privilege(%s, 'public.accounts', 'INSERT, UPDATE, DELETE, TRUNCATE') AS writes,"
        " has_table_privilege(%s, 'pg_catalog.pg_authid', 'SELECT') AS reads_verifiers,"
        " EXISTS (SELECT FROM pg_class c JOIN pg_roles r ON r.oid = c.relowner WHERE r.rolname = %s) AS owns",
        [login.username] * 4,
    )
    assert rows == [{"reads": False, "writes": False, "reads_verifiers": False, "owns": False}]


def test_the_login_for_queues_is_a_member_of_nothing(primary: Server) -> None:
    found = primary.sql(
        "SELECT m.roleid FROM pg_auth_members m JOIN pg_roles r ON r.oid = m.member WHERE r.rolname = %s",
        [QUEUE.username],
    )
    assert found == []


def test_what_an_earlier_version_gave_too_much_is_taken_back(primary: Server) -> None:
    primary.sql(f"GRANT pg_read_all_data TO {MONITOR.username}")
    reads = "SELECT pg_has_role(%s, 'pg_read_all_data', 'MEMBER') AS reads"
    assert primary.sql(reads, [MONITOR.username])[0]["reads"]
    for _ in range(2):
        primary.run_setup_script()
        assert not primary.sql(reads, [MONITOR.username])[0]["reads"]


ODD = """it's $odd "x" `id` \\n %s :name"""


def test_no_password_reaches_the_server_or_a_command_line(servers: ServerMaker) -> None:
    """Neither log nor statistics nor the arguments of a process have it, and a verifier only the first two for others
    than superusers.
    """
    server = servers.make(
        log_statement="all",
        log_min_duration_statement="0",
        shared_preload_libraries="pg_stat_statements",
        **{"pg_stat_statements.track": "all", "pg_stat_statements.track_utility": "on"},
    )
    server.sql("CREATE EXTENSION pg_stat_statements")
    passwords = {f"{name}_PASSWORD": f"do-not-log-{name}" for name in ("MONITOR", "QUEUE", "REPLICATION", "WARMUP")}
    with seen_arguments() as arguments:
        server.run_setup_script(passwords=passwords, warmup="1")
    assert any("headroom-setup.sql" in line for line in arguments), "psql was seen"
    assert not [line for line in arguments if "do-not-log" in line]
    kept = [row["query"] for row in server.sql("SELECT query FROM pg_stat_statements")]
    assert kept
    for text in (*kept, server.log.read_text()):
        assert "do-not-log" not in text
        assert "SCRAM-SHA-256$4096" not in text
    with server.connect(QUEUE.username, passwords["QUEUE_PASSWORD"]) as client:
        assert client.execute("SELECT current_user AS me").fetchall() == [{"me": QUEUE.username}]


@contextlib.contextmanager
def seen_arguments() -> Iterator[set[str]]:
    """The command lines of all processes of this machine while the block runs."""
    found: set[str] = set()
    is_over = threading.Event()

    def watch() -> None:
        while not is_over.is_set():
            for path in Path("/proc").glob("[0-9]*/cmdline"):
                with contextlib.suppress(OSError):
                    found.add(path.read_bytes().replace(b"\0", b" ").decode(errors="replace"))

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield found
    finally:
        is_over.set()
        watcher.join()


@pytest.mark.parametrize("password", ["plain", ODD])
@pytest.mark.parametrize("without", ["", "python3"])
def test_a_password_of_any_ascii_letters_lets_its_role_in(primary: Server, password: str, without: str) -> None:
    path = os.environ["PATH"]
    if without:
        broken = primary.folder / "bin" / without
        broken.parent.mkdir()
        broken.write_text("#!/bin/sh\nexit 1\n")
        for place in (broken.parent, broken):
            place.chmod(0o755)
        path = f"{broken.parent}:{path}"
    primary.run_setup_script(passwords={"QUEUE_PASSWORD": password, "PATH": path})
    with primary.connect(QUEUE.username, password) as client:
        assert client.execute("SELECT 1 AS one").fetchall() == [{"one": 1}]


def test_passwords_may_stand_before_the_script_on_standard_input(primary: Server) -> None:
    text = "\\set queue_password 'it''s another'\n" + SETUP_SQL.read_text()
    primary.run_tool(
        "psql", "-X", "-h", "127.0.0.1", "-p", str(primary.port), "-U", "postgres", "-d", DATABASE, "-f", "-",
        stdin=text,
    )  # fmt: skip
    with primary.connect(QUEUE.username, "it's another") as client:
        assert client.execute("SELECT 1 AS one").fetchall() == [{"one": 1}]


async def test_the_login_for_queues_reads_no_other_role(postgres: Postgres, primary: Server) -> None:
    link = await postgres.open_queue(primary.target(QUEUE))
    rows = await link.query(
        "SELECT count(*) AS seen FROM pg_stat_activity WHERE query NOT LIKE '<insufficient%%' AND usename <> %(me)s",
        {"me": QUEUE.username},
    )
    assert rows == [{"seen": 0}]
    assert APPLICATION.username != QUEUE.username
