"""The steps of the life of a snapshot, and of a replica that is restored from one, as they are seen from outside.

Watches show them some milliseconds after the write.
"""

import json
import subprocess
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import IO

from e2e.invariants.kube import Kube
from e2e.lab import shop as objects
from e2e.lab import snapshots as lab
from e2e.lab.kubectl import Manifest
from e2e.lab.opening import Shop
from e2e.lab.waiting import wait_until

SET = "store"
FOLLOWER = "slot-follower"
SAY_SLOTS = """
DO $$ BEGIN LOOP
RAISE NOTICE '{"slots": %}', (SELECT coalesce(json_agg(slot_name), '[]') FROM pg_replication_slots);
COMMIT;
PERFORM pg_sleep(0.01);
END LOOP; END $$
"""
"""Says the slots again and again. A transaction that lasts would make the guard call the primary busy."""


@dataclass(slots=True)
class Slots:
    """The slots of a primary, as a session that does nothing else says them all the time."""

    names: frozenset[str] = frozenset()
    is_known: bool = False

    def take(self, line: str) -> None:
        """A line of its output."""
        _, found, text = line.partition("NOTICE:  ")
        if found and text.startswith('{"slots"'):
            self.names, self.is_known = frozenset(json.loads(text)["slots"]), True

    @property
    def anchors(self) -> frozenset[str]:
        """Those that keep the WAL of snapshots."""
        return frozenset(name for name in self.names if "_s_" in name)


