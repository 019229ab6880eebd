"""The canary's rounds: marks for replay lag, and how long commits take, sampled over disjoint spans of time."""

from dataclasses import dataclass, replace

from headroom.model.database import Mark

SAMPLE_SECONDS = 5.0
"""A sample is the worst commit of this long a span."""
MARKS_KEPT_SECONDS = 120.0
MARKS_KEPT = 600


@dataclass(frozen=True, slots=True)
class CommitSample:
    """The worst commit of one span; `ended_at` is monotonic, `seconds` None when no round counted."""

    ended_at: float
    seconds: float | None


@dataclass(frozen=True, slots=True)
class CanaryWindow:
    """What is known of the canary, as a value: each method returns the next one. All times are monotonic seconds.

    `pending_since` is when the round that is not answered yet was begun. `worst` is of the span that began at
    `span_began_at` and is still open; `samples` are of closed ones, oldest first.
    """

    span_began_at: float
    marks: tuple[Mark, ...] = ()
    pending_since: float | None = None
    worst: float | None = None
    samples: tuple[CommitSample, ...] = ()
    last_commit_seconds: float | None = None

    def begin(self, now: float) -> "CanaryWindow":
        """A round is sent."""
        return replace(self, pending_since=now)

    def answer(self, mark: Mark, *, is_void: bool) -> "CanaryWindow":
        """A round is answered; a void one (our own loop was late) counts as a mark, not as a commit's duration."""
        kept = [old for old in self.marks[-MARKS_KEPT + 1 :] if mark.taken_at - old.taken_at <= MARKS_KEPT_SECONDS]
        after = replace(self, marks=(*kept, mark), pending_since=None)
        if is_void or mark.commit_seconds is None:
            return after
        worst = max(mark.commit_seconds, self.worst or 0.0)
        return replace(after, last_commit_seconds=mark.commit_seconds, worst=worst)

    def fail(self, now: float) -> "CanaryWindow":
        """A round ended without an answer: it counts at its age."""
        age = self.pending_age(now)
        return self if age is None else replace(self, pending_since=None, worst=max(age, self.worst or 0.0))

    def drop(self) -> "CanaryWindow":
        """A round could not be sent or was given up by us: it says nothing about commits."""
        return replace(self, pending_since=None)

    def pending_age(self, now: float) -> float | None:
        """How long the open round has waited, or None."""
        return None if self.pending_since is None else max(0.0, now - self.pending_since)

    def worst_now(self, now: float) -> float | None:
        """The worst commit that is known at this moment: of the last closed span, the open one, or still waiting."""
        last = self.samples[-1].seconds if self.samples else None
        return max((value for value in (last, self.worst, self.pending_age(now)) if value is not None), default=None)

    def close_span(self, now: float, *, keep: int = 3) -> "CanaryWindow":
        """Turn a span that is over into a sample; a round that still waits counts at its age."""
        if now - self.span_began_at < SAMPLE_SECONDS:
            return self
        seconds = max((value for value in (self.worst, self.pending_age(now)) if value is not None), default=None)
        samples = (*self.samples, CommitSample(now, seconds))[-keep:]
        return replace(self, span_began_at=now, worst=None, samples=samples)
