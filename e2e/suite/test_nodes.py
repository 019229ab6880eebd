"""Two nodes: members spread, a drained node hands its reads over, a lost one is replaced without a trace."""

from collections.abc import Iterator

import pytest

from e2e.cluster.provider import Cluster
from e2e.lab.kubectl import Kubectl, Manifest, condition_of
from e2e.lab.opening import Shop
from e2e.lab.prober import Prober
from e2e.lab.processes import kill_pod_processes
from e2e.lab.release import Release
from e2e.lab.waiting import wait_until
from e2e.suite.test_replicas import CHILDREN, apply_set, endpoints, slots

pytestmark = pytest.mark.alone
EVERYWHERE = Kubectl("default")


@pytest.fixture
def far_node(cluster: Cluster, clean: Shop) -> Iterator[str]:
    """The node that does not run the primary; whatever a test did to it is undone."""
    names = cluster.node_names()
    if len(names) < 2:
        pytest.skip("one node only: NODES=2 gives the bundled cluster a second one")
    far = next(name for name in names if name != clean.node)
    yield far
    EVERYWHERE("uncordon", *names)
    if not is_ready(far):
        cluster.start_node(far)
        wait_until(f"{far} to be Ready", lambda: is_ready(far), timeout=60)


def is_ready(node: str) -> bool:
    return bool(condition_of(EVERYWHERE.get("node", node), "Ready").get("status") == "True")


def nodes_of(pods: list[Manifest]) -> list[str]:
    return sorted(pod["spec"].get("nodeName", "") for pod in pods)


def test_members_spread_over_the_nodes(cluster: Cluster, clean: Shop, far_node: str) -> None:
    apply_set(clean, replicas=1, standbys=1)
    clean.wait_counts(serving=1, standbys=1)
    assert nodes_of(clean.kubectl.list("pods", CHILDREN)) == sorted(cluster.node_names())[:2]


def test_draining_a_node_fails_no_read(clean: Shop, far_node: str) -> None:
    apply_set(clean, replicas=1, standbys=1)
    clean.wait_counts(serving=1, standbys=1)
    [serving] = clean.replicas("serving")
    node, name = serving["spec"]["nodeName"], serving["metadata"]["name"]
    with Prober(clean) as prober:
        EVERYWHERE("drain", node, f"--pod-selector={CHILDREN}", "--delete-emptydir-data", "--timeout=120s", timeout=130)
        wait_until(
            "the standby elsewhere to serve",
            lambda: [pod for pod in clean.replicas("serving") if pod["spec"]["nodeName"] != node],
            timeout=30,
        )
        EVERYWHERE("uncordon", node)
        clean.wait_counts(serving=1, standbys=1, timeout=120)
        totals = dict(prober.totals)
    assert totals["reads"] > 0
    assert (totals["errors"], totals["cut"]) == (0, 0), totals
    assert name in {pod["metadata"]["name"] for pod in clean.replicas("standby")}, "it came back on its own claim"
    assert len(slots(clean)) == 2


def lead_from(release: Release, node: str) -> None:
    """Have the operator lead that runs on this node: its loss is also a change of leader."""
    leader = release.wait_leader()
    if leader["spec"]["nodeName"] == node:
        return
    kill_pod_processes(leader["metadata"]["name"])
    wait_until(
        f"the operator on {node} to lead",
        lambda: (found := release.leader()) and found["spec"]["nodeName"] == node,
        timeout=60,
    )


def test_a_lost_node_is_left_at_once_and_its_member_replaced(
    cluster: Cluster, clean: Shop, release: Release, far_node: str
) -> None:
    lead_from(release, far_node)
    apply_set(clean, replicas=2, standbys=0)
    clean.wait_counts(serving=2, standbys=0)
    before = {pod["metadata"]["name"]: pod["spec"]["nodeName"] for pod in clean.kubectl.list("pods", CHILDREN)}
    [lost] = [name for name, node in before.items() if node == far_node]
    try:
        cluster.stop_node(far_node)
    except NotImplementedError as error:
        pytest.skip(str(error))
    wait_until("the lost member to leave the Service", lambda: len(endpoints(clean)) == 1, timeout=30)
    wait_until(
        "another member to serve beside the one that was left",
        lambda: len([pod for pod in clean.replicas("serving") if pod["spec"]["nodeName"] != far_node]) == 2,
        timeout=240,
    )
    assert lost in {pod["metadata"]["name"] for pod in clean.kubectl.list("pods", CHILDREN)}, "never deleted by force"
    cluster.start_node(far_node)
    wait_until("the lost pod to go", lambda: not clean.kubectl.get("pod", lost), timeout=180)
    wait_until("its claim to go", lambda: not clean.kubectl.get("pvc", lost), timeout=60)
    clean.wait_counts(serving=2, standbys=0)
    wait_until("two slots", lambda: len(slots(clean)) == 2, timeout=60)
