"""Who is let into a replica on real servers: clients as the spec says, and nobody who could run programs in its pod."""

import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import psycopg
import pytest
from psycopg import sql

from tests.integration.replicas.volume import SLOT, Volume
from tests.postgres_server import APPLICATION, DATABASE, MONITOR, Server

pytestmark = pytest.mark.postgres
PASSWORD = "known"
OF_ONE = (f"hostssl {DATABASE} {APPLICATION.username} all scram-sha-256",)
OF_ALL = ("host all all all trust",)
ROLES = {
    "postgres": "ALTER ROLE postgres PASSWORD {password}",
    "root": "CREATE ROLE root SUPERUSER LOGIN PASSWORD {password}",
    "heir": "CREATE ROLE heir LOGIN PASSWORD {password}; GRANT root TO heir",
    "grandchild": "CREATE ROLE grandchild NOINHERIT LOGIN PASSWORD {password}; GRANT heir TO grandchild",
    "runner": "CREATE ROLE runner LOGIN PASSWORD {password}; GRANT pg_execute_server_program TO runner",
    "reader": "CREATE ROLE reader LOGIN PASSWORD {password}; GRANT pg_read_server_files TO reader",
    "writer": "CREATE ROLE writer LOGIN PASSWORD {password}; GRANT pg_write_server_files TO writer",
}
"""Each of them has a shell on the server in the end, or reads the password of replication there."""
ODD_NAMES = ("all", "+postgres", 'a"b', "a b", "a,b", "@file", "#", "\u00c1", "samerole", "back\\slash\\")

Maker = Callable[..., Volume]


@pytest.fixture
def make_volume(primary: Server) -> Iterator[Maker]:
    made: list[Volume] = []

    def make(hba: Sequence[str] = (), *, allows_plaintext: bool = False) -> Volume:
        primary.sql("SELECT pg_create_physical_replication_slot(%s, true)", [SLOT])
        folder, target = primary.installation.make_folder(), primary.target(tls_mode="disable")
        volume = Volume(primary, folder, target, hba=hba, allows_plaintext=allows_plaintext)
        made.append(volume)
        return volume

    yield make
    for volume in made:
        volume.close()


def start(volume: Volume) -> None:
    seeded = volume.run("seed.sh")
    assert seeded.returncode == 0, seeded.stderr
    volume.start()


def make_role(primary: Server, name: str, attributes: str = "") -> None:
    statement = sql.SQL("CREATE ROLE {} LOGIN PASSWORD {} " + attributes)
    primary.sql(statement.format(sql.Identifier(name), sql.Literal(PASSWORD)).as_string(None))


def run_program(volume: Volume, role: str, sslmode: str) -> bool:
    """The attack: whether a role gets to run a program in the replica's pod, over the network."""
    trace = volume.folder / "run" / f"trace-{role}-{sslmode}"
    try:
        with volume.connect(user=role, password=PASSWORD, sslmode=sslmode, autocommit=True) as connection:
            connection.execute(f"COPY (SELECT 'was here') TO PROGRAM 'cat >{trace}'")
    except psycopg.Error:
        return trace.exists()
    return True


@pytest.mark.parametrize("hba", [(), OF_ONE, OF_ALL], ids=["no lines", "one role", "all trusted"])
def test_nobody_runs_a_program_in_a_replica_over_the_network(
    make_volume: Maker, primary: Server, hba: tuple[str]
) -> None:
    for statement in ROLES.values():
        primary.sql(statement.format(password=f"'{PASSWORD}'"))
    volume = make_volume(hba, allows_plaintext=True)
    start(volume)
    found = [(role, mode) for role in ROLES for mode in ("disable", "require") if run_program(volume, role, mode)]
    assert found == []
    refusals = {role: volume.find_refusal(user=role, password=PASSWORD, sslmode="require") for role in ROLES}
    assert all(refusal is not None and "pg_hba.conf rejects" in refusal for refusal in refusals.values()), refusals
    application = {"user": APPLICATION.username, "password": APPLICATION.password}
    assert volume.find_refusal(sslmode="require", **application) is None
    assert volume.find_refusal() is None, "the monitor is always let in"


def test_a_role_that_becomes_a_superuser_is_refused_without_a_restart(make_volume: Maker, primary: Server) -> None:
    make_role(primary, "late")
    volume = make_volume()
    start(volume)
    assert volume.find_refusal(user="late", password=PASSWORD) is None
    primary.sql("ALTER ROLE late SUPERUSER")
    end = time.monotonic() + 10
    while volume.find_refusal(user="late", password=PASSWORD) is None:
        assert time.monotonic() < end, (volume.folder / "run" / "superusers").read_text()
        time.sleep(0.1)
    primary.sql("ALTER ROLE late NOSUPERUSER")
    while (refusal := volume.find_refusal(user="late", password=PASSWORD)) is not None:
        assert time.monotonic() < end + 10, refusal
        time.sleep(0.1)


