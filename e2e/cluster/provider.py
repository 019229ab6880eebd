"""Which cluster the end-to-end suite runs on: ours, kind, or one that the user names."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

from e2e.cluster.cluster import Cluster as BundledCluster
from e2e.cluster.console import Console
from e2e.cluster.errors import ClusterError
from e2e.cluster.images import IMAGES
from e2e.cluster.kind import KindCluster, is_docker_answering
from e2e.cluster.settings import load_settings
from e2e.cluster.shell import run, run_through


class Cluster(Protocol):
    """What a test may know of the cluster it runs on."""

    @property
    def name(self) -> str:
        """How results name the cluster."""

    @property
    def kubeconfig(self) -> Path:
        """The administrator's kubeconfig."""

    @property
    def is_snapshot_capable(self) -> bool:
        """Whether volumes can be snapshotted."""

    @property
    def is_pod_network_reachable(self) -> bool:
        """Whether this process may connect to pod and Service addresses."""

    def ensure_up(self, nodes: int | None = None) -> None:
        """Start it, images included, unless it is up; nodes asks for at least that many where we make them."""

    def command(self, arguments: Sequence[str]) -> tuple[list[str], dict[str, str]]:
        """Return the command line and the environment that run arguments beside the cluster."""

    def run(self, arguments: Sequence[str]) -> int:
        """Run a command beside the cluster and return its exit status."""

    def image(self, name: str) -> str:
        """Return the reference of `postgres17`, `postgres15`, `operator` or `worker` for pod specs."""

    def load_image(self, reference: str) -> None:
        """Make sure that every node has the newest build of one of those references."""

    def node_names(self) -> list[str]:
        """Return the names of the nodes."""

    def stop_node(self, node: str) -> None:
        """Take a node away as if its network were lost; NotImplementedError says why it cannot be."""

    def start_node(self, node: str) -> None:
        """Bring a node back."""


class Bundled:
    """The cluster of this package."""

    name = "bundled"
    is_snapshot_capable = True
    is_pod_network_reachable = True

    def __init__(self) -> None:
        """Look at this machine's cluster."""
        self._cluster = BundledCluster(load_settings(), Console())

    @property
    def kubeconfig(self) -> Path:
        return self._cluster.settings.kubeconfig

    def ensure_up(self, nodes: int | None = None) -> None:
        self._cluster.up(nodes or self._cluster.settings.nodes)

    def command(self, arguments: Sequence[str]) -> tuple[list[str], dict[str, str]]:
        return self._cluster.box.command(arguments), self._cluster.box.environment()

    def run(self, arguments: Sequence[str]) -> int:
        return run_through(self.name, *self.command(arguments))

    def image(self, name: str) -> str:
        return IMAGES[name]

    def load_image(self, reference: str) -> None:
        if reference not in IMAGES.values():
            raise ClusterError(f"{reference} is not one of our images: use `python -m e2e.cluster load IMAGE.tar`.")
        self._cluster.refresh_images()

    def node_names(self) -> list[str]:
        return list_nodes(self)

    def stop_node(self, node: str) -> None:
        self._cluster.set_link(node, is_up=False)

    def start_node(self, node: str) -> None:
        self._cluster.set_link(node, is_up=True)


class Named:
    """A cluster that the user names by KUBECONFIG; images come from where HEADROOM_IMAGE_* say."""

    name = "kubeconfig"
    is_pod_network_reachable = False

    def __init__(self, environ: Mapping[str, str] = os.environ) -> None:
        """Read KUBECONFIG and HEADROOM_IMAGE_OPERATOR, _WORKER, _POSTGRES17, _POSTGRES15."""
        self._environ = environ
        path = environ.get("KUBECONFIG") or str(Path.home() / ".kube" / "config")
        self.kubeconfig = Path(path.split(":")[0])
        if not self.kubeconfig.exists():
            raise ClusterError(f"{self.kubeconfig} does not exist: set KUBECONFIG to your cluster's kubeconfig.")

    @property
    def is_snapshot_capable(self) -> bool:
        command, env = self.command(["kubectl", "get", "volumesnapshotclasses", "--output=name"])
        found = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
        return found.returncode == 0 and bool(found.stdout.strip())

    def ensure_up(self, nodes: int | None = None) -> None:
        if nodes is not None and len(self.node_names()) < nodes:
            raise ClusterError(f"The cluster of {self.kubeconfig} has fewer than {nodes} nodes: add some.")
        command, env = self.command(["kubectl", "version", "--request-timeout=10s"])
        run(command, env=env)

    def command(self, arguments: Sequence[str]) -> tuple[list[str], dict[str, str]]:
        return list(arguments), {**self._environ, "KUBECONFIG": str(self.kubeconfig)}

    def run(self, arguments: Sequence[str]) -> int:
        return run_through(self.name, *self.command(arguments))

    def image(self, name: str) -> str:
        variable = f"HEADROOM_IMAGE_{name.upper()}"
        official = {"postgres17": "postgres:17", "postgres15": "postgres:15"}
        reference = self._environ.get(variable) or official.get(name)
        if reference is None:
            raise ClusterError(
                f"{variable} is not set: push the image where the cluster can pull it and name it there."
            )
        return reference

    def load_image(self, reference: str) -> None:
        """Nothing to do: the cluster pulls what it is told to run."""

    def node_names(self) -> list[str]:
        return list_nodes(self)

    def stop_node(self, node: str) -> None:
        raise NotImplementedError(f"{node} belongs to someone's cluster: its nodes are not ours to stop.")

    def start_node(self, node: str) -> None:
        raise NotImplementedError(f"{node} belongs to someone's cluster: its nodes are not ours to start.")


def list_nodes(cluster: Cluster) -> list[str]:
    """Return the names of a cluster's nodes, as its API server knows them."""
    command, env = cluster.command(["kubectl", "get", "nodes", "--output=json"])
    return [item["metadata"]["name"] for item in json.loads(run(command, env=env))["items"]]


def choose_cluster(environ: Mapping[str, str] = os.environ) -> Cluster:
    """Return the cluster that HEADROOM_CLUSTER names; by default kind where Docker answers, else ours."""
    wanted = environ.get("HEADROOM_CLUSTER") or ("kind" if is_docker_answering() else "bundled")
    match wanted:
        case "bundled":
            return Bundled()
        case "kind":
            return KindCluster(load_settings(environ).nodes or 1)
        case "kubeconfig":
            return Named(environ)
    raise ClusterError(f"HEADROOM_CLUSTER={wanted} is unknown: use bundled, kind or kubeconfig.")
