"""What the snapshots of a set are good for: which can be restored, how far behind they are, and when another is due."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from headroom.api.v1alpha1.replicaset import ReplicaSetSpec
from headroom.model.conditions import Finding
from headroom.model.database import Lsn, Mark, SlotFacts
from headroom.model.numbers import describe_bytes
from headroom.model.snapshot import SnapshotFacts, Stamps
from headroom.model.text import clean_text
from headroom.model.timelines import TimelineHistory
from headroom.policy.replicaset.facts import PrimaryFacts, SetFacts
from headroom.reasons import Reason

DUE_SHARE = 0.8
"""A snapshot is replaced at this share of its age or its WAL: the next one takes a copy and a stop, and is to be there
before this one is no longer fresh."""
VOLUME_SHARE = 0.3
"""WAL of more than this part of the volume takes longer to replay than a copy of it takes (spilo's rule)."""
BARRED = "was there when two restores in a row had failed"
"""What a message says of a snapshot that is not restored any more."""
NOT_SERVED = (
    "the cluster has no VolumeSnapshots: install the snapshot CRDs and controller of the CSI external-snapshotter, "
    "then restart Headroom"
)
MOST_OF_ERROR = 300


@dataclass(frozen=True, slots=True)
class Bounds:
    """Within these a snapshot is fresh: bytes of WAL since then, and its age; `cap` is what its slot may keep. `barred`
    names those that are not restored any more.
    """

    wal: int
    age: timedelta
    cap: int | None = None
    barred: frozenset[str] = frozenset()

    def shrink(self, share: float) -> "Bounds":
        """This share of each of them."""
        cap = None if self.cap is None else int(share * self.cap)
        return Bounds(int(share * self.wal), share * self.age, cap, self.barred)


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


def sort_snapshots(facts: SetFacts, primary: PrimaryFacts, history: TimelineHistory | None) -> SnapshotState:
    """By the primary that answers now; `history` is that of its timeline, None while it is not known."""
    found = sorted(facts.snapshots or (), key=lambda each: (each.created_at, each.name), reverse=True)
    state: dict[str, list[SnapshotFacts]] = {"usable": [], "begun": [], "undecided": [], "ending": []}
    unusable = []
    for snapshot in found:
        problem = "" if snapshot.is_deleting else find_problem(snapshot, facts, primary, history)
        if problem:
            unusable.append((snapshot, problem))
        else:
            state[_find_kind(snapshot, primary, problem)].append(snapshot)
    return SnapshotState(unusable=tuple(unusable), **{kind: tuple(each) for kind, each in state.items()})


def _find_kind(snapshot: SnapshotFacts, primary: PrimaryFacts, problem: str | None) -> str:
    if snapshot.is_deleting:
        return "ending"
    if problem is None:
        return "undecided"
    return "usable" if snapshot.is_whole else "begun"


def find_problem(
    snapshot: SnapshotFacts, facts: SetFacts, primary: PrimaryFacts, history: TimelineHistory | None
) -> str | None:
    """Why no replica of this primary can ever start from it; empty if one can, or will; None while it is not known."""
    stamps, server = snapshot.stamps, primary.view.server
    if stamps is None:
        return "its stamps cannot be read"
    if stamps.system_identifier != primary.position.system_identifier:
        return f"another server wrote its data, with the system identifier {stamps.system_identifier}"
    if server is not None and stamps.major != server.major:
        return f"it is of PostgreSQL {stamps.major}, and the primary is {server.major}"
    anchor = find_anchor(facts, stamps.anchor)
    if anchor is None or keeps_nothing(anchor):
        return describe_lost_anchor(stamps.anchor, anchor)
    if advanced := find_advance(anchor, stamps):
        return f"it {advanced}"
    if stamps.timeline != primary.position.timeline and not snapshot.is_whole:
        return f"it was begun on timeline {stamps.timeline}, and the primary is on {primary.position.timeline}"
    problem = find_fork_problem(stamps, primary.position, history)
    return f"it {problem}" if problem else problem


def find_fork_problem(stamps: Stamps, position: Mark, history: TimelineHistory | None) -> str | None:
    """Why a copy with these stamps cannot follow the primary from its timeline, as a predicate; empty if it can.

    None: not known, since `history` is not of the primary's timeline.
    """
    began, now = stamps.timeline, position.timeline
    if began == now:
        return ""
    if began > now:
        return f"is of timeline {began}, the primary is on {now}"
    if history is None or history.timeline != now:
        return None
    end = history.find_end(began)
    if end is None:
        return f"is of timeline {began}, from which the primary's {now} does not descend"
    if stamps.to_lsn is None or stamps.to_lsn > end:
        return f"may have WAL up to {stamps.to_lsn}, and the primary's timeline {now} forked off at {end}"
    return ""


def find_anchor(facts: SetFacts, name: str) -> SlotFacts | None:
    """The slot of this name among the anchors of the set."""
    return next((slot for slot in facts.anchors if slot.name == name), None)


def keeps_nothing(anchor: SlotFacts | None) -> bool:
    """Whether the WAL that this slot is for is not kept."""
    return anchor is None or anchor.restart_lsn is None or anchor.is_lost


def describe_lost_anchor(name: str, anchor: SlotFacts | None) -> str:
    """What became of a slot that keeps nothing."""
    return (
        anchor.describe_loss()
        if anchor is not None and anchor.is_lost
        else f"the slot {name} that kept its WAL is gone"
    )


def find_advance(anchor: SlotFacts, stamps: Stamps) -> str:
    """Whether somebody has moved the anchor on, as whoever copies slots to a new primary does; as a predicate."""
    if anchor.restart_lsn is None or anchor.restart_lsn <= stamps.from_lsn:
        return ""
    return f"needs WAL from {stamps.from_lsn}, and slot {stamps.anchor} keeps it from {anchor.restart_lsn}"


def find_bounds(spec: ReplicaSetSpec, wal_cap: int | None, barred: frozenset[str] = frozenset()) -> Bounds | None:
    """None if the spec wants no snapshots; `wal_cap` is how much a slot may keep, `barred`: not restored any more."""
    snapshots = spec.provisioning.snapshots
    if snapshots is None:
        return None
    wal = min(int(VOLUME_SHARE * spec.storage.size), snapshots.max_wal_behind)
    return Bounds(wal, snapshots.max_age, wal_cap, barred)


def measure_behind(snapshot: SnapshotFacts, flush_lsn: Lsn) -> int:
    """WAL that was written since it was taken, in bytes."""
    return max(flush_lsn - snapshot.stamps.from_lsn, 0) if snapshot.stamps is not None else 0


def describe_staleness(snapshot: SnapshotFacts, facts: SetFacts, bounds: Bounds, flush_lsn: Lsn, now: datetime) -> str:
    """Why it is not within the bounds; empty if it is."""
    behind, age = measure_behind(snapshot, flush_lsn), now - snapshot.created_at
    if snapshot.name in bounds.barred:
        return f"{snapshot.name} {BARRED}"
    if age > bounds.age:
        return f"{snapshot.name} is {age.total_seconds() / 60:.0f} min old"
    if behind > bounds.wal:
        return f"{snapshot.name} is {describe_bytes(behind)} of WAL behind"
    anchor = find_anchor(facts, snapshot.stamps.anchor) if snapshot.stamps is not None else None
    kept = count_kept(anchor, flush_lsn) if anchor is not None else 0
    if bounds.cap is not None and kept > bounds.cap:
        return f"the slot of {snapshot.name} keeps {describe_bytes(kept)} of WAL"
    return ""


def count_kept(anchor: SlotFacts, flush_lsn: Lsn) -> int:
    """WAL that a slot keeps, in bytes."""
    return max(flush_lsn - anchor.restart_lsn, 0) if anchor.restart_lsn is not None else 0


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
