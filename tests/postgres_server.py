"""Real PostgreSQL servers for tests: made from a template, on loopback, as an unprivileged user, gone at the end.

Binaries are taken from /usr/lib/postgresql/*/bin and from the root file systems in the cluster helper's cache, newest
major first; fixtures that take `installation` run once for each.
"""

import contextlib
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg.rows import dict_row

from headroom.adapters.network import Network
from headroom.adapters.postgres.dialer import Dialer
from headroom.model.database import ConnectionTarget, Credentials
from headroom.policy.hosts import HostPolicy, parse_host_rules
from tests.ports import find_free_port
from tests.postgres_installation import ONLY_ROOT, Installation, find_installations

REPOSITORY = Path(__file__).resolve().parents[1]
SETUP_SQL = REPOSITORY / "charts" / "headroom" / "files" / "headroom-setup.sql"
QUEUE_SQL = SETUP_SQL.with_name("headroom-queue-procrastinate.sql")
NO_SERVER = (
    f"no PostgreSQL server binaries in {os.environ[ONLY_ROOT]}, which {ONLY_ROOT} names"
    if os.environ.get(ONLY_ROOT)
    else "no PostgreSQL server binaries in /usr/lib/postgresql/*/bin and none in the cluster helper's cache: "
    "run `make setup-postgres`"
)
DATABASE = "store"
MONITOR = Credentials("headroom_monitor", "monitor-password")
REPLICATION = Credentials("headroom_replication", "replication-password")
WARMUP = Credentials("headroom_warmup", "warmup-password")
QUEUE = Credentials("headroom_queue", "queue-password")
APPLICATION = Credentials("shop", "shop-password")
START_SECONDS = 30.0
STOP_SECONDS = 20.0
SETTINGS: Mapping[str, str] = {
    "fsync": "off",
    "listen_addresses": "127.0.0.1",
    "max_connections": "40",
    "max_wal_senders": "10",
    "max_replication_slots": "10",
    "shared_buffers": "16MB",
    "wal_level": "replica",
    "wal_keep_size": "32MB",
    "max_wal_size": "32MB",
    "min_wal_size": "2MB",
    "max_slot_wal_keep_size": "512MB",
    "hot_standby": "on",
    "wal_retrieve_retry_interval": "200ms",
    "wal_receiver_status_interval": "1s",
    "log_min_messages": "warning",
    "autovacuum": "off",
}
HBA = """
local all all trust
host all postgres 127.0.0.1/32 trust
host all all 127.0.0.1/32 scram-sha-256
host replication all 127.0.0.1/32 scram-sha-256
"""


def local_dialer() -> Dialer:
    """Connects to servers of this machine too, which the operator refuses unless its administrator allows it."""
    allow = parse_host_rules(["0.0.0.0/0", "::/0", "127.0.0.0/8", "::1"], "tests")
    return Dialer(Network(HostPolicy(allow=allow)))


