"""The steps of the life of a snapshot, and of a replica that is restored from one, as they are seen from outside.

Watches show them some milliseconds after the write; slots are asked for.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from e2e.invariants.kube import Kube
from e2e.lab import snapshots as lab
from e2e.lab.kubectl import Manifest
from e2e.lab.opening import Shop

SET = "store"
SLOTS = "SELECT slot_name FROM pg_replication_slots"
RETIRE = "headroom.dev/retire"
TO_LSN = "headroom.dev/snapshot-to-lsn"
ROLE = "headroom.dev/role"


@dataclass(frozen=True, slots=True)
class View:
    """The set of a shop as the watches have it now; `before` is what was there when the life began."""

    shop: Shop
    kube: Kube
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
        return View(
            self.shop, self.kube, frozenset(each["metadata"]["uid"] for kind in kinds for each in self.find(kind))
        )

    def sources(self) -> list[str]:
        """Members whose claims name a snapshot."""
        return lab.names([claim for claim in self.find("claims") if lab.SOURCE in annotations(claim)])

    def is_set_deleting(self) -> bool:
        """Whether the set is on its way out, or gone."""
        sets, namespace = self.kube.objects["sets"].all(), self.shop.kubectl.namespace
        return all(map(is_deleting, (each for each in sets if each["metadata"]["namespace"] == namespace)))

    def pods_of(self, members: list[str]) -> list[Manifest]:
        return [pod for pod in self.find("pods") if pod["metadata"]["name"] in members]

    def free_anchors(self) -> set[str]:
        """Anchors without a snapshot; asks the primary."""
        return lab.anchors(self.shop) - lab.anchors_of(self.find("snapshots"))

    def free_slots(self) -> set[str]:
        """Members' slots without a claim; asks the primary."""
        members = set(self.shop.sql(SLOTS).split()) - lab.anchors(self.shop)
        return members - {annotations(claim)["headroom.dev/slot"] for claim in self.find("claims")}


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
