"""A member made from a snapshot of another one's volume, on real servers: restored, refused, killed half-way."""

import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.integration.replicas.volume import SLOT, Volume
from tests.postgres_server import APPLICATION

pytestmark = pytest.mark.postgres

ANCHOR, NEW_SLOT = "hr_0123abcd_4567cdef_s_b", "hr_0123abcd_4567cdef_1_c"
STOPPED, ATOMIC = "Stopped", "Atomic"
HOSTILE = """
archive_mode = always
archive_command = 'touch {folder}/run/archived'
recovery_target = 'immediate'
recovery_target_action = 'promote'
restore_command = 'touch {folder}/run/fetched; false'
primary_conninfo = 'host=203.0.113.9'
"""
COPY_SLOT = "SELECT pg_copy_physical_replication_slot(%s, %s, false)"


@pytest.fixture
def source(volume: Volume) -> Volume:
    """The member whose volume is snapshotted: it streams, an anchor keeps the WAL from before, and it has a row."""
    assert volume.run("seed.sh").returncode == 0
    volume.start()
    volume.wait_until_streaming()
    volume.primary.sql("SELECT pg_create_physical_replication_slot(%s, true)", [ANCHOR])
    volume.primary.sql("CREATE TABLE goods AS SELECT generate_series(1, 1000) AS id")
    volume.primary.sql(f"GRANT SELECT ON goods TO {APPLICATION.username}")
    assert count_goods(volume) == 1000
    return volume


@pytest.fixture
def clone(source: Volume) -> Iterator[Volume]:
    """The volume of the new member, and the environment of its pod; a test puts the snapshot into it."""
    primary = source.primary
    variables = {"RESTORE": STOPPED, "RESTORED_SLOT": SLOT, "NAME": "store-1-c"}
    made = Volume(primary, primary.installation.make_folder(), source.target, slot=NEW_SLOT, variables=variables)
    yield made
    made.close()


def count_goods(volume: Volume) -> int:
    """What a client of the replica sees once it has replayed all that the primary has written by now."""
    end = volume.primary.sql("SELECT pg_current_wal_flush_lsn()::text AS lsn")[0]["lsn"]
    until = time.monotonic() + 20
    with volume.connect(autocommit=True) as connection:
        while connection.execute("SELECT pg_last_wal_replay_lsn() >= %s::pg_lsn", [end]).fetchone() != (True,):
            assert time.monotonic() < until, volume.log
            time.sleep(0.05)
    with volume.connect(user=APPLICATION.username, password=APPLICATION.password) as client:
        [count] = client.execute("SELECT count(*) FROM goods").fetchone() or [0]
    assert isinstance(count, int)
    return count


def snapshot_stopped(source: Volume, clone: Volume) -> None:
    source.stop_fast()
    source.take_snapshot(clone.folder / "data")


def test_a_snapshot_of_a_stopped_member_streams_on_from_the_primary(source: Volume, clone: Volume) -> None:
    (source.folder / "data" / ".headroom-tls").mkdir(exist_ok=True)
    (source.folder / "data" / ".headroom-tls" / f"{SLOT}.key").write_text("the source's key")
    snapshot_stopped(source, clone)
    # Written between the snapshot and the restore: only the anchor keeps it, and the copied slot after it.
    clone.primary.sql("INSERT INTO goods SELECT generate_series(1001, 5000)")
    clone.primary.sql("CHECKPOINT")
    clone.primary.sql(COPY_SLOT, [ANCHOR, NEW_SLOT])
    # With a certificate of the user's own nothing else looks at the keys on the volume.
    restored = clone.run("seed.sh", SERVER_TLS="/given")
    assert restored.returncode == 0, restored.stderr
    assert "restored from a snapshot" in restored.stderr
    assert (clone.pgdata / ".headroom-seeded").read_text() == f"{NEW_SLOT}\n"
    assert not (clone.folder / "data" / ".headroom-tls").exists(), "the source's keys are gone"
    clone.start()
    clone.wait_until_streaming()
    clone.primary.sql("INSERT INTO goods VALUES (5001)")
    assert count_goods(clone) == 5001
    [slot] = clone.primary.sql("SELECT active FROM pg_replication_slots WHERE slot_name = %s", [NEW_SLOT])
    assert slot["active"]
    assert clone.run("ready.sh").returncode == 0


