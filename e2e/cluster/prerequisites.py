"""What must be on the machine; Debian packages are installed, the rest is asked for."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from e2e.cluster.console import Console
from e2e.cluster.errors import ClusterError
from e2e.cluster.shell import run

# program that proves the package -> Debian package
PACKAGES: Mapping[str, str] = {
    "/usr/sbin/debootstrap": "debootstrap",
    "/usr/sbin/runc": "runc",
    "/usr/lib/cni/ptp": "containernetworking-plugins",
    "/usr/sbin/nft": "nftables",
    "/usr/sbin/ip": "iproute2",
    "/usr/bin/btrfs": "btrfs-progs",
}


def missing_packages(packages: Mapping[str, str] = PACKAGES) -> list[str]:
    """Return the Debian packages whose program is not there."""
    return [package for program, package in packages.items() if not _is_program(Path(program))]


def _is_program(path: Path) -> bool:
    return path.exists() or shutil.which(path.name, path="/usr/sbin:/sbin:/usr/bin:/bin") is not None


def require_root() -> None:
    """Refuse to go on as an ordinary user."""
    if os.geteuid() != 0:
        raise ClusterError(
            "The bundled cluster needs root (namespaces, mounts, cgroups): run it with sudo, "
            "or use your own cluster with HEADROOM_CLUSTER=kubeconfig."
        )


def require_debian(release_file: Path = Path("/etc/os-release")) -> None:
    """Refuse to go on where Debian packages cannot be installed."""
    release = release_file.read_text() if release_file.exists() else ""
    is_debian = any(line in {"ID=debian", "ID_LIKE=debian"} for line in release.splitlines())
    if not is_debian or shutil.which("apt-get") is None:
        raise ClusterError(
            "The bundled cluster is made from Debian packages: run it on Debian 12 or newer, "
            "or use kind (HEADROOM_CLUSTER=kind) or your own cluster (HEADROOM_CLUSTER=kubeconfig)."
        )


def require_go() -> Path:
    """Return the Go command."""
    found = shutil.which("go") or shutil.which("go", path="/usr/local/go/bin")
    if found is None:
        raise ClusterError(
            "Go is missing, and no script here installs it: unpack https://go.dev/dl/go1.26.4.linux-amd64.tar.gz into "
            "/usr/local, or put Go 1.21 or newer on PATH, which fetches 1.26 itself (Debian 12 has 1.19, too old)."
        )
    return Path(found)


def require_uv(repository: Path) -> Path:
    """Return the uv command, the one the Makefile made included."""
    found = shutil.which("uv")
    own = repository / ".uv" / "bin" / "uv"
    if found is None and not own.exists():
        raise ClusterError("uv is missing: run `make setup` once.")
    return Path(found) if found is not None else own


def ensure_prerequisites(console: Console) -> None:
    """Check root and Debian, then install the packages that are missing."""
    require_root()
    ensure_packages(PACKAGES, console)


def ensure_packages(packages: Mapping[str, str], console: Console) -> None:
    """Install the Debian packages whose program is not there."""
    missing = missing_packages(packages)
    if not missing:
        return
    require_debian()
    with console.step("installing " + " ".join(missing)):
        env = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        run(["apt-get", "update", "-qq"], env=env)
        run(["apt-get", "install", "-y", "-qq", "--no-install-recommends", *missing], env=env)
    if still := missing_packages(packages):
        raise ClusterError(f"apt-get installed no {' '.join(still)}: install the package by hand and try again.")
