"""The life of read replicas: seeded, warm, serving by a label, drained, gone without a trace."""

import subprocess
import time
from dataclasses import replace

import pytest

from e2e.cluster.provider import Cluster
from e2e.lab import shop as objects
from e2e.lab.kubectl import Kubectl, Manifest
from e2e.lab.opening import Shop
from e2e.lab.waiting import wait_until

SET = "store"
CHILDREN = f"headroom.dev/replica-set={SET}"


def apply_set(shop: Shop, **spec: object) -> None:
    small = {"storage": {"size": "1Gi"}}
    shop.kubectl.apply(objects.database_guard(), objects.replica_set(shop.postgres_image, SET, **{**small, **spec}))


def slots(shop: Shop) -> list[str]:
    return shop.sql("SELECT slot_name FROM pg_replication_slots ORDER BY 1").split()


def endpoints(shop: Shop) -> set[str]:
    """Addresses the read Service sends connections to."""
    slices = shop.kubectl.list("endpointslices", f"kubernetes.io/service-name={objects.READ_SERVICE}")
    return {
        address
        for entry in slices
        for endpoint in entry.get("endpoints") or []
        if endpoint["conditions"].get("ready")
        for address in endpoint["addresses"]
    }


def status(shop: Shop) -> Manifest:
    return (shop.kubectl.get("dbrs", SET) or {}).get("status") or {}


def test_a_probe_that_is_killed_half_way_ends_no_session(clean: Shop) -> None:
    apply_set(clean, replicas=1, standbys=0)
    clean.wait_counts(serving=1, standbys=0)
    name = clean.replicas("serving")[0]["metadata"]["name"]
    receiver = clean.sql("SELECT pid FROM pg_stat_wal_receiver", pod=name)
    # What the kubelet leaves when a probe runs into its timeout: a tool without a parent, about to end with a failure.
    left = "(sh -c 'sleep 1; exit 2') >/dev/null 2>&1 </dev/null & exit 0"
    clean.kubectl("exec", name, "--", "sh", "-c", left)
    time.sleep(3)
    assert clean.sql("SELECT pid FROM pg_stat_wal_receiver", pod=name) == receiver
    assert 'role "postgres"' not in clean.kubectl("logs", name), "a probe knocks as a role that may not exist"


def test_a_set_comes_to_serve_and_goes_without_a_trace(clean: Shop) -> None:
    apply_set(clean, replicas=1, standbys=1)
    clean.wait_counts(serving=1, standbys=1)
    clean.wait_ready("dbrs", SET)

    pod = clean.replicas("serving")[0]
    assert endpoints(clean) == {pod["status"]["podIP"]}
    assert clean.sql("SELECT pg_is_in_recovery()", pod=pod["metadata"]["name"]) == "t"
    assert len(slots(clean)) == 2

    clean.sql("CREATE TABLE IF NOT EXISTS written (n int); INSERT INTO written VALUES (42)")
    wait_until(
        "a row to reach the replica",
        lambda: clean.sql("SELECT max(n) FROM written", pod=pod["metadata"]["name"]) == "42",
        timeout=10,
    )
    members = names(clean.kubectl.list("pods", CHILDREN))
    clean.kubectl("delete", "dbrs", SET, "--timeout=60s", timeout=70)
    assert clean.kubectl.list("pods", CHILDREN) == []
    assert clean.kubectl.list("pvc", CHILDREN) == []
    assert slots(clean) == []
    objects_of = "jsonpath={.items[*].involvedObject.name}"
    failed = clean.kubectl("get", "events", "--field-selector=reason=FailedPreStopHook", "-o", objects_of)
    assert not members & set(failed.split()), "a replica's end is no failure"


