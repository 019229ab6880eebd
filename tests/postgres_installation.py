"""The PostgreSQL programs that this machine has, newest major first; or those of one root file system alone."""

import os
import shlex
import shutil
import tempfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ONLY_ROOT = "HEADROOM_POSTGRES_ROOT"
"""Variable that names a root file system: what is in it is all that there is."""


@dataclass(frozen=True)
class Installation:
    """One major version's programs; `root` is a file system to run them in, None for this one."""

    major: int
    bin_folder: Path
    root: Path | None = None

    def __str__(self) -> str:
        return f"postgresql-{self.major}"

    @property
    def ids(self) -> tuple[int, int]:
        """Whom to run servers as: PostgreSQL refuses root, and wants a user that its system knows."""
        if os.geteuid() != 0:
            return os.geteuid(), os.getegid()
        users = ((self.root or Path("/")) / "etc" / "passwd").read_text().splitlines()
        known = {fields[0]: (int(fields[2]), int(fields[3])) for fields in (line.split(":") for line in users)}
        return known.get("postgres") or known["nobody"]

    def make_folder(self) -> Path:
        """A folder that user owns; pytest's own are closed to it."""
        folder = Path(tempfile.mkdtemp(prefix="headroom-pg-", dir=_roomy_memory() or "/tmp"))
        if os.geteuid() == 0:
            os.chown(folder, *self.ids)
        return folder

    def command(self, folder: Path, tool: str, *arguments: str) -> list[str]:
        """What runs a tool as an unprivileged user who sees `folder` under its own path."""
        uid, gid = self.ids
        program = [str(self.bin_folder / tool), *arguments]
        if self.root is None:
            if os.geteuid() != 0:
                return program
            return ["setpriv", f"--reuid={uid}", f"--regid={gid}", "--clear-groups", "--", *program]
        script = (
            f"mount -t tmpfs none {self.root}/tmp && mount --rbind /dev {self.root}/dev "
            f"&& mkdir -p {self.root}{folder} && mount --bind {folder} {self.root}{folder} "
            f"&& exec chroot --userspec={uid}:{gid} {self.root} {shlex.join(program)}"
        )
        return ["unshare", "--mount", "--propagation=private", "sh", "-ec", script]


@cache
def _roomy_memory() -> str | None:
    """A folder in memory with room for some servers: what is tested here is not the disk."""
    folder = Path("/dev/shm")
    is_roomy = folder.is_dir() and shutil.disk_usage(folder).free > 2 << 30
    return str(folder) if is_roomy and os.access(folder, os.W_OK) else None


@cache
def find_installations() -> tuple[Installation, ...]:
    """Every PostgreSQL from 14 on that this machine has, newest first, one for each major."""
    found: dict[int, Installation] = {}
    only = os.environ.get(ONLY_ROOT)
    for root in [Path(only)] if only else [None, *_find_roots()]:
        base = Path("/usr/lib/postgresql")
        for folder in sorted((base if root is None else root / base.relative_to("/")).glob("*/bin")):
            major = int(folder.parent.name) if folder.parent.name.isdigit() else 0
            if major >= 14 and (folder / "initdb").is_file():
                found.setdefault(major, Installation(major, base / str(major) / "bin", root))
    return tuple(found[major] for major in sorted(found, reverse=True))


def _find_roots() -> list[Path]:
    if os.geteuid() != 0:
        return []
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    cluster = Path(os.environ.get("HEADROOM_CLUSTER_CACHE") or base / "headroom" / "cluster")
    return sorted(path for path in (cluster / "roots").glob("*") if path.is_dir() and path.suffix != ".partial")
