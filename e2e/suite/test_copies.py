"""Base backups of standbys: where a replica is copied from, how far that is, and what happens when the source goes."""

from e2e.lab import snapshots as lab
from e2e.lab.kubectl import Manifest
from e2e.lab.opening import Shop
from e2e.lab.waiting import wait_until
from e2e.suite.test_replicas import CHILDREN, apply_set, names, slots

RATE = "3Mi"
"""Slow enough to look at a copy of 75 MiB, and to end it half-way."""


def copying(shop: Shop) -> Manifest:
    """What status says of the one that is being copied, once it says how far."""
    for each in lab.status_of(shop).get("members", ()):
        if each["role"] == "Provisioning" and each.get("progressPercent"):
            return dict(each)
    return {}


def test_a_standby_is_copied_and_another_takes_its_place_when_it_ends(clean: Shop) -> None:
    apply_set(clean, replicas=1, standbys=2, provisioning={"method": "BaseBackup", "maxSlotWAL": "1Gi"})
    clean.wait_counts(serving=1, standbys=2)
    standbys = names(clean.replicas("standby"))
    sources = {each["name"]: each["source"] for each in lab.status_of(clean)["members"]}
    assert list(sources.values()).count("primary") == 2, sources
    assert set(sources.values()) - {"primary"} < standbys, "the third one spared the primary"

    lab.patch_set(clean, standbys=3, provisioning={"maxRate": RATE})
    member = wait_until("its progress to be said", lambda: copying(clean), timeout=60, every=0.1)
    assert member["source"] in standbys, member
    assert member["method"] == "BaseBackup"
    assert "the primary is spared" in member["sourceWhy"]
    assert 0 < member["copiedBytes"] <= member["totalBytes"]
    assert clean.sql("SELECT count(*) FROM pg_stat_progress_basebackup") == "0", "the primary copies nothing"

    first = member["source"]
    clean.kubectl("delete", "pod", first, "--grace-period=0", "--force", "--wait=false")
    wait_until(
        "another source",
        lambda: lab.member(clean, member["name"]).get("source") not in (None, first),
        timeout=60,
    )
    second = lab.member(clean, member["name"])
    assert second["source"] in standbys - {first}, second
    lab.patch_set(clean, provisioning={"maxRate": None})
    clean.wait_counts(serving=1, standbys=3)
    assert member["name"] in names(clean.replicas("standby")), "the attempt went on: it did not fail"
    assert lab.member(clean, member["name"]).get("attempts", 0) == 0
    assert len(clean.kubectl.list("pods", CHILDREN)) == len(slots(clean)) == 4
