"""etcd and the control plane of the first node, as values."""

from __future__ import annotations

from e2e.cluster.components import Component, Places
from e2e.cluster.layout import API_PORT, API_SERVICE_ADDRESS, BOX_RUN, POD_RANGE, SERVICE_RANGE, Node

API_URL = f"https://127.0.0.1:{API_PORT}"


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
            "--heartbeat-interval=50",
            "--election-timeout=300",
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


def serving_addresses() -> list[str]:
    """Return the addresses under which the API server is reached."""
    return ["127.0.0.1", Node("n1").address, API_SERVICE_ADDRESS]
