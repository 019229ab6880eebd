"""The limits between what a queue wants and what is allowed: an ordered list of small checks.

Each check sees the count its predecessors left, and returns None when it has nothing against it. The order is part of
the product: what may not be acted on at all comes first, bounds and steps next, caps that protect the database last;
those caps may go below `minWorkers` and are not stepped. A new limit is one more entry.
"""

from collections.abc import Callable, Sequence

from headroom.model.numbers import count_of
from headroom.policy.workerpool.budget import budget_of, workers_within
from headroom.policy.workerpool.chain_input import ChainInput, Decision, Rule, Ruling
from headroom.policy.workerpool.constants import FAILING_LEAST_ENDED, FAILING_SHARE
from headroom.policy.workerpool.step import check_step
from headroom.reasons import Reason

Check = Callable[[ChainInput, int], Ruling | None]


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
    """Jobs that fail are not done by more workers."""
    ended, failed = chain_input.estimates.ended, chain_input.estimates.failed
    least = max(chain_input.present, min(allowed, chain_input.limits.min_workers))
    if ended < FAILING_LEAST_ENDED or failed <= FAILING_SHARE * ended or allowed <= least:
        return None
    message = f"{failed} of the last {ended} attempts failed; more workers would only fail faster"
    return Ruling(Rule.JOBS_FAILING, least, Reason.JOBS_FAILING, message)


def check_connections(chain_input: ChainInput, allowed: int) -> Ruling | None:
    """Workers need connections, and the service that answers people needs them first."""
    facts = chain_input.connections
    if facts is None:
        return None
    cap = workers_within(facts, chain_input.present, chain_input.limits.connections_per_worker)
    if allowed <= cap:
        return None
    reason = Reason.CONNECTION_BUDGET if cap >= chain_input.limits.min_workers else Reason.BUDGET_BELOW_MINIMUM
    budget = count_of(budget_of(facts), "connection")
    message = (
        f"the database has {budget} for workers, other pools hold {facts.other_pools} of them, "
        f"and one worker takes {chain_input.limits.connections_per_worker}"
    )
    return Ruling(Rule.CONNECTION_BUDGET, cap, reason, message)


CHAIN: tuple[Check, ...] = (
    check_conflict,
    check_signal,
    check_minimum,
    check_maximum,
    check_step,
    check_failures,
    check_connections,
)


def decide_allowed(chain_input: ChainInput, chain: Sequence[Check] = CHAIN) -> Decision:
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


def _decision(chain_input: ChainInput, count: int, allowed: int, binding: Ruling | None) -> Decision:
    wanted = chain_input.wanted
    rule = Rule.HOLD if wanted is None else Rule.QUEUE
    asked = f"{count_of(count, 'worker')} wanted: {wanted.message}" if wanted else ""
    if binding is None or (allowed == count and not binding.is_final):
        reason = wanted.reason if wanted else Reason.STALE_SIGNAL
        return Decision(count, allowed, rule, None, reason, asked)
    message = "; ".join(part for part in (asked, _say_ruling(chain_input, count, allowed, binding)) if part)
    return Decision(count, allowed, rule, binding.rule, binding.reason, message)


def _say_ruling(chain_input: ChainInput, count: int, allowed: int, binding: Ruling) -> str:
    """Only a cap allows; what is kept although fewer are wanted, or not raised yet, stays; a rival's count is his."""
    if binding.rule is Rule.TARGET_CONFLICT:
        return f"{allowed} present{_say_bounds(chain_input)}, left alone: {binding.message}"
    if binding.rule is Rule.STALE_SIGNAL:
        return f"{allowed} present: {binding.message}"
    is_kept = allowed == chain_input.present and (allowed > count or binding.rule in (Rule.STEP, Rule.TOLERANCE))
    return f"{allowed} {'stay' if is_kept else 'allowed'}: {binding.message}"


def _say_bounds(chain_input: ChainInput) -> str:
    limits, present = chain_input.limits, chain_input.present
    if present > limits.max_workers:
        return f" (above maxWorkers {limits.max_workers})"
    return f" (below minWorkers {limits.min_workers})" if present < limits.min_workers else ""
