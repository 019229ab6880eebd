"""The steps of this pass towards fresh snapshots: whom to stop, what to take, what to delete, and what keeps WAL.

Each step follows from what is there: an anchor slot, a source that is named on its claim, a VolumeSnapshot, its stamps.
The process may end after each of them. An anchor without a snapshot, and a source without need, are undone.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from headroom.api.v1alpha1.provisioning import Consistency
from headroom.model.conditions import Finding
from headroom.model.database import Lsn, SlotFacts
from headroom.model.replica import ClaimFacts, parse_incarnation
from headroom.model.snapshot import SnapshotFacts, Stamps, find_incarnation, snapshot_name
from headroom.policy.replicaset import timeouts
from headroom.policy.replicaset.members import EvaluatedMember
from headroom.policy.replicaset.plan import Plan
from headroom.policy.replicaset.snapshot_anchors import (
    Removal,
    drop_unused,
    find_held,
    find_over_cap,
    find_too_wide,
    find_touched,
    is_crowded,
    is_read_from,
    is_recent,
)
from headroom.policy.replicaset.snapshot_fit import keeps_nothing
from headroom.policy.replicaset.snapshot_need import Scene, SnapshotNeed, choose_source, is_whole
from headroom.policy.replicaset.snapshot_state import describe_error, find_anchor
from headroom.policy.replicaset.targets import Targets
from headroom.reasons import Reason

STOPPED = str(Consistency.STOPPED)


@dataclass(frozen=True, slots=True)
class Taking:
    """A snapshot of a member's volume: its name, and the stamps that it begins with."""

    member: str
    snapshot: str
    stamps: Stamps


@dataclass(frozen=True, slots=True)
class Release:
    """A source that is not needed any more: it goes, or it starts again. `failure` says what went wrong, if anything;
    `is_taken`: its snapshot has its data.
    """

    member: str
    goes: bool = False
    failure: Finding | None = None
    is_taken: bool = False


@dataclass(frozen=True, slots=True)
class SnapshotPlan:
    """The steps of this pass.

    `reserves`: an anchor is created; `failure`: the one that there is cannot be used, and why. `choose` names a source
    on its claim, `stop` deletes the pods of sources, `create` takes snapshots, `stamp` writes where the WAL of a ready
    one ends at most, `release` gives sources back. `delete` and `drop` remove snapshots and anchors, `touch` keeps
    slots that nobody uses yet from being given up.
    """

    need: SnapshotNeed = field(default_factory=SnapshotNeed)
    reserves: bool = False
    failure: Finding | None = None
    choose: Taking | None = None
    stop: tuple[str, ...] = ()
    create: tuple[Taking, ...] = ()
    stamp: tuple[tuple[str, Lsn], ...] = ()
    release: tuple[Release, ...] = ()
    delete: tuple[Removal, ...] = ()
    drop: tuple[Removal, ...] = ()
    touch: tuple[str, ...] = ()


def decide_snapshots(scene: Scene, need: SnapshotNeed, plan: Plan, targets: Targets) -> SnapshotPlan:
    """Plan one pass; `plan` is what the members do in it."""
    over_cap = tuple(find_over_cap(scene))
    given_up = {entry.name for entry in over_cap}
    touch = find_touched(scene)
    if not targets.is_acting:
        return SnapshotPlan(need, drop=over_cap, touch=touch)
    steps, leaving = SnapshotPlan(need, touch=touch), {entry.name for entry in plan.retire}
    for member, claim in scene.sources:
        if member.name not in leaving:
            steps = _move_source(steps, scene, member, claim, targets)
    steps = replace(steps, stamp=tuple(_find_stamped(scene)), delete=tuple(_find_deleted(scene, targets)))
    steps, held = _begin(steps, scene, plan, targets)
    unused = [slot for slot in scene.facts.anchors if slot.name not in {*held, *given_up}]
    return replace(steps, drop=(*over_cap, *(drop_unused(slot) for slot in unused)))


def count_returning(steps: SnapshotPlan) -> int:
    """Sources that start again in this pass: as many fewer members are missing."""
    return sum(not entry.goes for entry in steps.release)


