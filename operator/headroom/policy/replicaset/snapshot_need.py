"""Whether another snapshot is due, of whom it can be taken, and whether the set needs one member more for that.

Nobody whom the spec asks for is stopped. A due snapshot keeps a member that is not asked for, or begins one, and takes
it as the source once it is as warm as any other.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import timedelta

from headroom.api.v1alpha1.provisioning import Consistency
from headroom.api.v1alpha1.replicaset import ReplicaSetSpec
from headroom.model.conditions import Finding
from headroom.model.moments import Moment
from headroom.model.replica import ClaimFacts, Role, Stage
from headroom.model.snapshot import SnapshotClass
from headroom.model.text import parse_count
from headroom.policy.replicaset import timeouts
from headroom.policy.replicaset.facts import PrimaryFacts, SetFacts
from headroom.policy.replicaset.failover import find_under_way, is_being_rebuilt
from headroom.policy.replicaset.members import EvaluatedMember
from headroom.policy.replicaset.memory import SetMemory
from headroom.policy.replicaset.method import build_fit
from headroom.policy.replicaset.replay_lag import is_within
from headroom.policy.replicaset.retirement import find_staying, is_outdated
from headroom.policy.replicaset.snapshot_fit import describe_oversize
from headroom.policy.replicaset.snapshot_state import (
    NOT_SERVED,
    Bounds,
    SnapshotState,
    find_bounds,
    find_due,
    sort_snapshots,
)
from headroom.policy.replicaset.targets import Targets, is_warm
from headroom.reasons import Reason


@dataclass(frozen=True, slots=True)
class Scene:
    """All that snapshots are decided from; `bounds` is None if the spec wants none. `wal_cap`: bytes that a slot may
    keep.
    """

    spec: ReplicaSetSpec
    facts: SetFacts
    primary: PrimaryFacts
    members: Sequence[EvaluatedMember]
    memory: SetMemory
    now: Moment
    state: SnapshotState
    bounds: Bounds | None
    wal_cap: int | None = None

    @property
    def staying(self) -> list[EvaluatedMember]:
        """Members that are neither going nor stopped for a snapshot."""
        return find_staying(self.members)

    @property
    def sources(self) -> list[tuple[EvaluatedMember, ClaimFacts]]:
        """Members that were chosen for a snapshot, with their claims."""
        return [(m, m.facts.claim) for m in self.members if m.facts.is_source and m.facts.claim is not None]

    @property
    def is_stopping(self) -> bool:
        """Whether the source of the next snapshot is stopped first."""
        snapshots = self.spec.provisioning.snapshots
        return snapshots is not None and snapshots.consistency is Consistency.STOPPED

    @property
    def is_taking(self) -> bool:
        """A snapshot is being taken."""
        return bool(self.sources or self.state.begun)

    @property
    def is_clearing(self) -> bool:
        """One that was given up is still there: nobody knows whether that will end."""
        return any(not each.is_ready for each in self.state.ending)

    @property
    def is_under_way(self) -> bool:
        """No other snapshot can be begun now."""
        return self.is_taking or self.is_clearing

    @property
    def is_backing_off(self) -> bool:
        """Whether a failed snapshot still has to be waited out."""
        attempts = self.memory.snapshot_attempts
        if attempts.failed_at is None:
            return False
        return timedelta(seconds=self.now.monotonic - attempts.failed_at) < timeouts.retry_after(attempts.count)


@dataclass(frozen=True, slots=True)
class SnapshotNeed:
    """`why` another snapshot is due, empty if none is. `wait` is what it waits for now, `problem` why none can be taken
    at all. One more member than the spec asks for is kept, or also begun, for it.
    """

    why: str = ""
    wait: str = ""
    problem: Finding | None = None
    keeps_one_more: bool = False
    begins_one_more: bool = False

    @property
    def is_open(self) -> bool:
        """Whether the next one may be begun in this pass."""
        return bool(self.why) and not self.wait and self.problem is None


def build_scene(
    spec: ReplicaSetSpec,
    facts: SetFacts,
    members: Sequence[EvaluatedMember],
    memory: SetMemory,
    *,
    wal_cap: int | None,
    now: Moment,
) -> Scene | None:
    """None while the primary does not answer: nothing is decided without it."""
    if facts.primary is None:
        return None
    state = sort_snapshots(facts.snapshots or (), build_fit(spec, facts, facts.primary, memory))
    bounds = find_bounds(spec, wal_cap, memory.restore_failures.barred)
    return Scene(spec, facts, facts.primary, members, memory, now, state, bounds, wal_cap)


def decide_need(scene: Scene, targets: Targets) -> SnapshotNeed:
    """What the set needs for the next snapshot; nothing while one is being taken, or none may be."""
    if scene.bounds is None:
        return SnapshotNeed()
    problem = _find_problem(scene, targets)
    lsn = scene.primary.position.lsn
    why = "" if scene.is_taking else find_due(scene.state, scene.facts, scene.bounds, lsn, scene.now.wall)
    if not why or problem is not None or not targets.is_acting:
        return SnapshotNeed(why=why, problem=problem)
    wait = _find_wait(scene, targets)
    # An existing one takes the place of the one that is replaced.
    keeps = scene.is_stopping and not any(_is_in_doubt(member, targets) for member in scene.staying)
    has_more = len(scene.staying) > targets.wanted
    return SnapshotNeed(why, wait, None, keeps, keeps and not wait and not has_more)


def _find_problem(scene: Scene, targets: Targets) -> Finding | None:
    """Why no snapshot can be taken, whatever the members do."""
    if scene.facts.snapshots is None:
        return Finding(Reason.SNAPSHOTS_NOT_SERVED, NOT_SERVED)
    if isinstance(scene.facts.snapshot_class, Finding):
        return scene.facts.snapshot_class
    mismatch = _find_mismatch(scene, scene.facts.snapshot_class)
    return mismatch or _find_oversize(scene) or _find_shortage(scene, targets)


def _find_mismatch(scene: Scene, wanted: SnapshotClass | None) -> Finding | None:
    drivers = {m.facts.claim.provisioner for m in scene.members if m.facts.claim is not None} - {""}
    if wanted is None or not wanted.driver or not drivers or wanted.driver in drivers:
        return None
    message = (
        f"VolumeSnapshotClass {wanted.name} is for volumes of {wanted.driver}, and those of the set are of "
        f"{min(drivers)}: set provisioning.snapshots.className to a class of that driver"
    )
    return Finding(Reason.SNAPSHOT_CLASS_MISMATCH, message)


def _find_oversize(scene: Scene) -> Finding | None:
    """The next one would be as large."""
    newest = next(iter(scene.state.usable), None)
    oversize = describe_oversize(newest, scene.spec.storage.size) if newest is not None else ""
    return Finding(Reason.NO_SNAPSHOT_FITS, f"{newest.name} {oversize}") if newest is not None and oversize else None


def _find_shortage(scene: Scene, targets: Targets) -> Finding | None:
    """A slot for the WAL of the snapshot, and one for the member that it is taken of; members come first."""
    server = scene.primary.view.server
    most = parse_count(server.settings.get("max_replication_slots", "")) if server is not None else None
    if server is None or most is None or scene.is_under_way:
        return None
    free_anchors = len(scene.facts.anchors) - len(scene.state.usable)
    more = max(targets.wanted + scene.is_stopping - len(scene.staying), 0)
    needed = server.slots_used + more + (0 if free_anchors > 0 else 1)
    if needed <= most:
        return None
    message = (
        f"the next snapshot needs max_replication_slots ≥ {needed}, and it is {most}: ALTER SYSTEM SET "
        f"max_replication_slots = {needed}, then restart the primary"
    )
    return Finding(Reason.SLOTS_EXHAUSTED, message)


def _find_wait(scene: Scene, targets: Targets) -> str:
    """What the next snapshot waits for; empty if it may be begun now."""
    staying = scene.staying
    if scene.is_clearing:
        # Its source starts again meanwhile, and is kept for the next attempt.
        return "one that was given up is still being deleted"
    if scene.is_backing_off:
        return "the last one failed a moment ago"
    if scene.memory.is_young(scene.now.monotonic):
        return "this process has only begun to look at the set"
    if find_under_way(staying) or any(is_being_rebuilt(each.facts, scene.now.wall) for each in scene.members):
        return "a failover is under way"
    return _find_hindrance(staying, targets) or _find_lack(scene, targets)


def _find_hindrance(staying: Sequence[EvaluatedMember], targets: Targets) -> str:
    """The member that something else is being done about."""
    new = next((each for each in staying if each.facts.role in (None, Role.PROVISIONING)), None)
    if new is not None:
        return f"{new.name} is being created"
    draining = next((each for each in staying if each.facts.role is Role.DRAINING), None)
    if draining is not None:
        return f"{draining.name} drains"
    doubtful = next((each for each in staying if _is_in_doubt(each, targets)), None)
    if doubtful is not None:
        return f"{doubtful.name} is to be replaced"
    if any(each.facts.activating_seconds is not None for each in staying):
        return "a replica is on its way into the Service"
    return ""


def _find_lack(scene: Scene, targets: Targets) -> str:
    """Which members are not there: those that the spec asks for, or the one whose volume would be taken."""
    staying = scene.staying
    if not is_whole(staying, targets):
        return "fewer replicas are fit than the spec asks for"
    is_short = scene.is_stopping and len(staying) <= targets.wanted
    return f"no member more is begun: {targets.obstacle}" if is_short and targets.obstacle else ""


def may_come(scene: Scene, need: SnapshotNeed, targets: Targets) -> bool:
    """Whether a snapshot can be taken of the members that there are, where none can be begun without one."""
    if scene.bounds is None or need.problem is not None:
        return False
    if scene.is_stopping:
        return scene.is_under_way or len(scene.staying) > targets.wanted
    return scene.is_under_way or any(each.facts.role is Role.STANDBY for each in scene.staying)


def _is_in_doubt(member: EvaluatedMember, targets: Targets) -> bool:
    verdict = member.verdict
    return verdict.is_failed or verdict.is_due_for_replacement or is_outdated(member, targets)


def is_whole(staying: Sequence[EvaluatedMember], targets: Targets) -> bool:
    """Whether as many serve well and are warm as the spec asks for."""
    serving = sum(is_warm(each) and each.facts.role is Role.SERVING for each in staying)
    return serving >= targets.desired and len(find_warm(staying)) >= targets.standbys


def find_warm(staying: Sequence[EvaluatedMember]) -> list[EvaluatedMember]:
    """Standbys that could serve at once."""
    return [each for each in staying if each.facts.role is Role.STANDBY and each.verdict.stage is Stage.STANDBY]


def choose_source(scene: Scene, targets: Targets, busy: Collection[str]) -> EvaluatedMember | None:
    """The standby whose volume is taken: with a stop only one beyond those that are asked for, else any. `busy` names
    those that something else is planned for: they may not be warm for long.
    """
    warm = [each for each in find_warm(scene.staying) if each.name not in busy]
    if scene.is_stopping and len(warm) <= targets.standbys:
        return None
    fit = [each for each in warm if _is_fit(each, scene, targets)]
    return max(fit, key=lambda each: each.facts.id, default=None)


def _is_fit(member: EvaluatedMember, scene: Scene, targets: Targets) -> bool:
    facts, probe = member.facts, member.facts.probe
    if probe is None or facts.unanswered or not facts.is_alive or facts.pod is None or facts.claim is None:
        return False
    is_streaming = probe.is_streaming and probe.timeline == scene.primary.position.timeline
    is_bound = facts.claim.is_bound and not facts.claim.is_deleting and facts.slot is not None
    return is_streaming and is_bound and facts.pod.is_ready and is_within(facts.lag, targets.bounds)
