"""From looks and canary to samples, and from samples to the guard's state."""

from collections.abc import Mapping
from typing import Any

from headroom.api.v1alpha1.databaseguard_status import GuardState
from headroom.api.v1alpha1.thresholds import Thresholds
from headroom.model.canary import SAMPLE_SECONDS
from headroom.policy.guard_state import Level, Measurements, StateMemory, advance_state, worst_of
from headroom.reasons import Reason
from headroom.reconcilers.databaseguard.draft import budget_of, sees_sessions
from headroom.reconcilers.databaseguard.holding import Holding
from headroom.reconcilers.databaseguard.look import Look

ANSWERED_LATELY_SECONDS = 300.0
DROWNING_REASONS = frozenset({Reason.PRIMARY_TIMEOUT, Reason.NO_CONNECTION_LEFT})


def remembered_state(status: Mapping[str, Any]) -> StateMemory:
    """The state an earlier process published, so that a new leader does not begin with an all-clear."""
    levels = {str(level.state): level for level in Level}
    level = levels.get(status.get("state", GuardState.UNKNOWN))
    return StateMemory() if level is None else StateMemory(level, status.get("stateSignal") or "")


def learn(holding: Holding, look: Look, now: float) -> None:
    """Add one look to the sample that is being taken; once it is whole, let it move the state."""
    holding.worst = worst_of(holding.worst, measure(holding, look, now))
    if now - holding.sampled_at < SAMPLE_SECONDS:
        return
    commit = holding.canary.take_sample(now)
    sample = worst_of(holding.worst, Measurements(commit_seconds=commit if look.is_ready else None))
    thresholds = look.spec.thresholds if look.spec is not None else Thresholds()
    holding.state = advance_state(holding.state, sample, thresholds, now)
    holding.worst, holding.sampled_at = Measurements(), now


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
