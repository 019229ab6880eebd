"""Addresses and paths inside the box. Below /run everything is on a tmpfs of the box and ends with it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

SERVICE_RANGE = "10.96.0.0/16"
POD_RANGE = "10.244.0.0/16"
API_SERVICE_ADDRESS = "10.96.0.1"
NODE_PREFIX = 24
DNS_DOMAIN = "cluster.local"
BRIDGE = "node0"
API_PORT = 6443
METRICS_PORT = 4443
BOX_RUN = Path("/run/headroom")
POOL_MOUNT = BOX_RUN / "pool"
CSI_DRIVER = "btrfs.csi.headroom.dev"
PAUSE_IMAGE = "localhost/headroom/pause:1"
FIRST_NODE = "n1"


@dataclass(frozen=True, slots=True)
class Node:
    """One node: the first lives in the box's own network namespace, others in one of theirs."""

    name: str

    @property
    def number(self) -> int:
        """Position, from 1."""
        return int(self.name.removeprefix("n"))

    @property
    def is_first(self) -> bool:
        """Whether this node also runs the control plane."""
        return self.number == 1

    @property
    def address(self) -> str:
        """The node's own address."""
        return f"10.0.0.{self.number}"

    @property
    def pod_subnet(self) -> str:
        """The addresses of its pods."""
        return f"10.244.{self.number - 1}.0/24"

    @property
    def run(self) -> Path:
        """Sockets and configuration files."""
        return BOX_RUN / self.name

    @property
    def containerd_socket(self) -> Path:
        """The node's container runtime."""
        return self.run / "containerd" / "containerd.sock"

    @property
    def kubelet_root(self) -> Path:
        """The kubelet's folder, with the pods' volumes: a short name, since socket paths are limited."""
        return self.run / "kubelet"

    @property
    def csi_socket(self) -> Path:
        """Where the CSI driver of this node listens."""
        return self.kubelet_root / "plugins" / CSI_DRIVER / "csi.sock"

    def prefix(self) -> tuple[str, ...]:
        """Return the command that enters this node's network."""
        return () if self.is_first else ("nsenter", f"--net=/run/netns/{self.name}", "--")


def node_list(count: int) -> list[Node]:
    """Return the first count nodes."""
    return [Node(f"n{number}") for number in range(1, count + 1)]
