"""The arithmetic of the replicas' benchmark: what counts as a sample, what it cost, its figures, and how they merge."""

import json
import os
import shutil
from collections import namedtuple
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from e2e.bench.replicas.__main__ import NAME, QUICK_NAME, parse_plan
from e2e.bench.replicas.bench import Joined
from e2e.bench.replicas.cost import Cost, Window, count_cost
from e2e.bench.replicas.figures import figure_clients, figure_cold, figure_warm, summarize
from e2e.bench.replicas.merge import Part, add_part
from e2e.bench.replicas.meter import Meter, Reading, Usage, count_usage, read_pod
from e2e.bench.replicas.picture import draw
from e2e.bench.replicas.room import Room, measure_free
from e2e.bench.replicas.scene import database_guard, replica_set
from e2e.bench.replicas.series import FEW, MANY, Kind, Sample, Windows, describe, find_problem, wanted_turns
from e2e.bench.replicas.warm import Warm
from e2e.bench.replicas.writer import Writes
from e2e.lab import results
from headroom.api.v1alpha1 import parse_spec
from headroom.api.v1alpha1.databaseguard import DatabaseGuardSpec
from headroom.api.v1alpha1.replicaset import ReplicaSetSpec

MIB = 2**20
DiskUsage = namedtuple("DiskUsage", "total used free")
IDLE = Usage(cpu_seconds=1.0, read_bytes=0, written_bytes=10 * MIB, working_set=100 * MIB)
BUSY = Usage(cpu_seconds=3.0, read_bytes=1024 * MIB, written_bytes=15 * MIB, working_set=300 * MIB)


def sample(seconds: float = 5.0, *, bare: float = 4.0, hand: float = 4.5, commits: float = 12.0) -> Sample:
    """One turn: calm for 10 s with commits of 10 ms."""
    calm = Cost(10.0, IDLE, IDLE, (0, 0), (10.0,) * 100)
    ours = Cost(seconds, BUSY, None, (32 * MIB, 64 * MIB), (commits,) * 100)
    return Sample(calm, ours, replace(ours, seconds=hand), bare)


