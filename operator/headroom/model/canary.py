"""The canary's rounds: marks for replay lag, and how long commits took."""

from dataclasses import dataclass, replace
from statistics import median

from headroom.model.database import Mark

KEPT_SECONDS = 120.0
KEPT = 600


@dataclass(frozen=True, slots=True)
class CommitTime:
    """How long one commit took, or the age at which it was given up; `ended_at` is monotonic seconds."""

    ended_at: float
    seconds: float


@dataclass(frozen=True, slots=True)
class CanaryWindow:
    """What is known of the canary, as a value: each method returns the next one. All times are monotonic seconds.

    `pending_since` is when the unanswered round began. Marks and commits are the newest ones, oldest first.
    """

    marks: tuple[Mark, ...] = ()
    commits: tuple[CommitTime, ...] = ()
    pending_since: float | None = None

    def begin(self, now: float) -> "CanaryWindow":
        """A round is sent."""
        return replace(self, pending_since=now)

    def answer(self, mark: Mark, *, is_void: bool) -> "CanaryWindow":
        """A round is answered; a void one (our own loop was late) counts as a mark, not as a commit's duration."""
        kept = tuple(old for old in self.marks[1 - KEPT :] if mark.taken_at - old.taken_at <= KEPT_SECONDS)
        after = replace(self, marks=(*kept, mark), pending_since=None)
        if is_void or mark.commit_seconds is None:
            return after
        return _add_commit(after, CommitTime(mark.taken_at, mark.commit_seconds))

    def fail(self, now: float) -> "CanaryWindow":
        """A round ended without an answer: it counts at its age."""
        age = self.pending_age(now)
        return self if age is None else _add_commit(self.drop(), CommitTime(now, age))

    def drop(self) -> "CanaryWindow":
        """A round could not be sent, or we gave it up: it says nothing about commits."""
        return replace(self, pending_since=None)

    def pending_age(self, now: float) -> float | None:
        """How long the open round has waited, or None."""
        return None if self.pending_since is None else max(0.0, now - self.pending_since)

    def typical_since(self, since: float) -> float | None:
        """The median of the commits that ended after `since`; None when there is none."""
        found = [commit.seconds for commit in self.commits if commit.ended_at > since]
        return median(found) if found else None

    def worst_since(self, since: float, now: float) -> float | None:
        """The worst commit that ended after `since`, or that still waits; None when there is none."""
        found = [commit.seconds for commit in self.commits if commit.ended_at > since]
        pending = self.pending_age(now)
        return max(found if pending is None else [*found, pending], default=None)


def _add_commit(window: CanaryWindow, commit: CommitTime) -> CanaryWindow:
    kept = tuple(old for old in window.commits[1 - KEPT :] if commit.ended_at - old.ended_at <= KEPT_SECONDS)
    return replace(window, commits=(*kept, commit))
