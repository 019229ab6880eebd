"""The invariant about snapshots: each has the slot that keeps its WAL, each such slot has its snapshot, each a set.

What is on its way is not held against anybody: a slot before its snapshot, one that a member still starts from, and a
snapshot that its driver deletes.
"""

from collections.abc import Iterator

from e2e.invariants.facts import GuardFacts, Observation, ServerFacts, SetFacts, SnapshotFacts
from e2e.invariants.suspicion import (
    ANCHOR_GRACE,
    ANCHOR_MARK,
    MISCONFIGURED,
    MISSING_GRACE,
    ORPHAN_GRACE,
    SLOT_NAME,
    Invariant,
    Suspicion,
    name,
)
from e2e.invariants.tracks import Tracks

WHAT = Invariant.ANCHORS_ARE_SNAPSHOTS


def anchors_are_snapshots(now: Observation, _tracks: Tracks) -> Iterator[Suspicion]:
    """Anchors, snapshots and sets belong together."""
    if now.snapshots is None:
        return
    for guard in now.guards:
        server = now.server(guard.key)
        if server is not None and guard.reason not in MISCONFIGURED:
            yield from _find_unused(now, guard, server, now.snapshots)
    sets = {one.uid: one for one in now.sets}
    for snapshot in now.snapshots:
        if not snapshot.is_deleting:
            yield from _find_lonely(now, snapshot, sets.get(snapshot.owner))


def _find_unused(
    now: Observation, guard: GuardFacts, server: ServerFacts, snapshots: tuple[SnapshotFacts, ...]
) -> Iterator[Suspicion]:
    """Anchors that keep WAL for nobody; without a set that could try again they have to go sooner."""
    held = {each.anchor for each in snapshots}.union(*(claim.anchors for claim in now.claims))
    has_set = any(one.guard == guard.key and not one.is_deleting for one in now.sets)
    for slot in server.slots:
        match = SLOT_NAME.match(slot.name)
        if match is not None and match[3] == ANCHOR_MARK and slot.name not in held:
            what = "no snapshot has it, and no claim" + ("" if has_set else "; the primary has no set")
            grace = ANCHOR_GRACE if has_set else ORPHAN_GRACE
            yield Suspicion(WHAT, f"slot {slot.name}", what, grace, guard=guard.key, aspect=str(has_set))


def _find_lonely(now: Observation, snapshot: SnapshotFacts, one: SetFacts | None) -> Iterator[Suspicion]:
    if one is None:
        yield Suspicion(WHAT, name(snapshot.key), f"its set {snapshot.set_name} is gone", ORPHAN_GRACE, aspect="set")
        return
    server, guard = now.server(one.guard), now.guard(one.guard)
    if server is None or one.is_deleting or (guard is not None and guard.reason in MISCONFIGURED):
        return
    is_read = any(snapshot.anchor in claim.anchors for claim in now.claims)
    if not is_read and snapshot.anchor not in {slot.name for slot in server.slots}:
        what = f"its slot {snapshot.anchor or '(not named)'} is not on the primary"
        yield Suspicion(WHAT, name(snapshot.key), what, MISSING_GRACE, guard=one.guard, aspect="slot")
