"""What a row of passes shows of one member and its pod: values, and each pass returns the next one.

A new process begins to count again, so that it gives nothing up sooner than an old one would have. All times are
monotonic seconds unless named.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime

from headroom.api.v1alpha1.serving import Readiness
from headroom.model.database import Mark, ReplicaProbe
from headroom.model.replica import PodFacts
from headroom.policy.replicaset import timeouts
from headroom.policy.replicaset.durations import Stopwatch, begin
from headroom.policy.replicaset.facts import Answer, Reading, Silence
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
from headroom.policy.replicaset.stream_loss import StreamHistory
from headroom.reasons import Reason


@dataclass(frozen=True, slots=True)
class Inherited:
    """What another process left of a member: the last `lag` and `sessions` that it knew, and why and since when it was
    refused. No moment in it is later than now.
    """

    lag: ReplayLag | None = None
    refusal: NotEligible | None = None
    since: float = 0.0
    sessions: int | None = None

    def find_measured(self, now: float) -> tuple[ReplayLag, float] | None:
        """The lag and its time: one that was refused had it when that began, or none at all if nothing says so."""
        lag, pending = self.lag, self.lag.pending if self.lag is not None else None
        if self.refusal is not None:
            before = lag.seconds if lag is not None else 0.0
            seconds = max(self.since - pending.taken_at, 0.0) if pending is not None else before
            return replace(lag or ReplayLag(0.0, 0), seconds=seconds), self.since
        if lag is None:
            return None
        return lag, now if pending is None else min(pending.taken_at + lag.seconds, now)


@dataclass(frozen=True, slots=True)
class ReadingHistory:
    """What the probes of one pod show. `lag` is this pass's verdict, None without an answer. `chain` is the last
    measured lag, on which the next measurement builds, and `chain_at` its time. `judged` is the last verdict that is
    neither an unknown lag nor one that may be more. `stale` is the last reading beyond the leave bound, and `beyond`
    counts them, until one within it refutes them. `cut_since`: since when the answers show no stream. `refused` is how
    long it has been ineligible for the reason `refusal`, and `age` how old its data may be: only a measured lag ends
    them, and a pass without the primary pauses both. `counted` is the number of readings that say something, answers
    and silences alike. `is_full`: the server answers that it has no connection left. `inherited_sessions` are those
    that another process counted.
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
    refused: Stopwatch = field(default_factory=Stopwatch)
    age: Stopwatch = field(default_factory=Stopwatch)
    counted: int = 0
    inherited_sessions: int | None = None

    def inherit(self, left: Inherited, now: float) -> "ReadingHistory":
        """Begin where another process ended: a position not replayed then may still not be replayed, and without a
        stream the data have aged.
        """
        measured, refusal = left.find_measured(now), left.refusal
        after = replace(self, inherited_sessions=left.sessions)
        if measured is None:
            return after
        lag, at = measured
        judged = refusal or (lag if is_bounded(lag) else None)
        # What a condition dates is the loss of the stream; another reason may have come later.
        is_dated = refusal is not None and refusal.reason is Reason.NOT_STREAMING
        return replace(
            after,
            chain=lag,
            chain_at=at,
            judged=judged,
            judged_at=now if judged is not None else None,
            refusal=Reason.NOT_STREAMING if is_dated else None,
            refused=begin(now, now - left.since) if is_dated else Stopwatch(),
            age=begin(now, lag.seconds + now - at),
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

    def pause(self, now: float) -> "ReadingHistory":
        """A pass in which nothing is known of the primary: it neither ends what is counted nor adds to it."""
        return replace(self, refused=self.refused.pause(now), age=self.age.pause(now))

    def _observe_answer(
        self, reading: Answer, marks: tuple[Mark, ...], bounds: Readiness, now: float
    ) -> "ReadingHistory":
        lag = measure_replay_lag(marks, reading.probe, now, previous=self.chain)
        is_judged = isinstance(lag, NotEligible) or is_bounded(lag)
        return replace(
            self._observe_lag(lag, bounds, now),
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
            counted=self.counted + 1,
        )

    def _observe_verdict(self, lag: LagVerdict, now: float) -> "ReadingHistory":
        """Count the age of the data and the refusal; a lag that may be more makes the data no younger.

        The promise is the bound and one probe: the time since the last lag was measured is that probe.
        """
        if isinstance(lag, LagUnknown):
            return self.pause(now)
        age = begin(now, self.age.counted) if is_bounded(self.lag) else self.age.run(now)
        if isinstance(lag, NotEligible):
            refused = self.refused.run(now) if lag.reason is self.refusal else begin(now)
            return replace(self, refusal=lag.reason, refused=refused, age=age)
        if lag.is_bounded or lag.seconds > age.counted:
            age = begin(now, lag.seconds)
        return replace(self, refusal=None, refused=Stopwatch(), age=age)

    def _observe_lag(self, lag: LagVerdict, bounds: Readiness, now: float) -> "ReadingHistory":
        """Only a known lag within the bound refutes a reading beyond it: no silence, and no lag that may be more."""
        after = self._observe_verdict(lag, now)
        if isinstance(lag, ReplayLag) and is_beyond(lag, bounds):
            return replace(after, beyond=self.beyond + 1, stale=lag, stale_at=now)
        return replace(after, beyond=0, stale=None) if is_bounded(lag) else after

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
        silent = silence.message or self.silence
        after = replace(self, within=0, lag=None, silence=silent, is_full=is_full)
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
class MemberMemory:
    """One pod of a member, as this process saw it."""

    pod_uid: str
    seen_since: float
    readings: ReadingHistory = ReadingHistory()
    stream: StreamHistory = field(default_factory=StreamHistory)

    def observe(
        self, reading: Reading | None, marks: tuple[Mark, ...], bounds: Readiness, now: float
    ) -> "MemberMemory":
        """Take up one pass."""
        before = self.readings if marks else self.readings.pause(now)
        readings = before.observe(reading, marks, bounds, now)
        lag = readings.lag if reading is not None else None
        return replace(self, readings=readings, stream=self.stream.observe(readings.probe, lag, now))

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
        return self.readings.refused.seconds(now)


def count_restarts(peaceful: Mapping[str, int], pod: PodFacts | None) -> int:
    """How often the server of a pod ended since it last ran for long enough, as far as this process saw it."""
    return 0 if pod is None else pod.server.restarts - peaceful.get(pod.uid, 0)


def count_peaceful(before: Mapping[str, int], pod: PodFacts, now: datetime) -> int:
    """Restarts that no longer count, among them all from before the first pass."""
    server = pod.server
    is_in_peace = pod.is_ready and server.started_at is not None and now - server.started_at >= timeouts.PEACE
    return server.restarts if is_in_peace else before.get(pod.uid, server.restarts)
