"""PgBouncer in front of the server is recognised and refused, however it is configured."""

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator

import pytest

from headroom.errors import PrimaryUnavailable
from headroom.model.database import ConnectionTarget
from headroom.ports.postgres import Postgres
from headroom.reasons import Reason
from tests.ports import find_free_port
from tests.postgres_server import MONITOR, Server

ABSENT = "no PgBouncer on this machine: run `make setup-postgres`"


@pytest.fixture
def pooler(primary: Server) -> Iterator[Callable[..., int]]:
    """Starts a PgBouncer in front of the primary; returns its port."""
    program = shutil.which("pgbouncer", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    if program is None:
        pytest.fail(ABSENT)
    running: list[subprocess.Popen[bytes]] = []

    def start(**options: str) -> int:
        port = find_free_port()
        running.append(_start(program, primary, port, options))
        return port

    yield start
    for process in running:
        process.send_signal(signal.SIGKILL)
        process.wait(10)


def _start(program: str, server: Server, port: int, options: dict[str, str]) -> subprocess.Popen[bytes]:
    folder = server.installation.make_folder()
    settings = {
        "listen_addr": "127.0.0.1",
        "listen_port": str(port),
        "unix_socket_dir": "",
        "auth_type": "scram-sha-256",
        "auth_file": str(folder / "users"),
        "logfile": str(folder / "log"),
        **options,
    }
    (folder / "users").write_text(f'"{MONITOR.username}" "{MONITOR.password}"\n')
    lines = [f"{name} = {value}" for name, value in settings.items()]
    databases = f"[databases]\n* = host=127.0.0.1 port={server.port}\n[pgbouncer]\n"
    (folder / "pgbouncer.ini").write_text(databases + "\n".join(lines))
    uid, gid = server.installation.ids
    for path in (folder, *folder.iterdir()):
        if os.geteuid() == 0:
            os.chown(path, uid, gid)
    drop = ["setpriv", f"--reuid={uid}", f"--regid={gid}", "--clear-groups"] if os.geteuid() == 0 else []
    process = subprocess.Popen([*drop, program, "-q", str(folder / "pgbouncer.ini")])
    end = time.monotonic() + 10
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            assert process.poll() is None, (folder / "log").read_text()
            assert time.monotonic() < end, "PgBouncer does not listen"
            time.sleep(0.05)
        else:
            shutil.rmtree(folder)
            return process


@pytest.mark.parametrize("mode", ["session", "transaction", "statement"])
@pytest.mark.parametrize("ignored", ["options", ""], ids=["options ignored", "options refused"])
async def test_a_pooler_is_refused(
    postgres: Postgres, primary: Server, pooler: Callable[..., int], mode: str, ignored: str
) -> None:
    extra = {"ignore_startup_parameters": ignored} if ignored else {}
    port = pooler(pool_mode=mode, **extra)
    target = ConnectionTarget("127.0.0.1", port, "store", MONITOR, "prefer")
    with pytest.raises(PrimaryUnavailable) as caught:
        await postgres.open_primary(target)
    assert caught.value.reason is Reason.NOT_A_DIRECT_CONNECTION
    assert "connection.via" in str(caught.value)
    direct = await postgres.open_primary(primary.target())
    assert (await direct.identify()).is_direct, "the server behind it is taken"
