"""The limits between what a queue wants and what is allowed: an ordered list of small checks.

Each check sees the count its predecessors left, and returns None when it has nothing against it. The order is part of
the product: what may not be acted on at all comes first, bounds and steps next, caps that protect the database last;
those caps may go below `minWorkers` and are not stepped. A new limit is one more entry.
"""

from collections.abc import Callable, Sequence

from headroom.policy.words import count_of
from headroom.policy.workers.budget import budget_of, workers_within
from headroom.policy.workers.constants import FAILING_LEAST_ENDED, FAILING_SHARE
from headroom.policy.workers.situation import Decision, Rule, Ruling, Situation
from headroom.policy.workers.step import check_step
from headroom.reasons import Reason

Check = Callable[[Situation, int], Ruling | None]


def check_conflict(situation: Situation, _allowed: int) -> Ruling | None:
    """Two that scale one target undo each other: leave it to the other one."""
    if situation.conflict is None:
        return None
    message = situation.conflict.message
    return Ruling(Rule.TARGET_CONFLICT, situation.present, Reason.TARGET_CONFLICT, message, is_final=True)


def check_signal(situation: Situation, _allowed: int) -> Ruling | None:
    """Nothing is known: hold."""
    if situation.gap is None:
        return None
    message = f"the workers stay as they are: {situation.gap.message}"
    return Ruling(Rule.STALE_SIGNAL, situation.present, Reason.STALE_SIGNAL, message, is_final=True)


def check_minimum(situation: Situation, allowed: int) -> Ruling | None:
    """`minWorkers`, or what a schedule asks for."""
    least = situation.knobs.min_workers
    if allowed >= least:
        return None
    schedule = situation.knobs.schedule
    if schedule is not None:
        return Ruling(Rule.SCHEDULE, least, Reason.SCHEDULED, f"the schedule {schedule} keeps {least}")
    return Ruling(Rule.MIN_WORKERS, least, Reason.AT_MINIMUM, f"minWorkers keeps {least}")


def check_maximum(situation: Situation, allowed: int) -> Ruling | None:
    """`maxWorkers`."""
    most = situation.knobs.max_workers
    if allowed <= most:
        return None
    return Ruling(Rule.MAX_WORKERS, most, Reason.AT_MAXIMUM, f"maxWorkers is {most}")


def check_failures(situation: Situation, allowed: int) -> Ruling | None:
    """Jobs that fail are not done by more workers."""
    ended, failed = situation.estimates.ended, situation.estimates.failed
    least = max(situation.present, min(allowed, situation.knobs.min_workers))
    if ended < FAILING_LEAST_ENDED or failed <= FAILING_SHARE * ended or allowed <= least:
        return None
    message = f"{failed} of the last {ended} attempts failed; more workers would only fail faster"
    return Ruling(Rule.JOBS_FAILING, least, Reason.JOBS_FAILING, message)


def check_connections(situation: Situation, allowed: int) -> Ruling | None:
    """Workers need connections, and the service that answers people needs them first."""
    facts = situation.connections
    if facts is None:
        return None
    cap = workers_within(facts, situation.present, situation.knobs.connections_per_worker)
    if allowed <= cap:
        return None
    reason = Reason.CONNECTION_BUDGET if cap >= situation.knobs.min_workers else Reason.BUDGET_BELOW_MINIMUM
    budget = count_of(budget_of(facts), "connection")
    message = (
        f"the database has {budget} for workers, other pools hold {facts.other_pools} of them, "
        f"and one worker takes {situation.knobs.connections_per_worker}"
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


def decide_allowed(situation: Situation, chain: Sequence[Check] = CHAIN) -> Decision:
    """Send the wanted count through the chain; the last limit that moved it is the one to name."""
    wanted = situation.wanted
    allowed = count = situation.present if wanted is None else wanted.workers
    binding: Ruling | None = None
    for check in chain:
        ruling = check(situation, allowed)
        if ruling is None:
            continue
        if ruling.is_final or ruling.allowed != allowed:
            binding, allowed = ruling, ruling.allowed
        if ruling.is_final:
            break
    return _decision(situation, count, allowed, binding)


def _decision(situation: Situation, count: int, allowed: int, binding: Ruling | None) -> Decision:
    wanted = situation.wanted
    rule = Rule.HOLD if wanted is None else Rule.QUEUE
    asked = f"{count_of(count, 'worker')} wanted: {wanted.message}" if wanted else ""
    if binding is None or (allowed == count and not binding.is_final):
        reason = wanted.reason if wanted else Reason.STALE_SIGNAL
        return Decision(count, allowed, rule, None, reason, asked)
    message = "; ".join(part for part in (asked, _say_ruling(situation, count, allowed, binding)) if part)
    return Decision(count, allowed, rule, binding.rule, binding.reason, message)


def _say_ruling(situation: Situation, count: int, allowed: int, binding: Ruling) -> str:
    """Only a cap allows; what is kept although fewer are wanted, or not raised yet, stays; a rival's count is his."""
    if binding.rule is Rule.TARGET_CONFLICT:
        return f"{allowed} present{_say_bounds(situation)}, left alone: {binding.message}"
    if binding.rule is Rule.STALE_SIGNAL:
        return f"{allowed} present: {binding.message}"
    is_kept = allowed == situation.present and (allowed > count or binding.rule in (Rule.STEP, Rule.TOLERANCE))
    return f"{allowed} {'stay' if is_kept else 'allowed'}: {binding.message}"


def _say_bounds(situation: Situation) -> str:
    knobs, present = situation.knobs, situation.present
    if present > knobs.max_workers:
        return f" (above maxWorkers {knobs.max_workers})"
    return f" (below minWorkers {knobs.min_workers})" if present < knobs.min_workers else ""
