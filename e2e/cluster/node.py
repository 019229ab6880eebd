"""The programs of one node, as values."""

from __future__ import annotations

from e2e.cluster.components import Component, Places
from e2e.cluster.layout import POOL_MOUNT, Node


def node_components(node: Node, places: Places) -> list[Component]:
    """Return a node's programs: container runtime, kubelet, Service proxy, storage driver, and the wait for Ready."""
    return [
        *_runtime(node, places),
        _kubelet(node, places),
        _proxy(node, places),
        _csi(node, places),
        _ready(node, places),
    ]


def _runtime(node: Node, places: Places) -> list[Component]:
    """Return containerd, with the sweep of a former run before it and the import of images after it."""
    name, importer = node.name, (places.python, "-m", "e2e.cluster.importer")
    return [
        Component(f"images-{name}", (*node.prefix(), *importer, "--sweep", name), ready="exit", node=name),
        Component(
            name=f"containerd-{name}",
            argv=(*node.prefix(), places.tool("containerd"), f"--config={node.run / 'containerd.toml'}"),
            ready=f"socket:{node.containerd_socket}",
            after=(f"images-{name}",),
            node=name,
        ),
        Component(f"load-{name}", (*importer, name), ready="exit", after=(f"containerd-{name}",), node=name),
    ]


def _kubelet(node: Node, places: Places) -> Component:
    name = node.name
    return Component(
        name=f"kubelet-{name}",
        argv=(
            *node.prefix(),
            places.tool("kubelet"),
            f"--config={node.run / 'kubelet.json'}",
            f"--kubeconfig={places.state / f'kubelet-{name}.kubeconfig'}",
            f"--root-dir={node.kubelet_root}",
            f"--hostname-override={name}",
            f"--node-ip={node.address}",
            f"--cert-dir={node.run / 'kubelet-pki'}",
        ),
        ready="running",
        after=(f"containerd-{name}", "apiserver"),
        node=name,
    )


def _proxy(node: Node, places: Places) -> Component:
    return Component(
        name=f"proxy-{node.name}",
        argv=(*node.prefix(), places.tool("kube-proxy"), f"--config={node.run / 'proxy.json'}"),
        ready="running",
        after=("apiserver",),
        node=node.name,
    )


def _csi(node: Node, places: Places) -> Component:
    return Component(
        name=f"csi-{node.name}",
        argv=(
            *node.prefix(),
            str(places.own / "csi"),
            f"--pool={POOL_MOUNT}",
            f"--socket={node.csi_socket}",
            f"--registration-dir={node.kubelet_root / 'plugins_registry'}",
            f"--node-id={node.name}",
            f"--faults={places.state / 'csi-faults.json'}",
        ),
        ready=f"socket:{node.csi_socket}",
        node=node.name,
    )


def _ready(node: Node, places: Places) -> Component:
    name = node.name
    return Component(
        name=f"ready-{name}",
        argv=places.kubectl("wait", "--for=condition=Ready", "--timeout=20s", f"node/{name}"),
        ready="exit",
        after=(f"kubelet-{name}", f"proxy-{name}", f"csi-{name}", "scheduler", "controller-manager"),
        node=name,
    )
