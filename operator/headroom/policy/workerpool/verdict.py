"""The verdicts that people see: whether the queue can be read, whether it keeps up, how long its backlog lasts."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from headroom.model.moments import FIRST_SIGHT_SECONDS
from headroom.model.queue import QueueSample
from headroom.policy.workerpool.chain_input import Sizing
from headroom.policy.workerpool.constants import BRIEF_SECONDS, CROWDED_SECONDS
from headroom.policy.workerpool.demand import Demand
from headroom.policy.workerpool.facts import PoolFacts, ScalingLimits
from headroom.policy.workerpool.memory import PoolMemory
from headroom.policy.workerpool.rates import Estimates
from headroom.policy.workerpool.wanted import Wanted, time_left
from headroom.policy.workerpool.window import Observation, has_idle_slots
from headroom.reasons import Reason

PASSING_REASONS = frozenset(
    {
        Reason.GUARD_NOT_READY,
        Reason.NO_CONNECTION_LEFT,
        Reason.NOT_A_PRIMARY,
        Reason.PRIMARY_TIMEOUT,
        Reason.PRIMARY_UNREACHABLE,
        Reason.QUERY_MANY_ROWS,
        Reason.QUERY_NO_ARRAY,
        Reason.QUERY_NO_ROW,
        Reason.QUERY_NOT_A_NUMBER,
        Reason.QUERY_TIMEOUT,
        Reason.QUEUE_LOCKED,
    }
)
"""What may pass without a change to the spec, as an answer that depends on the rows; all else needs a person."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """A condition's status without its message; `holds` None is unknown."""

    holds: bool | None
    reason: Reason


@dataclass(frozen=True, slots=True)
class SignalVerdict:
    """Whether the queue can be read, and what is odd about it.

    A brief gap began a moment ago, after answers, and is likely to pass: Ready stays True. An early gap comes from a
    guard that this process has hardly had the time to observe.
    """

    verdict: Verdict
    is_brief: bool = False
    is_early: bool = False


def is_first_sight(memory: PoolMemory, now: float) -> bool:
    """True while this process has hardly had the time to observe the pool, its guard and its queue."""
    return now - memory.seen_at < FIRST_SIGHT_SECONDS


def evaluate_signal(
    facts: PoolFacts, memory: PoolMemory, now: float, *, is_duration_known: bool = False
) -> SignalVerdict:
    """The verdict of this pass on the signal; `memory` is that after the queue was asked. If the spec
    says how long a job takes, it matters less that those which end cannot be counted.
    """
    gap, sample = facts.gap, facts.sample
    if gap is not None:
        is_early = gap.reason is Reason.GUARD_NOT_READY and is_first_sight(memory, now)
        has_begun = memory.blind_since is not None and now - memory.blind_since < BRIEF_SECONDS
        is_brief = memory.has_answered and has_begun and gap.reason in PASSING_REASONS
        return SignalVerdict(Verdict(None if is_early else False, gap.reason), is_brief, is_early)
    if sample is None:
        return SignalVerdict(Verdict(None, Reason.AS_EXPECTED))
    if is_duration_known:
        sample = replace(sample, hides_completions=False)
    return SignalVerdict(Verdict(holds=True, reason=_find_oddity(sample, memory)))


def evaluate_lag(facts: PoolFacts, limits: ScalingLimits, memory: PoolMemory, sizing: Sizing | None) -> Verdict:
    """Whether the queue keeps up with the workers that are allowed."""
    sample, target = facts.sample, facts.workload
    if sample is None:
        return Verdict(None, facts.gap.reason if facts.gap else Reason.NOT_YET_OBSERVED)
    if not memory.is_late:
        if sample.blocked == 0 or sample.blocked_seconds <= limits.target_lag_seconds:
            return Verdict(holds=True, reason=Reason.LAG_WITHIN_TARGET)
        return Verdict(holds=True, reason=Reason.HEAD_OF_LINE_STUCK if sample.stuck else Reason.BACKLOG_BLOCKED)
    if sizing is None or sizing.demand is None or sizing.wanted is None:
        return Verdict(holds=False, reason=Reason.LAG_ABOVE_TARGET)
    if target is not None and target.pods.stuck is not None:
        return Verdict(holds=False, reason=Reason.WORKERS_NOT_STARTING)
    if memory.hang is not None:
        return Verdict(holds=False, reason=Reason.JOBS_NOT_ENDING)
    return _evaluate_deadline(limits, memory, sizing, sizing.demand, sizing.wanted)


def _evaluate_deadline(
    limits: ScalingLimits, memory: PoolMemory, sizing: Sizing, demand: Demand, wanted: Wanted
) -> Verdict:
    """Whether a late queue will be back within its deadline; what time has disproved, no formula promises."""
    is_in_time = sizing.drain_seconds is not None and sizing.drain_seconds <= time_left(demand)
    is_known = sizing.estimates.service_rate is not None
    if is_known and not is_in_time and sizing.decision.expected < wanted.workers:
        return Verdict(holds=False, reason=Reason.CANNOT_MEET_DEADLINE)
    if demand.late_for_seconds > limits.drain_within_seconds:
        return Verdict(holds=False, reason=Reason.DEADLINE_MISSED)
    if memory.not_falling_seconds > limits.drain_within_seconds / 2:
        return Verdict(holds=False, reason=Reason.LAG_NOT_FALLING)
    return Verdict(holds=True, reason=Reason.LAG_ABOVE_TARGET) if is_known else Verdict(None, Reason.LEARNING_RATE)


def drain_seconds(demand: Demand, estimates: Estimates, workers: int, concurrency: int) -> float | None:
    """Time until the backlog is gone with so many workers: Q / (n c m - a); None when it grows or is not known."""
    if estimates.service_rate is None:
        return None
    if demand.backlog == 0:
        return 0.0
    spare = workers * concurrency * estimates.service_rate - (demand.arrivals or 0.0)
    return demand.backlog / spare if spare > 0 else None


def _find_oddity(sample: QueueSample, memory: PoolMemory) -> Reason:
    if sample.hides_completions:
        return Reason.LEARNING_RATE
    if sample.phantoms > 0:
        return Reason.PHANTOM_IN_FLIGHT
    if sample.stuck:
        return Reason.HEAD_OF_LINE_STUCK
    if sample.early_seconds > 0:
        return Reason.NEGATIVE_AGE
    if memory.occupancy.taken is not None:
        return Reason.CONCURRENCY_MISMATCH
    if has_idle_slots(memory.window) or _runs_more_than_declared(memory.window):
        return Reason.CONCURRENCY_MISMATCH
    return Reason.AS_EXPECTED


def _runs_more_than_declared(window: Sequence[Observation]) -> bool:
    """True when more items were in flight than there are slots, for a minute in which no pod came or went."""
    since = window[-1].sample.taken_at - CROWDED_SECONDS if window else 0.0
    minute = [seen for seen in window if seen.sample.taken_at >= since]
    has_minute = bool(window) and window[0].sample.taken_at <= since
    return has_minute and all(seen.is_settled and (seen.sample.in_flight or 0) > seen.slots for seen in minute)
