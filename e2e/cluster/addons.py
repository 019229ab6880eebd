"""DNS, storage, snapshots and metrics, as programs beside the control plane."""

from __future__ import annotations

from e2e.cluster.components import Component, Places
from e2e.cluster.layout import BOX_RUN, METRICS_PORT, Node


def addons(places: Places) -> list[Component]:
    """Return all add-ons."""
    return [*_objects(places), _dns(places), *_storage(places), _metrics(places)]


def _objects(places: Places) -> list[Component]:
    apply = places.kubectl("apply", "--server-side", "--force-conflicts")
    return [
        Component(
            "manifests", (*apply, f"--filename={places.state / 'manifests'}"), ready="exit", after=("apiserver",)
        ),
        Component(
            name="snapshot-class",
            argv=(*apply, f"--filename={places.state / 'snapshot-class.json'}"),
            ready="exit",
            after=("manifests",),
        ),
    ]


def _dns(places: Places) -> Component:
    first = Node("n1")
    return Component(
        name="dns",
        argv=(str(places.own / "dns"), f"-conf={first.run / 'Corefile'}"),
        ready=f"http://{first.address}:8181/ready",
        after=("apiserver",),
    )


def _storage(places: Places) -> list[Component]:
    pace = (
        f"--kubeconfig={places.admin()}", "--kube-api-qps=50", "--kube-api-burst=100", "--retry-interval-start=200ms",
    )  # fmt: skip
    driver = (f"--csi-address={Node('n1').csi_socket}", "--timeout=10m")
    provisioner = (places.tool("csi-provisioner"), *pace, *driver)
    snapshotter = (places.tool("csi-snapshotter"), *pace, *driver)
    controller = (places.tool("snapshot-controller"), *pace)
    return [
        Component("provisioner", provisioner, ready="running", after=("csi-n1", "apiserver")),
        Component("snapshotter", snapshotter, ready="running", after=("csi-n1", "manifests")),
        Component("snapshot-controller", controller, ready="running", after=("manifests",)),
    ]


def _metrics(places: Places) -> Component:
    return Component(
        name="metrics-server",
        argv=(
            places.tool("metrics-server"),
            f"--kubeconfig={places.admin()}",
            f"--authentication-kubeconfig={places.admin()}",
            f"--authorization-kubeconfig={places.admin()}",
            f"--secure-port={METRICS_PORT}",
            f"--cert-dir={BOX_RUN / 'metrics-pki'}",
            "--kubelet-insecure-tls",
            "--kubelet-preferred-address-types=InternalIP",
            "--metric-resolution=10s",
            "--kubelet-request-timeout=5s",
        ),
        ready=f"https://127.0.0.1:{METRICS_PORT}/livez",
        after=("apiserver",),
    )
