"""What goes wrong around snapshots: said, cleaned up, and another way taken; nobody who serves or is warm notices."""

import time
from dataclasses import replace

import pytest

from e2e.cluster.provider import Cluster
from e2e.invariants.patrol import Watch
from e2e.lab import shop as objects
from e2e.lab import snapshots as lab
from e2e.lab.kubectl import Kubectl
from e2e.lab.manager import SECOND, Manager
from e2e.lab.opening import Shop
from e2e.lab.processes import kill_pod_processes
from e2e.lab.release import Release
from e2e.lab.storage import SNAPSHOTTER, driver_faults, standing_still
from e2e.lab.waiting import wait_until
from e2e.suite.test_replicas import CHILDREN, SET, apply_set, names, slots
from e2e.suite.test_snapshots import assert_nothing_left, fewest, new_members, seen_from, wait_said, wait_whole

OUTAGE_SECONDS = 30
"""Long enough for another process to lead and to look at the set."""
LONG_OUTAGE_SECONDS = 640
"""Longer than a snapshot may take until it is given up: ten minutes."""


def stopped(shop: Shop) -> list[str]:
    """Members that are stopped for a snapshot: a claim that names one, without a pod."""
    pods = names(shop.kubectl.list("pods", CHILDREN))
    found = [claim for claim in lab.claims(shop) if lab.SOURCE in claim["metadata"].get("annotations", {})]
    return sorted(names(found) - pods)


def wait_begun(shop: Shop, *, without: str = "") -> str:
    """Wait for a snapshot that is not ready yet."""

    def look() -> str:
        found = [each for each in lab.snapshots(shop) if not (each.get("status") or {}).get("readyToUse")]
        return next((name for name in lab.names(found) if name != without), "")

    return wait_until("a snapshot to be begun", look, timeout=120, every=0.1)


@pytest.mark.alone
def test_while_nobody_takes_snapshots_and_the_operator_dies_one_member_is_stopped_and_all_others_go_on(
    clean: Shop, cluster: Cluster, release: Release, invariants: Watch
) -> None:
    apply_set(clean, replicas=1, standbys=1, provisioning=lab.taken())
    clean.wait_counts(serving=1, standbys=1)
    begun = seen_from(invariants, 1, 1)
    with standing_still(cluster, SNAPSHOTTER):
        name = wait_begun(clean)
        wait_said(clean, "SnapshotPending", f"{name} is not ready yet")
        kill_pod_processes(str(release.wait_leader()["metadata"]["name"]))
        time.sleep(OUTAGE_SECONDS)
        release.wait_leader()
        assert len(stopped(clean)) == 1
    assert lab.wait_taken(clean) == name, "it was not given up"
    wait_whole(clean, 1, 1)
    assert fewest(invariants, begun) == (1, 1)


@pytest.mark.proof
@pytest.mark.timeout(1200)
def test_a_snapshot_that_is_not_ready_for_ten_minutes_is_given_up_and_its_source_comes_back(
    clean: Shop, cluster: Cluster, invariants: Watch
) -> None:
    apply_set(clean, replicas=1, standbys=1, provisioning=lab.taken())
    clean.wait_counts(serving=1, standbys=1)
    whole = time.time()
    with standing_still(cluster, SNAPSHOTTER):
        name = wait_begun(clean)
        end = time.monotonic() + LONG_OUTAGE_SECONDS
        while time.monotonic() < end:
            assert fewest(invariants, max(whole, time.time() - 20)) == (1, 1)
            time.sleep(15)
        wait_said(clean, "SnapshotNotReady", f"{name} was not ready in 10 minutes", "check the CSI driver", timeout=60)
        assert stopped(clean) == [], "it started again, and is the source of the next one"
    lab.wait_taken(clean, before=[name], timeout=180)
    wait_whole(clean, 1, 1)


@pytest.mark.proof
def test_a_snapshot_deleted_half_way_is_said_and_taken_again(clean: Shop, cluster: Cluster, invariants: Watch) -> None:
    apply_set(clean, replicas=1, standbys=1, provisioning=lab.taken())
    clean.wait_counts(serving=1, standbys=1)
    begun = seen_from(invariants, 1, 1)
    with driver_faults(cluster, CreateSnapshot={"delaySeconds": 15, "times": 1}):
        name = wait_begun(clean)
        clean.kubectl("delete", "volumesnapshot", name, "--wait=false")
        wait_said(clean, "SnapshotFailed", f"{name} was deleted before it was ready")
        lab.wait_taken(clean, before=[name])
    wait_whole(clean, 1, 1)
    assert fewest(invariants, begun) == (1, 1)


@pytest.mark.proof
@pytest.mark.parametrize("answer_is_lost", [False, True], ids=["refused", "answer lost"])
def test_a_driver_that_fails_a_few_times_costs_only_time(
    clean: Shop, cluster: Cluster, invariants: Watch, *, answer_is_lost: bool
) -> None:
    apply_set(clean, replicas=1, standbys=1, provisioning=lab.taken())
    clean.wait_counts(serving=1, standbys=1)
    begun = seen_from(invariants, 1, 1)
    fault = {"fail": "UNAVAILABLE", "message": "the array restarts", "times": 3, "after": answer_is_lost}
    with driver_faults(cluster, CreateSnapshot=fault):
        lab.wait_taken(clean)
    wait_whole(clean, 1, 1)
    assert fewest(invariants, begun) == (1, 1)


