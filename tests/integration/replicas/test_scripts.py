"""The scripts of a replica's pod on real servers: seeding, refusing, starting, probing, stopping."""

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import sql

from headroom.adapters.postgres.conninfo import read_system_authorities
from headroom.manifests.configuration import (
    CERTIFICATE_FOLDER,
    CONFIG_FOLDER,
    RUN_FOLDER,
    ReplicaSettings,
    build_conninfo,
    build_hba,
    build_ident,
    build_postgresql_conf,
)
from headroom.manifests.scripts import load_scripts
from headroom.manifests.storage import CA_FILE
from headroom.model.database import ConnectionTarget, ServerFacts
from tests.certificates import Authority, encrypt
from tests.postgres_server import DATABASE, HBA, MONITOR, REPLICATION, Server, ServerMaker, find_free_port

pytestmark = pytest.mark.postgres
SLOT = "hr_0123abcd_4567cdef_0_a"
SOCKETS, PORT = "/var/run/postgresql", "5432"


@dataclass
class Volume:
    """A member's volume and what its pod would mount; scripts run as in the pod, under another port and folders."""

    primary: Server
    folder: Path
    target: ConnectionTarget
    certificate: tuple[str, str] | None = None
    port: int = field(default_factory=find_free_port)
    server: "subprocess.Popen[bytes] | None" = None

    def __post_init__(self) -> None:
        for name in ("data", "config", "credentials", "client-tls", "run"):
            (self.folder / name).mkdir()
        for name, text in load_scripts().items():
            here = text.replace(SOCKETS, str(self.folder / "run")).replace(f"-p {PORT}", f"-p {self.port}")
            (self.folder / "config" / name).write_text(here)
        has_certificate = self.certificate is not None
        settings = ReplicaSettings({}, (), True, timedelta(seconds=10), has_certificate, MONITOR.username)
        conf = build_postgresql_conf(settings, self.facts).replace(SOCKETS, str(self.folder / "run"))
        conf = conf.replace(CERTIFICATE_FOLDER, str(self.folder / "server-tls"))
        (self.folder / "config" / "postgresql.conf").write_text(conf.replace(f"'{PORT}'", f"'{self.port}'"))
        (self.folder / "config" / "pg_hba.conf").write_text(build_hba(settings))
        (self.folder / "config" / "pg_ident.conf").write_text(build_ident())
        (self.folder / "config" / CA_FILE).write_text(self.target.ca_pem or "")
        (self.folder / "credentials" / "username").write_text(REPLICATION.username)
        (self.folder / "credentials" / "password").write_text(REPLICATION.password)
        (self.folder / "client-tls" / "tls.crt").write_text(self.target.client_certificate_pem or "")
        (self.folder / "client-tls" / "tls.key").write_text(self.target.client_key_pem or "")
        subprocess.run(["chmod", "-R", "a+rX", str(self.folder)], check=True)
        if os.geteuid() == 0:
            for name in ("data", "run"):
                os.chown(self.folder / name, *self.primary.installation.ids)
        if self.certificate is not None:
            self.serve(*self.certificate)

    def serve(self, certificate: str, key: str) -> None:
        """Mount, or refresh, the certificate of the replica's own server."""
        folder = self.folder / "server-tls"
        folder.mkdir(exist_ok=True)
        for name, text in (("tls.crt", certificate), ("tls.key", key)):
            (folder / name).write_text(text)
            (folder / name).chmod(0o600)
            if os.geteuid() == 0:
                os.chown(folder / name, *self.primary.installation.ids)

    @property
    def facts(self) -> ServerFacts:
        [row] = self.primary.sql("SELECT system_identifier::text AS system FROM pg_control_system()")
        limits = {row["name"]: row["setting"] for row in self.primary.sql("SELECT name, setting FROM pg_settings")}
        return ServerFacts(row["system"], 0, False, 1, None, limits, 0, 0, True)

    @property
    def pgdata(self) -> Path:
        return self.folder / "data" / "pgdata"

    def environment(self, **changes: str) -> dict[str, str]:
        ca_file = f"{CONFIG_FOLDER}/{CA_FILE}" if self.target.ca_pem is not None else None
        conninfo = build_conninfo(self.target, REPLICATION.username, SLOT, ca_file)
        for mounted, name in ((RUN_FOLDER, "run"), (CONFIG_FOLDER, "config")):
            conninfo = conninfo.replace(mounted, str(self.folder / name))
        values = {
            "PATH": f"{self.primary.installation.bin_folder}:/usr/sbin:/usr/bin:/sbin:/bin",
            "PGDATA": str(self.pgdata),
            "CONFIG": str(self.folder / "config"),
            "NAME": "store-0-a",
            "SLOT": SLOT,
            "SYSTEM_IDENTIFIER": self.facts.system_identifier,
            "MAJOR": str(self.primary.installation.major),
            "PRIMARY_CONNINFO": conninfo,
            "PASSFILE": str(self.folder / "run" / "passfile"),
            "CREDENTIALS": str(self.folder / "credentials"),
            "CLIENT_TLS": str(self.folder / "client-tls") if self.target.client_certificate_pem is not None else "",
            "SERVER_TLS": str(self.folder / "server-tls") if self.certificate is not None else "",
            "TRIES": "1",
            "MAX_RATE_KIB": "",
            "DRAIN_SECONDS": "5",
            "MONITOR_ROLE": MONITOR.username,
        }
        return {**values, **changes}

    def command(self, script: str) -> list[str]:
        installed = self.primary.installation
        shell = os.path.relpath("/bin/sh", installed.bin_folder)
        words = installed.command(self.folder, shell, str(self.folder / "config" / script))
        # A container has /proc, which the stop script reads; the file system that stands for one here has not.
        proc = f"mount --rbind /proc {installed.root}/proc && exec chroot"
        return [word.replace("exec chroot", proc) for word in words]

    def run(self, script: str, **changes: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            self.command(script),
            env=self.environment(**changes),
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def begin(self, script: str, **changes: str) -> "subprocess.Popen[bytes]":
        with (self.folder / f"{script}.log").open("wb") as log:
            return subprocess.Popen(
                self.command(script), env=self.environment(**changes), stderr=log, stdout=log, start_new_session=True
            )

    def start(self) -> None:
        self.server = self.begin("start.sh")
        end = time.monotonic() + 20
        while self.run("ready.sh").returncode:
            assert time.monotonic() < end, (self.folder / "start.sh.log").read_text()
            time.sleep(0.1)

    def connect(self, **changes: Any) -> "psycopg.Connection[tuple[object, ...]]":
        login = {"user": MONITOR.username, "password": MONITOR.password, "dbname": DATABASE, **changes}
        return psycopg.connect(host="127.0.0.1", port=self.port, **login)

    def find_refusal(self, **changes: str) -> str | None:
        """Why a client is not let in, None when it is."""
        try:
            self.connect(**changes).close()
        except psycopg.OperationalError as error:
            return str(error)
        return None

    def wait_until_streaming(self) -> None:
        end = time.monotonic() + 20
        with self.connect(autocommit=True) as connection:
            while connection.execute("SELECT status FROM pg_stat_wal_receiver").fetchone() != ("streaming",):
                assert time.monotonic() < end, (self.folder / "start.sh.log").read_text()
                time.sleep(0.1)

    def close(self) -> None:
        if self.server is not None and self.server.poll() is None:
            os.killpg(self.server.pid, signal.SIGKILL)
            self.server.wait(10)
        shutil.rmtree(self.folder, ignore_errors=True)


@pytest.fixture
def volume(primary: Server) -> Iterator[Volume]:
    primary.sql("SELECT pg_create_physical_replication_slot(%s, true)", [SLOT])
    made = Volume(primary, primary.installation.make_folder(), primary.target(tls_mode="disable"))
    yield made
    made.close()


@pytest.fixture
def authority() -> Authority:
    return Authority()


@pytest.fixture
def guarded(servers: ServerMaker, authority: Authority) -> Iterator[Volume]:
    """A volume of a primary that lets in nobody without a certificate of the authority's, beside the password."""
    open_line = "host replication all 127.0.0.1/32 scram-sha-256"
    assert open_line in HBA
    hba = HBA.replace(open_line, f"hostssl{open_line.removeprefix('host')} clientcert=verify-ca")
    primary = encrypt(servers.make(start=False, ssl="on", hba=hba), authority, "127.0.0.1")
    primary.sql("SELECT pg_create_physical_replication_slot(%s, true)", [SLOT])
    certificate, key = authority.issue("replicas")
    # What a member trusts where the spec names no authority: all that the operator's system trusts.
    ca = (read_system_authorities() or "") + authority.ca_pem
    target = primary.target(tls_mode="verify-full", ca_pem=ca, client_certificate_pem=certificate, client_key_pem=key)
    made = Volume(primary, primary.installation.make_folder(), target)
    yield made
    made.close()


def test_a_seeded_volume_starts_as_a_streaming_standby(volume: Volume) -> None:
    seeded = volume.run("seed.sh")
    assert seeded.returncode == 0, seeded.stderr
    assert (volume.pgdata / "postgresql.auto.conf").read_text() == ""
    assert (volume.pgdata / "backup_label").exists()
    assert oct((volume.folder / "run" / "passfile").stat().st_mode & 0o777) == "0o600"
    volume.start()
    with volume.connect() as connection:
        row = connection.execute("SELECT pg_is_in_recovery(), status, slot_name FROM pg_stat_wal_receiver").fetchone()
    assert row == (True, "streaming", SLOT)
    assert volume.run("live.sh").returncode == 0


def test_a_second_run_finds_the_copy_and_another_member_is_refused_it(volume: Volume) -> None:
    assert volume.run("seed.sh").returncode == 0
    inode = volume.pgdata.stat().st_ino
    assert volume.run("seed.sh").returncode == 0
    assert volume.pgdata.stat().st_ino == inode
    other = volume.run("seed.sh", SLOT="hr_0123abcd_4567cdef_0_b")
    assert (other.returncode, "another member" in other.stderr) == (3, True)
    assert volume.pgdata.exists()


def test_a_copy_killed_half_way_leaves_nothing_a_later_run_could_take_for_one(volume: Volume) -> None:
    volume.primary.sql("CREATE TABLE ballast AS SELECT repeat('x', 1000) AS fill FROM generate_series(1, 40000)")
    copy = volume.begin("seed.sh", MAX_RATE_KIB="4096")
    new = volume.folder / "data" / "pgdata.new"
    end = time.monotonic() + 20
    while not (new / "base").exists():
        assert time.monotonic() < end, (volume.folder / "seed.sh.log").read_text()
        time.sleep(0.05)
    os.killpg(copy.pid, signal.SIGKILL)
    copy.wait(10)
    assert not volume.pgdata.exists()
    again = volume.run("seed.sh")
    assert again.returncode == 0, again.stderr
    assert not new.exists()


def test_a_copy_that_is_told_to_stop_stops_at_once(volume: Volume) -> None:
    volume.primary.sql("CREATE TABLE ballast AS SELECT repeat('x', 1000) AS fill FROM generate_series(1, 40000)")
    copy = volume.begin("seed.sh", MAX_RATE_KIB="1024")
    end = time.monotonic() + 20
    while not (volume.folder / "data" / "pgdata.new" / "base").exists():
        assert time.monotonic() < end, (volume.folder / "seed.sh.log").read_text()
        time.sleep(0.05)
    began = time.monotonic()
    os.killpg(copy.pid, signal.SIGTERM)
    copy.wait(10)
    assert time.monotonic() - began < 5


@pytest.mark.parametrize(
    ("changes", "status", "said"),
    [
        pytest.param({"MAJOR": "13"}, 3, "major version 13", id="image of another major version"),
        pytest.param({"SYSTEM_IDENTIFIER": "1"}, 3, "expected 1", id="another system"),
        pytest.param({"SLOT": "hr_0123abcd_4567cdef_9_z"}, 1, "does not exist", id="slot missing"),
    ],
)
def test_what_cannot_work_is_said_and_nothing_kept(
    volume: Volume, changes: dict[str, str], status: int, said: str
) -> None:
    done = volume.run("seed.sh", **changes)
    assert (done.returncode, said in done.stderr) == (status, True), done.stderr
    assert not volume.pgdata.exists()


def test_a_wrong_password_is_said_by_the_seed_step(volume: Volume) -> None:
    (volume.folder / "credentials" / "password").write_text("wrong")
    done = volume.run("seed.sh")
    assert (done.returncode, "password authentication failed" in done.stderr) == (1, True), done.stderr


@pytest.mark.parametrize("missing", ["standby.signal", ".headroom-seeded"])
def test_the_server_never_starts_as_anything_but_a_seeded_standby(volume: Volume, missing: str) -> None:
    assert volume.run("seed.sh").returncode == 0
    (volume.pgdata / missing).unlink()
    done = volume.run("start.sh")
    assert (done.returncode, missing in done.stderr) == (1, True)


def test_a_promoted_server_is_not_ready(volume: Volume) -> None:
    assert volume.run("seed.sh").returncode == 0
    volume.start()
    subprocess.run(
        volume.primary.installation.command(volume.folder, "pg_ctl", "promote", "-D", str(volume.pgdata)),
        check=True,
        capture_output=True,
    )
    assert volume.run("ready.sh").returncode != 0
    assert volume.run("live.sh").returncode == 0


def test_stopping_lets_a_running_statement_finish(volume: Volume) -> None:
    assert volume.run("seed.sh").returncode == 0
    volume.start()
    idle = volume.connect()
    idle.autocommit = True
    query = subprocess.Popen(
        volume.primary.installation.command(
            volume.folder, "psql", "-h", "127.0.0.1", "-p", str(volume.port), "-U", REPLICATION.username, "-d",
            DATABASE, "-Atc", "SELECT pg_sleep(2), 42",
        ),
        env=volume.environment(PGPASSWORD=REPLICATION.password),
        stdout=subprocess.PIPE,
    )  # fmt: skip
    end = time.monotonic() + 20
    running = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'SELECT pg_sleep%' AND state = 'active'"
    while idle.execute(running).fetchone() != (1,):
        assert time.monotonic() < end, "the statement did not begin"
        time.sleep(0.02)
    stopped = volume.run("stop.sh", DRAIN_SECONDS="20")
    out, _ = query.communicate(timeout=20)
    idle.close()
    assert stopped.returncode == 0, stopped.stderr
    assert out.strip() == b"|42"


def test_stopping_gives_a_statement_its_time_and_no_more_however_long_a_look_takes(volume: Volume) -> None:
    assert volume.run("seed.sh").returncode == 0
    volume.start()
    tools = volume.folder / "tools"
    tools.mkdir()
    slow = tools / "sleep"
    slow.write_text("#!/bin/sh\nexec /bin/sleep 3\n")
    for path in (tools, slow):
        path.chmod(0o755)
    busy = volume.connect(autocommit=True)
    query = subprocess.Popen(
        volume.primary.installation.command(
            volume.folder, "psql", "-h", "127.0.0.1", "-p", str(volume.port), "-U", REPLICATION.username, "-d",
            DATABASE, "-Atc", "SELECT pg_sleep(60)",
        ),
        env=volume.environment(PGPASSWORD=REPLICATION.password),
        stderr=subprocess.DEVNULL,
    )  # fmt: skip
    end = time.monotonic() + 20
    while busy.execute("SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'SELECT pg_sleep%'").fetchone() == (0,):
        assert time.monotonic() < end, "the statement did not begin"
        time.sleep(0.02)
    busy.close()
    began = time.monotonic()
    path = f"{tools}:{volume.environment()['PATH']}"
    stopped = volume.run("stop.sh", DRAIN_SECONDS="6", PATH=path)
    took = time.monotonic() - began
    query.wait(10)
    assert stopped.returncode == 0, stopped.stderr
    assert 5 <= took < 12, "six looks of three seconds would have been eighteen"


NEW_PASSWORD = "n:e\\w '\u00c1\" word"
"""All that a passfile, a shell or a conninfo could trip over."""


def rotate(volume: Volume, password: str) -> None:
    """As a person does it: the role first, then the Secret, which the kubelet refreshes."""
    statement = sql.SQL("ALTER ROLE {} PASSWORD {}").format(sql.Identifier(REPLICATION.username), sql.Literal(password))
    volume.primary.sql(statement.as_string(None))
    (volume.folder / "credentials" / "password").write_text(password)


def break_off(volume: Volume) -> None:
    """End replication; returns when the primary has seen its end."""
    [row] = volume.primary.sql("SELECT pid, pg_terminate_backend(pid) AS ended FROM pg_stat_replication")
    assert row["ended"]
    end = time.monotonic() + 10
    while volume.primary.sql("SELECT FROM pg_stat_replication WHERE pid = %s", [row["pid"]]):
        assert time.monotonic() < end
        time.sleep(0.05)


def test_a_replica_reconnects_with_the_password_that_was_rotated_in(volume: Volume) -> None:
    assert volume.run("seed.sh").returncode == 0
    volume.start()
    rotate(volume, NEW_PASSWORD)
    assert volume.run("ready.sh").returncode == 0
    passfile = volume.folder / "run" / "passfile"
    assert oct(passfile.stat().st_mode & 0o777) == "0o600"
    assert sorted(path.name for path in passfile.parent.glob("passfile*")) == ["passfile"]
    break_off(volume)
    volume.wait_until_streaming()


def test_a_login_that_cannot_be_read_leaves_the_old_one_and_the_replica_ready(volume: Volume) -> None:
    assert volume.run("seed.sh").returncode == 0
    volume.start()
    before = (volume.folder / "run" / "passfile").read_text()
    (volume.folder / "credentials" / "password").unlink()
    assert volume.run("ready.sh").returncode == 0
    assert (volume.folder / "run" / "passfile").read_text() == before
    break_off(volume)
    volume.wait_until_streaming()


def test_a_line_end_after_a_password_is_no_part_of_it(volume: Volume) -> None:
    (volume.folder / "credentials" / "password").write_text(f"{REPLICATION.password}\r\n")
    seeded = volume.run("seed.sh")
    assert seeded.returncode == 0, seeded.stderr


def test_a_replica_verifies_the_primary_and_shows_its_own_certificate(guarded: Volume) -> None:
    seeded = guarded.run("seed.sh")
    assert seeded.returncode == 0, seeded.stderr
    assert oct((guarded.folder / "run" / "client.key").stat().st_mode & 0o777) == "0o600"
    guarded.start()
    guarded.wait_until_streaming()
    query = "SELECT ssl, client_dn FROM pg_stat_ssl JOIN pg_stat_replication USING (pid)"
    assert guarded.primary.sql(query) == [{"ssl": True, "client_dn": "/CN=replicas"}]


def test_a_replica_shows_the_certificate_that_was_rotated_in(guarded: Volume, authority: Authority) -> None:
    assert guarded.run("seed.sh").returncode == 0
    guarded.start()
    for name, text in zip(("tls.crt", "tls.key"), authority.issue("renewed"), strict=True):
        (guarded.folder / "client-tls" / name).write_text(text)
    assert guarded.run("ready.sh").returncode == 0
    break_off(guarded)
    guarded.wait_until_streaming()
    query = "SELECT client_dn FROM pg_stat_ssl JOIN pg_stat_replication USING (pid)"
    assert guarded.primary.sql(query) == [{"client_dn": "/CN=renewed"}]


def test_a_primary_of_another_authority_is_refused(guarded: Volume) -> None:
    (guarded.folder / "config" / CA_FILE).write_text(Authority("somebody else").ca_pem)
    done = guarded.run("seed.sh")
    assert (done.returncode, "certificate verify failed" in done.stderr) == (1, True), done.stderr


def test_a_renewed_certificate_of_the_replica_is_served_without_a_restart(
    primary: Server, authority: Authority, tmp_path: Path
) -> None:
    primary.sql("SELECT pg_create_physical_replication_slot(%s, true)", [SLOT])
    renewed = Authority("renewed")
    trusted = {}
    for name, issuer in (("old", authority), ("new", renewed)):
        trusted[name] = tmp_path / name
        trusted[name].write_text(issuer.ca_pem)
    folder, target = primary.installation.make_folder(), primary.target(tls_mode="disable")
    volume = Volume(primary, folder, target, certificate=authority.issue("replica", "127.0.0.1"))
    try:
        assert volume.run("seed.sh").returncode == 0
        volume.start()
        volume.connect(sslmode="verify-full", sslrootcert=str(trusted["old"])).close()
        volume.serve(*renewed.issue("replica", "127.0.0.1"))
        assert volume.run("ready.sh").returncode == 0
        end = time.monotonic() + 10
        while (refusal := volume.find_refusal(sslmode="verify-full", sslrootcert=str(trusted["new"]))) is not None:
            assert "certificate verify failed" in refusal
            assert time.monotonic() < end, "the old certificate is served still"
            time.sleep(0.1)
    finally:
        volume.close()


def test_roles_of_either_kind_of_verifier_log_in_to_a_replica(volume: Volume) -> None:
    with volume.primary.connect() as granting:
        for method in ("md5", "scram-sha-256"):
            granting.execute(f"SET password_encryption = '{method}'")
            granting.execute(f"CREATE ROLE \"{method}\" LOGIN PASSWORD 'a password'")
    assert volume.run("seed.sh").returncode == 0
    volume.start()
    for method in ("md5", "scram-sha-256"):
        with volume.connect(user=method, password="a password") as connection:
            assert connection.execute("SELECT session_user::text").fetchone() == (method,)
