"""PostgreSQL of a Debian that is not released yet: a root file system apart, for tests that are asked for by name.

That Debian changes from day to day. Nothing else may depend on it, so its root is where neither the images nor the
tests that take every PostgreSQL of this machine look.
"""

from __future__ import annotations

import os
import shutil
from dataclasses import replace
from pathlib import Path

from e2e.cluster.console import Console
from e2e.cluster.errors import ClusterError
from e2e.cluster.lock import exclusive
from e2e.cluster.prerequisites import PACKAGES, ensure_packages
from e2e.cluster.roots import ALONE, Suite, drop_old_roots, ensure_root, root_folder
from e2e.cluster.settings import Settings
from e2e.cluster.shell import run

# Its own script came with a debootstrap that Debian 12 does not have; all releases since 13 are installed alike.
FORKY = Suite("forky", postgres=18, script="trixie", is_image=False)
DEBOOTSTRAP = {program: package for program, package in PACKAGES.items() if package == "debootstrap"}


def set_apart(settings: Settings) -> Settings:
    """Return the same settings with a cache of its own."""
    return replace(settings, cache=settings.cache / "ahead")


def ensure_root_ahead(settings: Settings, console: Console, *, is_fresh: bool) -> Path:
    """Return the root with PostgreSQL 18; `is_fresh` makes it anew from what that Debian has now."""
    what = f"PostgreSQL {FORKY.postgres}"
    if os.geteuid() != 0:
        raise ClusterError(f"{what} runs in a root file system of its own, which takes root: run it with sudo.")
    apart = set_apart(settings)
    with exclusive(apart.lock_file, console):
        try:
            ensure_packages(DEBOOTSTRAP, console)
            if is_fresh:
                shutil.rmtree(root_folder(apart, FORKY), ignore_errors=True)
            root = ensure_root(apart, FORKY, console)
            version = run([*ALONE, "chroot", root, f"/usr/lib/postgresql/{FORKY.postgres}/bin/postgres", "--version"])
        except ClusterError as error:
            raise ClusterError(
                f"There is no root file system of Debian {FORKY.name}, so nothing has run on {what}. Debian is read "
                f"from HEADROOM_CLUSTER_DEBIAN_MIRROR, or from its own mirror; FRESH=1 makes it anew. {error}"
            ) from None
        drop_old_roots(apart, [FORKY])
    console.say(f"{version.strip()} in {root}")
    return root
