"""A folder that stands for a replica's volume, with the pod's own scripts run on it."""

import contextlib
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import psycopg

from headroom.manifests.configuration import (
    CA_FILE,
    CONFIG_FOLDER,
    RUN_FOLDER,
    ReplicaSettings,
    build_conninfo,
    build_hba,
    build_postgresql_conf,
    load_scripts,
)
from headroom.manifests.copy_source import build_source_environment
from headroom.model.copies import FROM_PRIMARY, CopySource
from headroom.model.database import ConnectionTarget, ServerFacts
from headroom.model.frozen import FrozenMap
from tests.ports import find_free_port
from tests.postgres_server import DATABASE, MONITOR, REPLICATION, Server

SLOT = "hr_0123abcd_4567cdef_0_a"
SOCKETS, PORT = "/var/run/postgresql", "5432"


@dataclass
class Volume:
    """A member's volume and what its pod would mount; scripts run as in the pod, under another port and folders."""

    primary: Server
    folder: Path
    target: ConnectionTarget
    certificate: tuple[str, str] | None = None
    hba: Sequence[str] = ()
    allows_plaintext: bool = True
    slot: str = SLOT
    variables: Mapping[str, str] = field(default_factory=dict)
    """What its pod's environment has, beside or instead of what each pod's has."""
    name: str = "store-0-a"
    source: CopySource = FROM_PRIMARY
    source_port: int = 0
    port: int = field(default_factory=find_free_port)
    server: "subprocess.Popen[bytes] | None" = None
    begun: "list[subprocess.Popen[bytes]]" = field(default_factory=list)

    def __post_init__(self) -> None:
        for name in ("data", "config", "credentials", "client-tls", "run"):
            (self.folder / name).mkdir()
        for name, text in load_scripts().items():
            here = text.replace(SOCKETS, str(self.folder / "run")).replace(f"-p {PORT}", f"-p {self.port}")
            (self.folder / "config" / name).write_text(here)
        settings = ReplicaSettings(
            {},
            self.hba,
            True,
            timedelta(seconds=10),
            MONITOR.username,
            replication_role=REPLICATION.username,
            allows_plaintext=self.allows_plaintext,
        )
        conf = build_postgresql_conf(settings, self.facts).replace(SOCKETS, str(self.folder / "run"))
        (self.folder / "config" / "postgresql.conf").write_text(conf.replace(f"'{PORT}'", f"'{self.port}'"))
        for name, has_tls in (("pg_hba.conf", True), ("pg_hba.plain.conf", False)):
            server = replace(self.facts, version=self.primary.installation.major * 10_000)
            lines = build_hba(settings, server, has_tls=has_tls).replace(RUN_FOLDER, str(self.folder / "run"))
            (self.folder / "config" / name).write_text(lines)
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
        return ServerFacts(row["system"], 0, False, 1, None, FrozenMap(limits), 0, 0, True)

    @property
    def pgdata(self) -> Path:
        return self.folder / "data" / "pgdata"

    def environment(self, **changes: str) -> dict[str, str]:
        ca_file = f"{CONFIG_FOLDER}/{CA_FILE}" if self.target.ca_pem is not None else None
        major = self.primary.installation.major
        conninfo = self._localise(build_conninfo(self.target, REPLICATION.username, self.slot, ca_file, major))
        copying = build_source_environment(
            self.source,
            self.target,
            user=REPLICATION.username,
            slot=self.slot,
            major=major,
            primary_conninfo=conninfo,
        )
        values = {
            "PATH": f"{self.primary.installation.bin_folder}:/usr/sbin:/usr/bin:/sbin:/bin",
            "PGDATA": str(self.pgdata),
            "CONFIG": str(self.folder / "config"),
            "NAME": self.name,
            "SLOT": self.slot,
            "SYSTEM_IDENTIFIER": self.facts.system_identifier,
            "MAJOR": str(major),
            "PRIMARY_CONNINFO": conninfo,
            "PASSFILE": str(self.folder / "run" / "passfile"),
            "CREDENTIALS": str(self.folder / "credentials"),
            "REPLICATION_USER": REPLICATION.username,
            "CLIENT_TLS": str(self.folder / "client-tls") if self.target.client_certificate_pem is not None else "",
            "SERVER_TLS": str(self.folder / "server-tls") if self.certificate is not None else "",
            "SERVER_NAMES": f"store-read store-read.shop store-read.shop.svc {self.name} localhost",
            "AUTHORITY_DAYS": "3650",
            "CERTIFICATE_DAYS": "90",
            "REPORT": str(self.folder / "run" / "report"),
            "DATABASE": DATABASE,
            **{name: self._localise(text) for name, text in copying.items()},
            "TRIES": "1",
            "MAX_RATE_KIB": "",
            "LOCK_SECONDS": "1",
            "REFRESH_SECONDS": "1",
            "LAME_DUCK_SECONDS": "0",
            "DRAIN_SECONDS": "5",
            "MONITOR_ROLE": MONITOR.username,
        }
        return {**values, **self.variables, **changes}

    def _localise(self, conninfo: str) -> str:
        """The same with the folders of this machine, and with the port of a source."""
        for mounted, name in ((RUN_FOLDER, "run"), (CONFIG_FOLDER, "config")):
            conninfo = conninfo.replace(mounted, str(self.folder / name))
        if not self.source.is_standby:
            return conninfo
        return conninfo.replace(f"hostaddr=127.0.0.1 port={PORT}", f"hostaddr=127.0.0.1 port={self.source_port}")

    def command(self, script: str) -> list[str]:
        installed = self.primary.installation
        shell = os.path.relpath("/bin/sh", installed.bin_folder)
        words = installed.command(self.folder, shell, str(self.folder / "config" / script))
        # A container has /proc, which the stop script reads; the file system that stands for one here has not.
        proc = f"mount --rbind /proc {installed.root}/proc && exec chroot"
        return [word.replace("exec chroot", proc) for word in words]

    def run(self, script: str, **changes: str) -> "subprocess.CompletedProcess[str]":
        """Run a script to its end, in a minute at most."""
        return self.run_by((), script, 60, **changes)

    def run_by(
        self, before: Sequence[str], script: str, seconds: float, **changes: str
    ) -> "subprocess.CompletedProcess[str]":
        """Run it by another program, which `before` begins with; raises TimeoutExpired after so many seconds."""
        return subprocess.run(
            [*before, *self.command(script)],
            env=self.environment(**changes),
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
        )

    def begin(self, script: str, *, before: Sequence[str] = (), **changes: str) -> "subprocess.Popen[bytes]":
        with (self.folder / f"{script}.log").open("wb") as log:
            begun = subprocess.Popen(
                [*before, *self.command(script)],
                env=self.environment(**changes),
                stderr=log,
                stdout=log,
                start_new_session=True,
            )
        self.begun.append(begun)
        return begun

    @property
    def log(self) -> str:
        """What the last server printed."""
        return (self.folder / "start.sh.log").read_text()

    def wait_for_log(self, words: str) -> None:
        end = time.monotonic() + 20
        while words not in self.log:
            assert time.monotonic() < end, self.log
            time.sleep(0.05)

    def start(self, *, before: Sequence[str] = ()) -> None:
        self.server = self.begin("start.sh", before=before)
        self.wait_until_started()

    def start_second(self, *, before: Sequence[str] = ()) -> None:
        """Begin another server on the same volume, which may have to wait for it."""
        self.server = self.begin("start.sh", before=before, LOCK_SECONDS="30")

    def wait_until_started(self) -> None:
        end = time.monotonic() + 20
        while self.run("started.sh").returncode:
            assert time.monotonic() < end, self.log

    def connect(self, **changes: Any) -> "psycopg.Connection[tuple[object, ...]]":
        login = {"user": MONITOR.username, "password": MONITOR.password, "dbname": DATABASE}
        return psycopg.connect(**{"host": "127.0.0.1", "port": self.port, **login, **changes})

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
                assert time.monotonic() < end, self.log
                time.sleep(0.1)

    def begin_statement(self, statement: str) -> "subprocess.Popen[bytes]":
        """Run a statement that takes long as a client of the replica; returns when the server is at it."""
        client = subprocess.Popen(
            self.primary.installation.command(
                self.folder, "psql", "-h", "127.0.0.1", "-p", str(self.port), "-U", REPLICATION.username, "-d",
                DATABASE, "-Atc", statement,
            ),
            env=self.environment(PGPASSWORD=REPLICATION.password),
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )  # fmt: skip
        end = time.monotonic() + 20
        running = "SELECT count(*) FROM pg_stat_activity WHERE query = %s AND state = 'active'"
        with self.connect(autocommit=True) as looking:
            while looking.execute(running, [statement]).fetchone() != (1,):
                assert time.monotonic() < end, "the statement did not begin"
                time.sleep(0.02)
        return client

    def stop_at_once(self) -> None:
        """End the server with all its backends, and whatever else was begun here."""
        for process in self.begun:
            # A server that gets this ends its backends too, which have sessions of their own, and its shared memory.
            process.send_signal(signal.SIGQUIT)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(10)
            # What it left behind belongs to its session, and keeps that number in use.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait(10)

    def stop_fast(self) -> None:
        """End the server as a pod's end does, cleanly."""
        assert self.run("stop.sh").returncode == 0
        assert self.server is not None
        self.server.wait(20)

    def signal_all(self, what: signal.Signals) -> None:
        """To the server and its backends, which have sessions of their own."""
        assert self.server is not None
        path = Path(f"/proc/{self.server.pid}/task/{self.server.pid}/children")
        for pid in [self.server.pid, *map(int, path.read_text().split())]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, what)

    def take_snapshot(self, folder: Path) -> None:
        """Copy all that is on the volume, as a driver's snapshot of it does, over what another folder has."""
        shutil.rmtree(folder, ignore_errors=True)
        subprocess.run(["cp", "-a", "--reflink=auto", str(self.folder / "data"), str(folder)], check=True)

    def close(self) -> None:
        self.stop_at_once()
        shutil.rmtree(self.folder, ignore_errors=True)
