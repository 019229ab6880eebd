"""What a new member is created from: a snapshot where one fits, or a base backup, by what the last ones took.

It is chosen twice: before the member's slot is created, which for a snapshot has to be a copy of its anchor; and again
when its claim is created, from what is so then. Nothing has to be remembered in between: a slot that begins too late
for every snapshot leaves the base backup.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from headroom.api.v1alpha1.provisioning import Method
from headroom.api.v1alpha1.replicaset import ReplicaSetSpec
from headroom.model.conditions import Finding
from headroom.model.database import Mark, SlotFacts
from headroom.model.numbers import describe_bytes
from headroom.model.snapshot import SnapshotFacts
from headroom.model.timelines import TimelineHistory
from headroom.policy.replicaset.admission import decide_wal_cap
from headroom.policy.replicaset.copy_estimate import CopyEstimate
from headroom.policy.replicaset.facts import PrimaryFacts, SetFacts
from headroom.policy.replicaset.memory import SetMemory
from headroom.policy.replicaset.restores import Choice
from headroom.policy.replicaset.snapshot_fit import Fit, find_misfit
from headroom.policy.replicaset.snapshot_state import NOT_SERVED, measure_behind
from headroom.reasons import Reason

ASSUMED_RESTORE_SECONDS = 10.0
"""Until one was measured: volume, pod, checks and start. Drivers create a volume of a snapshot in about a second."""
REPLAY_BYTES_PER_SECOND = 50 * 1024**2
"""Replay is one process: 50 to 150 MB/s are seen, the least of which is assumed."""
ASSUMED_COPY_SECONDS = 5.0
"""Until one was measured: what a base backup takes beside the time for its bytes."""
RESTING = "restores failed repeatedly, so none is tried for a while"
SPARED = 2.0
"""A snapshot costs the primary nothing, so that a base backup has to be as many times faster to be preferred."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """How long a method takes until the member is caught up."""

    seconds: float
    is_measured: bool

    def describe(self) -> str:
        """In words, with what it rests on."""
        return f"about {self.seconds:.0f} s ({'measured' if self.is_measured else 'assumed, none was measured yet'})"


def choose_method(spec: ReplicaSetSpec, facts: SetFacts, memory: SetMemory, slot: SlotFacts | None = None) -> Choice:
    """How to make the next member, or the one that has this slot and no claim yet."""
    wanted = spec.provisioning.method
    if wanted is Method.BASE_BACKUP:
        return Choice(wanted, "provisioning.method is BaseBackup")
    if spec.provisioning.snapshots is None or not facts.snapshots:
        return _without(wanted, _describe_none(spec, facts))
    if facts.primary is None or facts.primary.view.server is None:
        # Nothing is begun meanwhile, and that says so itself.
        return Choice(
            wanted if wanted is Method.VOLUME_SNAPSHOT else Method.BASE_BACKUP, "the primary is not known now"
        )
    fit = build_fit(spec, facts, facts.primary, memory, slot)
    if wanted is Method.AUTO and memory.restore_failures.is_resting(fit.position.taken_at):
        return _without(wanted, RESTING)
    ranked = _rank(facts.snapshots, memory)
    misfits = {snapshot.name: find_misfit(snapshot, fit) for snapshot in ranked}
    best = next((snapshot for snapshot in ranked if not misfits[snapshot.name]), None)
    if best is None and slot is not None:
        # A slot that was created for a copy fits no snapshot: what led to the copy says more than that.
        first = choose_method(spec, facts, memory)
        if first.snapshot is None:
            return first
    if best is None:
        return _without(wanted, f"no snapshot fits: {ranked[0].name} {misfits[ranked[0].name]}")
    return _compare(spec, facts, memory, best, fit.position)


def needs_history(facts: SetFacts, primary: Mark) -> bool:
    """Whether it must be known where the primary's timeline forked off, to tell whether a snapshot can follow it, or a
    member that is being created from one.
    """
    snapshots = [snapshot.stamps for snapshot in facts.snapshots or ()]
    stamps = [*snapshots, *(member.restored for member in facts.members)]
    return any(each is not None and each.timeline < primary.timeline for each in stamps)


def find_history(facts: SetFacts, memory: SetMemory) -> TimelineHistory | None:
    """That of the timeline which the primary writes now, read in this pass or an earlier one."""
    primary = facts.primary
    if primary is None:
        return None
    known = (primary.history, memory.history)
    return next((each for each in known if each is not None and each.timeline == primary.position.timeline), None)


def build_fit(
    spec: ReplicaSetSpec, facts: SetFacts, primary: PrimaryFacts, memory: SetMemory, slot: SlotFacts | None = None
) -> Fit:
    """What every snapshot of the set is held against."""
    server = primary.view.server
    return Fit(
        position=primary.position,
        major=server.major if server is not None else None,
        history=find_history(facts, memory),
        anchors={anchor.name: anchor for anchor in facts.anchors},
        storage=spec.storage.size,
        wal_cap=decide_wal_cap(server, spec.provisioning.max_slot_wal) if server is not None else None,
        slot=slot,
        barred=memory.restore_failures.barred,
    )


def _describe_none(spec: ReplicaSetSpec, facts: SetFacts) -> str:
    if spec.provisioning.snapshots is None:
        return "provisioning.snapshots is not set"
    if facts.snapshots is None:
        return NOT_SERVED
    return "there is no snapshot yet"


def _rank(snapshots: Sequence[SnapshotFacts], memory: SetMemory) -> list[SnapshotFacts]:
    """Those that have not failed first, and of them the newest: it has the least to replay."""
    failed = memory.restore_failures.failed
    newest = sorted(snapshots, key=lambda snapshot: (snapshot.created_at, snapshot.name), reverse=True)
    return sorted(newest, key=lambda snapshot: snapshot.name in failed)


def _without(wanted: Method, why: str) -> Choice:
    """No snapshot can be used."""
    if wanted is not Method.VOLUME_SNAPSHOT:
        return Choice(Method.BASE_BACKUP, why)
    message = (
        f"provisioning.method is VolumeSnapshot, and none can be restored: {why}; Headroom waits for one, or set "
        "provisioning.method: Auto"
    )
    return Choice(wanted, why, wait=Finding(Reason.NO_SNAPSHOT_FITS, message))


def _compare(
    spec: ReplicaSetSpec, facts: SetFacts, memory: SetMemory, snapshot: SnapshotFacts, position: Mark
) -> Choice:
    assert snapshot.stamps is not None
    behind = measure_behind(snapshot, position.lsn)
    what = f"snapshot {snapshot.name} is {describe_bytes(behind)} of WAL behind"
    if spec.provisioning.method is Method.VOLUME_SNAPSHOT:
        return Choice(Method.VOLUME_SNAPSHOT, f"provisioning.method is VolumeSnapshot; {what}", snapshot)
    copy = estimate_copy(spec, facts, memory)
    restore = estimate_restore(memory, behind, copy)
    times = f"{restore.describe()}, a base backup takes {copy.describe()}"
    if copy.seconds * SPARED < restore.seconds:
        return Choice(Method.BASE_BACKUP, f"{what} and takes {times}, which is less than half", spare=snapshot)
    return Choice(Method.VOLUME_SNAPSHOT, f"{what} and takes {times}; it costs the primary nothing", snapshot)


def estimate_restore(memory: SetMemory, behind: int, copy: Estimate) -> Estimate:
    """By the last restores, and what is to be replayed: an upper bound, since they replayed something too.

    Until one was measured it is assumed to take no longer than a copy: else none would ever be measured.
    """
    measured = memory.volume_snapshot.p90
    base = measured if measured is not None else min(ASSUMED_RESTORE_SECONDS, copy.seconds)
    return Estimate(base + behind / REPLAY_BYTES_PER_SECOND, measured is not None)


def estimate_copy(spec: ReplicaSetSpec, facts: SetFacts, memory: SetMemory) -> Estimate:
    """By the last base backups; until then by the size of the data, else of a volume, and the rate of a copy."""
    measured = memory.base_backup.p90
    if measured is not None:
        return Estimate(measured, is_measured=True)
    known = facts.primary.data_bytes if facts.primary is not None else None
    copy = CopyEstimate(copy_rate=memory.copying.rate, max_rate=spec.provisioning.max_rate)
    size = known if known is not None else spec.storage.size
    return Estimate(ASSUMED_COPY_SECONDS + size / copy.rate, is_measured=False)
