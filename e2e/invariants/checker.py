"""Runs the rules over one observation after the other, and says what was violated, since when, and on what evidence."""

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

from e2e.invariants import rules, traffic
from e2e.invariants.facts import Observation
from e2e.invariants.suspicion import Invariant, Rule, Suspicion
from e2e.invariants.tracks import Tracks

RULES: tuple[Rule, ...] = (
    rules.serving_is_fit,
    rules.enough_serve,
    rules.one_pod_each,
    rules.slots_are_members,
    rules.wal_within_cap,
    rules.never_synchronous,
    rules.checker_sees,
    traffic.no_stale_connection,
    traffic.no_session_kept,
    traffic.no_query_cut,
)
MOST_VIOLATIONS = 50
KEPT_EVIDENCE = 6
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
    evidence: deque[str] = field(default_factory=lambda: deque(maxlen=KEPT_EVIDENCE))


@dataclass(slots=True)
class Checker:
    """Takes observations in the order of their times; keeps a bounded history."""

    tracks: Tracks = field(default_factory=Tracks)
    _open: dict[Subject, _Open] = field(default_factory=dict)
    _found: dict[Subject, Violation] = field(default_factory=dict)

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
        self._open = {subject: entry for subject, entry in self._open.items() if subject in suspicions}
        for subject, suspicion in suspicions.items():
            entry = self._open.setdefault(subject, _Open(now.at, now.wall))
            entry.evidence.append(f"{_clock(now.wall)} {suspicion.evidence}")
            if self._is_ripe(suspicion, entry, now.at):
                self._record(subject, entry, now.wall)

    def _is_ripe(self, suspicion: Suspicion, entry: _Open, at: float) -> bool:
        since = entry.began
        if suspicion.needs_leader:
            since = max(since, self.tracks.settled_at)
        return at - since >= suspicion.grace

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
