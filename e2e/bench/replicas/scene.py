"""The scene of one size: a primary with so much data, a guard, a snapshot, and a set whose replicas came from it.

All replicas that stay share the data of one copy, since a restored volume is copy-on-write. So the disk holds the
primary, that copy, and the one that is being measured.
"""

import json
import time
from collections.abc import Callable

from e2e.lab import shop as objects
from e2e.lab.kubectl import Kubectl, Manifest
from e2e.lab.opening import Shop
from e2e.lab.waiting import wait_until

SET = "store"
SERVING = 2
"""A replica that serves is copied only where another serves too."""
VOLUME = "30Gi"
SCALE_PER_GIB = 68
"""pgbench accounts and their key: about 15 MiB a unit of scale. The first GiB has these, which the writer uses."""
BULK = "headroom_bulk"
CHUNKS_PER_GIB = 4
ROWS_PER_CHUNK = 2**30 // 8192 // CHUNKS_PER_GIB
"""The rest is rows of a block each, which load ten times as fast: a copy does not know what is in a block."""
CHUNK_SECONDS = 120.0
"""For 256 MiB and as much WAL."""
DEFAULT_CLASS = "snapshot.storage.kubernetes.io/is-default-class"
SNAPSHOT_SECONDS = 900.0
LONGEST_AGE, MOST_WAL = "744h", "8Gi"
"""No second snapshot becomes due during a run."""
CREATE_BULK = f"""
DROP TABLE IF EXISTS {BULK};
CREATE TABLE {BULK} (number bigint, body text STORAGE PLAIN)
"""
Say = Callable[[str], None]


def set_the_scene(shop: Shop, gib: int, say: Say) -> None:
    """Everything up to two serving replicas, both restored from the snapshot."""
    shop.open(scale=SCALE_PER_GIB, size=VOLUME, say=say)
    load_bulk(shop, gib - 1, say)
    say(f"primary: {int(shop.sql('SELECT pg_database_size(current_database())')) / 2**30:.2f} GiB")
    shop.kubectl.apply(database_guard(), replica_set(shop.postgres_image, find_snapshot_class()))
    began = time.monotonic()
    wait_until("a fresh snapshot", lambda: is_snapshot_fresh(shop), timeout=SNAPSHOT_SECONDS, every=1.0)
    say(f"snapshot: there after {time.monotonic() - began:.0f} s, the copy that it is of included")
    provide(shop, method="VolumeSnapshot")
    ask(shop, SERVING, 0)
    shop.wait_counts(serving=SERVING, standbys=0, timeout=300)


def load_bulk(shop: Shop, gib: int, say: Say) -> None:
    """Fill a table of so many GiB, 256 MiB at a time."""
    shop.sql(CREATE_BULK)
    began, chunks = time.monotonic(), gib * CHUNKS_PER_GIB
    for chunk in range(1, chunks + 1):
        rows = f"generate_series(1, {ROWS_PER_CHUNK}) AS number"
        fill = f"INSERT INTO {BULK} SELECT number, repeat(md5(random()::text), 250) FROM {rows}"
        shop.in_primary("psql", "-qX", "-v", "ON_ERROR_STOP=1", "-c", fill, timeout=CHUNK_SECONDS)
        if chunk % CHUNKS_PER_GIB == 0:
            say(f"primary: {chunk // CHUNKS_PER_GIB} of {gib} GiB more after {time.monotonic() - began:.0f} s")
    shop.in_primary("psql", "-qX", "-c", "CHECKPOINT", timeout=300)


def database_guard() -> Manifest:
    """A guard that holds up no copy: after one from the primary the next would wait until commits have been calm."""
    levels = {
        "commitLatency": {"brownout": "1m", "overloaded": "2m", "emergency": "3m"},
        "activePerCorePercent": {"brownout": 1000, "overloaded": 2000, "emergency": 3000},
    }
    return objects.database_guard(thresholds=levels)


def replica_set(image: str, snapshot_class: str) -> Manifest:
    """The set before anybody serves: it makes one member for its first snapshot."""
    provisioning = {
        "method": "BaseBackup",
        "maxSlotWAL": MOST_WAL,
        "snapshots": {"className": snapshot_class, "maxAge": LONGEST_AGE, "maxWALBehind": MOST_WAL, "keep": 1},
    }
    return objects.replica_set(image, SET, replicas=0, standbys=0, storage={"size": VOLUME}, provisioning=provisioning)


def find_snapshot_class() -> str:
    """The cluster's default VolumeSnapshotClass."""
    found = Kubectl("default").list("volumesnapshotclasses")
    marked = [each for each in found if each["metadata"].get("annotations", {}).get(DEFAULT_CLASS) == "true"]
    assert marked, "the cluster has no default VolumeSnapshotClass"
    name: str = marked[0]["metadata"]["name"]
    return name


def is_snapshot_fresh(shop: Shop) -> bool:
    """Whether the set says that it has one, else why not."""
    condition = shop.kubectl.condition("dbrs", SET, "SnapshotFresh")
    said = f"{condition.get('status')} {condition.get('reason')}: {condition.get('message')}"
    assert condition.get("status") == "True", f"SnapshotFresh is {said}"
    return True


def provide(shop: Shop, **provisioning: str) -> None:
    """Change how the next replica is made."""
    _patch(shop, {"provisioning": provisioning})


def ask(shop: Shop, replicas: int, standbys: int) -> None:
    """Change both counts in one write."""
    _patch(shop, {"replicas": replicas, "standbys": standbys})


def _patch(shop: Shop, spec: Manifest) -> None:
    shop.kubectl("patch", "dbrs", SET, "--type=merge", "-p", json.dumps({"spec": spec}))
