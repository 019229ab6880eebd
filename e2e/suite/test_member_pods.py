"""What a replica's pod does by itself: it leaves without refusing anybody, stays ready when busy, shares no volume."""

import json
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import pytest

from e2e.lab import shop as objects
from e2e.lab.kubectl import Manifest, condition_of
from e2e.lab.opening import Shop
from e2e.lab.prober import Prober
from e2e.lab.waiting import wait_until
from e2e.suite.test_faults import claims
from e2e.suite.test_replicas import CHILDREN, SET, apply_set, names, slots

BACKENDS = 55
BUSY_SECONDS = 300
LAST_QUERIES_SECONDS = 120
"""pgbench waits for its last queries, which fifty others hold up."""
BURN = "SELECT count(*) FROM (SELECT generate_series(1, 2000000)) AS numbers"
IN_USE = "another pod's server or copy still uses the volume"


def evict(shop: Shop, name: str) -> None:
    """As `kubectl drain` asks for it, which the budget may refuse."""
    path = f"/api/v1/namespaces/{shop.kubectl.namespace}/pods/{name}/eviction"
    body = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": name}}
    shop.kubectl("create", "--raw", path, "-f", "-", stdin=json.dumps(body))


def serves_instead(shop: Shop, gone: str) -> bool:
    return bool(names(shop.replicas("serving")) - {gone})


@pytest.mark.parametrize(
    "times", [5, pytest.param(50, marks=[pytest.mark.proof, pytest.mark.timeout(3600)])], ids=["few", "many"]
)
def test_no_connection_is_refused_when_the_only_serving_replica_is_evicted(clean: Shop, times: int) -> None:
    apply_set(clean, replicas=1, standbys=1)
    clean.wait_counts(serving=1, standbys=1)
    before = claims(clean)
    with Prober(clean) as prober:
        for turn in range(1, times + 1):
            [serving] = names(clean.replicas("serving"))
            evict(clean, serving)
            wait_until("the standby to serve", partial(serves_instead, clean, serving), timeout=30, every=0.1)
            clean.wait_counts(serving=1, standbys=1, timeout=120)
            totals = dict(prober.totals)
            print(f"eviction {turn}: {totals}")
            assert (totals["errors"], totals["cut"]) == (0, 0), f"eviction {turn}: {totals}"
        assert totals["reads"] > 0
    assert claims(clean) == before, "each came back on its own claim"


@contextmanager
def burning(shop: Shop, address: str) -> Iterator[None]:
    """`BACKENDS` clients of one replica that leave no processor idle."""
    script = f'echo "{BURN}" >/tmp/burn.sql; exec pgbench -n -c {BACKENDS} -T {BUSY_SECONDS} -f /tmp/burn.sql'
    login = [f"{name}={value}" for name, value in objects.login(address, objects.READER).items()]
    where = ["kubectl", "-n", shop.kubectl.namespace, "exec", f"{objects.PRIMARY}-0", "--"]
    clients = subprocess.Popen(
        [*where, "env", *login, "sh", "-c", script], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        yield
        clients.wait(BUSY_SECONDS + LAST_QUERIES_SECONDS)
    finally:
        clients.kill()
        clients.wait()


def count_active(shop: Shop, pod: str) -> int:
    query = f"SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND usename = '{objects.READER}'"
    return int(shop.sql(query, pod=pod))


@pytest.mark.proof
@pytest.mark.timeout(1200)
@pytest.mark.unwatched(why="the machine has no processor left for the checker's own reads")
def test_a_busy_replica_stays_ready(clean: Shop) -> None:
    resources = {"requests": {"cpu": "100m", "memory": "256Mi"}, "limits": {"cpu": "1", "memory": "1Gi"}}
    apply_set(clean, replicas=1, standbys=0, resources=resources)
    clean.wait_counts(serving=1, standbys=0)
    [pod] = clean.replicas("serving")
    name = pod["metadata"]["name"]
    ready = condition_of(pod, "Ready")
    with burning(clean, pod["status"]["podIP"]):
        wait_until("the replica to be busy", lambda: count_active(clean, name) >= BACKENDS, timeout=60)
    now = clean.kubectl.get("pod", name) or {}
    assert condition_of(now, "Ready") == ready, "it was not ready in between"
    assert now["status"]["containerStatuses"][0]["restartCount"] == 0


def twin_of(pod: Manifest) -> Manifest:
    """Another pod of the same containers, node and claim; no child of the set, and not in the Service."""
    spec: dict[str, Any] = {**pod["spec"], "terminationGracePeriodSeconds": 1}
    metadata = {"name": f"{pod['metadata']['name']}-twin", "labels": {"app": "twin"}}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}


@pytest.mark.breaks("one-pod-for-each-slot-and-claim", why="a second pod of the claim is made by hand")
def test_a_second_pod_on_a_claim_starts_no_server(clean: Shop) -> None:
    apply_set(clean, replicas=1, standbys=0)
    clean.wait_counts(serving=1, standbys=0)
    [pod] = clean.replicas("serving")
    name = pod["metadata"]["name"]
    receiver = clean.sql("SELECT pid FROM pg_stat_wal_receiver", pod=name)
    twin = twin_of(pod)
    clean.kubectl.apply(twin)
    try:
        log = partial(clean.kubectl, "logs", twin["metadata"]["name"], "-c", "seed")
        wait_until("the second pod to wait", lambda: is_waiting(clean, twin) and IN_USE in log(), timeout=60)
        time.sleep(5)
        assert clean.sql("SELECT pid FROM pg_stat_wal_receiver", pod=name) == receiver
        assert (clean.kubectl.get("pod", name) or {})["status"]["containerStatuses"][0]["restartCount"] == 0
    finally:
        clean.kubectl.delete("pod", twin["metadata"]["name"])


def is_waiting(shop: Shop, pod: Manifest) -> bool:
    found = shop.kubectl.get("pod", pod["metadata"]["name"]) or {}
    states = [entry["state"] for entry in found.get("status", {}).get("initContainerStatuses", ())]
    return any("running" in state for state in states)


def test_a_member_deleted_by_force_comes_back_on_its_claim(clean: Shop) -> None:
    apply_set(clean, replicas=1, standbys=1, drain={"timeout": "5s"})
    clean.wait_counts(serving=1, standbys=1)
    before = claims(clean)
    [serving] = clean.replicas("serving")
    name, uid = serving["metadata"]["name"], serving["metadata"]["uid"]
    clean.kubectl("delete", "pod", name, "--force", "--grace-period=0", "--wait=false")
    wait_until("the standby to serve", partial(serves_instead, clean, name), timeout=30)
    clean.wait_counts(serving=1, standbys=1, timeout=240)
    members = {pod["metadata"]["name"]: pod["metadata"]["uid"] for pod in clean.kubectl.list("pods", CHILDREN)}
    assert members[name] != uid
    assert claims(clean) == before, f"dbrs/{SET} made no copy anew"
    assert len(slots(clean)) == 2
