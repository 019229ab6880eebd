"""Where jobs wait: in one line for a worker, or behind another job with the same key."""

from bisect import bisect_left
from collections import deque
from dataclasses import dataclass, field

from headroom.simulation.load import Job

SPENT_ENTRIES = 50_000
"""Entries before the head that are kept until they are worth the time to delete them."""


@dataclass(slots=True)
class Line:
    """Claimable jobs in the order in which they became so; `stuck` are jobs that no worker can take.

    To a probe the latter look like the others: they are in the backlog and have an age.
    """

    stuck: list[Job] = field(default_factory=list)
    _jobs: list[Job] = field(default_factory=list)
    _since: list[float] = field(default_factory=list)
    _head: int = 0

    def __len__(self) -> int:
        return len(self._jobs) - self._head + len(self.stuck)

    @property
    def first(self) -> tuple[Job, float] | None:
        """The job that is next, and since when it waits."""
        return (self._jobs[self._head], self._since[self._head]) if self._head < len(self._jobs) else None

    def list_oldest(self, count: int) -> list[tuple[Job, float]]:
        """The oldest jobs with since when they wait, whether or not they can be taken; oldest first."""
        end = self._head + count
        waiting = list(zip(self._jobs[self._head : end], self._since[self._head : end], strict=True))
        if not self.stuck:
            return waiting
        return sorted([*waiting, *((job, job.ready_at) for job in self.stuck)], key=lambda entry: entry[1])[:count]

    def oldest_since(self, now: float) -> float:
        """Since when the oldest job waits; `now` without one."""
        since = now if self.first is None else self.first[1]
        return min(since, self.stuck[0].ready_at) if self.stuck else since

    def count_before(self, moment: float) -> int:
        """Jobs that have waited since before a moment."""
        stuck = sum(job.ready_at < moment for job in self.stuck)
        return bisect_left(self._since, moment, self._head) - self._head + stuck

    def append(self, job: Job, now: float) -> None:
        """Let a job wait from now on."""
        self._jobs.append(job)
        self._since.append(now)

    def pop(self) -> tuple[Job, float]:
        """Take the next job, with since when it has waited."""
        entry = self._jobs[self._head], self._since[self._head]
        self._head += 1
        if self._head > SPENT_ENTRIES:
            del self._jobs[: self._head], self._since[: self._head]
            self._head = 0
        return entry


@dataclass(slots=True)
class KeyGate:
    """Lets one job of each key through at a time; the next one follows when that has ended."""

    barred: int = 0
    _held: set[int] = field(default_factory=set)
    _waiting: dict[int, deque[Job]] = field(default_factory=dict)

    def take(self, job: Job) -> bool:
        """True when a job may continue; else it waits behind the job that has its key."""
        if job.key is None:
            return True
        if job.key in self._held:
            self._waiting.setdefault(job.key, deque()).append(job)
            self.barred += 1
            return False
        self._held.add(job.key)
        return True

    def give_back(self, job: Job) -> Job | None:
        """Give back the key of a job that has ended; returns the job that takes it over."""
        if job.key is None:
            return None
        waiting = self._waiting.get(job.key)
        if waiting:
            self.barred -= 1
            return waiting.popleft()
        self._held.discard(job.key)
        return None
