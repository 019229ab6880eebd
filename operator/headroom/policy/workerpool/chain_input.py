"""What the chain of limits reads, what each limit answers, and the result."""

from dataclasses import dataclass, field
from enum import StrEnum

from headroom.model.conditions import Finding
from headroom.policy.workerpool.connections import ConnectionCap
from headroom.policy.workerpool.constants import DEADBAND_SHARE, DEADBAND_WORKERS
from headroom.policy.workerpool.demand import Demand
from headroom.policy.workerpool.facts import ScalingLimits
from headroom.policy.workerpool.jobs import JobsInHand
from headroom.policy.workerpool.memory import PoolMemory
from headroom.policy.workerpool.rates import Estimates
from headroom.policy.workerpool.wanted import Wanted
from headroom.reasons import Reason


class Rule(StrEnum):
    """What asked for a count, or what limits it, as status and metrics write it; a limit that holds is its reason."""

    QUEUE = "Queue"
    HOLD = "Hold"
    TARGET_CONFLICT = "TargetConflict"
    STALE_SIGNAL = "StaleSignal"
    MIN_WORKERS = "MinWorkers"
    SCHEDULE = "Schedule"
    MAX_WORKERS = "MaxWorkers"
    STEP = "Step"
    TOLERANCE = "WithinTolerance"
    STABILIZATION = "Stabilizing"
    LATE_BACKLOG = "LagAboveTarget"
    WORK_IN_FLIGHT = "WorkInFlight"
    JOBS_FAILING = "JobsFailing"
    CONNECTION_BUDGET = "ConnectionBudget"
    GRACE_TOO_SHORT = "GraceTooShort"
    PAUSED = "Paused"
    NO_GAIN = "NoGainFromMoreWorkers"


@dataclass(frozen=True, slots=True)
class ChainInput:
    """All that the limits of one pass read; `demand` and `wanted` are None while `gap` says why nothing is known.

    `now` is monotonic seconds, `present` the count that is asked for now. `memory` includes this pass's sample.
    """

    now: float
    present: int
    limits: ScalingLimits
    memory: PoolMemory
    estimates: Estimates
    lead_time_seconds: float
    demand: Demand | None = None
    wanted: Wanted | None = None
    gap: Finding | None = None
    conflict: Finding | None = None
    cap: ConnectionCap | None = None
    jobs: JobsInHand = field(default_factory=JobsInHand)

    def within_bounds(self, count: int) -> int:
        """The count, moved into what the spec allows."""
        return min(max(count, self.limits.min_workers), self.limits.max_workers)


@dataclass(frozen=True, slots=True)
class Ruling:
    """What one limit allows of the count it was given. A final answer ends the chain, an awaited one soon changes."""

    rule: Rule
    allowed: int
    reason: Reason
    message: str
    is_final: bool = False
    is_awaited: bool = False


@dataclass(frozen=True, slots=True)
class ScalingDecision:
    """What was wanted, what is allowed, and the rule that made the difference (None: no limit did).

    `awaited` workers more are allowed as soon as the guard has heard of the present want. `ruling` is what the limit
    says, without what was wanted.
    """

    wanted: int
    allowed: int
    rule: Rule
    limit: Rule | None
    reason: Reason
    message: str
    awaited: int = 0
    ruling: str = ""

    @property
    def expected(self) -> int:
        """The count that is allowed in a moment."""
        return self.allowed + self.awaited

    @property
    def is_held_back(self) -> bool:
        """True when a limit keeps the count below what is wanted, or nothing may be done at all."""
        is_limited = (
            self.limit in (Rule.TARGET_CONFLICT, Rule.STALE_SIGNAL) or self.reason is Reason.BUDGET_BELOW_MINIMUM
        )
        return self.expected < self.wanted or is_limited


@dataclass(frozen=True, slots=True)
class Sizing:
    """The count for a target, and what it was computed from; `demand` and `wanted` are None without a sample.

    `drain_seconds` is how long the backlog lasts with the allowed count; None when it grows or is not known.
    """

    estimates: Estimates
    decision: ScalingDecision
    demand: Demand | None = None
    wanted: Wanted | None = None
    drain_seconds: float | None = None
    cap: ConnectionCap | None = None
    jobs: JobsInHand = field(default_factory=JobsInHand)


def is_spare(wanted: int, allowed: int) -> bool:
    """True when clearly more workers are allowed than are wanted."""
    return allowed - wanted > max(DEADBAND_WORKERS, DEADBAND_SHARE * allowed)