def _move_source(
    steps: SnapshotPlan, scene: Scene, member: EvaluatedMember, claim: ClaimFacts, targets: Targets
) -> SnapshotPlan:
    """The next step of a source, whose snapshot may be there or not."""
    state, name, facts = scene.state, claim.snapshot, member.facts
    cut = (each for each in state.begun if each.cut_at is not None)
    if any(each.name == name for each in (*state.usable, *state.undecided, *cut)):
        entry = Release(member.name, goes=len(scene.staying) >= targets.wanted, is_taken=True)
        return replace(steps, release=(*steps.release, entry))
    if any(each.name == name for each in state.ending):
        what = Finding(Reason.SNAPSHOT_FAILED, f"snapshot {name} was deleted before it was ready")
        entry = Release(member.name, failure=None if scene.is_backing_off else what)
        return replace(steps, release=(*steps.release, entry))
    if any(each.name == name for each in scene.facts.snapshots or ()):
        return steps
    stamps = Stamps.parse(claim.stamps)
    if stamps is None or _is_needless(scene, steps.need, member, stamps, targets):
        return replace(steps, release=(*steps.release, Release(member.name)))
    failure = _find_stuck(scene, member, claim, stamps)
    if failure is not None:
        return replace(steps, release=(*steps.release, Release(member.name, failure=failure)))
    if facts.pod is not None:
        return steps if facts.pod.is_deleting else replace(steps, stop=(*steps.stop, member.name))
    if facts.slot is not None and facts.slot.is_active:
        return steps
    # Its server has ended, and the position was read after that was known: there is no WAL beyond it on the volume.
    whole = replace(stamps, to_lsn=scene.primary.position.lsn)
    return replace(steps, create=(*steps.create, Taking(member.name, name, whole)))


def _is_needless(scene: Scene, need: SnapshotNeed, member: EvaluatedMember, stamps: Stamps, targets: Targets) -> bool:
    """Whether a snapshot that does not exist yet is not to be taken, or not of this primary any more."""
    position = scene.primary.position
    is_same = (stamps.system_identifier, stamps.timeline) == (position.system_identifier, position.timeline)
    is_kept = member.facts.slot is not None and not keeps_nothing(find_anchor(scene.facts, stamps.anchor))
    is_wanted = scene.bounds is not None and need.problem is None and not scene.is_backing_off
    if not (is_same and is_kept and is_wanted):
        return True
    is_running = member.facts.pod is not None and not member.facts.pod.is_deleting
    staying = scene.staying
    return not is_whole(staying, targets) if is_running else len(staying) < targets.wanted


def _find_stuck(scene: Scene, member: EvaluatedMember, claim: ClaimFacts, stamps: Stamps) -> Finding | None:
    """Why it makes no sense to wait any longer for its server to end."""
    pod, now = member.facts.pod, scene.now.wall
    is_stuck = pod is not None and pod.ends_at is not None and now - pod.ends_at > timeouts.NODE_LOST_AFTER
    begun_at = parse_incarnation(find_incarnation(stamps.anchor))
    is_late = begun_at is None or now - begun_at > timeouts.SNAPSHOT_LIMIT + scene.spec.drain.timeout
    if not (is_stuck or is_late):
        return None
    what = f"pod {member.name} does not end" if pod is not None else f"slot {member.facts.slot_name} stays in use"
    message = f"{claim.snapshot} was not begun: {what}; check node {pod.node if pod is not None else 'of that pod'}"
    return Finding(Reason.SNAPSHOT_FAILED, message)


def _find_stamped(scene: Scene) -> Iterator[tuple[str, Lsn]]:
    """Snapshots of running members that are cut: what their volumes had then was flushed before now."""
    for each in scene.state.begun:
        is_cut, stamps = each.is_ready or each.cut_at is not None, each.stamps
        if is_cut and stamps is not None and stamps.to_lsn is None and stamps.consistency != STOPPED:
            yield each.name, scene.primary.position.lsn


def _find_deleted(scene: Scene, targets: Targets) -> Iterator[Removal]:
    """Snapshots that nobody can use, that take too long, and more than are kept, or that there are slots for; none that
    a member starts from.
    """
    snapshots = scene.spec.provisioning.snapshots
    keep = snapshots.keep if snapshots is not None else 0
    for each, why in scene.state.unusable:
        if not is_read_from(scene, each.name):
            yield Removal(each.name, Finding(Reason.SNAPSHOT_DROPPED, f"{each.name} is deleted: {why}"))
    for each in scene.state.begun:
        other_class, why_not = _find_other_class(scene, each), _find_end_of_begun(scene, each)
        if other_class:
            yield Removal(each.name, Finding(Reason.SNAPSHOT_DROPPED, f"{each.name} is deleted: {other_class}"))
        elif why_not is not None:
            yield Removal(each.name, why_not, is_failure=True)
    for each in (*scene.state.usable[keep:], *(scene.state.undecided if len(scene.state.usable) >= keep else ())):
        if not is_read_from(scene, each.name):
            why = "there are newer ones" if keep else "provisioning.snapshots is not set"
            yield Removal(each.name, Finding(Reason.SNAPSHOT_DROPPED, f"{each.name} is deleted: {why}"))
    kept = reversed(scene.state.usable[:keep])
    oldest = next((each for each in kept if not is_read_from(scene, each.name)), None)
    if oldest is not None and is_crowded(scene, targets):
        why = "a replica that the spec asks for needs its slot; raise max_replication_slots of the primary to keep both"
        yield Removal(oldest.name, Finding(Reason.SNAPSHOT_DROPPED, f"{oldest.name} is deleted: {why}"))