def with_snapshot(shop: Shop, *, standbys: int = 1) -> str:
    """A set with a snapshot of a running standby, so that no member more comes and goes."""
    apply_set(shop, replicas=1, standbys=standbys, provisioning=lab.taken(consistency="Atomic"))
    shop.wait_counts(serving=1, standbys=standbys)
    return lab.wait_taken(shop)


@pytest.mark.proof
def test_a_snapshot_deleted_while_it_is_restored_ends_the_attempt_and_a_copy_is_made(
    clean: Shop, cluster: Cluster
) -> None:
    name = with_snapshot(clean)
    before = names(clean.kubectl.list("pods", CHILDREN))
    with driver_faults(cluster, CreateVolume={"fail": "UNAVAILABLE", "message": "the array restarts"}):
        clean.kubectl.scale(f"dbrs/{SET}", 2)
        wait_until("a claim of it", lambda: claims_from(clean, name), timeout=60)
        clean.kubectl("delete", "volumesnapshot", name, "--wait=false")
        wait_until("the attempt to end", lambda: not claims_from(clean, name), timeout=90)
    clean.wait_counts(serving=2, standbys=1)
    [member] = new_members(clean, before)
    assert member["source"] != name, member
    lab.wait_taken(clean, before=[name])
    events = clean.kubectl("get", "events", "--field-selector=reason=SnapshotGone", "-o", "jsonpath={..message}")
    assert name in events


def claims_from(shop: Shop, snapshot: str) -> list[str]:
    claims = lab.claims(shop)
    return sorted(names([each for each in claims if (each["spec"].get("dataSource") or {}).get("name") == snapshot]))


def test_a_promoted_member_is_rebuilt_from_the_snapshot_and_never_a_source_of_one(clean: Shop) -> None:
    name = with_snapshot(clean)
    [standby] = names(clean.replicas("standby"))
    before = names(clean.kubectl.list("pods", CHILDREN))
    lab.write_wal(clean)
    clean.sql("SELECT pg_promote(wait => false)", pod=standby)
    latest = lab.wait_taken(clean, before=[name], timeout=180)
    clean.wait_counts(serving=1, standbys=1)
    [member] = new_members(clean, before)
    [taken] = lab.snapshots(clean)
    assert taken["metadata"]["name"] == latest
    assert taken["spec"]["source"]["persistentVolumeClaimName"] != standby
    assert clean.sql("SELECT pg_is_in_recovery()", pod=member["name"]) == "t"
    assert standby not in names(clean.kubectl.list("pods", CHILDREN))


@pytest.mark.proof
@pytest.mark.parametrize("drops_slots", [False, True], ids=["slots stay away", "slots are dropped"])
def test_after_a_failover_no_snapshot_of_before_is_restored_unless_its_wal_is_kept(
    clean: Shop, *, drops_slots: bool
) -> None:
    shop = replace(clean, kubectl=Kubectl(f"{clean.kubectl.namespace}-failover"))
    shop.open(scale=1, size="2Gi")
    manager = Manager(shop, drops_slots=drops_slots)
    try:
        manager.open()
        old = with_snapshot(shop, standbys=2)
        pods = names(shop.kubectl.list("pods", CHILDREN))
        serving = names(shop.replicas("serving"))
        manager.fail_over(sorted(pods - serving), *serving)
        shop.kubectl.scale(f"dbrs/{SET}", 2)
        new = lab.wait_taken(shop, before=[old], primary=SECOND, timeout=240)
        [taken] = lab.snapshots(shop)
        assert taken["metadata"]["annotations"]["headroom.dev/snapshot-timeline"] == "2", new
        shop.wait_counts(serving=2, standbys=2, timeout=240)
        wait_until("all to follow", lambda: all_follow(manager), timeout=90)
        shop.wait_ready("dbrs", SET)
    finally:
        manager.close()
        shop.close()


def all_follow(manager: Manager) -> bool:
    return all(manager.timeline(name) == 2 for name in names(manager.shop.kubectl.list("pods", CHILDREN)))


@pytest.mark.proof
def test_a_deleted_set_leaves_nothing_while_a_snapshot_is_begun(clean: Shop, cluster: Cluster) -> None:
    apply_set(clean, replicas=1, standbys=1, provisioning=lab.taken())
    clean.wait_counts(serving=1, standbys=1)
    with driver_faults(cluster, CreateSnapshot={"delaySeconds": 10, "times": 1}):
        wait_begun(clean)
        clean.kubectl("delete", "dbrs", SET, "--timeout=90s", timeout=100)
        assert slots(clean) == []
        wait_until("the snapshot to go", lambda: lab.snapshots(clean) == [], timeout=60)
    assert_nothing_left(clean)
    assert clean.kubectl.get("dbg", objects.GUARD) is not None
