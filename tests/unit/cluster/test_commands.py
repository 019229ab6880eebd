"""Arguments, settings and refusals."""

from pathlib import Path

import pytest

from e2e.cluster import kind, packages, prerequisites, provider, roots, status
from e2e.cluster.cli import main, make_parser
from e2e.cluster.errors import ClusterError
from e2e.cluster.network import cgroup_hierarchies, make_cgroups
from e2e.cluster.settings import load_settings
from e2e.cluster.shell import describe_failure, run


def test_the_cache_follows_the_users_cache_folder() -> None:
    settings = load_settings({"XDG_CACHE_HOME": "/x"})
    assert settings.cache == Path("/x/headroom/cluster")
    assert settings.nodes is None


def test_clusters_of_two_caches_share_no_cgroup() -> None:
    first, second = (load_settings({"HEADROOM_CLUSTER_CACHE": path}) for path in ("/a", "/b"))
    assert first.cgroup("n1") != second.cgroup("n1")


@pytest.mark.parametrize(("value", "word"), [("0", "not possible"), ("3", "not possible"), ("two", "whole number")])
def test_an_impossible_number_of_nodes_is_refused(value: str, word: str) -> None:
    with pytest.raises(ClusterError, match=word):
        load_settings({"NODES": value})


def test_missing_programs_are_named_by_their_package(tmp_path: Path) -> None:
    wanted = {str(tmp_path / "nowhere" / "no-such-program"): "package-a", "/bin/sh": "dash"}
    assert prerequisites.missing_packages(wanted) == ["package-a"]


def test_another_system_than_debian_is_told_what_to_use(tmp_path: Path) -> None:
    release = tmp_path / "os-release"
    release.write_text('ID=fedora\nVERSION_ID="42"\n')
    with pytest.raises(ClusterError, match="HEADROOM_CLUSTER=kind"):
        prerequisites.require_debian(release)


def test_an_ordinary_user_is_told_to_use_sudo(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    with pytest.raises(ClusterError, match="sudo"):
        prerequisites.require_root()


def test_a_missing_go_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda *_args, **_named: None)
    with pytest.raises(ClusterError, match="no script here installs it"):
        prerequisites.require_go()


def test_debian_is_installed_in_namespaces_of_its_own() -> None:
    command = roots.debootstrap_command(roots.TRIXIE, Path("/r"), "")
    assert command[0] == "unshare"
    assert "--kill-child" in command
    assert command[-2:] == ["trixie", "/r"]
    assert "postgresql-17" in next(word for word in command if word.startswith("--include="))
    assert roots.debootstrap_command(roots.TRIXIE, Path("/r"), "http://m")[-1] == "http://m"


def test_the_operators_packages_are_the_locked_ones_and_the_workers_are_bounded_by_them() -> None:
    operator = packages.install_command("uv", packages.OPERATOR_SET, Path("/p"), Path("/l"))
    worker = packages.install_command("uv", packages.WORKER_SET, Path("/p"), Path("/l"))
    assert operator[-3:] == ["--no-deps", "--requirement", "/l"]
    assert worker[-4:] == ["--constraint", "/l", *packages.WORKER_SET.packages]
    assert "--only-binary" in operator


@pytest.mark.parametrize(
    ("name", "wanted"), [("a.py", True), ("a.pyc", False), ("__pycache__/a.py", False), ("py.typed", True)]
)
def test_code_is_what_people_wrote(tmp_path: Path, name: str, *, wanted: bool) -> None:
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    path.touch()
    assert packages.is_code(path) is wanted


def test_a_kind_cluster_has_one_control_plane() -> None:
    roles = [node["role"] for node in kind.kind_config(3)["nodes"]]
    assert roles == ["control-plane", "worker", "worker"]


def test_the_named_cluster_asks_for_images_it_cannot_guess(tmp_path: Path) -> None:
    config = tmp_path / "config"
    config.touch()
    named = provider.Named({"KUBECONFIG": str(config), "HEADROOM_IMAGE_WORKER": "r/w:1"})
    assert named.image("worker") == "r/w:1"
    assert named.image("postgres17") == "postgres:17"
    with pytest.raises(ClusterError, match="HEADROOM_IMAGE_OPERATOR is not set"):
        named.image("operator")
    with pytest.raises(NotImplementedError, match="not ours to stop"):
        named.stop_node("x")


def test_the_choice_is_the_users(tmp_path: Path) -> None:
    environ = {"HEADROOM_CLUSTER_CACHE": str(tmp_path)}
    assert provider.choose_cluster({**environ, "HEADROOM_CLUSTER": "bundled"}).name == "bundled"
    assert provider.choose_cluster({**environ, "HEADROOM_CLUSTER": "kind"}).name == "kind"
    with pytest.raises(ClusterError, match="use bundled, kind or kubeconfig"):
        provider.choose_cluster({"HEADROOM_CLUSTER": "minikube"})


