"""What runs in the box, in which order, and how to tell that it is ready. Pure: only values."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from e2e.cluster.layout import (
    API_PORT,
    API_SERVICE_ADDRESS,
    BOX_RUN,
    METRICS_PORT,
    POD_RANGE,
    POOL_MOUNT,
    SERVICE_RANGE,
    Node,
)

API_URL = f"https://127.0.0.1:{API_PORT}"


@dataclass(frozen=True, slots=True)
class Component:
    """A program of the box; a task is ready when it has ended well, a server when `ready` answers.

    `ready` is `exit`, `running`, `socket:PATH` or an http(s) URL; `after` names what must be ready before.
    """

    name: str
    argv: tuple[str, ...]
    ready: str
    after: tuple[str, ...] = ()
    node: str = "n1"
    env: dict[str, str] = field(default_factory=dict)

    @property
    def is_task(self) -> bool:
        """Whether the program is run once."""
        return self.ready == "exit"


@dataclass(frozen=True, slots=True)
class Places:
    """Where the programs and the files of this cluster are."""

    tools: Path
    own: Path
    state: Path
    pki: Path
    python: str

    def tool(self, name: str) -> str:
        """Return the path of a compiled program."""
        return str(self.tools / name)

    def admin(self) -> str:
        """Return the administrator's kubeconfig."""
        return str(self.state / "kubeconfig")

    def pem(self, name: str) -> str:
        """Return the path of a key or certificate."""
        return str(self.pki / name)


def control_plane(places: Places) -> list[Component]:
    """Return etcd and the control plane of the first node."""
    return [
        _etcd(places),
        _api_server(places),
        _controller_manager(places),
        Component(
            name="scheduler",
            argv=(
                places.tool("kube-scheduler"),
                f"--kubeconfig={places.state / 'scheduler.kubeconfig'}",
                "--leader-elect=false",
                "--bind-address=127.0.0.1",
            ),
            ready="https://127.0.0.1:10259/healthz",
            after=("apiserver",),
        ),
    ]


def _etcd(places: Places) -> Component:
    return Component(
        name="etcd",
        argv=(
            places.tool("etcd"),
            f"--data-dir={BOX_RUN / 'etcd'}",
            "--unsafe-no-fsync",
            "--listen-client-urls=http://127.0.0.1:2379",
            "--advertise-client-urls=http://127.0.0.1:2379",
            "--listen-peer-urls=http://127.0.0.1:2380",
            "--initial-advertise-peer-urls=http://127.0.0.1:2380",
            "--initial-cluster=default=http://127.0.0.1:2380",
            "--log-level=warn",
        ),
        ready="http://127.0.0.1:2379/health",
    )


def _api_server(places: Places) -> Component:
    return Component(
        name="apiserver",
        argv=(
            places.tool("kube-apiserver"),
            "--etcd-servers=http://127.0.0.1:2379",
            "--authorization-mode=Node,RBAC",
            "--enable-admission-plugins=NodeRestriction",
            "--allow-privileged=true",
            f"--advertise-address={Node('n1').address}",
            f"--secure-port={API_PORT}",
            f"--service-cluster-ip-range={SERVICE_RANGE}",
            f"--client-ca-file={places.pem('ca.crt')}",
            f"--tls-cert-file={places.pem('apiserver.crt')}",
            f"--tls-private-key-file={places.pem('apiserver.key')}",
            f"--kubelet-client-certificate={places.pem('apiserver-kubelet.crt')}",
            f"--kubelet-client-key={places.pem('apiserver-kubelet.key')}",
            "--kubelet-preferred-address-types=InternalIP",
            "--service-account-issuer=https://kubernetes.default.svc.cluster.local",
            f"--service-account-key-file={places.pem('service-account.key')}",
            f"--service-account-signing-key-file={places.pem('service-account.key')}",
            f"--requestheader-client-ca-file={places.pem('front-proxy-ca.crt')}",
            "--requestheader-allowed-names=front-proxy-client",
            "--requestheader-extra-headers-prefix=X-Remote-Extra-",
            "--requestheader-group-headers=X-Remote-Group",
            "--requestheader-username-headers=X-Remote-User",
            f"--proxy-client-cert-file={places.pem('front-proxy-client.crt')}",
            f"--proxy-client-key-file={places.pem('front-proxy-client.key')}",
        ),
        ready=f"{API_URL}/readyz",
        after=("etcd",),
    )


