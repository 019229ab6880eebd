"""What a row of passes shows of a set: a value, and each pass returns the next one.

Kept in memory only, apart from what `checkpoint` puts into status. All times are monotonic seconds unless named.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from headroom.api.v1alpha1.replicaset import ReplicaSetSpec
from headroom.api.v1alpha1.serving import Readiness
from headroom.model.conditions import Finding
from headroom.model.database import Mark
from headroom.model.frozen import FrozenMap
from headroom.model.moments import FIRST_SIGHT_SECONDS, Moment
from headroom.model.replica import Role
from headroom.model.timelines import FIRST_TIMELINE, TimelineHistory, WalPosition
from headroom.policy.replicaset import timeouts
from headroom.policy.replicaset.activation import Activations
from headroom.policy.replicaset.autoscaling import Recommendation
from headroom.policy.replicaset.copies import CopyMemory
from headroom.policy.replicaset.copy_progress import CopyProgress, find_copy, observe_copies
from headroom.policy.replicaset.durations import (
    Drain,
    Stopwatch,
    idle_seconds,
    observe_drains,
    observe_idle_slots,
)
from headroom.policy.replicaset.facts import MemberFacts, PrimaryFacts, SetFacts
from headroom.policy.replicaset.failover import find_divergence, may_follow, observe_positions
from headroom.policy.replicaset.growth import Growth
from headroom.policy.replicaset.libraries import LibraryFault, find_fault, observe_faults
from headroom.policy.replicaset.member_memory import (
    Inherited,
    MemberMemory,
    ReadingHistory,
    count_peaceful,
    count_restarts,
)
from headroom.policy.replicaset.members import Member
from headroom.policy.replicaset.read_gain import ReadGain
from headroom.policy.replicaset.restores import RestoreFailures

LEAD_TIMES_KEPT = 20
LONGEST_WINDOW_SECONDS = 3600.0


@dataclass(frozen=True, slots=True)
class LeadTimes:
    """The last measured times of one way to add capacity, in seconds."""

    samples: tuple[float, ...] = ()

    def add(self, seconds: float) -> "LeadTimes":
        """Add a measurement and keep the last ones."""
        return LeadTimes((*self.samples, seconds)[-LEAD_TIMES_KEPT:])

    @property
    def p90(self) -> float | None:
        """90th percentile (nearest rank) of what is kept; None without a measurement."""
        if not self.samples:
            return None
        ordered = sorted(self.samples)
        return ordered[math.ceil(0.9 * len(ordered)) - 1]


@dataclass(frozen=True, slots=True)
class Attempts:
    """Attempts to create a member that were given up since the last one that succeeded."""

    count: int = 0
    failed_at: float | None = None
    failure: Finding | None = None

    def fail(self, failure: Finding, now: float) -> "Attempts":
        """Count one more."""
        return Attempts(self.count + 1, now, failure)


@dataclass(frozen=True, slots=True)
class SetMemory:
    """All of one set; `began_at` is the first pass of this process over it.

    `inherited` names the members that another process left, until this one has measured them or their pod is gone.
    `members` is by name of the member, `copies`, `drains` and `peaceful_restarts` (the restarts of a server that no
    longer count) by uid of its pod, `idle_slots` (how long nobody has used it) by name of the slot. `slot_names` are
    the slots as last seen on the primary, and those asked for since. `system_identifier` and `timeline` are those of
    the primary that the members are copies of. `desired` is None before the first decision.
    `start_replicas` is the spec's `replicas` while it is only where `autoscaling` begins, or has begun.
    `library_faults` are by name of the member, and so are `positions`: how far each of them was ever seen. `timeline`
    is the highest that the primary or a member was on, first seen at `timeline_since`; `history` is of the last one
    whose history was asked for. `snapshot_attempts` are snapshots that were given up since the last whole one,
    `slots_touched_at`: when slots that wait for their use were last touched.
    """

    began_at: float = 0.0
    inherited: FrozenMap[str, Inherited] = field(default_factory=FrozenMap)
    members: FrozenMap[str, MemberMemory] = field(default_factory=FrozenMap)
    copies: FrozenMap[str, CopyProgress] = field(default_factory=FrozenMap)
    copying: CopyMemory = field(default_factory=CopyMemory)
    peaceful_restarts: FrozenMap[str, int] = field(default_factory=FrozenMap)
    idle_slots: FrozenMap[str, Stopwatch] = field(default_factory=FrozenMap)
    drains: FrozenMap[str, Drain] = field(default_factory=FrozenMap)
    slot_names: frozenset[str] = frozenset()
    system_identifier: str | None = None
    timeline: int = 0
    timeline_since: float = 0.0
    history: TimelineHistory | None = None
    positions: FrozenMap[str, WalPosition] = field(default_factory=FrozenMap)
    outage_since: float | None = None
    has_seen_primary: bool = False
    generation: int | None = None
    desired: int | None = None
    start_replicas: int | None = None
    recommendations: tuple[Recommendation, ...] = ()
    warm: LeadTimes = LeadTimes()
    base_backup: LeadTimes = LeadTimes()
    volume_snapshot: LeadTimes = LeadTimes()
    restore_failures: RestoreFailures = field(default_factory=RestoreFailures)
    attempts: Attempts = Attempts()
    snapshot_attempts: Attempts = Attempts()
    slots_touched_at: float | None = None
    library_faults: FrozenMap[str, LibraryFault] = field(default_factory=FrozenMap)
    activations: Activations = field(default_factory=Activations)
    growth: Growth = field(default_factory=Growth)
    reads: ReadGain = field(default_factory=ReadGain)

    def follow_start(self, spec: ReplicaSetSpec) -> "SetMemory":
        """The memory of this spec: without `autoscaling`, the count that it left stays until `replicas` changes."""
        is_begin = spec.autoscaling is not None or self.start_replicas == spec.replicas
        return replace(self, start_replicas=spec.replicas if is_begin else None)

    def is_young(self, now: float) -> bool:
        """Whether this process has seen the set for so short a time that little of it is known yet."""
        return now - self.began_at < FIRST_SIGHT_SECONDS

    def observe(self, facts: SetFacts, bounds: Readiness, now: Moment) -> "SetMemory":
        """Record what one pass found."""
        at, marks = now.monotonic, facts.primary.marks if facts.primary is not None else ()
        has_primary = facts.primary is not None
        pods = [member.pod for member in facts.members if member.pod is not None]
        members = self._observe_members(facts.members, marks, bounds, at)
        inherited = self._keep_inherited(facts.members, members)
        is_other_spec = self.generation not in (None, facts.generation)
        after = self._observe_primary(facts.primary, at)
        copies = FrozenMap(observe_copies(self.copies, facts.members, at, has_primary=has_primary))
        positions = FrozenMap(observe_positions(self.positions, facts.members, after.system_identifier))
        # A member may follow a new primary before its guard does: an old one that still answers is not believed.
        timeline = max([after.timeline, *(position.timeline for position in positions.values())])
        return replace(
            after,
            positions=positions,
            timeline=timeline,
            timeline_since=at if timeline > self.timeline else self.timeline_since,
            inherited=inherited,
            members=members,
            copies=copies,
            copying=self.copying.observe(facts.members, copies, marks),
            peaceful_restarts=FrozenMap(
                (pod.uid, count_peaceful(self.peaceful_restarts, pod, now.wall)) for pod in pods
            ),
            idle_slots=FrozenMap(observe_idle_slots(self.idle_slots, facts.members, at, has_primary=has_primary)),
            drains=FrozenMap(observe_drains(self.drains, pods, self.peaceful_restarts, at)),
            slot_names=self._observe_slots(facts),
            generation=facts.generation,
            attempts=Attempts() if is_other_spec else self.attempts,
            restore_failures=self._observe_snapshots(facts, is_other_spec=is_other_spec),
            snapshot_attempts=Attempts() if is_other_spec else self.snapshot_attempts,
            library_faults=FrozenMap(observe_faults(self.library_faults, facts, bounds.ignore_libraries)),
            activations=self.activations.observe(facts.members, at),
        )

    def _observe_primary(self, primary: PrimaryFacts | None, at: float) -> "SetMemory":
        if primary is None:
            return replace(self, outage_since=at if self.outage_since is None else self.outage_since)
        return replace(
            self,
            outage_since=None,
            has_seen_primary=True,
            system_identifier=self.system_identifier or primary.position.system_identifier,
            timeline=max(self.timeline, primary.position.timeline),
            history=primary.history if primary.history is not None else self.history,
        )

    def _observe_members(
        self, found: Iterable[MemberFacts], marks: tuple[Mark, ...], bounds: Readiness, now: float
    ) -> FrozenMap[str, MemberMemory]:
        after = {}
        for member in found:
            known = self._recall(member, now)
            if known is not None:
                after[member.name] = known.observe(member.reading, marks, bounds, now)
        return FrozenMap(after)

    def _recall(self, member: MemberFacts, now: float) -> MemberMemory | None:
        """A pod that was recreated under the same name is another pod, and starts without the old one's history."""
        if member.pod is None:
            return None
        known = self.members.get(member.name)
        if known is not None and known.pod_uid == member.pod.uid:
            return known
        if member.reading is None:
            return None
        left = self.inherited.get(member.name) if known is None else None
        readings = ReadingHistory() if left is None else ReadingHistory().inherit(left, now)
        return MemberMemory(member.pod.uid, seen_since=now, readings=readings)

    def _keep_inherited(
        self, found: Iterable[MemberFacts], members: Mapping[str, MemberMemory]
    ) -> FrozenMap[str, Inherited]:
        """A pod that comes later under the same name is another pod: what was inherited says nothing about it."""
        after = {}
        for member in found:
            if member.name not in self.inherited or member.pod is None:
                continue
            before, known = self.members.get(member.name), members.get(member.name)
            is_recreated = before is not None and before.pod_uid != member.pod.uid
            is_measured = known is not None and known.readings.counted >= timeouts.READINGS_TO_LEAVE
            if not is_recreated and not is_measured:
                after[member.name] = self.inherited[member.name]
        return FrozenMap(after)

    def _observe_snapshots(self, facts: SetFacts, *, is_other_spec: bool) -> RestoreFailures:
        """What is known of snapshots that are gone need not be kept; another spec may have corrected the cause, or only
        ask for another count.
        """
        if is_other_spec:
            return self.restore_failures.forget()
        return self.restore_failures.keep([snapshot.name for snapshot in facts.snapshots or ()])

    def _observe_slots(self, facts: SetFacts) -> frozenset[str]:
        """Names of slots for the time when pods and claims are gone: those on the primary, else every member's."""
        if facts.primary is not None:
            anchors = frozenset(anchor.name for anchor in facts.anchors)
            return anchors | {member.slot_name for member in facts.members if member.slot is not None}
        return self.slot_names | {member.slot_name for member in facts.members}

    def recommend(self, count: int, desired: int, now: float) -> "SetMemory":
        """Remember what was wanted, as far back as the longest stabilization window reaches, and what was decided."""
        kept = (entry for entry in self.recommendations if now - entry.at <= LONGEST_WINDOW_SECONDS)
        return replace(self, desired=desired, recommendations=(*kept, Recommendation(now, count)))

    def record_failure(self, failure: Finding, now: float) -> "SetMemory":
        """An attempt to create a member was given up."""
        return replace(self, attempts=self.attempts.fail(failure, now))

    def record_restore_failure(self, snapshot: str, present: Iterable[str], now: float) -> "SetMemory":
        """A member that was created from this snapshot was given up; `present` names those that there are."""
        return replace(self, restore_failures=self.restore_failures.fail(snapshot, [*present], now))

    def record_snapshot(self, failure: Finding | None, now: float) -> "SetMemory":
        """A snapshot became whole, or was given up."""
        attempts = Attempts() if failure is None else self.snapshot_attempts.fail(failure, now)
        return replace(self, snapshot_attempts=attempts)

    def record_acceptance(self, seconds: float | None, *, restored_from: str = "") -> "SetMemory":
        """A new member joined the warm pool, `seconds` after its claim was created; None if that was not measured.

        `restored_from` is the snapshot that it was made from, if it was.
        """
        after = replace(self, attempts=Attempts())
        if restored_from:
            after = replace(after, restore_failures=self.restore_failures.succeed(restored_from))
        if seconds is None:
            return after
        if restored_from:
            return replace(after, volume_snapshot=self.volume_snapshot.add(seconds))
        return replace(after, base_backup=self.base_backup.add(seconds))

    def record_activation(self, seconds: float) -> "SetMemory":
        """A standby serves, `seconds` after it was decided."""
        return replace(self, warm=self.warm.add(seconds))

    def record_slot(self, name: str) -> "SetMemory":
        """A slot is about to be created."""
        return replace(self, slot_names=self.slot_names | {name})


