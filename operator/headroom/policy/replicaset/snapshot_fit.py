"""Whether a snapshot can become a member of the present primary: the first check that fails says why not."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from headroom.api.v1alpha1.provisioning import Consistency
from headroom.model.database import Mark, SlotFacts
from headroom.model.numbers import describe_bytes
from headroom.model.snapshot import SnapshotFacts, Stamps
from headroom.model.timelines import TimelineHistory
from headroom.policy.replicaset.snapshot_state import (
    BARRED,
    count_kept,
    describe_lost_anchor,
    find_advance,
    find_fork_problem,
    keeps_nothing,
)

SMALLEST_VOLUME = 1024**3
"""Drivers round the size of a volume up, mostly to whole GiB."""
LARGEST_FACTOR = 2
"""A claim may be larger than the spec asks, since a snapshot needs a volume of its size, but no more than this."""


@dataclass(frozen=True, slots=True)
class Fit:
    """What a snapshot is held against: the primary as it is now, the slots, and what a claim may have.

    `history` is of the primary's timeline, None while it is not known. `slot` is that of a member which has one
    already. `barred` are snapshots that are not tried again.
    """

    position: Mark
    major: int
    history: TimelineHistory | None
    anchors: Mapping[str, SlotFacts]
    storage: int
    wal_cap: int | None = None
    slot: SlotFacts | None = None
    barred: frozenset[str] = frozenset()


def find_misfit(snapshot: SnapshotFacts, fit: Fit) -> str:
    """Why no member can be made from it now, as a predicate; empty if one can."""
    stamps = snapshot.stamps
    if stamps is None or not snapshot.is_whole:
        return _describe_unfinished(snapshot)
    found = (check(snapshot, stamps, fit) for check in CHECKS)
    return next(filter(None, found), "")


def find_unreached(stamps: Stamps, position: Mark, history: TimelineHistory | None) -> str:
    """Why a copy with these stamps cannot follow the primary at `position`; empty if it can."""
    if stamps.system_identifier != position.system_identifier:
        return f"is of system {stamps.system_identifier}, the primary is {position.system_identifier}"
    problem = find_fork_problem(stamps, position, history)
    if problem is None:
        return f"is of timeline {stamps.timeline}, and where the primary's {position.timeline} forked off is not known"
    return problem


def count_claim_bytes(storage: int, snapshot: SnapshotFacts | None) -> int:
    """The size of a claim: the spec's, or what a volume of this snapshot needs at least."""
    return max(storage, snapshot.size or 0) if snapshot is not None else storage


def _describe_unfinished(snapshot: SnapshotFacts) -> str:
    if snapshot.is_deleting:
        return "is being deleted"
    if not snapshot.is_ready:
        return f"is not ready: {snapshot.error}" if snapshot.error else "is not ready yet"
    return "lacks stamps, by which it is checked"


def _check_consistency(_: SnapshotFacts, stamps: Stamps, __: Fit) -> str:
    known = stamps.consistency in set(Consistency)
    return "" if known else f"has a consistency that this version does not know: {stamps.consistency}"


def _check_reach(_: SnapshotFacts, stamps: Stamps, fit: Fit) -> str:
    return find_unreached(stamps, fit.position, fit.history)


def _check_major(_: SnapshotFacts, stamps: Stamps, fit: Fit) -> str:
    return "" if stamps.major == fit.major else f"is of PostgreSQL {stamps.major}, the primary is {fit.major}"


def _check_anchor(_: SnapshotFacts, stamps: Stamps, fit: Fit) -> str:
    """For a slot that is to be copied; one that there is already keeps the WAL by itself."""
    if fit.slot is not None:
        return ""
    anchor = fit.anchors.get(stamps.anchor)
    if anchor is None:
        return f"has no anchor any more: slot {stamps.anchor} is gone, and the primary need not keep its WAL"
    if keeps_nothing(anchor) or anchor.restart_lsn is None:
        return f"needs WAL that is not kept: {describe_lost_anchor(stamps.anchor, anchor)}"
    if advanced := find_advance(anchor, stamps):
        return advanced
    kept = count_kept(anchor, fit.position.lsn)
    if fit.wal_cap is not None and kept > fit.wal_cap:
        return f"is {describe_bytes(kept)} of WAL behind, and a slot may keep {describe_bytes(fit.wal_cap)}"
    return ""


def _check_slot(_: SnapshotFacts, stamps: Stamps, fit: Fit) -> str:
    """A slot that was created for another source begins where the primary was then."""
    if fit.slot is None:
        return ""
    start = fit.slot.restart_lsn
    if start is not None and start <= stamps.from_lsn:
        return ""
    return f"needs WAL from {stamps.from_lsn}, and the member's slot keeps it from {start or 'nowhere'}"


def _check_size(snapshot: SnapshotFacts, _: Stamps, fit: Fit) -> str:
    most = LARGEST_FACTOR * max(fit.storage, SMALLEST_VOLUME)
    if snapshot.size is None or snapshot.size <= most:
        return ""
    needed, given = describe_bytes(snapshot.size), describe_bytes(fit.storage)
    return f"needs a volume of {needed}, and storage.size is {given}: raise it"


def _check_failures(snapshot: SnapshotFacts, _: Stamps, fit: Fit) -> str:
    return BARRED if snapshot.name in fit.barred else ""


Check = Callable[[SnapshotFacts, Stamps, Fit], str]
CHECKS: tuple[Check, ...] = (
    _check_consistency,
    _check_reach,
    _check_major,
    _check_anchor,
    _check_slot,
    _check_size,
    _check_failures,
)
