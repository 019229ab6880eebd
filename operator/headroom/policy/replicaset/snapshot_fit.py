"""Whether a snapshot can become a member of the present primary: the first check that fails says why not.

What is wrong with one for good is a flaw: it is deleted, and another is taken. The other checks are of this moment, or
of the member that is to be created.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from headroom.api.v1alpha1.provisioning import Consistency
from headroom.model.database import Lsn, Mark, SlotFacts
from headroom.model.numbers import describe_bytes
from headroom.model.snapshot import SnapshotFacts, Stamps
from headroom.model.timelines import TimelineHistory

SMALLEST_VOLUME = 1024**3
"""Drivers round the size of a volume up, mostly to whole GiB."""
LARGEST_FACTOR = 2
"""A claim may be larger than the spec asks, since a snapshot needs a volume of its size, but no more than this."""
BARRED = "was there when two restores in a row had failed"
"""What a message says of a snapshot that is not restored any more."""


@dataclass(frozen=True, slots=True)
class Fit:
    """What a snapshot is held against: the primary as it is now, the slots, and what a claim may have.

    `major` is None while it is not known, and so is `history`, which is of the primary's timeline. `slot` is that of a
    member which has one already. `barred` are snapshots that are not tried again.
    """

    position: Mark
    major: int | None
    history: TimelineHistory | None
    anchors: Mapping[str, SlotFacts]
    storage: int
    wal_cap: int | None = None
    slot: SlotFacts | None = None
    barred: frozenset[str] = frozenset()


def find_flaw(snapshot: SnapshotFacts, fit: Fit) -> str | None:
    """Why no member of this primary can ever be made from it, as a predicate; empty if one can, or will.

    None: it is not known where the primary's timeline forked off.
    """
    stamps = snapshot.stamps
    if stamps is None:
        return "has stamps that cannot be read"
    if flaw := next(filter(None, (check(stamps, fit) for check in LASTING)), ""):
        return flaw
    if stamps.timeline != fit.position.timeline and not snapshot.is_whole:
        return f"was begun on timeline {stamps.timeline}, and the primary is on {fit.position.timeline}"
    return find_fork_problem(stamps, fit.position, fit.history)


def find_misfit(snapshot: SnapshotFacts, fit: Fit) -> str:
    """Why no member can be made from it now, as a predicate; empty if one can."""
    stamps = snapshot.stamps
    if stamps is None or not snapshot.is_whole:
        return _describe_unfinished(snapshot)
    flaw = find_flaw(snapshot, fit)
    if flaw is None:
        return _describe_unknown_fork(stamps, fit.position)
    return flaw or next(filter(None, (check(snapshot, stamps, fit) for check in PRESENT)), "")


def find_unreached(stamps: Stamps, position: Mark, history: TimelineHistory | None) -> str:
    """Why a copy with these stamps cannot follow the primary at `position`; empty if it can."""
    if foreign := _describe_foreign(stamps, position):
        return foreign
    problem = find_fork_problem(stamps, position, history)
    return _describe_unknown_fork(stamps, position) if problem is None else problem


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


def describe_oversize(snapshot: SnapshotFacts, storage: int) -> str:
    """Why a claim of a set with this `storage.size`, in bytes, cannot have it, as a predicate; empty if it can."""
    most = LARGEST_FACTOR * max(storage, SMALLEST_VOLUME)
    if snapshot.size is None or snapshot.size <= most:
        return ""
    needed, given = describe_bytes(snapshot.size), describe_bytes(storage)
    return f"needs a volume of {needed}, and storage.size is {given}: raise it"


def count_claim_bytes(storage: int, snapshot: SnapshotFacts | None) -> int:
    """The size of a claim: the spec's, or what a volume of this snapshot needs at least."""
    return max(storage, snapshot.size or 0) if snapshot is not None else storage


def keeps_nothing(anchor: SlotFacts | None) -> bool:
    """Whether the WAL that this slot is for is not kept."""
    return anchor is None or anchor.restart_lsn is None or anchor.is_lost