@contextmanager
def following_slots(shop: Shop) -> Iterator[Slots]:
    """Know the slots as they are, while the block lasts."""
    slots = Slots()
    login = [f"{name}={value}" for name, value in objects.login(objects.SOCKET).items()]
    command = ("kubectl", "-n", shop.kubectl.namespace, "exec", lab.PRIMARY, "--", "env", *login)
    psql = (f"PGAPPNAME={FOLLOWER}", "psql", "-qX", "-c", SAY_SLOTS)
    session = subprocess.Popen((*command, *psql), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    assert session.stderr is not None
    reader = threading.Thread(target=_read, args=(session.stderr, slots), daemon=True)
    reader.start()
    try:
        wait_until("the slots to be known", lambda: slots.is_known, timeout=20, every=0.05)
        yield slots
    finally:
        shop.sql(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = '{FOLLOWER}'")
        session.wait(timeout=20)
        reader.join(timeout=20)


def _read(lines: IO[str], slots: Slots) -> None:
    with lines:
        for line in lines:
            slots.take(line)


RETIRE = "headroom.dev/retire"
TO_LSN = "headroom.dev/snapshot-to-lsn"
ROLE = "headroom.dev/role"


@dataclass(frozen=True, slots=True)
class View:
    """The set of a shop as the watches have it now; `before` is what was there when the life began."""

    shop: Shop
    kube: Kube
    slots: Slots
    before: frozenset[str] = frozenset()

    def find(self, kind: str) -> list[Manifest]:
        """Objects of the set."""
        return [
            each
            for each in self.kube.objects[kind].all()
            if each["metadata"].get("namespace") == self.shop.kubectl.namespace
            and each["metadata"].get("labels", {}).get(lab.SET_LABEL) == SET
        ]

    def new(self, kind: str) -> list[Manifest]:
        """Those that were not there before."""
        return [each for each in self.find(kind) if each["metadata"]["uid"] not in self.before]

    def old(self, kind: str) -> list[Manifest]:
        """Those that are still there."""
        return [each for each in self.find(kind) if each["metadata"]["uid"] in self.before]

    def begin(self) -> "View":
        """The same, with what is there now as what was before."""
        kinds = ("pods", "claims", "snapshots")
        return replace(self, before=frozenset(each["metadata"]["uid"] for kind in kinds for each in self.find(kind)))

    def sources(self) -> list[str]:
        """Members whose claims name a snapshot."""
        return lab.names([claim for claim in self.find("claims") if lab.SOURCE in annotations(claim)])

    def is_set_deleting(self) -> bool:
        """Whether the set is on its way out, or gone."""
        sets, namespace = self.kube.objects["sets"].all(), self.shop.kubectl.namespace
        return all(map(is_deleting, (each for each in sets if each["metadata"]["namespace"] == namespace)))

    def pods_of(self, members: list[str]) -> list[Manifest]:
        return [pod for pod in self.find("pods") if pod["metadata"]["name"] in members]

    def free_anchors(self) -> frozenset[str]:
        """Anchors without a snapshot."""
        return self.slots.anchors - lab.anchors_of(self.find("snapshots"))

    def free_slots(self) -> frozenset[str]:
        """Members' slots without a claim."""
        used = {annotations(claim)["headroom.dev/slot"] for claim in self.find("claims")}
        return self.slots.names - self.slots.anchors - used


def annotations(item: Manifest) -> Mapping[str, str]:
    found: Mapping[str, str] = item["metadata"].get("annotations", {})
    return found


def is_deleting(item: Manifest) -> bool:
    return "deletionTimestamp" in item["metadata"]


def is_ready(snapshot: Manifest) -> bool:
    return bool((snapshot.get("status") or {}).get("readyToUse"))


def is_seeded(pod: Manifest) -> bool:
    seed: Manifest = next(iter((pod.get("status") or {}).get("initContainerStatuses", ())), {})
    return "terminated" in seed.get("state", {})


def has_role(pod: Manifest, role: str) -> bool:
    return bool(pod["metadata"]["labels"].get(ROLE) == role)


Look = Callable[[View], object]
STOPPED: Mapping[str, Look] = {
    "slot of the member more": View.free_slots,
    "claim of the member more": lambda view: view.new("claims"),
    "pod of the member more": lambda view: view.new("pods"),
    "the member more is warm": lambda view: any(has_role(pod, "standby") for pod in view.new("pods")),
    "anchor": View.free_anchors,
    "source chosen": View.sources,
    "source stopping": lambda view: any(map(is_deleting, view.pods_of(view.sources()))),
    "source stopped": lambda view: (found := view.sources()) and not view.pods_of(found),
    "snapshot created": lambda view: view.new("snapshots"),
    "snapshot ready": lambda view: any(map(is_ready, view.new("snapshots"))),
    "source leaves": lambda view: any(RETIRE in annotations(claim) for claim in view.new("claims")),
    "old snapshot deleted": lambda view: any(map(is_ready, view.new("snapshots"))) and all_go(view.old("snapshots")),
}
"""What a snapshot with a stop goes through, in this order."""
ATOMIC: Mapping[str, Look] = {
    "anchor": View.free_anchors,
    "snapshot created": lambda view: view.new("snapshots"),
    "snapshot ready": lambda view: any(map(is_ready, view.new("snapshots"))),
    "snapshot stamped": lambda view: any(TO_LSN in annotations(each) for each in view.new("snapshots")),
    "old snapshot deleted": lambda view: any(map(is_ready, view.new("snapshots"))) and all_go(view.old("snapshots")),
}
"""The same without a stop."""
CLONE: Mapping[str, Look] = {
    "slot copied": View.free_slots,
    "claim restored": lambda view: view.new("claims"),
    "volume bound": lambda view: any(
        (claim.get("status") or {}).get("phase") == "Bound" for claim in view.new("claims")
    ),
    "pod created": lambda view: view.new("pods"),
    "volume proven": lambda view: any(map(is_seeded, view.new("pods"))),
    "replica warm": lambda view: any(has_role(pod, "standby") for pod in view.new("pods")),
}
"""What a replica that is restored goes through."""


TEARDOWN: Mapping[str, Look] = {
    "set deleted": lambda view: view.is_set_deleting(),
    "snapshot leaves": lambda view: all_go(view.find("snapshots")),
    "first member leaves": lambda view: any(map(is_deleting, view.find("pods"))),
    "first claim leaves": lambda view: any(map(is_deleting, view.find("claims"))),
}
"""The end of a set with a snapshot."""
MOMENTS = {"Stopped": STOPPED, "Atomic": ATOMIC, "clone": CLONE, "teardown": TEARDOWN}


def all_go(found: list[Manifest]) -> bool:
    return all(map(is_deleting, found))


def find_moment(view: View, life: Mapping[str, Look], moment: str) -> str:
    """The moment, or the first of those after it that has come; empty while none has. Some last for milliseconds."""
    names = list(life)
    return next((name for name in names[names.index(moment) :] if life[name](view)), "")