def test_a_snapshot_of_a_running_member_streams_on_too(source: Volume, clone: Volume) -> None:
    source.primary.sql("INSERT INTO goods SELECT generate_series(1001, 20000)")
    source.signal_all(signal.SIGSTOP)
    try:
        source.take_snapshot(clone.folder / "data")
    finally:
        source.signal_all(signal.SIGCONT)
    clone.primary.sql(COPY_SLOT, [ANCHOR, NEW_SLOT])
    wrong = clone.run("seed.sh")
    assert (wrong.returncode, "not taken as its consistency Stopped says" in wrong.stderr) == (3, True), wrong.stderr
    restored = clone.run("seed.sh", RESTORE=ATOMIC)
    assert restored.returncode == 0, restored.stderr
    clone.start()
    clone.wait_until_streaming()
    assert count_goods(clone) == 20000


def test_a_second_run_finds_its_own_copy_and_changes_nothing(source: Volume, clone: Volume) -> None:
    snapshot_stopped(source, clone)
    clone.primary.sql(COPY_SLOT, [ANCHOR, NEW_SLOT])
    assert clone.run("seed.sh").returncode == 0
    tls = sorted((clone.folder / "data" / ".headroom-tls").glob("*"))
    again = clone.run("seed.sh")
    assert (again.returncode, "the copy is there" in again.stderr) == (0, True), again.stderr
    assert sorted((clone.folder / "data" / ".headroom-tls").glob("*")) == tls


def test_the_server_does_not_start_on_a_volume_that_is_still_the_sources(source: Volume, clone: Volume) -> None:
    snapshot_stopped(source, clone)
    done = clone.run("start.sh")
    assert (done.returncode, "the copy of another member" in done.stderr) == (1, True), done.stderr


def test_a_copied_configuration_is_without_effect(source: Volume, clone: Volume) -> None:
    snapshot_stopped(source, clone)
    hostile = HOSTILE.format(folder=clone.folder)
    for name in ("postgresql.auto.conf", "postgresql.conf"):
        with (clone.pgdata / name).open("a") as conf:
            conf.write(hostile)
    (clone.pgdata / "pg_hba.conf").write_text("host all all 0.0.0.0/0 trust\n")
    (clone.pgdata / "recovery.signal").touch()
    (clone.pgdata / "pg_replslot" / "left").mkdir()
    clone.primary.sql(COPY_SLOT, [ANCHOR, NEW_SLOT])
    assert clone.run("seed.sh").returncode == 0
    assert (clone.pgdata / "postgresql.auto.conf").read_text() == ""
    assert list((clone.pgdata / "pg_replslot").iterdir()) == []
    clone.start()
    clone.wait_until_streaming()
    clone.primary.sql("SELECT pg_switch_wal()")
    with clone.connect() as connection:
        row = connection.execute(
            "SELECT pg_is_in_recovery(), current_setting('archive_mode'), current_setting('recovery_target_action')"
        ).fetchone()
    assert row == (True, "off", "pause")
    assert clone.find_refusal(user="postgres", password="") is not None, "the copied pg_hba.conf would let it in"
    assert not (clone.folder / "run" / "archived").exists()
    assert not (clone.folder / "run" / "fetched").exists()


Spoil = Callable[[Volume, Volume], object]


def pgdata_without(name: str) -> Spoil:
    return lambda _, clone: (clone.pgdata / name).unlink()


def mark(text: str) -> Spoil:
    return lambda _, clone: (clone.pgdata / ".headroom-seeded").write_text(f"{text}\n")


def empty(_: Volume, clone: Volume) -> None:
    shutil.rmtree(clone.pgdata)


def half_seeded(_: Volume, clone: Volume) -> None:
    clone.pgdata.rename(clone.folder / "data" / "pgdata.new")


