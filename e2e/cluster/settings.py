"""Where the cluster keeps its files and how large it is."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from e2e.cluster.errors import ClusterError

MODULE_FOLDER = Path(__file__).resolve().parent
REPOSITORY = MODULE_FOLDER.parent.parent
MAX_NODES = 2


@dataclass(frozen=True, slots=True)
class Settings:
    """Folders and sizes, all derived from the environment once."""

    cache: Path
    pool_gib: int
    nodes: int | None
    debian_mirror: str

    @property
    def binaries(self) -> Path:
        """Compiled programs, one folder for each hash of their sources."""
        return self.cache / "bin"

    @property
    def roots(self) -> Path:
        """Debian root file systems, one folder for each suite and package list."""
        return self.cache / "roots"

    @property
    def images(self) -> Path:
        """Layers and image manifests."""
        return self.cache / "images"

    @property
    def state(self) -> Path:
        """What belongs to the running cluster."""
        return self.cache / "state"

    @property
    def logs(self) -> Path:
        """One log for each component."""
        return self.state / "logs"

    @property
    def pki(self) -> Path:
        """Keys and certificates of the running cluster."""
        return self.state / "pki"

    @property
    def kubeconfig(self) -> Path:
        """The administrator's kubeconfig; its address is valid inside the box only."""
        return self.state / "kubeconfig"

    @property
    def status_file(self) -> Path:
        """What the supervisor last said of its components."""
        return self.state / "status.json"

    @property
    def desired_file(self) -> Path:
        """What the supervisor is asked to run."""
        return self.state / "desired.json"

    @property
    def pool_file(self) -> Path:
        """The sparse file that holds all volumes."""
        return self.state / "pool.img"

    @property
    def box_file(self) -> Path:
        """Id of the process that holds the box."""
        return self.state / "box.pid"

    @property
    def run_lock_file(self) -> Path:
        """Return the lock that a run on the cluster holds from its beginning to its end."""
        return self.cache / "run.lock"

    @property
    def lock_file(self) -> Path:
        """Held by the one command that changes anything."""
        return self.cache / "lock"

    def cgroup(self, name: str) -> str:
        """The cgroup of the box or of a node's pods: clusters of other cache folders have others."""
        instance = hashlib.sha256(str(self.cache).encode()).hexdigest()[:6]
        return f"headroom-{instance}-{name}"

    def containerd_root(self, node: str) -> Path:
        """The node's content store and unpacked layers: kept between runs."""
        return self.cache / "containerd" / node


def load_settings(environ: Mapping[str, str] = os.environ) -> Settings:
    """Read XDG_CACHE_HOME, NODES and the HEADROOM_CLUSTER_* variables.

    Raises ClusterError when a number is not one.
    """
    base = Path(environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    cache = environ.get("HEADROOM_CLUSTER_CACHE") or base / "headroom" / "cluster"
    nodes = environ.get("NODES", "")
    return Settings(
        cache=Path(cache).absolute(),
        pool_gib=_number("HEADROOM_CLUSTER_POOL_GIB", environ.get("HEADROOM_CLUSTER_POOL_GIB") or "40"),
        nodes=check_nodes(_number("NODES", nodes)) if nodes else None,
        debian_mirror=environ.get("HEADROOM_CLUSTER_DEBIAN_MIRROR", ""),
    )


def check_nodes(count: int) -> int:
    """Return count when that many nodes can be run."""
    if not 1 <= count <= MAX_NODES:
        raise ClusterError(f"NODES={count} is not possible: use 1 to {MAX_NODES}.")
    return count


def _number(name: str, text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise ClusterError(f"{name}={text!r} is not a whole number.") from None