def assemble(facts: SetFacts, memory: SetMemory, now: float, *, connections: int = 0) -> tuple[Member, ...]:
    """The members as found, each with its history in `memory`, which has observed these facts.

    `connections` is how many each of them was configured for.
    """
    found = (
        _assemble(member, memory, now, find_fault(member, facts, memory.library_faults)) for member in facts.members
    )
    return tuple(replace(member, configured_connections=connections) for member in found)


def _count_behind(found: MemberFacts, memory: SetMemory, now: float) -> float | None:
    """How long a member may have been behind; one whose timeline was never known may be on any.

    A new one is a copy of the present timeline.
    """
    position = memory.positions.get(found.name)
    is_new = found.pod is None or found.pod.role is Role.PROVISIONING
    if position is None and (is_new or found.name not in memory.members):
        return None
    timeline = position.timeline if position is not None else FIRST_TIMELINE
    return now - memory.timeline_since if timeline < memory.timeline else None


def _assemble(found: MemberFacts, memory: SetMemory, now: float, library_fault: Finding | None) -> Member:
    known, position = memory.members.get(found.name), memory.positions.get(found.name)
    # Where a newer timeline forked off is not known yet: nobody is condemned by an older one.
    is_newest = memory.history is not None and memory.history.timeline == memory.timeline
    history = memory.history if is_newest else None
    drain = memory.drains.get(found.pod.uid) if found.pod is not None else None
    copy = find_copy(memory.copies, found.pod)
    member = Member(
        id=found.id,
        name=found.name,
        slot_name=found.slot_name,
        pod=found.pod,
        claim=found.claim,
        slot=found.slot,
        backup=found.backup,
        is_listed=found.is_listed,
        is_node_lost=found.is_node_lost,
        is_published=found.is_published,
        restored=found.restored,
        is_unread=position is None,
        copy=copy,
        is_copy_observed=found.is_copy_observed,
        still_seconds=copy.still.seconds(now) if copy is not None else 0.0,
        slot_idle_seconds=idle_seconds(memory.idle_slots, found, now),
        drain_seconds=now - drain.since if drain is not None else 0.0,
        saw_drain_begin=drain is not None and drain.is_whole,
        server_restarts=count_restarts(memory.peaceful_restarts, found.pod),
        activating_seconds=memory.activations.seconds(found.pod, now),
        is_resting=memory.activations.is_resting(found.pod, now),
        library_fault=library_fault,
        divergence=find_divergence(position, history),
        can_follow=may_follow(position, history),
        behind_seconds=_count_behind(found, memory, now),
        is_fork_known=history is not None,
    )
    return member if known is None else _add_history(member, known, now)


def _add_history(member: Member, known: MemberMemory, now: float) -> Member:
    readings = known.readings
    return replace(
        member,
        probe=readings.probe,
        inherited_sessions=readings.inherited_sessions,
        lag=readings.lag,
        within=readings.within,
        beyond=readings.beyond,
        unanswered=readings.unanswered,
        silence=readings.silence,
        is_full=readings.is_full,
        silent_seconds=known.silent_seconds(now),
        refused_seconds=known.refused_seconds(now),
        counted_age=readings.age.seconds(now),
        broken_seconds=known.stream.broken_seconds,
        cut_seconds=known.cut_seconds(now),
        last_lag=readings.chain,
        unmeasured_seconds=known.unmeasured_seconds(now),
        judged=readings.judged,
        judged_seconds=known.judged_seconds(now),
        stale=readings.stale,
        stale_seconds=known.stale_seconds(now),
    )