def count_kept(anchor: SlotFacts, flush_lsn: Lsn) -> int:
    """WAL that a slot keeps, in bytes."""
    return max(flush_lsn - anchor.restart_lsn, 0) if anchor.restart_lsn is not None else 0


def _describe_unfinished(snapshot: SnapshotFacts) -> str:
    if snapshot.is_deleting:
        return "is being deleted"
    if not snapshot.is_ready:
        return f"is not ready: {snapshot.error}" if snapshot.error else "is not ready yet"
    return "lacks stamps, by which it is checked"


def _describe_unknown_fork(stamps: Stamps, position: Mark) -> str:
    return f"is of timeline {stamps.timeline}, and where the primary's {position.timeline} forked off is not known"


def _describe_foreign(stamps: Stamps, position: Mark) -> str:
    if stamps.system_identifier == position.system_identifier:
        return ""
    return f"is of system {stamps.system_identifier}, the primary is {position.system_identifier}"


def _check_system(stamps: Stamps, fit: Fit) -> str:
    return _describe_foreign(stamps, fit.position)


def _check_consistency(stamps: Stamps, _: Fit) -> str:
    known = stamps.consistency in set(Consistency)
    return "" if known else f"has a consistency that this version does not know: {stamps.consistency}"


def _check_major(stamps: Stamps, fit: Fit) -> str:
    is_equal = fit.major is None or stamps.major == fit.major
    return "" if is_equal else f"is of PostgreSQL {stamps.major}, the primary is {fit.major}"


def _check_anchor(stamps: Stamps, fit: Fit) -> str:
    """For a slot that is to be copied; one that there is already keeps the WAL by itself.

    Whoever copies slots to a new primary may have moved the anchor on.
    """
    if fit.slot is not None:
        return ""
    anchor = fit.anchors.get(stamps.anchor)
    if anchor is not None and anchor.is_lost:
        return f"needs WAL that is not kept: {anchor.describe_loss()}"
    if anchor is None or anchor.restart_lsn is None:
        return f"has no anchor any more: slot {stamps.anchor} is gone, and the primary need not keep its WAL"
    if anchor.restart_lsn > stamps.from_lsn:
        return f"needs WAL from {stamps.from_lsn}, and slot {stamps.anchor} keeps it from {anchor.restart_lsn}"
    return ""


def _check_kept(_: SnapshotFacts, stamps: Stamps, fit: Fit) -> str:
    anchor = fit.anchors.get(stamps.anchor) if fit.slot is None else None
    kept = count_kept(anchor, fit.position.lsn) if anchor is not None else 0
    if fit.wal_cap is None or kept <= fit.wal_cap:
        return ""
    return f"is {describe_bytes(kept)} of WAL behind, and a slot may keep {describe_bytes(fit.wal_cap)}"


def _check_slot(_: SnapshotFacts, stamps: Stamps, fit: Fit) -> str:
    """A slot that was created for another source begins where the primary was then."""
    if fit.slot is None:
        return ""
    start = fit.slot.restart_lsn
    if start is not None and start <= stamps.from_lsn:
        return ""
    return f"needs WAL from {stamps.from_lsn}, and the member's slot keeps it from {start or 'nowhere'}"


def _check_size(snapshot: SnapshotFacts, _: Stamps, fit: Fit) -> str:
    return describe_oversize(snapshot, fit.storage)


def _check_failures(snapshot: SnapshotFacts, _: Stamps, fit: Fit) -> str:
    return BARRED if snapshot.name in fit.barred else ""


LASTING: tuple[Callable[[Stamps, Fit], str], ...] = (_check_system, _check_consistency, _check_major, _check_anchor)
PRESENT: tuple[Callable[[SnapshotFacts, Stamps, Fit], str], ...] = (
    _check_kept,
    _check_slot,
    _check_size,
    _check_failures,
)
