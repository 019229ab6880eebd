"""Two pods on one volume, as after `kubectl delete --force`: the second waits, and never starts a server beside."""

import contextlib
import os
import signal
import socket
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from tests.integration.replicas.volume import Volume

pytestmark = pytest.mark.postgres
IN_USE = "another pod's server or copy still uses the volume"
VOLUME_IN_USE = 4
ANOTHER_POD = ("unshare", "--pid", "--ipc", "--net", "--fork", "--kill-child")
"""Neither pod sees the processes and the shared memory of the other, so that the server's own lock does not help."""


@pytest.fixture(params=[(), ANOTHER_POD], ids=["process", "pod"])
def second(request: pytest.FixtureRequest) -> Sequence[str]:
    """What runs the second one: beside the first, or apart from it as another pod is."""
    if request.param and os.geteuid() != 0:
        pytest.skip("namespaces of its own need root")
    prefix: Sequence[str] = request.param
    return prefix


@pytest.fixture
def running(volume: Volume) -> Volume:
    assert volume.run("seed.sh").returncode == 0
    volume.start()
    volume.wait_until_streaming()
    return volume


def count_postmasters(volume: Volume) -> int:
    """Servers on the volume's data, in whatever pod; a backend has the command line of its server at first."""
    mark = f"-D\0{volume.pgdata}\0".encode()
    found: dict[str, str] = {}
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            words = (folder / "cmdline").read_bytes()
            if mark in words and words.partition(b"\0")[0].endswith(b"postgres"):
                found[folder.name] = (folder / "stat").read_text().rsplit(") ", 1)[1].split()[1]
    return sum(parent not in found for parent in found.values())


def test_a_backend_without_a_client_yet_is_no_second_server(running: Volume) -> None:
    with socket.create_connection(("127.0.0.1", running.port)):
        time.sleep(0.5)
        assert count_postmasters(running) == 1


@pytest.mark.parametrize("script", ["seed.sh", "start.sh"])
def test_a_volume_in_use_is_left_alone(running: Volume, second: Sequence[str], script: str) -> None:
    before = (running.pgdata / "postmaster.pid").read_text()
    done = running.run_by(second, script, 60)
    assert (done.returncode, done.stderr.count(IN_USE)) == (VOLUME_IN_USE, 2), done.stderr
    assert (running.pgdata / "postmaster.pid").read_text() == before
    running.wait_until_streaming()


def test_never_two_servers_and_the_second_starts_when_the_first_has_ended(
    running: Volume, second: Sequence[str]
) -> None:
    first = running.server
    assert first is not None
    running.start_second(before=second)
    end = time.monotonic() + 3
    while time.monotonic() < end:
        assert count_postmasters(running) == 1
        time.sleep(0.1)
    os.killpg(first.pid, signal.SIGKILL)
    first.wait(10)
    running.wait_for_log("consistent recovery state reached")
    assert count_postmasters(running) == 1


@pytest.fixture
def busy_backend(running: Volume) -> Iterator[int]:
    """A backend that outlives its server, since it does not notice the end."""
    client = running.begin_statement("SELECT pg_sleep(60)")
    with running.connect() as connection:
        found = connection.execute("SELECT pid FROM pg_stat_activity WHERE query = 'SELECT pg_sleep(60)'").fetchone()
    assert found is not None
    pid = int(str(found[0]))
    os.kill(pid, signal.SIGSTOP)
    yield pid
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
    client.kill()
    client.communicate(timeout=10)


def test_a_backend_that_outlives_its_server_keeps_the_volume(running: Volume, busy_backend: int) -> None:
    assert running.server is not None
    running.server.kill()
    running.server.wait(10)
    done = running.run("start.sh")
    assert (done.returncode, IN_USE in done.stderr) == (VOLUME_IN_USE, True), done.stderr
    os.kill(busy_backend, signal.SIGKILL)
    running.start()


def test_a_copy_keeps_the_volume_also_when_its_script_is_killed(volume: Volume) -> None:
    volume.primary.sql("CREATE TABLE ballast AS SELECT repeat('x', 1000) AS fill FROM generate_series(1, 40000)")
    copy = volume.begin("seed.sh", MAX_RATE_KIB="1024")
    end = time.monotonic() + 20
    while not (volume.folder / "data" / "pgdata.new" / "base").exists():
        assert time.monotonic() < end, (volume.folder / "seed.sh.log").read_text()
        time.sleep(0.05)
    copy.kill()
    copy.wait(10)
    done = volume.run("seed.sh")
    assert (done.returncode, IN_USE in done.stderr) == (VOLUME_IN_USE, True), done.stderr
    os.killpg(copy.pid, signal.SIGKILL)
    seeded = volume.run("seed.sh", LOCK_SECONDS="10")
    assert seeded.returncode == 0, seeded.stderr


def test_what_refreshes_logins_keeps_no_volume(running: Volume) -> None:
    assert running.server is not None
    running.server.terminate()
    running.server.wait(10)
    running.start()
