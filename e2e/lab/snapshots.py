"""Snapshots of a set on a real cluster: what there is of them, how one becomes due, and a primary that is busy."""

import subprocess
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from e2e.lab import shop as objects
from e2e.lab.kubectl import Kubectl, Manifest
from e2e.lab.opening import Shop
from e2e.lab.waiting import wait_until

SET_LABEL = "headroom.dev/replica-set"
ANCHOR = "headroom.dev/snapshot-anchor"
SOURCE = "headroom.dev/snapshot"
"""On the claim of a member whose volume is taken."""
DEFAULT_CLASS = "snapshot.storage.kubernetes.io/is-default-class"
DUE_WAL_MIB = 32
"""Of `maxWALBehind`: a snapshot is due at 80 % of it."""
MORE_WAL_MIB = 28
"""Enough to make one due."""
PRIMARY = f"{objects.PRIMARY}-0"
LOCK = 7_040_417
BUSY = {"lockWaiters": {"brownout": 1, "overloaded": 5, "emergency": 10}}
"""Thresholds of a guard that is above Healthy as soon as one session waits."""


def find_class() -> Manifest:
    """The VolumeSnapshotClass to use; skips the test on a cluster that has none."""
    found = Kubectl("default")("get", "crd", "volumesnapshotclasses.snapshot.storage.k8s.io", "--ignore-not-found")
    classes = Kubectl("default").list("volumesnapshotclasses") if found else []
    classes.sort(key=lambda each: each["metadata"].get("annotations", {}).get(DEFAULT_CLASS) != "true")
    if not classes:
        pytest.skip("the cluster has no VolumeSnapshotClass")
    return classes[0]


def taken(class_name: str = "", *, keep: int = 1, method: str = "Auto", **spec: Any) -> Manifest:
    """`provisioning` of a set that takes snapshots; `spec` is of them. One is due after some MiB of WAL."""
    name = class_name or str(find_class()["metadata"]["name"])
    snapshots = {"className": name, "keep": keep, "maxWALBehind": f"{DUE_WAL_MIB}Mi", **spec}
    return {"method": method, "maxSlotWAL": "1Gi", "snapshots": snapshots}


def snapshots(shop: Shop, name: str = "store") -> list[Manifest]:
    """The snapshots of a set, the newest first."""
    found = shop.kubectl.list("volumesnapshots", f"{SET_LABEL}={name}")
    return sorted(found, key=lambda each: str(each["metadata"]["name"]), reverse=True)


def names(found: list[Manifest]) -> list[str]:
    """Their names, in the same order."""
    return [str(each["metadata"]["name"]) for each in found]


def anchors(shop: Shop, primary: str = PRIMARY) -> set[str]:
    """The slots on the primary that keep the WAL of snapshots."""
    query = "SELECT slot_name FROM pg_replication_slots WHERE slot_name LIKE 'hr\\_%\\_s\\_%'"
    return set(shop.sql(query, pod=primary).split())


def anchors_of(found: list[Manifest]) -> set[str]:
    """The slots that these snapshots name."""
    return {str(each["metadata"]["annotations"][ANCHOR]) for each in found}


def write_wal(shop: Shop, mebibytes: int = MORE_WAL_MIB) -> None:
    """So much WAL and no data."""
    message = "pg_logical_emit_message(false, 'fill', repeat('x', 1048576))"
    shop.sql(f"SELECT count({message}) FROM generate_series(1, {mebibytes})")


def status_of(shop: Shop, name: str = "store") -> Manifest:
    """The status of a set."""
    return (shop.kubectl.get("dbrs", name) or {}).get("status") or {}


def member(shop: Shop, name: str) -> Manifest:
    """What status says of a member; empty while it says nothing."""
    return next((dict(each) for each in status_of(shop).get("members", ()) if each["name"] == name), {})


def freshness(shop: Shop, name: str = "store") -> Manifest:
    """The condition that says whether a snapshot can be restored."""
    return shop.kubectl.condition("dbrs", name, "SnapshotFresh")


def wait_taken(
    shop: Shop, count: int = 1, *, before: Collection[str] = (), primary: str = PRIMARY, timeout: float = 120
) -> str:
    """Wait for `count` snapshots with their slots, a new one among them, and no source left; returns its name."""

    def look() -> str:
        said, found = freshness(shop), snapshots(shop)
        assert said.get("status") == "True", said
        assert len(found) == count, f"there are {names(found)}, {count} are wanted"
        newest = str(found[0]["metadata"]["name"])
        assert newest not in before, f"{newest} is the old one"
        kept = anchors(shop, primary)
        assert kept == anchors_of(found), f"{kept} keep WAL"
        sources = [claim for claim in claims(shop) if SOURCE in claim["metadata"].get("annotations", {})]
        assert not sources, names(sources)
        return newest

    return wait_until(f"{count} snapshots, a new one among them", look, timeout=timeout, every=0.5)


def claims(shop: Shop, name: str = "store") -> list[Manifest]:
    """The claims of a set."""
    return shop.kubectl.list("pvc", f"{SET_LABEL}={name}")


def patch_set(shop: Shop, name: str = "store", **spec: Any) -> None:
    """Merge this into the spec of a set."""
    shop.kubectl.merge("dbrs", name, {"spec": spec})


@contextmanager
def busy_primary(shop: Shop) -> Iterator[None]:
    """The guard calls the primary Brownout, since a session waits for another one while the block lasts."""
    shop.kubectl.apply(objects.database_guard(thresholds=BUSY))
    sleeping = f"SELECT pg_advisory_lock({LOCK}), pg_sleep(600)"
    sessions = [_begin(shop, sleeping)]
    try:
        wait_until("the lock to be held", lambda: _count_locks(shop, "granted") == 1, timeout=20)
        sessions.append(_begin(shop, f"SELECT pg_advisory_lock({LOCK})"))
        wait_state(shop, "Brownout")
        yield
    finally:
        shop.sql(f"SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND objid = {LOCK}")
        for session in sessions:
            session.wait(timeout=30)
        shop.kubectl.apply(objects.database_guard())


def wait_state(shop: Shop, state: str, *, timeout: float = 60) -> None:
    """Wait until the guard says so of the primary."""

    def look() -> bool:
        found = ((shop.kubectl.get("dbg", objects.GUARD) or {}).get("status") or {}).get("state")
        assert found == state, f"it is {found}"
        return True

    wait_until(f"the guard to say {state}", look, timeout=timeout)


def _begin(shop: Shop, statement: str) -> "subprocess.Popen[bytes]":
    command = ("kubectl", "-n", shop.kubectl.namespace, "exec", PRIMARY, "--", "psql", "-qX")
    login = ("-h", objects.SOCKET, "-U", objects.OWNER, "-d", objects.DATABASE, "-c", statement)
    return subprocess.Popen((*command, *login), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def _count_locks(shop: Shop, condition: str) -> int:
    query = f"SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objid = {LOCK} AND {condition}"
    return int(shop.sql(query))