def _controller_manager(places: Places) -> Component:
    return Component(
        name="controller-manager",
        argv=(
            places.tool("kube-controller-manager"),
            f"--kubeconfig={places.state / 'controller-manager.kubeconfig'}",
            "--use-service-account-credentials",
            "--leader-elect=false",
            "--bind-address=127.0.0.1",
            f"--cluster-cidr={POD_RANGE}",
            f"--service-cluster-ip-range={SERVICE_RANGE}",
            f"--root-ca-file={places.pem('ca.crt')}",
            f"--service-account-private-key-file={places.pem('service-account.key')}",
            f"--cluster-signing-cert-file={places.pem('ca.crt')}",
            f"--cluster-signing-key-file={places.pem('ca.key')}",
            "--node-monitor-period=2s",
            "--node-monitor-grace-period=30s",
        ),
        ready="https://127.0.0.1:10257/healthz",
        after=("apiserver",),
    )


def node_components(node: Node, places: Places) -> list[Component]:
    """Return the programs of one node."""
    name = node.name
    prefix = node.prefix()
    return [
        Component(
            name=f"images-{name}",
            argv=(*prefix, places.python, "-m", "e2e.cluster.importer", "--sweep", name),
            ready="exit",
            node=name,
        ),
        Component(
            name=f"containerd-{name}",
            argv=(*prefix, places.tool("containerd"), f"--config={node.run / 'containerd.toml'}"),
            ready=f"socket:{node.containerd_socket}",
            after=(f"images-{name}",),
            node=name,
        ),
        Component(
            name=f"load-{name}",
            argv=(places.python, "-m", "e2e.cluster.importer", name),
            ready="exit",
            after=(f"containerd-{name}",),
            node=name,
        ),
        Component(
            name=f"kubelet-{name}",
            argv=(
                *prefix,
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
        ),
        Component(
            name=f"proxy-{name}",
            argv=(*prefix, places.tool("kube-proxy"), f"--config={node.run / 'proxy.json'}"),
            ready="running",
            after=("apiserver",),
            node=name,
        ),
        Component(
            name=f"csi-{name}",
            argv=(
                *prefix,
                str(places.own / "csi"),
                f"--pool={POOL_MOUNT}",
                f"--socket={node.csi_socket}",
                f"--registration-dir={node.kubelet_root / 'plugins_registry'}",
                f"--node-id={name}",
                f"--faults={places.state / 'csi-faults.json'}",
            ),
            ready=f"socket:{node.csi_socket}",
            after=("manifests",),
            node=name,
        ),
        Component(
            name=f"ready-{name}",
            argv=(
                places.tool("kubectl"),
                f"--kubeconfig={places.admin()}",
                "wait",
                "--for=condition=Ready",
                "--timeout=20s",
                f"node/{name}",
            ),
            ready="exit",
            after=(f"kubelet-{name}", f"proxy-{name}", f"csi-{name}", "scheduler", "controller-manager"),
            node=name,
        ),
    ]


def addons(places: Places) -> list[Component]:
    """Return DNS, storage, snapshots and metrics, as programs beside the control plane."""
    first = Node("n1")
    csi_flags = (
        f"--kubeconfig={places.admin()}",
        "--kube-api-qps=50",
        "--kube-api-burst=100",
        "--retry-interval-start=200ms",
    )
    driver_flags = (f"--csi-address={first.csi_socket}", "--timeout=10m")
    kubectl = (places.tool("kubectl"), f"--kubeconfig={places.admin()}")
    return [
        Component(
            name="manifests",
            argv=(*kubectl, "apply", "--server-side", "--force-conflicts", f"--filename={places.state / 'manifests'}"),
            ready="exit",
            after=("apiserver",),
        ),
        Component(
            name="snapshot-class",
            argv=(*kubectl, "apply", "--server-side", f"--filename={places.state / 'snapshot-class.json'}"),
            ready="exit",
            after=("manifests",),
        ),
        Component(
            name="dns",
            argv=(str(places.own / "dns"), f"-conf={first.run / 'Corefile'}"),
            ready=f"http://{first.address}:8181/ready",
            after=("apiserver",),
        ),
        Component(
            name="provisioner",
            argv=(
                places.tool("csi-provisioner"),
                *csi_flags,
                *driver_flags,
                "--extra-create-metadata=false",
                "--default-fstype=",
            ),
            ready="running",
            after=("csi-n1",),
            env={"NODE_NAME": "n1"},
        ),
        Component(
            name="snapshotter",
            argv=(places.tool("csi-snapshotter"), *csi_flags, *driver_flags),
            ready="running",
            after=("csi-n1",),
        ),
        Component(
            name="snapshot-controller",
            argv=(places.tool("snapshot-controller"), *csi_flags),
            ready="running",
            after=("manifests",),
        ),
        Component(
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
            after=("manifests",),
        ),
    ]


def all_components(nodes: list[Node], places: Places) -> list[Component]:
    """Return everything that a cluster of these nodes runs."""
    return [
        *control_plane(places),
        *addons(places),
        *(component for node in nodes for component in node_components(node, places)),
    ]


def serving_addresses() -> list[str]:
    """Return the addresses under which the API server is reached."""
    return ["127.0.0.1", Node("n1").address, API_SERVICE_ADDRESS]
