"""Copies that are taken from a standby, on real servers: over TLS and without, cut short, and tried again."""

import asyncio
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from headroom.adapters.clock import SystemClock
from headroom.adapters.postgres import PsycopgPostgres, SessionNames
from headroom.model.copies import CopySource
from headroom.model.database import BackupProgress
from headroom.policy.replicaset.copy_progress import STREAMING_PHASE
from headroom.policy.replicaset.termination_cause import find_copy_cause
from tests.integration.replicas.stage import OpenFence
from tests.integration.replicas.volume import SLOT, Volume
from tests.postgres_server import REPLICATION, Server, local_dialer

pytestmark = pytest.mark.postgres
NEW_SLOT, NEW_NAME = "hr_0123abcd_4567cdef_1_b", "store-1-b"
BALLAST = "CREATE TABLE ballast AS SELECT repeat('x', 1000) AS fill FROM generate_series(1, 40000)"
SLOW = {"MAX_RATE_KIB": "2048"}
"""A copy of the ballast takes some twenty seconds."""
REPLICATES = {"user": REPLICATION.username, "password": REPLICATION.password}
Maker = Callable[..., Volume]


@pytest.fixture
def make_volume(primary: Server) -> Iterator[Maker]:
    made: list[Volume] = []

    def make(slot: str, name: str, **options: object) -> Volume:
        primary.sql("SELECT pg_create_physical_replication_slot(%s, true)", [slot])
        target = primary.target(tls_mode="disable")
        made.append(Volume(primary, primary.installation.make_folder(), target, slot=slot, name=name, **options))  # type: ignore[arg-type]
        return made[-1]

    yield make
    for volume in made:
        volume.close()


@pytest.fixture
def source(make_volume: Maker) -> Volume:
    """A member that streams, and has let its pod report how to verify it."""
    volume = make_volume(SLOT, "store-0-a")
    assert volume.run("seed.sh").returncode == 0
    volume.start()
    volume.wait_until_streaming()
    return volume


@pytest.fixture
def plain_source(make_volume: Maker) -> Volume:
    """The same of an image that cannot make a certificate."""
    volume = make_volume(SLOT, "store-0-a")
    assert volume.run("seed.sh").returncode == 0
    (volume.folder / "run" / "server.crt").unlink()
    volume.start()
    volume.wait_until_streaming()
    return volume


def from_standby(source: Volume, **changes: str) -> CopySource:
    reported = (source.folder / "run" / "report").read_text()
    found = CopySource("store-0-a", "a warm standby", "127.0.0.1", "verify-full", reported)
    return replace(found, **changes)


def wait_for_files(volume: Volume) -> None:
    end = time.monotonic() + 20
    while not (volume.folder / "data" / "pgdata.new" / "base").exists():
        assert time.monotonic() < end, (volume.folder / "seed.sh.log").read_text()
        time.sleep(0.05)


def check_follows(volume: Volume) -> None:
    """It streams from the primary with its own slot, and its data is whole."""
    volume.start()
    volume.wait_until_streaming()
    with volume.connect(autocommit=True) as connection:
        found = connection.execute("SELECT slot_name, sender_port FROM pg_stat_wal_receiver").fetchone()
    assert found == (volume.slot, volume.primary.port)


@pytest.mark.parametrize("is_encrypted", [True, False], ids=["tls", "plain"])
def test_a_member_copied_from_a_standby_streams_from_the_primary_with_its_own_slot(
    make_volume: Maker, request: pytest.FixtureRequest, *, is_encrypted: bool
) -> None:
    source = request.getfixturevalue("source" if is_encrypted else "plain_source")
    plain = {} if is_encrypted else {"tls_mode": "disable", "ca_pem": ""}
    chosen = from_standby(source, **plain)
    volume = make_volume(NEW_SLOT, NEW_NAME, source=chosen, source_port=source.port)
    seeded = volume.run("seed.sh")
    assert seeded.returncode == 0, seeded.stderr
    assert "BACKUP FROM: standby" in (volume.pgdata / "backup_label").read_text()
    control = volume.primary.run_tool("pg_controldata", "-D", str(volume.pgdata), environment={"LC_ALL": "C"})
    assert "in archive recovery" in control
    check_follows(volume)
    with source.connect(autocommit=True) as connection:
        left = connection.execute("SELECT count(*) FROM pg_replication_slots").fetchone()
    assert left == (0,), "the slot of the copy goes with it"


def test_a_source_that_is_not_who_it_should_be_gets_no_password(make_volume: Maker, source: Volume) -> None:
    """Another member's authority, or another member's name, does not verify."""
    other = make_volume("hr_0123abcd_4567cdef_2_c", "store-2-c")
    assert other.run("seed.sh").returncode == 0
    wrong = (other.folder / "run" / "report").read_text()
    for number, chosen in enumerate((from_standby(source, ca_pem=wrong), from_standby(source, name="store-2-c"))):
        volume = make_volume(f"hr_0123abcd_4567cdef_{number + 3}_d", f"store-{number + 3}-d", source=chosen)
        volume.source_port = source.port
        seeded = volume.run("seed.sh")
        assert seeded.returncode == 1, seeded.stderr
        assert "certificate" in seeded.stderr
        assert not volume.pgdata.exists()


def test_nobody_else_and_no_plain_connection_copies_from_a_member(make_volume: Maker) -> None:
    source = make_volume(SLOT, "store-0-a", allows_plaintext=False)
    assert source.run("seed.sh").returncode == 0
    source.start()
    volume = make_volume(
        NEW_SLOT, NEW_NAME, source=from_standby(source, tls_mode="disable", ca_pem=""), source_port=source.port
    )
    seeded = volume.run("seed.sh")
    assert (seeded.returncode, "no encryption" in seeded.stderr) == (1, True), seeded.stderr
    for login in ({"user": "postgres", "password": ""}, {}):
        refused = source.find_refusal(**login, replication="true", sslmode="require")
        assert refused is not None
        assert "pg_hba.conf rejects replication connection" in refused
    assert source.find_refusal(**REPLICATES, replication="true", sslmode="require") is None