def _find_other_class(scene: Scene, snapshot: SnapshotFacts) -> str:
    """Whether a class is wanted by now that may work, where this one has not yet; empty if not."""
    snapshots = scene.spec.provisioning.snapshots
    if snapshots is None or snapshot.is_ready or snapshot.class_name in ("", snapshots.class_name):
        return ""
    return f"its class is {snapshot.class_name}, and provisioning.snapshots.className is {snapshots.class_name} now"


def _find_end_of_begun(scene: Scene, snapshot: SnapshotFacts) -> Finding | None:
    """Why a snapshot that is not whole yet is given up; None while it is waited for."""
    name, stamps = snapshot.name, snapshot.stamps
    claims = [member.facts.claim for member in scene.members if member.facts.claim is not None]
    if scene.bounds is None:
        return Finding(Reason.SNAPSHOT_DROPPED, f"{name} is deleted: provisioning.snapshots is not set")
    is_released = not any(claim.snapshot == name for claim in claims)
    if stamps is not None and stamps.consistency == STOPPED and is_released and snapshot.cut_at is None:
        return Finding(Reason.SNAPSHOT_FAILED, f"{name} is deleted: it was not taken when its source started again")
    # One that is being uploaded keeps nobody from anything, until it would be too old to be of use.
    limit = timeouts.SNAPSHOT_LIMIT if snapshot.cut_at is None else max(scene.bounds.age, timeouts.SNAPSHOT_LIMIT)
    if scene.now.wall - snapshot.created_at <= limit or snapshot.is_ready:
        return None
    minutes = limit.total_seconds() / 60
    error = describe_error(snapshot)
    what = f"{name} was not ready in {minutes:.0f} minutes" if error is None else error.message
    message = f"{what}; it is deleted and tried again: check the CSI driver and the snapshot controller"
    return Finding(Reason.SNAPSHOT_NOT_READY, message)


def _begin(steps: SnapshotPlan, scene: Scene, plan: Plan, targets: Targets) -> tuple[SnapshotPlan, set[str]]:
    """The next snapshot, if one is to be begun: first its anchor, then its source. Also which anchors are held."""
    held = find_held(scene)
    free = [slot for slot in scene.facts.anchors if slot.name not in held and is_recent(slot, scene)]
    source = choose_source(scene, targets, _find_busy(plan)) if steps.need.is_open else None
    if source is None:
        return steps, held
    if not free:
        return replace(steps, reserves=True), held
    anchor = max(free, key=lambda slot: slot.name)
    too_wide = find_too_wide(anchor, scene)
    if too_wide is not None:
        return replace(steps, failure=too_wide), held
    taking = _take(scene, source, anchor)
    if taking is not None and scene.is_stopping:
        steps = replace(steps, choose=taking)
    elif taking is not None:
        steps = replace(steps, create=(*steps.create, taking))
    return steps, held | {anchor.name}


def _take(scene: Scene, source: EvaluatedMember, anchor: SlotFacts) -> Taking | None:
    """None while the source has not received what the anchor begins with: its clones would lack WAL."""
    snapshots, probe, position = scene.spec.provisioning.snapshots, source.facts.probe, scene.primary.position
    server = scene.primary.view.server
    if snapshots is None or server is None or probe is None or probe.receive_lsn is None or anchor.restart_lsn is None:
        return None
    if probe.receive_lsn < anchor.restart_lsn:
        return None
    stamps = Stamps(
        system_identifier=position.system_identifier,
        timeline=position.timeline,
        major=server.major,
        consistency=str(snapshots.consistency),
        source_slot=source.facts.slot_name,
        anchor=anchor.name,
        from_lsn=probe.receive_lsn,
    )
    return Taking(source.name, snapshot_name(scene.facts.name, find_incarnation(anchor.name)), stamps)


def _find_busy(plan: Plan) -> set[str]:
    named = (*plan.put_back, *plan.late, *plan.accept, *plan.pool, *plan.recreate, *plan.stop, *plan.restore_slots)
    moved = (entry.name for entry in (*plan.eject, *plan.drain))
    gone = (entry.name for entry in plan.retire)
    return {*named, *moved, *gone, *(plan.activate if plan.needed else ())}
