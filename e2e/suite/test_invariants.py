"""The checker finds what is broken under its eyes, that and nothing else: each invariant is broken by hand."""

import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pytest

from e2e.invariants.patrol import Watch
from e2e.invariants.suspicion import ANCHOR_GRACE, ANCHOR_MARK, IDLE_WAL_GRACE, KEPT_GRACE, ORPHAN_GRACE, Invariant
from e2e.lab import shop as objects
from e2e.lab.kubectl import CommandFailed, Kubectl, Manifest
from e2e.lab.opening import Shop
from e2e.lab.waiting import wait_until
from e2e.suite.test_replicas import CHILDREN, SET, apply_set, slots

pytestmark = pytest.mark.proof
EVERYWHERE = Kubectl("default")
MIB = 1 << 20
STRANGER = "ffffffff"
"""The part of a slot's name that names its set: no set has this one."""


def broken(watch: Watch) -> set[Invariant]:
    return {one.invariant for one in watch.violations()}


def serve(shop: Shop, watch: Watch, *, replicas: int, standbys: int, **spec: object) -> None:
    """A set that is as it should be, and that the checker sees."""
    apply_set(shop, replicas=replicas, standbys=standbys, **spec)
    shop.wait_counts(serving=replicas, standbys=standbys)
    watch.wait_seen()


def name_of(pod: Manifest) -> str:
    return str(pod["metadata"]["name"])


def strange_slot(shop: Shop, *, of_snapshot: bool = False) -> str:
    """A slot of this installation and of no set, made by hand; it keeps WAL from now on."""
    installation = slots(shop)[0].split("_")[1]
    name = f"hr_{installation}_{STRANGER}_{ANCHOR_MARK if of_snapshot else 0}_x"
    shop.sql(f"SELECT pg_create_physical_replication_slot('{name}', true)")
    return name


def drop_slot(shop: Shop, name: str) -> None:
    shop.sql(f"SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE slot_name = '{name}'")


def test_a_calm_set_breaks_nothing(clean: Shop, invariants: Watch) -> None:
    serve(clean, invariants, replicas=1, standbys=1)
    time.sleep(20)
    now = invariants.wait_seen()
    assert broken(invariants) == set()
    assert all((member.staleness or 0.0) < 5 for member in now.members.values())


@pytest.mark.breaks("serving-is-fit", "no-stale-connection", why="an endpoint made by hand leads to a paused standby")
def test_reads_of_a_paused_standby_are_found(clean: Shop, invariants: Watch) -> None:
    serve(clean, invariants, replicas=1, standbys=1)
    [standby] = clean.replicas("standby")
    clean.sql("SELECT pg_wal_replay_pause()", pod=name_of(standby))
    try:
        clean.kubectl.apply(endpoint_by_hand(standby["status"]["podIP"]))
        invariants.wait_violation(Invariant.SERVING_IS_FIT, timeout=60)
        invariants.wait_violation(Invariant.NO_STALE_CONNECTION, timeout=60)
    finally:
        clean.kubectl.delete("endpointslice", "by-hand")
        with suppress(CommandFailed):
            clean.sql("SELECT pg_wal_replay_resume()", pod=name_of(standby))
    assert broken(invariants) == {Invariant.SERVING_IS_FIT, Invariant.NO_STALE_CONNECTION}


def endpoint_by_hand(address: str) -> Manifest:
    labels = {
        "kubernetes.io/service-name": objects.READ_SERVICE,
        "endpointslice.kubernetes.io/managed-by": "a-person",
    }
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {"name": "by-hand", "labels": labels},
        "addressType": "IPv4",
        "ports": [{"name": "postgresql", "port": 5432, "protocol": "TCP"}],
        "endpoints": [{"addresses": [address], "conditions": {"ready": True}}],
    }