def test_a_source_that_is_promoted_half_way_ends_the_copy_and_is_named(
    make_volume: Maker, primary: Server, source: Volume
) -> None:
    primary.sql(BALLAST)
    volume = make_volume(NEW_SLOT, NEW_NAME, source=from_standby(source), source_port=source.port)
    wait_for_replay(source, primary)
    copy = volume.begin("seed.sh", **SLOW)
    wait_for_files(volume)
    promote(source)
    assert copy.wait(60) == 1
    cause = find_copy_cause((volume.folder / "seed.sh.log").read_text())
    assert "the standby was promoted during online backup" in cause
    assert not volume.pgdata.exists()
    volume.source = from_standby(source)
    late = volume.run("seed.sh")
    assert late.returncode == 1
    assert "store-0-a is no standby any more" in late.stderr
    check_another_source(volume)


def test_a_source_that_is_killed_half_way_leaves_nothing_and_another_is_tried(
    make_volume: Maker, primary: Server, source: Volume
) -> None:
    primary.sql(BALLAST)
    volume = make_volume(NEW_SLOT, NEW_NAME, source=from_standby(source), source_port=source.port)
    wait_for_replay(source, primary)
    copy = volume.begin("seed.sh", **SLOW)
    wait_for_files(volume)
    source.stop_at_once()
    assert copy.wait(60) == 1
    assert "from store-0-a failed" in (volume.folder / "seed.sh.log").read_text()
    assert not volume.pgdata.exists()
    check_another_source(volume)


def check_another_source(volume: Volume) -> None:
    volume.source = CopySource("primary", "no standby is fit")
    again = volume.run("seed.sh")
    assert again.returncode == 0, again.stderr
    assert not (volume.folder / "data" / "pgdata.new").exists()
    check_follows(volume)


def test_a_copy_that_is_killed_leaves_nothing_and_works_the_second_time(
    make_volume: Maker, primary: Server, source: Volume
) -> None:
    primary.sql(BALLAST)
    volume = make_volume(NEW_SLOT, NEW_NAME, source=from_standby(source), source_port=source.port)
    wait_for_replay(source, primary)
    copy = volume.begin("seed.sh", **SLOW)
    wait_for_files(volume)
    os.killpg(copy.pid, signal.SIGKILL)
    copy.wait(10)
    assert not volume.pgdata.exists()
    again = volume.run("seed.sh")
    assert again.returncode == 0, again.stderr
    assert not (volume.folder / "data" / "pgdata.new").exists()
    check_follows(volume)


def test_a_volume_without_a_copy_and_without_a_source_says_so(make_volume: Maker) -> None:
    volume = make_volume(NEW_SLOT, NEW_NAME, source=CopySource("none", ""))
    seeded = volume.run("seed.sh")
    assert (seeded.returncode, "no source was chosen" in seeded.stderr) == (5, True)
    volume.source = CopySource("primary", "")
    assert volume.run("seed.sh").returncode == 0
    volume.source = CopySource("none", "")
    assert volume.run("seed.sh").returncode == 0, "the copy is there"


def wait_for_replay(source: Volume, primary: Server) -> None:
    wanted = primary.sql("SELECT pg_current_wal_insert_lsn()::text AS lsn")[0]["lsn"]
    end = time.monotonic() + 20
    with source.connect(autocommit=True) as connection:
        while connection.execute("SELECT pg_last_wal_replay_lsn() >= %s::pg_lsn", [wanted]).fetchone() != (True,):
            assert time.monotonic() < end
            time.sleep(0.05)


def promote(volume: Volume) -> None:
    command = volume.primary.installation.command(
        Path(volume.folder), "pg_ctl", "promote", "-D", str(volume.pgdata), "-W"
    )
    subprocess.run(command, check=True, capture_output=True)


async def test_how_far_a_copy_is_shows_on_the_source_through_the_monitors_link(
    make_volume: Maker, primary: Server, source: Volume
) -> None:
    primary.sql(BALLAST)
    volume = make_volume(NEW_SLOT, NEW_NAME, source=from_standby(source), source_port=source.port)
    wait_for_replay(source, primary)
    names = SessionNames("lease", "one")
    postgres = PsycopgPostgres(names, OpenFence(), SystemClock(), dialer=local_dialer())
    target = primary.target(
        port=source.port, tls_mode="verify-ca", ca_pem=(source.folder / "run" / "report").read_text()
    )
    link = await postgres.open_replica(replace(target, is_member=True))
    seen: list[BackupProgress] = []
    try:
        assert list(await link.backups()) == []
        volume.begin("seed.sh", MAX_RATE_KIB="8192")
        end = time.monotonic() + 60
        while len({copy.streamed_bytes for copy in seen}) < 3:
            assert time.monotonic() < end, seen
            seen += [copy for copy in await link.backups() if copy.phase == STREAMING_PHASE]
            await asyncio.sleep(0.2)
    finally:
        await link.close()
    assert {copy.application_name for copy in seen} == {NEW_SLOT}, "the member is known by its slot"
    assert {copy.total_bytes > 40 * 1024**2 for copy in seen} == {True}
    done = [copy.streamed_bytes for copy in seen]
    assert done == sorted(done)
    assert primary.sql("SELECT count(*) AS copies FROM pg_stat_progress_basebackup")[0]["copies"] == 0
