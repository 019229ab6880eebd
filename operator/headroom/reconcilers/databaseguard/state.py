"""From looks and canary to samples, and from samples to the guard's state."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from headroom.api.v1alpha1.databaseguard_status import GuardState
from headroom.api.v1alpha1.thresholds import Thresholds
from headroom.model.canary import SAMPLE_SECONDS
from headroom.policy.databaseguard.signals import Level, Measurements, worst_of
from headroom.policy.databaseguard.state import StateMemory, advance_state
from headroom.reasons import Reason
from headroom.reconcilers.databaseguard.draft import budget_of, sees_sessions
from headroom.reconcilers.databaseguard.holding import Holding
from headroom.reconcilers.databaseguard.look import Look

ANSWERED_LATELY_SECONDS = 300.0
DROWNING_REASONS = frozenset({Reason.PRIMARY_TIMEOUT, Reason.NO_CONNECTION_LEFT})


def remembered_state(status: Mapping[str, Any], now: float, wall: datetime) -> StateMemory:
    """The state an earlier process published, so that a new leader does not begin with an all-clear.

    `now` is monotonic seconds, `wall` the same moment.
    """
    levels = {str(level.state): level for level in Level}
    level, since = levels.get(status.get("state", GuardState.UNKNOWN)), status.get("stateSince")
    if level is None:
        return StateMemory()
    age = 0.0 if since is None else (wall - datetime.fromisoformat(since)).total_seconds()
    return StateMemory(level, status.get("stateSignal") or "", since=now - age)


def learn(holding: Holding, look: Look, now: float) -> None:
    """Add one look to the sample that is being taken; once it is whole, let it move the state."""
    holding.worst = worst_of(holding.worst, measure(holding, look, now))
    if not _is_whole(holding, look, now):
        return
    canary = holding.canary
    commit = canary.take_sample(now) if holding.has_had_state else canary.window.worst_now(now)
    sample = worst_of(holding.worst, Measurements(commit_seconds=commit if look.is_ready else None))
    thresholds = look.spec.thresholds if look.spec is not None else Thresholds()
    holding.state = advance_state(holding.state, sample, thresholds, now)
    holding.worst, holding.sampled_at = Measurements(), now
    holding.has_had_state = holding.has_had_state or holding.state.level is not None


def _is_whole(holding: Holding, look: Look, now: float) -> bool:
    """The first sample is short, one answered canary: until there is a state the guard is not Ready."""
    is_first_answer = look.is_ready and not holding.has_had_state and bool(holding.canary.window.marks)
    return is_first_answer or now - holding.sampled_at >= SAMPLE_SECONDS


def shown_state(holding: Holding, look: Look) -> GuardState:
    """The state to publish: Unknown at once while the server cannot be looked at, though the memory outlasts a gap.

    A server that misses its deadlines is Overloaded by that very fact, and shown so.
    """
    level = holding.state.level
    if look.problem is None or level is None:
        return holding.state.state
    is_said_by_deadlines = look.problem.reason in DROWNING_REASONS and level >= Level.OVERLOADED
    return level.state if is_said_by_deadlines else GuardState.UNKNOWN


def measure(holding: Holding, look: Look, now: float) -> Measurements:
    """One look's measurements, the canary's apart."""
    if look.problem is not None:
        was_answering = holding.answered_at is not None and now - holding.answered_at < ANSWERED_LATELY_SECONDS
        return Measurements(is_drowning=was_answering and look.problem.reason in DROWNING_REASONS)
    budget = budget_of(look)
    if look.counts is None or budget is None or look.spec is None:
        return Measurements()
    if not sees_sessions(look):
        return Measurements(connections_percent=budget.used_percent)
    cores = look.spec.cores
    return Measurements(
        lock_waiters=look.counts.lock_waiters,
        active_per_core_percent=100.0 * look.counts.active / cores if cores else None,
        connections_percent=budget.used_percent,
        oldest_transaction_seconds=look.counts.oldest_transaction_seconds,
    )
