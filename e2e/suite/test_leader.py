"""Two operators: one leads, the other takes over; both watch modes; what an uninstall leaves standing."""

import time

import pytest

from e2e.lab import shop as objects
from e2e.lab.opening import Shop
from e2e.lab.processes import kill_pod_processes
from e2e.lab.release import Release
from e2e.lab.waiting import wait_until
from e2e.suite.test_replicas import SET, apply_set, endpoints, slots

pytestmark = pytest.mark.alone
TAKEOVER_SECONDS = 15.0


def test_the_other_operator_acts_soon_after_the_leader_is_killed(clean: Shop, release: Release) -> None:
    apply_set(clean, replicas=1, standbys=1)
    clean.wait_counts(serving=1, standbys=1)
    old = release.wait_leader()["metadata"]["name"]
    kill_pod_processes(old)
    killed = time.monotonic()
    clean.kubectl.scale(f"dbrs/{SET}", 2)
    wait_until("the scale-out", lambda: len(clean.replicas("serving")) == 2, timeout=60, every=0.1)
    took = time.monotonic() - killed
    assert took <= TAKEOVER_SECONDS, f"acted {took:.1f} s after the leader was killed"


def test_a_rolling_restart_hands_the_lease_over(clean: Shop, release: Release) -> None:
    release.wait_leader()
    release.kubectl("rollout", "restart", "deployment/headroom")
    release.kubectl("rollout", "status", "deployment/headroom", "--timeout=90s", timeout=100)
    release.wait_leader(timeout=20)


def test_listed_namespaces_are_watched_with_roles_only(clean: Shop, release: Release) -> None:
    release.install({"watchNamespaces[0]": clean.kubectl.namespace})
    try:
        assert (
            release.kubectl("get", "clusterrolebindings", "-l", "app.kubernetes.io/name=headroom", "-o", "name") == ""
        )
        apply_set(clean, replicas=1, standbys=0)
        clean.wait_counts(serving=1, standbys=0)
        clean.kubectl("delete", "dbrs", SET, "--timeout=60s", timeout=70)
    finally:
        release.install()
        release.wait_leader()


def test_an_uninstall_leaves_replicas_service_and_slots_standing(clean: Shop, release: Release) -> None:
    apply_set(clean, replicas=1, standbys=1)
    clean.wait_counts(serving=1, standbys=1)
    before = endpoints(clean), slots(clean)
    release.uninstall()
    try:
        assert (endpoints(clean), slots(clean)) == before
        finalizers = (clean.kubectl.get("dbrs", SET) or {})["metadata"].get("finalizers", [])
        assert finalizers == []
        assert clean.kubectl.get("service", objects.READ_SERVICE)
    finally:
        release.install()
        release.wait_leader()
    clean.wait_counts(serving=1, standbys=1)
    assert (endpoints(clean), slots(clean)) == before
