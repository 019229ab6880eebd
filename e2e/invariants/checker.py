"""Runs the rules over one observation after the other, and says what was violated, since when, and on what evidence."""

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

from e2e.invariants import anchors, rules, serving, traffic
from e2e.invariants.facts import Observation
from e2e.invariants.suspicion import SHARE, SHARE_SECONDS, Invariant, Rule, Suspicion
from e2e.invariants.tracks import BLIP_SECONDS, Tracks

RULES: tuple[Rule, ...] = (
    serving.serving_is_fit,
    rules.enough_serve,
    rules.one_pod_each,
    rules.slots_are_members,
    anchors.anchors_are_snapshots,
    rules.wal_within_cap,
    rules.never_synchronous,
    rules.checker_sees,
    traffic.no_stale_connection,
    traffic.no_session_kept,
    traffic.no_query_cut,
)
MOST_VIOLATIONS = 50
KEPT_EVIDENCE = 6
LONGEST_STEP = 2.0
"""Of a longer time between two observations no more counts as seen."""
Subject = tuple[Invariant, str, str]


@dataclass(frozen=True, slots=True)
class Violation:
    """An invariant that did not hold for a subject. Times are epoch seconds; `evidence` has the newest last."""

    invariant: Invariant
    subject: str
    began: float
    found: float
    evidence: tuple[str, ...]
    times: int = 1

    def describe(self) -> str:
        """A paragraph for a person."""
        lines = [f"{self.invariant}: {self.subject}, from {_clock(self.began)}, seen {self.times} times"]
        return "\n".join([*lines, *(f"    {line}" for line in self.evidence)])


@dataclass(slots=True)
class _Open:
    """A suspicion that lasts."""

    began: float
    wall: float
    suspicion: Suspicion
    seen_at: float
    evidence: deque[str] = field(default_factory=lambda: deque(maxlen=KEPT_EVIDENCE))

    def is_paused(self, now: Observation) -> bool:
        """It is hidden for a short while; after a longer one it begins anew."""
        return self.suspicion.is_hidden(now) and now.at - self.seen_at <= BLIP_SECONDS


@dataclass(slots=True)
class _Seen:
    """For how much of the last minute a suspicion was seen that comes and goes: steps in seconds, and their ends."""

    began: float
    steps: deque[tuple[float, float]] = field(default_factory=deque)

    def seconds(self, at: float) -> float:
        """Within the last minute."""
        while self.steps and self.steps[0][0] <= at - SHARE_SECONDS:
            self.steps.popleft()
        return sum(step for _, step in self.steps)


@dataclass(slots=True)
class Checker:
    """Takes observations in the order of their times; keeps a bounded history."""

    tracks: Tracks = field(default_factory=Tracks)
    _open: dict[Subject, _Open] = field(default_factory=dict)
    _seen: dict[Subject, _Seen] = field(default_factory=dict)
    _found: dict[Subject, Violation] = field(default_factory=dict)
    _last_at: float | None = None

    @property
    def violations(self) -> tuple[Violation, ...]:
        """All so far, in the order in which they were found."""
        return tuple(self._found.values())

    @property
    def pending(self) -> frozenset[Invariant]:
        """The invariants of what looks wrong and is not a violation yet."""
        return frozenset(subject[0] for subject in self._open if subject not in self._found)

    def observe(self, now: Observation) -> None:
        """Judge an observation."""
        self.tracks.update(now)
        suspicions = {(one.invariant, one.subject, one.aspect): one for rule in RULES for one in rule(now, self.tracks)}
        self._open = {
            subject: entry for subject, entry in self._open.items() if subject in suspicions or entry.is_paused(now)
        }
        for subject, suspicion in suspicions.items():
            entry = self._open.setdefault(subject, _Open(now.at, now.wall, suspicion, now.at))
            # What could not be seen does not count, nor does the way there and back.
            entry.began += (
                now.at - entry.seen_at if self._last_at is not None and entry.seen_at < self._last_at else 0.0
            )
            entry.seen_at = now.at
            entry.evidence.append(f"{_clock(now.wall)} {suspicion.evidence}")
            if self._is_ripe(suspicion, entry, now.at) or self._is_frequent(subject, suspicion, entry, now):
                self._record(subject, entry, now.wall)
        self._seen = {subject: seen for subject, seen in self._seen.items() if seen.seconds(now.at)}
        self._last_at = now.at

    def _is_ripe(self, suspicion: Suspicion, entry: _Open, at: float) -> bool:
        since = entry.began
        if suspicion.needs_leader:
            since = max(since, self.tracks.settled_at)
        return at - since >= suspicion.grace

    def _is_frequent(self, subject: Subject, suspicion: Suspicion, entry: _Open, now: Observation) -> bool:
        """Whether something that comes and goes was there for half of the last minute."""
        if not suspicion.may_flicker or now.at < self.tracks.settled_at or self._last_at is None:
            return False
        seen = self._seen.setdefault(subject, _Seen(now.wall))
        seen.steps.append((now.at, min(now.at - self._last_at, LONGEST_STEP)))
        seconds = seen.seconds(now.at)
        if seconds < SHARE * SHARE_SECONDS:
            return False
        entry.wall = seen.began
        entry.evidence[-1] += f" (for {seconds:.0f} of the last {SHARE_SECONDS:.0f} s)"
        return True

    def _record(self, subject: Subject, entry: _Open, wall: float) -> None:
        known = self._found.get(subject)
        if known is not None:
            self._found[subject] = replace(known, times=known.times + 1)
        elif len(self._found) < MOST_VIOLATIONS:
            self._found[subject] = Violation(subject[0], subject[1], entry.wall, wall, tuple(entry.evidence))


def describe(violations: Iterable[Violation]) -> str:
    """All of them, as the message of a failed test."""
    return "\n".join(["invariants did not hold:", *(one.describe() for one in violations)])


def _clock(wall: float) -> str:
    return datetime.fromtimestamp(wall, UTC).strftime("%H:%M:%S.%f")[:-4]
