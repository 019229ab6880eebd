"""Writing keys, kubeconfigs, manifests and node configurations before anything starts."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from e2e.cluster import configs
from e2e.cluster.build import SNAPSHOT_CRDS
from e2e.cluster.components import Places
from e2e.cluster.control_plane import API_URL, serving_addresses
from e2e.cluster.layout import API_PORT, Node, node_list
from e2e.cluster.manifests import metrics_objects, snapshot_objects, storage_objects
from e2e.cluster.network import make_cgroups
from e2e.cluster.pki import write_pki
from e2e.cluster.settings import MAX_NODES, Settings
from e2e.cluster.shell import run


def prepare_cluster(settings: Settings, places: Places) -> None:
    """Write what does not depend on the number of nodes."""
    nodes = [node.name for node in node_list(MAX_NODES)]
    write_pki(settings.pki, nodes=nodes, addresses=serving_addresses())
    settings.logs.mkdir(exist_ok=True)
    for client in ("controller-manager", "scheduler"):
        config = configs.kubeconfig(pki=settings.pki, client=client, server=API_URL)
        _write_json(settings.state / f"{client}.kubeconfig", config)
    _write_json(settings.kubeconfig, configs.kubeconfig(pki=settings.pki, client="admin", server=API_URL))
    manifests = settings.state / "manifests"
    manifests.mkdir(exist_ok=True)
    for name in SNAPSHOT_CRDS:
        shutil.copyfile(places.tools / f"crd-{name}.yaml", manifests / f"crd-{name}.yaml")
    _write_json(manifests / "objects.json", as_list([*storage_objects(), *metrics_objects()]))
    _write_json(settings.state / "snapshot-class.json", as_list(snapshot_objects()))


def prepare_node(node: Node, settings: Settings) -> None:
    """Write a node's configuration files and make its folders and cgroups."""
    node.run.mkdir(parents=True)
    (node.run / "cni").mkdir()
    disk = settings.state / node.name
    for folder in ("kubelet", "pod-logs"):
        (disk / folder).mkdir(parents=True)
    node.kubelet_root.mkdir()
    run(["mount", "--bind", disk / "kubelet", node.kubelet_root])
    (node.run / "resolv.conf").write_text("")
    root = settings.containerd_root(node.name)
    root.mkdir(parents=True, exist_ok=True)
    for name, with_kubernetes in (("containerd.toml", True), ("containerd-sweep.toml", False)):
        text = configs.containerd_config(node, root=root, with_kubernetes=with_kubernetes)
        (node.run / name).write_text(text)
    _write_json(node.run / "cni" / "10-pods.conflist", configs.cni_config(node))
    cgroup = settings.cgroup(node.name)
    make_cgroups(cgroup)
    kubelet = configs.kubelet_config(node, pki=settings.pki, pod_logs=disk / "pod-logs", cgroup=cgroup)
    _write_json(node.run / "kubelet.json", kubelet)
    server = f"https://{Node('n1').address}:{API_PORT}"
    for client in (f"kubelet-{node.name}", "kube-proxy"):
        config = configs.kubeconfig(pki=settings.pki, client=client, server=server)
        _write_json(settings.state / f"{client}.kubeconfig", config)
    _write_json(
        node.run / "proxy.json", configs.proxy_config(node, kubeconfig=settings.state / "kube-proxy.kubeconfig")
    )
    if node.is_first:
        (node.run / "Corefile").write_text(configs.corefile(kubeconfig_path=settings.kubeconfig))


def as_list(objects: list[dict[str, Any]]) -> dict[str, Any]:
    """Return one List of objects, as kubectl reads it."""
    return {"apiVersion": "v1", "kind": "List", "items": objects}


def _write_json(path: Path, value: dict[str, Any]) -> None:
    path.write_text(json.dumps(value, indent=1))