def break_control_file(_: Volume, clone: Volume) -> None:
    path = clone.pgdata / "global" / "pg_control"
    whole = path.read_bytes()
    path.write_bytes(whole[:100] + bytes([whole[100] ^ 255]) + whole[101:])


def copy_primary(source: Volume, clone: Volume) -> None:
    """The data of the primary, in the dress of a standby of ours."""
    source.primary.sql("CHECKPOINT")
    shutil.rmtree(clone.pgdata)
    subprocess.run(["cp", "-a", str(source.primary.data), str(clone.pgdata)], check=True)
    mark(SLOT)(source, clone)
    (clone.pgdata / "standby.signal").touch()


def copy_stopped_primary(source: Volume, clone: Volume) -> None:
    source.primary.stop()
    copy_dress = source.primary.data
    shutil.rmtree(clone.pgdata)
    subprocess.run(["cp", "-a", str(copy_dress), str(clone.pgdata)], check=True)
    source.primary.start()
    mark(SLOT)(source, clone)
    (clone.pgdata / "standby.signal").touch()


def link_tablespace(_: Volume, clone: Volume) -> None:
    (clone.pgdata / "pg_tblspc" / "16400").symlink_to("/elsewhere")


@pytest.mark.parametrize(
    ("spoil", "changes", "says"),
    [
        pytest.param(empty, {}, "no complete copy: .headroom-seeded is missing", id="empty"),
        pytest.param(half_seeded, {}, "no complete copy: .headroom-seeded is missing", id="half seeded"),
        pytest.param(pgdata_without(".headroom-seeded"), {}, ".headroom-seeded is missing", id="no mark"),
        pytest.param(mark("hr_0123abcd_4567cdef_9_z"), {}, "with slot hr_0123abcd_4567cdef_9_z", id="foreign mark"),
        pytest.param(pgdata_without("PG_VERSION"), {}, "PG_VERSION is missing", id="no version"),
        pytest.param(None, {"RESTORED_SLOT": "hr_0123abcd_4567cdef_0_b"}, f"with slot {SLOT}, not", id="other source"),
        pytest.param(pgdata_without("global/pg_control"), {}, "cannot read the snapshot", id="no control file"),
        pytest.param(break_control_file, {}, "its checksum is wrong", id="broken control file"),
        pytest.param(None, {"SYSTEM_IDENTIFIER": "1"}, "the primary is 1", id="other system"),
        pytest.param(None, {"RESTORE": ATOMIC}, "not taken as its consistency Atomic says", id="other consistency"),
        pytest.param(copy_primary, {}, "of a primary: its database cluster state is 'in production'", id="primary"),
        pytest.param(copy_stopped_primary, {}, "of a primary: its database cluster state is 'shut down'", id="stopped"),
        pytest.param(
            lambda _, clone: (clone.pgdata / "backup_label").touch(), {}, "has a backup_label", id="backup label"
        ),
        pytest.param(pgdata_without("standby.signal"), {}, "standby.signal is missing", id="no standby"),
        pytest.param(link_tablespace, {}, "has user tablespaces", id="tablespaces"),
    ],
)
def test_what_is_no_snapshot_of_ours_is_refused_and_left_as_it_is(
    source: Volume, clone: Volume, spoil: Spoil | None, changes: dict[str, str], says: str
) -> None:
    snapshot_stopped(source, clone)
    if spoil is not None:
        spoil(source, clone)
    before = list_files(clone.folder / "data")
    done = clone.run("seed.sh", **changes)
    assert (done.returncode, says in done.stderr) == (3, True), done.stderr
    assert done.stderr.rstrip().rpartition("\n")[2].startswith("seed: "), "what the condition quotes"
    after = list_files(clone.folder / "data")
    after.pop(".headroom-lock"), before.pop(".headroom-lock")
    assert after == before, "nothing was changed"
    assert clone.run("start.sh").returncode == 1


