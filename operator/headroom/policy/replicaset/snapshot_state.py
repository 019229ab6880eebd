"""What the snapshots of a set are good for: which can be restored, how far behind they are, and when another is due."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from headroom.api.v1alpha1.replicaset import ReplicaSetSpec
from headroom.model.conditions import Finding
from headroom.model.database import Lsn, SlotFacts
from headroom.model.numbers import describe_bytes
from headroom.model.snapshot import SnapshotFacts
from headroom.model.text import clean_text
from headroom.policy.replicaset.facts import SetFacts
from headroom.policy.replicaset.snapshot_fit import BARRED, Fit, count_kept, describe_oversize, find_flaw
from headroom.reasons import Reason

DUE_SHARE = 0.8
"""A snapshot is replaced at this share of its age or its WAL: the next one takes a copy and a stop, and is to be there
before this one is no longer fresh."""
VOLUME_SHARE = 0.3
"""WAL of more than this part of the volume takes longer to replay than a copy of it takes (spilo's rule)."""
NOT_SERVED = (
    "the cluster has no VolumeSnapshots: install the snapshot CRDs and controller of the CSI external-snapshotter, "
    "then restart Headroom"
)
MOST_OF_ERROR = 300


@dataclass(frozen=True, slots=True)
class Bounds:
    """Within these a snapshot is fresh: bytes of WAL since then, and its age; `cap` is what its slot may keep. `barred`
    names those that are not restored any more, and `storage` is the size of a claim as the spec has it, in bytes.
    """

    wal: int
    age: timedelta
    cap: int | None = None
    barred: frozenset[str] = frozenset()
    storage: int = 0

    def shrink(self, share: float) -> "Bounds":
        """This share of each of them."""
        cap = None if self.cap is None else int(share * self.cap)
        return replace(self, wal=int(share * self.wal), age=share * self.age, cap=cap)


@dataclass(frozen=True, slots=True)
class SnapshotState:
    """The snapshots by what they are good for, each the newest first.

    `usable` ones can be restored. `begun` ones may still become usable. `unusable` ones never will, each with why.
    `undecided`: whether the primary's timeline can be reached from there is not known yet. Those that are being deleted
    are in `ending`.
    """

    usable: tuple[SnapshotFacts, ...] = ()
    begun: tuple[SnapshotFacts, ...] = ()
    unusable: tuple[tuple[SnapshotFacts, str], ...] = ()
    undecided: tuple[SnapshotFacts, ...] = ()
    ending: tuple[SnapshotFacts, ...] = ()


def sort_snapshots(snapshots: Iterable[SnapshotFacts], fit: Fit) -> SnapshotState:
    """By the primary that answers now."""
    found = sorted(snapshots, key=lambda each: (each.created_at, each.name), reverse=True)
    state: dict[str, list[SnapshotFacts]] = {"usable": [], "begun": [], "undecided": [], "ending": []}
    unusable = []
    for snapshot in found:
        flaw = "" if snapshot.is_deleting else find_flaw(snapshot, fit)
        if flaw:
            unusable.append((snapshot, f"it {flaw}"))
        else:
            state[_find_kind(snapshot, is_decided=flaw is not None)].append(snapshot)
    return SnapshotState(unusable=tuple(unusable), **{kind: tuple(each) for kind, each in state.items()})


def _find_kind(snapshot: SnapshotFacts, *, is_decided: bool) -> str:
    if snapshot.is_deleting:
        return "ending"
    if not is_decided:
        return "undecided"
    return "usable" if snapshot.is_whole else "begun"


def find_anchor(facts: SetFacts, name: str) -> SlotFacts | None:
    """The slot of this name among the anchors of the set."""
    return next((slot for slot in facts.anchors if slot.name == name), None)


def find_bounds(spec: ReplicaSetSpec, wal_cap: int | None, barred: frozenset[str] = frozenset()) -> Bounds | None:
    """None if the spec wants no snapshots; `wal_cap` is how much a slot may keep, `barred`: not restored any more."""
    snapshots = spec.provisioning.snapshots
    if snapshots is None:
        return None
    wal = min(int(VOLUME_SHARE * spec.storage.size), snapshots.max_wal_behind)
    return Bounds(wal, snapshots.max_age, wal_cap, barred, spec.storage.size)


def measure_behind(snapshot: SnapshotFacts, flush_lsn: Lsn) -> int:
    """WAL that was written since it was taken, in bytes."""
    return max(flush_lsn - snapshot.stamps.from_lsn, 0) if snapshot.stamps is not None else 0


def describe_staleness(snapshot: SnapshotFacts, facts: SetFacts, bounds: Bounds, flush_lsn: Lsn, now: datetime) -> str:
    """Why it is not within the bounds; empty if it is."""
    behind, age = measure_behind(snapshot, flush_lsn), now - snapshot.created_at
    if snapshot.name in bounds.barred:
        return f"{snapshot.name} {BARRED}"
    if oversize := describe_oversize(snapshot, bounds.storage):
        return f"{snapshot.name} {oversize}"
    if age > bounds.age:
        return f"{snapshot.name} is {age.total_seconds() / 60:.0f} min old"
    if behind > bounds.wal:
        return f"{snapshot.name} is {describe_bytes(behind)} of WAL behind"
    anchor = find_anchor(facts, snapshot.stamps.anchor) if snapshot.stamps is not None else None
    kept = count_kept(anchor, flush_lsn) if anchor is not None else 0
    if bounds.cap is not None and kept > bounds.cap:
        return f"the slot of {snapshot.name} keeps {describe_bytes(kept)} of WAL"
    return ""


def find_due(state: SnapshotState, facts: SetFacts, bounds: Bounds, flush_lsn: Lsn, now: datetime) -> str:
    """Why another snapshot is to be taken; empty if none is."""
    if not state.usable:
        return "there is none"
    early = bounds.shrink(DUE_SHARE)
    reasons = [describe_staleness(each, facts, early, flush_lsn, now) for each in state.usable]
    return reasons[0] if all(reasons) else ""


def is_any_fresh(state: SnapshotState, facts: SetFacts, bounds: Bounds, flush_lsn: Lsn, now: datetime) -> bool:
    """Whether a replica could start from one without much to replay."""
    return any(not describe_staleness(each, facts, bounds, flush_lsn, now) for each in state.usable)


def describe_error(snapshot: SnapshotFacts) -> Finding | None:
    """What its driver said last, if that was an error."""
    if not snapshot.error:
        return None
    return Finding(Reason.SNAPSHOT_FAILED, f"{snapshot.name}: {clean_text(snapshot.error.strip(), MOST_OF_ERROR)}")
