"""Snapshots as a user wants them: taken beside the members that were asked for, restored from, renewed, cleaned up."""

from e2e.invariants.facts import Observation
from e2e.invariants.patrol import Watch
from e2e.lab import shop as objects
from e2e.lab import snapshots as lab
from e2e.lab.kubectl import Kubectl, Manifest
from e2e.lab.opening import Shop
from e2e.lab.waiting import wait_until
from e2e.suite.test_replicas import CHILDREN, SET, apply_set, names, slots

OTHER = "other"
LEFT_BEHIND = (
    "archive_mode = 'on'\\narchive_command = 'false'\\nrecovery_target = 'immediate'\\n"
    "recovery_target_action = 'promote'\\n"
)
"""What a primary that was itself restored from an archive has in its configuration."""
PGDATA = "$(psql -qXAt -c 'SHOW data_directory')"


def wait_whole(shop: Shop, serving: int, standbys: int, *, timeout: float = 180) -> None:
    """So many of each, and nobody else: a member more than that is one for a snapshot."""
    shop.wait_counts(serving, standbys, timeout=timeout)
    wait_until("no other member", lambda: len(lab.claims(shop)) == serving + standbys, timeout=60)


def count_fit(now: Observation) -> tuple[int, int]:
    """How many serve, and how many stand by."""
    [one] = [one for one in now.sets if one.key[1] == SET]
    return len(now.serving(one)), sum(pod.role == "standby" and pod.is_ready for pod in now.pods_of(one))


def seen_from(watch: Watch, serving: int, standbys: int) -> float:
    """Wait until the checker sees so many, and return the time of that (epoch seconds)."""

    def look() -> float | None:
        with watch.lock:
            now = watch.history[-1]
        return now.wall if now.sets and count_fit(now) == (serving, standbys) else None

    return wait_until(f"the checker to see {serving} serve and {standbys} stand by", look, timeout=20)


def fewest(watch: Watch, since: float) -> tuple[int, int]:
    """The fewest that served, and that stood by, in what the checker saw since then."""
    with watch.lock:
        counts = [count_fit(now) for now in watch.history if now.wall >= since]
        assert watch.history[0].wall <= since, "what was seen first is forgotten by now"
    return min(serving for serving, _ in counts), min(standbys for _, standbys in counts)


def most_pods(watch: Watch, since: float) -> int:
    """The most pods that the set had at a time since then."""
    with watch.lock:
        seen = [now for now in watch.history if now.wall >= since]
    return max(len(now.pods_of(one)) for now in seen for one in now.sets if one.key[1] == SET)


def new_members(shop: Shop, before: set[str]) -> list[Manifest]:
    """What status says of the members that came since."""
    members = lab.status_of(shop).get("members", ())
    return [dict(each) for each in members if each["name"] not in before and each["role"] != "Retiring"]


def assert_nothing_left(shop: Shop) -> None:
    assert shop.kubectl.list("pods,pvc,volumesnapshots", CHILDREN) == []
    assert slots(shop) == []
    namespace = shop.kubectl.namespace

    def are_gone() -> bool:
        contents = Kubectl("default").list("volumesnapshotcontents")
        ours = [each for each in contents if each["spec"]["volumeSnapshotRef"]["namespace"] == namespace]
        assert not ours, names(ours)
        return True

    wait_until("the driver to have deleted the snapshots", are_gone, timeout=30)


def test_a_member_more_is_stopped_for_a_snapshot_and_the_pool_refills_from_it(clean: Shop, invariants: Watch) -> None:
    apply_set(clean, replicas=1, standbys=1, provisioning=lab.taken(keep=1))
    clean.wait_counts(serving=1, standbys=1)
    begun = seen_from(invariants, 1, 1)
    first = lab.wait_taken(clean)
    wait_whole(clean, 1, 1)
    assert fewest(invariants, begun) == (1, 1), "nobody who was asked for is stopped"
    assert most_pods(invariants, begun) == 3
    assert len(slots(clean)) == 3, "its source went with its slot"

    refill_while_the_primary_is_busy(clean, first)

    begun = seen_from(invariants, 2, 1)
    lab.write_wal(clean)
    lab.wait_taken(clean, before=[first])
    wait_whole(clean, 2, 1)
    assert fewest(invariants, begun) == (2, 1)

    clean.kubectl("delete", "dbrs", SET, "--timeout=90s", timeout=100)
    assert_nothing_left(clean)


def refill_while_the_primary_is_busy(shop: Shop, snapshot: str) -> None:
    """A copy from the primary waits, and a restore does not."""
    before = names(shop.kubectl.list("pods", CHILDREN))
    copied = {"method": "BaseBackup", "maxSlotWAL": "1Gi"}
    other = objects.replica_set(
        shop.postgres_image, OTHER, standbys=0, storage={"size": "1Gi"}, provisioning=copied,
        routing={"serviceName": "other-read"},
    )  # fmt: skip
    with lab.busy_primary(shop):
        shop.kubectl.apply(other)
        shop.kubectl.scale(f"dbrs/{SET}", 2)
        wait_whole(shop, 2, 1)
        [member] = new_members(shop, before)
        assert (member["method"], member["source"]) == ("VolumeSnapshot", snapshot), member
        said = str(shop.kubectl.condition("dbrs", OTHER, "Ready").get("message"))
        assert "a copy from the primary waits until its guard is Healthy" in said
        assert lab.claims(shop, OTHER) == []
    shop.kubectl("delete", "dbrs", OTHER, "--timeout=60s", timeout=70)


