"""PostgreSQL of a Debian that is not released yet can break nothing that does not ask for it."""

from pathlib import Path

import pytest

from e2e.cluster import ahead, roots
from e2e.cluster.cli import main
from e2e.cluster.errors import ClusterError
from e2e.cluster.settings import Settings, load_settings
from tests.postgres_installation import ONLY_ROOT, Installation, find_installations


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Roots of two suites that are made already, as far as anybody looks at them."""
    monkeypatch.setenv("HEADROOM_CLUSTER_CACHE", str(tmp_path))
    monkeypatch.delenv(ONLY_ROOT, raising=False)
    monkeypatch.setattr("os.geteuid", lambda: 0)
    found = load_settings({"HEADROOM_CLUSTER_CACHE": str(tmp_path)})
    for place, suite in ((found, roots.TRIXIE), (ahead.set_apart(found), ahead.FORKY)):
        programs = roots.root_folder(place, suite) / "usr/lib/postgresql" / str(suite.postgres) / "bin"
        programs.mkdir(parents=True)
        (programs / "initdb").touch()
    return found


def find_here(folder: Path) -> list[Installation]:
    return [each for each in find_installations.__wrapped__() if each.root is not None and folder in each.root.parents]


def test_no_test_takes_it_unasked(settings: Settings) -> None:
    assert [each.major for each in find_here(settings.cache)] == [roots.TRIXIE.postgres]


def test_a_test_that_is_asked_for_it_takes_nothing_else(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    root = roots.root_folder(ahead.set_apart(settings), ahead.FORKY)
    monkeypatch.setenv(ONLY_ROOT, str(root))
    assert [(each.major, each.root) for each in find_installations.__wrapped__()] == [(ahead.FORKY.postgres, root)]


def test_the_images_neither_use_nor_delete_it(settings: Settings) -> None:
    roots.drop_old_roots(settings, [roots.BOOKWORM])
    assert not roots.root_folder(settings, roots.TRIXIE).exists()
    assert roots.root_folder(ahead.set_apart(settings), ahead.FORKY).exists()


@pytest.mark.parametrize("mirror", ["", "http://m"])
def test_a_debootstrap_that_does_not_know_it_is_told_whose_script_to_take(mirror: str) -> None:
    command = roots.debootstrap_command(ahead.FORKY, Path("/r"), mirror)
    assert command[-4:] == ["forky", "/r", mirror, f"{roots.SCRIPTS}/trixie"]
    assert "postgresql-18" in next(word for word in command if word.startswith("--include="))


def test_what_hinders_it_is_said_in_one_sentence(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_arguments: object) -> Path:
        raise ClusterError("`debootstrap forky` ended with status 1: E: Invalid Release file")

    monkeypatch.setattr(ahead, "ensure_root", fail)
    monkeypatch.setattr(ahead, "ensure_packages", lambda *_arguments: None)
    assert main(["postgres-ahead"]) == 1
    said = capsys.readouterr()
    assert said.out == "", "no path that a test could take"
    assert "nothing has run on PostgreSQL 18" in said.err
    assert "Invalid Release file" in said.err


def test_an_ordinary_user_is_told_that_it_takes_root(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    assert main(["postgres-ahead"]) == 1
    assert "run it with sudo" in capsys.readouterr().err
