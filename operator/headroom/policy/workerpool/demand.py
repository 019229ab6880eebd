"""What the formulas of `wanted` read of one pass: the queue, its rates, and the workers there are."""

import math
from dataclasses import dataclass

from headroom.policy.workerpool.constants import PROBE_SECONDS


@dataclass(frozen=True, slots=True)
class VerifiedCount:
    """The last verified count of workers: n_v, its throughput X_v per second when saturated, its marginal gain eta."""

    workers: int
    throughput: float | None = None
    gain: float = 1.0


@dataclass(frozen=True, slots=True)
class Demand:
    """All that the formulas read; rates per second, times in seconds.

    `arrivals` None is not known: the result is a lower bound until the queue `is_watched` for as long as a rate takes.
    `arrivals_age` is how long ago they were at that rate, `arrivals_long` their rate over a time that does not follow
    every move. `late_for` is how long lag has been above its target. `capacity_workers` are ready or will be in time.
    `batch` is how many of the backlog came at one moment, a moment ago. `in_flight` None is not known; `recent_jobs`
    are the most that were in flight or waited in the last minute. `has_idle_slots`: slots have been idle beside the
    backlog for a minute.

    Only while a rate is not known do these matter: `present` is the count asked for now, `since_start_seconds` when we
    last asked for more, `slots` those of the running workers. `is_calm`: hardly anything has waited for a whole window.
    `backlog_growth` is per second.
    """

    lag_seconds: float
    backlog: int
    late: int
    in_flight: int | None
    due_soon: int
    arrivals: float | None
    arrivals_age_seconds: float
    arrivals_growth: float
    service_rate: float | None
    late_for_seconds: float
    capacity_workers: int
    lead_time_seconds: float
    target_lag_seconds: float
    drain_within_seconds: float
    concurrency: int
    present: int
    since_start_seconds: float = math.inf
    slots: int = 0
    ready_workers: int = 0
    is_calm: bool = False
    is_watched: bool = False
    backlog_growth: float = 0.0
    arrivals_cv_squared: float = 1.0
    arrivals_long: float | None = None
    batch: int = 0
    recent_jobs: int = 0
    has_idle_slots: bool = False
    verified: VerifiedCount | None = None

    @property
    def is_late(self) -> bool:
        """Lag is above its target."""
        return self.lag_seconds > self.target_lag_seconds

    @property
    def is_urgent(self) -> bool:
        """The oldest item would be late before a worker that is asked for now could take it."""
        target = self.target_lag_seconds
        return self.lag_seconds > max(target / 2, target - self.lead_time_seconds - PROBE_SECONDS)

    @property
    def is_lower_bound(self) -> bool:
        """Arrivals are not known yet."""
        return self.arrivals is None and not self.is_watched
