"""What goes wrong around a set: said with its remedy, nothing lost, mended without help."""

import time
from collections.abc import Callable

import pytest

from e2e.cluster.provider import Cluster
from e2e.lab import shop as objects
from e2e.lab.kubectl import Manifest
from e2e.lab.opening import Shop
from e2e.lab.processes import kill_pod_processes
from e2e.lab.release import Release
from e2e.lab.waiting import wait_until
from e2e.suite.test_replicas import CHILDREN, SET, apply_set, endpoints, slots, status

GUARD = objects.GUARD
AWAY_SECONDS = 60


def guard(shop: Shop) -> Manifest:
    return shop.kubectl.condition("dbg", GUARD, "Ready")


def wait_reason(shop: Shop, reason: str, timeout: float = 40) -> str:
    """Wait for the guard's reason; returns the message beside it."""

    def look() -> bool:
        assert guard(shop).get("reason") == reason, guard(shop)
        return True

    wait_until(f"dbg/{GUARD} to say {reason}", look, timeout=timeout)
    return str(guard(shop)["message"])


def test_a_wrong_password_is_said_and_mended_by_the_secret(clean: Shop) -> None:
    clean.kubectl.apply(objects.secret("store-monitor", objects.MONITOR, "wrong"), objects.database_guard())
    try:
        assert "check username" in wait_reason(clean, "PasswordRejected")
    finally:
        clean.kubectl.apply(objects.secret("store-monitor", objects.MONITOR))
    clean.wait_ready("dbg", GUARD, timeout=70)


def test_an_unknown_host_is_said_and_mended_by_the_spec(clean: Shop) -> None:
    lost = objects.database_guard()
    lost["spec"]["connection"]["host"] = "no-such-host"
    clean.kubectl.apply(lost)
    assert "no-such-host" in wait_reason(clean, "HostNotFound")
    clean.kubectl.apply(objects.database_guard())
    clean.wait_ready("dbg", GUARD, timeout=40)


def test_a_primary_away_for_a_minute_loses_nothing(clean: Shop) -> None:
    apply_set(clean, replicas=1, standbys=1)
    clean.wait_counts(serving=1, standbys=1)
    before = {pod["metadata"]["uid"] for pod in clean.kubectl.list("pods", CHILDREN)}
    clean.kubectl.scale(f"statefulset/{objects.PRIMARY}", 0)
    try:
        wait_until("the primary to be gone", lambda: not clean.kubectl.list("pods", PRIMARY), timeout=60)
        gone = time.monotonic()
        wait_until("the guard to notice", lambda: guard(clean).get("status") == "False", timeout=40)
        while time.monotonic() - gone < AWAY_SECONDS:
            assert len(endpoints(clean)) == 1, "reads go on without the primary"
            time.sleep(5)
    finally:
        clean.kubectl.scale(f"statefulset/{objects.PRIMARY}", 1)
        wait_until("the primary to be back", clean.is_primary_ready, timeout=120)
    clean.wait_ready("dbg", GUARD, timeout=60)
    clean.wait_counts(serving=1, standbys=1, timeout=90)
    assert {pod["metadata"]["uid"] for pod in clean.kubectl.list("pods", CHILDREN)} == before
    assert len(slots(clean)) == 2


PRIMARY = f"app={objects.PRIMARY}"


def test_a_claim_that_never_binds_is_said_and_cleaned_up(clean: Shop) -> None:
    apply_set(clean, replicas=1, standbys=0, storage={"size": "1Gi", "storageClassName": "no-such-class"})
    wait_until(
        "the unbound claim to be said",
        lambda: "VolumeNotBound" in str((clean.kubectl.get("dbrs", SET) or {}).get("status")),
        timeout=60,
    )
    clean.kubectl("delete", "dbrs", SET, "--timeout=60s", timeout=70)
    assert clean.kubectl.list("pvc", CHILDREN) == []
    assert slots(clean) == []


def test_a_base_backup_killed_half_way_starts_again(clean: Shop) -> None:
    apply_set(
        clean, replicas=1, standbys=0, provisioning={"method": "BaseBackup", "maxRate": "8Mi", "maxSlotWAL": "1Gi"}
    )
    wait_until("the copy to run", lambda: clean.sql(COPIES) == "1", timeout=60)
    clean.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_progress_basebackup")
    clean.wait_counts(serving=1, standbys=0, timeout=180)
    assert len(slots(clean)) == 1


