"""Configuration files of the node's programs, as values."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from e2e.cluster.layout import DNS_DOMAIN, PAUSE_IMAGE, POD_RANGE, Node


def kubelet_config(node: Node, *, pki: Path, pod_logs: Path, cgroup: str) -> dict[str, Any]:
    """Return a kubelet configuration that works with cgroup v1, little disk and no right to raise limits."""
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": True},
            "x509": {"clientCAFile": str(pki / "ca.crt")},
        },
        "authorization": {"mode": "Webhook"},
        "address": node.address,
        "containerRuntimeEndpoint": f"unix://{node.containerd_socket}",
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": f"/{cgroup}",
        "failCgroupV1": False,
        "enforceNodeAllocatable": [],
        "failSwapOn": False,
        "oomScoreAdj": 0,
        "maxOpenFiles": 20000,
        "maxPods": 200,
        "clusterDNS": [Node("n1").address],
        "clusterDomain": DNS_DOMAIN,
        "resolvConf": str(node.run / "resolv.conf"),
        "nodeStatusUpdateFrequency": "5s",
        "nodeLeaseDurationSeconds": 20,
        "imageGCHighThresholdPercent": 100,
        "serializeImagePulls": False,
        "podLogsDir": str(pod_logs),
        "volumePluginDir": str(node.run / "volume-plugins"),
        "evictionHard": {
            "memory.available": "100Mi",
            "nodefs.available": "0%",
            "nodefs.inodesFree": "0%",
            "imagefs.available": "0%",
        },
    }


def proxy_config(node: Node, *, kubeconfig: Path) -> dict[str, Any]:
    """Return a kube-proxy configuration for nftables that leaves the machine's limits alone."""
    return {
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "mode": "nftables",
        "nftables": {"minSyncPeriod": "0.1s"},
        "clientConnection": {"kubeconfig": str(kubeconfig)},
        "hostnameOverride": node.name,
        "clusterCIDR": POD_RANGE,
        "bindAddress": node.address,
        "healthzBindAddress": f"{node.address}:10256",
        "oomScoreAdj": 0,
        "conntrack": {"maxPerCore": 0, "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s"},
    }


def cni_config(node: Node) -> dict[str, Any]:
    """Return a network of point-to-point links, which needs no bridge for the pods."""
    return {
        "cniVersion": "1.0.0",
        "name": "pods",
        "plugins": [
            {
                "type": "ptp",
                "ipMasq": False,
                "ipam": {
                    "type": "host-local",
                    "dataDir": str(node.run / "cni-addresses"),
                    "ranges": [[{"subnet": node.pod_subnet}]],
                    "routes": [{"dst": "0.0.0.0/0"}],
                },
            },
            {"type": "portmap", "capabilities": {"portMappings": True}},
        ],
    }


CONTAINERD_TEMPLATE = """\
version = 3
root = '{root}'
state = '{state}'
oom_score = 0
disabled_plugins = [{disabled}]

[grpc]
address = '{socket}'

[plugins.'io.containerd.internal.v1.opt']
path = '{opt}'

[plugins.'io.containerd.nri.v1.nri']
disable = true

[plugins.'io.containerd.cri.v1.images']
snapshotter = 'overlayfs'
pinned_images.sandbox = '{pause}'

[plugins.'io.containerd.cri.v1.runtime']
restrict_oom_score_adj = true
disable_apparmor = true
cni.bin_dirs = ['/usr/lib/cni']
cni.conf_dir = '{cni}'
containerd.runtimes.runc.runtime_type = 'io.containerd.runc.v2'
containerd.runtimes.runc.options.SystemdCgroup = false
"""
KUBERNETES_PLUGIN = "'io.containerd.grpc.v1.cri'"


def containerd_config(node: Node, *, root: Path, with_kubernetes: bool) -> str:
    """Return containerd's configuration; without Kubernetes it only keeps images and containers."""
    return CONTAINERD_TEMPLATE.format(
        root=root,
        state=node.run / "containerd",
        socket=node.containerd_socket,
        disabled="" if with_kubernetes else KUBERNETES_PLUGIN,
        opt=node.run / "opt",
        pause=PAUSE_IMAGE,
        cni=node.run / "cni",
    )


COREFILE_TEMPLATE = """\
.:53 {{
    bind {address}
    errors
    ready {address}:8181
    cache 2
    kubernetes {domain} in-addr.arpa {{
        kubeconfig {kubeconfig}
        ttl 2
    }}
}}
"""


def corefile(*, kubeconfig_path: Path) -> str:
    """Return CoreDNS's configuration: the cluster's own names and nothing else."""
    return COREFILE_TEMPLATE.format(address=Node("n1").address, domain=DNS_DOMAIN, kubeconfig=kubeconfig_path)


def kubeconfig(*, pki: Path, client: str, server: str) -> dict[str, Any]:
    """Return a kubeconfig that names the files of one client."""
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "headroom", "cluster": {"server": server, "certificate-authority": str(pki / "ca.crt")}}],
        "users": [
            {
                "name": client,
                "user": {
                    "client-certificate": str(pki / f"{client}.crt"),
                    "client-key": str(pki / f"{client}.key"),
                },
            }
        ],
        "contexts": [{"name": "headroom", "context": {"cluster": "headroom", "user": client}}],
        "current-context": "headroom",
    }