@pytest.mark.parametrize(("answers", "name"), [(True, "kind"), (False, "bundled")])
def test_kind_is_taken_where_docker_answers(monkeypatch: pytest.MonkeyPatch, name: str, *, answers: bool) -> None:
    monkeypatch.setattr(provider, "is_docker_answering", lambda: answers)
    assert provider.choose_cluster({}).name == name


@pytest.mark.parametrize(("flags", "text"), [([], "not running"), (["--json"], "null")])
def test_the_status_of_a_cluster_that_is_down_is_no_error(
    flags: list[str], text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HEADROOM_CLUSTER_CACHE", str(tmp_path))
    monkeypatch.setattr("e2e.cluster.cli.read_status", lambda _settings: None)
    assert main(["status", *flags]) == 0
    assert text in capsys.readouterr().out


def test_every_command_has_help(capsys: pytest.CaptureFixture[str]) -> None:
    for command in (
        "build",
        "up",
        "down",
        "shell",
        "exec",
        "status",
        "load",
        "kubeconfig",
        "images",
        "csi-sanity",
        "postgres-ahead",
    ):
        with pytest.raises(SystemExit) as end:
            make_parser().parse_args([command, "--help"])
        assert end.value.code == 0
        assert len(capsys.readouterr().out) > 60


def test_a_refusal_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HEADROOM_CLUSTER_CACHE", str(tmp_path))
    assert main(["kubeconfig"]) == 1
    assert capsys.readouterr().err == "The cluster is not running: start it with `make cluster-up`.\n"


def test_a_failure_shows_the_end_of_the_output() -> None:
    text = describe_failure(["x", "y"], 3, "a" * 5000 + "the cause")
    assert text.startswith("`x y` ended with status 3")
    assert text.endswith("the cause")
    assert len(text) < 2200


def test_a_failing_program_is_an_error() -> None:
    with pytest.raises(ClusterError, match="broken"):
        run(["sh", "-c", "echo broken >&2; exit 3"])


def test_cgroups_are_made_in_each_hierarchy_with_the_cpus_of_the_parent(tmp_path: Path) -> None:
    for name in ("cpuset", "memory"):
        (tmp_path / name / "ours").mkdir(parents=True)
    for setting in ("cpuset.cpus", "cpuset.mems"):
        (tmp_path / "cpuset" / setting).write_text("0-1")
        (tmp_path / "cpuset" / "ours" / setting).write_text("")
    assert len(cgroup_hierarchies(tmp_path)) == 2
    make_cgroups("ours", tmp_path)
    assert (tmp_path / "cpuset" / "ours" / "cpuset.cpus").read_text() == "0-1"
    assert (tmp_path / "memory" / "ours").is_dir()


def test_one_hierarchy_with_cgroup_v2(tmp_path: Path) -> None:
    (tmp_path / "cgroup.controllers").touch()
    (tmp_path / "system.slice").mkdir()
    assert cgroup_hierarchies(tmp_path) == [tmp_path]


def test_cgroup_v2_hands_down_what_the_kubelet_needs_and_the_kernel_has(tmp_path: Path) -> None:
    (tmp_path / "cgroup.controllers").write_text("cpu cpuset memory misc pids\n")
    (tmp_path / "cgroup.subtree_control").write_text("cpu memory\n")
    make_cgroups("ours", tmp_path)
    assert (tmp_path / "cgroup.subtree_control").read_text() == "+cpuset +pids"


def test_memory_counts_what_is_below_the_box_and_nothing_else(tmp_path: Path) -> None:
    def process(pid: int, parent: int, ids: str, mib: int) -> None:
        folder = tmp_path / str(pid)
        folder.mkdir()
        (folder / "status").write_text(f"PPid:\t{parent}\nNSpid:\t{ids}\n")
        (folder / "smaps_rollup").write_text(f"Pss:\t{mib * 1024} kB\n")

    process(10, 1, "10\t1", 5)
    process(11, 10, "11\t2", 7)
    process(12, 11, "12\t3\t1", 9)
    process(13, 1, "13", 100)
    assert status.memory_below(10, tmp_path) == {10: (1, 5), 11: (2, 7), 12: (0, 9)}


@pytest.mark.parametrize(("seconds", "text"), [(5, "5s"), (184, "3m04s"), (3720, "1h02m")])
def test_durations_are_for_people(seconds: int, text: str) -> None:
    assert status.duration(seconds) == text


def test_a_node_that_is_not_ready_says_why() -> None:
    condition = {"type": "Ready", "status": "Unknown", "reason": "NodeStatusUnknown"}
    assert status.node_state({"status": {"conditions": [condition]}}) == "NotReady (NodeStatusUnknown)"
    assert status.node_state({"status": {"conditions": [{**condition, "status": "True"}]}}) == "Ready"
    assert status.node_state({"status": {}}) == "NotReady"
