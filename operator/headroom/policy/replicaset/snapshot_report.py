"""What is reported of the snapshots of a set: whether a new replica can start from one, and if not, why."""

from dataclasses import dataclass

from headroom.api.v1alpha1.common import Mode
from headroom.api.v1alpha1.replicaset import ReplicaSetSpec
from headroom.model.conditions import Finding, Truth
from headroom.policy.replicaset.facts import SetFacts
from headroom.policy.replicaset.snapshot_need import Scene, SnapshotNeed
from headroom.policy.replicaset.snapshot_state import NOT_SERVED, describe_error, is_any_fresh
from headroom.reasons import Reason


@dataclass(frozen=True, slots=True)
class Freshness:
    """Whether a fresh snapshot can be restored, and why."""

    status: Truth
    finding: Finding


def describe_freshness(spec: ReplicaSetSpec, facts: SetFacts, scene: Scene | None, need: SnapshotNeed) -> Freshness:
    """What the condition says; `scene` is None while the primary does not answer."""
    if spec.provisioning.snapshots is None:
        message = "replicas are created by base backup: set provisioning.snapshots for snapshots of a standby's volume"
        return Freshness(Truth.FALSE, Finding(Reason.SNAPSHOTS_NOT_CONFIGURED, message))
    if facts.snapshots is None:
        return Freshness(Truth.FALSE, Finding(Reason.SNAPSHOTS_NOT_SERVED, NOT_SERVED))
    if scene is None or scene.bounds is None:
        outage = facts.outage or Finding(Reason.GUARD_NOT_READY, "the primary does not answer")
        return Freshness(
            Truth.UNKNOWN, Finding(outage.reason, f"it is not known what can be restored: {outage.message}")
        )
    trouble = _find_trouble(spec, scene, need)
    lsn = scene.primary.position.lsn
    if is_any_fresh(scene.state, facts, scene.bounds, lsn, scene.now.wall):
        aside = f"; the next one: {trouble.message}" if trouble is not None else ""
        return Freshness(
            Truth.TRUE, Finding(Reason.AS_EXPECTED, f"{scene.state.usable[0].name} can be restored{aside}")
        )
    return Freshness(Truth.FALSE, trouble or Finding(Reason.SNAPSHOT_PENDING, _describe_pending(scene, need)))


def _find_trouble(spec: ReplicaSetSpec, scene: Scene, need: SnapshotNeed) -> Finding | None:
    """What keeps the next snapshot from being taken, if that is more than time."""
    if spec.mode is not Mode.ACTIVE:
        reason = Reason.PAUSED if spec.mode is Mode.PAUSED else Reason.DRY_RUN
        return Finding(reason, f"none is taken while spec.mode is {spec.mode}")
    errors = (describe_error(each) for each in scene.state.begun)
    error = next((each for each in errors if each is not None), None)
    return need.problem or error or scene.memory.snapshot_attempts.failure


def _describe_pending(scene: Scene, need: SnapshotNeed) -> str:
    begun = next(iter(scene.state.begun), None)
    if begun is not None:
        return f"{begun.name} is {'taken, and ' if begun.cut_at is not None else ''}not ready yet"
    source = next((claim for _, claim in scene.sources), None)
    if source is not None:
        return f"{source.name} is stopped for {source.snapshot}"
    what = f"another one is due: {need.why}" if scene.state.usable else "none was taken yet"
    if need.wait:
        return f"{what}; it waits, since {need.wait}"
    if scene.is_stopping:
        return f"{what}; it is taken of a member more than the spec asks for, which goes when it is ready"
    return what if scene.spec.standbys else f"{what}; with consistency Atomic it needs a standby: set spec.standbys"
