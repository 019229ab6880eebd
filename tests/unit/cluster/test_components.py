"""What the box runs: an order that ends, flags that the design depends on, configurations that agree."""

from pathlib import Path

import pytest

from e2e.cluster import configs
from e2e.cluster.addons import addons
from e2e.cluster.components import Component, Places
from e2e.cluster.control_plane import control_plane
from e2e.cluster.layout import Node, node_list
from e2e.cluster.manifests import metrics_objects, snapshot_objects, storage_objects
from e2e.cluster.node import node_components
from e2e.cluster.prepare import as_list

PLACES = Places(tools=Path("/t"), own=Path("/o"), state=Path("/s"), pki=Path("/s/pki"), python="/p")


def all_components(count: int) -> list[Component]:
    of_nodes = [component for node in node_list(count) for component in node_components(node, PLACES)]
    return [*control_plane(PLACES), *addons(PLACES), *of_nodes]


def components(count: int) -> dict[str, Component]:
    return {component.name: component for component in all_components(count)}


@pytest.mark.parametrize("count", [1, 2])
def test_the_order_of_starts_ends(count: int) -> None:
    left, started = components(count), set[str]()
    while left:
        due = [name for name, component in left.items() if started.issuperset(component.after)]
        assert due, f"never started: {sorted(left)}"
        started.update(due)
        for name in due:
            del left[name]


def test_names_are_unique_with_two_nodes() -> None:
    listed = [component.name for component in all_components(2)]
    assert len(listed) == len(set(listed))


def test_a_second_node_enters_its_own_network() -> None:
    second = components(2)["kubelet-n2"]
    assert second.argv[:2] == ("nsenter", "--net=/run/netns/n2")
    assert "--hostname-override=n2" in second.argv
    assert components(2)["kubelet-n1"].argv[0] == "/t/kubelet"


def test_nothing_of_the_second_node_shares_a_path_or_address_with_the_first() -> None:
    first, second = node_list(2)
    for name in ("address", "pod_subnet", "run", "containerd_socket", "kubelet_root", "csi_socket"):
        assert getattr(first, name) != getattr(second, name)


def test_the_sockets_fit_into_an_address() -> None:
    assert len(str(Node("n2").csi_socket)) < 104


def test_the_api_server_trusts_the_node_authorizer_and_the_front_proxy() -> None:
    argv = components(1)["apiserver"].argv
    assert "--authorization-mode=Node,RBAC" in argv
    assert "--enable-admission-plugins=NodeRestriction" in argv
    assert "--requestheader-allowed-names=front-proxy-client" in argv


def test_the_metric_resolution_is_larger_than_the_kubelet_timeout() -> None:
    argv = dict(word.removeprefix("--").partition("=")[::2] for word in components(1)["metrics-server"].argv[1:])
    assert int(argv["metric-resolution"].rstrip("s")) > int(argv["kubelet-request-timeout"].rstrip("s"))


def test_the_kubelet_never_raises_limits_and_names_our_cgroup() -> None:
    config = configs.kubelet_config(Node("n1"), pki=Path("/pki"), pod_logs=Path("/logs"), cgroup="headroom-n1")
    assert config["oomScoreAdj"] == 0
    assert config["failCgroupV1"] is False
    assert config["cgroupRoot"] == "/headroom-n1"
    assert config["clusterDNS"] == ["10.0.0.1"]


def test_the_sweep_runs_without_the_kubernetes_plugin() -> None:
    with_plugin = configs.containerd_config(Node("n1"), root=Path("/r"), with_kubernetes=True)
    without = configs.containerd_config(Node("n1"), root=Path("/r"), with_kubernetes=False)
    assert "disabled_plugins = []" in with_plugin
    assert "disabled_plugins = ['io.containerd.grpc.v1.cri']" in without


def test_pods_get_addresses_of_their_node() -> None:
    ranges = [configs.cni_config(node)["plugins"][0]["ipam"]["ranges"] for node in node_list(2)]
    assert ranges == [[[{"subnet": "10.244.0.0/24"}]], [[{"subnet": "10.244.1.0/24"}]]]


def test_the_kubeconfig_names_files_of_its_client() -> None:
    config = configs.kubeconfig(pki=Path("/pki"), client="admin", server="https://127.0.0.1:6443")
    assert config["users"][0]["user"]["client-key"] == "/pki/admin.key"
    assert config["clusters"][0]["cluster"]["certificate-authority"] == "/pki/ca.crt"


def test_dns_asks_with_the_given_kubeconfig() -> None:
    text = configs.corefile(kubeconfig_path=Path("/k"))
    assert "kubeconfig /k" in text
    assert "bind 10.0.0.1" in text
    assert "{{" not in text


def test_storage_and_snapshots_name_one_driver_and_are_defaults() -> None:
    driver, storage = storage_objects()
    [snapshots] = snapshot_objects()
    assert driver["metadata"]["name"] == storage["provisioner"] == snapshots["driver"]
    assert storage["metadata"]["annotations"] == {"storageclass.kubernetes.io/is-default-class": "true"}
    assert "snapshot.storage.kubernetes.io/is-default-class" in snapshots["metadata"]["annotations"]


def test_the_metrics_endpoint_is_where_the_server_listens() -> None:
    objects = {entry["kind"]: entry for entry in as_list(metrics_objects())["items"]}
    port = objects["EndpointSlice"]["ports"][0]["port"]
    assert f"--secure-port={port}" in components(1)["metrics-server"].argv
    assert objects["APIService"]["spec"]["service"]["name"] == objects["Service"]["metadata"]["name"]