WARM = Warm((0.1, 0.12, 0.11), (0.06, 0.07, 0.08), Cost(30.0, IDLE, IDLE, None))


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Results go there."""
    monkeypatch.setattr(results, "RESULTS", tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("kind", "method", "source", "problem"),
    [
        (Kind.SNAPSHOT, "VolumeSnapshot", "store-s-1", ""),
        (Kind.SNAPSHOT, "BaseBackup", "store-1-a", "was made by BaseBackup, not by VolumeSnapshot"),
        (Kind.SNAPSHOT, "", "", "was made by nobody knows what, not by VolumeSnapshot"),
        (Kind.SNAPSHOT, "VolumeSnapshot", "", "has no source in status"),
        (Kind.STANDBY, "BaseBackup", "store-1-a", ""),
        (Kind.STANDBY, "BaseBackup", "primary", "was copied from primary"),
        (Kind.STANDBY, "VolumeSnapshot", "store-s-1", "was made by VolumeSnapshot, not by BaseBackup"),
        (Kind.PRIMARY, "BaseBackup", "primary", ""),
        (Kind.PRIMARY, "BaseBackup", "store-1-a", "was copied from store-1-a"),
    ],
)
def test_only_what_was_made_as_asked_is_a_sample(kind: Kind, method: str, source: str, problem: str) -> None:
    assert find_problem(kind, Joined("store-2-b", 100.0, 105.0, method, source)) == problem


def test_what_takes_a_minute_is_measured_less_often() -> None:
    def turn(seconds: float) -> Windows:
        return Windows(Window(0, 10), None, Window(0, seconds), seconds)

    assert wanted_turns([]) == MANY
    assert wanted_turns([turn(59.0)]) == MANY
    assert wanted_turns([turn(61.0)]) == FEW
    assert describe(turn(61.0)) == "no sample, bare 61.0 s, by hand 61.0 s"


def test_ours_is_compared_with_the_bare_commands_and_with_by_hand() -> None:
    figures = figure_cold(4, Kind.STANDBY, [sample(4.0), sample(5.0), sample(9.0)])
    assert figures["basebackup_standby_4gib"].value == 5.0
    assert figures["bare_basebackup_standby_4gib"].value == 4.0
    assert (figures["basebackup_standby_ratio_4gib"].value, figures["basebackup_standby_ratio_4gib"].met) == (
        1.25,
        False,
    )
    assert figures["basebackup_standby_ratio_by_hand_4gib"].met is None
    assert figures["basebackup_standby_not_as_asked_count_4gib"].met
    assert figures["basebackup_standby_4gib"].goal is None


def test_a_restore_has_to_be_quick_and_near_the_one_by_hand() -> None:
    good = figure_cold(1, Kind.SNAPSHOT, [sample(6.0)])
    assert (good["snapshot_1gib"].met, good["snapshot_ratio_by_hand_1gib"].met) == (True, True)
    bad = figure_cold(1, Kind.SNAPSHOT, [sample(6.8)])
    assert (bad["snapshot_1gib"].met, bad["snapshot_ratio_by_hand_1gib"].met) == (False, False)
    assert good["snapshot_ratio_1gib"].met is None, "the bare start has no volume to wait for"


def test_commits_are_compared_with_those_of_calm_time_in_the_same_series() -> None:
    slow = [sample(commits=16.0)]
    assert figure_cold(1, Kind.STANDBY, slow)["basebackup_standby_commit_ratio_1gib"].met is False
    assert figure_cold(1, Kind.PRIMARY, slow)["basebackup_primary_commit_ratio_1gib"].met is None, (
        "shown without a goal"
    )
    figures = figure_cold(1, Kind.STANDBY, [sample(commits=14.0)])
    assert figures["basebackup_standby_commit_ratio_1gib"].met
    assert figures["calm_basebackup_standby_commit_p99_1gib"].value == 10.0
    none = [replace(sample(), calm=Cost(10.0, IDLE))]
    assert "basebackup_standby_commit_ratio_1gib" not in figure_cold(1, Kind.STANDBY, none)


def test_a_cost_is_beside_that_of_as_much_calm_time() -> None:
    figures = figure_cold(1, Kind.PRIMARY, [sample(5.0)])
    assert figures["basebackup_primary_primary_cpu_1gib"].value == 3.0
    assert figures["calm_basebackup_primary_primary_cpu_1gib"].value == 0.5, "half of the 1 s in 10 s"
    assert figures["basebackup_primary_primary_read_1gib"].value == 1024
    assert figures["calm_basebackup_primary_primary_written_1gib"].value == 5
    assert figures["basebackup_primary_primary_memory_1gib"].value == 300
    assert figures["basebackup_primary_kept_wal_1gib"].value == 32
    assert figures["basebackup_primary_anchor_kept_wal_1gib"].value == 64
    assert not [name for name in figures if "_source_" in name], "nothing of a source was measured"


def test_without_a_sample_there_is_no_figure_but_the_miss() -> None:
    wrong = [replace(sample(), ours=None)] * 2
    assert list(figure_cold(1, Kind.STANDBY, wrong)) == ["basebackup_standby_not_as_asked_count_1gib"]
    missed = figure_cold(1, Kind.STANDBY, [*wrong, sample()])
    assert missed["basebackup_standby_not_as_asked_count_1gib"].met is False
    assert missed["basebackup_standby_1gib"].samples == [5.0]


def test_a_warm_standby_has_its_price_in_a_minute() -> None:
    figures = figure_warm(4, WARM)
    assert figures["standby_cpu_per_minute_4gib"].value == 2.0
    assert figures["standby_written_per_minute_4gib"].value == 20
    assert figures["standby_memory_4gib"].value == 100
    assert figures["warm_p50_4gib"].met
    assert "standby_memory_4gib" not in figure_warm(4, replace(WARM, idle=Cost(30.0)))


def test_sizes_are_compared_once_they_are_there() -> None:
    one = {**figure_cold(1, Kind.SNAPSHOT, [sample(4.0)]), **figure_warm(1, WARM)}
    large = {**figure_cold(16, Kind.SNAPSHOT, [sample(5.0)]), **figure_cold(16, Kind.PRIMARY, [sample(20.0)])}
    assert set(summarize(one)) == {"warm_p50", "warm_p99", "label_by_hand_p50", "warm_ratio"}
    found = summarize({**one, **large, **figure_warm(16, WARM)})
    assert (found["snapshot_growth_1_to_16gib"].value, found["snapshot_growth_1_to_16gib"].met) == (1.25, False)
    assert found["warm_speedup_16gib"].value == pytest.approx(181.8, abs=0.1)
    assert found["warm_speedup_16gib"].met
    assert len(found["warm_p50"].samples) == 6, "all activations of both sizes"


def restored(gib: int, seconds: float) -> Part:
    """What a series of one turn leaves."""
    turns = [sample(seconds)]
    return Part("snapshot", gib, figure_cold(gib, Kind.SNAPSHOT, turns), turns)


def test_a_part_is_added_to_those_that_are_there(folder: Path) -> None:
    add_part(NAME, restored(1, 4.0))
    assert add_part(NAME, restored(16, 4.4))["snapshot_growth_1_to_16gib"].met
    add_part(NAME, restored(16, 6.0))
    content = json.loads((folder / f"{NAME}.json").read_text())
    assert content["figures"]["snapshot_1gib"]["samples"] == [4.0]
    assert content["figures"]["snapshot_16gib"]["samples"] == [6.0]
    assert content["figures"]["snapshot_growth_1_to_16gib"]["value"] == 1.5
    [turn] = content["parts"]["snapshot_1gib"]["turns"]
    assert (turn["ours"]["seconds"], turn["byHand"]["bareSeconds"], turn["calm"]["commits"]) == (4.0, 4.0, 100)


def test_a_part_that_is_measured_again_leaves_nothing_of_before() -> None:
    add_part(NAME, restored(1, 4.0))
    add_part(NAME, restored(16, 4.0))
    wrong = [replace(sample(), ours=None)]
    figures = add_part(NAME, Part("snapshot", 16, figure_cold(16, Kind.SNAPSHOT, wrong), wrong))
    assert [name for name in figures if "16gib" in name] == ["snapshot_not_as_asked_count_16gib"]
    assert "snapshot_1gib" in figures


def test_what_clients_met_is_counted_in_each_series_and_in_all() -> None:
    before, after = {"too_old": 1, "cut": 2, "errors": 3}, {"too_old": 1, "cut": 4, "errors": 4}
    first = figure_clients(1, "warm", before, after)
    assert first["warm_queries_cut_count_1gib"].value == 2
    assert first["warm_reads_too_old_count_1gib"].met
    assert first["warm_failed_connections_count_1gib"].value == 1
    found = summarize({**first, **figure_clients(4, "snapshot", {}, after)})
    assert (found["queries_cut_count"].value, found["queries_cut_count"].met) == (6, False)
    assert found["reads_too_old_count"].value == 1


def test_figures_of_another_machine_are_not_mixed_in(folder: Path) -> None:
    add_part(NAME, restored(1, 4.0))
    path = folder / f"{NAME}.json"
    content = json.loads(path.read_text())
    content["machine"]["cores"] += 1
    path.write_text(json.dumps(content))
    assert "snapshot_1gib" not in add_part(NAME, restored(4, 4.0))


def test_a_quick_run_leaves_the_results_alone() -> None:
    quick = parse_plan([], {"QUICK": "1"})
    assert (quick.sizes, quick.times, quick.name) == ((1,), 2, QUICK_NAME)
    whole = parse_plan(["--gib", "16", "--only", "snapshot"], {"QUICK": ""})
    assert (whole.sizes, whole.times, whole.parts, whole.name) == ((16,), None, ("snapshot",), NAME)
    assert parse_plan([], {}).sizes == (1, 4, 16)


def test_usage_is_the_share_of_the_readings_around_a_window() -> None:
    readings = [Reading(10.0 + n, n * 1.0, n * 100, n * 10, 50 + (n == 2)) for n in range(5)]
    assert count_usage(readings, 11.5, 12.5) == Usage(1.0, 100, 10, 51), "half of two seconds"
    assert count_usage(readings, 9.0, 12.0) is None, "nothing was read before it"
    assert count_usage(readings, 12.0, 14.5) is None, "nothing was read after it"
    assert count_usage([], 1.0, 2.0) is None


def make_pod(root: Path, uid: str, *, is_new: bool) -> None:
    """The cgroups of a pod with one container that has this process, in version 1 or 2."""
    files = {
        "pids": {}, "cpuacct": {"cpuacct.usage": "2500000000"},
        "memory": {"memory.usage_in_bytes": "1000", "memory.stat": "cache 5\ntotal_inactive_file 400\n"},
    }  # fmt: skip
    if is_new:
        files = {".": {"cpu.stat": "usage_usec 2500000\nuser_usec 1\n", "memory.current": "1000",
                       "memory.stat": "anon 5\ninactive_file 400\n"}}  # fmt: skip
    for kind, content in files.items():
        name = f"kubepods-pod{uid.replace('-', '_')}.slice" if is_new else f"kubepods/burstable/pod{uid}"
        folder = root / kind / name
        (folder / "container").mkdir(parents=True)
        (folder / "container" / "cgroup.procs").write_text("17\n18\n")
        (folder / "cgroup.procs").write_text("")
        for file, text in content.items():
            (folder / file).write_text(text)


@pytest.mark.parametrize("is_new", [False, True], ids=["cgroup 1", "cgroup 2"])
def test_a_pod_is_read_from_its_cgroups_and_processes(tmp_path: Path, *, is_new: bool) -> None:
    uid, processes = "0a1b-2c3d", tmp_path / "proc"
    make_pod(tmp_path / "cgroup", uid, is_new=is_new)
    (processes / "17").mkdir(parents=True)
    (processes / "17" / "io").write_text("rchar: 9\nread_bytes: 4096\nwrite_bytes: 512\n")
    found = read_pod(uid, tmp_path / "cgroup", processes)
    assert found is not None
    assert (found.cpu_seconds, found.read_bytes, found.written_bytes) == (2.5, 4096, 512), "process 18 has ended"
    assert found.working_set == 600
    assert read_pod("ffff-0000", tmp_path / "cgroup", processes) is None
    meter = Meter(tmp_path / "cgroup", processes)
    meter.watch({"primary": uid, "elsewhere": "ffff-0000"})
    assert meter.usage("primary", found.at - 10, found.at - 5) is None
    assert meter.usage("elsewhere", 0, 1) is None


def test_this_process_can_be_read_for_what_it_writes(tmp_path: Path) -> None:
    make_pod(tmp_path, "ab", is_new=True)
    (tmp_path / "kubepods-podab.slice/container/cgroup.procs").write_text(f"{os.getpid()}\n")
    assert read_pod("ab", tmp_path) is not None, "the fields of the kernel's file have these names"


def test_a_commit_belongs_to_the_window_in_which_it_ended() -> None:
    writes = Writes()
    for second, took in ((100, 1000), (101, 250_000), (103, 2000)):
        writes.take({"us": took, "second": second, "fraction": 500_000})
    writes.take({"at": 102.0, "members": 5, "anchors": 70})
    writes.take({"at": 101.0, "members": 9, "anchors": 60})
    assert writes.milliseconds(100.5, 102.0) == [1.0, 250.0]
    assert writes.kept_bytes(101.4, 101.6) == (9, 70)
    assert writes.kept_bytes(200.0, 201.0) is None
    cost = count_cost(Window(100.6, 104.0, "store-0-a"), Meter(), writes)
    assert (cost.commits, cost.primary, cost.source) == ((250.0, 2.0), None, None)
    assert cost.as_json()["commits"] == 2


def test_a_size_that_does_not_fit_says_so() -> None:
    assert Room(16, 40.0).problem.startswith("16 GiB is skipped: it needs 56 GiB of disk and 40 GiB are free")
    assert (Room(16, 57.0).problem, Room(16, 57.0).is_tight) == ("", True)
    assert (Room(4, 40.0).problem, Room(4, 40.0).is_tight) == ("", False)
    assert (Room(16, None).problem, Room(16, None).is_tight) == ("", False), "another cluster's disk cannot be seen"


def test_what_the_pool_gave_back_counts_as_free(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pool, file = tmp_path / "pool", tmp_path / "state/pool.img"
    assert measure_free(pool, file) is None
    pool.mkdir()
    file.parent.mkdir()
    file.write_bytes(b"x" * 2**20)
    usage = {pool: (60, 10, 50), file.parent: (100, 70, 30)}
    found = {path: DiskUsage(*(value * 2**30 for value in values)) for path, values in usage.items()}
    monkeypatch.setattr(shutil, "disk_usage", found.__getitem__)
    assert measure_free(pool, file) == 30, "the disk has less than the pool, and the file no blocks to spare"
    found[pool] = DiskUsage(60 * 2**30, 0, 60 * 2**30)
    assert measure_free(pool, file) == 30 + 2**20 / 2**30
    found[file.parent] = DiskUsage(100 * 2**30, 0, 100 * 2**30)
    assert measure_free(pool, file) == 60


def test_set_and_guard_of_the_benchmark_are_valid() -> None:
    spec = parse_spec(ReplicaSetSpec, replica_set("postgres:17", "csi-snap"))
    assert (spec.replicas, spec.standbys) == (0, 0)
    assert spec.provisioning.snapshots is not None
    assert spec.provisioning.snapshots.class_name == "csi-snap"
    assert parse_spec(DatabaseGuardSpec, database_guard()).thresholds.commit_latency.brownout == timedelta(minutes=1)


def test_the_picture_is_drawn_from_whatever_was_measured(tmp_path: Path) -> None:
    one = {**figure_warm(1, WARM), **figure_clients(1, "warm", {}, {})}
    for kind in Kind:
        one |= figure_cold(1, kind, [sample(), sample(7.0)])
    more = {**one, **figure_cold(16, Kind.SNAPSHOT, [sample()])}
    for name, figures in (("empty", {}), ("one", one), ("two", more)):
        assert draw(figures, tmp_path / f"{name}.png").stat().st_size > 10_000
