"""What the effectiveness gate remembers: the verified count, two windows, and the freeze while growth is stopped."""

import math
from dataclasses import dataclass, replace
from enum import StrEnum

from headroom.model.waits import LOCK_PREFIX, Blocker, WaitSample
from headroom.policy.workerpool.constants import LOCK_SHARE, WAIT_SAMPLES, WAIT_SAMPLES_KEPT, WAIT_SIGHTINGS
from headroom.policy.workerpool.gain import Gain
from headroom.policy.workerpool.gain_window import NOWHERE, DatabaseLoad, GainWindow


class Phase(StrEnum):
    """Where a freeze is: half of the step is taken back and looked at, then held, then more workers are tried."""

    CONFIRMING = "Confirming"
    HOLDING = "Holding"
    RETRYING = "Retrying"


class Lift(StrEnum):
    """Why growth may continue after a freeze."""

    TEMPLATE = "PodTemplateChanged"
    WAITS = "WaitsHalved"
    THROUGHPUT = "ThroughputRose"
    RETRIED = "RetryGained"
    FEWER_DO_LESS = "FewerDoLess"


@dataclass(frozen=True, slots=True)
class WaitTally:
    """Sightings of busy sessions by wait event, over several samples at one count of workers."""

    events: tuple[tuple[str, float], ...] = ()
    samples: float = 0.0
    blocker: Blocker | None = None

    @property
    def sightings(self) -> float:
        """Busy sessions that were seen."""
        return sum(count for _, count in self.events)

    def add(self, sample: WaitSample) -> "WaitTally":
        """The tally with one more sample; an old one forgets half of itself."""
        factor = 0.5 if self.samples >= WAIT_SAMPLES_KEPT else 1.0
        counts = {name: count * factor for name, count in self.events}
        for name, count in sample.events:
            counts[name] = counts.get(name, 0.0) + count
        return WaitTally(tuple(sorted(counts.items())), self.samples * factor + 1, sample.blocker or self.blocker)

    @property
    def is_known(self) -> bool:
        """True when enough was seen, often enough: sessions that wait for one lock are seen together."""
        return self.samples >= WAIT_SAMPLES and self.sightings >= WAIT_SIGHTINGS

    def share(self, event: str) -> float | None:
        """The share of one event; None while too little was seen."""
        if not self.is_known:
            return None
        return sum(count for name, count in self.events if name == event) / self.sightings

    @property
    def is_lock(self) -> bool:
        """True when sessions wait for locks far more than in a healthy queue."""
        locked = sum(count for name, count in self.events if name.startswith(LOCK_PREFIX))
        return self.sightings > 0 and locked >= LOCK_SHARE * self.sightings

    @property
    def top(self) -> str | None:
        """The event that says most about a throughput that does not rise: a lock if there are many, else the largest.

        A session that waits for its client says nothing about the database.
        """
        told = [(count, name) for name, count in self.events if not name.startswith("Client:")]
        locks = [entry for entry in told if entry[1].startswith(LOCK_PREFIX)]
        return max(locks if self.is_lock else told, default=(0.0, None))[1]


@dataclass(frozen=True, slots=True, kw_only=True)
class GainFacts:
    """What one pass shows of the gain: counts of workers, and the interval since the last sample.

    `seconds` is 0 without an interval, `ended` None where the queue does not tell. Saturated is: work for every slot at
    both ends; then `busy_seconds` are slot-seconds with an item in flight. `service_rate` is what a busy slot was
    measured to do, None before. `is_updating` is true while a new pod template is being rolled out, `wanted` what the
    queue asked for last.
    """

    at: float
    ready: int
    template: str | None = None
    is_updating: bool = False
    database_load: DatabaseLoad = NOWHERE
    are_commits_slow: bool = False
    seconds: float = 0.0
    busy_seconds: float = 0.0
    ended: int | None = None
    failed: int = 0
    is_saturated: bool = False
    service_rate: float | None = None
    waits: WaitSample | None = None
    wanted: int = 0


@dataclass(frozen=True, slots=True)
class GainRules:
    """What a spec asks for: the least marginal gain of a worker, and the longest pause between two tries."""

    least_gain: float = 0.1
    retry_after_seconds: float = 900.0


