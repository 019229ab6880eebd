"""A cache key changes with what it stands for, and with nothing else."""

import os
from dataclasses import replace
from pathlib import Path

import pytest

from e2e.cluster import build, packages, roots
from e2e.cluster.settings import MODULE_FOLDER, load_settings


@pytest.fixture
def module(tmp_path: Path) -> Path:
    """A copy of the Go module's inputs."""
    for name in ("go.mod", "go.sum"):
        (tmp_path / name).write_bytes((MODULE_FOLDER / name).read_bytes()[:4000])
    for program in build.OWN_PROGRAMS:
        (tmp_path / program).mkdir()
        (tmp_path / program / "main.go").write_text(f"package {program}")
    return tmp_path


def test_our_sources_change_our_programs_only(module: Path) -> None:
    tools, own = build.tools_key(module), build.own_key(module)
    (module / "csi" / "main.go").write_text("package other")
    assert build.tools_key(module) == tools
    assert build.own_key(module) != own


def test_a_new_source_file_changes_the_key(module: Path) -> None:
    own = build.own_key(module)
    (module / "dns" / "extra.go").write_text("package dns")
    assert build.own_key(module) != own


@pytest.mark.parametrize("name", ["go.mod", "go.sum"])
def test_a_dependency_changes_all_programs(module: Path, name: str) -> None:
    tools, own = build.tools_key(module), build.own_key(module)
    (module / name).write_text("changed")
    assert build.tools_key(module) != tools
    assert build.own_key(module) != own


def test_a_renamed_file_is_a_change(tmp_path: Path) -> None:
    first, second = tmp_path / "a", tmp_path / "b"
    first.write_text("same")
    before = build.hash_files([first], base=tmp_path)
    first.rename(second)
    assert build.hash_files([second], base=tmp_path) != before


def test_the_order_of_files_is_no_change(tmp_path: Path) -> None:
    for name in "ab":
        (tmp_path / name).write_text(name)
    paths = [tmp_path / "a", tmp_path / "b"]
    assert build.hash_files(paths, base=tmp_path) == build.hash_files(paths[::-1], base=tmp_path)


def test_a_root_follows_suite_and_packages() -> None:
    keys = {
        roots.root_key(suite)
        for suite in (roots.TRIXIE, roots.BOOKWORM, replace(roots.TRIXIE, extra=("curl",)), roots.TRIXIE)
    }
    assert len(keys) == 3


def test_packages_follow_the_lock_file_and_the_root(tmp_path: Path) -> None:
    lock = tmp_path / "uv.lock"
    lock.write_text("version = 1")
    first = packages.package_key(packages.OPERATOR_SET, "trixie-1", lock)
    assert packages.package_key(packages.WORKER_SET, "trixie-1", lock) != first
    assert packages.package_key(packages.OPERATOR_SET, "trixie-2", lock) != first
    lock.write_text("version = 2")
    assert packages.package_key(packages.OPERATOR_SET, "trixie-1", lock) != first


def test_the_version_stamp_reaches_the_linker() -> None:
    flags = build.linker_flags("v1.36.3")
    assert "-X k8s.io/component-base/version.gitVersion=v1.36.3" in flags
    assert "version.gitMinor=36" in flags


def test_every_tool_of_the_module_is_expected_by_name() -> None:
    text = (MODULE_FOLDER / "go.mod").read_text()
    block = text[text.index("\ntool (") :]
    lines = block[: block.index("\n)")].splitlines()[2:]
    names = {line.strip().rsplit("/", 1)[-1] for line in lines}
    assert {"etcd" if name == "v3" else name for name in names} == set(build.TOOL_PROGRAMS)


def test_the_stamped_version_is_the_compiled_one() -> None:
    assert f"k8s.io/kubernetes {build.KUBERNETES_VERSION}" in (MODULE_FOLDER / "go.mod").read_text()


def test_old_builds_go_and_the_newest_stay(tmp_path: Path) -> None:
    settings = load_settings({"HEADROOM_CLUSTER_CACHE": str(tmp_path)})
    for age in range(4):
        folder = settings.binaries / f"own-{age}"
        folder.mkdir(parents=True)
        os.utime(folder, (1000 - age, 1000 - age))
    build.drop_old_builds(settings)
    assert sorted(path.name for path in settings.binaries.iterdir()) == ["own-0", "own-1"]
