"""The limits between what a queue wants and what is allowed: an ordered list of small checks.

Each check sees the count its predecessors left, and returns None when it has nothing against it. The order is part of
the product: what may not be acted on at all comes first, bounds and steps next, caps that protect the database last;
those caps may go below `minWorkers` and are not stepped. A new limit is one more entry.
"""

from collections.abc import Callable, Sequence

from headroom.model.numbers import count_of
from headroom.policy.workerpool.chain_input import ChainInput, Rule, Ruling, ScalingDecision
from headroom.policy.workerpool.constants import FAILING_LEAST_ENDED, FAILING_SHARE
from headroom.policy.workerpool.step import check_step
from headroom.reasons import Reason

Check = Callable[[ChainInput, int], Ruling | None]
UNKNOWN_BUDGET = (Reason.GUARD_NOT_READY, Reason.GUARD_NOT_FOUND)
"""Reasons of a cap that only holds what is there."""


def check_conflict(chain_input: ChainInput, _allowed: int) -> Ruling | None:
    """Two that scale one target undo each other: leave it to the other one."""
    if chain_input.conflict is None:
        return None
    message = chain_input.conflict.message
    return Ruling(Rule.TARGET_CONFLICT, chain_input.present, Reason.TARGET_CONFLICT, message, is_final=True)


def check_signal(chain_input: ChainInput, _allowed: int) -> Ruling | None:
    """Nothing is known: hold."""
    if chain_input.gap is None:
        return None
    message = f"the workers stay as they are: {chain_input.gap.message}"
    return Ruling(Rule.STALE_SIGNAL, chain_input.present, Reason.STALE_SIGNAL, message, is_final=True)


def check_minimum(chain_input: ChainInput, allowed: int) -> Ruling | None:
    """`minWorkers`, or what a schedule asks for."""
    least = chain_input.limits.min_workers
    if allowed >= least:
        return None
    schedule = chain_input.limits.schedule
    if schedule is not None:
        return Ruling(Rule.SCHEDULE, least, Reason.SCHEDULED, f"the schedule {schedule} keeps {least}")
    return Ruling(Rule.MIN_WORKERS, least, Reason.AT_MINIMUM, f"minWorkers keeps {least}")


def check_maximum(chain_input: ChainInput, allowed: int) -> Ruling | None:
    """`maxWorkers`."""
    most = chain_input.limits.max_workers
    if allowed <= most:
        return None
    return Ruling(Rule.MAX_WORKERS, most, Reason.AT_MAXIMUM, f"maxWorkers is {most}")


def check_failures(chain_input: ChainInput, allowed: int) -> Ruling | None:
    """More workers do not help jobs that fail."""
    ended, failed = chain_input.estimates.ended, chain_input.estimates.failed
    least = max(chain_input.present, min(allowed, chain_input.limits.min_workers))
    if ended < FAILING_LEAST_ENDED or failed <= FAILING_SHARE * ended or allowed <= least:
        return None
    message = f"{failed} of the last {ended} attempts failed; more workers would only fail faster"
    return Ruling(Rule.JOBS_FAILING, least, Reason.JOBS_FAILING, message)


def check_connections(chain_input: ChainInput, allowed: int) -> Ruling | None:
    """Workers need connections, and the service that answers people needs them first."""
    cap = chain_input.cap
    if cap is None or allowed <= cap.workers:
        return None
    return Ruling(Rule.CONNECTION_BUDGET, cap.workers, cap.finding.reason, cap.finding.message)


CHAIN: tuple[Check, ...] = (
    check_conflict,
    check_signal,
    check_minimum,
    check_maximum,
    check_step,
    check_failures,
    check_connections,
)


def decide_allowed(chain_input: ChainInput, chain: Sequence[Check] = CHAIN) -> ScalingDecision:
    """Send the wanted count through the chain; the last limit that moved it is the one to name."""
    wanted = chain_input.wanted
    allowed = count = chain_input.present if wanted is None else wanted.workers
    binding: Ruling | None = None
    for check in chain:
        ruling = check(chain_input, allowed)
        if ruling is None:
            continue
        if ruling.is_final or ruling.allowed != allowed:
            binding, allowed = ruling, ruling.allowed
        if ruling.is_final:
            break
    return _decision(chain_input, count, allowed, binding)


def _decision(chain_input: ChainInput, count: int, allowed: int, binding: Ruling | None) -> ScalingDecision:
    wanted = chain_input.wanted
    rule = Rule.HOLD if wanted is None else Rule.QUEUE
    asked = f"{count_of(count, 'worker')} wanted: {wanted.message}" if wanted else ""
    if binding is None or (allowed == count and not binding.is_final):
        reason = wanted.reason if wanted else Reason.STALE_SIGNAL
        return ScalingDecision(count, allowed, rule, None, reason, asked)
    message = "; ".join(part for part in (asked, _describe_ruling(chain_input, count, allowed, binding)) if part)
    return ScalingDecision(count, allowed, rule, binding.rule, binding.reason, message)


def _describe_ruling(chain_input: ChainInput, count: int, allowed: int, binding: Ruling) -> str:
    """A cap allows a count; workers that are kept or not added yet stay; what another one scales is only present."""
    if binding.rule is Rule.TARGET_CONFLICT:
        return f"{allowed} present{_describe_bounds(chain_input)}, left alone: {binding.message}"
    if binding.rule is Rule.STALE_SIGNAL:
        return f"{allowed} present: {binding.message}"
    is_held = binding.rule in (Rule.STEP, Rule.TOLERANCE) or binding.reason in UNKNOWN_BUDGET
    is_kept = allowed == chain_input.present and (allowed > count or is_held)
    return f"{allowed} {'stay' if is_kept else 'allowed'}: {binding.message}"


def _describe_bounds(chain_input: ChainInput) -> str:
    limits, present = chain_input.limits, chain_input.present
    if present > limits.max_workers:
        return f" (above maxWorkers {limits.max_workers})"
    return f" (below minWorkers {limits.min_workers})" if present < limits.min_workers else ""