@pytest.mark.breaks(
    "serving-is-fit",
    "no-stale-connection",
    why="an admission policy forbids the label that would let the standby serve",
)
def test_a_stale_member_that_keeps_its_place_is_found_whatever_is_said(clean: Shop, invariants: Watch) -> None:
    serve(clean, invariants, replicas=1, standbys=1)
    [serving] = clean.replicas("serving")
    with forbidden_to_serve(clean.kubectl.namespace):
        clean.sql("SELECT pg_wal_replay_pause()", pod=name_of(serving))
        try:
            wait_until("it to be said", lambda: name_of(serving) in said(clean), timeout=60)
            found = invariants.wait_violation(Invariant.SERVING_IS_FIT, timeout=KEPT_GRACE + 60)
        finally:
            with suppress(CommandFailed):
                clean.sql("SELECT pg_wal_replay_resume()", pod=name_of(serving))
    assert name_of(serving) in found.subject
    assert broken(invariants) <= {Invariant.SERVING_IS_FIT, Invariant.NO_STALE_CONNECTION}


def test_a_stale_member_is_swapped_or_named_and_accuses_nobody(clean: Shop, invariants: Watch) -> None:
    serve(clean, invariants, replicas=1, standbys=1)
    paused = [name_of(clean.replicas(role)[0]) for role in ("serving", "standby")]
    try:
        for name in paused:
            clean.sql("SELECT pg_wal_replay_pause()", pod=name)
        wait_until("the panic to be said", lambda: "kept in the Service" in said(clean), timeout=60)
        time.sleep(20)
        clean.sql("SELECT pg_wal_replay_resume()", pod=paused[1])
        wait_until("the other to serve", lambda: [*map(name_of, clean.replicas("serving"))] == paused[1:], timeout=60)
        time.sleep(10)
    finally:
        for name in paused:
            with suppress(CommandFailed):
                clean.sql("SELECT pg_wal_replay_resume()", pod=name)
    assert broken(invariants) == set()


def said(shop: Shop) -> str:
    """What the set says of stale reads; empty while they are within the bound."""
    condition = shop.kubectl.condition("dbrs", SET, "ReadsMayBeStale")
    return str(condition.get("message", "")) if condition.get("status") == "True" else ""


@pytest.mark.breaks("enough-serve", why="an admission policy forbids the label that would let the standby serve")
def test_a_standby_that_is_kept_from_serving_is_found(clean: Shop, invariants: Watch) -> None:
    apply_set(clean, replicas=0, standbys=1)
    clean.wait_counts(serving=0, standbys=1)
    with forbidden_to_serve(clean.kubectl.namespace):
        clean.kubectl.scale(f"dbrs/{SET}", 1)
        invariants.wait_violation(Invariant.ENOUGH_SERVE, timeout=90)
    clean.wait_counts(serving=1, standbys=1, timeout=180)
    assert broken(invariants) == {Invariant.ENOUGH_SERVE}


@contextmanager
def forbidden_to_serve(namespace: str) -> Iterator[None]:
    """No pod of the namespace gets the label of a serving member."""
    name, api = f"{namespace}-nobody-serves", "admissionregistration.k8s.io/v1"
    rule = {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["UPDATE"], "resources": ["pods"]}
    label = "object.metadata.?labels[?'headroom.dev/role'].orValue('')"
    policy = {
        "failurePolicy": "Fail",
        "matchConstraints": {"resourceRules": [rule]},
        "validations": [{"expression": f"{label} != 'serving'", "message": "a test keeps everybody from serving"}],
    }
    where = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace}}}
    binding = {"policyName": name, "validationActions": ["Deny"], "matchResources": where}
    EVERYWHERE.apply(
        {"apiVersion": api, "kind": "ValidatingAdmissionPolicy", "metadata": {"name": name}, "spec": policy},
        {"apiVersion": api, "kind": "ValidatingAdmissionPolicyBinding", "metadata": {"name": name}, "spec": binding},
    )
    time.sleep(5)  # a policy holds once every API server has read it
    try:
        yield
    finally:
        EVERYWHERE("delete", f"validatingadmissionpolicy/{name}", f"validatingadmissionpolicybinding/{name}")