@dataclass(eq=False)
class Server:
    """One server: its folder, its port, its process."""

    installation: Installation
    folder: Path
    port: int = field(default_factory=find_free_port)
    settings: dict[str, str] = field(default_factory=dict)
    hba: str = HBA
    process: subprocess.Popen[bytes] | None = None

    @property
    def data(self) -> Path:
        """The data directory."""
        return self.folder / "data"

    @property
    def log(self) -> Path:
        """What the server said."""
        return self.folder / "log"

    def start(self, *, wait: bool = True) -> None:
        """Start it and wait until it accepts connections."""
        (self.data / "pg_hba.conf").write_text(self.hba)
        options = [f"-c{name}={value}" for name, value in {**SETTINGS, **self.settings}.items()]
        command = self.installation.command(
            self.folder, "postgres", "-D", str(self.data), f"-p{self.port}", f"-k{self.folder}", *options
        )
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
        if wait:
            self.wait_until_ready()

    def wait_until_ready(self) -> None:
        """Return when a superuser can connect; fails with the server's log."""
        end = time.monotonic() + START_SECONDS
        while time.monotonic() < end:
            assert self.process is not None
            if self.process.poll() is not None:
                break
            with contextlib.suppress(psycopg.OperationalError):
                [row] = self.sql("SELECT current_setting('data_directory') AS folder", database="postgres")
                assert row["folder"] == str(self.data), f"port {self.port} belongs to the server in {row['folder']}"
                return
            time.sleep(0.05)
        raise AssertionError(f"PostgreSQL did not start within {START_SECONDS:g} s:\n{self.log.read_text()}")

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        """Fast shutdown by default; SIGQUIT is a crash."""
        if self.process is None:
            return
        if self.process.poll() is None:
            self.thaw()
            self.process.send_signal(how)
            try:
                self.process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                os.killpg(self.process.pid, signal.SIGKILL)
                self.process.wait(STOP_SECONDS)
        self.process = None

    def restart(self) -> None:
        """Stop fast and start again on the same port."""
        self.stop()
        self.start()

    def freeze(self) -> None:
        """Stop every process of it in its tracks: connections stay open and nothing answers."""
        self._signal_all(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on."""
        self._signal_all(signal.SIGCONT)

    def _signal_all(self, what: signal.Signals) -> None:
        assert self.process is not None
        for pid in [self.process.pid, *_children(self.process.pid)]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, what)

    def sql(self, statement: str, parameters: Sequence[Any] | None = None, *, database: str = DATABASE) -> list[Any]:
        """Run a statement as the superuser; rows as dicts, none for a statement without."""
        with self.connect(database=database) as connection:
            cursor = connection.execute(statement, parameters)
            return cursor.fetchall() if cursor.description else []

    def connect(self, user: str = "postgres", password: str = "", *, database: str = DATABASE) -> Any:
        """A blocking connection, autocommit, for the test's own use."""
        return psycopg.connect(
            host="127.0.0.1", port=self.port, user=user, password=password, dbname=database, autocommit=True,
            row_factory=dict_row, connect_timeout=3,
        )  # fmt: skip

    def target(self, credentials: Credentials = MONITOR, **changes: Any) -> ConnectionTarget:
        """How Headroom reaches it."""
        parts = {"host": "127.0.0.1", "port": self.port, "database": DATABASE, "tls_mode": "prefer", **changes}
        return ConnectionTarget(credentials=credentials, **parts)

    def initialise(self) -> None:
        """Make the data directory, start on it and set it up."""
        options = ("-U", "postgres", "-A", "trust", "-E", "UTF8", "--no-sync", "--wal-segsize=1")
        self.run_tool("initdb", "-D", str(self.data), *options)
        self.start()
        self.set_up()

    def set_up(self) -> None:
        """Make the database, run headroom-setup.sql as its users do, and make an ordinary role."""
        self.sql(f"CREATE DATABASE {DATABASE}", database="postgres")
        self.run_setup_script()
        self.sql(f"CREATE ROLE {APPLICATION.username} LOGIN PASSWORD '{APPLICATION.password}'")

    def run_setup_script(self, *, passwords: Mapping[str, str] | None = None, **variables: str) -> str:
        """Run headroom-setup.sql; `passwords` are by variable of the environment, and replace those of the tests."""
        logins = {"MONITOR": MONITOR, "QUEUE": QUEUE, "REPLICATION": REPLICATION, "WARMUP": WARMUP}
        known = {name: login.password for name, login in logins.items()}
        given = passwords if passwords is not None else {f"{name}_PASSWORD": value for name, value in known.items()}
        return self.run_script(SETUP_SQL, environment=given, **variables)

    def run_script(self, path: Path, *, environment: Mapping[str, str] | None = None, **variables: str) -> str:
        """Run a script of the chart by psql as a superuser; returns what it printed, raises with its errors."""
        script = self.folder / path.name
        shutil.copyfile(path, script)
        script.chmod(0o644)
        options = [f"-v{name}={value}" for name, value in variables.items()]
        return self.run_tool(
            "psql", "-X", "-h", "127.0.0.1", "-p", str(self.port), "-U", "postgres", "-d", DATABASE, *options,
            "-f", str(script), environment=environment,
        )  # fmt: skip

    def wait_for_replay(self, primary: "Server") -> None:
        """Return when this standby has replayed all that the primary has written by now."""
        wanted = primary.sql("SELECT pg_current_wal_insert_lsn()::text AS lsn")[0]["lsn"]
        end = time.monotonic() + START_SECONDS
        while not self.sql("SELECT pg_last_wal_replay_lsn() >= %s::pg_lsn AS has", [wanted])[0]["has"]:
            assert time.monotonic() < end, f"the standby did not reach {wanted}"
            time.sleep(0.02)

    def run_tool(
        self, tool: str, *arguments: str, environment: Mapping[str, str] | None = None, stdin: str | None = None
    ) -> str:
        """Run one of this version's programs to its end."""
        done = subprocess.run(
            self.installation.command(self.folder, tool, *arguments),
            env={**os.environ, **(environment or {})}, input=stdin, capture_output=True, text=True, timeout=120,
            check=False,
        )  # fmt: skip
        if done.returncode != 0:
            raise AssertionError(f"{tool} failed ({done.returncode}):\n{done.stdout}\n{done.stderr}")
        return done.stdout

    def make_replica(self, *, slot: str | None = None, settings: Mapping[str, str] | None = None) -> "Server":
        """A streaming standby of this server, by base backup."""
        replica = Server(self.installation, self.installation.make_folder(), settings=dict(settings or {}))
        options = ["--create-slot", f"--slot={slot}"] if slot else []
        conninfo = (
            f"host=127.0.0.1 port={self.port} user={REPLICATION.username} password={REPLICATION.password} "
            f"application_name=replica-{replica.port}"
        )
        replica.run_tool(
            "pg_basebackup", "-d", conninfo, "-D", str(replica.data), "-R", "-X", "stream", "--checkpoint=fast",
            "--no-sync", *options,
        )  # fmt: skip
        return replica

    def remove(self) -> None:
        """Stop it and delete its folder."""
        self.stop(signal.SIGQUIT)
        shutil.rmtree(self.folder, ignore_errors=True)


def _children(pid: int) -> list[int]:
    path = Path(f"/proc/{pid}/task/{pid}/children")
    return [int(text) for text in path.read_text().split()] if path.exists() else []


@dataclass
class ServerMaker:
    """Copies of one initialised and set-up data directory: initdb once, a copy takes a tenth of a second."""

    installation: Installation
    _template: Path | None = None
    _made: list[Server] = field(default_factory=list)

    def make(self, *, start: bool = True, hba: str = HBA, **settings: str) -> Server:
        """A new primary with the database and roles of `Server.set_up`."""
        template = self._ensure_template()
        server = Server(self.installation, self.installation.make_folder(), settings=settings, hba=hba)
        self._made.append(server)
        subprocess.run(["cp", "-a", str(template), str(server.data)], check=True)
        if start:
            server.start()
        return server

    def make_anew(self, **options: Any) -> Server:
        """A primary of another history: the same set-up, another system identifier."""
        server = Server(self.installation, self.installation.make_folder(), **options)
        self._made.append(server)
        server.initialise()
        return server

    def make_replica(self, primary: Server, **options: Any) -> Server:
        """A started standby of `primary`."""
        replica = primary.make_replica(**options)
        self._made.append(replica)
        replica.start()
        return replica

    def _ensure_template(self) -> Path:
        if self._template is None:
            server = Server(self.installation, self.installation.make_folder())
            self._made.append(server)  # until it is whole, it goes with the others
            server.initialise()
            server.stop()
            self._made.remove(server)
            self._template = server.data
        return self._template

    def spawn(self, server: Server, tool: str, *arguments: str) -> subprocess.Popen[bytes]:
        """Start one of this version's programs beside the server; the caller ends it."""
        with server.log.open("ab") as log:
            command = self.installation.command(server.folder, tool, *arguments)
            return subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)

    def remove_made(self) -> None:
        """Remove every server of one test."""
        while self._made:
            self._made.pop().remove()

    def close(self) -> None:
        """Remove the template as well."""
        self.remove_made()
        if self._template is not None:
            shutil.rmtree(self._template.parent, ignore_errors=True)


@pytest.fixture(scope="session", params=find_installations() or (None,), ids=str)
def installation(request: pytest.FixtureRequest) -> Installation:
    """Each PostgreSQL of this machine in turn."""
    if request.param is None:
        pytest.fail(NO_SERVER)
    assert isinstance(request.param, Installation)
    return request.param


@pytest.fixture(scope="session")
def server_maker(installation: Installation) -> Iterator[ServerMaker]:
    """Makes servers; the template lives as long as the session."""
    maker = ServerMaker(installation)
    yield maker
    maker.close()


@pytest.fixture
def servers(server_maker: ServerMaker) -> Iterator[ServerMaker]:
    """Makes servers for one test and removes them after it."""
    yield server_maker
    server_maker.remove_made()


@pytest.fixture
def primary(servers: ServerMaker) -> Server:
    """A running primary that was set up by headroom-setup.sql."""
    return servers.make()