def test_a_superuser_of_any_name_is_refused_and_its_name_refuses_nobody_else(
    make_volume: Maker, primary: Server
) -> None:
    for name in ODD_NAMES:
        make_role(primary, name, "SUPERUSER")
    volume = make_volume(OF_ALL)
    start(volume)
    let_in = [name for name in ODD_NAMES if volume.find_refusal(user=name, password=PASSWORD) is None]
    assert let_in == []
    assert volume.find_refusal(user=APPLICATION.username, password="") is None


@pytest.mark.parametrize("name", ["a\nb", "/", "/("])
def test_a_superuser_whose_name_fits_no_line_lets_nobody_in(make_volume: Maker, primary: Server, name: str) -> None:
    make_role(primary, name, "SUPERUSER")
    volume = make_volume(OF_ALL)
    start(volume)
    for role in (name, APPLICATION.username):
        assert volume.find_refusal(user=role, password=PASSWORD) is not None
    assert volume.find_refusal() is None


@pytest.mark.parametrize("hba", [(), OF_ALL], ids=["no lines", "all trusted"])
def test_a_server_without_a_superuser_who_may_log_in_starts(
    make_volume: Maker, primary: Server, hba: tuple[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A usual hardening; who may log in again, or becomes a superuser, is refused as soon as it is seen."""
    primary.sql(f"ALTER ROLE postgres PASSWORD '{PASSWORD}'")
    make_role(primary, "late")
    volume = make_volume(hba)
    # A superuser cannot be asked for them later. The session that locks itself out stays, and is the way back.
    monkeypatch.setattr(Volume, "facts", volume.facts)
    with primary.connect() as superuser:
        superuser.execute("ALTER ROLE postgres NOLOGIN")
        try:
            assert volume.run("seed.sh").returncode == 0
            volume.start()
            logins: tuple[dict[str, str], ...] = {}, {"user": "late", "password": PASSWORD}
            assert [volume.find_refusal(**login) for login in logins] == [None, None]
            assert (volume.folder / "run" / "superusers").read_text() == '""\n'
            superuser.execute("ALTER ROLE late SUPERUSER")
            end = time.monotonic() + 10
            while volume.find_refusal(user="late", password=PASSWORD) is None:
                assert time.monotonic() < end
                time.sleep(0.1)
        finally:
            superuser.execute("ALTER ROLE postgres LOGIN")
    while volume.find_refusal(user="postgres", password=PASSWORD) is None:
        assert time.monotonic() < end + 10
        time.sleep(0.1)


def test_the_users_lines_are_all_there_is(make_volume: Maker, primary: Server) -> None:
    make_role(primary, "other")
    volume = make_volume(OF_ONE)
    start(volume)
    assert volume.find_refusal(user="other", password=PASSWORD) is not None
    application = {"user": APPLICATION.username, "password": APPLICATION.password}
    assert volume.find_refusal(**application) is None
    assert volume.find_refusal(sslmode="disable", **application) is not None


@pytest.mark.parametrize("allows_plaintext", [False, True])
def test_clients_without_tls_are_let_in_by_intent_only(make_volume: Maker, *, allows_plaintext: bool) -> None:
    volume = make_volume(allows_plaintext=allows_plaintext)
    start(volume)
    application = {"user": APPLICATION.username, "password": APPLICATION.password}
    assert volume.find_refusal(**application) is None, "whoever may speak TLS does"
    assert (volume.find_refusal(sslmode="disable", **application) is None) is allows_plaintext


def test_nobody_is_let_in_before_it_is_known_who_is_a_superuser(make_volume: Maker, primary: Server) -> None:
    volume = make_volume(OF_ALL)
    assert volume.run("seed.sh").returncode == 0
    # A login that the server does not know asks it for nothing.
    volume.server = volume.begin("start.sh", DATABASE="missing")
    volume.wait_for_log("ready to accept read-only connections")
    started = volume.run("started.sh", DATABASE="missing")
    assert (started.returncode, "superusers: " in started.stderr) == (1, True), started.stderr
    assert volume.find_refusal(user=APPLICATION.username, password="") is not None
    assert volume.run("started.sh").returncode == 0
    end = time.monotonic() + 5
    while volume.find_refusal(user=APPLICATION.username, password="") is not None:
        assert time.monotonic() < end
        time.sleep(0.05)


def test_the_socket_in_the_pod_is_for_the_server_and_a_person_in_the_container(make_volume: Maker) -> None:
    volume = make_volume()
    start(volume)
    for role in ("postgres", MONITOR.username):
        assert volume.find_refusal(host=str(volume.folder / "run"), user=role, password="") is None
    [socket] = Path(volume.folder / "run").glob(".s.PGSQL.*[0-9]")
    assert oct(socket.stat().st_mode & 0o777) == "0o700"
