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

import psycopg
import pytest

from headroom.manifests.configuration import (
    PASSFILE,
    ReplicaSettings,
    build_conninfo,
    build_hba,
    build_ident,
    build_postgresql_conf,
)
from headroom.manifests.scripts import load_scripts
from headroom.model.database import ServerFacts
from tests.postgres_server import DATABASE, MONITOR, REPLICATION, Server, find_free_port

pytestmark = pytest.mark.postgres
SLOT = "hr_0123abcd_4567cdef_0_a"
SOCKETS, PORT = "/var/run/postgresql", "5432"


@dataclass
class Volume:
    """A member's volume and what its pod would mount; scripts run as in the pod, under another port and folders."""

    primary: Server
    folder: Path
    port: int = field(default_factory=find_free_port)
    server: "subprocess.Popen[bytes] | None" = None

    def __post_init__(self) -> None:
        for name in ("data", "config", "credentials", "run"):
            (self.folder / name).mkdir()
        for name, text in load_scripts().items():
            here = text.replace(SOCKETS, str(self.folder / "run")).replace(f"-p {PORT}", f"-p {self.port}")
            (self.folder / "config" / name).write_text(here)
        settings = ReplicaSettings({}, (), True, timedelta(seconds=10), False, MONITOR.username)
        conf = build_postgresql_conf(settings, self.facts).replace(SOCKETS, str(self.folder / "run"))
        (self.folder / "config" / "postgresql.conf").write_text(conf.replace(f"'{PORT}'", f"'{self.port}'"))
        (self.folder / "config" / "pg_hba.conf").write_text(build_hba(settings))
        (self.folder / "config" / "pg_ident.conf").write_text(build_ident())
        (self.folder / "credentials" / "username").write_text(REPLICATION.username)
        (self.folder / "credentials" / "password").write_text(REPLICATION.password)
        subprocess.run(["chmod", "-R", "a+rX", str(self.folder)], check=True)
        if os.geteuid() == 0:
            for name in ("data", "run"):
                os.chown(self.folder / name, *self.primary.installation.ids)

    @property
    def facts(self) -> ServerFacts:
        [row] = self.primary.sql("SELECT system_identifier::text AS system FROM pg_control_system()")
        limits = {row["name"]: row["setting"] for row in self.primary.sql("SELECT name, setting FROM pg_settings")}
        return ServerFacts(row["system"], 0, False, 1, None, limits, 0, 0, True)

    @property
    def pgdata(self) -> Path:
        return self.folder / "data" / "pgdata"

    def environment(self, **changes: str) -> dict[str, str]:
        conninfo = build_conninfo(self.primary.target(tls_mode="disable"), REPLICATION.username, SLOT, None)
        values = {
            "PATH": f"{self.primary.installation.bin_folder}:/usr/sbin:/usr/bin:/sbin:/bin",
            "PGDATA": str(self.pgdata),
            "CONFIG": str(self.folder / "config"),
            "NAME": "store-0-a",
            "SLOT": SLOT,
            "SYSTEM_IDENTIFIER": self.facts.system_identifier,
            "MAJOR": str(self.primary.installation.major),
            "PRIMARY_CONNINFO": conninfo.replace(PASSFILE, str(self.folder / "run" / "passfile")),
            "PASSFILE": str(self.folder / "run" / "passfile"),
            "CREDENTIALS": str(self.folder / "credentials"),
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

    def connect(self) -> "psycopg.Connection[tuple[object, ...]]":
        return psycopg.connect(
            host="127.0.0.1", port=self.port, user=MONITOR.username, password=MONITOR.password, dbname=DATABASE
        )

    def close(self) -> None:
        if self.server is not None and self.server.poll() is None:
            os.killpg(self.server.pid, signal.SIGKILL)
            self.server.wait(10)
        shutil.rmtree(self.folder, ignore_errors=True)


@pytest.fixture
def volume(primary: Server) -> Iterator[Volume]:
    primary.sql("SELECT pg_create_physical_replication_slot(%s, true)", [SLOT])
    made = Volume(primary, primary.installation.make_folder())
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
