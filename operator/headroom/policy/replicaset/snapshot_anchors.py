"""The slots that keep the WAL of snapshots: which are needed, and which keep too much; and which slots are touched."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta

from headroom.model.conditions import Finding
from headroom.model.database import SlotFacts
from headroom.model.numbers import describe_bytes
from headroom.model.replica import Role, Stage, parse_incarnation
from headroom.model.snapshot import Stamps, find_incarnation, snapshot_name
from headroom.model.text import parse_count
from headroom.policy.replicaset import timeouts
from headroom.policy.replicaset.members import STAGE_ORDER, Member
from headroom.policy.replicaset.snapshot_fit import count_kept, keeps_nothing
from headroom.policy.replicaset.snapshot_need import Scene
from headroom.policy.replicaset.targets import Targets
from headroom.reasons import Reason

ANCHOR_WAITS = timedelta(minutes=1)
"""How long a new anchor waits for its source, which has to receive what it begins with."""
NEW_SHARE = 0.5
"""What a slot may keep at most when its snapshot is taken, as a part of its cap: at `DUE_SHARE` the next one is due."""
TOUCH_SHARE = 1 / 3
"""Of the time after which the primary gives up a slot: two touches may fail or come late."""


@dataclass(frozen=True, slots=True)
class Removal:
    """A snapshot or an anchor that goes, and why; `is_failure` counts it as a snapshot that failed."""

    name: str
    why: Finding
    is_failure: bool = False


def is_read_from(scene: Scene, snapshot: str) -> bool:
    """Whether a member that starts from it does not stream yet."""
    return any(
        member.facts.claim is not None
        and member.facts.claim.restored_from == snapshot
        and not member.facts.is_going
        and member.facts.role in (None, Role.PROVISIONING)
        and STAGE_ORDER[member.verdict.stage] <= STAGE_ORDER[Stage.STREAMING]
        for member in scene.members
    )


def find_held(scene: Scene) -> set[str]:
    """Anchors of snapshots, of those that are being taken, and of those that members still start from."""
    kept = [*scene.state.usable, *scene.state.begun, *scene.state.undecided, *(s for s, _ in scene.state.unusable)]
    begun = [Stamps.parse(claim.stamps) for _, claim in scene.sources]
    held = {stamps.anchor for stamps in (*(each.stamps for each in kept), *begun) if stamps is not None}
    for slot in scene.facts.anchors:
        if is_read_from(scene, snapshot_name(scene.facts.name, find_incarnation(slot.name))):
            held.add(slot.name)
    return held


def is_crowded(scene: Scene, targets: Targets) -> bool:
    """Whether a replica that the spec asks for gets no slot on the primary, and no anchor is on its way out."""
    server, held = scene.primary.view.server, find_held(scene)
    most = parse_count(server.settings.get("max_replication_slots", "")) if server is not None else None
    is_full = server is not None and most is not None and server.slots_used >= most
    is_going = bool(scene.state.ending) or any(slot.name not in held for slot in scene.facts.anchors)
    return is_full and not is_going and len(scene.staying) < targets.wanted


def is_recent(slot: SlotFacts, scene: Scene) -> bool:
    """Whether an anchor that nobody uses was reserved a moment ago; an older one keeps more WAL than is needed."""
    begun_at = parse_incarnation(find_incarnation(slot.name))
    is_young = begun_at is not None and scene.now.wall - begun_at <= ANCHOR_WAITS
    return is_young and not keeps_nothing(slot)


def find_too_wide(slot: SlotFacts, scene: Scene) -> Finding | None:
    """Why no snapshot is taken with a new anchor. It keeps WAL from the primary's last checkpoint on: if that is long
    ago, the snapshot would be given up, and the next one be due, as soon as it is there.
    """
    cap, kept = scene.wal_cap, count_kept(slot, scene.primary.position.lsn)
    if cap is None or kept <= NEW_SHARE * cap:
        return None
    message = (
        f"no snapshot is taken: its slot would keep {describe_bytes(kept)} of WAL from the beginning, all since the "
        f"primary's last checkpoint, and {describe_bytes(cap)} are allowed; it is tried again: raise "
        "provisioning.maxSlotWAL, or lower max_wal_size of the primary"
    )
    return Finding(Reason.SNAPSHOT_FAILED, message)


def find_over_cap(scene: Scene) -> Iterator[Removal]:
    """Anchors that keep more WAL than a slot may: they go before any member does."""
    cap, lsn = scene.wal_cap, scene.primary.position.lsn
    for slot in scene.facts.anchors:
        kept = count_kept(slot, lsn)
        if cap is not None and kept > cap:
            message = (
                f"slot {slot.name} of a snapshot kept {describe_bytes(kept)} of WAL, {describe_bytes(cap)} are "
                "allowed: it is dropped, and the snapshot with it; raise provisioning.maxSlotWAL"
            )
            yield Removal(slot.name, Finding(Reason.WAL_CAP_REACHED, message))


def drop_unused(slot: SlotFacts) -> Removal:
    """An anchor that nothing needs."""
    return Removal(slot.name, Finding(Reason.SNAPSHOT_DROPPED, f"slot {slot.name} is dropped: it has no snapshot"))


def find_touched(scene: Scene) -> tuple[str, ...]:
    """Slots that have to wait for their use, where the primary gives up those that nobody uses: all anchors, and the
    slots of members that are new, or are stopped for a snapshot.
    """
    server, at = scene.primary.view.server, scene.memory.slots_touched_at
    seconds = parse_count(server.settings.get("idle_replication_slot_timeout", "")) if server is not None else None
    if not seconds:
        return ()
    pause = min(timeouts.SLOT_TOUCH.total_seconds(), TOUCH_SHARE * seconds)
    if at is not None and scene.now.monotonic - at < pause:
        return ()
    waiting = (member.facts.slot for member in scene.members if _waits_for_use(member.facts))
    slots = (*scene.facts.anchors, *(slot for slot in waiting if slot is not None))
    return tuple(slot.name for slot in slots if not (slot.is_active or slot.is_lost))


def _waits_for_use(member: Member) -> bool:
    return member.is_source or (not member.is_going and member.role in (None, Role.PROVISIONING))
