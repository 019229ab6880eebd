"""What the effectiveness gate remembers: the verified count, two windows, and the freeze while growth is stopped."""

import math
from dataclasses import dataclass, replace
from enum import StrEnum

from headroom.model.waits import WaitSample
from headroom.policy.workerpool.constants import BASE_MAX_AGE_SECONDS, LINEAR_SIGMAS
from headroom.policy.workerpool.gain import Gain
from headroom.policy.workerpool.gain_constants import (
    DRIFT_FREE_SECONDS,
    DRIFT_PER_MINUTE,
    TRIAL_FIRST_SECONDS,
)
from headroom.policy.workerpool.gain_window import NOWHERE, DatabaseLoad, GainWindow
from headroom.policy.workerpool.wait_tally import NOTHING_SEEN, WaitTally

MANY = 1_000_000
"""More workers than any pool has."""


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
    SERVICE_SLOWED = "ServiceSlowed"
    NOT_NEEDED = "NotNeeded"
    NOT_MEASURED = "NotMeasured"


@dataclass(frozen=True, slots=True, kw_only=True)
class GainFacts:
    """What one pass shows of the gain: counts of workers, and the interval since the last sample.

    `seconds` is 0 without an interval, `ended` None where the queue does not tell. Saturated is: work for every slot at
    both ends; then `busy_seconds` are slot-seconds with an item in flight. `service_rate` is what a busy slot was
    measured to do, None before. `is_updating` is true while a new pod template is being rolled out, `wanted` what the
    queue asked for last, `most` what the spec allows now. `backlog_growth` is in items per second, None: not known yet.
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
    most: int = MANY
    backlog_growth: float | None = None


@dataclass(frozen=True, slots=True)
class GainRules:
    """What a spec asks for: the least marginal gain of a worker, the longest pause between two tries, the deadline."""

    least_gain: float = 0.1
    retry_after_seconds: float = 900.0
    drain_within_seconds: float = 300.0


@dataclass(frozen=True, slots=True)
class Freeze:
    """Growth is stopped: `more_workers` did `more_rate` per second, hardly above the `fewer_rate` of `fewer_workers`.

    `workers` is the count that is held. More are tried at `retry_at`, and after a failed try `pause_seconds` later,
    which doubles. `fewer` and `more` are the windows of the verdict; a new process has none. `wait` is the fingerprint
    of the waiting sessions. `reference_workers` are those that `held_rate` (what they did) and `wait_share` (how many
    of them wait, None where it says nothing) were measured at. `phase_since` is when the phase began. With `is_trial`
    nothing is proven yet: there was no window at fewer workers, and the step back is to make one. A try goes from
    `tried_from` to `tried` workers. `unneeded_since` is since when the freeze holds nobody back, `quiet_since` since
    when the queue has spare workers as well.
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
    reference_workers: int = 0
    held_rate: float | None = None
    fewer: GainWindow | None = None
    more: GainWindow | None = None
    tried_from: int = 0
    tried: int = 0
    unneeded_since: float | None = None
    quiet_since: float | None = None

    @property
    def allowed(self) -> int:
        """Workers at most in this phase."""
        return max(self.tried, self.workers) if self.phase is Phase.RETRYING else self.workers

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
class BacklogStep:
    """By how many items per second the backlog grew beside so many workers; `since` is when that was measured."""

    workers: int
    growth: float
    since: float


@dataclass(frozen=True, slots=True)
class GainMemory:
    """The gate's memory of one pod template; an empty one limits nothing. Times are monotonic seconds.

    `jobs` ended under the `template`, the first by `first_ready` workers. `reach` is the largest verified count, in
    workers that are not held up by each other; `gained` the last count that a verdict of Gain was about. `free_rate` is
    the best rate of one slot, which counts as verified once it comes from `free_jobs` >= 100 jobs; it was measured at
    `free_workers` (0: by an earlier process, or before a window was there). `ready` workers are ready since
    `ready_since`. `window` is the one under way, `base` the one at a smaller count that it is compared with. `pending`
    is the gain as far as it is known. `counts_nothing` says that the queue does not tell what ends; then the backlog of
    `backlog_step` tells it. `above_since` is since when more workers than `reach` are ready. `is_slowed`: jobs became
    slower at a steady count, how much is not known yet. `verdicts` counts verdicts. `free_at` is when the free rate was
    last seen. `updating_since` is since when pods of two templates run; what `is_inherited` was measured of the earlier
    one. Fewer workers are not tried again before `trial_at`, `trial_pause_seconds` after the last time; `wary_until` no
    verdict counts without a wait for a lock, because of the `mistakes` before. `assumed_from` is the reach before
    time alone made it larger, `locked_at` when sessions were last known to wait for locks.
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
    waits: WaitTally = NOTHING_SEEN
    verified: Verified | None = None
    pending: Gain | None = None
    freeze: Freeze | None = None
    lifted: Lift | None = None
    counts_nothing: bool = False
    above_since: float | None = None
    is_slowed: bool = False
    verdicts: int = 0
    free_at: float = math.inf
    updating_since: float | None = None
    is_inherited: bool = False
    trial_at: float = -math.inf
    trial_pause_seconds: float = TRIAL_FIRST_SECONDS
    wary_until: float = -math.inf
    mistakes: int = 0
    backlog_step: BacklogStep | None = None
    assumed_from: int | None = None
    locked_at: float = -math.inf

    @property
    def is_measuring(self) -> bool:
        """True while a window at more workers is compared with one at fewer."""
        return self.base is not None and self.window is not None

    def forget_slots(self) -> "GainMemory":
        """The memory without windows and rates, because a worker was found to have another number of slots."""
        return replace(self, window=None, base=None, pending=None, free_rate=None, free_jobs=0.0, free_workers=0)

    @property
    def known_reach(self) -> int:
        """The largest count whose slots were found not to hold each other up; time alone does not show that."""
        return self.reach if self.assumed_from is None else min(self.reach, self.assumed_from)

    def believe_rate(self, now: float) -> float | None:
        """The free rate as a limit may use it: an old one may have fallen, unless a lock explains that."""
        if self.free_rate is None or now - self.locked_at < BASE_MAX_AGE_SECONDS:
            return self.free_rate
        minutes = max(0.0, now - self.free_at - DRIFT_FREE_SECONDS) / 60
        rate = self.free_rate * math.exp(-LINEAR_SIGMAS * DRIFT_PER_MINUTE * minutes)
        present = 0.0 if self.window is None or not self.window.is_counted else self.window.slot_rate
        return min(self.free_rate, max(rate, present))

    def count_useful(self, window: GainWindow) -> int:
        """How many workers that nothing holds up do as much as those of a window; all of them without a free rate."""
        if not self.free_rate:
            return window.workers
        return max(1, min(window.workers, round(window.workers * window.slot_rate / self.free_rate)))