def test_a_running_standby_is_taken_at_one_point_in_time_and_its_copies_are_right(
    clean: Shop, invariants: Watch
) -> None:
    clean.sql("CREATE TABLE IF NOT EXISTS written (n int); TRUNCATE written; INSERT INTO written VALUES (1)")
    apply_set(clean, replicas=1, standbys=1, provisioning=lab.taken(keep=2, consistency="Atomic"))
    clean.wait_counts(serving=1, standbys=1)
    begun = seen_from(invariants, 1, 1)
    members = names(clean.kubectl.list("pods", CHILDREN))
    taken = [lab.wait_taken(clean)]
    leave_configuration_behind(clean)
    for count in (2, 2):
        lab.write_wal(clean)
        taken.append(lab.wait_taken(clean, count, before=taken))
    assert lab.names(lab.snapshots(clean)) == [taken[2], taken[1]], "more than are kept"
    assert (fewest(invariants, begun), most_pods(invariants, begun)) == ((1, 1), 2)
    assert names(clean.kubectl.list("pods", CHILDREN)) == members, "the source went on"

    clean.sql("INSERT INTO written VALUES (2)")
    lab.patch_set(clean, replicas=2, provisioning={"method": "VolumeSnapshot"})
    wait_whole(clean, 2, 1)
    [member] = new_members(clean, members)
    assert (member["method"], member["source"]) == ("VolumeSnapshot", taken[2]), member
    pod = member["name"]
    assert clean.sql("SELECT pg_is_in_recovery(), string_agg(n::text, ',' ORDER BY n) FROM written", pod=pod) == "t|1,2"
    clean.sql("INSERT INTO written VALUES (3)")
    wait_until("it to stream on", lambda: clean.sql("SELECT max(n) FROM written", pod=pod) == "3", timeout=10)
    assert clean.sql("SHOW recovery_target_action", pod=pod) == "pause"


def leave_configuration_behind(shop: Shop) -> None:
    """Into the volume of the one that is taken: it runs on, and reads none of it."""
    [standby] = shop.replicas("standby")
    script = f'printf "{LEFT_BEHIND}" >> {PGDATA}/postgresql.auto.conf && touch {PGDATA}/recovery.signal'
    shop.in_pod(str(standby["metadata"]["name"]), "sh", "-c", script)


def test_what_keeps_snapshots_from_being_taken_is_said_and_mended_by_the_spec(clean: Shop, invariants: Watch) -> None:
    driver = lab.find_class()["driver"]
    lost = f"{clean.kubectl.namespace}-nowhere"
    classes = {
        "foreign": ("csi.example.com", {}),
        "mute": (driver, {f"{SECRET}-name": lost, f"{SECRET}-namespace": lost}),
    }
    Kubectl("default").apply(*(snapshot_class(clean, name, *rest) for name, rest in classes.items()))
    try:
        provisioning = lab.taken(lost, consistency="Atomic")
        apply_set(clean, replicas=1, standbys=1, provisioning=provisioning)
        wait_said(clean, "SnapshotClassNotFound", lost)
        choose_class(clean, class_name(clean, "foreign"))
        wait_said(clean, "SnapshotClassMismatch", "csi.example.com", driver)
        clean.wait_counts(serving=1, standbys=1)
        assert lab.anchors(clean) == set(), "no slot keeps WAL for a snapshot that cannot be taken"
        begun = seen_from(invariants, 1, 1)
        choose_class(clean, class_name(clean, "mute"))
        wait_said(clean, "SnapshotFailed", "credentials", timeout=60)
        forbid_snapshots(clean)
        choose_class(clean, str(lab.find_class()["metadata"]["name"]))
        wait_said(clean, "QuotaExceeded", "quota", timeout=90)
        assert lab.snapshots(clean) == []
        clean.kubectl.delete("resourcequota", "no-snapshots")
        lab.wait_taken(clean)
        assert fewest(invariants, begun) == (1, 1)
    finally:
        clean.kubectl.delete("resourcequota", "no-snapshots")
        clean.kubectl.delete("dbrs", SET)
        Kubectl("default").delete("volumesnapshotclass", *(class_name(clean, name) for name in classes))


SECRET = "csi.storage.k8s.io/snapshotter-secret"
"""Parameters of a class: a Secret without which its driver is not even asked."""


def class_name(shop: Shop, name: str) -> str:
    return f"{shop.kubectl.namespace}-{name}"


def snapshot_class(shop: Shop, name: str, driver: str, parameters: dict[str, str]) -> Manifest:
    return {
        "apiVersion": "snapshot.storage.k8s.io/v1",
        "kind": "VolumeSnapshotClass",
        "metadata": {"name": class_name(shop, name)},
        "driver": driver,
        "deletionPolicy": "Delete",
        "parameters": parameters,
    }


def choose_class(shop: Shop, name: str) -> None:
    lab.patch_set(shop, provisioning={"snapshots": {"className": name}})


def wait_said(shop: Shop, reason: str, *words: str, timeout: float = 40) -> None:
    def look() -> bool:
        said = lab.freshness(shop)
        assert said.get("reason") == reason, said
        assert all(word in said["message"] for word in words), said
        return True

    wait_until(f"SnapshotFresh to say {reason}", look, timeout=timeout)


def forbid_snapshots(shop: Shop) -> None:
    hard = {"count/volumesnapshots.snapshot.storage.k8s.io": "0"}
    quota = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "no-snapshots"}, "spec": {"hard": hard}}
    shop.kubectl.apply(quota)
    wait_until(
        "the quota to hold",
        lambda: ((shop.kubectl.get("resourcequota", "no-snapshots") or {}).get("status") or {}).get("hard"),
        timeout=20,
    )
