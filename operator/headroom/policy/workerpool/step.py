"""How fast we may change a count: up at once in bounded steps, down slowly and never into running jobs."""

import math

from headroom.model.numbers import count_of
from headroom.policy.workerpool.chain_input import ChainInput, Rule, Ruling
from headroom.policy.workerpool.constants import (
    DEADBAND_WORKERS,
    DOWN_STEP_SECONDS,
    MOVE_SHARE,
    STEP_SECONDS,
    STEP_SLACK_SECONDS,
    STEP_WORKERS_LEAST,
)
from headroom.policy.workerpool.demand import Demand
from headroom.policy.workerpool.facts import ScalingLimits
from headroom.policy.workerpool.wanted import Wanted
from headroom.reasons import Reason


def check_step(chain_input: ChainInput, allowed: int) -> Ruling | None:
    """Bound a voluntary move; the way back into [min, max] is not voluntary and is not bounded."""
    base = chain_input.within_bounds(chain_input.present)
    demand, wanted = chain_input.demand, chain_input.wanted
    if demand is None or wanted is None or allowed == base:
        return None
    if allowed > base:
        return _check_up(chain_input, demand, base, allowed)
    return _check_down(chain_input, demand, wanted, base, allowed)


def _check_up(chain_input: ChainInput, demand: Demand, base: int, allowed: int) -> Ruling | None:
    if not demand.is_urgent and _is_small(base, allowed):
        return _hold(base, Reason.WITHIN_TOLERANCE, f"the difference to {base} is too small to act on")
    seconds = min(chain_input.lead_time_seconds, STEP_SECONDS)
    began = min([base, *_before_recent_starts(chain_input, seconds)])
    limit = began + largest_step(began, chain_input)
    if allowed <= limit:
        return None
    message = f"at most {limit - began} more within {seconds:.0f} s"
    return Ruling(Rule.STEP, max(base, limit), Reason.STEP_LIMITED, message)


def largest_step(count: int, chain_input: ChainInput) -> int:
    """The larger of four workers and maxStepPercent of a count, at most maxStep."""
    limits = chain_input.limits
    share = max(STEP_WORKERS_LEAST, math.ceil(count * limits.max_step_percent / 100))
    return share if limits.max_step is None else min(share, limits.max_step)


def _before_recent_starts(chain_input: ChainInput, seconds: float) -> list[int]:
    moves = chain_input.memory.moves
    return [
        move.before
        for move in moves
        if move.after > move.before and chain_input.now - move.at <= seconds - STEP_SLACK_SECONDS
    ]


def _check_down(chain_input: ChainInput, demand: Demand, wanted: Wanted, base: int, allowed: int) -> Ruling | None:
    limits = chain_input.limits
    if wanted.is_lower_bound:
        return _hold(base, Reason.STABILIZING, "too little has been seen yet to take workers away")
    if wanted.excess > 0:
        jobs = count_of(math.ceil(wanted.excess), "job")
        late = f"{jobs} beyond what the target lag allows; no worker goes before that is done"
        return _hold(base, Reason.LAG_ABOVE_TARGET, late)
    wants, window = chain_input.memory.wants, limits.down_window_seconds
    if not wants.covers(chain_input.now, window):
        return _hold(base, Reason.STABILIZING, f"the queue has been watched for less than {window:.0f} s")
    since_start = chain_input.memory.since_start_seconds(chain_input.now)
    if since_start < window:
        return _hold(base, Reason.STABILIZING, f"workers were added {since_start:.0f} s ago, less than {window:.0f} s")
    ruling: Ruling | None = None
    peak = chain_input.within_bounds(wants.peak())
    if peak > allowed:
        allowed = peak
        ruling = _hold(min(base, peak), Reason.STABILIZING, f"the queue wanted {peak} within the last {window:.0f} s")
    busy = busy_workers(demand, limits)
    if busy > allowed:
        allowed = busy
        message = f"{count_of(demand.in_flight or 0, 'job')} in flight, and a worker that goes would cut one"
        ruling = _hold(min(base, busy), Reason.WORK_IN_FLIGHT, message)
    if allowed >= base:
        return ruling
    return _one_step_down(chain_input, base, allowed) or ruling


def _one_step_down(chain_input: ChainInput, base: int, allowed: int) -> Ruling | None:
    if _is_small(base, allowed):
        return _hold(base, Reason.WITHIN_TOLERANCE, f"the difference to {base} is too small to act on")
    pause = max(chain_input.lead_time_seconds, DOWN_STEP_SECONDS)
    if any(chain_input.now - move.at < pause for move in chain_input.memory.moves):
        return _hold(base, Reason.STABILIZING, f"the last change is less than {pause:.0f} s ago")
    step = max(1, base * chain_input.limits.down_step_percent // 100)
    if base - step <= allowed:
        return None
    return Ruling(Rule.STEP, base - step, Reason.STEP_LIMITED, f"at most {count_of(step, 'worker')} at a time may go")


def busy_workers(demand: Demand, limits: ScalingLimits) -> int:
    """The workers that have running jobs, if each has as many as it can."""
    return math.ceil((demand.in_flight or 0) / limits.concurrency)


def _is_small(base: int, count: int) -> bool:
    return abs(count - base) < max(DEADBAND_WORKERS, MOVE_SHARE * base)


def _hold(count: int, reason: Reason, message: str) -> Ruling:
    return Ruling(Rule(reason), count, reason, message)