@pytest.mark.breaks("one-pod-for-each-slot-and-claim", why="a pod made by hand mounts a member's claim")
def test_a_second_pod_on_a_claim_is_found(clean: Shop, invariants: Watch) -> None:
    serve(clean, invariants, replicas=1, standbys=0)
    [serving] = clean.replicas("serving")
    rival = objects.app_pod("rival", clean.worker_image, ["python3", "-c", "pass"], {}, node="no-such-node")
    rival["spec"]["volumes"] = [{"name": "data", "persistentVolumeClaim": {"claimName": name_of(serving)}}]
    clean.kubectl.apply(rival)
    try:
        invariants.wait_violation(Invariant.ONE_POD_EACH, timeout=20)
    finally:
        clean.kubectl.delete("pod", "rival")
    assert broken(invariants) == {Invariant.ONE_POD_EACH}


@pytest.mark.breaks("slots-are-members", why="a slot of ours is made by hand")
def test_a_slot_without_a_member_is_found(clean: Shop, invariants: Watch) -> None:
    serve(clean, invariants, replicas=1, standbys=0)
    name = strange_slot(clean)
    try:
        found = invariants.wait_violation(Invariant.SLOTS_ARE_MEMBERS, timeout=ORPHAN_GRACE + 30)
    finally:
        drop_slot(clean, name)
    assert name in found.subject
    assert broken(invariants) == {Invariant.SLOTS_ARE_MEMBERS}


@pytest.mark.breaks("anchors-are-snapshots", why="a slot of a snapshot is made by hand")
def test_a_slot_without_a_snapshot_is_found(clean: Shop, invariants: Watch) -> None:
    serve(clean, invariants, replicas=1, standbys=0)
    name = strange_slot(clean, of_snapshot=True)
    try:
        found = invariants.wait_violation(Invariant.ANCHORS_ARE_SNAPSHOTS, timeout=ANCHOR_GRACE + 30)
    finally:
        drop_slot(clean, name)
    assert name in found.subject
    assert broken(invariants) == {Invariant.ANCHORS_ARE_SNAPSHOTS}


@pytest.mark.breaks("kept-wal-within-cap", why="a claim made by hand holds a slot that nobody reads")
def test_wal_above_the_cap_is_found(clean: Shop, invariants: Watch) -> None:
    capped = {"method": "BaseBackup", "maxSlotWAL": "64Mi"}
    serve(clean, invariants, replicas=1, standbys=0, provisioning=capped)
    name = strange_slot(clean)
    clean.kubectl.apply(claim_by_hand(name))
    try:
        for _ in range(9):
            clean.sql(f"SELECT pg_logical_emit_message(false, 'test', repeat('x', {10 * MIB}))")
        found = invariants.wait_violation(Invariant.WAL_WITHIN_CAP, timeout=IDLE_WAL_GRACE + 60)
    finally:
        drop_slot(clean, name)
        clean.kubectl.delete("pvc", "by-hand")
    assert name in found.subject
    assert broken(invariants) == {Invariant.WAL_WITHIN_CAP}


def claim_by_hand(slot: str) -> Manifest:
    """It looks like a member's to the checker, and has no owner, so it is none of the operator's."""
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {
            "name": "by-hand",
            "labels": {"headroom.dev/replica-set": SET},
            "annotations": {"headroom.dev/slot": slot},
        },
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "64Mi"}}},
    }


@pytest.mark.breaks("no-session-kept", why="the process of a session is stopped, so that nobody can end it")
def test_a_session_that_stays_on_an_ejected_member_is_found(clean: Shop, invariants: Watch) -> None:
    serve(clean, invariants, replicas=2, standbys=0)
    pod = clean.replicas("serving")[0]
    with client(clean, pod["status"]["podIP"]) as find:
        backend = wait_until("the client's session", lambda: find(name_of(pod)), timeout=20)
        signal_backend(clean, name_of(pod), backend, "STOP")
        try:
            clean.sql("SELECT pg_wal_replay_pause()", pod=name_of(pod))
            found = invariants.wait_violation(Invariant.NO_SESSION_KEPT, timeout=90)
        finally:
            signal_backend(clean, name_of(pod), backend, "CONT")
            with suppress(CommandFailed):
                clean.sql("SELECT pg_wal_replay_resume()", pod=name_of(pod))
    assert name_of(pod) in found.subject
    assert broken(invariants) == {Invariant.NO_SESSION_KEPT}


