"""The limits between what a queue wants and what is allowed: an ordered list of small checks.

Each check sees the count its predecessors left, and returns None when it accepts it. The order is part of the product:
what may not be acted on at all comes first, bounds and steps next, caps that protect the database last; those caps may
go below `minWorkers` and are not stepped. A new limit is one more entry.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

from headroom.api.v1alpha1.workerpool import Direction
from headroom.model.database import ROUNDING
from headroom.model.numbers import count_of
from headroom.policy.workerpool.chain_input import ChainInput, Rule, Ruling, ScalingDecision
from headroom.policy.workerpool.connections import ConnectionCap
from headroom.policy.workerpool.constants import FAILING_LEAST_ENDED, FAILING_SHARE
from headroom.policy.workerpool.growth import check_gain, check_occupancy
from headroom.policy.workerpool.step import check_step
from headroom.policy.workerpool.victims import check_grace
from headroom.reasons import Reason

Check = Callable[[ChainInput, int], Ruling | None]
UNKNOWN_BUDGET = (Reason.GUARD_NOT_READY, Reason.GUARD_NOT_FOUND)
"""Reasons of a cap that only keeps the present count."""


def check_conflict(chain_input: ChainInput, _allowed: int) -> Ruling | None:
    """Two autoscalers of one target undo each other: leave it to the other one."""
    if chain_input.conflict is None:
        return None
    message = chain_input.conflict.message
    return Ruling(Rule.TARGET_CONFLICT, chain_input.present, Reason.TARGET_CONFLICT, message, is_final=True)


def check_signal(chain_input: ChainInput, _allowed: int) -> Ruling | None:
    """Nothing is known: hold."""
    if chain_input.gap is None:
        return None
    message = chain_input.gap.message
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
    """Workers need connections, but the service that answers people has priority."""
    cap = chain_input.cap
    if cap is None or allowed <= cap.workers:
        return None
    # A cap below the present count takes workers away: that is a limit, whatever the guard has heard.
    is_awaited = cap.is_awaited and cap.workers >= chain_input.present
    message = "the guard has yet to share out connections for more" if is_awaited else cap.finding.message
    if not is_awaited and cap.finding.reason not in UNKNOWN_BUDGET:
        declared = chain_input.limits.connections_per_worker
        seen = f"workers were seen to hold {cap.seen:.2g} each, and connectionsPerWorker is {declared}"
        message = "; ".join(filter(None, (message, _describe_need(chain_input, cap), seen if cap.seen else "")))
    return Ruling(Rule.CONNECTION_BUDGET, cap.workers, cap.finding.reason, message, is_awaited=is_awaited)


def _describe_need(chain_input: ChainInput, cap: ConnectionCap) -> str:
    """What the arrivals alone take, if that is more than the connections allow, and what a person can raise."""
    found, limits = chain_input.estimates, chain_input.limits
    if not found.arrivals_per_second or not found.service_rate:
        return ""
    needed = math.ceil(found.arrivals_per_second / (found.service_rate * limits.concurrency))
    if needed <= cap.workers:
        return ""
    connections = math.ceil(needed * cap.per_worker - ROUNDING)
    need = f"{count_of(needed, 'worker')} = {count_of(connections, 'connection')}"
    return (
        f"what arrives alone needs {need}: raise max_connections of the server, or connections.workerSharePercent of "
        "the guard, or use a pooler"
    )


def check_pause(chain_input: ChainInput, allowed: int) -> Ruling | None:
    """A person has stopped one direction: whatever else asks for it does not move the count."""
    paused, present = chain_input.limits.paused, chain_input.present
    is_stopped = allowed > present if paused is Direction.UP else allowed < present and paused is Direction.DOWN
    if not is_stopped:
        return None
    verb = "add a worker" if paused is Direction.UP else "take a worker away"
    message = f"spec.paused is {paused}: nothing may {verb} until it is removed"
    return Ruling(Rule.PAUSED, present, Reason.PAUSED, message)


CHAIN: tuple[Check, ...] = (
    check_conflict,
    check_signal,
    check_minimum,
    check_maximum,
    check_step,
    check_failures,
    check_occupancy,
    check_gain,
    check_connections,
    check_grace,
    check_pause,
)


def decide_allowed(chain_input: ChainInput, chain: Sequence[Check] = CHAIN) -> ScalingDecision:
    """Send the wanted count through the chain; the message names the last limit that moved it."""
    wanted = chain_input.wanted
    allowed = count = chain_input.present if wanted is None else wanted.workers
    binding: Ruling | None = None
    awaited: Ruling | None = None
    for check in chain:
        ruling = check(chain_input, allowed)
        if ruling is None:
            continue
        if ruling.is_awaited:
            awaited = ruling
            continue
        if ruling.is_final or ruling.allowed != allowed:
            binding, allowed = ruling, ruling.allowed
        if ruling.is_final:
            break
    decision = _decision(chain_input, count, allowed, binding)
    return decision if awaited is None or awaited.allowed >= allowed else _hold_for_now(decision, awaited)


def _hold_for_now(decision: ScalingDecision, ruling: Ruling) -> ScalingDecision:
    """The decision without the ruling, so that no verdict turns for it; only the count waits."""
    message = "; ".join(filter(None, (decision.message, f"{ruling.allowed} for now: {ruling.message}")))
    return replace(decision, allowed=ruling.allowed, message=message, awaited=decision.allowed - ruling.allowed)


def _decision(chain_input: ChainInput, count: int, allowed: int, binding: Ruling | None) -> ScalingDecision:
    wanted = chain_input.wanted
    rule = Rule.HOLD if wanted is None else Rule.QUEUE
    asked = f"{count_of(count, 'worker')} wanted: {wanted.message}" if wanted else ""
    is_below_minimum = allowed < chain_input.limits.min_workers and binding is not None
    if binding is None or (allowed == count and not binding.is_final and not is_below_minimum):
        reason = wanted.reason if wanted else Reason.STALE_SIGNAL
        return ScalingDecision(count, allowed, rule, None, reason, asked)
    ruled = _describe_ruling(chain_input, count, allowed, binding)
    # Who else scales the target is the cause of all else: it comes first.
    parts = (ruled, asked) if binding.rule is Rule.TARGET_CONFLICT else (asked, ruled)
    message = "; ".join(part for part in parts if part)
    return ScalingDecision(count, allowed, rule, binding.rule, binding.reason, message, ruling=ruled)


def _describe_ruling(chain_input: ChainInput, count: int, allowed: int, binding: Ruling) -> str:
    """The text for a count: a cap allows it, workers that are kept or not added yet stay, and a target that another
    autoscaler scales is only present.
    """
    if binding.rule is Rule.TARGET_CONFLICT:
        return f"{binding.message}; {allowed} present{_describe_bounds(chain_input)}, left alone"
    if binding.rule is Rule.STALE_SIGNAL:
        return f"the workers stay as they are, {allowed} present: {binding.message}"
    is_held = binding.rule in (Rule.STEP, Rule.TOLERANCE) or binding.reason in UNKNOWN_BUDGET
    is_kept = allowed == chain_input.present and (allowed > count or is_held)
    return f"{allowed} {'stay' if is_kept else 'allowed'}: {binding.message}"


def _describe_bounds(chain_input: ChainInput) -> str:
    limits, present = chain_input.limits, chain_input.present
    if present > limits.max_workers:
        return f" (above maxWorkers {limits.max_workers})"
    return f" (below minWorkers {limits.min_workers})" if present < limits.min_workers else ""
