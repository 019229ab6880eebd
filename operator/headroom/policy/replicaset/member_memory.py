"""What a row of passes shows of one member and its pod: values, and each pass returns the next one.

A new process begins to count again, so that it gives nothing up sooner than an old one would have. All times are
monotonic seconds unless named.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime

from headroom.api.v1alpha1.serving import Readiness
from headroom.model.database import BackupProgress, Mark, ReplicaProbe
from headroom.model.replica import PodFacts
from headroom.model.timelines import find_position
from headroom.policy.replicaset import timeouts
from headroom.policy.replicaset.facts import Answer, MemberFacts, Reading, Silence
from headroom.policy.replicaset.replay_lag import (
    LagUnknown,
    LagVerdict,
    NotEligible,
    ReplayLag,
    find_ineligibility,
    is_beyond,
    is_bounded,
    is_within,
    measure_replay_lag,
)
from headroom.reasons import Reason


@dataclass(frozen=True, slots=True)
class ReadingHistory:
    """What the probes of one pod show. `lag` is this pass's verdict, None without an answer. `chain` is the last
    measured lag, on which the next measurement builds, and `chain_at` its time. `judged` is the last verdict that is
    neither an unknown lag nor one that may be more. `stale` is the last reading beyond the leave bound, and `beyond`
    counts them, until one within it refutes them. `cut_since`: since when the answers show no stream. `lag_before`:
    the lag when the present `refusal` began. `counted` is the number of readings that say something, answers and
    silences alike. `is_full`: the server answers that it has no connection left.
    """

    probe: ReplicaProbe | None = None
    lag: LagVerdict | None = None
    chain: ReplayLag | None = None
    chain_at: float = 0.0
    judged: LagVerdict | None = None
    judged_at: float | None = None
    cut_since: float | None = None
    answered_at: float | None = None
    unanswered: int = 0
    silence: str = ""
    silence_counted_at: float = 0.0
    is_full: bool = False
    within: int = 0
    beyond: int = 0
    stale: ReplayLag | None = None
    stale_at: float = 0.0
    refusal: Reason | None = None
    refused_since: float = 0.0
    lag_before: float = 0.0
    counted: int = 0

    def inherit(self, lag: ReplayLag | None, now: float) -> "ReadingHistory":
        """Begin with the last lag that another process knew: a position not replayed then may still not be replayed."""
        if lag is None:
            return self
        is_known = is_bounded(lag)
        return replace(
            self, chain=lag, chain_at=now, judged=lag if is_known else None, judged_at=now if is_known else None
        )

    def observe(
        self, reading: Reading | None, marks: tuple[Mark, ...], bounds: Readiness, now: float
    ) -> "ReadingHistory":
        """Record the reading of one pass; `marks` are the primary's newest positions, none while it is silent."""
        if reading is None:
            return self
        if isinstance(reading, Silence):
            if reading.late is not None and _is_lasting(reading.late, marks):
                return self._observe_answer(Answer(reading.late), marks, bounds, now)
            return self._observe_silence(reading, now)
        return self._observe_answer(reading, marks, bounds, now)

    def _observe_answer(
        self, reading: Answer, marks: tuple[Mark, ...], bounds: Readiness, now: float
    ) -> "ReadingHistory":
        lag = measure_replay_lag(marks, reading.probe, now, previous=self.chain)
        refusal = lag.reason if isinstance(lag, NotEligible) else None
        is_judged = isinstance(lag, NotEligible) or is_bounded(lag)
        return replace(
            self._observe_age(lag, bounds, now),
            probe=reading.probe,
            lag=lag,
            # A moment without a stream, or without the primary, does not make the data younger.
            chain=lag if isinstance(lag, ReplayLag) else self.chain,
            chain_at=now if isinstance(lag, ReplayLag) else self.chain_at,
            judged=lag if is_judged else self.judged,
            judged_at=now if is_judged else self.judged_at,
            cut_since=None if reading.probe.is_streaming else self.cut_since if self.cut_since is not None else now,
            answered_at=now,
            unanswered=0,
            silence="",
            is_full=False,
            within=self.within + 1 if is_within(lag, bounds) else 0,
            refusal=refusal,
            refused_since=self.refused_since if refusal is self.refusal else now,
            lag_before=self._find_lag_before(refusal, now),
            counted=self.counted + 1,
        )

    def _find_lag_before(self, refusal: Reason | None, now: float) -> float:
        """How old the data already were when the present refusal began; a refusal of before has aged them as well."""
        if refusal is None or refusal is self.refusal:
            return self.lag_before if refusal is not None else 0.0
        if self.refusal is not None:
            return self.lag_before + now - self.refused_since
        return self.chain.seconds if self.chain is not None else 0.0

    def _observe_age(self, lag: LagVerdict, bounds: Readiness, now: float) -> "ReadingHistory":
        """Only a known lag within the bound refutes a reading beyond it: no silence, and no lag that may be more."""
        if isinstance(lag, ReplayLag) and is_beyond(lag, bounds):
            return replace(self, beyond=self.beyond + 1, stale=lag, stale_at=now)
        return replace(self, beyond=0, stale=None) if is_bounded(lag) else self

    def _observe_silence(self, silence: Silence, now: float) -> "ReadingHistory":
        """Count at most one unanswered probe a second, however fast passes follow each other.

        A late answer is not a reading, and neither is one that no connection is left. But the member lives: of the
        probes in a row that got no answer only this one is left. If our own loop was late, nothing is counted in either
        direction.
        """
        # A probe that still waits says nothing new.
        is_full = silence.reason is Reason.NO_CONNECTION_LEFT if silence.message else self.is_full
        alive_at = now if silence.reason is Reason.NO_CONNECTION_LEFT else None
        if silence.late is not None:
            is_full, alive_at = False, silence.late.answered_at
        after = replace(self, within=0, lag=None, silence=silence.message or self.silence, is_full=is_full)
        if alive_at is not None:
            after = replace(after, unanswered=min(self.unanswered, 1), answered_at=alive_at)
        is_counted_already = self.unanswered > 0 and now - self.silence_counted_at < timeouts.SILENCE_STEP_SECONDS
        if silence.is_excused or is_counted_already:
            return after
        unanswered = 1 if alive_at is not None else self.unanswered + 1
        return replace(after, unanswered=unanswered, silence_counted_at=now, counted=self.counted + 1)


