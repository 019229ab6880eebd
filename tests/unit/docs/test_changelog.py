"""The fragments of the changelog are well-formed, and a release would collect each of them."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
FRAGMENTS = sorted(path for path in (ROOT / "changelog.d").glob("*.md") if path.name != "README.md")
SENTENCE_END = re.compile(r"[.!](?=\s|$)")


def build_draft(folder: Path) -> subprocess.CompletedProcess[str]:
    """Run towncrier without writing anything."""
    command = [sys.executable, "-m", "towncrier", "build", "--draft", "--version", "1.2.3", "--date", "2026-01-02"]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """The configuration and the fragments, to be changed."""
    shutil.copytree(ROOT / "changelog.d", tmp_path / "changelog.d")
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


@pytest.mark.parametrize("path", FRAGMENTS, ids=lambda path: path.name)
def test_a_fragment_has_one_to_four_sentences(path: Path) -> None:
    text = path.read_text()
    assert 1 <= len(SENTENCE_END.findall(text)) <= 4
    assert text.endswith(".\n")
    assert not text.startswith(("-", "*", "#"))


def test_a_release_collects_every_fragment_under_its_kind() -> None:
    done = build_draft(ROOT)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("## 1.2.3 (2026-01-02)\n")
    assert done.stdout.count("\n* ") == len(FRAGMENTS)
    flat = " ".join(done.stdout.split())
    assert [path.name for path in FRAGMENTS if " ".join(path.read_text().split()) not in flat] == []
    headings = re.findall("^### (.*)$", done.stdout, re.MULTILINE)
    assert headings == [kind for kind in ("Added", "Changed", "Fixed", "Removed") if kind in headings]


@pytest.mark.parametrize("name", ["nothing.md", "pool.mended.md"])
def test_a_fragment_with_another_name_is_refused(copy: Path, name: str) -> None:
    (copy / "changelog.d" / name).write_text("Something is better.\n")
    done = build_draft(copy)
    assert (done.returncode, name in done.stderr) == (1, True), done.stderr


def test_the_folder_holds_fragments_only() -> None:
    others = {path.name for path in (ROOT / "changelog.d").iterdir()} - {path.name for path in FRAGMENTS}
    assert others == {"README.md", "template.md.jinja"}


def test_the_changelog_has_the_place_for_a_release() -> None:
    assert (ROOT / "CHANGELOG.md").read_text().count("<!-- towncrier release notes start -->\n") == 1


def test_what_is_not_released_is_named_above_each_release(copy: Path) -> None:
    shutil.copy(ROOT / "CHANGELOG.md", copy)
    package = copy / "operator" / "headroom"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text('__version__ = "1.2.3"\n')
    command = [sys.executable, "-m", "towncrier", "build", "--keep", "--version", "1.2.3", "--date", "2026-01-02"]
    done = subprocess.run(command, cwd=copy, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    headings = re.findall("^## (.*)$", (copy / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert headings == ["Unreleased", "1.2.3 (2026-01-02)"]