@contextmanager
def client(shop: Shop, address: str) -> Iterator["FindSession"]:
    """A client that sleeps on a member, connected over the network as clients are."""
    login = f"postgresql://{objects.READER}:{objects.PASSWORD}@{address}/{objects.DATABASE}"
    query = ("psql", "-qXAt", f"{login}?application_name=sleeper", "-c", "SELECT pg_sleep(120)")
    command = ("kubectl", "-n", shop.kubectl.namespace, "exec", f"{objects.PRIMARY}-0", "--", *query)
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield FindSession(shop)
    finally:
        process.terminate()
        process.wait(timeout=10)


class FindSession:
    """Finds the process of the client's session on a member; an empty text while it is not there."""

    def __init__(self, shop: Shop) -> None:
        self._shop = shop

    def __call__(self, pod: str) -> str:
        sql = "SELECT pid FROM pg_stat_activity WHERE application_name = 'sleeper' AND state = 'active'"
        return self._shop.sql(sql, pod=pod)


def signal_backend(shop: Shop, pod: str, backend: str, signal: str) -> None:
    with suppress(CommandFailed):
        shop.kubectl("exec", pod, "--", "sh", "-c", f"kill -{signal} {backend}")


@pytest.mark.lingering(30)
@pytest.mark.breaks("no-query-cut", why="a session on a draining member is ended by hand")
def test_a_query_that_is_cut_on_a_draining_member_is_found(clean: Shop, invariants: Watch) -> None:
    serve(clean, invariants, replicas=1, standbys=0, readiness={"minServing": 0})
    [pod] = clean.replicas("serving")
    sleeping = "query LIKE 'SELECT pg_sleep%' AND state = 'active'"
    running = f"FROM pg_stat_activity WHERE usename = '{objects.READER}' AND {sleeping}"
    young = f"SELECT count(*) {running} AND query_start > now() - interval '5 s'"
    wait_until("a fresh query of the checker", lambda: clean.sql(young, pod=name_of(pod)) == "1", timeout=60)
    clean.kubectl.scale(f"dbrs/{SET}", 0)
    wait_until("the drain", lambda: clean.replicas("draining"), timeout=30)
    clean.sql(f"SELECT pg_terminate_backend(pid) {running}", pod=name_of(pod))
    found = invariants.wait_violation(Invariant.NO_QUERY_CUT, timeout=20)
    assert "57P01" in found.describe()
    assert broken(invariants) == {Invariant.NO_QUERY_CUT}


@pytest.mark.breaks("never-synchronous", why="the primary's configuration takes every standby in")
def test_a_synchronous_member_is_found(clean: Shop, invariants: Watch) -> None:
    serve(clean, invariants, replicas=1, standbys=0)
    try:
        set_synchronous(clean, "*")
        invariants.wait_violation(Invariant.NEVER_SYNCHRONOUS, timeout=30)
    finally:
        set_synchronous(clean, "")
    assert broken(invariants) == {Invariant.NEVER_SYNCHRONOUS}


def set_synchronous(shop: Shop, names: str) -> None:
    shop.sql(f"ALTER SYSTEM SET synchronous_standby_names = '{names}'")
    shop.sql("SELECT pg_reload_conf()")


def test_a_member_that_leaves_takes_its_slot_and_claim_along(clean: Shop, invariants: Watch) -> None:
    """The way of every test's end: the checker waits for what still looks wrong and finds nothing."""
    serve(clean, invariants, replicas=1, standbys=1)
    clean.kubectl("delete", "dbrs", SET, "--timeout=60s", timeout=70)
    assert clean.kubectl.list("pods,pvc", CHILDREN) == []
    invariants.settle()
    assert broken(invariants) == set()
