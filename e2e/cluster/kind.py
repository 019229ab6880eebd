"""The same suite on kind, where a Docker engine answers."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Sequence
from typing import Any

from e2e.cluster.errors import ClusterError
from e2e.cluster.settings import MODULE_FOLDER, REPOSITORY, load_settings
from e2e.cluster.shell import run, run_through

CLUSTER_NAME = "headroom"
IMAGES = {
    "postgres17": "postgres:17",
    "postgres15": "postgres:15",
    "operator": "localhost/headroom/operator:dev",
    "worker": "localhost/headroom/worker:dev",
}
DOCKERFILES = {"operator": REPOSITORY / "Dockerfile", "worker": MODULE_FOLDER / "worker.Dockerfile"}


def is_docker_answering() -> bool:
    """Tell whether a Docker engine is there; the command alone is not enough."""
    if shutil.which("docker") is None:
        return False
    try:
        command = ["docker", "version", "--format", "{{.Server.Version}}"]
        return subprocess.run(command, capture_output=True, timeout=10, check=False).returncode == 0
    except subprocess.TimeoutExpired:
        return False


def kind_config(nodes: int) -> dict[str, Any]:
    """Return a kind configuration with one control plane and the rest workers."""
    roles = ["control-plane"] + ["worker"] * (nodes - 1)
    return {
        "kind": "Cluster",
        "apiVersion": "kind.x-k8s.io/v1alpha4",
        "nodes": [{"role": role} for role in roles],
    }


class KindCluster:
    """A kind cluster of our own name."""

    name = "kind"
    is_snapshot_capable = False  # its storage has no snapshots; tests of them say so and are left out
    is_pod_network_reachable = False

    def __init__(self, nodes: int) -> None:
        """Describe a cluster with that many nodes."""
        self._nodes = nodes
        self.kubeconfig = load_settings().cache / "kind.kubeconfig"

    def ensure_up(self, nodes: int | None = None) -> None:
        self._nodes = nodes or self._nodes
        for program in ("docker", "kind", "kubectl", "helm"):
            if shutil.which(program) is None:
                raise ClusterError(f"{program} is missing: install it, or use HEADROOM_CLUSTER=bundled.")
        self.kubeconfig.parent.mkdir(parents=True, exist_ok=True)
        if CLUSTER_NAME not in run(["kind", "get", "clusters"]).split():
            config = json.dumps(kind_config(self._nodes))
            run(["kind", "create", "cluster", "--name", CLUSTER_NAME, "--wait", "5m", "--config", "-"], text=config)
        kubeconfig = run(["kind", "get", "kubeconfig", "--name", CLUSTER_NAME])
        self.kubeconfig.touch(mode=0o600)
        self.kubeconfig.write_text(kubeconfig)
        for reference in IMAGES.values():
            self.load_image(reference)

    def command(self, arguments: Sequence[str]) -> tuple[list[str], dict[str, str]]:
        return list(arguments), {**os.environ, "KUBECONFIG": str(self.kubeconfig)}

    def run(self, arguments: Sequence[str]) -> int:
        return run_through(self.name, *self.command(arguments))

    def image(self, name: str) -> str:
        return IMAGES[name]

    def load_image(self, reference: str) -> None:
        for name, dockerfile in DOCKERFILES.items():
            if IMAGES[name] == reference:
                run(["docker", "build", "--quiet", "--tag", reference, "--file", dockerfile, REPOSITORY])
                break
        else:
            run(["docker", "pull", "--quiet", reference])
        run(["kind", "load", "docker-image", "--name", CLUSTER_NAME, reference])

    def node_names(self) -> list[str]:
        return run(["kind", "get", "nodes", "--name", CLUSTER_NAME]).split()

    def stop_node(self, node: str) -> None:
        run(["docker", "stop", node])

    def start_node(self, node: str) -> None:
        run(["docker", "start", node])