def test_another_major_version_is_refused_though_the_image_fits(source: Volume, clone: Volume) -> None:
    snapshot_stopped(source, clone)
    (clone.pgdata / "PG_VERSION").write_text("13\n")
    done = clone.run("seed.sh")
    assert (done.returncode, "is of PostgreSQL 13, the primary is" in done.stderr) == (3, True), done.stderr


def list_files(folder: Path) -> dict[str, tuple[int, float]]:
    return {
        str(path.relative_to(folder)): (path.lstat().st_size, path.lstat().st_mtime)
        for path in folder.rglob("*")
        if not path.is_dir()
    }


KILLER = """#!/bin/sh
count=$(($(cat {folder}/count) + 1))
echo "$count" >{folder}/count
[ "$count" != "$KILL_AT" ] || kill -9 "$PPID"
PATH={path} exec {tool} "$@"
"""
STEPS = ("rm", "mkdir", "chmod", "sync", "mv")
"""What changes the volume; between two of them only the shell itself does."""


def put_killer_before(clone: Volume) -> str:
    tools, path = clone.folder / "tools", clone.environment()["PATH"]
    tools.mkdir()
    for tool in STEPS:
        (tools / tool).write_text(KILLER.format(folder=tools, path=path, tool=tool))
        (tools / tool).chmod(0o755)
    tools.chmod(0o777)
    return f"{tools}:{path}"


def test_a_run_that_is_killed_at_any_step_is_followed_by_a_whole_one(source: Volume, clone: Volume) -> None:
    snapshot_stopped(source, clone)
    subprocess.run(["cp", "-a", str(clone.pgdata), str(clone.folder / "snapshot")], check=True)
    clone.primary.sql(COPY_SLOT, [ANCHOR, NEW_SLOT])
    tools = put_killer_before(clone)
    marks, killed = set(), 0
    for step in range(1, 40):
        reset(clone)
        done = clone.run("seed.sh", PATH=tools, KILL_AT=str(step))
        if done.returncode == 0:
            break
        killed += 1
        found = (clone.pgdata / ".headroom-seeded").read_text().strip()
        assert found in (SLOT, NEW_SLOT), f"step {step}"
        marks.add(found)
        again = clone.run("seed.sh")
        assert again.returncode == 0, f"step {step}: {again.stderr}"
        assert (clone.pgdata / ".headroom-seeded").read_text() == f"{NEW_SLOT}\n"
        assert (clone.pgdata / "postgresql.auto.conf").read_text() == ""
        assert list((clone.pgdata / "pg_replslot").iterdir()) == []
    assert marks == {SLOT, NEW_SLOT}, "killed before and after the mark"
    assert killed >= 7
    clone.start()
    clone.wait_until_streaming()


def reset(clone: Volume) -> None:
    """The volume as the driver made it of the snapshot, and the steps counted anew."""
    shutil.rmtree(clone.pgdata, ignore_errors=True)
    subprocess.run(["cp", "-a", str(clone.folder / "snapshot"), str(clone.pgdata)], check=True)
    shutil.rmtree(clone.folder / "data" / ".headroom-tls", ignore_errors=True)
    (clone.folder / "tools" / "count").write_text("0")
    (clone.folder / "tools" / "count").chmod(0o666)


def test_a_slot_that_begins_after_the_snapshot_does_not_fit_it(source: Volume, clone: Volume) -> None:
    """Why the slot is copied from the anchor: the WAL of a fresh slot begins too late."""
    snapshot_stopped(source, clone)
    primary = clone.primary
    primary.sql("SELECT pg_drop_replication_slot(%s)", [ANCHOR])
    primary.sql("SELECT pg_drop_replication_slot(%s)", [SLOT])
    for _ in range(60):
        primary.sql("INSERT INTO goods SELECT generate_series(1, 10000)")
        primary.sql("SELECT pg_switch_wal()")
    primary.sql("CHECKPOINT")
    primary.sql("SELECT pg_create_physical_replication_slot(%s, true)", [NEW_SLOT])
    assert clone.run("seed.sh").returncode == 0
    clone.start()
    clone.wait_for_log("has already been removed")