COPIES = "SELECT count(*) FROM pg_stat_progress_basebackup WHERE phase = 'streaming database files'"


def test_deleting_while_provisioning_leaves_nothing(clean: Shop) -> None:
    apply_set(
        clean, replicas=1, standbys=1, provisioning={"method": "BaseBackup", "maxRate": "4Mi", "maxSlotWAL": "1Gi"}
    )
    wait_until("the copy to run", lambda: clean.sql(COPIES) == "1", timeout=60)
    clean.kubectl("delete", "dbrs", SET, "--timeout=60s", timeout=70)
    assert clean.kubectl.list("pods,pvc", CHILDREN) == []
    wait_until("no slot of ours", lambda: slots(clean) == [], timeout=30)


@pytest.mark.alone
@pytest.mark.parametrize("moment", ["slot", "copy", "standby", "serving"])
def test_the_operator_killed_at_any_point_ends_as_if_undisturbed(clean: Shop, release: Release, moment: str) -> None:
    apply_set(
        clean, replicas=1, standbys=1, provisioning={"method": "BaseBackup", "maxRate": "32Mi", "maxSlotWAL": "1Gi"}
    )
    wait_until(f"the moment: {moment}", lambda: has_come(clean, moment), timeout=120, every=0.05)
    leader = release.leader()
    if leader is not None:
        kill_pod_processes(leader["metadata"]["name"])
    clean.wait_counts(serving=1, standbys=1, timeout=180)
    assert len(clean.kubectl.list("pods", CHILDREN)) == 2
    assert len(clean.kubectl.list("pvc", CHILDREN)) == 2
    wait_until("two slots", lambda: len(slots(clean)) == 2, timeout=60)


def has_come(shop: Shop, moment: str) -> bool:
    if moment == "slot":
        return bool(slots(shop))
    if moment == "copy":
        return shop.sql(COPIES) == "1"
    return bool(shop.replicas(moment))


def test_a_wrong_image_spends_no_warm_copy_and_is_taken_back(clean: Shop, cluster: Cluster) -> None:
    apply_set(clean, replicas=1, standbys=2)
    clean.wait_counts(serving=1, standbys=2)
    before = claims(clean)
    set_image(clean, cluster.image("postgres15"))
    wait_until("the other major version to be said", lambda: "MajorVersionMismatch" in str(status(clean)), timeout=60)
    assert len(clean.replicas("serving")) == 1
    assert len(clean.replicas("standby")) == 1, "the other warm one is not spent on it"
    set_image(clean, clean.postgres_image)
    clean.wait_counts(serving=1, standbys=2, timeout=90)
    assert claims(clean) == before


def set_image(shop: Shop, image: str) -> None:
    shop.kubectl.merge("dbrs", SET, {"spec": {"image": image}})


def claims(shop: Shop) -> set[str]:
    return {claim["metadata"]["uid"] for claim in shop.kubectl.list("pvc", CHILDREN)}


def test_claims_deleted_by_hand_leave_the_reads_standing(clean: Shop) -> None:
    apply_set(clean, replicas=2, standbys=1)
    clean.wait_counts(serving=2, standbys=1)
    before = claims(clean)
    clean.kubectl("delete", "pvc", "-l", CHILDREN, "--wait=false")

    def has_moved_on() -> bool:
        assert endpoints(clean), "somebody serves at any time"
        return not claims(clean) & before

    assert happens(has_moved_on, seconds=240), "members were not made anew on claims of their own"
    clean.wait_counts(serving=2, standbys=1, timeout=120)
    wait_until("three slots", lambda: len(slots(clean)) == 3, timeout=60)


def happens(look: Callable[[], bool], *, seconds: float) -> bool:
    """Look until it is so; unlike a wait, a failed assertion ends it at once."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if look():
            return True
        time.sleep(0.5)
    return False


def test_a_role_label_taken_away_by_hand_is_put_right(clean: Shop) -> None:
    apply_set(clean, replicas=1, standbys=1)
    clean.wait_counts(serving=1, standbys=1)
    [standby] = clean.replicas("standby")
    clean.kubectl("label", "pod", standby["metadata"]["name"], "headroom.dev/role-")
    clean.kubectl.scale(f"dbrs/{SET}", 2)
    clean.wait_counts(serving=2, standbys=1, timeout=90)