@dataclass(frozen=True, slots=True)
class Freeze:
    """Growth is stopped: `more_workers` did `more_rate` per second, hardly above the `fewer_rate` of `fewer_workers`.

    `workers` is the count that is held. More are tried at `retry_at`, and after a failed try `pause_seconds` later,
    which doubles. `fewer` and `more` are the windows of the verdict; a new process has none. `wait` is the fingerprint
    of the waiting sessions, and `wait_share` its share at the held count, None where it says nothing; `held_rate` is
    what the held workers did. `phase_since` is when the phase began. With
    `is_trial` nothing is proven yet: there was no window at fewer workers, and the step back is to make one.
    """

    workers: int
    fewer_workers: int
    fewer_rate: float
    more_workers: int
    more_rate: float
    began_at: float
    retry_at: float
    pause_seconds: float
    phase: Phase = Phase.HOLDING
    phase_since: float = -math.inf
    wait: str | None = None
    wait_share: float | None = None
    statement: str | None = None
    is_idle_blocker: bool = False
    is_trial: bool = False
    held_rate: float | None = None
    fewer: GainWindow | None = None
    more: GainWindow | None = None

    @property
    def allowed(self) -> int:
        """Workers at most in this phase."""
        return self.retry_workers if self.phase is Phase.RETRYING else self.workers

    @property
    def retry_workers(self) -> int:
        """What is tried: the count of the verdict again, and never more than one worker above the held count else."""
        return max(self.more_workers, self.workers + 1)

    def enter(self, phase: Phase, now: float) -> "Freeze":
        """The freeze in another phase; the windows are only for the confirmation."""
        kept = phase is Phase.CONFIRMING
        return replace(
            self, phase=phase, phase_since=now, fewer=self.fewer if kept else None, more=self.more if kept else None
        )


@dataclass(frozen=True, slots=True)
class Verified:
    """The last step that gained something: counts, jobs per second, and the gain."""

    fewer_workers: int
    fewer_rate: float
    more_workers: int
    more_rate: float
    gain: Gain


@dataclass(frozen=True, slots=True)
class GainMemory:
    """The gate's memory of one pod template; an empty one limits nothing. Times are monotonic seconds.

    `jobs` ended under the `template`, the first by `first_ready` workers. `reach` is the largest verified count, in
    workers that are not held up by each other; `gained` the last count that a verdict of Gain was about. `free_rate` is
    the best rate of one slot, which counts as verified once it comes from `free_jobs` >= 100 jobs; it was measured at
    `free_workers` (0: by an earlier process, or before a window was there). `ready` workers are ready since
    `ready_since`. `window` is the one under way, `base` the one at a smaller count that it is compared with. `pending`
    is the gain as far as it is known. `counts_nothing` says that the queue does not tell what ends. `above_since` is
    since when more workers than `reach` are ready. `is_slowed`: jobs became slower at a steady count, how much is not
    known yet. `verdicts` counts verdicts.
    """

    template: str | None = None
    jobs: int = 0
    first_ready: int = 0
    reach: int = 0
    gained: int = 0
    free_rate: float | None = None
    free_jobs: float = 0.0
    free_workers: int = 0
    ready: int | None = None
    ready_since: float = -math.inf
    window: GainWindow | None = None
    base: GainWindow | None = None
    waits: WaitTally = WaitTally()
    verified: Verified | None = None
    pending: Gain | None = None
    freeze: Freeze | None = None
    lifted: Lift | None = None
    counts_nothing: bool = False
    above_since: float | None = None
    is_slowed: bool = False
    verdicts: int = 0

    @property
    def is_measuring(self) -> bool:
        """True while a window at more workers is compared with one at fewer."""
        return self.base is not None and self.window is not None

    def count_useful(self, window: GainWindow) -> int:
        """How many workers that nothing holds up do as much as those of a window; all of them without a free rate."""
        if not self.free_rate:
            return window.workers
        return max(1, min(window.workers, round(window.workers * window.slot_rate / self.free_rate)))
