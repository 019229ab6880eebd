"""What a row of passes shows of a set and its members: values, and each pass returns the next one.

Kept in memory only, apart from what `checkpoint` puts into status: a new process begins to count again, so that it
gives nothing up sooner than an old one would have. All times are monotonic seconds unless named.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime

from headroom.api.v1alpha1.serving import Readiness
from headroom.model.conditions import Finding
from headroom.model.database import BackupProgress, Mark, ReplicaProbe
from headroom.model.moments import Moment
from headroom.model.replica import PodFacts
from headroom.policy.replicaset import timeouts
from headroom.policy.replicaset.autoscaling import Recommendation
from headroom.policy.replicaset.facts import Answer, MemberFacts, PrimaryFacts, Reading, SetFacts, Silence
from headroom.policy.replicaset.members import Member
from headroom.policy.replicaset.replay_lag import (
    LagUnknown,
    LagVerdict,
    NotEligible,
    is_beyond,
    is_within,
    measure_replay_lag,
)
from headroom.policy.replicaset.stream_loss import find_position
from headroom.reasons import Reason

LEAD_TIMES_KEPT = 20
LONGEST_WINDOW_SECONDS = 3600.0


@dataclass(frozen=True, slots=True)
class ReadingHistory:
    """What the probes of one pod show. `lag` is this pass's verdict, None without an answer; `chain` is the last
    verdict, on which the next measurement builds. `counted` is the number of readings that say something, answers and
    silences alike.
    """

    probe: ReplicaProbe | None = None
    lag: LagVerdict | None = None
    chain: LagVerdict | None = None
    answered_at: float | None = None
    unanswered: int = 0
    silence: str = ""
    silence_counted_at: float = 0.0
    within: int = 0
    beyond: int = 0
    refusal: Reason | None = None
    refused_since: float = 0.0
    counted: int = 0

    def observe(
        self, reading: Reading | None, marks: tuple[Mark, ...], bounds: Readiness, now: float
    ) -> "ReadingHistory":
        """Record the reading of one pass; `marks` are the primary's newest positions, none while it is silent."""
        if reading is None:
            return self
        if isinstance(reading, Silence):
            return self._observe_silence(reading, now)
        return self._observe_answer(reading, marks, bounds, now)

    def _observe_answer(
        self, reading: Answer, marks: tuple[Mark, ...], bounds: Readiness, now: float
    ) -> "ReadingHistory":
        lag = measure_replay_lag(marks, reading.probe, now, previous=self.chain)
        refusal = lag.reason if isinstance(lag, NotEligible) else None
        return replace(
            self,
            probe=reading.probe,
            lag=lag,
            chain=lag,
            answered_at=now,
            unanswered=0,
            silence="",
            within=self.within + 1 if is_within(lag, bounds) else 0,
            beyond=self.beyond + 1 if is_beyond(lag, bounds) else 0,
            refusal=refusal,
            refused_since=self.refused_since if refusal is self.refusal else now,
            counted=self.counted + 1,
        )

    def _observe_silence(self, silence: Silence, now: float) -> "ReadingHistory":
        """Count at most one unanswered probe a second, however fast passes follow each other."""
        after = replace(self, within=0, beyond=0, lag=None, silence=silence.message or self.silence)
        is_counted_already = self.unanswered > 0 and now - self.silence_counted_at < timeouts.SILENCE_STEP_SECONDS
        if silence.is_excused or is_counted_already:
            return after
        return replace(after, unanswered=self.unanswered + 1, silence_counted_at=now, counted=self.counted + 1)


@dataclass(frozen=True, slots=True)
class StreamHistory:
    """How long a pod's stream was seen broken; silence says nothing, and any WAL that arrives ends the count."""

    position: int | None = None
    broken_seconds: float = 0.0
    streams_since: float | None = None
    observed_at: float | None = None

    def observe(self, readings: ReadingHistory, now: float) -> "StreamHistory":
        """Take up one pass."""
        step = min(now - self.observed_at, timeouts.LONGEST_STEP_SECONDS) if self.observed_at is not None else 0.0
        after = replace(self, observed_at=now)
        if readings.unanswered or readings.probe is None:
            return after
        position = find_position(readings.probe)
        has_moved = position != self.position
        if isinstance(readings.lag, NotEligible) and readings.lag.reason is Reason.NOT_STREAMING:
            broken = 0.0 if has_moved else self.broken_seconds + step
            return replace(after, position=position, broken_seconds=broken, streams_since=None)
        since = self.streams_since if self.streams_since is not None else now
        # While the primary is not asked, or does not answer, a stream that is down is not the member's fault.
        is_unknown = readings.lag is None or isinstance(readings.lag, LagUnknown)
        is_restored = has_moved or is_unknown or now - since >= timeouts.STREAM_LASTS_SECONDS
        broken = 0.0 if is_restored else self.broken_seconds
        return replace(after, position=position, broken_seconds=broken, streams_since=since)