def test_scaling_takes_the_standby_and_refills_the_pool(clean: Shop) -> None:
    apply_set(clean, replicas=1, standbys=1)
    clean.wait_counts(serving=1, standbys=1)
    warm = clean.replicas("standby")[0]["metadata"]["name"]

    clean.kubectl.scale(f"dbrs/{SET}", 2)
    wait_until("the warm one to serve", lambda: warm in names(clean.replicas("serving")), timeout=10, every=0.05)
    clean.wait_counts(serving=2, standbys=1)

    clean.kubectl.scale(f"dbrs/{SET}", 1)
    clean.wait_counts(serving=1, standbys=1, timeout=150)
    wait_until("the surplus to be gone", lambda: len(clean.kubectl.list("pods", CHILDREN)) == 2, timeout=120)
    wait_until("its slot to be gone", lambda: len(slots(clean)) == 2, timeout=30)
    assert status(clean)["replicas"] == 1


def test_no_running_query_is_cut_on_scale_in(clean: Shop) -> None:
    apply_set(clean, replicas=2, standbys=0)
    clean.wait_counts(serving=2, standbys=0)
    names_before = names(clean.replicas("serving"))
    queries = {name: start_query(clean, name, seconds=15) for name in names_before}
    clean.kubectl.scale(f"dbrs/{SET}", 1)
    wait_until("one to leave the Service", lambda: len(endpoints(clean)) == 1, timeout=20)
    for name, process in queries.items():
        out, error = process.communicate(timeout=60)
        assert process.returncode == 0, f"the query on {name} was cut: {error}"
        assert out.strip() == "done"


def start_query(shop: Shop, pod: str, *, seconds: int) -> "subprocess.Popen[str]":
    """Run a long query over TCP, as a client would."""
    login = f"postgresql://{objects.READER}:{objects.PASSWORD}@127.0.0.1/{objects.DATABASE}?sslmode=require"
    query = f"SELECT 'done' FROM pg_sleep({seconds})"
    command = ["kubectl", "-n", shop.kubectl.namespace, "exec", pod, "--", "psql", "-qXAt", login, "-c", query]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def names(pods: list[Manifest]) -> set[str]:
    return {pod["metadata"]["name"] for pod in pods}


def test_pods_pass_pod_security_restricted(clean: Shop) -> None:
    apply_set(clean, replicas=1, standbys=0)
    clean.wait_counts(serving=1, standbys=0)
    labels = (clean.kubectl.get("namespace", clean.kubectl.namespace) or {})["metadata"]["labels"]
    assert labels["pod-security.kubernetes.io/enforce"] == "restricted"


def test_a_namespace_is_never_hung(clean: Shop) -> None:
    """Deleting all at once, Secrets and primary included, must not leave a finalizer behind."""
    other = replace(clean, kubectl=Kubectl("e2e-doomed"))
    other.open(scale=1, size="1Gi")
    apply_set(other, replicas=1, standbys=0)
    wait_until("the first pod", lambda: other.kubectl.list("pods", CHILDREN), timeout=60)
    other.kubectl("delete", "namespace", "e2e-doomed", "--timeout=120s", timeout=130)


@pytest.mark.parametrize("field", ["storageClassName"])
def test_what_is_immutable_is_refused(clean: Shop, field: str) -> None:
    apply_set(clean, replicas=0, standbys=0)
    with pytest.raises(AssertionError, match=field):
        apply_set(clean, replicas=0, standbys=0, storage={"size": "1Gi", field: "other"})


def test_the_older_major_works_the_same(clean: Shop, cluster: Cluster) -> None:
    older = replace(clean, kubectl=Kubectl("e2e-older"), postgres_image=cluster.image("postgres15"))
    older.open(scale=1, size="1Gi")
    try:
        assert older.sql("SHOW server_version").startswith("15.")
        apply_set(older, replicas=1, standbys=1)
        older.wait_counts(serving=1, standbys=1)
        older.kubectl.scale(f"dbrs/{SET}", 2)
        older.wait_counts(serving=2, standbys=0, timeout=30)
        older.kubectl.scale(f"dbrs/{SET}", 1)
        older.wait_counts(serving=1, standbys=1)
    finally:
        older.close()
