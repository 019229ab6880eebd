"""Debian root file systems: the base layer of every image of a suite, and the place where Python is compiled."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from e2e.cluster.console import Console, Step
from e2e.cluster.errors import ClusterError
from e2e.cluster.settings import Settings
from e2e.cluster.shell import run, stream

RECIPE_VERSION = 1
POSTGRES_ID = 999
NONROOT_ID = 65532
COMMON_PACKAGES = ("ca-certificates", "python3", "tzdata")
# Not needed to run anything: documentation, package lists, and the compiler that PostgreSQL uses for JIT.
LEFT_OUT = (
    "./dev/*", "./proc/*", "./sys/*", "./run/*", "./tmp/*", "./var/cache/*", "./var/lib/apt/lists/*", "./var/log/*",
    "./usr/share/doc/*", "./usr/share/man/*", "./usr/share/info/*", "./usr/share/locale/*", "./usr/share/i18n/*",
    "./usr/share/perl/*/unicore/*", "./usr/lib/*/libLLVM*", "./usr/lib/*/libz3*", "./usr/lib/postgresql/*/lib/bitcode",
    "./usr/lib/postgresql/*/lib/llvmjit*", "./var/lib/postgresql/*", "./etc/postgresql/*",
)  # fmt: skip
SCRIPTS = "/usr/share/debootstrap/scripts"
COMPILE = "python3 -m compileall -q -j 2 --invalidation-mode unchecked-hash"
# Own mount and process namespaces: an interrupted installation leaves no mount and no process behind.
ALONE = ("unshare", "--fork", "--pid", "--mount", "--mount-proc", "--kill-child")


@dataclass(frozen=True, slots=True)
class Suite:
    """A Debian release and the PostgreSQL that comes with it.

    `script` is the release whose script installs it, where debootstrap may have none for it. An image is made of it,
    or with `is_image` False none is.
    """

    name: str
    postgres: int
    extra: tuple[str, ...] = ()
    script: str = ""
    is_image: bool = True

    @property
    def packages(self) -> tuple[str, ...]:
        """Return what is installed beside the minimal system."""
        return (*COMMON_PACKAGES, f"postgresql-{self.postgres}", *self.extra)


TRIXIE = Suite("trixie", postgres=17)
BOOKWORM = Suite("bookworm", postgres=15)


def root_key(suite: Suite) -> str:
    """Return the cache key of a suite's root: the same packages give the same key."""
    inputs = {"suite": suite.name, "packages": sorted(suite.packages), "out": LEFT_OUT, "recipe": RECIPE_VERSION}
    return f"{suite.name}-{hashlib.sha256(json.dumps(inputs, sort_keys=True).encode()).hexdigest()[:16]}"


def root_folder(settings: Settings, suite: Suite) -> Path:
    """Return where a suite's root is, made or not."""
    return settings.roots / root_key(suite)


def ensure_root(settings: Settings, suite: Suite, console: Console) -> Path:
    """Return a suite's root file system, installing it when it is not in the cache."""
    root = root_folder(settings, suite)
    if root.exists():
        return root
    draft = root.with_name(root.name + ".partial")
    if draft.exists():
        shutil.rmtree(draft)
    draft.parent.mkdir(parents=True, exist_ok=True)
    with console.step(f"installing Debian {suite.name} with PostgreSQL {suite.postgres}") as step:
        stream(debootstrap_command(suite, draft, settings.debian_mirror), _counter(step))
        if suite.is_image:
            _set_up_users(draft)
    draft.rename(root)
    return root


def debootstrap_command(suite: Suite, target: Path, mirror: str) -> list[str]:
    """Return the installation of a suite into target; debootstrap takes an empty mirror for its own default."""
    command = [
        *ALONE, "debootstrap", "--variant=minbase", f"--include={','.join(suite.packages)}", suite.name, str(target),
    ]  # fmt: skip
    if suite.script:
        return [*command, mirror, f"{SCRIPTS}/{suite.script}"]
    return [*command, mirror] if mirror else command


def _counter(step: Step) -> Callable[[str], None]:
    count = 0

    def on_line(line: str) -> None:
        nonlocal count
        count += 1
        step.update(count, 0, line.removeprefix("I: "))

    return on_line


def _set_up_users(root: Path) -> None:
    """Give postgres the ids it has in the common container images, and add an ordinary user."""
    chroot = (*ALONE, "chroot", root)
    run([*chroot, "usermod", "--uid", str(POSTGRES_ID), "postgres"])
    run([*chroot, "groupmod", "--gid", str(POSTGRES_ID), "postgres"])
    run([*chroot, "chown", "-R", "postgres:postgres", "/var/lib/postgresql", "/etc/postgresql"])
    run([*chroot, "groupadd", "--gid", str(NONROOT_ID), "nonroot"])
    run([*chroot, "useradd", "--uid", str(NONROOT_ID), "--gid", str(NONROOT_ID), "--no-create-home", "nonroot"])


def write_root_layer(root: Path, target: Path) -> None:
    """Write a root as an image layer, without what no container needs."""
    excluded = [f"--exclude={pattern}" for pattern in LEFT_OUT]
    options = ["--numeric-owner", "--sort=name", "--mtime=@0", "--format=pax", "--wildcards", "--anchored"]
    pax = "--pax-option=exthdr.name=%d/PaxHeaders/%f,delete=atime,delete=ctime"
    run(["tar", *options, pax, *excluded, "-C", root, "-cf", target, "."])


def compile_python(root: Path, folder: Path) -> None:
    """Compile a folder of Python files with the root's own Python: containers cannot write the result."""
    script = f'mount --bind "$1" "$2/mnt" && exec chroot "$2" {COMPILE} /mnt'
    try:
        run([*ALONE, "sh", "-c", script, "sh", folder, root], env={**os.environ, "LC_ALL": "C.UTF-8"})
    except ClusterError as error:
        raise ClusterError(f"The code of an image does not compile, mend it and try again: {error}") from None


def drop_old_roots(settings: Settings, suites: Sequence[Suite]) -> None:
    """Delete roots of other package lists."""
    kept = {root_key(suite) for suite in suites}
    for folder in settings.roots.glob("*"):
        if folder.name not in kept:
            shutil.rmtree(folder)