@dataclass(frozen=True, slots=True)
class MemberMemory:
    """One pod of a member, as this process saw it."""

    pod_uid: str
    seen_since: float
    readings: ReadingHistory = ReadingHistory()
    stream: StreamHistory = StreamHistory()

    def observe(
        self, reading: Reading | None, marks: tuple[Mark, ...], bounds: Readiness, now: float
    ) -> "MemberMemory":
        """Take up one pass."""
        readings = self.readings.observe(reading, marks, bounds, now)
        return replace(self, readings=readings, stream=self.stream.observe(readings, now))

    def silent_seconds(self, now: float) -> float:
        """How long no probe was answered; 0 while they are."""
        if not self.readings.unanswered:
            return 0.0
        answered_at = self.readings.answered_at
        return now - (answered_at if answered_at is not None else self.seen_since)

    def refused_seconds(self, now: float) -> float:
        """How long it has been ineligible for the same reason."""
        return now - self.readings.refused_since if self.readings.refusal is not None else 0.0


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
class CopyProgress:
    """How far a copy was, and since when it has made no progress."""

    progress: tuple[str, int]
    since: float


@dataclass(frozen=True, slots=True)
class SetMemory:
    """All of one set; `began_at` is the first pass of this process over it.

    `inherited` names the members that another process left, each with the second since which it has had no stream,
    None where it had one.
    `members` is by name of the member, `copies` and `peaceful_restarts` (the restarts of a server that no longer count)
    by uid of its pod, `idle_slots` (since when nobody uses it) by name of the slot. `slot_names` are the slots as last
    seen on the primary, and those asked for since. `system_identifier` and `timeline` are those of the primary that the
    members are copies of. `desired` is None before the first decision.
    """

    began_at: float = 0.0
    inherited: Mapping[str, float | None] = field(default_factory=dict)
    members: Mapping[str, MemberMemory] = field(default_factory=dict)
    copies: Mapping[str, CopyProgress] = field(default_factory=dict)
    peaceful_restarts: Mapping[str, int] = field(default_factory=dict)
    idle_slots: Mapping[str, float] = field(default_factory=dict)
    slot_names: frozenset[str] = frozenset()
    system_identifier: str | None = None
    timeline: int = 0
    outage_since: float | None = None
    has_seen_primary: bool = False
    generation: int | None = None
    desired: int | None = None
    recommendations: tuple[Recommendation, ...] = ()
    warm: LeadTimes = LeadTimes()
    base_backup: LeadTimes = LeadTimes()
    attempts: Attempts = Attempts()

    def observe(self, facts: SetFacts, bounds: Readiness, now: Moment) -> "SetMemory":
        """Record what one pass found."""
        at, marks = now.monotonic, facts.primary.marks if facts.primary is not None else ()
        pods = [member.pod for member in facts.members if member.pod is not None]
        is_other_spec = self.generation not in (None, facts.generation)
        return replace(
            self._observe_primary(facts.primary, at),
            members=self._observe_members(facts.members, marks, bounds, at),
            copies=_observe_copies(self.copies, facts.members, at),
            peaceful_restarts={pod.uid: _count_peaceful(self.peaceful_restarts, pod, now.wall) for pod in pods},
            idle_slots={
                member.slot.name: self.idle_slots.get(member.slot.name, at)
                for member in facts.members
                if member.slot is not None and not member.slot.is_active
            },
            slot_names=self._observe_slots(facts),
            generation=facts.generation,
            attempts=Attempts() if is_other_spec else self.attempts,
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
        )

    def _observe_members(
        self, found: Iterable[MemberFacts], marks: tuple[Mark, ...], bounds: Readiness, now: float
    ) -> dict[str, MemberMemory]:
        after = {}
        for member in found:
            known = self._recall(member, now)
            if known is not None:
                after[member.name] = known.observe(member.reading, marks, bounds, now)
        return after

    def _recall(self, member: MemberFacts, now: float) -> MemberMemory | None:
        """A pod that was recreated under the same name is another pod, and starts without the old one's history."""
        if member.pod is None:
            return None
        known = self.members.get(member.name)
        if known is not None and known.pod_uid == member.pod.uid:
            return known
        if member.reading is None:
            return None
        since = self.inherited.get(member.name) if known is None else None
        readings = (
            ReadingHistory() if since is None else ReadingHistory(refusal=Reason.NOT_STREAMING, refused_since=since)
        )
        return MemberMemory(member.pod.uid, seen_since=now, readings=readings)

    def _observe_slots(self, facts: SetFacts) -> frozenset[str]:
        """Names of slots for the time when pods and claims are gone: those on the primary, else every member's."""
        if facts.primary is not None:
            return frozenset(member.slot_name for member in facts.members if member.slot is not None)
        return self.slot_names | {member.slot_name for member in facts.members}

    def recommend(self, count: int, desired: int, now: float) -> "SetMemory":
        """Remember what was wanted, as far back as the longest stabilization window reaches, and what was decided."""
        kept = (entry for entry in self.recommendations if now - entry.at <= LONGEST_WINDOW_SECONDS)
        return replace(self, desired=desired, recommendations=(*kept, Recommendation(now, count)))

    def record_failure(self, failure: Finding, now: float) -> "SetMemory":
        """An attempt to create a member was given up."""
        return replace(self, attempts=self.attempts.fail(failure, now))

    def record_acceptance(self, seconds: float | None) -> "SetMemory":
        """A new member joined the warm pool, `seconds` after its claim was created; None if that was not measured."""
        base_backup = self.base_backup if seconds is None else self.base_backup.add(seconds)
        return replace(self, attempts=Attempts(), base_backup=base_backup)

    def record_activation(self, seconds: float) -> "SetMemory":
        """A standby serves, `seconds` after it was decided."""
        return replace(self, warm=self.warm.add(seconds))

    def record_slot(self, name: str) -> "SetMemory":
        """A slot is about to be created."""
        return replace(self, slot_names=self.slot_names | {name})


