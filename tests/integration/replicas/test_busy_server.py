"""Probes of a server that has far more work than processors, as every replica of a set has at the same time.

The kubelet's part is played here: each probe ends in its time or counts as failed, and some failures in a row make a
pod not ready. HEADROOM_READINESS_SECONDS=300 looks for five minutes, and prints what it saw.
"""

import contextlib
import os
import shutil
import subprocess
import time
from collections.abc import Iterator

import pytest
from psycopg.conninfo import make_conninfo
from psycopg.pq import PGconn

from headroom.manifests.pod import PROBE_SECONDS, READY_FAILURES, READY_PERIOD_SECONDS
from tests.integration.replicas.volume import SLOT, Volume
from tests.postgres_server import APPLICATION, DATABASE, ServerMaker

pytestmark = [pytest.mark.postgres, pytest.mark.timeout(600)]
SECONDS = float(os.environ.get("HEADROOM_READINESS_SECONDS", "20"))
BACKENDS = 55
LOGIN = {"user": APPLICATION.username, "password": APPLICATION.password}
ONE_CORE = ("taskset", "--cpu-list", "0")
BURN = b"SELECT count(*) FROM (SELECT generate_series(1, 1000000000000)) AS numbers"
"""Takes a processor, and neither memory nor disk."""


@pytest.fixture
def busy(servers: ServerMaker) -> Iterator[Volume]:
    """A replica on one core that runs `BACKENDS` statements without an end."""
    if shutil.which("taskset") is None:
        pytest.skip("no taskset (util-linux) to leave a server one core")
    primary = servers.make(max_connections="60")
    primary.sql("SELECT pg_create_physical_replication_slot(%s, true)", [SLOT])
    volume = Volume(primary, primary.installation.make_folder(), primary.target(tls_mode="disable"))
    with contextlib.ExitStack() as clients:
        clients.callback(volume.close)
        assert volume.run("seed.sh").returncode == 0
        volume.start(before=ONE_CORE)
        for _ in range(BACKENDS):
            client = PGconn.connect(
                make_conninfo(host="127.0.0.1", port=volume.port, dbname=DATABASE, **LOGIN).encode()
            )
            clients.callback(client.finish)
            client.send_query(BURN)
        looking = clients.enter_context(volume.connect(autocommit=True))
        running = f"SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND usename = '{APPLICATION.username}'"
        end = time.monotonic() + 30
        while looking.execute(running).fetchone() != (BACKENDS,):
            assert time.monotonic() < end, "the server did not become busy"
        yield volume
        volume.stop_at_once()


def probe(volume: Volume) -> tuple[bool, float]:
    """One run of the readiness probe on the same core; whether it succeeded in time, and its seconds."""
    began = time.monotonic()
    try:
        done = volume.run_by(ONE_CORE, "ready.sh", PROBE_SECONDS)
    except subprocess.TimeoutExpired:
        return False, time.monotonic() - began
    return done.returncode == 0, time.monotonic() - began


def test_a_busy_server_stays_ready(busy: Volume) -> None:
    failures, flaps, times = 0, 0, []
    end = time.monotonic() + SECONDS
    while (now := time.monotonic()) < end:
        is_ready, took = probe(busy)
        times.append(took)
        failures = 0 if is_ready else failures + 1
        flaps += failures == READY_FAILURES
        time.sleep(max(now + min(READY_PERIOD_SECONDS, SECONDS / 10) - time.monotonic(), 0))
    print(
        f"{len(times)} probes, {flaps} flaps, slowest {max(times):.2f} s, median {sorted(times)[len(times) // 2]:.2f} s"
    )
    assert flaps == 0
    assert max(times) < PROBE_SECONDS, "none would have failed"


def test_a_server_without_a_free_connection_is_ready(busy: Volume) -> None:
    with contextlib.ExitStack() as clients:
        while (refusal := busy.find_refusal(**LOGIN)) is None:
            clients.enter_context(busy.connect(**LOGIN))
        assert "remaining connection slots" in refusal
        assert busy.run("ready.sh").returncode == 0
