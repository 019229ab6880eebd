"""A command has the cluster for itself, from before it is brought up until the command has ended."""

import fcntl
from collections.abc import Sequence
from pathlib import Path

import pytest

from e2e import run
from e2e.cluster.settings import load_settings


class Lone:
    """A cluster that notes whether another run could begin beside this one."""

    def __init__(self) -> None:
        self.could_begin: list[bool] = []

    def ensure_up(self, nodes: int | None = None) -> None:
        self.could_begin.append(is_free())

    def run(self, arguments: Sequence[str]) -> int:
        self.could_begin.append(is_free())
        return 7


def is_free() -> bool:
    with load_settings().run_lock_file.open("a+") as handle:
        try:
            fcntl.flock(handle.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True


def test_no_other_run_begins_beside_one(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HEADROOM_CLUSTER_CACHE", str(tmp_path))
    monkeypatch.setattr("sys.argv", ["run", "true"])
    cluster = Lone()
    monkeypatch.setattr(run, "choose_cluster", lambda: cluster)
    assert run.main() == 7
    assert cluster.could_begin == [False, False]
    assert is_free()
