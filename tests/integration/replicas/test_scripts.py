"""The scripts of a replica's pod on real servers: seeding, refusing, starting, probing, stopping."""

import os
import signal
import subprocess
import time

import pytest

from headroom.model.replica import ContainerFacts
from headroom.policy.replicaset.termination_cause import describe_end
from tests.integration.replicas.volume import SLOT, Volume
from tests.ports import find_free_port

pytestmark = pytest.mark.postgres


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


def test_the_server_never_starts_on_the_data_of_another_system(volume: Volume) -> None:
    assert volume.run("seed.sh").returncode == 0
    done = volume.run("start.sh", SYSTEM_IDENTIFIER="1")
    assert (done.returncode, "the primary is 1" in done.stderr) == (1, True), done.stderr


@pytest.mark.parametrize(
    ("line", "says"),
    [
        pytest.param("wrok_mem = '1MB'", 'unrecognized configuration parameter "wrok_mem"', id="unknown"),
        pytest.param("work_mem = 'lots'", 'invalid value for parameter "work_mem": "lots"', id="no value"),
        pytest.param("work_mem = '1kB'", 'outside the valid range for parameter "work_mem"', id="out of range"),
        pytest.param("jit = 'perhaps'", 'parameter "jit" requires a Boolean value', id="no switch"),
        pytest.param("shared_preload_libraries = 'none'", 'could not access file "none"', id="no library"),
    ],
)
def test_a_server_that_does_not_start_says_which_parameter_it_is(volume: Volume, line: str, says: str) -> None:
    assert volume.run("seed.sh").returncode == 0
    with (volume.folder / "config" / "postgresql.conf").open("a") as conf:
        conf.write(f"{line}\n")
    done = volume.run("start.sh")
    assert done.returncode == 1
    assert says in describe_end(ContainerFacts(message=done.stderr, exit_code=1)), done.stderr


def test_a_server_that_is_not_there_has_not_started(volume: Volume) -> None:
    assert volume.run("seed.sh").returncode == 0
    assert volume.run("started.sh").returncode == 1
    volume.start()
    assert volume.run("started.sh").returncode == 0


def test_a_server_that_waits_for_its_backlog_has_not_started_and_nobody_knocks_at_it(volume: Volume) -> None:
    assert volume.run("seed.sh").returncode == 0
    for segment in (volume.pgdata / "pg_wal").glob("0*"):
        segment.unlink()
    volume.server = volume.begin("start.sh", PRIMARY_CONNINFO=f"host=127.0.0.1 port={find_free_port()}")
    log = volume.folder / "start.sh.log"
    end = time.monotonic() + 20
    while "listening on" not in log.read_text():
        assert time.monotonic() < end, log.read_text()
        time.sleep(0.1)
    assert volume.run("started.sh").returncode == 1
    assert volume.server.poll() is None
    assert "the database system is" not in log.read_text(), "a refusal for each knock"
    assert volume.run("ready.sh").returncode == 1
    assert "the database system is" in log.read_text(), "a knock would have been seen"


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


def test_a_server_that_nobody_uses_serves_on_until_the_proxies_know(volume: Volume) -> None:
    assert volume.run("seed.sh").returncode == 0
    volume.start()
    began = time.monotonic()
    stop = volume.begin("stop.sh", LAME_DUCK_SECONDS="3")
    while time.monotonic() - began < 2.5:
        volume.connect().close()
        time.sleep(0.05)
    query = volume.begin_statement("SELECT pg_sleep(2), 42")
    assert stop.wait(20) == 0
    out, _ = query.communicate(timeout=20)
    assert out.strip() == b"|42", "what came last has the time of a drain too"
    assert time.monotonic() - began > 4


def test_stopping_lets_a_running_statement_finish(volume: Volume) -> None:
    assert volume.run("seed.sh").returncode == 0
    volume.start()
    idle = volume.connect(autocommit=True)
    query = volume.begin_statement("SELECT pg_sleep(2), 42")
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
    query = volume.begin_statement("SELECT pg_sleep(60)")
    began = time.monotonic()
    path = f"{tools}:{volume.environment()['PATH']}"
    stopped = volume.run("stop.sh", DRAIN_SECONDS="6", PATH=path)
    took = time.monotonic() - began
    query.communicate(timeout=10)
    assert stopped.returncode == 0, stopped.stderr
    assert 5 <= took < 12, "six looks of three seconds would have been eighteen"