def _is_lasting(probe: ReplicaProbe, marks: tuple[Mark, ...]) -> bool:
    """That a server was promoted, or is another one, is as true now as when it was asked, however late that comes."""
    unfit = find_ineligibility(probe, marks[-1].system_identifier, marks[-1].timeline) if marks else None
    return unfit is not None and unfit.reason in (Reason.FOREIGN_MEMBER, Reason.MEMBER_PROMOTED)


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

    def judged_seconds(self, now: float) -> float:
        """How long ago the lag was known, or why there is none; if never, how long it has been asked."""
        return now - (self.readings.judged_at if self.readings.judged_at is not None else self.seen_since)

    def unmeasured_seconds(self, now: float) -> float:
        """How long ago its lag was last measured; 0 if it never was."""
        return now - self.readings.chain_at if self.readings.chain is not None else 0.0

    def stale_seconds(self, now: float) -> float:
        """How long ago the last reading beyond the leave bound was, while no other refutes it."""
        return now - self.readings.stale_at if self.readings.stale is not None else 0.0

    def cut_seconds(self, now: float) -> float:
        """How long its answers have shown no stream."""
        return now - self.readings.cut_since if self.readings.cut_since is not None else 0.0

    def refused_seconds(self, now: float) -> float:
        """How long it has been ineligible for the same reason."""
        return now - self.readings.refused_since if self.readings.refusal is not None else 0.0


@dataclass(frozen=True, slots=True)
class CopyProgress:
    """How far a copy was, and since when it has made no progress."""

    progress: tuple[str, int]
    since: float


def observe_copies(
    before: Mapping[str, CopyProgress], found: Iterable[MemberFacts], now: float
) -> dict[str, CopyProgress]:
    """The copies under way, by uid of the pod, as one pass found them."""
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


def still_seconds(copies: Mapping[str, CopyProgress], pod: PodFacts | None, now: float) -> float:
    """How long a copy has made no progress, as far as this process saw it."""
    known = copies.get(pod.uid) if pod is not None else None
    return now - known.since if known is not None else 0.0


def idle_seconds(idle_slots: Mapping[str, float], found: MemberFacts, now: float) -> float:
    """How long nobody has used a member's slot, by the server or else as far as this process saw it."""
    slot = found.slot
    return 0.0 if slot is None else slot.idle_seconds(now - idle_slots.get(slot.name, now))


def count_restarts(peaceful: Mapping[str, int], pod: PodFacts | None) -> int:
    """How often the server of a pod ended since it last ran for long enough, as far as this process saw it."""
    return 0 if pod is None else pod.server.restarts - peaceful.get(pod.uid, 0)


def count_peaceful(before: Mapping[str, int], pod: PodFacts, now: datetime) -> int:
    """Restarts that no longer count, among them all from before the first pass."""
    server = pod.server
    is_in_peace = pod.is_ready and server.started_at is not None and now - server.started_at >= timeouts.PEACE
    return server.restarts if is_in_peace else before.get(pod.uid, server.restarts)