def assemble(facts: SetFacts, memory: SetMemory, now: float) -> tuple[Member, ...]:
    """The members as found, each with its history in `memory`, which has observed these facts."""
    return tuple(_assemble(member, memory, now) for member in facts.members)


def _assemble(found: MemberFacts, memory: SetMemory, now: float) -> Member:
    known = memory.members.get(found.name)
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
        still_seconds=_still_seconds(memory.copies, found.pod, now),
        slot_idle_seconds=_idle_seconds(memory.idle_slots, found, now),
        server_restarts=_count_restarts(memory.peaceful_restarts, found.pod),
    )
    if known is None:
        return member
    readings = known.readings
    return replace(
        member,
        probe=readings.probe,
        lag=readings.lag,
        within=readings.within,
        beyond=readings.beyond,
        unanswered=readings.unanswered,
        silence=readings.silence,
        silent_seconds=known.silent_seconds(now),
        refused_seconds=known.refused_seconds(now),
        broken_seconds=known.stream.broken_seconds,
    )


def _observe_copies(
    before: Mapping[str, CopyProgress], found: Iterable[MemberFacts], now: float
) -> dict[str, CopyProgress]:
    after = {}
    for member in found:
        pod = member.pod
        if pod is None or pod.seed.is_done:
            continue
        progress, known = _measure_progress(pod, member.backup), before.get(pod.uid)
        is_still = known is not None and known.progress == progress
        after[pod.uid] = known if known is not None and is_still else CopyProgress(progress, now)
    return after


def _measure_progress(pod: PodFacts, backup: BackupProgress | None) -> tuple[str, int]:
    return (backup.phase, backup.streamed_bytes) if backup is not None else ("", pod.seed.restarts)


def _still_seconds(copies: Mapping[str, CopyProgress], pod: PodFacts | None, now: float) -> float:
    """How long a copy has made no progress, as far as this process saw it."""
    known = copies.get(pod.uid) if pod is not None else None
    return now - known.since if known is not None else 0.0


def _idle_seconds(idle_slots: Mapping[str, float], found: MemberFacts, now: float) -> float:
    slot = found.slot
    return 0.0 if slot is None else slot.idle_seconds(now - idle_slots.get(slot.name, now))


def _count_restarts(peaceful: Mapping[str, int], pod: PodFacts | None) -> int:
    """How often the server of a pod ended since it last ran for long enough, as far as this process saw it."""
    return 0 if pod is None else pod.server.restarts - peaceful.get(pod.uid, 0)


def _count_peaceful(before: Mapping[str, int], pod: PodFacts, now: datetime) -> int:
    """Restarts that no longer count, among them all from before the first pass."""
    server = pod.server
    is_in_peace = pod.is_ready and server.started_at is not None and now - server.started_at >= timeouts.PEACE
    return server.restarts if is_in_peace else before.get(pod.uid, server.restarts)
