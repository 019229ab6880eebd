"""Python packages of the images, at the versions of uv.lock, for the Python of the Debian suite."""

from __future__ import annotations

import hashlib
import platform
import shutil
import tarfile
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from e2e.cluster.oci import add_tree
from e2e.cluster.prerequisites import require_uv
from e2e.cluster.roots import compile_python
from e2e.cluster.settings import REPOSITORY
from e2e.cluster.shell import run

PYTHON_VERSION = "3.13"
RECIPE_VERSION = 1
IGNORED_PARTS = frozenset({"__pycache__", ".mypy_cache", ".ruff_cache", ".pytest_cache"})


@dataclass(frozen=True, slots=True)
class PackageSet:
    """Packages named as in pyproject.toml; none named means the project's own dependencies."""

    name: str
    packages: tuple[str, ...] = ()


OPERATOR_SET = PackageSet("operator")
WORKER_SET = PackageSet("workers", ("procrastinate", "psycopg[binary,pool]"))


def package_key(chosen: PackageSet, root: str, lock: Path = REPOSITORY / "uv.lock") -> str:
    """Return the cache key of an installed package set: it follows the lock file and the root's Python."""
    digest = hashlib.sha256(lock.read_bytes())
    digest.update(f"{chosen}{root}{PYTHON_VERSION}{platform.machine()}{RECIPE_VERSION}".encode())
    return f"packages-{chosen.name}-{digest.hexdigest()[:16]}"


def write_package_layer(chosen: PackageSet, root: Path, target: Path, path_in_image: str) -> None:
    """Install a package set and write it as an image layer."""
    uv = str(require_uv(REPOSITORY))
    with tempfile.TemporaryDirectory(dir=target.parent, prefix="packages-") as scratch:
        folder = Path(scratch) / "packages"
        locked = Path(scratch) / "locked.txt"
        groups = ["--all-groups"] if chosen.packages else ["--no-dev"]
        export = [uv, "export", "--frozen", "--quiet", "--no-emit-project", "--no-hashes", *groups]
        locked.write_text(run(export, cwd=REPOSITORY))
        run([*install_command(uv, chosen, folder, locked)], cwd=REPOSITORY)
        shutil.rmtree(folder / "bin", ignore_errors=True)
        compile_python(root, folder)
        with tarfile.open(target, "w") as archive:
            add_tree(archive, folder, path_in_image)


def install_command(uv: str, chosen: PackageSet, folder: Path, locked: Path) -> list[str]:
    """Return the installation for the image's Python, whatever Python runs here; wheels only."""
    command = [
        uv, "pip", "install", "--quiet", "--target", str(folder), "--python-version", PYTHON_VERSION,
        "--python-platform", f"{platform.machine()}-manylinux_2_40", "--only-binary", ":all:", "--link-mode", "copy",
    ]  # fmt: skip
    if chosen.packages:
        return [*command, "--constraint", str(locked), *chosen.packages]
    return [*command, "--no-deps", "--requirement", str(locked)]


def is_code(path: Path) -> bool:
    """Tell whether a file belongs into an image: not what tools leave beside the code."""
    return path.is_file() and path.suffix not in {".pyc", ".whl"} and not IGNORED_PARTS.intersection(path.parts)


@contextmanager
def scratch_copy(files: Sequence[Path], base: Path, near: Path) -> Iterator[Path]:
    """Copy files to a folder that ends with the block."""
    with tempfile.TemporaryDirectory(dir=near, prefix="code-") as scratch:
        for path in files:
            target = Path(scratch) / path.relative_to(base)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)
        yield Path(scratch)
